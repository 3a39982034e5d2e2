"""The report as people see it: whole, escaped, folded where it hurts, and right at phone and desktop width."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import jsonschema
import msgspec
import pytest
from PIL import Image

from guardproxy.evals import gates
from guardproxy.evals.figures import Report, Sides
from guardproxy.evals.markdown import markdown
from guardproxy.evals.page import page
from guardproxy.evals.plot import HEIGHT, WIDTH, plot
from guardproxy.evals.reporting import built, kept_probes, schema, write
from guardproxy.evals.wording import NAMES, Wording
from tests.evals.demo import made
from tests.evals.scripted import REFUSE, case

DOCS = Path(__file__).parent.parent.parent / "docs"
NASTY = '<script>alert(1)</script> | "quoted" \n& more'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BOUNDS = "attack_success: {arm: arm-all, max: 0.3}\nover_refusal: {arm: arm-all, max: 0.9}\n"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("page")
    rundir = made(folder / "run")
    (folder / "gates.yaml").write_text(BOUNDS)
    return built(rundir, kept_probes(rundir.path), gates.load(folder / "gates.yaml"))


class Tags(HTMLParser):
    """What stands open, and which ids and tags there are."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href") and v]
        if tag not in ("meta", "br", "circle", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_is_whole_and_loads_nothing(report: Report, language: str) -> None:
    html = page(report, language)
    tags = parsed(html)
    assert "script" not in tags.seen
    assert tags.links == []
    assert "@import" not in html
    assert "url(" not in html
    assert f'<html lang="{language}">' in html
    assert tags.seen.count("h1") == 1
    for name in (
        "both",
        "trust",
        "adds",
        "outcomes",
        "by_category",
        "by_language",
        "judges",
        "probes",
        "costs",
        "examples",
        "how",
    ):
        assert Wording(language)(name) in html, name
    assert "{" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)


def test_both_sides_stand_in_one_plot_with_intervals(report: Report) -> None:
    svg = plot(report.arms, Wording("en"))
    assert svg.count('r="4"') == len(report.arms)
    assert svg.count('opacity=".75"') == len(report.arms)
    assert "arm-all" in svg
    assert plot((), Wording("en")) == ""


def test_numbers_of_equal_arms_stand_apart_and_inside(report: Report) -> None:
    """Eight arms in the corner where there is least room."""
    rate = replace(report.arms[0].sides.attack_success, rate=1.0, low=0.98, high=1.0)
    none = replace(rate, rate=0.0, low=0.0, high=0.02)
    arms = [replace(report.arms[0], sides=Sides(rate, none)) for _ in range(8)]
    drawn = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="8"', plot(arms, Wording("en")))
    places = [(float(x), float(y)) for x, y in drawn]
    assert len(places) == 8
    assert all(math.dist(a, b) > 14 for a, b in combinations(places, 2))
    assert all(8 <= x <= WIDTH - 8 and 8 <= y <= HEIGHT - 8 for x, y in places)


def test_every_caution_and_gate_is_told(report: Report) -> None:
    html = page(report, "en")
    assert "1 of 2 bounds are broken" in html
    assert html.count("<li>") >= len(report.cautions) + len(report.arms)
    kept = replace(report, gates=tuple(g for g in report.gates if g.kept), passed=True)
    assert "All bounds are kept" in page(kept, "en")
    assert "bounds" not in page(replace(report, gates=(), passed=None), "en").split("<h2>")[1]
    assert "Nothing was found" in page(replace(report, cautions=()), "en")


def test_texts_of_cases_and_answers_are_folded_and_escaped(tmp_path: Path) -> None:
    cases = [
        case(f"attack-{i}", REFUSE, prompt=f"Please do attack-{i}.", category=NASTY) for i in range(60, 64)
    ]
    report = built(made(tmp_path / "run", cases, arms="arm-none"), ())
    one = replace(report.examples[0], prompt=NASTY, answer=NASTY, category=NASTY, case=NASTY)
    report = replace(
        report, examples=(one,), run=replace(report.run, suite=NASTY, model=NASTY, licence=NASTY)
    )
    html = page(report, "en")
    assert "<script" not in html
    parsed(html)
    folded = re.findall(r"<details>.*?</details>", html, re.DOTALL)
    assert len(folded) == 1
    assert "<details open" not in html
    assert html.count("alert(1)") - folded[0].count("alert(1)") > 0
    text = markdown(report, "en")
    assert "<script" not in text
    for line in text.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) in (5, 6, 7, 8)


def test_a_report_with_nothing_in_it_is_still_a_page(tmp_path: Path) -> None:
    report = built(made(tmp_path / "run", [case("either-0")], arms="arm-none"), ())
    parsed(page(report, "ja"))
    assert "no cases" in markdown(report, "en")


def test_the_json_follows_the_published_schema(report: Report, tmp_path: Path) -> None:
    published = (DOCS / "eval-report.schema.json").read_bytes()
    assert published == schema(), (
        "docs/eval-report.schema.json: write it anew with `guardproxy eval report --schema`"
    )
    write(report, tmp_path, "en")
    found = json.loads((tmp_path / "report.json").read_text("utf-8"))
    jsonschema.validate(found, json.loads(published))
    found["arms"][0]["sides"].pop("over_refusal")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, json.loads(published))
    assert msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report) == report


def test_markdown_holds_the_figures(report: Report) -> None:
    text = markdown(report, "en")
    rate = report.arms[0].sides.attack_success
    assert f"{100 * (rate.rate or 0):.1f}%" in text
    assert "arm-all against arm-none" in text
    assert text.startswith("# Evaluation: Starter suite\n")


def test_every_text_is_there_in_both_languages() -> None:
    english, japanese = Wording("en"), Wording("ja")
    fields = dict.fromkeys(
        ["suite", "model", "target", "planned", "started", "version", "licence", "broken", "all", "points", "events", "n", "about", "count", "of", "arm", "baseline", "value", "refused", "blocked", "judge", "human", "what", "was", "now", "attacks", "benign"], "x",
    )  # fmt: skip
    for name in NAMES:
        one, other = english(name, **fields), japanese(name, **fields)
        assert one
        assert other
        if name not in ("short", "short_change"):
            assert one != other, name


@pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="needs chromium (apt-get install chromium)"
)
@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_width_makes_the_page_scroll_sideways(
    report: Report, tmp_path: Path, width: int, language: str
) -> None:
    """Looked at in a browser; the screenshot stays beside the test's files for those who want to see it."""
    # Chromium's own window is never narrower than 500 px: the page is measured in a frame of the width wanted.
    measure = (
        "<script>for (const d of document.querySelectorAll('details')) d.open = true;"
        "const e = document.documentElement, told = parent.document.documentElement.dataset;"
        "told.sideways = e.scrollWidth - e.clientWidth; told.width = innerWidth;"
        "const wide = [...document.querySelectorAll('main *')].filter(x => x.getBoundingClientRect().right > innerWidth + 1);"
        "told.wide = wide.map(x => x.tagName).join(' ');</script>"
    )
    file, frame = tmp_path / "report.html", tmp_path / "frame.html"
    html = page(report, language)
    file.write_text(html, "utf-8")
    inner = escape(html.replace("</body>", measure + "</body>"), quote=True)
    frame.write_text(
        f'<iframe style="width:{width}px;height:2000px;border:0" srcdoc="{inner}"></iframe>', "utf-8"
    )
    shot = tmp_path / f"{language}-{width}.png"
    dom = browse(frame, tmp_path / "a", 1400, "--dump-dom")
    found = dict(re.findall(r'data-(sideways|width|wide)="([^"]*)"', dom))
    assert (found["width"], found["sideways"], found["wide"]) == (str(width), "0", "")
    browse(file, tmp_path / "b", width, f"--screenshot={shot}")
    with Image.open(shot) as image:
        assert image.width == width
        colours = image.convert("RGB").resize((64, 64)).getcolors(4096)
    assert colours is not None
    assert len(colours) > 20, "the screenshot is empty"


def browse(file: Path, profile: Path, width: int, what: str) -> str:
    assert CHROMIUM, "chromium is not installed, and CI needs it: tests/deploy/setup.sh"
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--hide-scrollbars", f"--user-data-dir={profile}",
        f"--window-size={width},2400", what, file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
