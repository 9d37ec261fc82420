"""Plays a schedule: keeps the engine supplied with rows, and writes down what it says became of them.

The engine applies rows on its own clock, so nothing here has to be on time; it only has to stay ahead.
"""

from __future__ import annotations

import csv
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hil.errors import BenchError, ConfigurationError, HarnessError, HilError
from hil.links.commanded import BoxRecord, LinkRecord, Override, ScheduleRecord
from hil.links.engines.wire_format import SLOTS_MAX, Applied
from hil.links.schedule.applied_log import COLUMNS, AppliedCounts
from hil.links.schedule.kernel_feed import KernelFeed, SentRow
from hil.links.schedule.windows import ScheduleRow, Source, Thinner, Windows, scheduled_state
from hil.links.shape import DIRECTIONS, plan_row, shape_of, slot
from hil.links.state import LinkState

if TYPE_CHECKING:
    from hil.links.link_box import LinkBox

AHEAD_S = 15.0
"""The engine holds rows for so long, so that this process may be held up."""
BURSTY_STEP_US = 20
"""A direction with a burst model gets delays in steps of at least this: every message restarts its chain."""
_PIECE_S = 2.0  # a large piece would occupy the engine's serial line for too long
_LEAST_S = 5.0  # but this much in one go
_WINDOW_NS = 30_000_000_000  # of a file of rows
_ROUND_S = 0.5
_LEAD_S = 0.1  # the first rows are with the engine before they are due


class Player:
    """Plays ``source`` on the links of a box, in the process that owns it; :meth:`start` begins, the box's end ends it.

    ``zero_ns`` is the CLOCK_MONOTONIC ns of the schedule's zero.
    ``on_error`` is called once, from the player's thread, with whatever ends the playing (also in ``failure``),
    and once with the first row that the engine's kernel refused; further ones are counted.
    """

    def __init__(
        self,
        box: LinkBox,
        source: Source,
        *,
        zero_ns: int,
        log_path: Path,
        on_error: Callable[[HilError], None] | None = None,
        now_ns: Callable[[], int] | None = None,
    ) -> None:
        self.failure: HilError | None = None
        self._box = box
        self._now_ns = now_ns or box.now_ns
        self._feeds = [KernelFeed(agent, now_ns=self._now_ns) for agent in box.agents]
        self._source = source
        self._zero_ns = zero_ns
        self._windows = Windows.beside(box.store.path, source.links)
        self._log_path = log_path
        self._counts = AppliedCounts()
        self._on_error = on_error or (lambda error: None)
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link-player", daemon=True)
        self._links: dict[str, tuple[int, LinkRecord]] = {}
        self._bulk = box.profile == "bulk"
        self._thinner = Thinner()
        self._waiting: deque[ScheduleRow] = deque()  # fetched, not yet with the engine
        self._begun_ns = self._fetched_ns = self._loaded_ns = 0
        self._clock_noted_ns = -1

    def start(self) -> Self:
        """Begin to play, in the middle if the zero has passed. ConfigurationError for links that are not there."""
        with self._box.store.changing() as draft:
            record = draft.record
            if record.schedule is not None:
                raise ConfigurationError("the links follow a schedule already", remedy="close its player first")
            self._links = {name: (record.position(name), record.link(name)) for name in self._source.links}
            if 2 * len(record.links) > SLOTS_MAX:
                raise ConfigurationError(f"{len(record.links)} links are too many for one link box")
            try:
                record = self._prepared(record)
            except BaseException:
                with suppress(HilError):
                    self._forget()
                self._windows.remove()
                raise
            schedule = ScheduleRecord(self._zero_ns, tuple(self._source.links))
            draft.record = replace(record, schedule=schedule)
        self._end.wait(min(_LEAD_S, max(0.0, (self._begun_ns - self._now()) / 1e9)))
        self._thread.start()
        self._box.on_close(self.close)
        return self

    def _prepared(self, record: BoxRecord) -> BoxRecord:
        """Teach the engine every direction, and give it its first rows."""
        self._windows.remove()
        self._forget()
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("w", newline="") as log:
            csv.writer(log).writerow(COLUMNS)
        for name, (position, old) in self._links.items():
            link = self._manual_to_override(old)
            self._links[name] = position, link
            record = record.with_link(link)
            agent = self._feeds[link.kernel].agent
            for direction in DIRECTIONS:
                agent.shape(slot(position, direction), shape_of(link, direction, record.seed))
            if held := [slot(position, direction) for direction in DIRECTIONS if link.held(direction)]:
                agent.hold(held)
        self._begin_at(self._source, max(0, self._now() + round(_LEAD_S * 1e9)))
        self._load()
        self._load()
        return record

    def replace(self, source: Source) -> None:
        """Follow another plan for the same links, from a moment after now on. ConfigurationError for other links."""
        if set(source.links) != set(self._source.links):
            raise ConfigurationError("a schedule can only be replaced by one of the same links")
        with self._lock, self._box.store.changing() as draft:
            from_ns = self._now() + round(_LEAD_S * 1e9)
            before = {name: self._windows.at(name, from_ns) for name in self._links}
            self._windows.forget_from(from_ns)
            self._waiting.clear()
            self._begin_at(source, from_ns, before)
            self._load(instead_from_ns=from_ns)
            self._load()
            self._drain()
            assert draft.record.schedule is not None
            schedule = replace(draft.record.schedule, revision=draft.record.schedule.revision + 1)
            draft.record = replace(draft.record, schedule=schedule)

    def step(self) -> None:
        """Supply the engine and read its log once; the thread does this twice a second."""
        with self._lock:
            goal_ns = self._now() + AHEAD_S * 1e9  # fixed: time goes on while pieces are loaded
            while self._loaded_ns < goal_ns:
                self._load()
                if self._waiting and self._loaded_ns >= self._now() + _LEAST_S * 1e9:
                    break  # the next piece in the next round: cuts by hand share the line
            self._drain()
        self._note_clock()

    def summary(self) -> dict[str, int]:
        """Return how many rows the engine took, how late (us), and how many were refused, held, or left no trace."""
        return self._counts.summary()

    def close(self) -> None:
        """Stop; the links stay as they are now and are commanded by hand again. Safe to call twice."""
        if self._end.is_set():
            return
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        if self._thread.ident is None:
            return  # never started
        with suppress(BenchError), self._box.store.changing() as draft:
            record = draft.record
            with suppress(HilError):  # an engine that is gone has nothing to tell
                self._drain()
                record = self._frozen(record)
                self._forget()
            draft.record = replace(record, schedule=None)
        self._windows.remove()

    def _now(self) -> int:
        """Return the time on the schedule, ns."""
        return self._now_ns() - self._zero_ns

    def _run(self) -> None:
        while not self._end.wait(_ROUND_S):
            try:
                self.step()
            except Exception as exc:
                self.failure = exc if isinstance(exc, HilError) else HarnessError(f"playing the schedule: {exc!r}")
                self._on_error(self.failure)
                return

    def _begin_at(self, source: Source, from_ns: int, before: Mapping[str, ScheduleRow] | None = None) -> None:
        """Fetch from here on; ``before`` has what the engine does by then."""
        self._source = source
        links = [link for _, link in self._links.values()]
        bursty = [link.name for link in links if any(state.gemodel for state in link.commanded.values())]
        self._thinner = Thinner(dict.fromkeys(bursty, BURSTY_STEP_US))
        self._thinner.last.update(before or {})
        self._begun_ns = self._fetched_ns = self._loaded_ns = from_ns
        self._fetch()

    def _fetch(self) -> None:
        """Fetch the next window: thinned, kept as a file, and then waiting for the engine."""
        from_ns, to_ns = self._fetched_ns, self._fetched_ns + _WINDOW_NS
        before = dict(self._thinner.last)
        rows = self._checked(self._source.window(from_ns, to_ns), from_ns, to_ns)
        changes = self._thinner.changes(rows, before_ns=to_ns)
        if missing := [name for name in self._links if name not in self._thinner.last]:
            raise HarnessError(f"the schedule has no state of {', '.join(missing)} at its beginning")
        keyframe = [row._replace(at_ns=from_ns) for row in before.values()]
        self._windows.write(from_ns, to_ns, [*keyframe, *changes])
        self._waiting += changes
        self._fetched_ns = to_ns
        for feed in self._feeds:
            feed.measure_clock()

    def _checked(self, rows: Iterable[ScheduleRow], from_ns: int, to_ns: int) -> Iterable[ScheduleRow]:
        last_ns = from_ns
        for row in rows:
            if row.at_ns == to_ns:
                row = row._replace(at_ns=to_ns - 1)  # seconds were rounded
            if row.link not in self._links or not last_ns <= row.at_ns < to_ns:
                raise HarnessError(f"{row} is out of place in a window from {from_ns} to {to_ns} ns")
            last_ns = row.at_ns
            yield row

    def _load(self, *, instead_from_ns: int | None = None) -> None:
        """Give the engine the next piece; it takes the place of what it has for ``instead_from_ns`` or later."""
        piece_s = _LEAD_S if self._loaded_ns == self._begun_ns else _PIECE_S  # the first one is there at once
        upto_ns = max(self._loaded_ns, min(self._now() + round(AHEAD_S * 1e9), self._loaded_ns + round(piece_s * 1e9)))
        while self._fetched_ns < upto_ns:
            self._fetch()
        piece: list[ScheduleRow] = []
        while self._waiting and self._waiting[0].at_ns < upto_ns:
            piece.append(self._waiting.popleft())
        for number, feed in enumerate(self._feeds):
            if feed.agent.own_clock:
                feed.measure_clock()  # crystals differ by 50 us a second
            rows = [row for row in piece if self._links[row.link][1].kernel == number]
            instead_ns = None if instead_from_ns is None else feed.kernel_ns(self._zero_ns + instead_from_ns)
            feed.send([made for row in rows for made in self._made(row, feed)], instead_from_ns=instead_ns)
        self._loaded_ns = upto_ns

    def _made(self, row: ScheduleRow, feed: KernelFeed) -> Iterator[SentRow]:
        """Yield both directions of a row, as its kernel takes them."""
        position, link = self._links[row.link]
        at_ns = feed.kernel_ns(self._zero_ns + row.at_ns)
        for direction in DIRECTIONS:
            state = scheduled_state(link.commanded[direction], row, bulk=self._bulk)
            yield SentRow(row, direction, plan_row(link, state, at_ns=at_ns, number=slot(position, direction)))

    def _drain(self) -> None:
        """Write down what the engine did since the last time, in the order of the plan; every row is told once."""
        applied_rows = [each for feed in self._feeds for each in feed.log()]
        applied_rows.sort(key=lambda each: each[1].row.at_ns)
        self._counts.lost = sum(feed.lost for feed in self._feeds)
        with self._log_path.open("a", newline="") as file:
            csv.writer(file).writerows(self._noted(applied, sent) for applied, sent in applied_rows)

    def _noted(self, applied: Applied, sent: SentRow) -> tuple[object, ...]:
        row, direction = sent.row, sent.direction
        self._counts.add(applied.late_us, applied.error, applied.held)
        if applied.error and self._counts.errors == 1:
            row_name = f"{row.link} {direction} at {row.at_ns / 1e9:.3f} s"
            message = f"the link engine refused the schedule's row for {row_name}: {os.strerror(applied.error)}"
            self._on_error(BenchError(message, remedy="see the applied log; bring the bench up again"))
        planned = f"{row.at_ns / 1e9:.6f}"
        state = int(row.up), row.delay_us, row.loss_ppm
        return planned, applied.late_us, row.link, direction, *state, applied.error, int(applied.held)

    def _forget(self) -> None:
        for feed in self._feeds:
            feed.agent.plan_forget()

    def _manual_to_override(self, link: LinkRecord) -> LinkRecord:
        """Keep a link cut that was cut before it had a schedule, until it is restored."""
        if not link.cut:
            return link
        now_ns = self._now_ns()
        held = {direction: Override(state, now_ns) for direction, state in link.commanded.items()}
        return replace(link.with_up(True), override=held)

    def _frozen(self, record: BoxRecord) -> BoxRecord:
        """Make what the schedule or a hand commands now the command from now on."""
        for name in self._links:
            link = record.link(name)
            states: dict[str, LinkState] = {d: self._box.commanded(name, d) for d in DIRECTIONS}
            record = record.with_link(replace(link, commanded=states, override={}, impaired={}))
        return record

    def _note_clock(self) -> None:
        """Write the offset of the engine's clock into the record: evidence, and for readers of its log."""
        feed = self._feeds[0]  # an engine with a clock of its own is one kernel
        if feed.agent.own_clock and feed.clock is not None and feed.clock.at_ns != self._clock_noted_ns:
            self._clock_noted_ns = feed.clock.at_ns
            with self._box.store.changing() as draft:
                draft.record = replace(draft.record, clock=feed.clock)
