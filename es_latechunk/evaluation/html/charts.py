"""Charts as inline SVG: points with intervals over categories, and points over a cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from es_latechunk.evaluation.html.page import escaped

WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 24, 40
COLOURS = 8
MOST_TICKS = 6


@dataclass(frozen=True, slots=True)
class Point:
    """A value with its interval at a place on the x axis, in the colour of a series; `label` is shown on hovering."""

    series: int
    x: float
    value: float
    low: float
    high: float
    label: str


def colour(series: int) -> str:
    """Return the style of a series' colour."""
    return f"var(--series-{series % COLOURS})"


def legend(names: Sequence[str]) -> str:
    """Return which colour belongs to which series."""
    items = "".join(
        f'<span><i class="swatch" style="background:{colour(number)}"></i> {escaped(name)}</span>'
        for number, name in enumerate(names)
    )
    return f'<p class="legend quiet">{items}</p>'


def category_chart(
    title: str,
    categories: Sequence[str],
    points: Sequence[Point],
    *,
    y_name: str,
    y_range: tuple[float, float],
) -> str:
    """Draw each point above its category (`x` counts them from 0); the series of a category stand side by side."""
    used = sorted({point.series for point in points})
    step = (WIDTH - LEFT - RIGHT) / max(len(categories), 1)

    def place(point: Point) -> float:
        shift = (used.index(point.series) + 1) / (len(used) + 1)
        return LEFT + step * (point.x + 0.15 + 0.7 * shift)

    names = [(LEFT + step * (number + 0.5), name) for number, name in enumerate(categories)]
    placed = [(place(point), point) for point in points]
    return _chart(title, placed, names, y_name, "tokens per chunk", y_range)


def cost_chart(title: str, points: Sequence[Point], x_name: str, y_name: str) -> str:
    """Draw each point above its cost, `x`."""
    highest = max((point.x for point in points), default=0.0) or 1.0
    width = WIDTH - LEFT - RIGHT - 16
    names = [(LEFT + 8 + width * tick / highest, _short(tick)) for tick in _ticks(0.0, highest)]
    placed = [(LEFT + 8 + width * point.x / highest, point) for point in points]
    return _chart(title, placed, names, y_name, x_name, value_range(points))


def value_range(points: Sequence[Point]) -> tuple[float, float]:
    """Return the lowest and the highest end of the intervals, so that charts beside each other can share them."""
    return min((point.low for point in points), default=0.0), max(
        (point.high for point in points), default=1.0
    )


def _chart(
    title: str,
    placed: Sequence[tuple[float, Point]],
    names: Sequence[tuple[float, str]],
    y_name: str,
    x_name: str,
    y_range: tuple[float, float],
) -> str:
    low, high = y_range
    margin = (high - low) * 0.05 or 0.05
    low, high = max(low - margin, 0.0), high + margin

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [f'<text x="{LEFT}" y="12">{escaped(title)}: {escaped(y_name)}</text>']
    for tick in _ticks(low, high):
        parts.append(
            f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    for x, name in names:
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 22}" text-anchor="middle">{escaped(name)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escaped(x_name)}</text>')
    for x, point in placed:
        tone = colour(point.series)
        parts.append(
            f'<g style="stroke:{tone};fill:{tone}"><title>{escaped(point.label)}</title>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(point.low):.1f}" y2="{y(point.high):.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{y(point.value):.1f}" r="3.5"/></g>'
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(title)}">{"".join(parts)}</svg>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers from low to high: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / MOST_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= raw)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _short(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{unit}"
    return f"{number:g}"
