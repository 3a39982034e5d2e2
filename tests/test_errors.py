"""The table of errors and the code say the same."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import guardproxy
from guardproxy.wire.upstream_fault import OTHERS, TABLE, told_of

ROOT = Path(guardproxy.__file__).parent
PAGE = (ROOT.parent / "docs" / "errors.md").read_text("utf-8")


def codes_of_the_source() -> set[str]:
    """Every literal given as `code=` to a fault, and the codes of the upstream table."""
    found = {told.code for told in (*TABLE.values(), OTHERS)}
    for file in ROOT.rglob("*.py"):
        if {"commands", "training"} & set(file.parts):
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                found.add(str(node.value.value))
    return found - {"None"}


def test_every_code_stands_on_the_page_and_no_other() -> None:
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| ") and line[2].isdigit()]
    told = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row[2])}
    assert told == codes_of_the_source()


@pytest.mark.parametrize("status", [301, 401, 403, 405, 409, 415, 418, 500, 501, 502, 599])
def test_what_is_not_the_clients_affair_is_a_502_without_words(status: int) -> None:
    body = json.dumps({"error": {"message": "secret key sk-1 rejected", "param": "p"}}).encode()
    error = told_of(status, {b"retry-after": b"3"}, body, {})
    assert (error.status, error.code, str(error), error.param) == (
        502,
        "upstream_error",
        "The model server failed",
        None,
    )
    assert error.headers == ()


def test_the_servers_own_name_of_the_model_is_not_told() -> None:
    body = json.dumps({"error": {"message": "The model `m` of m/x at m. is too small for m"}}).encode()
    assert (
        str(told_of(400, {}, body, {"m": "public"}))
        == "The model `public` of m/x at public. is too small for public"
    )


def test_when_to_come_back_is_passed_on() -> None:
    headers = {
        b"retry-after-ms": b"5",
        b"x-ratelimit-reset": b"1s",
        b"server": b"uvicorn",
        b"x-should-retry": b"false",
    }
    assert dict(told_of(429, headers, b"", {}).headers) == {
        "retry-after-ms": "5", "x-ratelimit-reset": "1s", "x-should-retry": "false",
    }  # fmt: skip
