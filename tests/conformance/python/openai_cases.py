"""openai-python, whichever version runs this, against the proxy: a line of JSON for each case."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import openai
from pydantic import BaseModel

URL, PICTURE = sys.argv[1:3]
MODEL = "scripted"
NOTICE = "This answer was withheld by this service's safety policy."
FINE = "All is well, and the weather is fine."
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "Weather", "parameters": SCHEMA},
}

requests = 0


class Counted(openai.OpenAI):
    """A client that counts what it sends."""

    def _prepare_request(self, request: Any) -> None:
        global requests
        requests += 1


class Weather(BaseModel):
    city: str
    degrees: float


client = Counted(base_url=f"{URL}/v1", api_key="x")


def says(content: Any) -> Any:
    return [{"role": "user", "content": content}]


def chat(content: Any, **more: Any) -> Any:
    return client.chat.completions.create(model=MODEL, messages=says(content), **more)


def streamed(content: Any, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"text": "", "finish": None, "usage": None, "name": "", "arguments": ""}
    for piece in chat(content, stream=True, **more):
        told["usage"] = piece.usage or told["usage"]
        for choice in piece.choices:
            told["text"] += choice.delta.content or ""
            told["finish"] = choice.finish_reason or told["finish"]
            for call in choice.delta.tool_calls or ():
                told["name"] += call.function.name or ""
                told["arguments"] += call.function.arguments or ""
    return told


def failing(kind: type[BaseException], work: Callable[[], object]) -> Any:
    try:
        work()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def case_models() -> None:
    assert [m.id for m in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    failing(openai.NotFoundError, lambda: client.models.retrieve("other"))


def case_chat() -> None:
    answer = chat("hello")
    assert answer.choices[0].message.content == FINE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 8
    assert answer._request_id


def case_stream() -> None:
    told = streamed("hello", stream_options={"include_usage": True})
    assert (told["text"], told["finish"], told["usage"].total_tokens) == (FINE, "stop", 8)


def case_helpers_parse() -> None:
    answer = client.chat.completions.parse(model=MODEL, messages=says("JSON"), response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Rome", degrees=21)


def case_helpers_stream() -> None:
    with client.chat.completions.stream(model=MODEL, messages=says("hello")) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == FINE


def case_tools() -> None:
    answer = chat("TOOL", tools=[TOOL])
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Rome"})
    messages = [
        *says("TOOL"),
        answer.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "21"},
    ]
    assert client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL]).choices


def case_tools_stream() -> None:
    told = streamed("TOOL", tools=[TOOL])
    assert (told["name"], json.loads(told["arguments"])) == ("weather", {"city": "Rome"})


def case_images() -> None:
    parts = [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
    ]
    assert chat(parts).choices[0].message.content


def case_responses() -> None:
    answer = client.responses.create(model=MODEL, input="hello", instructions="Be brief.")
    assert (answer.output_text, answer.status, answer.instructions) == (FINE, "completed", "Be brief.")


def case_responses_stream() -> None:
    with client.responses.stream(model=MODEL, input="hello") as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == FINE
    assert kinds[-1] == "response.completed"


def case_responses_tools() -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
    answer: Any = client.responses.create(model=MODEL, input="TOOL", tools=[tool])
    assert json.loads(answer.output[0].arguments) == {"city": "Rome"}


def case_input_block_is_one_request() -> None:
    error = failing(openai.BadRequestError, lambda: chat("open sesame"))
    assert (error.code, error.type, requests) == ("content_filter", "invalid_request_error", 1)


def case_output_block() -> None:
    choice = chat("LEAK").choices[0]
    assert (choice.finish_reason, choice.message.content, requests) == ("content_filter", NOTICE, 1)


def case_output_block_stream() -> None:
    told = streamed("LEAK")
    assert told["finish"] == "content_filter"
    assert told["text"].endswith(NOTICE)
    assert "heron" not in told["text"]


def case_output_block_parsed_raises() -> None:
    failing(
        openai.ContentFilterFinishReasonError,
        lambda: client.chat.completions.parse(model=MODEL, messages=says("LEAK"), response_format=Weather),
    )


def case_responses_block() -> None:
    answer: Any = client.responses.create(model=MODEL, input="LEAK")
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "content_filter")
    assert answer.output_text == NOTICE


def case_busy_is_retried() -> None:
    error = failing(openai.InternalServerError, lambda: chat("BUSY"))
    assert (error.status_code, requests) == (503, 3)


def case_wrong_field_is_named() -> None:
    error = failing(openai.BadRequestError, lambda: chat("hello", temperature=9))
    assert (error.param, requests) == ("temperature", 1)


def case_fault_in_a_stream_is_raised() -> None:
    failing(openai.APIError, lambda: streamed("BROKEN"))


def case_hang_up() -> None:
    stream = chat("ENDLESS", stream=True)
    next(iter(stream))
    stream.close()


for name, case in [(n.removeprefix("case_"), c) for n, c in list(globals().items()) if n.startswith("case_")]:
    requests = 0
    told: dict[str, Any] = {"case": name, "ok": True}
    try:
        case()
    except BaseException:  # noqa: BLE001 - told to the test
        told = {"case": name, "ok": False, "detail": traceback.format_exc()[-2000:]}
    sys.stdout.write(json.dumps(told) + "\n")
