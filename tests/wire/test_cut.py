"""Cutting data URLs out of a body changes what parsing costs, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.content import ImagePart
from guardproxy.errors import WireError
from guardproxy.wire import body, chat, responses
from guardproxy.wire.cut import LEAST, cut

LONG = "data:image/png;base64," + "A" * (LEAST + 1)
PICTURE = {"type": "image_url", "image_url": {"url": LONG}}


def plain(value: Any) -> Any:
    if isinstance(value, memoryview):
        return value.tobytes().decode()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def turn(*parts: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("value", "cuts"),
    [
        (turn(PICTURE), 1),
        (turn(PICTURE, {"type": "image_url", "image_url": LONG + "B"}, PICTURE), 3),
        ({"input": [{"content": [{"type": "input_image", "image_url": LONG}]}]}, 1),
        ({"input": [{"output": [{"type": "input_image", "image_url": LONG}]}]}, 1),
        (turn(PICTURE, {"type": "image_url", "image_url": {"url": LONG[:200]}}), 1),
        (turn({"type": "text", "text": LONG}), 0),
        (turn({"type": "text", "text": LONG}, PICTURE), 0),
        (turn(PICTURE, {"type": "text", "text": "data:cut/0"}), 0),
        ({"messages": LONG, "input": [LONG], LONG: 1}, 0),
        (turn({"type": "image_url", "image_url": {"url": LONG + '"'}}), 0),
        (turn({"type": "text", "text": '\\"' + LONG}), 0),
        (turn({"type": "image_url", "image_url": {"url": LONG[:200]}}), 0),
    ],
)
def test_a_body_means_the_same_cut_or_whole(value: dict[str, Any], cuts: int) -> None:
    data = json.dumps(value).encode()
    read = body.decode(data)
    assert plain(read) == value
    assert str(read).count("<memory at") == cuts


def test_what_a_client_does_to_confuse_cuts_is_read_as_it_is() -> None:
    """An escaped mark, one given twice by a repeated key, quotes outside of strings."""
    forged = json.dumps(turn(PICTURE, {"type": "image_url", "image_url": "MARK"})).replace(
        "MARK", "\\u0064ata:cut/0"
    )
    assert plain(body.decode(forged.encode()))["messages"][0]["content"][1]["image_url"] == "data:cut/0"
    twice = json.dumps(turn(PICTURE)).replace('"url":', f'"url": "{LONG}C", "url":')
    assert plain(body.decode(twice.encode())) == turn(PICTURE)
    for broken in (f'["a"{LONG}","b"]', f'{{"a": "{LONG}', f'"data:{"A" * LEAST}'):
        with pytest.raises(WireError):
            body.decode(broken.encode())
    assert not cut(f'["data:{"A" * LEAST}'.encode())[1]


def test_a_control_character_or_a_lone_byte_inside_is_no_picture() -> None:
    from guardproxy.core.policy import ImageLimits
    from guardproxy.images.decode import split_data_url

    for odd in (b"\n", b"\xff", b" "):
        data = json.dumps(turn(PICTURE)).encode().replace(b"AAAA", b"AA" + odd + b"AA", 1)
        part = chat.parse(data, max_text_chars=100).messages[0].parts[0]
        assert isinstance(part, ImagePart)
        with pytest.raises(WireError, match="base64"):
            split_data_url(part.url, "p", ImageLimits())


def test_cut_pictures_keep_their_places() -> None:
    request = chat.parse(json.dumps(turn({"type": "text", "text": "hi"}, PICTURE)).encode(), max_text_chars=9)
    part = request.messages[0].parts[1]
    assert isinstance(part, ImagePart)
    assert part.place == "messages[0].content[1].image_url"
    assert bytes(part.url).decode() == LONG  # type: ignore[arg-type]
    given = {
        "model": "m",
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": LONG}]}],
    }
    asked = responses.parse(json.dumps(given).encode(), max_text_chars=9)
    assert any(isinstance(p, ImagePart) for p in asked.messages[-1].parts)


@given(st.recursive(st.sampled_from([LONG, "data:cut/0", '"', "\\", "x", 1]), lambda c: st.lists(c) | st.dictionaries(
    st.sampled_from(["messages", "content", "image_url", "url", "input", "output"]), c)))  # fmt: skip
def test_any_body_reads_as_without_cuts(value: Any) -> None:
    data = json.dumps({"messages": value, "input": value}).encode()
    assert plain(body.decode(data)) == json.loads(data)
