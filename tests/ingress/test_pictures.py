"""Pictures over HTTP: what is judged is what is sent, whatever spelling, role or trick (WIRE.md, checklist 22 to 27)."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from guardproxy.images import reader
from tests.fakes import MODEL, Proxy
from tests.images.test_decode import encoded
from tests.images.test_hostile import png
from tests.images.test_reader import command
from tests.ingress.test_api import post, settled
from tests.noise import noise

Start = Callable[..., Proxy]
SEEN = encoded(noise((60, 40), 40).convert("RGB"))


def url(data: bytes = SEEN, head: str = "data:image/png;base64,") -> str:
    return head + base64.b64encode(data).decode()


def part(data: bytes = SEEN) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url(data)}}


def sent(running: Proxy, number: int = -1) -> list[bytes]:
    """The picture files in a body that the model server got; whatever is no canonical data URL fails."""
    found: list[bytes] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "image_url" in value:
                assert set(value) == {"type", "image_url"}
                assert set(value["image_url"]) <= {"url", "detail"}
                head, _, content = value["image_url"]["url"].partition(",")
                assert head in ("data:image/png;base64", "data:image/jpeg;base64")
                found.append(base64.b64decode(content, validate=True))
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)

    walk(running.upstream.bodies[number])
    return found


SPELLINGS: dict[str, dict[str, Any]] = {
    "plain": part(),
    "bare string": {"type": "image_url", "image_url": url()},
    "input_image": {"type": "input_image", "image_url": url()},
    "capital scheme": {"type": "image_url", "image_url": {"url": url(head="DATA:image/png;base64,")}},
    "wrong type": {"type": "image_url", "image_url": {"url": url(head="data:text/plain;base64,")}},
    "no type": {"type": "image_url", "image_url": {"url": url(head="data:;base64,")}},
    "more parameters": {"type": "image_url", "image_url": {"url": url(head="data:image/png;a=b;c;base64,")}},
    "uuid": {**part(), "uuid": "reuse-me"},
    "unknown field": {"type": "image_url", "image_url": {"url": url(), "max_pixels": 9}},
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_becomes_one_form_or_a_400(proxy: Start, spelling: str) -> None:
    running = proxy()
    answer = post(running, [{"type": "text", "text": "hi"}, SPELLINGS[spelling]])
    assert answer.status_code == 200, answer.text
    (file,) = sent(running)
    assert "uuid" not in json.dumps(running.upstream.bodies[-1])
    with Image.open(io.BytesIO(file)) as image, Image.open(io.BytesIO(SEEN)) as given:
        assert image.tobytes() == given.tobytes()


REFUSED: dict[str, Any] = {
    "no part type": {"image_url": {"url": url()}},
    "text with a picture": {"type": "text", "text": "a", "image_url": {"url": url()}},
    "text with uuid": {"type": "text", "text": "a", "uuid": "u"},
    "image_pil": {"type": "image_pil", "image_pil": url()},
    "null picture, uuid": {"type": "image_url", "image_url": None, "uuid": "u"},
    "no picture, uuid": {"type": "image_url", "uuid": "u"},
    "embeds": {"type": "image_embeds", "image_embeds": "AAAA"},
    "audio": {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    "audio embeds": {"type": "audio_embeds", "audio_embeds": "AAAA"},
    "video": {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
    "file": {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
    "remote": {"type": "image_url", "image_url": {"url": "https://pictures.example.com/a.png"}},
    "loopback": {"type": "image_url", "image_url": {"url": "http://127.0.0.1:8000/"}},
    "metadata": {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}},
    "not base64": {"type": "image_url", "image_url": {"url": "data:image/png,abc"}},
    "white space": {"type": "image_url", "image_url": {"url": url()[:60] + "\n" + url()[60:]}},
    "svg": part(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "truncated": part(SEEN[: len(SEEN) // 2]),
    "pixel bomb": part(png(60_000, 60_000, 8, 2, b"")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_picture_is_a_4xx_that_names_it(proxy: Start, what: str) -> None:
    running = proxy()
    answer = post(running, [{"type": "text", "text": "hi"}, REFUSED[what]])
    assert answer.status_code in (400, 413)
    assert answer.json()["error"]["param"].startswith("messages[0].content[1]")
    assert running.upstream.bodies == []


def test_no_form_of_a_remote_address_opens_a_socket(proxy: Start) -> None:
    """Also where the policy would inline remote pictures: these are none."""
    from tests.images.test_fetch import FORMS

    running = proxy("images: {remote: inline}\nguards: []\n")
    for form in FORMS:
        refused = post(running, [{"type": "image_url", "image_url": {"url": form}}])
        assert refused.status_code == 400, form
    assert running.upstream.bodies == []


def animated() -> bytes:
    frames = [Image.new("RGB", (9, 9), c) for c in ("red", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.new("RGB", (10, 4)), "JPEG", exif=exif)


ODD: dict[str, tuple[bytes, tuple[int, int]]] = {
    "hidden by alpha": (encoded(Image.new("RGBA", (8, 6), (0, 0, 0, 0))), (8, 6)),
    "animated": (animated(), (9, 9)),
    "turned by EXIF": (rotated(), (4, 10)),
    "sixteen bits": (encoded(Image.new("I;16", (8, 6), 40_000)), (8, 6)),
    "CMYK": (encoded(Image.new("CMYK", (8, 6)), "JPEG"), (8, 6)),
    "polyglot": (SEEN + b"<script>alert(1)</script>", (60, 40)),
    "palette": (encoded(Image.new("P", (8, 6))), (8, 6)),
}


@pytest.mark.parametrize("what", ODD)
def test_the_bytes_that_the_model_gets_are_those_that_the_record_names(
    proxy: Start, tmp_path: Path, what: str
) -> None:
    data, size = ODD[what]
    running = proxy(audit={"directory": str(tmp_path / "audit")})
    assert post(running, [{"type": "text", "text": "hi"}, part(data)]).status_code == 200
    (file,) = sent(running)
    record_file = tmp_path / "audit" / "audit-0.jsonl"
    assert settled(lambda: b'"kind":"image"' in record_file.read_bytes())
    records = [json.loads(line) for line in record_file.read_text().splitlines()]
    segments = [s for r in records for s in _segments(r) if s["kind"] == "image"]
    assert [s["sha256"] for s in segments] == [hashlib.sha256(file).hexdigest()]
    assert (segments[0]["width"], segments[0]["height"]) == size
    with Image.open(io.BytesIO(file)) as image:
        assert image.size == size
        assert image.mode in ("RGB", "L")


def _segments(record: dict[str, Any]) -> list[dict[str, Any]]:
    inner = record.get("record", record)
    found: list[dict[str, Any]] = inner.get("segments", [])
    return found


def test_pictures_of_every_role_are_judged_and_written_anew(proxy: Start, stub: Callable[..., str]) -> None:
    running = proxy(stub("input", "looks_at: [image], on_hit: allow, threshold: 0.1", score=0.9))
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "s"}, part()]},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": [{"type": "text", "text": "a"}, part()], "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": [part()]},
        {"role": "user", "content": [part()]},
    ]
    body = {"model": MODEL, "messages": messages}
    answer = httpx.post(f"{running.url}/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert len(sent(running)) == 4
    assert len({hashlib.sha256(f).hexdigest() for f in sent(running)}) == 1


# Text in pictures.

LOOK = "guards:\n  - {name: words, stage: input, looks_at: [image_text], detector: patterns, "
HIT = LOOK + "patterns: [{id: a, text: line}], on_hit: block"
QUIET = LOOK + "patterns: [{id: a, text: unheard-of}], on_hit: block"


def reading(running: Proxy, each: str = "pass", start: str = "") -> Proxy:
    running.core._reader._command = command(each, start)
    return running


PICTURE = [{"type": "text", "text": "hi"}, part()]


@pytest.mark.parametrize("more", ["", ", concurrent: true"])
def test_what_is_read_in_a_picture_blocks_like_any_text(proxy: Start, more: str) -> None:
    running = reading(proxy(HIT + more + "}\n"))
    refused = post(running, PICTURE)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "content_filter"
    assert post(running, "no picture").status_code == 200
    assert settled(lambda: running.upstream.running == 0)


def test_a_chat_of_ten_turns_reads_its_picture_once(proxy: Start) -> None:
    running = reading(proxy(QUIET + "}\n"))
    messages: list[dict[str, Any]] = [{"role": "user", "content": PICTURE}]
    for turn in range(10):
        body = {"model": MODEL, "messages": messages}
        assert httpx.post(f"{running.url}/v1/chat/completions", json=body).status_code == 200
        messages += [{"role": "assistant", "content": "ok"}, {"role": "user", "content": f"and {turn}?"}]
    for kind in ("picture", "text"):
        assert running.count("guardproxy_image_cache_misses_total", kind=kind) == 1
        assert running.count("guardproxy_image_cache_hits_total", kind=kind) == 9
    assert running.count("guardproxy_image_cache_bytes") > 0


@pytest.mark.parametrize("each", ["os._exit(1)", "time.sleep(9)"])
def test_a_picture_that_cannot_be_read_fails_closed(proxy: Start, each: str) -> None:
    running = reading(proxy(QUIET + ", budget_ms: 1500}\n"), each)
    refused = post(running, PICTURE)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "guard_unavailable"
    assert int(refused.headers["retry-after"]) > 0
    assert running.upstream.bodies == []
    assert settled(lambda: running.count("guardproxy_guard_failures_total", guard="words") == 1)


def test_a_guard_that_fails_open_lets_it_pass_and_counts(proxy: Start) -> None:
    running = reading(proxy(QUIET + ", budget_ms: 1500, fail_mode: open}\n"), "os._exit(1)")
    assert post(running, PICTURE).status_code == 200
    assert settled(lambda: running.count("guardproxy_guard_failures_total", guard="words") == 1)


def test_a_full_queue_is_a_503_that_asks_to_come_back(proxy: Start) -> None:
    from concurrent.futures import ThreadPoolExecutor

    running = reading(proxy(QUIET + ", budget_ms: 30000}\n", images={"max_waiting": 1}), "time.sleep(0.5)")
    pictures = [encoded(Image.new("L", (9, 9), shade)) for shade in range(3)]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda p: post(running, [part(p)]), pictures))
    assert sorted(a.status_code for a in answers)[-1] == 503
    assert all("retry-after" in a.headers for a in answers if a.status_code == 503)
    assert settled(lambda: running.count("guardproxy_guard_failures_total", reason="overloaded") >= 1)


def test_a_guard_that_only_watches_reads_beside_the_exchange(proxy: Start) -> None:
    running = reading(proxy("mode: monitor\n" + HIT + "}\n"), "time.sleep(0.3)")
    assert post(running, PICTURE).status_code == 200
    assert settled(lambda: running.count("guardproxy_verdicts_total", guard="words", wanted="block") == 1)


def test_without_a_guard_that_looks_nothing_is_read(proxy: Start) -> None:
    running = reading(proxy(), "os._exit(1)")
    answer = post(running, PICTURE)
    assert answer.status_code == 200
    assert "image" in answer.json()["guardproxy"]["unjudged"]
    assert running.core._reader._places == []
    assert running.count("guardproxy_image_cache_misses_total", kind="text") == 0


def test_a_line_that_must_not_leave_is_painted_over(proxy: Start) -> None:
    """The fake reader sees a line in (1, 2, 30, 9): that is what is black, and the rest is as it was."""
    running = reading(proxy(HIT.replace("on_hit: block", "on_hit: redact") + "}\n"))
    assert post(running, PICTURE).status_code == 200
    with Image.open(io.BytesIO(sent(running)[0])) as got, Image.open(io.BytesIO(SEEN)) as given:
        assert got.crop((1, 2, 30, 9)).getextrema() == ((0, 0),) * 3
        assert got.crop((32, 0, 60, 40)).tobytes() == given.crop((32, 0, 60, 40)).tobytes()


def test_a_policy_that_reads_pictures_does_not_start_without_the_extra(
    proxy: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guardproxy.errors import PolicyError

    monkeypatch.setattr(reader, "NEEDS", "no_such_package")
    with pytest.raises(PolicyError, match=r"image_text needs the extra guardproxy\[images\]"):
        proxy(QUIET + "}\n")
    assert post(proxy(QUIET + ", mode: 'off'}\n"), PICTURE).status_code == 200


def test_ready_waits_for_the_reader_where_a_policy_needs_one(proxy: Start) -> None:
    import asyncio

    running = reading(proxy(QUIET + "}\n"), start="time.sleep(0.4)")

    def state() -> str:
        return asyncio.run_coroutine_threadsafe(running.core.readiness(), running.loop).result(5)["detectors"]

    assert state() == "starting"
    assert settled(lambda: state() == "ok")
