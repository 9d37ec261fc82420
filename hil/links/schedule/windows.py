"""A schedule of links: what it consists of, and the files that tell every process what it commands at any moment.

The process that plays a schedule keeps it as windows, small files beside the link box's socket, each written before
the engine gets it: the files are the truth.  A window begins with the state of every link (its keyframe).
"""

from __future__ import annotations

import struct
import threading
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from hil.errors import BenchError, HarnessError
from hil.links.state import LinkState

TENTH_NS = 100_000_000
KEPT_S = 600.0
"""How far back it can be asked what was commanded."""
_ROW = struct.Struct("<qIIHH")
_CACHED = 6
_TRIES = 5


class ScheduleRow(NamedTuple):
    """A link, both directions, from ``at_ns`` after the schedule's zero on."""

    at_ns: int
    link: str
    up: bool
    delay_us: int  # one way
    loss_ppm: int


class Source(Protocol):
    """Where rows come from."""

    @property
    def links(self) -> tuple[str, ...]:
        """The links that follow the schedule."""
        ...

    def window(self, from_ns: int, to_ns: int) -> list[ScheduleRow]:
        """Return the rows in time order: every link's state at ``from_ns``, then the changes before ``to_ns``."""
        ...


def scheduled_state(own: LinkState, row: ScheduleRow, *, bulk: bool = False) -> LinkState:
    """Return what a row commands in a direction whose own state gives rate, MTU and burst model.

    Loss comes from the row unless the direction has a burst model; profile bulk knows no random loss.
    """
    loss_ppm = 0 if own.gemodel or bulk else row.loss_ppm
    return replace(own, up=row.up, delay_us=row.delay_us, loss_ppm=loss_ppm)


class Thinner:
    """Makes of any rows those that a kernel should get: few, at common moments, and none that commands nothing new.

    Edges and changes of loss stay where they are.  A delay that moves does so at whole tenths of a second, all
    links together, which costs the engine a quarter; so it is late by 0.1 s of its slope, or 3 us at 31 us/s.
    While a link is down its delay stands still.  ``step_us`` has links whose delay moves in larger steps, because
    each message restarts their burst model.
    """

    def __init__(self, step_us: Mapping[str, int] | None = None) -> None:
        self.last: dict[str, ScheduleRow] = {}
        self._step_us = step_us or {}

    def changes(self, rows: Iterable[ScheduleRow], *, before_ns: int) -> list[ScheduleRow]:
        """Return the rows that matter of one window, which ends at ``before_ns`` and the next of which begins there."""
        kept: dict[tuple[int, str], ScheduleRow] = {}  # one per moment and link
        moving: dict[str, ScheduleRow] = {}  # a delay that is to move at the next tenth of a second

        def keep(row: ScheduleRow) -> None:
            self.last[row.link] = row
            kept[row.at_ns, row.link] = row

        for row in rows:
            waiting = moving.get(row.link)
            if waiting and waiting.at_ns <= row.at_ns:
                keep(moving.pop(row.link))
            last = self.last.get(row.link)
            if last is None or row.up != last.up or (row.up and row.loss_ppm != last.loss_ppm):
                moving.pop(row.link, None)
                keep(row)
            elif row.up and abs(row.delay_us - last.delay_us) >= self._step_us.get(row.link, 1):
                moving[row.link] = row._replace(at_ns=-(-row.at_ns // TENTH_NS) * TENTH_NS)
            else:
                moving.pop(row.link, None)
        for row in moving.values():
            if row.at_ns < before_ns:  # else the next window begins with it
                keep(row)
        return sorted(kept.values(), key=lambda row: row.at_ns)


_PerLink = dict[str, tuple[list[int], list[ScheduleRow]]]
"""By link, the rows of a window and their times."""


class _Window(NamedTuple):
    number: int
    from_ns: int
    to_ns: int
    path: Path


class Windows:
    """The window files of one schedule. One process writes; any number read."""

    def __init__(self, directory: Path, links: Sequence[str]) -> None:
        self.directory = directory
        self._links = tuple(links)
        self._listed: list[_Window] = []
        self._lock = threading.Lock()  # one reader at a time: threads share a link box
        self._loaded: dict[Path, _PerLink] = {}

    @classmethod
    def beside(cls, socket_path: Path, links: Sequence[str]) -> Windows:
        return cls(socket_path.with_suffix(".schedule"), links)

    def write(self, from_ns: int, to_ns: int, rows: Iterable[ScheduleRow]) -> None:
        """Add a window; rows in time order, keyframe first. Windows much older than it go."""
        numbers = {name: number for number, name in enumerate(self._links)}
        self.directory.mkdir(parents=True, exist_ok=True)
        listed = self._list()
        number = listed[-1].number + 1 if listed else 0
        scratch = self.directory / "new"
        scratch.write_bytes(b"".join(_ROW.pack(r.at_ns, r.delay_us, r.loss_ppm, numbers[r.link], r.up) for r in rows))
        scratch.rename(self.directory / f"{number:08d}-{from_ns}-{to_ns}")
        for window in listed:
            if window.to_ns < from_ns - KEPT_S * 1e9:
                window.path.unlink(missing_ok=True)

    def forget_from(self, at_ns: int) -> None:
        """End the windows at ``at_ns``: another plan follows from there."""
        self._listed = []
        for window in self._list():
            if window.from_ns >= at_ns:
                window.path.unlink(missing_ok=True)
            elif window.to_ns > at_ns:  # a process that reads it meanwhile looks again
                window.path.rename(self.directory / f"{window.number:08d}-{window.from_ns}-{at_ns}")

    def remove(self) -> None:
        """Remove all of them, and their directory."""
        if self.directory.is_dir():
            for path in self.directory.iterdir():
                path.unlink(missing_ok=True)
            self.directory.rmdir()

    def at(self, link: str, at_ns: int) -> ScheduleRow:
        """Return the row last due at a moment; before the beginning the first one, after the end the last one.

        BenchError for a moment that is too long ago to be known, or when no schedule is kept here.
        """
        return self.between(link, at_ns, at_ns)[-1]

    def between(self, link: str, from_ns: int, to_ns: int) -> list[ScheduleRow]:
        """Return the row last due at ``from_ns`` and those that came until ``to_ns``, in time order."""
        with self._lock:
            for _ in range(_TRIES):
                with suppress(FileNotFoundError):  # a window that another plan took the place of meanwhile
                    return self._between(link, from_ns, to_ns)
                self._listed = []
        raise BenchError(f"the schedule at {self.directory} does not keep still", remedy="is the bench going down?")

    def _between(self, link: str, from_ns: int, to_ns: int) -> list[ScheduleRow]:
        between: list[ScheduleRow] = []
        at_ns = from_ns
        while True:
            window = self._covering(at_ns)
            times, rows = self._rows(window)[link]
            first = max(0, bisect_right(times, at_ns) - 1)
            between += rows[first : max(first + 1, bisect_right(times, to_ns))]
            if to_ns < window.to_ns:
                return between
            if window is self._listed[-1]:
                self._listed = self._list()  # another one may have been written meanwhile
                if self._listed[-1:] == [window]:
                    return between
            at_ns = window.to_ns

    def _covering(self, at_ns: int) -> _Window:
        """Return the latest written of the windows around a moment."""
        for fresh in (False, True):
            if fresh:
                self._listed = self._list()
            for window in reversed(self._listed):
                if window.from_ns <= at_ns < window.to_ns:
                    return window
        if not self._listed:
            raise BenchError(f"no schedule is kept at {self.directory}", remedy="is the bench still up?")
        newest, oldest = self._listed[-1], self._listed[0]
        if at_ns >= newest.from_ns:
            return newest
        if oldest.number == 0:
            return oldest
        raise BenchError(
            f"what was commanded {(newest.from_ns - at_ns) / 1e9:.0f} s ago is not kept",
            remedy=f"ask within {KEPT_S:.0f} s, or read the applied log",
        )

    def _rows(self, window: _Window) -> _PerLink:
        if window.path not in self._loaded:
            per_link: _PerLink = {name: ([], []) for name in self._links}
            for at_ns, delay_us, loss_ppm, number, up in _ROW.iter_unpack(window.path.read_bytes()):
                times, rows = per_link[self._links[number]]
                times.append(at_ns)
                rows.append(ScheduleRow(at_ns, self._links[number], bool(up), delay_us, loss_ppm))
            if empty := [name for name, (times, _) in per_link.items() if not times]:
                raise HarnessError(f"window {window.path.name} has no keyframe of {', '.join(empty)}")
            while len(self._loaded) >= _CACHED:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[window.path] = per_link
        return self._loaded[window.path]

    def _list(self) -> list[_Window]:
        windows = []
        for path in self.directory.glob("*-*-*"):
            number, from_ns, to_ns = path.name.split("-")
            windows.append(_Window(int(number), int(from_ns), int(to_ns), path))
        return sorted(windows)
