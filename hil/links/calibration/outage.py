"""Outages as packets see them: how long they last, and how long a command takes to show."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hil.evidence.events import LinkFigure
from hil.links.calibration.figure import figure, information, percentile
from hil.links.calibration.probe import SMALL_FRAME_B, Arrival, Probe, ahead_of_others
from hil.links.calibration.tolerances import EFFECT_TOLERANCE_US, OUTAGE_TOLERANCE_US
from hil.links.link_box import LinkBox, Undo

CYCLES = 5

_OUTAGE_S, _LEAD_S = 0.06, 0.03
_INTERVAL_S = 0.001
_LINKS_AT_ONCE = 4  # more would keep the sender too busy to keep its pace
_QUANTITIES = ("cut_effect_p50", "cut_effect_p99", "restore_effect_p50", "restore_effect_p99")


@dataclass(frozen=True)
class Command:
    """One outage as it was commanded: when the two calls began, on CLOCK_MONOTONIC."""

    cut_ns: int
    restored_ns: int


@dataclass(frozen=True)
class Seen:
    """One outage as the packets of one direction saw it."""

    length_us: float  # from the last arrival before to the first one after, less one interval of the stream
    cut_effect_us: float  # from the command to the last packet sent that still arrived
    restore_effect_us: float  # from the command to the first packet sent that arrived again


def outage(box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
    """Cut and restore the links of ``probes`` under a stream of packets, five times, a few at once."""
    rows: list[LinkFigure] = []
    names = list(dict.fromkeys(probe.link for probe in probes))
    for start in range(0, len(names), _LINKS_AT_ONCE):
        group = names[start : start + _LINKS_AT_ONCE]
        rows += _group(box, [probe for probe in probes if probe.link in group])
    return rows


def _group(box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
    states = [box.commanded(*probe.name) for probe in probes]
    slowest_bps = min((state.rate_bps for state in states if state.rate_bps), default=0)
    interval_s = max(_INTERVAL_S, 2 * SMALL_FRAME_B * 8 / slowest_bps if slowest_bps else 0.0)
    commands = run_cycles(box, probes, cycles=CYCLES, interval_s=interval_s)
    time.sleep(max(state.delay_us for state in states) / 1e6 + 0.02)
    rows: list[LinkFigure] = []
    for probe in probes:
        seen = observe(probe.arrivals(), commands[probe.link], interval_s)
        rows += judge(probe, commands[probe.link], seen, interval_s)
    return rows


def run_cycles(box: LinkBox, probes: Sequence[Probe], *, cycles: int, interval_s: float) -> dict[str, list[Command]]:
    """Stream along ``probes`` while their links are cut; the links are as they were afterwards."""
    names = sorted({probe.link for probe in probes})
    commands: dict[str, list[Command]] = {name: [] for name in names}
    done = threading.Event()
    stream = threading.Thread(target=_stream, args=(probes, interval_s, done), name="outage-stream", daemon=True)
    for probe in probes:
        probe.restart()
    stream.start()
    try:
        for _ in range(cycles):
            time.sleep(_LEAD_S + 2 * interval_s)
            cuts: dict[str, tuple[int, Undo]] = {}
            try:
                for name in names:
                    undo = Undo(box, name, "calibration")
                    cuts[name] = time.monotonic_ns(), undo
                    box.cut(name, why="calibration")
                time.sleep(_OUTAGE_S + 2 * interval_s)
            finally:
                for name, (cut_ns, undo) in cuts.items():
                    restored_ns = time.monotonic_ns()
                    undo.__exit__()
                    commands[name].append(Command(cut_ns, restored_ns))
        time.sleep(_LEAD_S + 2 * interval_s)
    finally:
        done.set()
        stream.join(timeout=5)
    return commands


def observe(arrivals: Sequence[Arrival], commands: Sequence[Command], interval_s: float) -> list[Seen | None]:
    """Return what the packets saw of each outage: the longest pause, as sent, around it; None where there is none."""
    ordered = sorted(arrivals, key=lambda arrival: arrival.sent_ns)
    outages: list[Seen | None] = []
    between = [(before.restored_ns + after.cut_ns) // 2 for before, after in pairwise(commands)]
    edges = [0, *between, commands[-1].restored_ns + 1_000_000_000]
    for command, (begin, end) in zip(commands, pairwise(edges), strict=True):
        near = [arrival for arrival in ordered if begin <= arrival.sent_ns <= end]
        if len(near) < 2:
            outages.append(None)
            continue
        last, first = max(pairwise(near), key=lambda pair: pair[1].sent_ns - pair[0].sent_ns)
        outages.append(
            Seen(
                length_us=(first.arrived_ns - last.arrived_ns) / 1000 - interval_s * 1e6,
                cut_effect_us=max(0.0, (last.sent_ns - command.cut_ns) / 1000),
                restore_effect_us=(first.sent_ns - command.restored_ns) / 1000,
            )
        )
    return outages


def judge(
    probe: Probe, commands: Sequence[Command], seen: Sequence[Seen | None], interval_s: float
) -> list[LinkFigure]:
    """Judge the outage whose length was furthest from its command, and the time to effect over all of them."""
    # a slow link has packets so far apart that the moment is not known better than that
    blur_us = interval_s * 1e6 if interval_s > 10 * _INTERVAL_S else 0.0
    commanded_us = [(command.restored_ns - command.cut_ns) / 1000 for command in commands]
    observed = [(length_us, each) for length_us, each in zip(commanded_us, seen, strict=True) if each]
    if not observed or len(observed) < len(commands):
        missing = f"{len(commands) - len(observed)} of {len(commands)} outages could not be seen"
        length_us = round(commanded_us[0], 1)
        return [
            figure(probe, "outage_length", length_us, None, "us", OUTAGE_TOLERANCE_US, missing),
            *(figure(probe, q, 0, None, "us", EFFECT_TOLERANCE_US, missing) for q in _QUANTITIES),
        ]
    length_us, worst = max(observed, key=lambda pair: abs(pair[1].length_us - pair[0]))
    tolerance_us, note = OUTAGE_TOLERANCE_US + blur_us, f"the worst of {len(commands)}"
    rows = [figure(probe, "outage_length", round(length_us, 1), worst.length_us, "us", tolerance_us, note)]
    for name in ("cut", "restore"):
        effects = [getattr(each, f"{name}_effect_us") for _, each in observed]
        rows.append(information(probe, f"{name}_effect_p50", 0, percentile(effects, 0.5)))
        p99, note = percentile(effects, 0.99), f"{len(commands)} outages"
        rows.append(figure(probe, f"{name}_effect_p99", 0, p99, "us", EFFECT_TOLERANCE_US + blur_us, note))
    return rows


def _stream(probes: Sequence[Probe], interval_s: float, done: threading.Event) -> None:
    with ahead_of_others():
        while not done.wait(interval_s):
            for probe in probes:
                probe.send()
