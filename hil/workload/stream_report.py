"""What became of a stream of tiles: whole, by board, and moment by moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hil.workload.tile import Tile

GONE_S = 3.0
"""A backlog that is back sooner was not gone."""


@dataclass
class BoardDuty:
    """One board's part of a stream."""

    spacecraft: str
    tiles: int = 0
    elsewhere: int = 0
    """Tiles of another spacecraft among them."""
    failures: int = 0
    latencies_s: list[float] = field(default_factory=list)
    last_error: str = ""
    works: bool = True
    asked_s: list[float] = field(default_factory=list)
    """When each tile that it finished was sent to it, seconds from the start; known ones, too."""
    done_s: list[float] = field(default_factory=list)
    """When the result of each came."""
    computed_s: list[float] = field(default_factory=list)
    """What each took in the network, by the board's clock; never more than it had the tile."""

    def duty(self, fed_s: float) -> float:
        """Return the share of the time in which a tile was in its network while the cameras ran.

        A board that waits for its share of a processor with a tile in its network computes: how fast it is allowed to
        be is no matter of duty.
        """
        return _covered(self._computing(), fed_s)

    def assigned(self, fed_s: float) -> float:
        """Return the share of the time in which it had work: from a tile's sending to its result."""
        return _covered(zip(self.asked_s, self.done_s, strict=True), fed_s)

    def back_s(self, after_s: float) -> float | None:
        """Return how long after a moment a tile is in its network again, s; 0 when one is then; None: never."""
        begins = [begin for begin, end in self._computing() if end >= after_s]
        return max(0.0, min(begins) - after_s) if begins else None

    def rate_per_s(self, from_s: float, to_s: float) -> float:
        """Return its tiles per second between two moments."""
        return sum(from_s <= at < to_s for at in self.done_s) / (to_s - from_s) if to_s > from_s else 0.0

    def _computing(self) -> list[tuple[float, float]]:
        """Return when its network computed: a result comes at once after it (its way back is not counted)."""
        return [(done - took, done) for done, took in zip(self.done_s, self.computed_s, strict=True)]


def _covered(spans: Iterable[tuple[float, float]], end_s: float) -> float:
    """Return the share of the time from 0 to ``end_s`` that lies in one of the spans."""
    covered = at_s = 0.0
    for begin, end in sorted(spans):
        begin, end = max(begin, at_s), min(end, end_s)
        if end > begin:
            covered, at_s = covered + end - begin, end
    return covered / end_s if end_s > 0 else 0.0


@dataclass(frozen=True)
class StreamState:
    """A stream at one moment."""

    t_s: float
    """Since its start."""
    waiting: Mapping[str, int]
    """Tiles in each spacecraft's queue."""
    silent: tuple[str, ...]
    """Boards whose last tile failed."""

    @property
    def longest(self) -> int:
        """Tiles in the longest queue."""
        return max(self.waiting.values(), default=0)


@dataclass(frozen=True)
class Disagreement:
    """A tile for which a board gave another raw output than it must, or than another board did."""

    board: str
    tile: Tile
    expected: str
    found: str


@dataclass
class StreamReport:
    """What became of a stream."""

    seconds: float = 0.0
    fed_s: float = 0.0
    """How long the cameras ran; what was in the queues then was finished after it."""
    seen: dict[str, int] = field(default_factory=dict)
    """Tiles of each camera."""
    boards: dict[str, BoardDuty] = field(default_factory=dict)
    lost: list[tuple[str, int]] = field(default_factory=list)
    """Tiles that have no result and wait nowhere."""
    unfinished: list[tuple[str, int]] = field(default_factory=list)
    """Tiles that still waited for a board when the stream gave up."""
    stuck: bool = False
    """It gave up because no board finished a tile any more; else the boards were still at it, too slowly."""
    duplicates: int = 0
    results: dict[tuple[str, int], str] = field(default_factory=dict)
    """Digest of the mask by (spacecraft, number)."""
    wrong: list[Disagreement] = field(default_factory=list)
    checks: int = 0
    waited_s: dict[str, float] = field(default_factory=dict)
    """Time for which each camera stood before a full queue."""
    raw_bytes: int = 0
    result_bytes: int = 0
    states: list[StreamState] = field(default_factory=list)

    def waiting(self, at_s: float) -> int:
        """Return how many tiles the longest queue held at a moment: in the first state from then on; 0 without one."""
        return next((state.longest for state in self.states if state.t_s >= at_s), 0)

    def worked_off_s(self, after_s: float, tiles: int) -> float | None:
        """Return how long after a moment the backlog was gone, s; None: never.

        It is gone when no queue holds more than so many tiles, now and for the next ``GONE_S``; to a second, as often
        as the queues are looked at.
        """
        later = [state for state in self.states if state.t_s >= after_s]
        for state in later:
            if all(each.longest <= tiles for each in later if state.t_s <= each.t_s <= state.t_s + GONE_S):
                return state.t_s - after_s
        return None

    @property
    def tiles_per_s(self) -> float:
        return len(self.results) / self.seconds if self.seconds > 0 else 0.0

    def latency_s(self, share: float) -> float:
        """Return a quantile of the time from a tile's sending to its result, all boards; 0 without any."""
        return quantile((second for board in self.boards.values() for second in board.latencies_s), share)


def quantile(values: Iterable[float], share: float) -> float:
    """Return the value that a share of them does not exceed; 0 without any."""
    every = sorted(values)
    return every[min(len(every) - 1, int(share * len(every)))] if every else 0.0
