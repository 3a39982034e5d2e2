"""Every dialect over real HTTP: guarded in full, in all copies of a text, buffered and streamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dialects import PATHS, STREAMS, Heard, asks, hear, tells
from tests.fakes import Proxy, raw

Start = Callable[..., Proxy]
ALL = ["chat", "responses", "messages", "completions"]
BLOCKS = ["responses", "messages"]
WORDS = (
    "guards:\n  - {name: words, stage: output, detector: patterns, looks_at: [content, reasoning, refusal, tool_arguments],"
    " patterns: [{id: secret, text: blue heron}]}\n"
)
REDACT = WORDS.replace("patterns: [{", "on_hit: redact, patterns: [{")
INPUT = "guards:\n  - {name: words, stage: input, detector: patterns, patterns: [{id: secret, text: blue heron}]}\n"
CUT = {
    "chat": "content_filter",
    "completions": "content_filter",
    "responses": "content_filter",
    "messages": "refusal",
}
END = {"chat": "stop", "completions": "stop", "responses": "completed", "messages": "end_turn"}
TOOL_SAID = ("tool", 'weather {"city": "Rome"}')
dialects = pytest.mark.parametrize("dialect", ALL)
streams = pytest.mark.parametrize("stream", [False, True])


def ask(running: Proxy, dialect: str, body: dict[str, Any]) -> Heard:
    response = httpx.post(running.url + PATHS[dialect], json=body, timeout=20)
    assert response.status_code == 200, response.text
    return hear(dialect, response.content, stream=body.get("stream", False))


@dialects
@streams
def test_a_harmless_answer_arrives_whole(proxy: Start, dialect: str, *, stream: bool) -> None:
    said = [("content", "Hello there, 東京 is large. " * 9)]
    if dialect != "completions":
        said = [("reasoning", "Let me think. " * 5), *said, TOOL_SAID]
    running = proxy(WORDS, tells(dialect, said), dialects=ALL)
    heard = ask(running, dialect, asks(dialect, stream=stream))
    for kind, text in said:
        assert heard.text(kind) == text
    assert heard.why == END[dialect]
    assert heard.note is not None
    assert heard.note["action"] == "allow"


@dialects
@streams
@pytest.mark.parametrize("kind", ["content", "reasoning", "tool"])
def test_no_copy_of_a_hit_gets_out(proxy: Start, dialect: str, kind: str, *, stream: bool) -> None:
    if dialect == "completions" and kind != "content":
        pytest.skip("completions have one channel")
    text = 'tell {"what": "the blue heron"}' if kind == "tool" else "It is called the blue heron, and so on."
    running = proxy(WORDS, tells(dialect, [("content", "All right. "), (kind, text)], 3), dialects=ALL)
    response = httpx.post(running.url + PATHS[dialect], json=asks(dialect, stream=stream), timeout=20)
    assert b"heron" not in response.content
    heard = hear(dialect, response.content, stream=stream)
    assert heard.why == CUT[dialect]
    assert heard.note == {"action": "block", "unjudged": ["user"], "code": "content_filter"}
    assert "withheld" in "".join(heard.copies["content"])
    assert "tool" not in heard.copies


@dialects
@streams
def test_redactions_reach_every_copy(proxy: Start, dialect: str, *, stream: bool) -> None:
    running = proxy(REDACT, tells(dialect, [("content", "It is the blue heron, you see.")], 5), dialects=ALL)
    heard = ask(running, dialect, asks(dialect, stream=stream))
    assert heard.text("content") == "It is the [secret], you see."
    assert heard.note is not None
    assert heard.note["action"] == "redact"
    assert heard.why == END[dialect]


@pytest.mark.parametrize("dialect", ["chat", "responses", "messages"])
@streams
def test_a_tools_name_and_odd_id_are_judged(
    proxy: Start, dialect: str, monkeypatch: pytest.MonkeyPatch, *, stream: bool
) -> None:
    monkeypatch.setattr("tests.dialects.CALL_ID", "blue heron")
    running = proxy(WORDS, tells(dialect, [TOOL_SAID]), dialects=ALL)
    assert ask(running, dialect, asks(dialect, stream=stream)).why == CUT[dialect]
    running = proxy(WORDS.replace("blue heron", "else"), tells(dialect, [TOOL_SAID]), dialects=ALL)
    assert ask(running, dialect, asks(dialect, stream=stream)).text("tool") == TOOL_SAID[1]
    running = proxy(REDACT, tells(dialect, [TOOL_SAID]), dialects=ALL)
    # Nothing can be left out of an id or a name: a redaction that has no place there is a block.
    assert ask(running, dialect, asks(dialect, stream=stream)).why == CUT[dialect]


@dialects
def test_an_input_block_is_a_400_in_the_dialects_envelope(proxy: Start, dialect: str) -> None:
    running = proxy(INPUT, dialects=ALL)
    response = httpx.post(running.url + PATHS[dialect], json=asks(dialect, "the blue heron"))
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("content_filter", "invalid_request_error")
    assert response.json().get("type") == ("error" if dialect == "messages" else None)
    assert running.upstream.bodies == []


@dialects
@streams
def test_an_input_block_can_be_told_as_an_answer(proxy: Start, dialect: str, *, stream: bool) -> None:
    running = proxy(INPUT + "block: {input: message}\n", dialects=ALL)
    heard = ask(running, dialect, asks(dialect, "the blue heron", stream=stream))
    assert "withheld" in heard.text("content")
    assert heard.why == CUT[dialect]
    assert heard.note is not None
    assert heard.note["action"] == "block"


@dialects
def test_a_fault_in_the_middle_ends_the_stream_with_an_error(proxy: Start, dialect: str) -> None:
    half = b"".join(STREAMS[dialect]([("content", "Hello " * 20)], 6)[:8])
    running = proxy(WORDS, raw(200, half, "text/event-stream"), dialects=ALL)
    response = httpx.post(running.url + PATHS[dialect], json=asks(dialect, stream=True), timeout=20)
    last = [b for b in response.text.split("\n\n") if b and b != "data: [DONE]"][-1]
    data = json.loads(last.rpartition("data: ")[2])
    assert "broke off" in json.dumps(data)
    assert "error" in data or data["type"] == "error"


@pytest.mark.parametrize("dialect", ["responses", "messages"])
def test_unjudged_channels_are_named_or_refused(proxy: Start, dialect: str) -> None:
    only = WORDS.replace("content, reasoning, refusal, tool_arguments", "content")
    said = [("reasoning", "Let me think."), ("content", "Hello."), TOOL_SAID]
    running = proxy(only, tells(dialect, said), dialects=ALL)
    heard = ask(running, dialect, asks(dialect, stream=True))
    assert heard.note is not None
    assert heard.note["unjudged"] == ["reasoning", "tool_arguments", "user"]
    both = only + INPUT.removeprefix("guards:\n").replace("name: words", "name: in") + "unjudged: refuse\n"
    running = proxy(both, tells(dialect, said), dialects=ALL)
    assert ask(running, dialect, asks(dialect, stream=True)).why == CUT[dialect]


def test_dialects_that_are_off_do_not_exist(proxy: Start) -> None:
    running = proxy()
    assert httpx.post(f"{running.url}/v1/completions", json=asks("completions")).status_code == 404
    running = proxy(dialects=["chat"])
    for dialect in BLOCKS:
        assert httpx.post(running.url + PATHS[dialect], json=asks(dialect)).status_code == 404
    assert running.upstream.bodies == []


def test_what_the_policy_added_is_never_told(proxy: Start) -> None:
    """OpenAI's answer repeats the instructions: a client gets its own back, not the hardened ones."""
    running = proxy(
        "hardening: [{use: self_reminder}]\nguards: []\n",
        tells("responses", [("content", "ok")]),
        dialects=ALL,
    )
    for stream in (False, True):
        body = asks("responses", stream=stream, instructions="Be brief.")
        response = httpx.post(f"{running.url}/v1/responses", json=body)
        assert "responsible" not in response.text
        assert "the hardened text" not in response.text
        assert "Be brief." in response.text
    sent = running.upstream.bodies[0]
    assert sent["instructions"].startswith("Remember to be a responsible")
    assert sent["instructions"].endswith("Be brief.")
    assert (sent["store"], sent["truncation"]) == (False, "disabled")


@pytest.fixture
def shared(proxy: Start) -> Proxy:
    return proxy(WORDS, dialects=ALL)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_chunking_nothing_after_a_hit_gets_out(shared: Proxy, data: st.DataObject) -> None:
    dialect = data.draw(st.sampled_from(ALL))
    before = data.draw(st.text(st.characters(codec="ascii", categories=["L", "P", "Zs"]), max_size=80))
    size = data.draw(st.integers(1, 40))
    shared.upstream.script = tells(dialect, [("content", before + " blue heron " + "x" * 50)], size)
    response = httpx.post(shared.url + PATHS[dialect], json=asks(dialect, stream=True), timeout=20)
    released = hear(dialect, response.content, stream=True).text("content")
    assert f"{before} ".startswith(released.partition("This answer was withheld")[0].removesuffix("\n\n"))
    assert "xxx" not in response.text


@pytest.mark.parametrize("dialect", BLOCKS)
@streams
def test_no_client_joins_two_blocks_to_a_word_that_nobody_judged(
    proxy: Start, dialect: str, *, stream: bool
) -> None:
    """openai's `output_text` and anthropic's `text_stream` join text blocks with nothing between."""
    said = [("content", "It is a blue"), TOOL_SAID, ("content", "heron, is it not?")]
    running = proxy(WORDS.replace("blue heron", "blueheron"), tells(dialect, said), dialects=ALL)
    heard = ask(running, dialect, asks(dialect, stream=stream))
    assert set(heard.copies["content"]) == {"It is a blue", "\nheron, is it not?"}
    whole = [("content", "It is a "), TOOL_SAID, ("content", "blueheron, is it not?")]
    running = proxy(WORDS.replace("blue heron", "blueheron"), tells(dialect, whole), dialects=ALL)
    assert ask(running, dialect, asks(dialect, stream=stream)).why == CUT[dialect]
