"""Every fault the proxy names. Verdicts are values, not errors."""

from __future__ import annotations


class GuardproxyError(Exception):
    """Base of all named faults."""


class WireError(GuardproxyError):
    """The client's fault: answered with a 4xx in the dialect's envelope.

    Attributes:
        param: Field of the body at fault, such as `messages[0].role`.
        code: Machine-readable word, such as `model_not_found`.
        headers: Extra response headers.
    """

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        status: int = 400,
        code: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.param = param
        self.status = status
        self.code = code
        self.headers = headers


class DetectorError(GuardproxyError):
    """A detector could not look. Becomes a `Failure`, then the guard's fail mode.

    Attributes:
        reason: One of `error`, `timeout`, `unreadable`, `overloaded`.
    """

    def __init__(self, message: str, reason: str = "error") -> None:
        super().__init__(message)
        self.reason = reason


class UpstreamError(GuardproxyError):
    """The model server's fault, already mapped to what the client is told.

    Attributes:
        status: HTTP status for the client.
        code: Machine-readable word.
        headers: Extra response headers, such as the upstream's `Retry-After`.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        code: str = "upstream_error",
        param: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = headers


class UpstreamSilent(UpstreamError):
    """Not one byte came back: the request can be sent elsewhere and is not answered twice."""


class UpstreamTimeout(UpstreamError):
    """The model server did not answer in time."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=504, code="upstream_timeout")


class PolicyError(GuardproxyError):
    """A policy or routing file is wrong; the message holds `file:line: field: what`."""


class SettingsError(GuardproxyError):
    """A setting is wrong; the message names it, what was expected and what came."""


class KeyFileError(GuardproxyError):
    """The keys file or a client key cannot be used; the message says which and why, never the key."""


class AuditError(GuardproxyError):
    """The audit record cannot be read or written; the message says where."""


class RowError(GuardproxyError):
    """A line of a rows file cannot be used; the message holds `file:line: what`."""


class EvalError(GuardproxyError):
    """An evaluation cannot be run or read as asked; the message says what was expected and what came."""


class SuiteError(GuardproxyError):
    """A suite cannot be read or drawn; the message holds `file:line: field: what`."""
