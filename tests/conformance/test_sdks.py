"""Checklist 7 and 28: the official SDKs against the proxy over a scripted upstream, as applications use them.

What runs inside each SDK stands in `python/` and `js/`; versions that this environment does not have are installed into
`.conformance/` once.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import anthropic
import pytest
from PIL import Image

from tests.conformance.proxies import DIALECTS, POLICY, SECRET, by_path, settled
from tests.dialects import STREAMS
from tests.fakes import MODEL, Proxy, Upstream, raw

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".conformance"
OTHER_OPENAI = "2.54.0"
NOTICE = "This answer was withheld by this service's safety policy."
FINE = "All is well, and the weather is fine."

SAID = {
    "TOOL": [("tool", 'weather {"city": "Rome"}')], "JSON": [("content", '{"city": "Rome", "degrees": 21}')],
    "LEAK": [("content", f"One harmless sentence stands here, long enough. Then the {SECRET}. And more.")],
    "THINK": [("reasoning", "Let me think."), ("content", "Done.")],
}  # fmt: skip


async def obliging(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    """Does what a word of the last turn says."""
    last = json.dumps((body.get("messages") or body.get("input"))[-1])
    if "BUSY" in last:
        await raw(503, b'{"error": {"message": "busy"}}')(up, out, body)
    elif "ENDLESS" in last or "BROKEN" in last:
        dialect = "messages" if "/v1/messages" in up.heads[-1] else "chat"
        pieces = STREAMS[dialect]([("content", "word " * 2000)], 5)
        await up.start_stream(out)
        for piece in pieces[: 40 if "BROKEN" in last else -4]:
            await up.send_chunk(out, piece)
            await asyncio.sleep(0 if "BROKEN" in last else 0.02)
        out.transport.abort()
    else:
        said = next((s for word, s in SAID.items() if word in last), [("content", FINE)])
        await by_path(said)(up, out, body)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("sdks")
    with Proxy(folder, POLICY, obliging, dialects=list(DIALECTS)) as running:
        yield running


def picture() -> str:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def unavailable(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def other_openai() -> str:
    """Python of an environment with the other major version of openai-python."""
    folder = CACHE / f"openai-{OTHER_OPENAI}"
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        made = subprocess.run(
            [sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False
        )
        if made.returncode == 0:
            command = [str(python), "-m", "pip", "install", "-q", f"openai=={OTHER_OPENAI}"]
            made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if made.returncode:
            unavailable(f"openai {OTHER_OPENAI} cannot be installed: {made.stderr[-300:]}")
        (folder / "done").touch()
    return str(python)


@cache
def node_folder() -> Path:
    """Where the JavaScript SDKs are installed, with the cases beside them."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        unavailable("node and npm are not installed")
    folder = CACHE / "js"
    folder.mkdir(parents=True, exist_ok=True)
    lock = (HERE / "js/package-lock.json").read_text("utf-8")
    done = folder / "done"
    if not done.exists() or done.read_text("utf-8") != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "js" / name, folder / name)
        command = [str(npm), "ci", "--no-audit", "--no-fund"]
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        if made.returncode:
            unavailable(f"the JavaScript SDKs cannot be installed: {made.stderr[-300:]}")
        done.write_text(lock, "utf-8")
    for source in (HERE / "js").glob("*.mjs"):
        shutil.copy(source, folder / source.name)
    return folder


def command_of(sdk: str) -> list[str]:
    if sdk == "openai-python":
        return [sys.executable, str(HERE / "python/openai_cases.py")]
    if sdk == "openai-python-2":
        return [other_openai(), str(HERE / "python/openai_cases.py")]
    return ["node", str(node_folder() / f"{sdk.removeprefix('js-')}.mjs")]


@pytest.mark.parametrize("sdk", ["openai-python", "openai-python-2", "js-openai", "js-ai"])
def test_07_the_sdk_works_as_it_does_with_the_server(proxied: Proxy, sdk: str, record_property: Any) -> None:
    """Chats, streams, helpers, tools, pictures, Responses, blocks, retries, faults and hang-ups."""
    aborted = proxied.upstream.aborted
    command = [*command_of(sdk), proxied.url, picture()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    failed = [t for t in told if not t["ok"]]
    assert not failed, "\n".join(f"{t['case']}: {t['detail']}" for t in failed)
    assert len(told) >= 13, done.stderr
    assert settled(lambda: proxied.upstream.running == 0 and proxied.upstream.aborted > aborted, 3.0)
    record_property("told", f"{sdk}: {len(told)} cases")


@pytest.fixture(scope="module")
def claude(proxied: Proxy) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=proxied.url, api_key="x", max_retries=2)


def create(client: anthropic.Anthropic, content: Any, **more: Any) -> Any:
    return client.messages.create(
        model=MODEL, max_tokens=99, messages=[{"role": "user", "content": content}], **more
    )


WEATHER: Any = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def test_07_anthropic_python_asks_and_is_answered(claude: anthropic.Anthropic) -> None:
    answer = create(claude, "hello", system="Be brief.")
    assert (answer.content[0].text, answer.stop_reason) == (FINE, "end_turn")
    assert answer.usage.output_tokens == 5
    source = {"type": "base64", "media_type": "image/png", "data": picture().partition(",")[2]}
    assert create(claude, [{"type": "text", "text": "what?"}, {"type": "image", "source": source}]).content
    thought, said = create(claude, "THINK").content
    assert (thought.thinking, said.text) == ("Let me think.", "Done.")


def test_07_anthropic_python_streams(claude: anthropic.Anthropic) -> None:
    asked: Any = [{"role": "user", "content": "hello"}]
    with claude.messages.stream(model=MODEL, max_tokens=99, messages=asked) as stream:
        assert "".join(stream.text_stream) == FINE
        assert stream.get_final_message().stop_reason == "end_turn"


@pytest.mark.parametrize("stream", [False, True])
def test_07_anthropic_python_calls_tools(claude: anthropic.Anthropic, *, stream: bool) -> None:
    asked: Any = [{"role": "user", "content": "TOOL"}]
    if stream:
        with claude.messages.stream(model=MODEL, max_tokens=99, messages=asked, tools=[WEATHER]) as events:
            answer: Any = events.get_final_message()
    else:
        answer = create(claude, "TOOL", tools=[WEATHER])
    (use,) = answer.content
    assert (use.name, use.input) == ("weather", {"city": "Rome"})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "21"}
    turns: Any = [*asked, {"role": "assistant", "content": [use.model_dump(include={"type", "id", "name", "input"})]},
                  {"role": "user", "content": [result]}]  # fmt: skip
    assert claude.messages.create(model=MODEL, max_tokens=9, messages=turns, tools=[WEATHER]).content


def test_07_anthropic_python_meets_blocks_and_faults(proxied: Proxy) -> None:
    seen: list[Any] = []

    class Counted(anthropic.Anthropic):
        def _prepare_request(self, request: Any) -> None:
            seen.append(request)

    client = Counted(base_url=proxied.url, api_key="x")
    with pytest.raises(anthropic.BadRequestError) as error:
        create(client, "open sesame")
    assert len(seen) == 1
    assert NOTICE in str(error.value)
    blocked = create(client, "LEAK")
    assert (blocked.stop_reason, blocked.content[0].text) == ("refusal", NOTICE)
    asked: Any = [{"role": "user", "content": "LEAK"}]
    with client.messages.stream(model=MODEL, max_tokens=99, messages=asked) as stream:
        text = "".join(stream.text_stream)
        assert stream.get_final_message().stop_reason == "refusal"
    assert text.endswith(NOTICE)
    assert "heron" not in text
    seen.clear()
    with pytest.raises(anthropic.InternalServerError):
        create(client, "BUSY")
    assert len(seen) == 3
    with (
        pytest.raises(anthropic.APIStatusError, match="broke off"),
        client.messages.stream(
            model=MODEL, max_tokens=99, messages=[{"role": "user", "content": "BROKEN"}]
        ) as stream,
    ):
        stream.until_done()


def test_07_anthropic_python_hangs_up(claude: anthropic.Anthropic, proxied: Proxy) -> None:
    aborted = proxied.upstream.aborted
    asked: Any = [{"role": "user", "content": "ENDLESS"}]
    with claude.messages.stream(model=MODEL, max_tokens=99, messages=asked) as stream:
        for _ in stream.text_stream:
            break
    assert settled(lambda: proxied.upstream.aborted == aborted + 1, 3.0)
