"""docs/conformance.md speaks of the items and tests that there are."""

from __future__ import annotations

from tests.conformance.items import ITEMS
from tests.conformance.page import PAGE, Run, covering, page, told


def rows(text: str) -> list[tuple[str, ...]]:
    """Item, claim and tests of each row; what they said may differ from run to run."""
    cells = [
        tuple(c.strip() for c in line.split(" | ")) for line in text.splitlines() if line.startswith("| ")
    ]
    return [row[:3] for row in cells]


def test_every_item_has_a_test() -> None:
    assert [item for item, tests in covering().items() if not tests] == []


def test_the_page_is_of_these_tests() -> None:
    """If this fails: `python -m tests.conformance.page`."""
    assert rows(PAGE.read_text("utf-8")) == rows(page(Run()))
    assert len(rows(page(Run()))) == len(ITEMS) + 2


def test_the_page_tells_of_no_failure() -> None:
    text = PAGE.read_text("utf-8")
    assert " failed" not in text
    assert "not run" not in text


def test_a_part_run_keeps_what_the_page_said() -> None:
    before = told(page(Run()))
    assert set(before) == {t for tests in covering().values() for t in tests}
    said = dict.fromkeys(before, "7 passed")
    assert told(page(Run(said))) == said
