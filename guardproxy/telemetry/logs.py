"""Structured logs: one line an event, with the request's id, never content and never a secret.

The text of an exception that is not ours may hold what it stumbled over: only its type and the places
it went through are logged.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from guardproxy.errors import GuardproxyError

if TYPE_CHECKING:
    from types import TracebackType

Form = Literal["console", "json"]
Exchanges = Literal["problems", "all"]
Level = Literal["debug", "info", "warning", "error"]

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being served in this task."""

_OURS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


def start(form: Form, level: Level, exchanges: Exchanges, worker: int | None = None) -> None:
    """Send all logs to stderr in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(worker) if form == "json" else _Console(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("uvicorn", "httpx", "httpcore"):  # a line for each request, with its address
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("guardproxy.exchange").setLevel(
        logging.WARNING if exchanges == "problems" else level.upper()
    )
    logging.captureWarnings(capture=True)


def fields(record: logging.LogRecord, worker: int | None) -> dict[str, object]:
    """What is logged of a record, in order."""
    found: dict[str, object] = {
        "time": datetime.fromtimestamp(record.created, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    if worker is not None:
        found["worker"] = worker
    if (identity := REQUEST_ID.get()) is not None:
        found["request_id"] = identity
    found.update((k, v) for k, v in record.__dict__.items() if k not in _OURS)
    if record.exc_info and record.exc_info[1] is not None:
        found["exception"] = _causes(record.exc_info[1])
    return found


def _causes(error: BaseException) -> list[str]:
    """Type and places of an exception and of what caused it."""
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(lines) < 100:
        text = f": {cause}" if isinstance(cause, GuardproxyError) else ""
        lines.append(f"{type(cause).__module__}.{type(cause).__qualname__}{text}")
        lines.extend(_places(cause.__traceback__))
        if isinstance(cause, BaseExceptionGroup):
            lines.extend(line for one in cause.exceptions for line in _causes(one))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return lines


def _places(trace: TracebackType | None) -> list[str]:
    return [f"  {f.filename}:{f.lineno} in {f.name}" for f in traceback.extract_tb(trace)]


class _Json(logging.Formatter):
    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        return msgspec.json.encode(fields(record, self._worker), enc_hook=str).decode()


class _Console(logging.Formatter):
    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        found = fields(record, self._worker)
        head = f"{found.pop('time')} {str(found.pop('level')).upper():<7} {found.pop('logger')}: "
        text = str(found.pop("message"))
        causes = found.pop("exception", ())
        assert isinstance(causes, (list, tuple))
        more = "".join(f" {k}={v}" for k, v in found.items())
        return "\n".join((f"{head}{text}{more}".replace("\n", "\\n"), *causes))
