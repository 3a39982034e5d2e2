"""Both sides in one plot: each arm a point with its intervals, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from guardproxy.evals.figures import ArmFigures
from guardproxy.evals.markup import colour, esc
from guardproxy.evals.wording import Wording, percent

WIDTH, HEIGHT = 400, 330
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 14, 46
SCALES = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
RADIUS = 8
AWAY = (
    (13, -13),
    (13, 13),
    (-13, -13),
    (-13, 13),
    (0, -19),
    (0, 19),
    (19, 0),
    (-19, 0),
    (28, -24),
    (-28, 24),
)
"""Where an arm's number may stand beside its point, in units of the plot."""


@dataclass(frozen=True, slots=True)
class _Axes:
    x_max: float
    y_max: float

    def x(self, share: float) -> float:
        return LEFT + share / self.x_max * (WIDTH - LEFT - RIGHT)

    def y(self, share: float) -> float:
        return HEIGHT - BOTTOM - share / self.y_max * (HEIGHT - TOP - BOTTOM)


def plot(arms: Sequence[ArmFigures], words: Wording) -> str:
    """The plot; empty where no arm has both sides."""
    shown = [(i, a) for i, a in enumerate(arms) if a.sides.attack_success.n and a.sides.over_refusal.n]
    if not shown:
        return ""
    axes = _Axes(
        _scale(max(a.sides.over_refusal.high for _, a in shown)),
        _scale(max(a.sides.attack_success.high for _, a in shown)),
    )
    told = "; ".join(
        f"{a.name} {percent(a.sides.attack_success.rate)} / {percent(a.sides.over_refusal.rate)}"
        for _, a in shown
    )
    parts = [*_frame(axes, words), *_points(axes, shown)]
    label = esc(words("plot", points=told))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _scale(highest: float) -> float:
    return next((s for s in SCALES if highest <= s), 1.0)


def _frame(axes: _Axes, words: Wording) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for step in range(6):
        x, y = axes.x(axes.x_max * step / 5), axes.y(axes.y_max * step / 5)
        yield f'<path class="axis" d="M{x:.1f} {TOP}V{bottom}M{LEFT} {y:.1f}H{right}"/>'
        yield f'<text class="soft" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{_tick(axes.x_max * step / 5)}</text>'
        yield f'<text class="soft" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_tick(axes.y_max * step / 5)}</text>'
    middle = (LEFT + right) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{esc(words("over_refusal"))} →</text>'
    turned = f'transform="translate(13 {(TOP + bottom) / 2:.0f}) rotate(-90)"'
    yield f'<text {turned} text-anchor="middle">{esc(words("attack_success"))} →</text>'


def _tick(share: float) -> str:
    return f"{100 * share:g}%"


def _points(axes: _Axes, shown: Sequence[tuple[int, ArmFigures]]) -> Iterator[str]:
    places = [_place(axes, arm) for _, arm in shown]
    taken = list(places)
    for (index, arm), (x, y) in zip(shown, places, strict=True):
        over, success = arm.sides.over_refusal, arm.sides.attack_success
        paint = colour(index)
        yield (
            f'<path stroke="{paint}" stroke-width="1.6" opacity=".75" '
            f'd="M{axes.x(over.low):.1f} {y:.1f}H{axes.x(over.high):.1f}M{x:.1f} {axes.y(success.low):.1f}V{axes.y(success.high):.1f}"/>'
        )
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{paint}"/>'
        at = next((p for p in _around(x, y) if _is_free(p, taken)), (x + 13, y - 13))
        taken.append(at)
        yield f'<path stroke="{paint}" d="M{x:.1f} {y:.1f}L{at[0]:.1f} {at[1]:.1f}"/>'
        yield f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{RADIUS}" fill="{paint}"/>'
        yield (
            f'<text x="{at[0]:.1f}" y="{at[1] + 4:.1f}" text-anchor="middle" style="fill:#fff;font-weight:700">'
            f"{index + 1}</text>"
        )


def _place(axes: _Axes, arm: ArmFigures) -> tuple[float, float]:
    return axes.x(arm.sides.over_refusal.rate or 0.0), axes.y(arm.sides.attack_success.rate or 0.0)


def _around(x: float, y: float) -> Iterator[tuple[float, float]]:
    for dx, dy in AWAY:
        at = (x + dx, y + dy)
        if LEFT <= at[0] <= WIDTH - RADIUS and TOP <= at[1] <= HEIGHT - BOTTOM + RADIUS:
            yield at


def _is_free(at: tuple[float, float], taken: Sequence[tuple[float, float]]) -> bool:
    near = [p for p in taken if abs(p[0] - at[0]) < 2 * RADIUS and abs(p[1] - at[1]) < 2 * RADIUS]
    return not [p for p in near if (p[0] - at[0]) ** 2 + (p[1] - at[1]) ** 2 < (RADIUS + 5) ** 2]
