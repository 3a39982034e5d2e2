"""Logs have a form that programs read, the request's id, and never content."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator

import httpx
import pytest

from guardproxy.errors import DetectorError
from guardproxy.telemetry import logs
from tests.fakes import MODEL, Proxy

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "canary question"}]}


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root, exchange = logging.getLogger(), logging.getLogger("guardproxy.exchange")
    before = root.handlers[:], root.level, exchange.level
    yield
    root.handlers[:], root.level = before[0], before[1]
    exchange.setLevel(before[2])
    logging.captureWarnings(capture=False)


def stumble() -> None:
    try:
        try:
            int("canary")
        except ValueError as error:
            raise DetectorError("could not look") from error
    except DetectorError:
        logging.getLogger("guardproxy").exception("stumbled")


def test_json_lines_hold_types_and_places_of_faults_but_not_what_they_stumbled_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.start("json", "info", "all", worker=3)
    token = logs.REQUEST_ID.set("abc")
    stumble()
    logs.REQUEST_ID.reset(token)
    line = capsys.readouterr().err
    read = json.loads(line)
    assert (read["level"], read["logger"], read["message"]) == ("error", "guardproxy", "stumbled")
    assert (read["worker"], read["request_id"]) == (3, "abc")
    assert read["exception"][0] == "guardproxy.errors.DetectorError: could not look"
    assert "builtins.ValueError" in read["exception"]
    assert any("in stumble" in place for place in read["exception"])
    assert "canary" not in line


def test_console_lines_are_one_line_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("console", "info", "all")
    logging.getLogger("guardproxy").warning("two\nlines", extra={"key": "app"})
    assert capsys.readouterr().err.endswith("WARNING guardproxy: two\\nlines key=app\n")
    stumble()
    assert "  builtins.ValueError" not in capsys.readouterr().err


def test_nested_faults_are_all_named(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("json", "info", "all")
    try:
        raise ExceptionGroup("canary", [KeyError("canary"), OSError("canary")])
    except ExceptionGroup:
        logging.getLogger("guardproxy").exception("many")
    line = capsys.readouterr().err
    assert "builtins.KeyError" in line
    assert "builtins.OSError" in line
    assert "canary" not in line


@pytest.mark.parametrize(("which", "expected"), [("all", 1), ("problems", 0)])
def test_each_exchange_is_a_line_if_asked_for(
    proxy: Callable[..., Proxy], capsys: pytest.CaptureFixture[str], which: logs.Exchanges, expected: int
) -> None:
    logs.start("json", "info", which)
    up = proxy()
    identity = httpx.post(f"{up.url}/v1/chat/completions", json=BODY).headers["x-request-id"]
    up.__exit__()
    lines = [json.loads(x) for x in capsys.readouterr().err.splitlines()]
    exchanges = [x for x in lines if x["message"] == "exchange"]
    assert len(exchanges) == expected
    for one in exchanges:
        assert (one["request_id"], one["outcome"], one["model"]) == (identity, "answered", MODEL)


def test_a_bug_is_logged_with_the_request_and_told_to_nobody_else(
    proxy: Callable[..., Proxy], stub: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.start("json", "info", "problems")
    up = proxy(stub(fault="bug"))
    answer = httpx.post(f"{up.url}/v1/chat/completions", json=BODY)
    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
    up.__exit__()
    read = [json.loads(x) for x in capsys.readouterr().err.splitlines()]
    failed = next(x for x in read if x["message"] == "a request failed")
    assert failed["request_id"] == answer.headers["x-request-id"]
    assert "builtins.ZeroDivisionError" in failed["exception"]
    assert "canary" not in json.dumps(read)
