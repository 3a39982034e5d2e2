"""Personal data is found by its form, whatever the spelling; a stream leaks none of it, however it is cut."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardproxy.core.content import ImagePart, Message, ReadText, Request, Segment
from guardproxy.core.redact import redact_request
from guardproxy.core.verdict import Action, Span
from guardproxy.detectors.base import Content, Resources
from guardproxy.detectors.forms.form import TURN, FormDetector
from guardproxy.detectors.pii import ENTITIES, build, detector
from guardproxy.errors import PolicyError
from tests.detectors.streams import Stream, cut_up, detect, found_in, whole

ALL = detector(ENTITIES)

TRUE = [
    ("電話は０３－１２３４－５６７８です", "phone", "０３－１２３４－５６７８"),
    ("お電話は03ー1234ー5678まで", "phone", "03ー1234ー5678"),
    ("携帯090-1234-5678です", "phone", "090-1234-5678"),
    ("08012345678に連絡", "phone", "08012345678"),
    ("（03）1234-5678", "phone", "（03）1234-5678"),
    ("フリーダイヤル0120-123-456", "phone", "0120-123-456"),
    ("通話無料 0800-123-4567", "phone", "0800-123-4567"),
    ("0466-23-4567", "phone", "0466-23-4567"),
    ("IP電話050-1234-5678", "phone", "050-1234-5678"),
    ("+81-90-1234-5678", "phone", "+81-90-1234-5678"),
    ("+81(0)3-1234-5678", "phone", "+81(0)3-1234-5678"),
    ("(415) 555-2671", "phone", "(415) 555-2671"),
    ("Call 415.555.2671 now", "phone", "415.555.2671"),
    ("+1 (415) 555-2671", "phone", "+1 (415) 555-2671"),
    ("+44 20 7946 0958", "phone", "+44 20 7946 0958"),
    ("my number is 555-123-4567x89", "phone", "555-123-4567x89"),
    ("メールはtaro.yamada@example.co.jpまで", "email", "taro.yamada@example.co.jp"),
    ("ｔａｒｏ＠ｅｘａｍｐｌｅ．ｃｏｍ", "email", "ｔａｒｏ＠ｅｘａｍｐｌｅ．ｃｏｍ"),
    ("<o'neil+tag@mail.example.org>.", "email", "o'neil+tag@mail.example.org"),
    ("tar\u200bo@exam\u200bple.com", "email", "tar\u200bo@exam\u200bple.com"),
    ("カード番号4111 1111 1111 1111です", "card", "4111 1111 1111 1111"),
    ("5500-0055-5555-5559", "card", "5500-0055-5555-5559"),
    ("3782 822463 10005", "card", "3782 822463 10005"),
    ("pay with 3530111333300000,", "card", "3530111333300000"),
    ("GB82 WEST 1234 5698 7654 32", "iban", "GB82 WEST 1234 5698 7654 32"),
    ("de89370400440532013000", "iban", "de89370400440532013000"),
    ("SSN 123-45-6789", "ssn", "123-45-6789"),
    ("social security number: 123456789", "ssn", "123456789"),
    ("from 203.0.113.77:8080", "ip", "203.0.113.77"),
    ("接続元は192.168.10.24です", "ip", "192.168.10.24"),
    ("2001:db8::8a2e:370:7334", "ip", "2001:db8::8a2e:370:7334"),
    ("マイナンバーは1234 5678 9018です", "my_number", "1234 5678 9018"),
    ("個人番号：１２３４５６７８９０１８", "my_number", "１２３４５６７８９０１８"),
    ("通知カードに５０３７４２６９９８６４とあります", "my_number", "５０３７４２６９９８６４"),
    ("運転免許証番号 309012345620", "drivers_licence", "309012345620"),
    ("〒150-0001 東京都渋谷区", "postal_code", "150-0001"),
    ("住所は150-0001 渋谷区神宮前", "postal_code", "150-0001"),
    ("郵便番号:1500001", "postal_code", "1500001"),
    ("みずほ銀行渋谷支店（普通）1234567", "bank_account", "1234567"),
    ("口座番号は 1234567", "bank_account", "1234567"),
    ("当座預金 001-1234567", "bank_account", "001-1234567"),
    ("店番 123", "bank_account", "123"),
    ("記号 10120 番号 12345678", "bank_account", "12345678"),
    ("パスポート番号 TK1234567", "passport", "TK1234567"),
    (r"hello\ntaro@example.com\tbye", "email", "taro@example.com"),
    (r"\u756a\u53f703-1234-5678", "phone", "03-1234-5678"),
    (r"\uff10\uff13-1234-567\uff18", "phone", r"\uff10\uff13-1234-567\uff18"),
]

FALSE = [
    "In 2024-11-25 at 10:30, pi is 3.14159265358979 and 1,234,567 people came.",
    "version 1.2.3.4 and section 2.10.3.1 of the manual, 1.2.3.4.5 too, 300.1.1.1",
    "Order 123456789012 shipped; tracking number 1234-5678-9018.",
    "2023年11月12日(日)、12:30:45、第1条第2項、第3-4号",
    "std::vector<int> a; cafe::bed; @app.route('/x'); lodash@4.17.21; x = y @ z",
    "4111 1111 1111 1112 and 1234567890123456 and 9781234567897",
    "666-12-3456, 000-12-3456, 900-12-3456, 123-00-4567",
    "DE89370400440532013001 GB82WEST12345698765433 AB12 the quick brown fox jumps",
    "普通は1時間に1234個、在庫は1234567890123個",
    "http://example.org/status/4111111111111111",
    "マイナンバーの桁数は12桁、123456789012は誤り。",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    "10.5-20.7, 100-200, 3/4, 5x3, (12), +5, 50%",
    "Call me at 2023-01-05.",
]


@pytest.mark.parametrize(("text", "category", "hit"), TRUE)
def test_it_is_found_with_its_span(text: str, category: str, hit: str) -> None:
    assert (category, hit) in found_in(ALL, text)


@pytest.mark.parametrize("text", FALSE)
def test_what_only_looks_alike_is_no_hit(text: str) -> None:
    assert found_in(ALL, text) == set()


def test_stronger_evidence_has_a_higher_score() -> None:
    def score(text: str, category: str) -> float:
        return max((h.score for h in ALL.spot(text) if h.category == category), default=0.0)

    assert (
        score("カード 4111111111111111", "card")
        > score("4111111111111111", "card")
        > score("4111111111111112", "card")
    )
    assert (
        score("マイナンバー 123456789018", "my_number")
        > score("1234 5678 9018", "my_number")
        > score("123456789018", "my_number")
    )
    assert score("電話 03-1234-5678", "phone") > score("03-1234-5678", "phone") > score("0312345678", "phone")
    assert (
        score("免許証 309012345620", "drivers_licence")
        > score("免許証 309012345630", "drivers_licence")
        > score("309012345620", "drivers_licence")
    )


def test_a_guard_may_name_entities() -> None:
    only = build({"entities": ["email"]}, Resources())
    assert isinstance(only, FormDetector)
    found = detect(only, Content((Segment("user", "u", "03-1234-5678 a@b.example"),)))
    assert [f.category for f in found] == ["email"]
    assert only.version != ALL.version


@pytest.mark.parametrize(
    ("entities", "said"),
    [
        (["phon"], "entities: unknown entity 'phon'; did you mean 'phone'?"),
        ([], "entities: expected a list of names, got []"),
        ("email", "entities: expected a list of names, got 'email'"),
        ([3], "entities: unknown entity 3"),
    ],
)
def test_a_wrong_entity_is_told(entities: object, said: str) -> None:
    with pytest.raises(PolicyError) as error:
        build({"entities": entities}, Resources())
    assert said in str(error.value)


PIECES = [hit for _, _, hit in TRUE] + [text for text, _, _ in TRUE] + [
    "\\n", "\\u96fb\\u8a71", "\\uff10\\uff13-1234-5678", "\\", "\\\\", "\\u003", "電話", "カード", "IP ", "v", "口座 ", "普通", "〒", "東京都", "です。", ". ", " ", "\n", "-", "x12", "+", "(", "0", "12", "a", "@", ":", "\u200b", "渋谷区",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
noise = st.text("0123456789-. ()+x:@aAfG〒京都市口座番号電話\u200b０－ー", max_size=60)
sizes = st.lists(st.integers(1, 30), min_size=1, max_size=5)
flags = st.lists(st.booleans(), max_size=4)


@given(st.one_of(texts, noise, st.tuples(texts, noise).map("".join)), sizes, flags)
@example("住所は150-0001 渋谷区神宮前", [1], [True])
@example("x 415-555-2671x89y", [1], [True])
def test_a_stream_is_redacted_exactly_however_it_is_cut(
    text: str, chunks: list[int], early: list[bool]
) -> None:
    assert Stream(ALL).send(cut_up(text, chunks), early) == whole(ALL, text)


@given(st.one_of(texts, noise), sizes, flags)
def test_a_block_leaks_nothing_of_a_hit(text: str, chunks: list[int], early: list[bool]) -> None:
    found = [f for f in ALL.spot(text) if f.score >= 0.5]
    out = Stream(ALL, Action.BLOCK).send(cut_up(text, chunks), early)
    assert text.startswith(out)
    assert len(out) <= min((f.start for f in found), default=len(text))


@pytest.mark.parametrize("entity", ENTITIES)
def test_each_entity_alone_is_redacted_exactly_letter_by_letter(entity: str) -> None:
    """A form must not live on what another one holds."""
    alone = detector([entity])
    for text, _, _ in TRUE:
        for tail in ("", ". ", "、続く"):
            assert Stream(alone).send(list(text + tail), [True]) == whole(alone, text + tail)


def test_prose_is_hardly_held() -> None:
    held = [ALL.held_suffix("この文章には個人情報はありません"[:n], 0) for n in range(16)]
    assert max(held) == 0
    text = "There is nothing personal in this sentence of prose."
    assert max(ALL.held_suffix(text[:n], 0) for n in range(len(text))) <= 9


@pytest.mark.parametrize(
    "unit", ["1 ", "1-", "a@", "@", "a.", "1:", "A1", "(0)", "4111", "a@b.c", "GB82", "::", "〒", "0０"]
)
def test_hostile_texts_cost_linear_time(unit: str) -> None:
    started = time.process_time()
    ALL.spot(unit * (20_000 // len(unit)))
    ALL.held_suffix(unit * (20_000 // len(unit)), 0)
    assert time.process_time() - started < 2


@given(texts, noise, st.integers(0, 300))
@settings(max_examples=30)
def test_a_long_text_is_looked_at_in_turns_with_the_same_outcome(text: str, more: str, pad: int) -> None:
    long = "あ b. " * (TURN // 6 - pad // 6) + text + "-1" * 40 + more + " " + "x" * TURN + text
    found = asyncio.run(ALL.detect(Content((Segment("user", "u", long),))))
    assert {(f.category, f.score, f.span) for f in found} == {
        (h.category, h.score, Span(h.start, h.end)) for h in ALL.spot(long)
    }


def test_the_event_loop_gets_its_turn() -> None:
    turns = 0

    async def both() -> None:
        nonlocal turns
        looking = asyncio.create_task(ALL.detect(Content((Segment("user", "u", "1 22 333 " * 3_000),))))
        while not looking.done():
            turns += 1
            await asyncio.sleep(0)

    asyncio.run(both())
    assert turns >= 6


def lines(*texts: str) -> tuple[Segment, ...]:
    return tuple(Segment("image_text", f"messages[0].content[1]/ocr[{i}]", t) for i, t in enumerate(texts))


def test_a_number_over_two_lines_of_a_picture_is_found_in_both() -> None:
    found = detect(ALL, Content(lines("ご本人様", "カード番号 4111 1111", "1111 1111", "有効期限 12/29")))
    hit = [(f.place, f.category) for f in found if f.score >= 0.5]
    assert hit == [("messages[0].content[1]/ocr[1]", "card"), ("messages[0].content[1]/ocr[2]", "card")]


def test_an_address_broken_by_the_lines_end_is_found_in_both() -> None:
    found = detect(ALL, Content(lines("mail: taro.yama", "da@example.com")))
    assert {f.place[-2] for f in found if f.score >= 0.5} == {"0", "1"}


def test_lines_of_two_pictures_are_not_joined() -> None:
    first, second = lines("4111 1111", "1111 1111")
    other = Segment("image_text", "messages[0].content[2]/ocr[0]", second.text)
    found = detect(ALL, Content((first, other)))
    assert [f for f in found if f.score >= 0.5] == []


def test_lines_of_a_picture_that_hold_a_hit_are_painted_over() -> None:
    """From what was read to the rectangles, over the way that the exchange takes."""
    texts = tuple(
        ReadText(text, f"messages[0].content[0]/ocr[{i}]", (0, 10 * i, 90, 10 * i + 9))
        for i, text in enumerate(("山田花子", "カード 4111 1111", "1111 1111", "TEL 03-1234-5678"))
    )
    picture = ImagePart("data:", "messages[0].content[0]", width=90, height=40, texts=texts)
    request = Request("m", (Message("user", (picture,), "messages[0]"),))
    lines_of = tuple(s for s in request.segments() if s.kind == "image_text")
    found = redact_request(request, [f for f in detect(ALL, Content(lines_of)) if f.score >= 0.5])
    assert found is not None
    assert found[1] == {"messages[0].content[0]": ((0, 10, 90, 19), (0, 20, 90, 29), (0, 30, 90, 39))}
