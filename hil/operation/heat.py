"""Heat and power of an operation, by the twin of a lab."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import timedelta

from hil.lab.model import Lab
from hil.onboard.twin.modules import MODULES, THROTTLE_C
from hil.operation.arithmetic import Term, quantity
from hil.operation.model import LimitsSpec
from hil.twin.parameters import bus_parameters, heat_parameters

MOST_STEPS, LONGEST_STEP_S = 200_000, 10.0
"""A payload that runs longer than both allow is predicted for so long; 23 days: heat and charge repeat by then."""
MOST_SAMPLES = 20_000


def heat_and_power(
    lab: Lab, limits: LimitsSpec, busy: Mapping[str, float], *, seconds: float, after_s: float, epoch: str | None = None
) -> Iterator[Term]:
    """Yield the terms of a payload that runs so many ``seconds`` of the bench, from ``after_s`` on.

    ``busy``: for how much of the time each board computes, by board; a board without a share idles.  In a lab with a
    time factor heat and power begin so many times later and go on for so many times longer.  Without a section twin
    nothing is known.
    """
    crafts = [craft for craft in lab.spacecraft if any(board.name in busy for board in craft.boards)]
    if lab.twin is None:
        for what, unit in (("heat", "K"), ("power", "W"), ("energy", "Wh")):
            yield Term(f"{what} of the payload", None, None, unit, "not known, no twin section")
        return
    from hil.twin.prediction import predict

    span_s = min(max(1.0, seconds * lab.twin.time_factor), MOST_STEPS * LONGEST_STEP_S)
    step_s = max(1.0, span_s / MOST_STEPS)
    every_s = step_s * max(1, math.ceil(span_s / step_s / MOST_SAMPLES))
    moment = _moment(lab, after_s * lab.twin.time_factor, epoch)
    found = predict(lab, span_s=span_s, step_s=step_s, busy=busy, epoch=moment, every_s=every_s)
    assumed = f"; assumed: {', '.join(found.assumed)}" if found.assumed else ""
    source = f"twin of {lab.file.name}, {quantity(span_s, 's')} of the mission{assumed}"
    for craft in crafts:
        row = found.spacecraft.index(craft.name)
        bus, heat = bus_parameters(lab.twin, craft.name), heat_parameters(lab.twin, craft.name)
        names = found.boards[row]
        peaks = {}
        for column, board in enumerate(names):
            slowed = bool(found.throttled_s[row, column] > 0)
            peaks[board] = max(found.peak_c(row, column), math.nextafter(THROTTLE_C, 999) if slowed else -273.0)
        hottest = max(peaks, key=lambda name: peaks[name])
        throttled = float(found.throttled_s[row].max()) / span_s
        reason = f"{hottest} starts at {heat.start_c:g} C and may reach {limits.junction_c:g} C; it reaches "
        reason += f"{peaks[hottest]:.1f} C" + (
            f" and is slowed down for {throttled:.0%} of the time" if throttled else ""
        )
        yield Term(
            f"heat of {craft.name}",
            max(0.0, peaks[hottest] - heat.start_c),
            max(0.0, limits.junction_c - heat.start_c),
            "K",
            f"{source}; rise of {hottest} above {heat.start_c:g} C",
            reason,
        )
        watts = sum(MODULES[board.module].power_w(busy.get(board.name, 0.0), 1.0) for board in craft.boards)
        yield Term(
            f"power of {craft.name}",
            watts,
            bus.budget_w,
            "W",
            f"{source}; full clock, budget of the bus",
            "the bus switches boards off above its budget",
        )
        least = bus.shed_below if limits.least_charge is None else limits.least_charge
        lowest = float(found.level[row].min())
        yield Term(
            f"energy of {craft.name}",
            (1 - lowest) * bus.battery_wh,
            (1 - least) * bus.battery_wh,
            "Wh",
            f"{source}; battery full at the start, down to {least:.0%}",
            f"the battery falls to {lowest:.0%}",
        )


def _moment(lab: Lab, after_s: float, epoch: str | None) -> str | None:
    """Return the moment so many seconds of the mission after the epoch; None where the lab has no orbit."""
    if lab.orbit is None:
        return None
    from hil.bench.orbit_clock import constellation_of
    from hil.orbit.times import iso, parse_time

    moment = epoch or lab.orbit.epoch
    start = parse_time(moment) if moment else constellation_of(lab).epoch
    return iso(start + timedelta(seconds=after_s))
