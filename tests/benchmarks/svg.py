"""Curves as SVG: nothing but text, lines and points, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 40, 52
INK, LINES = "#777", ("#2a7fd4", "#d4702a", "#2a9d5c")
LABELS_MOST = 6
ROOM = 14  # between two numbers, one above the other


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over a setting's steps, which stand at equal distances; all values are positive."""

    title: str
    x_label: str
    y_label: str
    steps: Sequence[str]
    lines: Mapping[str, Sequence[float]]  # by name, which is written where there are several


def draw(plot: Plot) -> str:
    """The picture's text; the y axis begins at 0."""
    top = _round_up(max(max(values) for values in plot.lines.values()))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
            f' font-family="sans-serif" font-size="12" fill="{INK}">',
            _text(WIDTH / 2, 20, plot.title, size=14),
            _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, plot.x_label),
            _text(16, HEIGHT / 2, plot.y_label, turned=True),
            *_grid(top),
            *_steps(plot.steps),
            *(part for number in range(len(plot.lines)) for part in _line(plot, number, top)),
            "</svg>",
            "",
        ]
    )


def _round_up(value: float) -> float:
    """The next 1, 2, 3, 5 or 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 3, 5, 10) if step * power >= value)


def _x(number: int, count: int) -> float:
    room = WIDTH - LEFT - RIGHT
    return LEFT + room * (number + 0.5) / count


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top


def _grid(top: float) -> Iterator[str]:
    for number in range(LABELS_MOST):
        value = top * number / (LABELS_MOST - 1)
        y = _y(value, top)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{INK}" stroke-opacity="0.3"/>'
        yield _text(LEFT - 8, y + 4, f"{value:g}", anchor="end")


def _steps(steps: Sequence[str]) -> Iterator[str]:
    for number, step in enumerate(steps):
        yield _text(_x(number, len(steps)), HEIGHT - BOTTOM + 18, step)


def _line(plot: Plot, number: int, top: float) -> Iterator[str]:
    (name, values), *later = list(plot.lines.items())[number:]
    colour = LINES[number]
    places = [(_x(step, len(values)), _y(value, top), value) for step, value in enumerate(values)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for step, (x, y, value) in enumerate(places):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
        if all(abs(y - _y(others[step], top)) >= ROOM for _, others in later):  # or it would stand on another's
            yield _text(x, y - 9, f"{value:.0f}")
    if len(plot.lines) > 1:
        yield _text(LEFT + 8, TOP + 16 * (number + 1), name, anchor="start", colour=colour)


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "middle", turned: bool = False, colour: str = INK
) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}{turn}>{escape(text)}</text>"
