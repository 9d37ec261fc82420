"""What the twin said of the boards while a stream ran."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hil.evidence.twin import BoardHeat, TwinChange, TwinSample

FULL_LOAD = 0.9
"""A container board that used less of what its clock allows did not show its heat at full load."""


@dataclass(frozen=True)
class HeatLog:
    """Samples and changes in the order of time; ``t_s`` of each counts from the stream's start, s."""

    samples: Sequence[TwinSample] = ()
    changes: Sequence[TwinChange] = ()
    period_s: float = 0.0
    """Of an orbit, s of the mission."""
    only: frozenset[str] | None = None
    """Boards that take part; None: all."""

    def _has(self, board: str) -> bool:
        return self.only is None or board in self.only

    def boards(self) -> dict[str, list[tuple[TwinSample, BoardHeat]]]:
        """Return by board its states, each with the sample that it is from."""
        found: dict[str, list[tuple[TwinSample, BoardHeat]]] = {}
        for sample in self.samples:
            for name, board in sample.boards.items():
                if self._has(name):
                    found.setdefault(name, []).append((sample, board))
        return found

    def loads(self) -> dict[str, float]:
        """Return the mean share of what its clock allowed that each board used."""
        return {name: sum(b.busy for _, b in rows) / len(rows) for name, rows in self.boards().items()}

    def orbits(self) -> float:
        """Return how many turns around the Earth the samples span."""
        if not self.samples or self.period_s <= 0:
            return 0.0
        return (self.samples[-1].mission_s - self.samples[0].mission_s) / self.period_s

    def drifts_k(self) -> Iterator[tuple[str, float]]:
        """Yield (board, mean junction of the last orbit less that of the one before it, K); two orbits are needed."""
        for name, rows in self.boards().items():
            end_s = rows[-1][0].mission_s
            last = [b.junction_c for s, b in rows if s.mission_s > end_s - self.period_s]
            before = [b.junction_c for s, b in rows if end_s - 2 * self.period_s < s.mission_s <= end_s - self.period_s]
            if last and before:
                yield name, sum(last) / len(last) - sum(before) / len(before)

    def boards_that(self, what: str) -> dict[str, float]:
        """Return the boards of which the twin said that (throttled, tripped, shed, restored), in the order of time.

        Each with when that was first, s from the stream's start.
        """
        found: dict[str, float] = {}
        for change in self.changes:
            if change.what == what and self._has(change.board):
                found.setdefault(change.board, change.t_s)
        return found
