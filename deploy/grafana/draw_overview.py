"""Draws a dashboard's panels from its own queries: a picture for places where no Grafana runs.

It is not Grafana and does not look like it in everything: it knows the panels that our dashboards use.

    python deploy/grafana/draw_overview.py --prometheus http://127.0.0.1:9090 --minutes 15 --out overview.png
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

SCALE = 2  # drawn twice as large and shrunk: smooth lines
WIDTH, UNIT, GAP, MARGIN, HEAD = 1400, 27, 8, 14, 46
INK, GREY, FAINT, GRID, PAGE, PAPER = "#1f2430", "#667085", "#98a2b3", "#e7eaf0", "#f3f5f9", "#ffffff"
COLOURS = 160  # of the file: rare ones are kept, and it stays small
PALETTE = (
    "#3274d9", "#e5820c", "#2a9d5c", "#d33f6a", "#8f4fbf", "#0f9bb0", "#b58900", "#6b7280", "#a0522d", "#c026d3",
)  # fmt: skip
NAMED = {"green": "#2a9d5c", "orange": "#e5820c", "red": "#d92d20", "blue": "#3274d9"}
SECONDS = ((60.0, "min", 60.0), (1.0, "s", 1.0), (0.001, "ms", 0.001), (0.0, "µs", 0.000001))

Points = list[tuple[float, float]]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Line:
    """One line of a panel."""

    name: str
    points: Points
    labels: dict[str, str]


@dataclass(frozen=True)
class Period:
    """What the picture shows, in Unix seconds."""

    start: float
    end: float
    step: float


class Source:
    """Prometheus, asked as Grafana would ask it for everything (`All`)."""

    def __init__(self, url: str, period: Period, rate: str) -> None:
        self._url = url
        self._rate = rate
        self.period = period

    def lines(self, target: dict[str, Any]) -> list[Line]:
        """A query's answer over the period."""
        spent = f"{self.period.end - self.period.start:.0f}s"
        values = {"__rate_interval": self._rate, "__range": spent}
        expr = re.sub(r"\$(\w+)", lambda m: values.get(m[1], ".*"), target["expr"])
        given = {"query": expr, "start": self.period.start, "end": self.period.end, "step": self.period.step}
        url = f"{self._url}/api/v1/query_range?{urllib.parse.urlencode(given)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            rows = json.load(answer)["data"]["result"]
        return [self._line(row, target["legendFormat"]) for row in rows]

    @staticmethod
    def _line(row: dict[str, Any], legend: str) -> Line:
        labels = row["metric"]
        name = re.sub(r"{{\s*(\w+)\s*}}", lambda m: labels.get(m[1], ""), legend)
        points = [(float(t), float(v)) for t, v in row["values"] if math.isfinite(float(v))]
        return Line(name, points, labels)


def shown(value: float, unit: str, decimals: int | None = None) -> str:
    """A figure as people read it."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %" if decimals is None else f"{value * 100:.{decimals}f} %"
    if unit == "s":
        for least, word, size in SECONDS:
            if value >= least:
                return "0" if value == 0 else f"{value / size:.3g} {word}"
    end = {"reqps": "/s", "cps": "/s"}.get(unit, "")
    return f"{value:.{decimals}f}{end}" if decimals is not None else f"{value:.3g}{end}"


def ticks(top: float) -> list[float]:
    """Round figures from 0 to the top, three to five of them."""
    size = 10 ** math.floor(math.log10(top)) if top > 0 else 1.0
    step = next(f * size for f in (0.2, 0.25, 0.5, 1.0, 2.0, 2.5) if top / (f * size) <= 5)
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]


class Sheet:
    """The page that is drawn on, in pixels of the finished picture."""

    def __init__(self, height: float) -> None:
        self.height = height
        self._image = Image.new("RGB", (WIDTH * SCALE, round(height * SCALE)), PAGE)
        self._draw = ImageDraw.Draw(self._image, "RGBA")

    def text(
        self, at: tuple[float, float], text: str, size: float, ink: str = INK, anchor: str = "la"
    ) -> None:
        """Write; the anchor is Pillow's."""
        self._draw.text((at[0] * SCALE, at[1] * SCALE), text, ink, _font(size), anchor)

    @staticmethod
    def width(text: str, size: float) -> float:
        """How wide a text is."""
        return _font(size).getlength(text) / SCALE

    def box(self, box: Box, fill: str, edge: str | None = None, round_: float = 0) -> None:
        """A rectangle."""
        self._draw.rounded_rectangle([v * SCALE for v in box], round_ * SCALE, fill, edge, SCALE)

    def line(self, points: Points, ink: str, width: float = 1.0) -> None:
        """A line through points."""
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self._draw.line(scaled, ink, max(1, round(width * SCALE)), joint="curve")

    def area(self, points: Points, ink: str, opacity: int) -> None:
        """A filled shape; opacity of 255."""
        if len(points) > 2:
            self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], f"{ink}{opacity:02x}")

    def save(self, path: Path) -> None:
        """Write a small PNG."""
        smooth = self._image.resize((WIDTH, round(self.height)), Image.Resampling.LANCZOS)
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            path, optimize=True
        )


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size * SCALE)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType has no letters to draw with"
    return font


def cut(text: str, size: float, room: float) -> str:
    """A text that fits."""
    while text and Sheet.width(text, size) > room:
        text = text[:-2] + "…" if not text.endswith("…") else text[:-3] + "…"
    return text


def colours(panel: dict[str, Any], lines: Sequence[Line]) -> list[str]:
    """Of each line: the panel's own by name, otherwise in turn."""
    fixed = {
        o["matcher"]["options"]: p["value"]["fixedColor"]
        for o in panel["fieldConfig"]["overrides"]
        for p in o["properties"]
        if p["id"] == "color"
    }
    return [fixed.get(line.name) or PALETTE[i % len(PALETTE)] for i, line in enumerate(lines)]


def draw_stat(sheet: Sheet, box: Box, panel: dict[str, Any], lines: Sequence[Line], period: Period) -> None:
    """One figure with its course below."""
    x0, y0, x1, y1 = box
    points = lines[0].points if lines else []
    if not points:
        sheet.text(((x0 + x1) / 2, (y0 + y1) / 2), "no figures", 12, FAINT, "mm")
        return
    defaults = panel["fieldConfig"]["defaults"]
    last = points[-1][1]
    steps = defaults["thresholds"]["steps"]
    ink = NAMED[[s["color"] for s in steps if s["value"] is None or last >= s["value"]][-1]]
    top = max(v for _, v in points) or 1.0
    low = y1 - 4

    def at(t: float, v: float) -> tuple[float, float]:
        return x0 + (t - period.start) / (period.end - period.start) * (x1 - x0), low - v / top * 15

    course = [at(t, v) for t, v in points]
    sheet.area([(course[0][0], low), *course, (course[-1][0], low)], ink, 40)
    sheet.line(course, ink, 1.2)
    figure = shown(last, defaults["unit"], defaults.get("decimals"))
    sheet.text(((x0 + x1) / 2, y0 + (y1 - y0) * 0.34), figure, 27, ink, "mm")


def draw_legend(sheet: Sheet, box: Box, lines: Sequence[Line], inks: Sequence[str]) -> float:
    """Names of the lines from the bottom up, at most two rows; returns where it begins."""
    x0, _, x1, y1 = box
    rows: list[list[tuple[str, str]]] = [[]]
    used = x0
    for line, ink in zip(lines, inks, strict=True):
        name = cut(line.name, 11, 230)
        wide = Sheet.width(name, 11) + 30
        if used + wide > x1 and rows[-1]:
            if len(rows) == 2:
                rows[-1].append((f"+{len(lines) - sum(map(len, rows))}", FAINT))
                break
            rows.append([])
            used = x0
        rows[-1].append((name, ink))
        used += wide
    for number, row in enumerate(rows):
        x, y = x0, y1 - 14 * (len(rows) - number) + 5
        for name, ink in row:
            sheet.box((x, y - 2, x + 10, y + 1), ink)
            sheet.text((x + 15, y), name, 11, GREY, "lm")
            x += Sheet.width(name, 11) + 30
    return y1 - 14 * len(rows) - 4


def summed(lines: Sequence[Line]) -> list[tuple[Points, Points]]:
    """Each line on top of those before it: its upper and its lower edge."""
    times = sorted({t for line in lines for t, _ in line.points})
    floor = dict.fromkeys(times, 0.0)
    edges = []
    for line in lines:
        own = dict(line.points)
        lower = [(t, floor[t]) for t in times]
        for t in times:
            floor[t] += own.get(t, 0.0)
        edges.append(([(t, floor[t]) for t in times], lower))
    return edges


def draw_series(sheet: Sheet, box: Box, panel: dict[str, Any], lines: Sequence[Line], period: Period) -> None:
    """Lines over time, or areas on top of each other."""
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    lines = [line for line in lines if line.points]
    inks = colours(panel, lines)
    edges = summed(lines) if stacked else [(line.points, []) for line in lines]
    marks = ticks(max((v for upper, _ in edges for _, v in upper), default=1.0) or 1.0)
    x0, y0, x1, _ = box
    bottom = draw_legend(sheet, box, lines, inks) - 16
    left = x0 + max(Sheet.width(shown(m, defaults["unit"]), 10.5) for m in marks) + 8

    def at(t: float, v: float) -> tuple[float, float]:
        share = (t - period.start) / (period.end - period.start)
        return left + share * (x1 - left), bottom - v / marks[-1] * (bottom - y0)

    for mark in marks:
        y = at(0, mark)[1]
        sheet.line([(left, y), (x1, y)], GRID)
        sheet.text((left - 6, y), shown(mark, defaults["unit"]), 10.5, FAINT, "rm")
    draw_times(sheet, (left, bottom, x1), period)
    if not lines:
        sheet.text(((left + x1) / 2, (y0 + bottom) / 2), "nothing in this time", 12, FAINT, "mm")
    for (upper, lower), ink in zip(edges, inks, strict=True):
        course = [at(*p) for p in upper]
        if stacked:
            sheet.area(course + [at(*p) for p in reversed(lower)], ink, 150)
        sheet.line(course, ink, 1.0 if stacked else 1.6)


def draw_times(sheet: Sheet, axis: tuple[float, float, float], period: Period) -> None:
    """Times below a panel, five at most."""
    left, bottom, right = axis
    spans = (60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
    step = next((s for s in spans if (period.end - period.start) / s <= 5), 86400)
    first = math.ceil(period.start / step) * step
    for moment in range(int(first), int(period.end) + 1, step):
        x = left + (moment - period.start) / (period.end - period.start) * (right - left)
        if left + 14 <= x <= right - 14:
            sheet.text((x, bottom + 4), time.strftime("%H:%M", time.gmtime(moment)), 10.5, FAINT, "ma")


def draw_table(sheet: Sheet, box: Box, panel: dict[str, Any], lines: Sequence[Line], period: Period) -> None:
    """The figures at the end of the period with their labels."""
    x0, y0, x1, y1 = box
    organised = panel["transformations"][0]["options"]
    columns = sorted(organised["indexByName"], key=organised["indexByName"].get)
    late = period.end - 2 * period.step
    rows = [
        {**line.labels, "Value": shown(line.points[-1][1], "short")}
        for line in lines
        if line.points and line.points[-1][0] > late
    ]
    share = (x1 - x0) / len(columns)
    for place, column in enumerate(columns):
        x, room = x0 + place * share, share - 6
        sheet.text((x, y0), cut(organised["renameByName"].get(column, column), 11, room), 11, GREY)
        for number, row in enumerate(rows):
            y = y0 + 20 + number * 19
            if y < y1 - 10:
                sheet.line([(x, y - 3), (x + share, y - 3)], GRID)
                sheet.text((x, y), cut(row.get(column, ""), 12, room), 12)


DRAWN = {"stat": draw_stat, "timeseries": draw_series, "table": draw_table}


def draw(dashboard: dict[str, Any], source: Source, rows: int | None = None) -> Sheet:
    """The whole dashboard, or its first so many rows of the grid."""
    panels = [p for p in dashboard["panels"] if rows is None or p["gridPos"]["y"] < rows]
    below = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels)
    sheet = Sheet(HEAD + below * UNIT + MARGIN)
    sheet.text((MARGIN + 4, 14), dashboard["title"], 19)
    period = source.period
    minutes = f"{(period.end - period.start) / 60:.0f} minutes to {time.strftime('%H:%M', time.gmtime(period.end))} UTC"
    sheet.text((WIDTH - MARGIN - 4, 18), minutes, 12, GREY, "ra")
    column = (WIDTH - 2 * MARGIN) / 24
    for panel in panels:
        at = panel["gridPos"]
        x, y = MARGIN + at["x"] * column, HEAD + at["y"] * UNIT
        if panel["type"] == "row":
            sheet.text((x + 4, y + UNIT / 2), panel["title"], 13.5, GREY, "lm")
            continue
        box = (x + GAP / 2, y + GAP / 2, x + at["w"] * column - GAP / 2, y + at["h"] * UNIT - GAP / 2)
        sheet.box(box, PAPER, GRID, 5)
        sheet.text((box[0] + 10, box[1] + 8), panel["title"], 13)
        lines = [line for target in panel["targets"] for line in source.lines(target)]
        inner = (box[0] + 10, box[1] + 34, box[2] - 12, box[3] - 6)
        DRAWN[panel["type"]](sheet, inner, panel, lines, period)
    return sheet


def main() -> None:
    """Draw one dashboard."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--end", type=float, help="Unix time of the end, otherwise now")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument(
        "--rate", default="1m", help="stands for $__rate_interval: at least four scrape intervals"
    )
    parser.add_argument("--dashboard", type=Path, default=here / "dashboards/overview.json")
    parser.add_argument("--rows", type=int, help="only so many rows of the grid")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    end = given.end or time.time()
    seconds = given.minutes * 60
    source = Source(given.prometheus, Period(end - seconds, end, max(1.0, seconds / 240)), given.rate)
    draw(json.loads(given.dashboard.read_text("utf-8")), source, given.rows).save(given.out)


if __name__ == "__main__":
    main()
