"""The state of a whole bench, once or for days: connections are kept, and a part that hangs delays no other."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from hil.bench.state import lease_keys, read_step
from hil.bench.twin_journal import last_samples
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.links.link_box import DIRECTIONS, Direction, DirectionStatus
from hil.monitor.background import BackgroundPoll, error_line
from hil.monitor.bench_health import DirectionHealth, Health, LeaseHealth, LinkHealth
from hil.monitor.board_watch import BoardWatch
from hil.monitor.link_delays import LinkDelays

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.lab.link_spec import LinkSpec

DEADLINE_S = 3.0
SENSORS_EVERY_S = 5.0
SENSED_PER_S = 4
"""Of a large bench no more boards are asked for their sensors in a second: container boards share this machine."""

T = TypeVar("T")


class Monitor(AbstractContextManager["Monitor"]):
    """``with Monitor(bench) as monitor: monitor.snapshot()``, as often as wanted.  The bench stays the caller's.

    ``deadline_s`` bounds a snapshot; ``sensors_every_s`` is how old readings may be (by default 5 s, and more on a
    bench of more than 20 boards); ``probe`` also times a few small packets over every link that is up.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        deadline_s: float = DEADLINE_S,
        sensors_every_s: float | None = None,
        probe: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._bench = bench
        self._sky = bench.orbit  # read now: its file goes away with the bench
        self._deadline_s = deadline_s
        self._clock = clock
        count = len(bench.boards)
        every_s = max(SENSORS_EVERY_S, count / SENSED_PER_S) if sensors_every_s is None else sensors_every_s
        self._boards = {
            name: BoardWatch(
                board, sensors_every_s=every_s, stagger_s=every_s * n / count, clock=clock, operator=bench.operator
            )
            for n, (name, board) in enumerate(bench.boards.items())
        }
        self._delays = LinkDelays() if probe else None
        self._links = BackgroundPoll("links", self._look_at_links)
        self._leases = BackgroundPoll("leases", self._look_at_leases)

    def snapshot(self) -> Health:
        """Return the state of everything, boards in parallel, within about ``deadline_s``.

        A part that does not answer is one of the ``problems``; nothing is raised for it.
        """
        begun, taken_at = self._clock.monotonic(), time.time()
        bench, problems = self._bench, []

        def left_s() -> float:
            return self._deadline_s - (self._clock.monotonic() - begun)

        def wait(what: str, poll: BackgroundPoll[tuple[T, ...]]) -> tuple[T, ...]:
            try:
                result = poll.wait(left_s())
            except Exception as exc:  # shown as a problem of the bench, for any reason
                problems.append(f"{what}: {error_line(exc)}")
                return ()
            if result is None:
                problems.append(f"{what}: no answer within {self._deadline_s:g} s")
            return result or ()

        for watch in self._boards.values():
            watch.begin()
        self._links.begin()
        self._leases.begin()
        links = wait("the link box", self._links)
        leases = wait("the lease store", self._leases)
        boards = tuple(watch.wait(left_s()) for watch in self._boards.values())
        state, orbit = bench.state, self._sky
        return Health(
            bench=bench.name,
            lab=bench.lab.name,
            taken_at=taken_at,
            took_s=self._clock.monotonic() - begun,
            started_utc=state.started_utc,
            engine={key: str(state.engine.get(key, "")) for key in ("kind", "kernel_release", "profile")},
            boards=boards,
            links=links,
            leases=leases,
            step=read_step(bench.name),
            heat=tuple(last_samples(bench.name)),
            mission_time=orbit.mission_time() if orbit else None,
            problems=tuple(problems),
        )

    def close(self) -> None:
        """Close all connections."""
        for watch in self._boards.values():
            watch.close()
        if self._delays is not None:
            self._delays.close()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _look_at_links(self) -> tuple[LinkHealth, ...]:
        links, cut = self._bench.links.show(), self._bench.links.cut_links()
        measured = self._delays.measure(links) if self._delays is not None else {}
        specs = {link.name: self._bench.lab.link(link.name) for link in links}
        return tuple(
            LinkHealth(
                name=link.name,
                kind=specs[link.name].kind,
                up=link.up,
                cut=link.name in cut,
                directions={
                    way: _direction(specs[link.name], way, getattr(link, way), measured.get((link.name, way)))
                    for way in DIRECTIONS
                },
                **self._phase(link.name),
            )
            for link in links
        )

    def _phase(self, link: str) -> dict[str, Any]:
        """Return the fields of the phase of a link that follows the orbit."""
        orbit = self._sky
        if orbit is None or link not in orbit.plan.links:
            return {}
        at_s = min(max(0.0, orbit.now_s()), orbit.plan.span_s)  # beyond its plan a link stays as it was last
        now = orbit.plan.interval(link, at_s)
        return {"phase": now.phase.value, "phase_left_s": now.end_s - at_s, "phase_why": now.why}

    def _look_at_leases(self) -> tuple[LeaseHealth, ...]:
        from hil.leases.leases import Leases, default_store

        if not default_store().exists():
            return ()  # no lease was ever taken, and reading makes no store
        lab, store = self._bench.lab, Leases()
        keys = lease_keys(lab, self._bench.name)
        names = {key: board.name for key, board in zip(keys, lab.boards, strict=True)}
        return tuple(
            LeaseHealth(
                id=claim.id,
                boards=tuple(name for key, name in names.items() if key in claim.boards),
                holder=claim.holder,
                host=claim.origin.host,
                purpose=claim.purpose,
                position=claim.position,
                expires=claim.expires,
                by_person=claim.by_person,
            )
            for claim in (*store.list(), *store.queue())
            if not claim.boards.isdisjoint(names)
        )


def _direction(
    spec: LinkSpec, direction: Direction, status: DirectionStatus, measured_s: float | None
) -> DirectionHealth:
    source, target = spec.between if direction == "a_to_b" else spec.between[::-1]
    commanded = status.commanded
    back_ns = status.kernel_delay_ns + status.compensation_ns
    return DirectionHealth(
        source=source,
        target=target,
        up=commanded.up,
        delay_s=commanded.delay_us / 1e6,
        rate_bps=commanded.rate_bps,
        loss=commanded.mean_loss_ppm / 1e6,
        agrees=status.agrees,
        kernel_delay_s=back_ns / 1e9 if status.kernel is not None else None,
        measured_delay_s=measured_s,
        sent_packets=status.sent_packets,
        sent_bytes=status.sent_bytes,
        dropped_packets=status.dropped_packets,
        queued_packets=status.queued_packets,
    )


def snapshot(bench: Bench, *, deadline_s: float = 15.0) -> Health:
    """Return the state of a bench once; for more keep a :class:`Monitor`, which keeps connections.

    Its deadline is long: opening a session to each of forty boards at once takes seconds.
    """
    with Monitor(bench, deadline_s=deadline_s) as monitor:
        return monitor.snapshot()
