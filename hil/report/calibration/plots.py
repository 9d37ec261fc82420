"""Small plots as inline SVG, without dependencies: colours are classes, so that the page's style decides them.

Every plot has a title for those who cannot see it, and tells by shape as well as by colour what is outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 520.0
_ROW = 22.0
_TOP, _AXIS = 8.0, 24.0
_LABEL, _TEXT = 162.0, 128.0
_CHARACTER = 6.1
"""Width of a character at the label size."""


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
    label: str = ""


@dataclass(frozen=True)
class Row:
    """One measured figure and the bounds it must keep; ``measured`` None: nothing was measured."""

    label: str
    low: float
    high: float
    measured: float | None
    ok: bool
    text: str = ""
    commanded: float | None = None
    minor: float | None = None  # a second, hollow mark, such as the median beside the 99th percentile


def ecdf(
    curves: Sequence[Curve], *, bands: Sequence[Band] = (), unit: str, title: str, width: float = 344.0
) -> str:
    """Cumulative distributions over a common axis; what lies beyond its ends is drawn at the ends.

    The axis shows a little more than the bands, or the middle 98 % of the values where there are no bands.
    """
    height, left, right, top = 168.0, 34.0, 10.0, 18.0
    bottom = height - 32.0
    values = [value for curve in curves for value in curve.values if math.isfinite(value)]
    edges = [edge for band in bands for edge in (band.low, band.high)] or _middle(values) or [0.0, 1.0]
    low, high = min(edges), max(edges)
    margin = 0.15 * (high - low) or 1.0
    axis = _Axis(low - margin, high + margin, left, width - right)
    parts = []
    for band in bands:
        x0, x1 = axis.at(band.low), axis.at(band.high)
        parts.append(
            f'<rect class="band-{band.css}" x="{x0:.1f}" y="{top}" width="{x1 - x0:.1f}" '
            f'height="{bottom - top:.1f}"/>'
        )
        if band.label:
            parts.append(_text(x1 - 3, top - 5, band.label, "soft end"))
    for share in (0.0, 0.5, 0.95):
        y = bottom - share * (bottom - top)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 5, y + 3.5, f"{share:.0%}", "soft end"))
    for number, curve in enumerate(curves):
        if points := _steps(curve.values, axis, top, bottom):
            parts.append(f'<polyline class="curve-{number % 2}" points="{points}"/>')
    parts += _ticks(axis, bottom, height - 6, unit)
    parts += _legend([curve.label for curve in curves], left, height)
    return _svg("ecdf", width, height, title, parts)


def tolerance_rows(
    rows: Sequence[Row], *, unit: str, title: str, axis: tuple[float, float] | None = None, decimals: int = 1
) -> str:
    """One line per row over a common axis: the allowed band, what was commanded, what was measured."""
    finite = [v for row in rows for v in (row.low, row.high) if math.isfinite(v)] or [0.0, 1.0]
    low, high = axis or (min(finite), max(finite))
    margin = 0.12 * (high - low) or 1.0
    scale = _Axis(low - margin, high + margin, _LABEL, WIDTH - _TEXT)
    height = _TOP + _ROW * len(rows) + _AXIS
    parts = [part for n, row in enumerate(rows) for part in _row(row, scale, _TOP + _ROW * n)]
    parts += _ticks(scale, height - _AXIS, height - 6, unit, decimals=decimals)
    return _svg("rows", WIDTH, height, title, parts)


def interval_rows(rows: Sequence[Row], *, title: str) -> str:
    """One line per row, each with a scale of its own from 0: for figures of different sizes."""
    height = _TOP + _ROW * len(rows) + 4
    parts: list[str] = []
    for number, row in enumerate(rows):
        values = [v for v in (row.high, row.measured, row.commanded) if v is not None and math.isfinite(v)]
        scale = _Axis(0.0, 1.15 * max([*values, 0.0]) or 1.0, _LABEL, WIDTH - _TEXT)
        parts += _row(row, scale, _TOP + _ROW * number)
    return _svg("rows", WIDTH, height, title, parts)


class _Axis:
    def __init__(self, low: float, high: float, left: float, right: float) -> None:
        self.low, self.high, self.left, self.right = low, high, left, right

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.left + min(1.0, max(0.0, share)) * (self.right - self.left)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ticks(self) -> list[float]:
        """About four round numbers inside."""
        rough = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step) + 1)]


def _row(row: Row, scale: _Axis, top: float) -> list[str]:
    middle = top + _ROW / 2
    x0, x1 = scale.at(row.low), scale.at(row.high)
    shown = (
        row.label
        if len(row.label) * _CHARACTER < _LABEL - 8
        else row.label[: int(_LABEL / _CHARACTER) - 2] + "…"
    )
    parts = [
        f'<text class="label" x="0" y="{middle + 4:.1f}">{escape(shown)}<title>{escape(row.label)}</title></text>',
        f'<line class="grid" x1="{scale.left}" x2="{scale.right}" y1="{middle:.1f}" y2="{middle:.1f}"/>',
        f'<rect class="band-wide" x="{x0:.1f}" y="{top + 4:.1f}" width="{max(1.0, x1 - x0):.1f}" '
        f'height="{_ROW - 8:.1f}" rx="2"/>',
    ]
    if row.commanded is not None:
        x = scale.at(row.commanded)
        parts.append(
            f'<line class="commanded" x1="{x:.1f}" x2="{x:.1f}" y1="{top + 4:.1f}" y2="{top + _ROW - 4:.1f}"/>'
        )
    if row.minor is not None:
        parts.append(f'<circle class="minor" cx="{scale.at(row.minor):.1f}" cy="{middle:.1f}" r="3.5"/>')
    css = "good" if row.ok else "bad"
    if row.measured is not None:
        x = scale.at(row.measured)
        tip = f"<title>{escape(f'{row.label}: {row.text}')}</title>"
        if not scale.holds(row.measured):  # beyond the axis: an arrow that points there
            tilt = 5 if row.measured > scale.high else -5
            parts.append(
                f'<path class="{css}" d="M{x:.1f} {middle - 5:.1f} l{tilt} 5 l{-tilt} 5 z">{tip}</path>'
            )
        elif row.ok:
            parts.append(f'<circle class="good" cx="{x:.1f}" cy="{middle:.1f}" r="4">{tip}</circle>')
        else:
            parts.append(
                f'<path class="bad" d="M{x - 4.5:.1f} {middle - 4.5:.1f} l9 9 m0 -9 l-9 9">{tip}</path>'
            )
    parts.append(_text(WIDTH, middle + 4, row.text or "nothing measured", f"{css} end"))
    return parts


def _ticks(axis: _Axis, y: float, text_y: float, unit: str, *, decimals: int = 1) -> list[str]:
    parts = [f'<line class="axis" x1="{axis.left}" x2="{axis.right}" y1="{y:.1f}" y2="{y:.1f}"/>']
    ticks = axis.ticks()
    for number, tick in enumerate(ticks):
        x = axis.at(tick)
        label = f"{round(tick, decimals) + 0.0:g}" + (f" {unit}" if number == len(ticks) - 1 else "")
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + 4:.1f}"/>')
        parts.append(_text(x, min(text_y, y + 15), label, "soft mid"))
    return parts


def _legend(labels: Sequence[str], left: float, height: float) -> list[str]:
    parts, x = [], left
    for number, label in enumerate(labels):
        y = height - 3
        parts.append(
            f'<line class="curve-{number % 2}" x1="{x:.1f}" x2="{x + 18:.1f}" y1="{y - 4:.1f}" y2="{y - 4:.1f}"/>'
        )
        parts.append(_text(x + 23, y, label, "soft"))
        x += 34 + _CHARACTER * len(label)
    return parts


def _steps(values: Sequence[float], axis: _Axis, top: float, bottom: float) -> str:
    finite = [value for value in values if math.isfinite(value)]
    points: list[str] = []
    before = bottom
    for number, value in enumerate(finite, 1):
        x, y = axis.at(value), bottom - number / len(finite) * (bottom - top)
        points += (f"{x:.1f},{before:.1f}", f"{x:.1f},{y:.1f}")
        before = y
    return " ".join(points)


def _middle(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    if not ordered:
        return []
    cut = len(ordered) // 100
    return [ordered[cut], ordered[-1 - cut]]


def _text(x: float, y: float, text: str, css: str) -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _svg(css: str, width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="{css}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )
