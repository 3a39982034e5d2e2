"""docs/suites.md says what is so: its tables, its examples and its numbers."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from guardproxy.evals.adapters.registry import ADAPTERS
from guardproxy.evals.drawings import KINDS
from guardproxy.evals.suite import load
from guardproxy.evals.survey import doubts

TEXT = (Path(__file__).parents[2] / "docs/suites.md").read_text()


def section(title: str) -> str:
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_kind_of_drawing_and_every_adapter_has_its_line() -> None:
    for title, known in (("Drawings", KINDS), ("Public sets", ADAPTERS)):
        assert sorted(re.findall(r"^\| `([a-z_]+)` \|", section(title), re.M)) == sorted(known)


def test_every_option_of_a_drawing_is_named() -> None:
    text = section("Drawings")
    for kind, model in KINDS.items():
        for option in model.model_fields:
            assert f"`{option}`" in text, f"{kind}: {option}"


def test_the_example_pair_is_a_suite(tmp_path: Path) -> None:
    lines = [line for line in section("Your own scenarios").splitlines() if line.startswith("{")]
    (tmp_path / "suite.yaml").write_text("schema: 1\nname: example\nfiles: [cases.jsonl]\n")
    (tmp_path / "cases.jsonl").write_text("\n".join(lines))
    suite = load(tmp_path)
    assert len(suite.cases) == 4
    assert all(line.startswith("only ") for line in doubts(suite))


def test_the_starter_suites_numbers_are_those_of_the_suite() -> None:
    cases = load("starter").cases
    sides = Counter(c.expect.value for c in cases)
    groups = Counter(expect for _, expect in {(c.group, c.expect.value) for c in cases})
    assert (
        f"{len(cases)} cases: {sides['refuse_or_block']} expect `refuse_or_block`, {sides['comply']} `comply`, "
        f"{sides['either']} `either`; {groups['refuse_or_block']} and {groups['comply']} groups"
    ) in section("The starter suite")
    assert all(c.twin for c in cases if c.expect.value == "refuse_or_block")
