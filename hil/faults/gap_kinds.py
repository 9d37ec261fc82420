"""A planned end of contact that strikes in the middle of something, and the next contact in which that goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from hil.core.command import Progress, silent
from hil.core.wait import SYSTEM_CLOCK, Clock, poll_until
from hil.errors import BenchError, DeviceError
from hil.evidence.events import ContactGap, FaultInjected
from hil.evidence.sink import Sink
from hil.faults.fault import Bite, Fault, Parameter, Proof
from hil.faults.inject import Work
from hil.faults.links import way_from_ground
from hil.rollout.contact_gaps import OrbitClock, PlannedGap, upcoming

if TYPE_CHECKING:
    from hil.bench.bench import Bench

_log = logging.getLogger(__name__)

T = TypeVar("T")

POLL_S = 0.05
TELL_EVERY_S = 30.0
IN_FLIGHT_S = 1.0
"""So long after the planned end of contact bytes may still arrive: light time, queues, a busy host."""
EARLY_S = 0.2
"""The link box and this process read the same clock, but not at the same moment."""
RESUME_DEADLINE_S = 60.0
END_DEADLINE_S = 180.0


class ContactLost:
    """The contact between the ground and a spacecraft ends by plan, and returns by plan."""

    description = "waits for the planned end of the ground's contact with a spacecraft, and then for its return"
    works_on = "labs with an orbit"
    parameters = (Parameter("within_s", 900.0, 1.0, 86_400.0, "longest time until the contact ends, seconds"),)

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return all spacecraft of a lab with an orbit; none without."""
        return tuple(craft.name for craft in bench.lab.spacecraft) if bench.orbit is not None else ()

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Wait until the contact ends. Raises BenchError when none ends within ``within_s``."""
        assert bench.orbit is not None  # else there are no targets
        within_s = values["within_s"]
        orbit, ground = bench.orbit, bench.lab.ground_station.name
        gap = next(iter(upcoming(orbit, bench.lab, ground, target, within_s=within_s)), None)
        if gap is None:
            raise BenchError(
                f"no contact of {ground} with {target} ends by plan within {within_s:g} s",
                remedy="choose another epoch (`hil orbit contacts`), or a larger within_s",
            )
        _wait(orbit, gap.closes_s, "the planned end of contact", silent, SYSTEM_CLOCK)

        def prove() -> Proof:
            for _ in poll_until(IN_FLIGHT_S):
                way, carry = way_from_ground(bench, target), _carrying(bench, gap.links)
                if way is None and not carry:
                    break
            seen = f"the way from the ground is {' - '.join(way) if way else 'closed'}"
            still = f", and the kernel still lets {', '.join(carry)} through" if carry else ", also in the kernel"
            return Proof.of(way is None and not carry, seen + still)

        return Bite(prove)

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Wait for the planned return of a contact that has ended; nothing while there is contact."""
        assert bench.orbit is not None
        orbit, ground = bench.orbit, bench.lab.ground_station.name
        for gap in upcoming(orbit, bench.lab, ground, target, within_s=0.0):
            _wait(orbit, gap.opens_s, "the planned return of contact", silent, SYSTEM_CLOCK)


def _carrying(bench: Bench, links: Sequence[str]) -> list[str]:
    """Return those of the links that the kernel lets through, as read back, in either direction."""
    ways = {status.name: (status.a_to_b.kernel, status.b_to_a.kernel) for status in bench.links.show()}
    return [name for name in links if any(state is None or state.up for state in ways[name])]


CONTACT_GAP: Fault = ContactLost()


@dataclass(frozen=True)
class Interrupted(Generic[T]):
    """The outcome of an action that a planned gap interrupted."""

    result: T
    at_close: int
    """Progress when the contact ended."""
    again_after_s: float
    """From the planned return of the contact to the first progress; at least 0."""


def across_gap(
    action: Callable[[], T],
    gap: PlannedGap,
    *,
    orbit: OrbitClock,
    lead_s: float,
    progress: Callable[[], int],
    whole: int,
    what: str,
    sink: Sink,
    tell: Progress = silent,
    clock: Clock = SYSTEM_CLOCK,
) -> Interrupted[T]:
    """Start ``action`` ``lead_s`` before the gap, so that it strikes midway; wait for its end in the next contact.

    ``progress`` counts what has arrived of ``whole``, ``tell`` is told about the wait.  Evidence: ``fault`` when the
    contact ends, and ``contact.gap`` with planned and observed times (seconds since the plan's start).  BenchError
    when the gap did not strike midway or bytes arrived within it: then nothing was shown.  DeviceError when nothing
    arrives in the next contact.  What the action raises is raised.
    """
    if orbit.now_s() >= gap.closes_s - lead_s:
        raise BenchError(f"{what}: the contact ends too soon to begin before it", remedy="choose another epoch")
    _wait(orbit, gap.closes_s - lead_s, f"the planned end of contact on {', '.join(gap.links)}", tell, clock)
    begun_s = orbit.now_s()
    work = Work(action, what)

    def run_until(end_s: float, when: str) -> None:
        while orbit.now_s() < end_s:
            work.must_run(when)
            clock.sleep(POLL_S)

    run_until(gap.closes_s, "before the contact ended")
    at_close = progress()
    work.must_run("before the contact ended")
    if at_close <= 0:
        raise BenchError(f"{what}: the contact ended before the first byte arrived", remedy="begin earlier")
    _log.info("fault at progress %d, as planned: %s", at_close, what)
    sink.emit(FaultInjected(what, at_close, planned=True))
    tell(f"contact lost by plan after {at_close:,} bytes; it returns in {gap.opens_s - orbit.now_s():.0f} s")
    run_until(min(gap.closes_s + IN_FLIGHT_S, gap.opens_s), "within the gap")
    held = progress()
    if held >= whole:
        raise BenchError(f"{what}: everything had arrived when the contact ended", remedy="begin later")
    while orbit.now_s() < gap.opens_s - EARLY_S:
        run_until(orbit.now_s() + POLL_S, "within the gap")
        now = progress()
        if now > held and orbit.now_s() < gap.opens_s - EARLY_S:
            raise BenchError(
                f"{what}: {now - held:,} bytes arrived while the contact was closed by plan",
                remedy="the links do not follow the plan: see `hil link show` and the applied schedule",
            )
    while progress() <= held:
        if work.error:
            raise work.error
        if orbit.now_s() > gap.opens_s + RESUME_DEADLINE_S:
            raise DeviceError(f"{what}: no byte for {RESUME_DEADLINE_S:g} s after the contact returned")
        clock.sleep(POLL_S)
    again_s = orbit.now_s()
    tell(f"bytes flow again {again_s - gap.opens_s:.1f} s after the planned return of the contact")
    work.wait(END_DEADLINE_S)
    if work.error:
        raise work.error
    sink.emit(
        ContactGap(
            what=what,
            links=tuple(gap.links),
            begun_s=round(begun_s, 3),
            closes_s=gap.closes_s,
            opens_s=gap.opens_s,
            bytes_at_close=at_close,
            bytes_held=held,
            flowed_again_s=round(again_s, 3),
            ended_s=round(orbit.now_s(), 3),
        )
    )
    return Interrupted(cast(T, work.result), at_close, max(0.0, again_s - gap.opens_s))


def _wait(orbit: OrbitClock, until_s: float, what: str, tell: Progress, clock: Clock) -> None:
    tell_at_s = orbit.now_s()
    while (left_s := until_s - orbit.now_s()) > 0:
        if orbit.now_s() >= tell_at_s:
            tell(f"waiting {left_s:.0f} s for {what}")
            tell_at_s += TELL_EVERY_S
        clock.sleep(min(left_s, 1.0))
