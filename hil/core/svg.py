"""Pictures as SVG text: an axis, and a canvas of shapes whose classes let the page's style decide the colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

CHARACTER = 6.3
"""Width of a character at the size of labels; text is drawn only where it fits."""


@dataclass(frozen=True)
class Axis:
    """A horizontal scale: ``low`` is drawn at x ``left``, ``high`` at ``right``."""

    low: float
    high: float
    left: float
    right: float

    def at(self, value: float) -> float:
        """Return the x of a value; one beyond an end is drawn at that end."""
        share = (value - self.low) / (self.high - self.low)
        return self.left + min(1.0, max(0.0, share)) * (self.right - self.left)

    def holds(self, value: float) -> bool:
        """Return whether a value lies between the ends."""
        return self.low <= value <= self.high

    def ticks(self, most: int) -> list[float]:
        """Return the round values inside, about ``most`` of them."""
        step = round_step(self.high - self.low, most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def round_step(span: float, most: int) -> float:
    """Return the smallest 1, 2 or 5 times a power of ten that divides ``span`` into at most ``most`` parts."""
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * most >= span * (1 - 1e-9))
    return float(f"{step:.6g}")


class Canvas:
    """Shapes in the order in which they are drawn; ``tip`` is what the pointer shows."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def __str__(self) -> str:
        return "".join(self.parts)

    def rect(
        self, css: str, x: float, y: float, width: float, height: float, *, radius: float = 0, tip: str = ""
    ) -> None:
        """Draw a rectangle from its upper left corner."""
        rounded = f' rx="{radius:g}"' if radius else ""
        size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self._shape("rect", css, size + rounded, tip)

    def line(self, css: str, x1: float, y1: float, x2: float, y2: float, *, tip: str = "") -> None:
        """Draw a line between two points."""
        self._shape("line", css, f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"', tip)

    def circle(self, css: str, x: float, y: float, radius: float, *, tip: str = "") -> None:
        """Draw a circle around a point."""
        self._shape("circle", css, f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"', tip)

    def path(self, css: str, x: float, y: float, rest: str, *, tip: str = "") -> None:
        """Draw a path that begins at a point and goes on with ``rest``."""
        self._shape("path", css, f'd="M{x:.1f} {y:.1f} {rest}"', tip)

    def diamond(self, css: str, x: float, y: float, half: float, *, tip: str = "") -> None:
        """Draw a square that stands on its corner, around a point."""
        self.path(css, x, y - half, f"l{half} {half} l{-half} {half} l{-half} {-half} z", tip=tip)

    def polyline(self, css: str, points: Iterable[tuple[float, float]]) -> None:
        """Draw a line through points; nothing where there are none."""
        if text := points_text(points):
            self._shape("polyline", css, f'points="{text}"', "")

    def text(self, css: str, x: float, y: float, text: str, *, tip: str = "") -> None:
        """Write text whose baseline begins at a point (or ends there: that is for the style to say)."""
        self._shape("text", css, f'x="{x:.1f}" y="{y:.1f}"', tip, escape(text))

    @contextmanager
    def group(self, css: str, *, tip: str = "") -> Iterator[None]:
        """Draw what the block draws as one group."""
        self.parts.append(f'<g class="{css}">{title_element(tip)}')
        yield
        self.parts.append("</g>")

    def _shape(self, kind: str, css: str, attributes: str, tip: str, content: str = "") -> None:
        named = f'<{kind} class="{css}" {attributes}' if css else f"<{kind} {attributes}"
        inner = content + title_element(tip)
        self.parts.append(f"{named}>{inner}</{kind}>" if inner else f"{named}/>")


def points_text(points: Iterable[tuple[float, float]]) -> str:
    """Return points as a ``points`` attribute has them."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def picture(css: str, width: float, height: float, title: str, parts: Sequence[object], *, head: str = "") -> str:
    """Return the ``<svg>`` element of parts, those behind first, with a title for those who cannot see it."""
    return (
        f'<svg class="{css}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" '
        f'aria-label="{escape(title, quote=True)}">{head}{"".join(map(str, parts))}</svg>'
    )


def title_element(text: str) -> str:
    """Return a ``<title>``, or nothing for no text."""
    return f"<title>{escape(text)}</title>" if text else ""
