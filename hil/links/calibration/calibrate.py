"""Commanded is not actual: what the links really do, measured on packets before a run is believed.

Needs a bench that is otherwise quiet: the probes share the links with whatever else is sent.  A link is never
left wider than commanded while it is measured; for its outage figures it is down for some hundredths of a second,
a few times.  A link that follows a contact plan is held to what the plan commands at the moment of each packet.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace

from hil.core.activity import doing
from hil.core.command import Progress
from hil.core.wait import poll_until
from hil.evidence.events import LinkFigure
from hil.evidence.measurement import INFORMATION
from hil.links.calibration import probe as packets
from hil.links.calibration import stages, sustained
from hil.links.calibration.figure import down, unmeasured
from hil.links.calibration.figure import percentile as percentile
from hil.links.calibration.outage import outage as outages
from hil.links.calibration.probe import Probe
from hil.links.calibration.shares import shares, sure
from hil.links.calibration.stages import Stage
from hil.links.link_box import DIRECTIONS, Direction, LinkBox, LinkStatus
from hil.links.state import LinkState

ATTEMPTS = 5
_UNDISTURBED_DEADLINE_S = 10.0
_BACK_AGAIN_S = 0.3  # longer than a fade: a link that is down for this long has lost its contact
_SILENCE_PROBES, _SILENCE_INTERVAL_S = 20, 0.005
BLOCKED = "the contact plan has it down now; nothing arrives, as it should be"
_LOST_CONTACT = "the contact plan took it down while it was measured"

_MOVED_BY_JITTER = (
    "delay_p50",
    "delay_p95",
    "jitter_p95_p50",
    "delay_sparse_p50",
    "rate",
    "rate_sustained",
    "burst_length",
)

Name = tuple[str, Direction]
_STEPS: tuple[tuple[str, Stage, int], ...] = (
    ("engine constant", stages.engine_constant, ATTEMPTS),
    ("delay", stages.delay, ATTEMPTS),
    ("delay of single packets", stages.sparse_delay, ATTEMPTS),
    ("rate", stages.rate, ATTEMPTS),
    ("shares", shares, ATTEMPTS),
    ("loss", stages.loss, ATTEMPTS),
    ("every byte", stages.mangled, 1),  # never measured again: one mangled byte is too many
    ("outages", outages, ATTEMPTS),
)


def _delay_beside_others(box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
    """Measure the delay for information: a packet waits for those of other tenants that are on their way out."""
    rows = stages.delay(box, probes)
    note = f"{INFORMATION}: other tenants may use the link"
    return [replace(row, ok=row.measured is not None, tolerance=0.0, note=note) for row in rows]


_TENANT_STEPS: tuple[tuple[str, Stage, int], ...] = (("delay", _delay_beside_others, 1), ("share", sure, ATTEMPTS))


def calibrate(
    box: LinkBox,
    *,
    links: Collection[str] | None = None,
    outage: bool = True,
    sustained_s: float | None = None,
    progress: Progress | None = None,
) -> list[LinkFigure]:
    """Measure ``links`` (None: all) in both directions and compensate the engine's own delay.

    ``sustained_s``: how long each direction must carry its rate, which is judged then; None: a moment, for information.

    About 8 s for two links; ``progress`` is told each stage.  The link ends have their addresses by now.  A figure
    outside its tolerance is measured again, four times at most (its note says so), then reported with ``ok`` False,
    not raised.  A link that the contact plan has down is reported as that, and checked to be silent; one that was
    cut by hand is not ``ok``.  Raises BenchError when the link box fails or an end has no address, and
    ConfigurationError for a link that does not exist.

    A tenant's box is measured on the tenant's packets, beside whatever the others send: what it is sure of, and for
    information the delay.
    """
    for name in links or ():
        box.commanded(name, "a_to_b")  # raises the error that names the links there are
    rows: list[LinkFigure] = []
    with ExitStack() as stack:
        activity = stack.enter_context(doing("calibration of links"))

        def tell(stage: str) -> None:
            activity.detail = stage
            if progress is not None:
                progress(stage)

        probes: list[Probe] = []
        blocked: list[LinkStatus] = []
        for status in box.show():
            if links is not None and status.name not in links:
                continue
            if status.up:
                source = box.own_address(status.name)
                probes += [stack.enter_context(Probe(status, d, source=source)) for d in DIRECTIONS]
            else:
                blocked.append(status)
        tell("links that are down")
        rows += _silent(box, blocked)
        tell("first packets")
        silent = packets.warm_up(probes)
        for name, direction in sorted(silent):
            planned = name in _followed(box) and _has_vanished(box, (name, direction))
            kind, why = (down, _LOST_CONTACT) if planned else (unmeasured, "no packet arrives")
            rows.append(kind(name, direction, why))
        probes = [probe for probe in probes if probe.name not in silent]
        carried = sustained.short if sustained_s is None else sustained.Sustained(sustained_s)
        steps = [*_STEPS[:-1], ("sustained rate", carried, 2), *_STEPS[-1 if outage else len(_STEPS) :]]
        for what, stage, attempts in _TENANT_STEPS if box.tenant else steps:
            tell(f"{what}, {len(probes)} directions")
            measured, gone = measure(box, probes, stage, attempts=attempts)
            rows += measured
            probes = [probe for probe in probes if probe.name not in gone]
    return rows


def carry_capacity(box: LinkBox, link: str, direction: Direction) -> LinkFigure:
    """Measure the rate of one direction alone, in about 0.4 s; :func:`cannot_carry` judges it."""
    box.commanded(link, direction)  # raises the error that names the links there are
    (status,) = (each for each in box.show() if each.name == link)
    with Probe(status, direction) as probe:
        if packets.warm_up([probe]):
            return unmeasured(link, direction, "no packet arrives")
        rows, _ = measure(box, [probe], stages.rate)
    return rows[0] if rows else unmeasured(link, direction, "no rate is commanded")


def cannot_carry(rows: Sequence[LinkFigure]) -> list[LinkFigure]:
    """Return the rates that fell short by more than the tolerance: this bench cannot carry them."""
    rates = [row for row in rows if row.quantity == "rate"]
    return [row for row in rates if row.measured is not None and row.measured < row.commanded - row.tolerance]


def measure(
    box: LinkBox, probes: Sequence[Probe], stage: Stage, *, attempts: int = ATTEMPTS
) -> tuple[list[LinkFigure], set[Name]]:
    """Run ``stage`` until every direction is within tolerance, ``attempts`` times at most: rows, and directions gone.

    Only what was outside is measured again; the notes say how often it took.  A measurement during which the
    contact plan took the link down or changed its loss does not count; a link that does not come back is gone, with
    a ``state`` row.
    """
    rows: list[LinkFigure] = []
    gone: set[Name] = set()
    left, attempt = list(probes), 1
    until = time.monotonic() + _UNDISTURBED_DEADLINE_S
    while left:
        before = {probe.name: _fixed(box, probe.name) for probe in left}
        figures = stage(box, left)
        disturbed: list[Probe] = []
        outside: list[Probe] = []
        for probe in left:
            mine = [row for row in figures if (row.link, row.direction) == probe.name]
            if before[probe.name].jitter_us:
                mine = [_unjudged(row) for row in mine]
            if attempt > 1:
                mine = [replace(row, note=f"{row.note}; attempt {attempt}".lstrip("; ")) for row in mine]
            good = all(row.ok for row in mine)
            after = _fixed(box, probe.name)
            steady = before[probe.name] == after and after.up
            moved = not steady and probe.link in _followed(box)
            if moved and _has_vanished(box, probe.name):
                rows.append(down(*probe.name, _LOST_CONTACT))
                gone.add(probe.name)
            elif moved and not good and time.monotonic() < until:
                disturbed.append(probe)
            elif not good and attempt < attempts:
                outside.append(probe)
            else:
                rows += mine
        left = [*disturbed, *outside]
        attempt += bool(outside)
    return rows, gone


def _unjudged(row: LinkFigure) -> LinkFigure:
    """Return a figure that jitter changes as one for information: nothing says how far off it may be then."""
    if row.quantity not in _MOVED_BY_JITTER or row.measured is None:
        return row
    note = f"{INFORMATION}: jitter is commanded{row.note and '; '}{row.note}"
    return replace(row, ok=True, tolerance=0.0, low=None, high=None, note=note)


def _fixed(box: LinkBox, name: Name) -> LinkState:
    """Return what is commanded of a direction, but for its delay, which may move while it is measured."""
    return replace(box.commanded(*name), delay_us=0)


def _has_vanished(box: LinkBox, name: Name) -> bool:
    """Return whether a direction is down, and not only for a moment."""
    return not any(box.commanded(*name).up for _ in poll_until(_BACK_AGAIN_S, every_s=0.02))


def _followed(box: LinkBox) -> set[str]:
    """Return the links that follow a contact plan and were not cut by hand."""
    by_hand = box.cut_links()
    return {
        status.name
        for status in box.show()
        if status.name not in by_hand and any(getattr(status, d).scheduled for d in DIRECTIONS)
    }


def _silent(box: LinkBox, statuses: Sequence[LinkStatus]) -> list[LinkFigure]:
    """Measure whether links that are commanded down, planned or by hand, are silent."""
    if not statuses:
        return []
    followed = _followed(box)
    rows: list[LinkFigure] = []
    with ExitStack() as stack:
        probes = [stack.enter_context(Probe(status, d)) for status in statuses for d in DIRECTIONS]
        packets.pace(probes, count=_SILENCE_PROBES, interval_s=_SILENCE_INTERVAL_S, spread=True)
        time.sleep(max(probe.delay_s for probe in probes) + 0.02)
        for probe in probes:
            arrivals = probe.arrivals()
            meant_up = any(box.commanded(*probe.name, at_ns=arrival.sent_ns).up for arrival in arrivals)
            if arrivals and not meant_up:
                note = f"commanded down, but {len(arrivals)} of {_SILENCE_PROBES} packets arrive"
                rows.append(LinkFigure(*probe.name, "state", 0, 1, "up", 0, False, note))
            elif probe.link in followed:
                rows.append(down(*probe.name, BLOCKED))
            else:
                rows.append(unmeasured(*probe.name, "the link is commanded down"))
    return rows
