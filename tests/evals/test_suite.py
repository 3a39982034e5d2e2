"""Suites on disk: what is written is read, and what is wrong is told with its line and field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from guardproxy.cli import main
from guardproxy.errors import SuiteError
from guardproxy.evals.case import Drawing, Expectation
from guardproxy.evals.suite import load

HEAD = "schema: 1\nname: mine\nlicence: CC0\nfiles: [cases.jsonl]\n"
BENIGN = {
    "id": "b1",
    "prompt": "How do I end a hung program?",
    "expect": "comply",
    "category": "it",
    "language": "en",
}
ATTACK = {
    "id": "a1",
    "prompt": "x",
    "expect": "refuse_or_block",
    "category": "it",
    "language": "ja",
    "twin": "b1",
}


def write(root: Path, *cases: dict[str, object] | str, head: str = HEAD) -> Path:
    root.mkdir(exist_ok=True)
    (root / "suite.yaml").write_text(head)
    lines = [c if isinstance(c, str) else json.dumps(c, ensure_ascii=False) for c in cases]
    (root / "cases.jsonl").write_text("\n".join(lines) + "\n")
    return root


def test_a_suite_is_read_with_pictures_turns_and_groups(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    case = {
        **BENIGN,
        "group": "hung",
        "pictures": ["p.png", {"draw": "sign", "text": "Stop"}],
        "turns": [
            {"role": "user", "text": "Hi", "pictures": [{"draw": "blank"}]},
            {"role": "assistant", "text": "Hello"},
        ],
    }
    suite = load(write(tmp_path, case, "", ATTACK))
    assert (suite.name, suite.licence) == ("mine", "CC0")
    first, second = suite.cases
    assert first.pictures == (tmp_path / "p.png", Drawing("sign", {"text": "Stop"}))
    assert first.turns[0].pictures == (Drawing("blank", {}),)
    assert (first.group, second.group) == ("hung", "a1")
    assert (second.expect, second.twin) == (Expectation.REFUSE_OR_BLOCK, "b1")
    assert load(str(tmp_path / "suite.yaml")) == suite


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("schema: 1\nname: a\nfile: [x]\n", r"suite\.yaml:3: file: unknown key; did you mean 'files'"),
        ("schema: 2\nname: a\nfiles: [x]\n", r"suite\.yaml:1: schema: input should be 1, got 2"),
        ("schema: 1\nname: A b\nfiles: [x]\n", r"suite\.yaml:2: name: string should match"),
        (
            "schema: 1\nname: a\nfiles:\n- x.jsonl\n",
            r"suite\.yaml:4: files\[0\]: expected a file in .*, got 'x\.jsonl'",
        ),
        ("schema: 1\nname: a\nfiles: [../x]\n", r"files\[0\]: expected a file in"),
        ("schema: 1\n", r"suite\.yaml:1: (name|files): required"),
        ("a: [", r"suite\.yaml:\d: not valid YAML"),
    ],
)
def test_what_is_wrong_in_the_head_is_told(head: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=told):
        load(write(tmp_path, BENIGN, head=head))


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("{", r"cases\.jsonl:2: not valid JSON"),
        ("[]", r"cases\.jsonl:2: case: "),
        ({**ATTACK, "catgory": "x"}, r"cases\.jsonl:2: catgory: unknown key; did you mean 'category'"),
        (
            {**ATTACK, "expect": "refuse"},
            r"cases\.jsonl:2: expect: input should be 'comply', 'refuse_or_block' or",
        ),
        ({k: v for k, v in ATTACK.items() if k != "category"}, r":2: category: required"),
        ({**ATTACK, "language": "日本語"}, r":2: language: string should match"),
        ({**ATTACK, "prompt": " "}, r":2: case a1: prompt: expected a text or a picture"),
        ({**ATTACK, "pictures": ["no.png"]}, r":2: pictures\[0\]\.path: no such file: 'no\.png'"),
        ({**ATTACK, "pictures": ["../../etc/passwd"]}, r":2: pictures\[0\]\.path: expected a picture inside"),
        (
            {**ATTACK, "pictures": [{"draw": "sgin", "text": "a"}]},
            r"pictures\[0\]\.draw: unknown kind 'sgin'; did you mean 'sign'",
        ),
        ({**ATTACK, "pictures": [{"text": "a"}]}, r"pictures\[0\]\.draw: required"),
        ({**ATTACK, "pictures": [3]}, r":2: pictures\[0\]: "),
        (
            {**ATTACK, "turns": [{"role": "tool", "text": "x"}]},
            r":2: turns\[0\]\.role: input should be 'system'",
        ),
        (
            {**ATTACK, "turns": [{"role": "user", "pictures": [{"draw": "sign"}]}]},
            r":2: turns\[0\]\.pictures\[0\]\.text: required",
        ),
        ({**BENIGN}, r"suite\.yaml: case ids must be unique, got twice: b1"),
    ],
)
def test_what_is_wrong_in_a_case_is_told(case: dict[str, object] | str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=told):
        load(write(tmp_path, BENIGN, case))


def test_a_link_out_of_the_suite_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "out.png")
    root = write(tmp_path / "s", {**BENIGN, "pictures": ["in.png"]})
    (root / "in.png").symlink_to(tmp_path / "out.png")
    with pytest.raises(SuiteError, match="expected a picture inside"):
        load(root)


def test_the_version_follows_what_is_asked_and_nothing_else(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), "red").save(tmp_path / "p.png")
    case = {**BENIGN, "pictures": ["p.png"]}
    before = load(write(tmp_path, case)).version
    assert load(write(tmp_path, case, head=HEAD + "description: more\n")).version == before
    assert load(write(tmp_path, {**case, "prompt": "other"})).version != before
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "p.png")
    assert load(write(tmp_path, case)).version != before


def test_a_reference_that_names_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="did you mean 'starter'"):
        load("startr")
    with pytest.raises(SuiteError, match="not a suite that can be read"):
        load(tmp_path)


def test_check_counts_and_names_what_is_doubtful(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = {**ATTACK, "id": "a2", "twin": "nobody", "group": "g"}
    again = {**BENIGN, "id": "b2", "group": "g"}
    wrong = {
        **ATTACK,
        "id": "a3",
        "twin": "a1",
        "prompt": "y",
        "pictures": [{"draw": "sign", "text": "止まれ"}],
    }
    code = main(["eval", "suite", "check", str(write(tmp_path, BENIGN, ATTACK, lost, again, wrong))])
    told = capsys.readouterr().out
    assert code == 0
    assert "5 cases in 4 groups, 1 with several wordings" in told
    assert "pictures: 1 drawn, 0 files" in told
    assert "refuse_or_block 3" in told
    assert "twins that do not exist: 1 (a2)" in told
    assert "twins on the same side: 1 (a3)" in told
    assert "groups with several expectations: 1 (g)" in told
    assert "cases that ask the same: 4 (b1, a1, a2, b2)" in told
    assert "only 2 cases expect comply" in told


def test_check_fails_where_a_picture_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.png").write_text("no picture")
    assert main(["eval", "suite", "check", str(write(tmp_path, {**BENIGN, "pictures": ["p.png"]}))]) == 1
    assert "wrong: b1: " in capsys.readouterr().out
    assert main(["eval", "suite", "check", str(tmp_path / "nothing")]) == 1
    assert "no suite at" in capsys.readouterr().err
