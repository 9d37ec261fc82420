"""Small plots as inline SVG, without dependencies: colours are classes, so that the page's style decides them.

Every plot has a title for those who cannot see it, and tells by shape as well as by colour what is outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hil.core.svg import CHARACTER, Axis, Canvas, picture, title_element

WIDTH = 520.0
_ROW = 22.0
_TOP, _AXIS = 8.0, 24.0
_LABEL, _TEXT = 162.0, 128.0


@dataclass(frozen=True)
class Curve:
    """One cumulative distribution: values in ascending order, taken as equally likely."""

    label: str
    values: Sequence[float]


@dataclass(frozen=True)
class Band:
    """A stretch of the horizontal axis that is allowed; ``css`` tells bands apart (``wide``, ``narrow``)."""

    low: float
    high: float
    css: str = "wide"


@dataclass(frozen=True)
class FigureRow:
    """One measured figure and the bounds it must keep; ``measured`` None: nothing was measured."""

    label: str
    low: float
    high: float
    measured: float | None
    ok: bool
    text: str = ""
    commanded: float | None = None
    minor: float | None = None  # a second, hollow mark, such as the median beside the 99th percentile


def ecdf(curves: Sequence[Curve], *, bands: Sequence[Band] = (), unit: str, title: str, width: float = 344.0) -> str:
    """Return cumulative distributions; the axis is a little longer than the bands, and ends hold what lies beyond."""
    height, left, right, top = 168.0, 34.0, 10.0, 18.0
    bottom = height - 32.0
    edges = [edge for band in bands for edge in (band.low, band.high)] or [0.0, 1.0]
    axis = _axis(min(edges), max(edges), 0.15, left, width - right)
    canvas = Canvas()
    for band in bands:
        x0, x1 = axis.at(band.low), axis.at(band.high)
        canvas.rect(f"band-{band.css}", x0, top, x1 - x0, bottom - top)
    for share in (0.0, 0.5, 0.95):
        y = bottom - share * (bottom - top)
        canvas.line("grid", left, y, width - right, y)
        canvas.text("soft end", left - 5, y + 3.5, f"{share:.0%}")
    for number, curve in enumerate(curves):
        canvas.polyline(f"curve-{number % 2}", _steps(curve.values, axis, top, bottom))
    _ticks(canvas, axis, bottom, height - 6, unit)
    _legend(canvas, [curve.label for curve in curves], left, height - 3)
    return picture("ecdf", width, height, title, [canvas], head=title_element(title))


def figure_rows(
    rows: Sequence[FigureRow], *, unit: str = "", title: str, axis: tuple[float, float] | None = None
) -> str:
    """Return one line per row: the allowed band, what was commanded, what was measured.

    All over a common axis in ``unit``; without a unit each has a scale of its own from 0, for figures of different
    sizes.
    """
    finite = [v for row in rows for v in (row.low, row.high) if math.isfinite(v)] or [0.0, 1.0]
    low, high = axis or (min(finite), max(finite))
    common = _axis(low, high, 0.12, _LABEL, WIDTH - _TEXT)
    height = _TOP + _ROW * len(rows) + (_AXIS if unit else 4)
    canvas = Canvas()
    for number, row in enumerate(rows):
        values = [v for v in (row.high, row.measured, row.commanded) if v is not None and math.isfinite(v)]
        own = Axis(0.0, 1.15 * max([*values, 0.0]) or 1.0, _LABEL, WIDTH - _TEXT)
        _row(canvas, row, common if unit else own, _TOP + _ROW * number)
    if unit:
        _ticks(canvas, common, height - _AXIS, height - 6, unit)
    return picture("rows", WIDTH, height, title, [canvas], head=title_element(title))


def _axis(low: float, high: float, margin: float, left: float, right: float) -> Axis:
    """Return an axis with a margin (a share of its span) at both ends."""
    margin = margin * (high - low) or 1.0
    return Axis(low - margin, high + margin, left, right)


def _row(canvas: Canvas, row: FigureRow, scale: Axis, top: float) -> None:
    middle, css = top + _ROW / 2, "good" if row.ok else "bad"
    fits = len(row.label) * CHARACTER < _LABEL - 8
    shown = row.label if fits else row.label[: int(_LABEL / CHARACTER) - 2] + "…"
    canvas.text("label", 0, middle + 4, shown, tip=row.label)
    canvas.line("grid", scale.left, middle, scale.right, middle)
    x0, x1 = scale.at(row.low), scale.at(row.high)
    canvas.rect("band-wide", x0, top + 4, max(1.0, x1 - x0), _ROW - 8, radius=2)
    if row.commanded is not None:
        x = scale.at(row.commanded)
        canvas.line("commanded", x, top + 4, x, top + _ROW - 4)
    if row.minor is not None:
        canvas.circle("minor", scale.at(row.minor), middle, 3.5)
    if row.measured is not None:
        x, tip = scale.at(row.measured), f"{row.label}: {row.text}"
        if not scale.holds(row.measured):  # beyond the axis: an arrow that points there
            tilt = 5 if row.measured > scale.high else -5
            canvas.path(css, x, middle - 5, f"l{tilt} 5 l{-tilt} 5 z", tip=tip)
        elif row.ok:
            canvas.circle("good", x, middle, 4, tip=tip)
        else:
            canvas.path("bad", x - 4.5, middle - 4.5, "l9 9 m0 -9 l-9 9", tip=tip)
    canvas.text(f"{css} end", WIDTH, middle + 4, row.text or "nothing measured")


def _ticks(canvas: Canvas, axis: Axis, y: float, text_y: float, unit: str) -> None:
    canvas.line("axis", axis.left, y, axis.right, y)
    ticks = axis.ticks(4)
    for tick in ticks:
        label = f"{round(tick, 1) + 0.0:g}" + (f" {unit}" if tick == ticks[-1] else "")
        canvas.line("axis", axis.at(tick), y, axis.at(tick), y + 4)
        canvas.text("soft mid", axis.at(tick), min(text_y, y + 15), label)


def _legend(canvas: Canvas, labels: Sequence[str], x: float, y: float) -> None:
    for number, label in enumerate(labels):
        canvas.line(f"curve-{number % 2}", x, y - 4, x + 18, y - 4)
        canvas.text("soft", x + 23, y, label)
        x += 34 + CHARACTER * len(label)


def _steps(values: Sequence[float], axis: Axis, top: float, bottom: float) -> list[tuple[float, float]]:
    finite = [value for value in values if math.isfinite(value)]
    points: list[tuple[float, float]] = []
    before = bottom
    for number, value in enumerate(finite, 1):
        y = bottom - number / len(finite) * (bottom - top)
        points += ((axis.at(value), before), (axis.at(value), y))
        before = y
    return points
