"""A prediction as SVG: temperatures, power and battery of each spacecraft on one axis, eclipse behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hil.core.svg import Axis, Canvas, picture
from hil.onboard.twin.modules import SHUTDOWN_C, THROTTLE_C
from hil.orbit.times import Floats
from hil.twin.prediction import Prediction

WIDTH, LEFT, RIGHT = 1120, 70, 1090
PANEL, GAP = 90, 34
MOST_POINTS = 300
COLOURS = ("#1f6fb4", "#e08a00", "#2e8b57", "#7a1f4f", "#cf7fa9", "#6b7280", "#8a5a00", "#3b3b98")
STYLE = (
    "<style>svg.twin{font:12px sans-serif;background:#fff}.twin .dark{fill:#dfe3ea}.twin .frame{fill:none;"
    "stroke:#9aa0a6}.twin .h{font-weight:bold}.twin .end{text-anchor:end}.twin .mid{text-anchor:middle}"
    ".twin .limit{stroke:#c0392b;stroke-dasharray:4 3}.twin polyline{fill:none;stroke-width:1.4}"
    + "".join(
        f".twin .b{k}{{stroke:{colour}}}.twin text.b{k}{{stroke:none;fill:{colour}}}"
        for k, colour in enumerate(COLOURS)
    )
    + "</style>"
)


def draw(found: Prediction, title: str) -> str:
    """Return the picture."""
    canvas = Canvas()
    canvas.text("h", 14, 20, title)
    canvas.text("", 14, 36, about(found))
    axis = Axis(0.0, float(found.seconds[-1]), LEFT, RIGHT)
    y = 52.0
    for i, craft in enumerate(found.spacecraft):
        canvas.text("h", 14, y + 10, craft)
        for k, board in enumerate(found.boards[i]):
            canvas.text(f"b{k % len(COLOURS)}", LEFT + 60 + 70 * k, y + 10, board)
        y += 16
        boards = range(len(found.boards[i]))
        panels: tuple[tuple[str, list[Floats], Sequence[float]], ...] = (
            ("C", [found.junction_c[i, j] for j in boards], (THROTTLE_C, SHUTDOWN_C)),
            ("W", [found.power_w[i, j] for j in boards], ()),
            ("% battery", [100 * found.level[i]], ()),
        )
        for unit, series, limits in panels:
            _panel(canvas, axis, found, i, unit, series, limits, y)
            y += PANEL + 8
        y += GAP
    for tick in axis.ticks(8):
        canvas.text("mid", axis.at(tick), y - 16, f"{tick / 3600:.1f} h")
    return picture("twin", WIDTH, y, title, [canvas], head=STYLE)


def about(found: Prediction) -> str:
    """Return what the figures rest on: time factor and what is assumed."""
    words = ["prediction in mission time"]
    if found.time_factor != 1:
        words.append(f"a bench of this lab plays {found.time_factor:g} s of the mission per second")
    if found.assumed:
        words.append(f"assumed: {', '.join(found.assumed)}")
    return "; ".join(words)


def _panel(
    canvas: Canvas,
    axis: Axis,
    found: Prediction,
    craft: int,
    unit: str,
    series: list[Floats],
    limits: Sequence[float],
    top: float,
) -> None:
    high = max(float(np.nanmax(values)) for values in series)
    low = (
        min(0.0, *(float(np.nanmin(values)) for values in series))
        if unit != "C"
        else min(map(float, map(np.nanmin, series)))
    )
    shown = [limit for limit in limits if limit < high + 15]
    high = max([high, *shown, low + 1])
    scale = Axis(low, high, top + PANEL - 6, top + 6)
    dark = np.flatnonzero(np.diff(np.concatenate([[0], (found.sunlit[craft] < 0.5).astype(np.int8), [0]])))
    for begin, end in dark.reshape(-1, 2):
        x = axis.at(float(found.seconds[begin]))
        canvas.rect("dark", x, top, max(0.5, axis.at(float(found.seconds[end - 1])) - x), PANEL, tip="eclipse")
    canvas.rect("frame", LEFT, top, RIGHT - LEFT, PANEL)
    for value in (low, high):
        canvas.text("end", LEFT - 6, scale.at(value) + 4, f"{value:.0f}")
    canvas.text("end", LEFT - 6, top + PANEL / 2 + 4, unit)
    for limit in shown:
        canvas.line("limit", LEFT, scale.at(limit), RIGHT, scale.at(limit), tip=f"{limit:g} C")
    every = max(1, len(found.seconds) // MOST_POINTS)
    for k, values in enumerate(series):
        points = zip(found.seconds[::every], values[::every], strict=True)
        canvas.polyline(f"b{k % len(COLOURS)}", ((axis.at(float(s)), scale.at(float(v))) for s, v in points))
