"""``make bench`` entry ``wire``: what packets see of the link box, on real packets, against what was commanded.

    python -m tests.benchmarks.wire [PART ...]

Parts: delay, rate, jumbo, loss, outage, wakeups.  Builds link boxes of its own, in namespaces of its own, on every
engine that this machine has (User-Mode Linux, and this kernel's netem where it has one, which is held to more).
Repeated figures give the median and tell every run.  About four minutes per engine.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hil.links.calibration.calibrate import measure
from hil.links.calibration.figure import percentile
from hil.links.calibration.outage import Command, Seen, observe, run_cycles
from hil.links.calibration.probe import SMALL_FRAME_B, Arrival, Probe, blast, collect, pace, tcp_rate_bps, warm_up
from hil.links.calibration.stages import arrival_rate_bps, engine_constant, judge_loss
from hil.links.engines.kernel import missing_in_kernel
from hil.links.link_box import Direction
from hil.links.schedule.player import Player
from hil.links.state import GilbertElliott, LinkState
from hil.links.wires import Profile
from tests.benchmarks.figures import Figure
from tests.benchmarks.wire_kit import CROSSLINK, ONE_WAY_US, Outages, bench, both_ways, saturated

RUNS = 3

_DELAY_PROBES, _DELAY_INTERVAL_S = 1_500, 0.002
_LOSS_PACKETS, _LOSS_INTERVAL_S, _LOSS_ATTEMPTS = 40_000, 0.0003, 2
_BURSTY = GilbertElliott(p_ppm=5_000, r_ppm=100_000)
_CYCLES, _STREAM_INTERVAL_S = 60, 0.001
_WAKE_LINKS, _WAKE_PACKETS, _WAKE_INTERVAL_S, _WAKE_LATE_US = 25, 100_000, 0.04, 20_000.0
_WOKEN_MS = 3.0


@dataclass(frozen=True)
class Limits:
    """What an engine is held to: delay error in ms, rate error in percent."""

    delay_p50_ms: float
    delay_p95_ms: float
    rate_percent: float


LIMITS: dict[str, Limits] = {"uml": Limits(0.15, 0.5, 3), "kernel": Limits(0.15, 0.2, 2)}


def wire(lab: Path) -> Iterator[Figure]:
    """Delay, rate, loss, outages and lost wake-ups of the link box on real packets; the lab file is not used."""
    for engine in engines():
        for part in PARTS.values():
            yield from part(engine)


def engines() -> list[str]:
    """User-Mode Linux, and this host's kernel where it can shape."""
    return ["uml"] if missing_in_kernel() else ["uml", "kernel"]


def delay(engine: str) -> Iterator[Figure]:
    """One-way delay at 14.386 ms, engine constant subtracted: idle, and beside a loaded neighbour link."""
    with bench(engine, 2) as box, both_ways(box, "isl-0") as probes:
        measure(box, probes, engine_constant)
        compensation_us = [getattr(box.show()[0], probe.direction).compensation_ns / 1000 for probe in probes]
        yield Figure(
            f"{engine}: engine constant, subtracted",
            round(statistics.mean(compensation_us) / 1000, 3),
            "ms",
            "<= 1",
            "median excess over the commanded delay, both directions",
        )
        yield from _delay_figures(engine, probes, "idle")
        with saturated(box.show()[1]):
            own = _delay_figures(engine, probes, "beside a loaded neighbour")
        yield from own
    if engine != "uml":
        return
    with bench(engine, 2, kernels=1) as box, both_ways(box, "isl-0") as probes:
        measure(box, probes, engine_constant)
        with saturated(box.show()[1]):
            one = statistics.median(_delay_errors_ms(probes)[1] for _ in range(RUNS))
    yield Figure(
        f"{engine}: delay error p95 beside a loaded neighbour, a kernel each",
        round(own[1].value / one, 3),
        "times",
        "",
        f"one kernel for both links: {one:.3f} ms",
    )


def _delay_figures(engine: str, probes: Sequence[Probe], where: str) -> list[Figure]:
    """Median and 95th percentile of the delay error."""
    runs = [_delay_errors_ms(probes) for _ in range(RUNS)]
    limits = (("p50", LIMITS[engine].delay_p50_ms), ("p95", LIMITS[engine].delay_p95_ms))
    told = f"{_DELAY_PROBES} packets each way at {ONE_WAY_US / 1000} ms"
    return [
        _median(f"{engine}: delay error {quantity}, {where}", [run[at] for run in runs], "ms", limit, told)
        for at, (quantity, limit) in enumerate(limits)
    ]


def _delay_errors_ms(probes: Sequence[Probe]) -> tuple[float, float]:
    """|median error|, and the 95th percentile of |error|; the worse of the two directions."""
    pace(probes, count=_DELAY_PROBES, interval_s=_DELAY_INTERVAL_S, spread=True)
    serialisation_us = SMALL_FRAME_B * 8e6 / CROSSLINK.rate_bps
    p50, p95 = 0.0, 0.0
    for probe in probes:
        found = [a.delay_ns / 1000 - ONE_WAY_US - serialisation_us for a in collect(probe, expected=_DELAY_PROBES)]
        p50 = max(p50, abs(statistics.median(found)) / 1000)
        p95 = max(p95, statistics.quantiles([abs(f) for f in found], n=20)[18] / 1000)
    return p50, p95


def rate(engine: str) -> Iterator[Figure]:
    """Rate at MTU 1500, profile exact."""
    with bench(engine, 1) as box, both_ways(box, "isl-0") as probes:
        for rate_bps in (50_000_000, 200_000_000, 400_000_000):
            state = replace(CROSSLINK, rate_bps=rate_bps)
            box.set("isl-0", a_to_b=state, b_to_a=state)
            yield _rate_figure(engine, probes, state, "exact")


def jumbo(engine: str) -> Iterator[Figure]:
    """The full 2,500 Mbit/s of an optical terminal at MTU 9000: profile exact with UDP, profile bulk with TCP."""
    state = LinkState(ONE_WAY_US, 2_500_000_000, mtu=9000)
    with bench(engine, 1, state=state) as box, both_ways(box, "isl-0") as probes:
        yield _rate_figure(engine, probes, state, "exact")
    with bench(engine, 1, state=state, profile="bulk") as box, both_ways(box, "isl-0") as probes:
        yield _rate_figure(engine, probes, state, "bulk")


def _rate_figure(engine: str, probes: Sequence[Probe], state: LinkState, profile: Profile) -> Figure:
    errors = []
    for _ in range(RUNS):
        for probe in probes:
            if profile == "bulk":
                measured = tcp_rate_bps(probe, state.mtu, seconds=3.0)
            else:
                frame_b = state.frame_bits // 8
                frames = min(16_000, int(state.rate_bps * 0.25 / state.frame_bits))
                arrivals, _ = blast(probe, rate_bps=state.rate_bps, frame_b=frame_b, frames=frames)
                measured = arrival_rate_bps(arrivals, frame_b, state.delay_us)
            errors.append(abs(measured / state.rate_bps - 1) * 100 if measured else 100.0)
    name = f"{engine}: rate error at {state.rate_bps / 1e6:,.0f} Mbit/s, MTU {state.mtu}, {profile}"
    how = "TCP" if profile == "bulk" else "UDP, full frames"
    return _median(name, errors, "%", LIMITS[engine].rate_percent, f"{how}, both directions")


def loss(engine: str) -> Iterator[Figure]:
    """Random loss of 0.1 % and 1 % and bursty loss, each against its own 99 % interval."""
    states: dict[tuple[str, Direction], LinkState] = {
        ("isl-0", "a_to_b"): replace(CROSSLINK, loss_ppm=1_000),
        ("isl-0", "b_to_a"): replace(CROSSLINK, loss_ppm=10_000),
        ("isl-1", "a_to_b"): replace(CROSSLINK, gemodel=_BURSTY),
    }
    with bench(engine, 2) as box, ExitStack() as stack:
        for (link, direction), state in states.items():
            box.set(link, **{direction: state})
        by_name = {status.name: status for status in box.show()}
        probes = [stack.enter_context(Probe(by_name[link], direction)) for link, direction in states]
        warm_up(probes)
        left, attempt = probes, 1
        while left:
            again = []
            pace(left, count=_LOSS_PACKETS, interval_s=_LOSS_INTERVAL_S, spread=True)
            for probe in left:
                arrived = {a.sequence for a in collect(probe, expected=_LOSS_PACKETS)}
                lost = [n for n in range(_LOSS_PACKETS) if n not in arrived]
                rows = judge_loss(probe, states[probe.name], _LOSS_PACKETS, lost)
                if attempt < _LOSS_ATTEMPTS and not all(row.ok for row in rows):
                    again.append(probe)  # one sound measurement in a hundred lies outside
                    continue
                for row in rows:
                    assert row.measured is not None and row.low is not None and row.high is not None
                    side = row.high if row.measured > row.commanded else row.low
                    off = abs(row.measured - row.commanded) / abs(side - row.commanded or math.inf)
                    model = "bursty" if states[probe.name].gemodel else "random"
                    name = f"{engine}: {model} {row.quantity.replace('_', ' ')} of {_plain(row.commanded, row.unit)}"
                    told = f"{_plain(row.measured, row.unit)}; {row.note}; attempt {attempt}"
                    yield Figure(f"{name}, distance over 99 % bound", round(off, 2), "", "<= 1", told)
            left, attempt = again, attempt + 1


def _plain(value: float, unit: str) -> str:
    return f"{value / 10_000:.3g} %" if unit == "ppm" else f"{value:.3g} {unit}"


def outage(engine: str) -> Iterator[Figure]:
    """Outages as packets see them, from a schedule that the engine plays and from commands by hand.

    Their length, and the time from the moment of the plan, or from the call, to the packets.
    """
    with bench(engine, 1) as box, both_ways(box, "isl-0") as probes:
        by_hand = run_cycles(box, probes, cycles=_CYCLES, interval_s=_STREAM_INTERVAL_S)["isl-0"]
        time.sleep(ONE_WAY_US / 1e6 + 0.05)
        seen_by_hand = [observe(probe.arrivals(), by_hand, _STREAM_INTERVAL_S) for probe in probes]
        plan = Outages("isl-0")
        zero_ns = time.monotonic_ns() + 500_000_000
        player = Player(box, plan, zero_ns=zero_ns, log_path=Path(os.devnull)).start()
        pace(probes, count=int((plan.span_s + 1) / _STREAM_INTERVAL_S), interval_s=_STREAM_INTERVAL_S)
        time.sleep(ONE_WAY_US / 1e6 + 0.05)
        player.close()
        planned = [Command(zero_ns + down, zero_ns + up) for down, up in plan.outages_ns]
        seen_planned = [observe(probe.arrivals(), planned, _STREAM_INTERVAL_S) for probe in probes]
    yield from _outage_figures(f"{engine}: planned outages", planned, seen_planned, length_limit="<= 20")
    yield from _outage_figures(f"{engine}: outages by hand", by_hand, seen_by_hand, length_limit="")


def _outage_figures(
    name: str, commands: Sequence[Command], seen: Sequence[Sequence[Seen | None]], *, length_limit: str
) -> Iterator[Figure]:
    pairs = [(c, s) for direction in seen for c, s in zip(commands, direction, strict=True)]
    found = [(c, s) for c, s in pairs if s is not None]
    told = f"{len(pairs)} outages, both directions, packets {_STREAM_INTERVAL_S * 1000:g} ms apart"
    yield Figure(f"{name}: not seen", len(pairs) - len(found), "", "<= 0", told)
    off = [abs(s.length_us - (c.restored_ns - c.cut_ns) / 1000) / 1000 for c, s in found]
    yield Figure(f"{name}: error of the length, worst", round(max(off), 2), "ms", length_limit, told)
    for what, effects in (
        ("cut", [s.cut_effect_us / 1000 for _, s in found]),
        ("restore", [s.restore_effect_us / 1000 for _, s in found]),
    ):
        p50, p99 = percentile(effects, 0.5), percentile(effects, 0.99)
        yield Figure(f"{name}: {what} takes effect, p50", round(p50, 2), "ms", "", told)
        yield Figure(f"{name}: {what} takes effect, p99", round(p99, 2), "ms", "<= 50", told)


def wakeups(engine: str) -> Iterator[Figure]:
    """Lost wake-ups in 100,000 packets over 25 links both ways, all sent at the same moment every 40 ms.

    The engine is idle between rounds, so a packet (or a timer) that it slept through lies there until the next round
    wakes it: at least 20 ms late.  Such a packet counts as lost wake-up when a packet that was due later came before
    it, or when it came just as the next round was sent, or one link delay after that.  What is late without that
    was a machine too busy to run the engine.
    """
    with bench(engine, _WAKE_LINKS) as box, ExitStack() as stack:
        links = box.show()
        directions: tuple[Direction, Direction] = ("a_to_b", "b_to_a")
        probes = [stack.enter_context(Probe(link, d)) for link in links for d in directions]
        warm_up(probes)
        rounds = -(-_WAKE_PACKETS // len(probes))
        pace(probes, count=rounds, interval_s=_WAKE_INTERVAL_S)
        arrived = [collect(probe, expected=rounds) for probe in probes]
    late, lost_wakeups, worst_us = count_lost_wakeups(arrived, CROSSLINK.delay_us, _WAKE_LATE_US)
    sent = rounds * len(probes)
    told = f"{sent} packets, {len(probes)} directions, a round every {_WAKE_INTERVAL_S * 1000:.0f} ms"
    yield Figure(f"{engine}: lost wake-ups", lost_wakeups, "packets", "<= 0", told)
    yield Figure(f"{engine}: later than {_WAKE_LATE_US / 1000:.0f} ms for any reason", late, "packets", "", told)
    yield Figure(f"{engine}: worst lateness", round(worst_us / 1000, 2), "ms", "", told)
    yield Figure(f"{engine}: not arrived", sent - sum(map(len, arrived)), "packets", "<= 0", told)


def count_lost_wakeups(arrived: Sequence[Sequence[Arrival]], delay_us: int, late_us: float) -> tuple[int, int, float]:
    """(late packets, those of them that waited for another packet, worst lateness in us).

    ``arrived`` per direction; every direction sends packet n of round n at about the same moment.
    """
    everything = sorted((a.arrived_ns, a.sent_ns) for direction in arrived for a in direction)
    begun: dict[int, int] = {}
    for direction in arrived:
        for a in direction:
            begun[a.sequence] = min(a.sent_ns, begun.get(a.sequence, a.sent_ns))
    latest_sent = -1
    overtaken: set[tuple[int, int]] = set()
    for arrived_ns, sent_ns in everything:
        if latest_sent > sent_ns + 1_000_000:  # one that was due a millisecond later, or more, was faster
            overtaken.add((arrived_ns, sent_ns))
        latest_sent = max(latest_sent, sent_ns)
    late = waited = 0
    worst_us = 0.0
    for direction in arrived:
        for a in direction:
            lateness_us = a.delay_ns / 1000 - delay_us
            worst_us = max(worst_us, lateness_us)
            if lateness_us <= late_us:
                continue
            late += 1
            after_next_ms = (a.arrived_ns - begun.get(a.sequence + 1, 0)) / 1e6
            woken = any(0 <= after_next_ms - way_ms < _WOKEN_MS for way_ms in (0.0, delay_us / 1000))
            waited += woken or (a.arrived_ns, a.sent_ns) in overtaken
    return late, waited, worst_us


PARTS: dict[str, Callable[[str], Iterator[Figure]]] = {
    "delay": delay,
    "rate": rate,
    "jumbo": jumbo,
    "loss": loss,
    "outage": outage,
    "wakeups": wakeups,
}


def _median(name: str, runs: Sequence[float], unit: str, limit: float, told: str) -> Figure:
    every = ", ".join(f"{run:.3f}" for run in runs)
    return Figure(name, round(statistics.median(runs), 3), unit, f"<= {limit:g}", f"{told}; runs: {every}")


def main() -> int:
    """Run the parts named on the command line, all without names; JSON lines on stdout."""
    names = sys.argv[1:] or list(PARTS)
    ok = True
    for engine in engines():
        for name in names:
            for figure in PARTS[name](engine):
                ok &= figure.ok
                print(json.dumps({**asdict(figure), "ok": figure.ok}), flush=True)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
