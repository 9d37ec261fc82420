"""A chart over a span, as SVG: one lane per pair, coloured by what its link does, and one per eclipsed spacecraft."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from hil.core.svg import Axis, Canvas
from hil.orbit.contact_plan import ContactPlan
from hil.orbit.elements import Constellation
from hil.orbit.geometry import states
from hil.orbit.phases import LinkPlan, Phase
from hil.orbit.sun import sun_km, sunlit_fraction
from hil.orbit.times import iso

_LANE = 17
_LEFT = 150
_DRAWN = tuple(phase for phase in Phase if phase is not Phase.BLOCKED)
PHASE_COLOURS = {
    Phase.IDLE: "#fbfbf9",
    Phase.SLEW: "#cdbb6a",
    Phase.ACQUIRE: "#e08a00",
    Phase.TRACK: "#1f6fb4",
    Phase.FADE: "#a9d3ee",
    Phase.LOST: "#7a1f4f",
    Phase.REACQUIRE: "#cf7fa9",
}
"""Those of the light report, told apart with any colour vision; a test holds the two together."""
IDLE_EDGE = "#9aa0a6"
RULES = "".join(f".sky .p-{phase}{{fill:{colour}}}" for phase, colour in PHASE_COLOURS.items()) + (
    f".sky .p-idle{{stroke:{IDLE_EDGE};stroke-dasharray:3 2}}"
)
"""The chart's part of a picture's style sheet."""
MOST_LANES = 120
"""Pairs beyond it are counted, not drawn."""

_Bar: TypeAlias = tuple[float, float, str, str]
"""From, to (seconds from the plan's start), class, what the pointer shows."""


def eclipses(found: Constellation, plan: ContactPlan, step_s: float = 10.0) -> dict[str, list[tuple[float, float]]]:
    """Per spacecraft, the intervals (seconds from the plan's start) in which it sees less than the whole Sun.

    Edges are those of samples ``step_s`` apart.
    """
    seconds = np.arange(0.0, plan.duration_s + step_s, step_s)
    position = states(found, plan.start, seconds).position_km
    dark = sunlit_fraction(position, sun_km(plan.start, seconds)) < 1
    found_in: dict[str, list[tuple[float, float]]] = {}
    for name, row in zip(found.spacecraft, dark, strict=True):
        steps = np.diff(np.concatenate([[0], row.astype(np.int8), [0]]))
        first, beyond = np.nonzero(steps == 1)[0], np.nonzero(steps == -1)[0]
        found_in[name] = [
            (float(seconds[a]), min(float(seconds[b - 1]), plan.duration_s)) for a, b in zip(first, beyond, strict=True)
        ]
    return found_in


def draw_chart(
    canvas: Canvas, found: Constellation, plan: ContactPlan, links: LinkPlan | None, *, top: int, width: int
) -> int:
    """Draw the lanes from height ``top`` on; return how much height they take.

    ``links`` has a link ``a--b`` for every pair of the contact plan (:func:`hil.orbit.link_phases.every_candidate`);
    without it bars only say that a pair is in sight.
    """
    axis = Axis(0.0, plan.duration_s, _LEFT, width - 30)
    pairs = sorted({(c.kind, c.a, c.b) for c in plan.contacts})
    drawn = pairs[:MOST_LANES]
    lanes: list[tuple[str, list[_Bar]]] = []
    for _, a, b in drawn:
        bars = _in_sight(plan, a, b) if links is None else _phases(plan, links, a, b)
        lanes.append((f"{a} – {b}", bars))
    shadow = eclipses(found, plan) if len(found.spacecraft) <= MOST_LANES else {}
    for name, dark in shadow.items():
        if dark:
            lanes.append((f"{name} eclipse", [(a, b, "ecl", f"{name} out of full sunlight") for a, b in dark]))
    left_out = len(pairs) - len(drawn)
    heading = f"Links from {iso(plan.start)}, {plan.duration_s / 3600:g} h"
    heading += f" ({left_out} more pairs not drawn)" if left_out else ""
    canvas.text("h", 24, top + 20, heading)
    if links is not None:
        for k, phase in enumerate(_DRAWN):
            canvas.rect(f"p-{phase}", _LEFT + 120 * k, top + 31, 14, _LANE - 4)
            canvas.text("m", _LEFT + 120 * k + 20, top + 42, phase)
    first_y = y = top + 56
    for label, bars in lanes:
        canvas.rect("lane", _LEFT, y, axis.right - _LEFT, _LANE - 4)
        canvas.text("end", _LEFT - 8, y + 11, label)
        for first, last, style, tip in bars:
            x = axis.at(first)
            canvas.rect(style, x, y, max(axis.at(last) - x, 0.8), _LANE - 4, tip=tip)
        y += _LANE
    for k in range(7):
        second = plan.duration_s * k / 6
        x = axis.at(second)
        canvas.line("grid", x, first_y - 4, x, y + 2)
        canvas.text("m mid", x, y + 16, iso(plan.time(second))[11:16])
    return y + 34 - top


def _in_sight(plan: ContactPlan, a: str, b: str) -> list[_Bar]:
    return [
        (
            c.start_s,
            c.end_s,
            "seen",
            f"{a} – {b} in sight: {iso(plan.time(c.start_s))} to {iso(plan.time(c.end_s))}, "
            f"{c.min_delay_us / 1000:.3f} to {c.max_delay_us / 1000:.3f} ms",
        )
        for c in plan.between(a, b)
    ]


def _phases(plan: ContactPlan, links: LinkPlan, a: str, b: str) -> list[_Bar]:
    return [
        (
            i.start_s,
            i.end_s,
            f"p-{i.phase}",
            f"{a} – {b} {i.phase}: {iso(plan.time(i.start_s))} to {iso(plan.time(i.end_s))}"
            + (f" ({i.why})" if i.why else ""),
        )
        for i in links.links[f"{a}--{b}"]
        if i.phase is not Phase.BLOCKED
    ]
