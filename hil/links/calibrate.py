"""Commanded is not actual: what the links really do, measured on packets before a run is believed.

Needs a bench that is otherwise quiet: the probes share the links with whatever else is sent.  A link is never
left wider than commanded while it is measured; for its outage figures it is down for a tenth of a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from hil.links import probe as packets
from hil.links.box import DIRECTIONS, Direction, LinkBox
from hil.links.integrity import deliver
from hil.links.loss import acceptance_counts
from hil.links.probe import Arrival, Probe
from hil.links.state import PPM, LinkState, limit_packets

DELAY_P50_TOLERANCE_US = 150
DELAY_P95_TOLERANCE_US = 500
RATE_TOLERANCE_PERCENT = 3
OUTAGE_TOLERANCE_US = 15_000
CONSTANT_LIMIT_US = 1_000
STRAY_LOSS_PPM = 1_000  # one in a thousand without a command is noise of a busy host; more is a broken bench

_ATTEMPTS = 5
_DELAY_PROBES, _DELAY_INTERVAL_S = 120, 0.002
_RATE_S, _RATE_SLOWEST_S = 0.2, 0.5
_RATE_FRAMES, _RATE_FRAMES_MAX = 20, 20_000  # more than any bench forwards in that time
_UDP_CEILING_BPS = 300_000_000  # above it profile bulk is measured with TCP, whose packets may be large
_LOSS_PROBES, _LOSS_PROBES_MAX, _LOSS_HZ, _LOSSES_WANTED = 1_000, 20_000, 4_000, 30
_MANGLED_LEAST_B, _MANGLED_MOST_B = 20_000, 300_000
_OUTAGE_S, _OUTAGE_INTERVAL_S, _OUTAGE_LEAD_S = 0.1, 0.001, 0.03


@dataclass(frozen=True)
class Calibration:
    """One figure of one direction, commanded and measured side by side.

    Quantities: ``engine_constant``, ``delay_p50``, ``delay_p95``, ``delay_p99``, ``cut_last_arrival`` (from the
    command to the last packet that arrives) and ``restore_first_arrival`` in us, ``rate`` in bit/s, ``loss`` in
    ppm, ``mangled`` (different from what was sent, over TCP) in bytes, and ``state`` for a direction that could not
    be measured at all.
    """

    link: str
    direction: Direction
    quantity: str
    commanded: float
    measured: float | None  # None: nothing arrived
    unit: str
    tolerance: float  # to either side, in ``unit``
    ok: bool
    note: str = ""


def calibrate(box: LinkBox, *, outage: bool = True) -> list[Calibration]:
    """Measure every link in both directions and compensate the engine's own delay; about 2.5 s for two links.

    The link ends have their addresses by now.  A figure outside its tolerance is measured again, four times at most
    (its note says so), then reported with ``ok`` False, not raised.  Raises BenchError when the link box fails or
    an end has no address.
    """
    rows: list[Calibration] = []
    with ExitStack() as stack:
        probes: list[Probe] = []
        for link in box.show():
            if link.up:
                probes += [stack.enter_context(Probe(link, direction)) for direction in DIRECTIONS]
            else:
                rows += [_unmeasured(link.name, d, "the link is commanded down") for d in DIRECTIONS]
        silent = packets.warm_up(probes)
        rows += [_unmeasured(name, direction, "no packet arrives") for name, direction in sorted(silent)]
        probes = [probe for probe in probes if probe.name not in silent]
        if not probes:
            return rows
        rows += _engine_constant(box, probes)
        rows += _again(lambda: _delay(box, probes))
        for each in probes:
            rows += _again(_rate_of(box, each))
        rows += _again(lambda: _loss(box, probes))
        rows += _mangled(box, probes)
        if outage:
            rows += _again(lambda: _outage(box, probes))
    return rows


def carry_capacity(box: LinkBox, link: str, direction: Direction) -> Calibration:
    """The rate of one direction alone, in about 0.4 s; :func:`cannot_carry` judges it."""
    for status in box.show():
        if status.name == link:
            with Probe(status, direction) as probe:
                if packets.warm_up([probe]):
                    return _unmeasured(link, direction, "no packet arrives")
                rows = _again(_rate_of(box, probe))
                return rows[0] if rows else _unmeasured(link, direction, "no rate is commanded")
    box.commanded(link, direction)  # raises the error that names the links there are
    raise AssertionError("unreachable")


def cannot_carry(rows: Sequence[Calibration]) -> list[Calibration]:
    """The rates that fell short of what was commanded by more than the tolerance: this bench cannot carry them."""
    return [
        row
        for row in rows
        if row.quantity == "rate"
        and row.measured is not None
        and row.measured < row.commanded - row.tolerance
    ]


def _engine_constant(box: LinkBox, probes: Sequence[Probe]) -> list[Calibration]:
    """What the engine adds to the commanded delay: measured with no compensation, then compensated.

    Measured at the commanded delay, because the timer that releases a delayed packet is part of it.
    """
    for probe in probes:
        box.compensate(probe.link, probe.direction, 0)
    rows = []
    for probe, arrivals in _paced(probes, _DELAY_PROBES, _DELAY_INTERVAL_S):
        excess = _excess_us(arrivals, box.commanded(*probe.name))
        if not excess:
            rows.append(_unmeasured(probe.link, probe.direction, "no packet arrives"))
            continue
        constant = max(0.0, percentile(excess, 0.5))
        box.compensate(probe.link, probe.direction, round(min(constant, CONSTANT_LIMIT_US) * 1000))
        rows.append(
            _row(
                probe,
                "engine_constant",
                0,
                constant,
                "us",
                CONSTANT_LIMIT_US,
                note="subtracted from the delay",
            )
        )
    return rows


def _delay(box: LinkBox, probes: Sequence[Probe]) -> list[Calibration]:
    rows = []
    for probe, arrivals in _paced(probes, _DELAY_PROBES, _DELAY_INTERVAL_S):
        state = box.commanded(*probe.name)
        excess = _excess_us(arrivals, state)
        for quantity, share, tolerance in (
            ("delay_p50", 0.5, DELAY_P50_TOLERANCE_US),
            ("delay_p95", 0.95, DELAY_P95_TOLERANCE_US),
            ("delay_p99", 0.99, 0),
        ):
            measured = state.delay_us + percentile(excess, share) if excess else None
            row = _row(probe, quantity, state.delay_us, measured, "us", tolerance)
            rows.append(row if tolerance else replace(row, ok=bool(excess), note="for information"))
    return rows


def _rate_of(box: LinkBox, probe: Probe) -> Callable[[], list[Calibration]]:
    def measure() -> list[Calibration]:
        state = box.commanded(*probe.name)
        if not state.rate_bps:
            return []
        tolerance = state.rate_bps * RATE_TOLERANCE_PERCENT / 100
        if box.profile == "bulk" and state.rate_bps > _UDP_CEILING_BPS:
            measured, note = packets.tcp_rate_bps(probe, state.mtu), "TCP, counted as frames"
        else:
            # full frames where that takes a bearable time, else smaller ones
            frame_b = min(state.frame_bits // 8, int(state.rate_bps * _RATE_SLOWEST_S / _RATE_FRAMES / 8))
            frame_b = max(frame_b, packets.SMALL_FRAME_B)
            frames = max(_RATE_FRAMES, min(_RATE_FRAMES_MAX, int(state.rate_bps * _RATE_S / (frame_b * 8))))
            arrivals, offered = packets.blast(probe, rate_bps=state.rate_bps, frame_b=frame_b, frames=frames)
            measured = _arrival_rate_bps(arrivals, frame_b)
            short = offered < state.rate_bps
            note = f"only {offered / 1e6:.0f} Mbit/s could be offered" if short else ""
        return [_row(probe, "rate", state.rate_bps, measured, "bit/s", tolerance, note)]

    return measure


def _arrival_rate_bps(arrivals: Sequence[Arrival], frame_b: int) -> float | None:
    """Bits per second between the first and the last of the later arrivals (the first ones fill the pipe)."""
    steady = arrivals[len(arrivals) // 8 :]
    if len(steady) < 2 or steady[-1].arrived_ns <= steady[0].arrived_ns:
        return None
    return (len(steady) - 1) * frame_b * 8e9 / (steady[-1].arrived_ns - steady[0].arrived_ns)


def _loss(box: LinkBox, probes: Sequence[Probe]) -> list[Calibration]:
    """Lost packets of enough that the commanded loss would show; a count is judged at 99 % confidence."""
    states = [box.commanded(*probe.name) for probe in probes]
    smallest = min((state.mean_loss_ppm for state in states if state.mean_loss_ppm), default=0)
    count = (
        min(_LOSS_PROBES_MAX, max(_LOSS_PROBES, _LOSSES_WANTED * PPM // smallest))
        if smallest
        else _LOSS_PROBES
    )
    hertz = min(_safe_hertz(state) for state in states)
    count = min(count, int(hertz * 5))
    rows = []
    for probe, arrivals in _paced(probes, count, 1 / hertz):
        state = box.commanded(*probe.name)
        lost = count - len({arrival.sequence for arrival in arrivals})
        commanded, measured = state.mean_loss_ppm, lost * PPM / count
        low, high = acceptance_counts(state, count)
        if commanded:
            tolerance = max(commanded - low * PPM / count, high * PPM / count - commanded)
            note = f"{lost} of {count}; 99 % of trials lie in {low} to {high}"
            row = _row(probe, "loss", commanded, measured, "ppm", round(tolerance), note)
            rows.append(replace(row, ok=low <= lost <= high))
        else:
            rows.append(_row(probe, "loss", 0, measured, "ppm", STRAY_LOSS_PPM, f"{lost} of {count}"))
    return rows


def _mangled(box: LinkBox, probes: Sequence[Probe]) -> list[Calibration]:
    """One TCP transfer in every direction at once, compared byte by byte. Never measured again: one is too many."""
    sizes_b = {}
    for probe in probes:
        rate_bps = box.commanded(*probe.name).rate_bps or _MANGLED_MOST_B * 8
        sizes_b[probe] = min(_MANGLED_MOST_B, max(_MANGLED_LEAST_B, int(rate_bps * _RATE_S / 8)))
    try:
        deliveries = deliver(probes, sizes_b)
    except OSError as exc:
        return [_row(probe, "mangled", 0, None, "bytes", 0, f"no TCP connection: {exc}") for probe in probes]
    rows = []
    for probe, delivery in zip(probes, deliveries, strict=True):
        note = f"{delivery.arrived} of {delivery.sent} arrived" if delivery.arrived < delivery.sent else ""
        rows.append(_row(probe, "mangled", 0, delivery.mangled, "bytes", 0, note))
    return rows


def _safe_hertz(state: LinkState) -> float:
    """A pace at which small probes fill neither half the queue nor half the rate."""
    hertz = float(_LOSS_HZ)
    if state.delay_us:
        hertz = min(
            hertz, 0.5 * limit_packets(state.rate_bps, state.delay_us, state.mtu) * 1e6 / state.delay_us
        )
    if state.rate_bps:
        hertz = min(hertz, 0.5 * state.rate_bps / (packets.SMALL_FRAME_B * 8))
    return hertz


def _outage(box: LinkBox, probes: Sequence[Probe]) -> list[Calibration]:
    """Cut and restore under a stream of packets: when the last one arrives, and when the first one does."""
    names = sorted({probe.link for probe in probes})
    done = threading.Event()
    stream = threading.Thread(target=_stream, args=(probes, done), name="outage-stream", daemon=True)
    cut_ns: dict[str, int] = {}
    restored_ns: dict[str, int] = {}
    longest_s = max(box.commanded(*probe.name).delay_us for probe in probes) / 1e6
    for probe in probes:
        probe.restart()
    stream.start()
    try:
        time.sleep(_OUTAGE_LEAD_S)
        for name in names:
            cut_ns[name] = time.monotonic_ns()
            box.cut(name, why="calibration")
        time.sleep(longest_s + _OUTAGE_S)
    finally:
        for name in names:
            restored_ns[name] = time.monotonic_ns()
            box.restore(name, why="calibration")
        time.sleep(longest_s + _OUTAGE_LEAD_S)
        done.set()
        stream.join(timeout=5)
    time.sleep(longest_s)
    rows = []
    for probe in probes:
        delay_us = box.commanded(*probe.name).delay_us
        arrivals = probe.arrivals()
        cut, restored = cut_ns[probe.link], restored_ns[probe.link]
        before = [a.arrived_ns for a in arrivals if a.sent_ns < restored]
        after = [a.arrived_ns for a in arrivals if a.sent_ns >= restored]
        last = (max(before) - cut) / 1000 if before else None
        first = (min(after) - restored) / 1000 if after else None
        rows.append(_row(probe, "cut_last_arrival", delay_us, last, "us", OUTAGE_TOLERANCE_US))
        rows.append(_row(probe, "restore_first_arrival", delay_us, first, "us", OUTAGE_TOLERANCE_US))
    return rows


def _stream(probes: Sequence[Probe], done: threading.Event) -> None:
    while not done.wait(_OUTAGE_INTERVAL_S):
        for probe in probes:
            probe.send()


def _paced(probes: Sequence[Probe], count: int, interval_s: float) -> list[tuple[Probe, list[Arrival]]]:
    packets.pace(probes, count=count, interval_s=interval_s)
    return [(probe, packets.collect(probe, expected=count)) for probe in probes]


def _excess_us(arrivals: Sequence[Arrival], state: LinkState) -> list[float]:
    """How much longer probes took than the commanded delay and their own serialisation."""
    serialisation_us = packets.SMALL_FRAME_B * 8e6 / state.rate_bps if state.rate_bps else 0.0
    return [arrival.delay_ns / 1000 - state.delay_us - serialisation_us for arrival in arrivals]


def _again(measure: Callable[[], list[Calibration]]) -> list[Calibration]:
    """Measure until everything is within tolerance, five times at most; the notes say how often it took."""
    for attempt in range(1, _ATTEMPTS + 1):
        rows = measure()
        if attempt > 1:
            rows = [replace(row, note=f"{row.note}; attempt {attempt}".lstrip("; ")) for row in rows]
        if all(row.ok for row in rows):
            break
    return rows


def _row(
    probe: Probe,
    quantity: str,
    commanded: float,
    measured: float | None,
    unit: str,
    tolerance: float,
    note: str = "",
) -> Calibration:
    ok = measured is not None and abs(measured - commanded) <= tolerance
    rounded = None if measured is None else round(measured, 1)
    return Calibration(probe.link, probe.direction, quantity, commanded, rounded, unit, tolerance, ok, note)


def _unmeasured(link: str, direction: Direction, why: str) -> Calibration:
    return Calibration(link, direction, "state", 1, 0, "up", 0, False, why)


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile of at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
