"""Rows of a schedule on their way to one of a link box's kernels, and what it tells of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hil.errors import HarnessError
from hil.links.engines.agent import Agent, ClockOffset
from hil.links.engines.wire_format import KEEP_ALL, Applied, PlanRow
from hil.links.schedule.windows import ScheduleRow
from hil.links.shape import Direction

_CLOCK_READINGS = 5


@dataclass(frozen=True)
class SentRow:
    """A row of the schedule in one direction, and what was made of it for the kernel."""

    row: ScheduleRow
    direction: Direction
    made: PlanRow


class KernelFeed:
    """One kernel's part of a schedule, in our time; the kernel's clock may run apart from ours."""

    def __init__(self, agent: Agent, *, now_ns: Callable[[], int]) -> None:
        self.agent = agent
        self.clock: ClockOffset | None = None
        self.lost = 0
        """Rows that found no room in the kernel's log."""
        self._now_ns = now_ns
        self._seen = 0
        self.sent: dict[tuple[int, int], SentRow] = {}
        """Rows that the kernel has not told of yet, by slot and time on its clock."""
        self._superseded: dict[tuple[int, int], SentRow] = {}

    def measure_clock(self) -> None:
        self.clock = self.agent.offset(self._now_ns, readings=_CLOCK_READINGS)

    def kernel_ns(self, at_ns: int) -> int:
        """Convert a CLOCK_MONOTONIC ns of ours to the kernel's clock, by the latest measurement."""
        assert self.clock is not None, "measure_clock() comes first"
        return at_ns - self.clock.offset_ns

    def send(self, rows: Sequence[SentRow], *, instead_from_ns: int | None = None) -> None:
        """Hand over rows in time order; they replace all from ``instead_from_ns`` of the kernel's clock on."""
        if instead_from_ns is not None:
            self._superseded = {key: row for key, row in self.sent.items() if key[1] >= instead_from_ns}
            self.agent.plan_stage([])
        self.sent.update({(row.made.slot, row.made.at_ns): row for row in rows})
        if rows:
            self.agent.plan_stage([row.made for row in rows])
        if rows or instead_from_ns is not None:
            self.agent.plan_commit(KEEP_ALL if instead_from_ns is None else instead_from_ns)

    def log(self) -> Iterator[tuple[Applied, SentRow]]:
        """Yield what the kernel did since the last time, each row once. HarnessError for one that it was not given."""
        while True:
            piece = self.agent.plan_log(self._seen)
            self._seen, self.lost = piece.seen, piece.lost
            if not piece.applied:
                break
            for applied in piece.applied:
                sent = self.sent.pop((applied.slot, applied.planned_ns), None)
                if sent is None:
                    raise HarnessError(f"the link engine applied a row that it was not given: {applied}")
                yield applied, sent
        for key, row in self._superseded.items():
            if self.sent.get(key) is row:  # will never be played
                del self.sent[key]
        self._superseded = {}
