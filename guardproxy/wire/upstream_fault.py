"""What a client is told of a model server's error: one table, whatever shape the error has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from guardproxy.errors import UpstreamError
from guardproxy.wire.fault_body import upstream_message


@dataclass(frozen=True, slots=True)
class Told:
    """Status and code for the client, and whether the server's own words, scrubbed, are passed on."""

    status: int
    code: str
    words: bool = True


TABLE: Mapping[int, Told] = {
    400: Told(400, "bad_request"),
    404: Told(404, "not_found"),
    408: Told(504, "upstream_timeout", words=False),
    413: Told(413, "too_large"),
    422: Told(422, "bad_request"),
    429: Told(429, "rate_limited"),
    503: Told(503, "upstream_unavailable"),
    504: Told(504, "upstream_timeout", words=False),
}
OTHERS = Told(502, "upstream_error", words=False)
"""401 and 403 are about the proxy's own key, 405 and 415 about what it sent, 5xx about the server, a redirect is never
followed: none of them is the client's affair. A 502 is tried again by the SDKs."""

_PASSED = (b"retry-after", b"retry-after-ms", b"x-should-retry")
_PASSED_PREFIX = b"x-ratelimit-"
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
QUOTE_CHARS = 16
"""So many characters in a row, white space left out, that stand in the policy's own texts, too, are a quotation of them."""


def told_of(
    status: int, headers: Mapping[bytes, bytes], body: bytes, names: Mapping[str, str], hidden: str = ""
) -> UpstreamError:
    """The error as the client is told it.

    Args:
        status: The upstream's.
        headers: The upstream's; names in lower case.
        body: The beginning of it.
        names: The upstream's own words to the public ones, such as the name of the model.
        hidden: The policy's own texts in the request: words that quote them are not passed on.
    """
    told = TABLE.get(status, OTHERS)
    message, param = upstream_message(body)
    if _quotes(message, hidden):
        message = "The model server does not accept the request"
    for own, public in names.items():
        message = public.join(re.split(rf"(?<![\w/.-]){re.escape(own)}(?![\w/-])", message))
    return UpstreamError(
        message if told.words else "The model server failed",
        status=told.status,
        code=told.code,
        param=param if told.words else None,
        headers=_passed(headers) if told is not OTHERS else (),
    )


def _quotes(message: str, hidden: str) -> bool:
    # Errors quote with escapes (repr, JSON): both sides are compared without them and without white space.
    said, kept = (re.sub(r"\\[nrt]|[\s\\]", "", _ESCAPE.sub(_unescaped, t)) for t in (message, hidden))
    return any(said[at : at + QUOTE_CHARS] in kept for at in range(len(said) - QUOTE_CHARS + 1))


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1], 16))


def _passed(headers: Mapping[bytes, bytes]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers.items()
        if name in _PASSED or name.startswith(_PASSED_PREFIX)
    )
