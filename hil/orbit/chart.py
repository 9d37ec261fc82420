"""A chart of contacts over a span: one lane per pair and per spacecraft's eclipses, as SVG."""

from __future__ import annotations

from html import escape

import numpy as np

from hil.orbit.contacts import ContactPlan
from hil.orbit.elements import Constellation
from hil.orbit.geometry import states
from hil.orbit.sunlight import sun_km, sunlit_fraction
from hil.orbit.times import iso

_LANE = 17
_LEFT = 150
MOST_LANES = 120
"""Pairs beyond it are counted, not drawn."""


def eclipses(
    found: Constellation, plan: ContactPlan, step_s: float = 10.0
) -> dict[str, list[tuple[float, float]]]:
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
            (float(seconds[a]), min(float(seconds[b - 1]), plan.duration_s))
            for a, b in zip(first, beyond, strict=True)
        ]
    return found_in


def chart(found: Constellation, plan: ContactPlan, *, top: int, width: int) -> tuple[str, int]:
    """SVG of the lanes from height ``top`` on, and how much height they take."""
    per_pixel = (width - _LEFT - 30) / plan.duration_s
    pairs = sorted({(c.kind, c.a, c.b) for c in plan.contacts})
    drawn = pairs[:MOST_LANES]
    lanes: list[tuple[str, str, list[tuple[float, float, str]]]] = []
    spans: dict[tuple[str, str], list[tuple[float, float, str]]] = {}
    for c in plan.contacts:
        tip = (
            f"{c.a} – {c.b}: {iso(plan.time(c.start_s))} to {iso(plan.time(c.end_s))}, "
            f"{c.min_delay_us / 1000:.3f} to {c.max_delay_us / 1000:.3f} ms"
        )
        spans.setdefault((c.a, c.b), []).append((c.start_s, c.end_s, tip))
    for kind, a, b in drawn:
        lanes.append((f"{a} – {b}", "bar g" if kind == "ground" else "bar", spans[a, b]))
    shadow = eclipses(found, plan) if len(found.spacecraft) <= MOST_LANES else {}
    for name, dark in shadow.items():
        if dark:
            lanes.append(
                (f"{name} eclipse", "ecl", [(a, b, f"{name} out of full sunlight") for a, b in dark])
            )
    left_out = len(pairs) - len(drawn)
    heading = f"Contacts from {iso(plan.start)}, {plan.duration_s / 3600:g} h"
    heading += f" ({left_out} more pairs not drawn)" if left_out else ""
    out = [f'<text class="h" x="24" y="{top + 20}">{escape(heading)}</text>']
    y = top + 36
    for label, style, bars in lanes:
        out.append(
            f'<rect class="lane" x="{_LEFT}" y="{y}" width="{width - _LEFT - 30}" height="{_LANE - 4}"/>'
        )
        out.append(f'<text x="{_LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(label)}</text>')
        for first, last, tip in bars:
            wide = max((last - first) * per_pixel, 0.8)
            out.append(
                f'<rect class="{style}" x="{_LEFT + first * per_pixel:.2f}" y="{y}" width="{wide:.2f}" '
                f'height="{_LANE - 4}"><title>{escape(tip)}</title></rect>'
            )
        y += _LANE
    for k in range(7):
        second = plan.duration_s * k / 6
        x = _LEFT + second * per_pixel
        out.append(f'<line class="grid" x1="{x:.1f}" y1="{top + 32}" x2="{x:.1f}" y2="{y + 2}"/>')
        out.append(
            f'<text class="m" x="{x:.1f}" y="{y + 16}" text-anchor="middle">{iso(plan.time(second))[11:16]}</text>'
        )
    return "\n".join(out), y + 34 - top
