"""What a guard found leaves a request, or the request is not sent."""

from __future__ import annotations

from guardproxy.core.content import ImagePart, Message, ReadText, Request, TextPart, Tool, ToolCall
from guardproxy.core.redact import redact, redact_request, stays_json
from guardproxy.core.verdict import Finding, Span

PICTURE = ImagePart(
    "data:", "messages[0].content[1]", width=90, height=60,
    texts=(ReadText("tel 03-1234-5678", "messages[0].content[1]/ocr[0]", (1, 2, 80, 20)),),
)  # fmt: skip
REQUEST = Request(
    "m",
    (Message("user", (TextPart("call 03-1234-5678 or a@b.example", "messages[0].content[0].text"), PICTURE), "messages[0]"),),
    (Tool("f", "a@b.example", None, "tools[0]"),),
)  # fmt: skip


def hit(place: str, span: tuple[int, int] | None = None) -> Finding:
    return Finding("pii", "phone", 1.0, place, None if span is None else Span(*span))


def test_overlapping_hits_become_one_placeholder() -> None:
    assert redact("abcdef", [hit("x", (1, 3)), hit("x", (2, 5))]) == "a[phone]f"
    assert redact("abc", [hit("x")]) == "[phone]"


def test_hits_in_texts_are_replaced_and_lines_of_pictures_painted_over() -> None:
    found = redact_request(
        REQUEST, [hit("messages[0].content[0].text", (5, 17)), hit("messages[0].content[1]/ocr[0]", (4, 16))]
    )
    assert found is not None
    request, boxes = found
    text = request.messages[0].parts[0]
    assert isinstance(text, TextPart)
    assert text.text == "call [phone] or a@b.example"
    assert boxes == {"messages[0].content[1]": ((1, 2, 80, 20),)}


def test_a_hit_of_a_whole_picture_covers_all_of_it() -> None:
    found = redact_request(REQUEST, [hit("messages[0].content[1]")])
    assert found is not None
    assert found[1] == {"messages[0].content[1]": ((0, 0, 90, 60),)}
    picture = found[0].messages[0].parts[1]
    assert isinstance(picture, ImagePart)
    assert picture.texts == ()  # what stood there is gone, for every guard after this one


def test_a_hit_where_nothing_can_be_replaced_is_told() -> None:
    assert redact_request(REQUEST, [hit("tools[0]", (0, 3))]) is None


CALL = "send"


def called(arguments: str, *spans: tuple[int, int], call_id: str = "1") -> str | None:
    """A call's arguments once these spans of them are redacted."""
    message = Message("assistant", (), "messages[0]", tool_calls=(ToolCall(call_id, CALL, arguments),))
    start = Request("m", (message,)).segments()[0].text.index(arguments)
    hits = [hit("messages[0].tool_calls[0]", (a + start, b + start)) for a, b in spans]
    found = redact_request(Request("m", (message,)), hits)
    return None if found is None else found[0].messages[0].tool_calls[0].arguments


def test_a_calls_arguments_stay_json_or_nothing_is_sent() -> None:
    assert called('{"a": "x 12 y"}', (9, 11)) == '{"a": "x [phone] y"}'
    assert called('{"a": 12}', (6, 8)) is None
    assert called('{"a": "12"}', (6, 10)) is None
    assert called('{"a": "\\n12"}', (8, 11)) is None
    assert called('{"a": "\\n12"}', (7, 11)) == '{"a": "[phone]"}'
    assert called('{"a": "12"}', (-3, -1)) is None


def test_what_is_judged_before_a_calls_arguments_moves_no_redaction() -> None:
    """An id that says something is judged with the call: the spans count from there."""
    for call_id in ("1", "call_abc", "what the caller wrote here", ""):
        assert called('{"a": "x 12 y"}', (9, 11), call_id=call_id) == '{"a": "x [phone] y"}'


def test_a_hit_without_a_span_is_not_placed_in_json() -> None:
    assert not stays_json('{"a": "b"}', [hit("x")])
    assert stays_json('{"a": "b"}', [])


def test_a_call_in_which_nothing_was_found_stays() -> None:
    call = Message(
        "assistant", (TextPart("tel 1", "t"),), "messages[0]", tool_calls=(ToolCall("c", "f", "{}"),)
    )
    found = redact_request(Request("m", (call,)), [hit("t", (4, 5))])
    assert found is not None
    assert found[0].messages[0].tool_calls == call.tool_calls
