"""The stand-in model: vLLM's wire format, its commands, and that the client going away stops it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from PIL import Image

from guardproxy.commands import sandbox

PATH = "/v1/chat/completions"
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"enum": ["celsius", "kelvin"]},
        "days": {"type": "integer"},
    },
    "required": ["city", "unit"],
}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}]


def request(prompt: Any = "hello there", **fields: Any) -> dict[str, Any]:
    return {"model": sandbox.MODEL, "messages": [{"role": "user", "content": prompt}], **fields}


def send(*bodies: Any, path: str = PATH, method: str = "POST") -> httpx.Response:
    """The answer to the last of the bodies, which all go to one server."""

    async def talk() -> httpx.Response:
        transport = httpx.ASGITransport(sandbox.app())
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client:
            for body in bodies:
                content = body if isinstance(body, bytes) else json.dumps(body)
                answer = await client.post(PATH, content=content)
            return answer if method == "POST" else await client.get(path)

    return asyncio.run(talk())


def choice(prompt: Any = "hello there", **fields: Any) -> dict[str, Any]:
    answer = send(request(prompt, **fields))
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def text(prompt: Any, **fields: Any) -> str:
    return choice(prompt, **fields)["message"]["content"]


def stream(prompt: Any = "hello there", **fields: Any) -> list[dict[str, Any]]:
    answer = send(request(prompt, stream=True, **fields))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = answer.text.removesuffix("\n\n").split("\n\n")
    assert events[-1] == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]


def joined(chunks: list[dict[str, Any]], field: str = "content", index: int = 0) -> str:
    choices = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
    return "".join(c["delta"].get(field) or "" for c in choices)


def data_url(kind: str = "PNG", size: tuple[int, int] = (640, 480)) -> str:
    written = io.BytesIO()
    Image.new("RGB", size).save(written, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(written.getvalue()).decode()}"


def shown(*urls: str) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": "what is it?"},
        *({"type": "image_url", "image_url": {"url": u}} for u in urls),
    ]


@contextmanager
def running() -> Iterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(sandbox.app(), port=0, log_level="warning", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.02)


def test_every_text_answer_names_the_sandbox_and_repeats_the_prompt() -> None:
    found = choice("hello there")
    assert found["message"]["content"] == sandbox.PREFIX + "I received this message: hello there"
    assert found["finish_reason"] == "stop"


@pytest.mark.parametrize("prompt", ["こんにちは", "東京"])
def test_japanese_is_answered_in_japanese(prompt: str) -> None:
    assert text(prompt) == sandbox.PREFIX + f"次のメッセージを受け取りました: {prompt}"
    assert "申し訳ありません" in text(prompt + " /refuse")


def test_a_stream_says_what_the_buffered_answer_says_word_by_word() -> None:
    chunks = stream("one two three")
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert joined(chunks) == text("one two three")
    assert len(chunks) == 2 + len(joined(chunks).split())
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert not any("usage" in chunk for chunk in chunks)


def test_choices_are_interleaved() -> None:
    chunks = stream(n=2)
    assert [chunk["choices"][0]["index"] for chunk in chunks] == [0, 1] * (len(chunks) // 2)
    assert joined(chunks, index=0) == joined(chunks, index=1) == text("hello there")
    answer = send(request(n=2)).json()
    assert [c["index"] for c in answer["choices"]] == [0, 1]
    assert answer["usage"]["completion_tokens"] == 2 * len(text("hello there").split())


def test_usage_comes_last_or_with_each_chunk_as_asked() -> None:
    last = stream(stream_options={"include_usage": True})[-1]
    assert last["choices"] == []
    assert last["usage"] == send(request()).json()["usage"]
    options = {"include_usage": True, "continuous_usage_stats": True}
    counts = [chunk["usage"]["completion_tokens"] for chunk in stream(stream_options=options)]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] == last["usage"]["completion_tokens"]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_answer_ends_at_the_limit(field: str) -> None:
    found = choice("hello", **{field: 3})
    assert found["message"]["content"] == "[guardproxy sandbox, not"
    assert found["finish_reason"] == "length"
    assert stream("hello", **{field: 3})[-1]["choices"][0]["finish_reason"] == "length"


def test_the_earliest_stop_string_ends_the_answer_before_it() -> None:
    found = choice("hello", stop=["model", "sandbox"])
    assert found["message"]["content"] == "[guardproxy "
    assert (found["finish_reason"], found["stop_reason"]) == ("stop", "sandbox")


def test_logprobs_hold_each_token_again() -> None:
    found = choice(logprobs=True)
    tokens = found["logprobs"]["content"]
    assert "".join(t["token"] for t in tokens) == found["message"]["content"]
    assert {t["logprob"] for t in tokens} == {0.0}
    streamed = [c["choices"][0]["logprobs"] for c in stream(logprobs=True)]
    assert [t for part in streamed if part for t in part["content"]] == tokens


def test_reasoning_is_a_channel_of_its_own() -> None:
    fields: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": True}}
    message = choice(**fields)["message"]
    assert message["reasoning"].startswith("I am a stand-in")
    assert message["content"].startswith(sandbox.PREFIX)
    chunks = stream(**fields)
    assert joined(chunks, "reasoning") == message["reasoning"]
    assert joined(chunks) == message["content"]
    cut = choice(max_tokens=2, **fields)
    assert (cut["message"]["content"], cut["message"]["reasoning"]) == (None, "I am")
    assert choice()["message"]["reasoning"] is None


@pytest.mark.parametrize(
    ("prompt", "tool_choice"),
    [
        ("hello", "required"),
        ("hello", {"type": "function", "function": {"name": "get_weather"}}),
        ("Please use the tool.", "auto"),
        ("call the tool", None),
        ("/tool", "auto"),
    ],
)
def test_a_tool_is_called_when_asked_for(prompt: str, tool_choice: Any) -> None:
    found = choice(prompt, tools=TOOLS, tool_choice=tool_choice)
    assert found["finish_reason"] == "tool_calls"
    called = found["message"]["tool_calls"][0]["function"]
    assert called["name"] == "get_weather"
    assert json.loads(called["arguments"]) == {"city": "sample city", "unit": "celsius", "days": 1}


def test_a_tool_call_is_streamed_in_pieces() -> None:
    chunks = stream(tools=TOOLS, tool_choice="required", n=2)
    calls = [c["choices"][0]["delta"].get("tool_calls") for c in chunks if c["choices"][0]["index"] == 1]
    names = [call[0] for call in calls if call and "id" in call[0]]
    pieces = [call[0]["function"]["arguments"] for call in calls if call and "id" not in call[0]]
    assert [call["function"] for call in names] == [{"name": "get_weather"}]
    assert len(pieces) > 3
    assert json.loads("".join(pieces))["unit"] == "celsius"
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_tool_is_left_alone_unasked_and_after_its_answer() -> None:
    assert "tool_calls" not in choice(tools=TOOLS)["message"]
    assert "tool_calls" not in choice("use the tool", tools=TOOLS, tool_choice="none")["message"]
    body = request("use the tool", tools=TOOLS)
    body["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
    ]
    assert send(body).json()["choices"][0]["message"]["content"].endswith("The tool answered: rain")


def test_json_formats_are_answered_with_json_alone() -> None:
    assert isinstance(json.loads(text("hello", response_format={"type": "json_object"})), dict)
    schema = {
        "type": "object",
        "properties": {
            "safe": {"type": "boolean"},
            "kind": {"const": "report"},
            "score": {"type": "number", "minimum": 3},
            "below": {"type": "integer", "exclusiveMaximum": 0},
            "when": {"type": "string", "format": "date"},
            "code": {"type": ["string", "null"], "minLength": 20, "maxLength": 20},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "place": {"$ref": "#/$defs/place"},
            "all": {"allOf": [{"$ref": "#/$defs/place"}]},
            "nothing": {"type": "null"},
        },
        "$defs": {
            "place": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "inner": {"anyOf": [{"$ref": "#/$defs/place"}, {"type": "null"}]},
                },
                "required": ["name", "inner"],
            }
        },
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    value = json.loads(text("hello", response_format=form))
    assert (value["safe"], value["kind"], value["score"], value["below"]) == (True, "report", 3, -1)
    assert (value["when"], len(value["code"]), value["nothing"]) == ("2026-01-01", 20, None)
    assert value["tags"] == ["sample tags", "sample tags"]
    assert value["place"]["name"] == value["all"]["name"] == "sample name"
    assert joined(stream("hello", response_format=form)) == text("hello", response_format=form)


def test_pictures_are_described() -> None:
    assert "I see 1 picture: 640x480 PNG." in text(shown(data_url()))
    assert "I see 2 pictures: 640x480 PNG, 8x9 JPEG." in text(shown(data_url(), data_url("JPEG", (8, 9))))
    assert "does not fetch" in text(shown("https://example.com/a.png"))
    japanese = [{"type": "text", "text": "これは何ですか"}, *shown(data_url())[1:]]
    assert "画像が1枚見えます: 640x480 PNG。" in text(japanese)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("/unsafe", sandbox.UNSAFE),
        ("please /UNSAFE", sandbox.UNSAFE),
        ("/refuse", "I'm sorry, but I can't help with that request."),
        ("/system", "I received no system prompt."),
        ("see /unknown", "I received this message: see /unknown"),
        (
            "see https://example.com/leak and /leak/a",
            "I received this message: see https://example.com/leak and /leak/a",
        ),
    ],
)
def test_the_prompt_can_say_what_to_answer(prompt: str, told: str) -> None:
    assert text(prompt) == sandbox.PREFIX + told


def test_leak_comes_after_harmless_words() -> None:
    said = text("/leak").removeprefix(sandbox.PREFIX)
    before = said.partition("Project Blue Heron")[0]
    assert 10 <= len(before.split()) <= 14
    assert "sk-sandbox-000000" in said
    assert "Project Blue Heron" in text("/leak してください")


def test_long_is_three_hundred_words() -> None:
    assert len(text("/long").removeprefix(sandbox.PREFIX).split()) == 300
    assert len(text("/long 日本語で")) > 500


def test_system_repeats_the_system_prompt() -> None:
    body = request("/system")
    body["messages"].insert(0, {"role": "system", "content": "Be kind."})
    assert (
        send(body)
        .json()["choices"][0]["message"]["content"]
        .endswith("The system prompt I received: Be kind.")
    )


def test_commands_are_combined_in_the_order_written() -> None:
    assert (
        text("/refuse /unsafe")
        == sandbox.PREFIX + "I'm sorry, but I can't help with that request. " + sandbox.UNSAFE
    )


@pytest.mark.parametrize(
    ("body", "status", "kind", "param"),
    [
        (request() | {"model": "other"}, 404, "NotFoundError", "model"),
        (b'{"model":', 400, "Bad Request", "body"),
        (b"\xff\xfe", 400, "Bad Request", "body"),
        ({"model": sandbox.MODEL}, 400, "Bad Request", "body.messages"),
        (request(n=0), 400, "Bad Request", "body.n"),
        (request(max_tokens="many"), 400, "Bad Request", "body.max_tokens"),
        (request() | {"messages": []}, 400, "BadRequestError", None),
        (request(stream_options={"include_usage": True}), 400, "BadRequestError", "stream_options"),
        (request(tool_choice="required"), 400, "BadRequestError", "tool_choice"),
        (
            request(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "other"}}),
            400,
            "BadRequestError",
            "tool_choice",
        ),
        (request(response_format={"type": "json_schema"}), 400, "BadRequestError", "response_format"),
        (request(shown("data:image/png;base64,!!!"), stream=True), 400, "BadRequestError", None),
        (request(shown("data:image/png;base64,aGVsbG8=")), 400, "BadRequestError", None),
        (request(shown("ftp://example.com/a.png")), 400, "BadRequestError", None),
    ],
)
def test_errors_come_in_vllms_envelope(body: Any, status: int, kind: str, param: str | None) -> None:
    answer = send(body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["message"]
    assert (error["type"], error["param"], error["code"]) == (kind, param, status)


def test_the_other_routes() -> None:
    models = send(path="/v1/models", method="GET").json()["data"]
    assert [(m["id"], m["owned_by"]) for m in models] == [("guardproxy-sandbox", "guardproxy")]
    assert send(path="/health", method="GET").status_code == 200
    assert send(path="/version", method="GET").json() == {"version": "0.32.0"}
    unknown = send(path="/nowhere", method="GET")
    assert (unknown.status_code, unknown.json()) == (404, {"detail": "Not Found"})


def test_it_shows_what_it_received_and_counts_answers() -> None:
    body = request(unknown_field=1)
    assert send(body, path="/sandbox/last", method="GET").json() == body
    assert send(path="/sandbox/last", method="GET").json() == {}
    state = send(body, request(stream=True), path="/sandbox/state", method="GET").json()
    assert state == {"running": 0, "finished": 2, "aborted": 0}


def aborted_one(url: str) -> bool:
    state = httpx.get(f"{url}/sandbox/state").json()
    return bool(state == {"running": 0, "finished": 0, "aborted": 1})


def test_the_client_leaving_a_stream_stops_it() -> None:
    with running() as url:
        with httpx.stream("POST", url + PATH, json=request("/slow /long", stream=True)) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: ")
            assert httpx.get(f"{url}/sandbox/state").json()["running"] == 1
        until(lambda: aborted_one(url))


def test_the_client_leaving_before_a_buffered_answer_stops_it() -> None:
    with running() as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url + PATH, json=request("/slow"), timeout=0.5)
        until(lambda: aborted_one(url))


def test_slow_waits_between_chunks() -> None:
    with running() as url:
        times = []
        with httpx.stream("POST", url + PATH, json=request("/slow", stream=True, max_tokens=2)) as answer:
            for line in answer.iter_lines():
                if line:
                    times.append(time.monotonic())
        assert len(times) == 5
        assert all(later - earlier > 0.2 for earlier, later in pairwise(times))


def test_the_official_client_understands_it() -> None:
    with running() as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        model = client.models.list().data[0].id
        asked: Any = [{"role": "user", "content": "hello"}]
        whole = client.chat.completions.create(model=model, messages=asked)
        parts = client.chat.completions.create(model=model, messages=asked, stream=True)
        said = "".join(p.choices[0].delta.content or "" for p in parts)
        assert said == whole.choices[0].message.content
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="other", messages=asked)


def test_run_says_where_it_listens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: dict[str, Any] = {}
    monkeypatch.setattr(uvicorn, "run", lambda _app, **options: ran.update(options))
    assert sandbox.run("::1", 8090) == 0
    assert capsys.readouterr().err.strip().endswith("http://[::1]:8090/v1")
    assert (ran["host"], ran["port"], ran["log_level"]) == ("::1", 8090, "warning")
