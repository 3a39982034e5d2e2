"""LiteLLM's Generic Guardrail API: what comes, read strictly; what is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from guardproxy.core.verdict import Stage
from guardproxy.errors import WireError
from guardproxy.wire.guardrail import Advised, Consulted, parse, write
from tests.detectors.guard_models.rig import json_values


def read(**body: Any) -> Consulted:
    whole = {"input_type": "request", "request_data": {}, **body}
    return parse(json.dumps(whole).encode(), max_text_chars=1000)


def kinds(consulted: Consulted) -> list[tuple[str, str, str]]:
    return [(s.kind, s.place, s.text) for s in consulted.request.segments()]


MESSAGES = [
    {"role": "developer", "content": "Be kind."},
    {
        "role": "user",
        "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "x"}}],
    },
    {"role": "assistant", "content": None},
    {"role": "function", "content": "42"},
    {"role": "user", "content": "So?"},
]


def test_roles_are_known_where_the_messages_hold_the_texts() -> None:
    consulted = read(texts=["Be kind.", "Look", "42", "So?"], structured_messages=MESSAGES)
    assert kinds(consulted) == [
        ("system", "texts[0]", "Be kind."),
        ("user", "texts[1]", "Look"),
        ("tool", "texts[2]", "42"),
        ("user", "texts[3]", "So?"),
    ]
    assert consulted.request.question == "So?"


def test_else_every_text_is_taken_for_the_users() -> None:
    assert kinds(read(texts=["a", "b"], structured_messages=MESSAGES)) == [
        ("user", "texts[0]", "a"),
        ("user", "texts[1]", "b"),
    ]
    assert kinds(read(texts=["a"])) == [("user", "texts[0]", "a")]
    assert kinds(read()) == []


def test_pictures_tools_and_calls_are_looked_at() -> None:
    consulted = read(
        texts=["Hi"],
        images=["data:image/png;base64,AA==", "BBBB", "https://x/y.png"],
        tools=[{"type": "function", "function": {"name": "pay"}}],
        tool_calls=[
            {"function": {"name": "pay", "arguments": '{"to": "me"}'}},
            {"function": {"name": None, "arguments": None}},
        ],
    )
    assert kinds(consulted) == [
        ("image", "images[0]", ""),
        ("image", "images[1]", ""),
        ("image", "images[2]", ""),
        ("assistant", "request.tool_calls[0]", 'pay\n{"to": "me"}'),
        ("assistant", "request.tool_calls[1]", ""),
        ("user", "texts[0]", "Hi"),
        ("tools", "tools[0]", 'tools[0]\n{"type":"function","function":{"name":"pay"}}'),
    ]
    urls = [s.image.url for s in consulted.request.segments() if s.image]
    assert urls == ["data:image/png;base64,AA==", "data:image/png;base64,BBBB", "https://x/y.png"]
    assert consulted.request.question == "Hi"


def test_an_answer_is_its_texts_calls_and_pictures_with_the_question() -> None:
    consulted = read(
        input_type="response",
        texts=["Yes", "No"],
        images=["AA=="],
        tool_calls=[{"function": {"name": "pay", "arguments": "{}"}}],
        structured_messages=MESSAGES,
    )
    assert consulted.stage is Stage.OUTPUT
    assert [(s.kind, s.place, s.text) for s in consulted.answer] == [
        ("content", "texts[0]", "Yes"),
        ("content", "texts[1]", "No"),
        ("tool_arguments", "tool_calls[0]", "pay\n{}"),
        ("image", "images[0]", ""),
    ]
    assert consulted.request.question == "So?"


def test_the_policy_may_be_chosen_in_the_other_gateways_settings() -> None:
    assert read(additional_provider_specific_params={"policy": "strict"}).policy == "strict"
    assert read(additional_provider_specific_params={}).policy is None
    assert read(additional_provider_specific_params=None).policy is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input_type": "both"}, "input_type"),
        ({"input_type": None}, "input_type"),
        ({"texts": "Hi"}, "texts"),
        ({"texts": [5]}, "texts[0]"),
        ({"texts": ["x"] * 5000}, "texts"),
        ({"texts": ["x" * 1001]}, "texts"),
        ({"texts": ["x" * 1001], "input_type": "response"}, "texts"),
        ({"images": [None]}, "images[0]"),
        ({"tools": {}}, "tools"),
        ({"structured_messages": ["Hi"]}, "structured_messages[0]"),
        ({"tool_calls": [{}]}, "tool_calls[0].function"),
        ({"tool_calls": ["pay"]}, "tool_calls[0].function"),
        (
            {"additional_provider_specific_params": {"policy": 5}},
            "additional_provider_specific_params.policy",
        ),
    ],
)
def test_what_cannot_be_read_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(WireError) as error:
        read(**body)
    assert error.value.param == param


@given(json_values)
def test_any_body_is_read_or_refused(value: object) -> None:
    for body in (value, {"input_type": "request", "texts": value, "images": value, "tool_calls": value}):
        try:
            parse(json.dumps(body).encode(), max_text_chars=1000)
        except WireError as error:
            assert error.status in (400, 413)  # noqa: PT017 - most bodies raise, some do not


def test_the_answer_names_only_what_there_is() -> None:
    assert json.loads(write(Advised("NONE"))) == {"action": "NONE"}
    assert json.loads(write(Advised("BLOCKED", "no"))) == {"action": "BLOCKED", "blocked_reason": "no"}
    both = Advised("GUARDRAIL_INTERVENED", None, ("a", ""), ("data:x",))
    assert json.loads(write(both)) == {
        "action": "GUARDRAIL_INTERVENED",
        "texts": ["a", ""],
        "images": ["data:x"],
    }
