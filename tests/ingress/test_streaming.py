"""The streaming audit over HTTP: its modes, what they expose, and a chat that goes on after a block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.dialects import PATHS, STREAMS, asks, hear, tells
from tests.fakes import Proxy, Script, Upstream, chunk
from tests.ingress.test_api import events, post, settled, text_of

Start = Callable[..., Proxy]
WORDS = "guards:\n  - {name: words, stage: output, detector: patterns, patterns: [{id: secret, text: blue heron}]}\n"
INPUT = "guards:\n  - {name: words, stage: input, detector: patterns, patterns: [{id: secret, text: blue heron}]}\n"
NOTICE = "This answer was withheld by this service's safety policy."


def paced(*texts: str) -> Script:
    """Say each text word by word, as a model does, with a pause after it."""

    async def script(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await up.start_stream(out)
        for text in texts:
            for word in text.split(" "):
                await up.send_chunk(out, chunk({"content": f"{word} "}))
            await asyncio.sleep(0.05)
        await up.send_chunk(out, chunk({}, 0, "stop"))
        await up.send_chunk(out, b"data: [DONE]\n\n")
        await up.send_chunk(out, b"")

    return script


SENTENCES = ("Here is a first sentence, quite long.", "Here is a second one, as long as that.")


def test_what_was_exposed_before_a_cut_is_counted(proxy: Start) -> None:
    running = proxy(WORDS, paced(*SENTENCES, "Then the blue heron. ", "And more."))
    found = events(post(running, stream=True))
    released = text_of(found).removesuffix(f"\n\n{NOTICE}")
    assert " ".join(SENTENCES).startswith(released.rstrip())
    assert released
    assert settled(lambda: running.count("guardproxy_exposed_characters_count") == 1)
    assert running.count("guardproxy_exposed_characters_sum") == len(released)
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="cut") == 1)


def test_async_mode_releases_at_once_and_cuts_late(proxy: Start) -> None:
    """What it can leak is said in docs/streaming.md: here it does."""
    running = proxy(
        "gate: async\n" + WORDS, paced("The blue heron is ", "its name, and so on. ", *SENTENCES * 3)
    )
    found = events(post(running, stream=True))
    assert "blue heron" in text_of(found)
    assert text_of(found).endswith(NOTICE)
    assert [c["finish_reason"] for e in found for c in e["choices"]][-1] == "content_filter"
    assert settled(lambda: running.count("guardproxy_exposed_characters_sum") > 0)


def test_full_mode_releases_nothing_of_a_blocked_answer(proxy: Start) -> None:
    running = proxy("gate: full\n" + WORDS, paced(*SENTENCES, "Then the blue heron. "))
    assert text_of(events(post(running, stream=True))) == NOTICE
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="blocked_output") == 1)


@pytest.mark.parametrize(
    ("text", "stops"), [("An odd word", False), ("An odd text of two windows, " * 3, True)]
)
def test_a_debounced_guard_needs_windows_in_a_row(
    proxy: Start, stub: Callable[..., str], text: str, *, stops: bool
) -> None:
    policy = stub(guard="threshold: 0.9, debounce: {threshold: 0.5, windows: 2}", score=0.6, word="odd")
    found = events(post(proxy(policy, paced(text)), stream=True))
    assert text_of(found).endswith(NOTICE) is stops


@pytest.mark.parametrize("dialect", ["chat", "responses", "messages"])
@pytest.mark.parametrize("side", ["input", "output"])
def test_a_chat_goes_on_after_its_third_turn_was_blocked(proxy: Start, dialect: str, side: str) -> None:
    """Ten turns as an application sends them, which keeps every answer in its history, notices too."""
    policy = (INPUT if side == "input" else WORDS) + "block: {input: message}\n"
    running = proxy(policy, dialects=["chat", "responses", "messages"])
    key = "input" if dialect == "responses" else "messages"
    history: list[dict[str, Any]] = []
    for turn in range(10):
        said = f"Answer {turn}."
        question = f"Question {turn}?"
        if turn == 2:
            question, said = (
                (f"{question} Blue heron.", said) if side == "input" else (question, "The blue heron.")
            )
        running.upstream.script = tells(dialect, [("content", said)])
        history.append({"role": "user", "content": question})
        body = asks(dialect, stream=True) | {key: history}
        response = httpx.post(running.url + PATHS[dialect], json=body, timeout=20)
        assert response.status_code == 200
        text = hear(dialect, response.content, stream=True).text("content")
        assert text == (NOTICE if turn == 2 else said)
        history.append({"role": "assistant", "content": text})
    assert len(running.upstream.bodies) == (9 if side == "input" else 10)
    sent = str(running.upstream.bodies[-1])
    assert "Question 1?" in sent
    assert "Answer 8." in sent
    assert "Question 2?" not in sent
    assert "withheld" not in sent


def test_a_turn_blocked_with_an_error_is_the_applications_to_drop(proxy: Start) -> None:
    running = proxy(INPUT)
    error = post(running, "the blue heron").json()["error"]
    assert "drop this turn" in error["message"]


@pytest.mark.parametrize("dialect", list(STREAMS))
def test_japanese_is_held_and_cut_as_any_other_text(proxy: Start, dialect: str) -> None:
    policy = WORDS.replace("blue heron", "青鷺計画")
    running = proxy(
        policy,
        tells(dialect, [("content", "はい。" * 9 + "それは青鷺計画です。続きです。")], 1),
        dialects=list(STREAMS),
    )
    response = httpx.post(
        running.url + PATHS[dialect], json=asks(dialect, "何ですか?", stream=True), timeout=20
    )
    text = hear(dialect, response.content, stream=True).text("content")
    assert "鷺" not in text
    assert "続き" not in text
    assert "安全ポリシー" in text or "withheld" in text
