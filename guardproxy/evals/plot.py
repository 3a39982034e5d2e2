"""Both sides in one plot: each arm a point with its intervals, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from guardproxy.evals.figures import ArmFigures
from guardproxy.evals.markup import colour, esc
from guardproxy.evals.wording import Wording, percent

WIDTH, HEIGHT = 400, 330
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 14, 46
SCALES = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
RADIUS = 8
RINGS = (18, 27, 36, 50, 66, 84)
"""How far from its point an arm's number may stand, the nearest that is free first, in units of the plot."""
DIRECTIONS = 12


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
    """All bars first, so that none is drawn over another arm's number."""
    for index, arm in shown:
        over, success = arm.sides.over_refusal, arm.sides.attack_success
        (x, y), paint = _place(axes, arm), colour(index)
        across = f"M{axes.x(over.low):.1f} {y:.1f}H{axes.x(over.high):.1f}"
        up = f"M{x:.1f} {axes.y(success.low):.1f}V{axes.y(success.high):.1f}"
        yield f'<path stroke="{paint}" stroke-width="1.6" opacity=".75" d="{across}{up}"/>'
    taken = [_place(axes, arm) for _, arm in shown]
    for index, arm in shown:
        (x, y), paint = _place(axes, arm), colour(index)
        at = next((p for p in _around(x, y) if _is_free(p, taken)), (x, y))
        taken.append(at)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{paint}"/>'
        yield f'<path stroke="{paint}" d="M{x:.1f} {y:.1f}L{at[0]:.1f} {at[1]:.1f}"/>'
        yield f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{RADIUS}" fill="{paint}"/>'
        white = 'text-anchor="middle" style="fill:#fff;font-weight:700"'
        yield f'<text x="{at[0]:.1f}" y="{at[1] + 4:.1f}" {white}>{index + 1}</text>'


def _place(axes: _Axes, arm: ArmFigures) -> tuple[float, float]:
    return axes.x(arm.sides.over_refusal.rate or 0.0), axes.y(arm.sides.attack_success.rate or 0.0)


def _around(x: float, y: float) -> Iterator[tuple[float, float]]:
    for ring in RINGS:
        for step in range(DIRECTIONS):
            angle = math.tau * (step + 1.5) / DIRECTIONS
            at = (x + ring * math.cos(angle), y - ring * math.sin(angle))
            if LEFT < at[0] < WIDTH - RADIUS and RADIUS < at[1] < HEIGHT - BOTTOM:
                yield at


def _is_free(at: tuple[float, float], taken: Sequence[tuple[float, float]]) -> bool:
    return all(math.dist(at, p) > 2 * RADIUS - 1 for p in taken)
