"""Figures as the page prints them.  What is not a figure (a field that evidence lacks) becomes a blank."""

from __future__ import annotations

import math
import re
from typing import Any

from hil.evidence.model import format_value

_SCALES = {"us": (1e3, "ms", 3), "ns": (1e6, "ms", 3), "bit/s": (1e6, "Mbit/s", 2), "ppm": (1.0, "ppm", 0)}
"""Units of the evidence that people read in another one: divisor, unit, decimals."""


def value(figure: Any, unit: Any = "") -> str:
    """Return six significant digits and the unit."""
    return format_value(figure, str(unit or "")) if isinstance(figure, int | float | str | bool) else ""


def quantity(figure: Any, unit: str, *, signed: bool = False) -> str:
    """Return a link's figure in the unit people read, with fixed decimals so that columns line up."""
    if not isinstance(figure, int | float) or not math.isfinite(figure):
        return "none"
    divisor, shown, decimals = _SCALES.get(unit, (1.0, unit, 3))
    return f"{figure / divisor:{'+' if signed else ''},.{decimals}f} {shown}"


def figure(figure: Any, unit: str, *, signed: bool = False) -> str:
    """Return a link's figure in a table: as :func:`quantity`, four digits in other units, a dash for none."""
    if figure is None or not math.isfinite(figure):
        return "–"
    if unit in _SCALES:
        return quantity(figure, unit, signed=signed)
    return f"{figure:{'+' if signed else ''},.4g} {unit}".strip()


def seconds(figure: Any) -> str:
    """Return e.g. ``0.41 s``, ``55.2 s``, ``3 min 07 s``."""
    if not isinstance(figure, int | float):
        return ""
    if figure < 10:
        return f"{figure:.2f} s"
    if figure < 120:
        return f"{figure:.1f} s"
    return f"{int(figure // 60)} min {int(figure % 60):02d} s"


def size(count: Any) -> str:
    """Return bytes in B, kB, MB or GB (powers of ten)."""
    if not isinstance(count, int | float):
        return ""
    for unit in ("B", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def brief(text: Any) -> str:
    """Return text with long digests cut to their first twelve digits; they are whole in result.json."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b", "\\1…", str(text or ""))


def css(text: object) -> str:
    """Return a word that can be an id or a class."""
    return re.sub(r"[^a-z0-9]+", "-", str(text).lower()).strip("-")
