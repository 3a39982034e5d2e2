"""The doctor names every door that is open, and no door that is shut."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from guardproxy.cli import main
from tests.test_life import write_policy

KEY = "vllm-key-0123456789-abcdef"
GOOD = """guards:
  - {name: words, stage: input, detector: patterns, looks_at: [system, user, assistant, tool, tools, image_text], patterns: [{id: w, text: x}]}
unjudged: refuse
"""


class Fake:
    """A vLLM that is as open as its attributes say."""

    keyed = True
    covered_only = False
    flags = False
    control = False
    tokens: list[str] | None = ["<|im_start|>", "user", "hi", "<|im_end|>"]

    def reply(self, path: str, body: dict[str, Any], is_keyed: bool) -> tuple[int, object]:
        needs_key = self.keyed and (path.startswith("/v1") or not self.covered_only)
        if needs_key and not is_keyed:
            return 401, {"error": "Unauthorized"}
        if path == "/v1/models":
            return 200, {"data": [{"id": "m", "parent": None}, {"id": "lora", "parent": "m"}]}
        if path == "/version":
            return 200, {"version": "0.32.0"}
        if path == "/openapi.json":
            return 200, {"paths": {"/v1/models": {}} | ({"/server_info": {}} if self.control else {})}
        if path == "/tokenize" and "model" in body:
            return 200, {"tokens": [1], "token_strs": self.tokens}
        if path == "/v1/chat/completions":
            return self.chat(body)
        return (200, {}) if path == "/metrics" else (400, {"error": {"message": "bad"}})

    def chat(self, body: dict[str, Any]) -> tuple[int, object]:
        content = body["messages"][0]["content"]
        kind = content[0]["type"] if isinstance(content, list) else ""
        refused = {
            "chat_template": "needs --trust-request-chat-template", "mm_processor_kwargs": "--trust-request-mm-kwargs",
            "image_embeds": "You must set `--enable-mm-embeds`", "image_url": "without `--allowed-local-media-path`.",
        }  # fmt: skip
        for name, message in refused.items():
            if name in body or name == kind:
                return (200, {}) if self.flags else (400, {"error": {"message": message}})
        return 200, {}


@contextmanager
def running(fake: Fake) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length", 0)))
            body = json.loads(data) if data else {}
            status, value = fake.reply(self.path, body, self.headers["authorization"] == f"Bearer {KEY}")
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(value).encode())

        do_GET = do_POST = do  # noqa: N815 - http.server looks for these names

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("UPSTREAM_KEY", KEY)

    def run(policy: str = GOOD, *flags: str, **open_doors: Any) -> tuple[int, str]:
        fake = Fake()
        for name, value in open_doors.items():
            setattr(fake, name, value)
        folder = str(write_policy(tmp_path / "policies", policy))
        with running(fake) as url:
            code = main(
                ["doctor", "--upstream", url, "--key", "env:UPSTREAM_KEY", "--policies", folder, *flags]
            )
        said = capsys.readouterr().out
        assert KEY not in said
        return code, said

    return run


def test_a_closed_house_is_found_closed(examine: Any) -> None:
    code, said = examine()
    assert code == 0
    assert "DANGER" not in said
    for text in (
        "vLLM 0.32.0",
        "/v1 needs a key",
        "serves m\n",
        "no flag found",
        "<|im_end|>, <|im_start|>",
        "1 guards act",
    ):
        assert text in said


@pytest.mark.parametrize(
    ("door", "code", "text"),
    [
        ({"keyed": False}, 0, "warning  key: the server answers without a key"),
        (
            {"covered_only": True},
            0,
            "warning  key: without the key the server still answers /invocations, /tokenize, /metrics",
        ),
        (
            {"flags": True},
            0,
            "warning  flags: started with --trust-request-chat-template, --trust-request-mm-kwargs",
        ),
        ({"control": True}, 1, "DANGER   control: the server can be changed by requests: /server_info"),
        (
            {"tokens": ["<novel_turn>", "hi"]},
            1,
            "DANGER   special tokens: not broken in client text: <novel_turn>",
        ),
        ({"tokens": None}, 0, "note     special tokens: cannot be seen"),
    ],
)
def test_an_open_door_is_named(examine: Any, door: dict[str, Any], code: int, text: str) -> None:
    found, said = examine(**door)
    assert text in said, said
    assert found == code


def test_a_warning_fails_a_strict_examination(examine: Any) -> None:
    assert examine(GOOD, "--strict", keyed=False)[0] == 1


@pytest.mark.parametrize(
    ("policy", "code", "text"),
    [
        ("guards: []\n", 1, "DANGER   policy default: has no guard that acts (serves m)"),
        ("mode: monitor\n", 0, "only watches (serves m): nothing is enforced"),
        (GOOD.replace("name: words", "fail_mode: open, name: words"), 0, "guards that fail open: words"),
        (GOOD + "gate: async\n", 0, "gate: async lets text out before it is judged"),
        (
            GOOD.replace("unjudged: refuse", ""),
            0,
            "output: nobody looks at content, reasoning, refusal, tool_arguments: passed",
        ),
        ("guardz: []\n", 1, "DANGER   policies: "),
    ],
)
def test_what_policies_leave_open_is_named(examine: Any, policy: str, code: int, text: str) -> None:
    found, said = examine(policy)
    assert text in said, said
    assert found == code


def test_a_program_can_read_it(examine: Any) -> None:
    _, said = examine(GOOD, "--json")
    assert {json.loads(line)["level"] for line in said.splitlines()} <= {"ok", "note", "warning"}


def test_a_server_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--upstream", "http://127.0.0.1:1"]) == 1
    assert "no answer from http://127.0.0.1:1" in capsys.readouterr().out
    assert main(["doctor", "--upstream", "127.0.0.1:1"]) == 1
    assert "expected http://HOST:PORT" in capsys.readouterr().err
