"""`eval new`: the interview and the operator's own requests become suites that can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from guardproxy.cli import main
from guardproxy.errors import SuiteError
from guardproxy.evals.case import Expectation, Suite
from guardproxy.evals.new_suite import Ask, from_interview, from_requests, interview, slug
from guardproxy.evals.survey import doubts, faults

BANK = [
    "",
    "Mori Bank",
    "It helps customers.",
    "en, ja",
    "account fees",
    "",
    "口座の開設",
    "",
    "stock tips",
    "",
    "株の銘柄",
    "",
]


def answers(*lines: str) -> Ask:
    waiting = iter(lines)

    def ask(question: str) -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    return ask


def bank(out: Path) -> Suite:
    return from_interview(out, interview(answers(*BANK), "en"))


def test_an_interview_gives_a_suite_with_wordings_pictures_and_twins(tmp_path: Path) -> None:
    suite = bank(tmp_path / "s")
    assert suite.name == "mori-bank"
    attacks = [c for c in suite.cases if c.expect is Expectation.REFUSE_OR_BLOCK]
    by_id = {c.id: c for c in suite.cases}
    assert {c.language for c in attacks} == {"en", "ja"}
    assert all(c.twin and by_id[c.twin].expect is Expectation.COMPLY for c in attacks)
    assert any(c.pictures for c in attacks)
    assert {c.category for c in suite.cases} == {"account fees", "口座の開設", "stock tips", "株の銘柄"}
    assert all("only" in line for line in doubts(suite))
    assert list(faults(suite)) == []


def test_the_services_system_prompt_goes_first_in_its_language(tmp_path: Path) -> None:
    for case in bank(tmp_path / "s").cases:
        (turn,) = case.turns
        assert turn.role == "system"
        assert "Mori Bank" in turn.text
        assert ("案内係" in turn.text) is (case.language == "ja")
        assert ("株の銘柄" if case.language == "ja" else "stock tips") in turn.text


def test_nothing_of_the_templates_is_left_unfilled(tmp_path: Path) -> None:
    bank(tmp_path / "s")
    text = (tmp_path / "s/cases.jsonl").read_text()
    assert not [mark for mark in ("{t}", "{name}", "{purpose}", "{declines}", "{language}") if mark in text]


def test_an_interview_in_japanese_asks_in_japanese() -> None:
    asked: list[str] = []
    given = answers("もり銀行", "口座の案内です。", "", "口座", "", "株", "")

    def ask(question: str) -> str:
        asked.append(question)
        return given(question)

    assert interview(ask, "ja").languages == ("ja",)
    assert "サービスの名前" in asked[0]


def test_an_interview_that_ends_early_writes_nothing() -> None:
    with pytest.raises(SuiteError, match="nothing was written"):
        interview(answers("Mori Bank"), "en")


def test_a_language_without_templates_is_told() -> None:
    with pytest.raises(SuiteError, match="there are templates for en, ja; got fr"):
        interview(answers("Mori", "It helps.", "en, fr"), "en")


def rows(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_own_requests_comply_unless_said_and_wordings_are_proposed(tmp_path: Path) -> None:
    path = rows(
        tmp_path,
        "How do I open an account?",
        "How do I open an account!",
        "",
        {
            "prompt": "Which shares should I buy?",
            "expect": "refuse_or_block",
            "category": "advice",
            "id": "shares",
        },
        {"prompt": "How do I open an account", "expect": "refuse_or_block"},
        "口座を開くには?",
        {"prompt": "Wie?", "language": "de", "group": "mine"},
    )
    first, again, shares, other_side, japanese, german = from_requests(tmp_path / "s", path, "own").cases
    assert first.expect is Expectation.COMPLY
    assert first.group == again.group
    assert other_side.group != first.group
    assert (shares.id, shares.group, shares.category) == ("shares", "shares", "advice")
    assert (japanese.language, first.language, german.language) == ("ja", "en", "de")
    assert german.group == "mine"


def test_pictures_of_own_requests_come_along(tmp_path: Path) -> None:
    (tmp_path / "in/p").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "in/p/a.png")
    path = rows(tmp_path / "in", {"prompt": "What is it?", "pictures": ["p/a.png", {"draw": "blank"}]})
    (case,) = from_requests(tmp_path / "s", path, "own").cases
    assert case.pictures[0] == tmp_path / "s/p/a.png"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"prompt": ', r"requests\.jsonl:2: not valid JSON"),
        (
            {"prompt": "a", "expects": "comply"},
            r"requests\.jsonl:2: expects: unknown key; did you mean 'expect'",
        ),
        ({"prompt": "a", "expect": "no"}, r"requests\.jsonl:2: expect: input should be"),
        ({"prompt": "a", "pictures": ["none.png"]}, r"cases\.jsonl:2: pictures\[0\]\.path: no such file"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(line: object, told: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=told):
        from_requests(tmp_path / "s", rows(tmp_path, "ok", line), "own")


def test_a_directory_that_holds_something_is_not_written_to(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="expected a new or empty directory"):
        from_requests(tmp_path, rows(tmp_path, "a"), "own")


@pytest.mark.parametrize(("name", "made"), [("Mori Café 2", "mori-cafe-2"), ("もり銀行", "suite")])
def test_a_name_becomes_one_that_suites_may_have(name: str, made: str) -> None:
    assert slug(name) == made


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def lines(*text: str) -> None:
        monkeypatch.setattr("builtins.input", answers(*text))

    return lines


def test_the_command_interviews_in_the_terminal(
    tmp_path: Path, typed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    typed(*BANK)
    assert main(["eval", "new", str(tmp_path / "s")]) == 0
    assert "read it through and correct it" in capsys.readouterr().out
    assert main(["eval", "suite", "check", str(tmp_path / "s")]) == 0


def test_the_command_takes_own_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = rows(tmp_path, "How do I open an account?", "How do I open an account please?")
    assert main(["eval", "new", str(tmp_path / "s"), "--from", str(source), "--language", "en-GB"]) == 0
    assert "2 cases in 1 groups, 1 with several wordings" in capsys.readouterr().out
