"""Faults in OpenAI's error envelope."""

from __future__ import annotations

import re

import msgspec

_ECHO = re.compile(r"""[\[{(,]?\s*(?:["']input["']\s*:|input_value\s*=).*""", re.DOTALL)
"""Where pydantic begins to repeat what it was given: for a fault of the whole body that is the whole body."""
_PARAM = re.compile(r"[\w.\[\]-]{1,128}")
_PATH = re.compile(r"(?:(?<=^)|(?<=[\s'\"(=:]))(?:/[\w.@+-]+){2,}/?|[A-Za-z]:\\[^\s'\"]+")


def error_body(message: str, *, type_: str, code: str | None, param: str | None = None) -> bytes:
    """`{"error": {message, type, param, code}}` as JSON."""
    return msgspec.json.encode({"error": {"message": message, "type": type_, "param": param, "code": code}})


def fault(message: str, *, status: int, code: str | None, param: str | None) -> bytes:
    """A fault in OpenAI's envelope."""
    return error_body(message, type_=type_for(status), code=code, param=param)


def type_for(status: int) -> str:
    """OpenAI's error type for a status."""
    known = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
    }
    return known.get(status, "invalid_request_error" if status < 500 else "server_error")


def scrub(message: str, limit: int = 500) -> str:
    """An upstream's message without file paths and without an echo of its request, at most `limit` characters."""
    return _PATH.sub("[path]", _ECHO.sub("", message))[:limit]


def upstream_message(body: bytes) -> tuple[str, str | None]:
    """`(message, param)` of an upstream's error body, whatever its shape, scrubbed."""
    fallback = "The model server answered with an error"
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return fallback, None
    error = value.get("error", value.get("detail")) if isinstance(value, dict) else None
    if isinstance(error, dict):
        message, param = error.get("message"), error.get("param")
        return (
            scrub(message) if isinstance(message, str) and message else fallback,
            param if isinstance(param, str) and _PARAM.fullmatch(param) else None,
        )
    return (scrub(error) if isinstance(error, str) and error else fallback), None
