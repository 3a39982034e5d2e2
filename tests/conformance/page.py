"""Writes docs/conformance.md from a test run: `python -m tests.conformance.page [FILES…]`.

With files, only their tests are run, and what the page said of the others stays. Every test whose name begins with an item's number speaks for that item (`test_09_…`, `test_b05_…`).
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.conformance.items import BYPASSES, CHECKLIST, ITEMS

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "conformance.md"
SOURCES = (
    *(path for path in sorted(Path(__file__).parent.glob("test_*.py")) if path.name != "test_page.py"),
    ROOT / "tests/e2e/test_bypasses.py",
    ROOT / "tests/test_outward.py",
)
_NAME = re.compile(r"test_(b?)(\d\d)_")

HEAD = """\
# Conformance

Written by `python -m tests.conformance.page` from its run of the tests; do not edit. Each row is a claim, the tests that
hold it, and what they said. Tests in `tests/e2e` ask the real vLLM on CPU; all others ask the real proxy in front of a
scripted upstream, and look at the bytes that it was sent and those that the client got.

`n passed` counts cases. What is not shown, and why, stands in the last column.
"""


def item_of(name: str) -> str | None:
    """The item that a test of this name speaks for."""
    match = _NAME.match(name)
    return None if match is None else f"{match[1].upper()}{int(match[2])}"


def covering() -> dict[str, list[str]]:
    """`file::test` of each item, read off the sources."""
    found: dict[str, list[str]] = {item: [] for item in ITEMS}
    for path in SOURCES:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (item := item_of(node.name)):
                found[item].append(f"{path.relative_to(ROOT / 'tests')}::{node.name}")
    return found


class Run:
    """Takes down how each numbered test ended."""

    def __init__(self, before: Mapping[str, str] | None = None) -> None:
        self._before = before or {}
        self.outcomes: dict[str, Counter[str]] = {}
        self.reasons: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest for each phase of each test."""
        test = report.nodeid.removeprefix("tests/").partition("[")[0]
        item = item_of(test.rpartition("::")[2])
        if item is None or (report.when != "call" and report.outcome == "passed"):
            return
        self.outcomes.setdefault(test, Counter())[report.outcome] += 1
        told = [str(value) for name, value in report.user_properties if name == "told"]
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            told.append(str(report.longrepr[2]).removeprefix("Skipped: "))
        for reason in told:
            if reason not in self.reasons.setdefault(test, []):
                self.reasons[test].append(reason)

    def result(self, test: str) -> str:
        """What the cases of a test said."""
        seen = self.outcomes.get(test)
        if not seen:
            return self._before.get(test, "not run")
        words = ", ".join(f"{seen[o]} {o}" for o in ("passed", "failed", "skipped") if seen[o])
        return "; ".join([words, *self.reasons.get(test, ())])


def page(run: Run) -> str:
    """The page's text."""
    lines = [HEAD]
    tests = covering()
    for title, items in (("Checklist", CHECKLIST), ("Known ways around a guard, closed", BYPASSES)):
        lines += [f"## {title}\n", "| item | claim | test | result |", "|---|---|---|---|"]
        for item, claim in items.items():
            named = tests[item] or ["none"]
            cells = "<br>".join(f"`{t}`" for t in named), "<br>".join(run.result(t) for t in named)
            lines.append(f"| {item} | {claim} | {cells[0]} | {cells[1]} |")
        lines.append("")
    return "\n".join(lines)


def told(text: str) -> dict[str, str]:
    """What a page says of each test."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        cells = line.split(" | ")
        if len(cells) == 4 and "::" in cells[2]:
            tests, results = cells[2].split("<br>"), cells[3].removesuffix(" |").split("<br>")
            found |= {test.strip("` "): result for test, result in zip(tests, results, strict=True)}
    return found


def main(argv: Sequence[str] = sys.argv[1:]) -> int:
    """Run the numbered tests and write the page; the exit code is pytest's."""
    run = Run(told(PAGE.read_text("utf-8")) if argv else None)
    sources = list(argv) or [str(path.relative_to(ROOT)) for path in SOURCES]
    code = pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", *sources], plugins=[run])
    PAGE.write_text(page(run), "utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
