"""A stream of tiles over the boards of several spacecraft: each computed once, where it was seen if that can be.

A spacecraft's camera fills a queue of bounded length and waits while that is full (backpressure: nothing is thrown
away).  Every board takes from its own spacecraft's queue.  While none of the boards of another spacecraft works, it
takes from that one's queue in turn with its own, one tile at a time; and while its own is empty and that one is full.
A tile that a board did not finish goes back to the front.
What is counted is the first result of a tile; a second one is counted as a duplicate and left out.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hil.errors import BenchError, HilError

RETRY_S = 0.25
"""A board that failed is asked again after this time."""
WAIT_S = 0.1
STATE_S = 1.0
GONE_S = 3.0
"""A backlog that is back sooner was not gone."""
AWAY_S = 5.0
"""A board that could not be reached with another spacecraft's tile gets none of those for so long."""
HELP_S = 0.2
"""So long a board's own queue is empty before it helps another spacecraft that cannot keep up."""


@dataclass(frozen=True)
class Tile:
    """One tile: ``number`` counts over the spacecraft that saw it; ``key`` says which picture it is."""

    spacecraft: str
    number: int
    key: int
    content: bytes
    check: str = ""
    """Not of the camera: a tile whose answer is known (``known``), or a second look at one (``again``)."""


@dataclass(frozen=True)
class TileResult:
    """What a board made of a tile: the mask, the digest of the network's raw output, and what it took."""

    mask: bytes
    output_sha256: str
    seconds: float


class TileServer(Protocol):
    """One board that computes tiles, asked from the spacecraft that saw them. Not shared between threads."""

    @property
    def board(self) -> str: ...
    @property
    def spacecraft(self) -> str: ...

    def compute(self, tile: Tile) -> TileResult:
        """Return the result. HilError when the board or the way to it fails."""
        ...


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
    """What each took in the network, by the board's clock."""

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


@dataclass
class _Queue:
    tiles: deque[Tile] = field(default_factory=deque)
    numbers: int = 0
    taken_s: float = 0.0
    """When a tile was taken from it last."""


class TileStream:
    """Runs for a time, then lets everything that was seen be finished.

    ``pictures``: contents of tiles, taken in turn; ``known``: the raw output's digest of each.  Every
    ``known_every``-th tile of a board is such a check, every ``again_every``-th tile is computed by a second board.
    ``camera_per_s``: tiles per second of each camera; 0: as fast as its boards empty its queue of ``queue`` tiles.
    ``on_state`` is told once in ``state_s`` how the stream stands.
    """

    def __init__(
        self,
        servers: Sequence[TileServer],
        pictures: Sequence[bytes],
        *,
        known: Mapping[int, str] | None = None,
        queue: int = 12,
        known_every: int = 0,
        again_every: int = 0,
        camera_per_s: float = 0.0,
        on_state: Callable[[StreamState], None] | None = None,
        state_s: float = STATE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers, self._pictures, self._known = servers, pictures, dict(known or {})
        self._length, self._known_every, self._again_every = queue, known_every, again_every
        self._every_s = 1 / camera_per_s if camera_per_s > 0 else 0.0
        self._on_state, self._state_s, self._clock = on_state, state_s, clock
        self._changed = threading.Condition()
        self._queues = {server.spacecraft: _Queue() for server in servers}
        self._in_work = 0
        self._closed = self._gave_up = False
        self._start_s = self._end_s = 0.0
        self._paused: set[str] = set()
        self._at_work: Counter[str] = Counter()
        self._abroad: Counter[str] = Counter()
        self._closed_until_s: dict[tuple[str, str], float] = {}
        self._ended = threading.Event()
        self._outputs: dict[tuple[str, int], tuple[str, str]] = {}
        self.report = StreamReport(boards={s.board: BoardDuty(s.spacecraft) for s in servers})

    def run(
        self,
        seconds: float,
        *,
        finish_s: float = 60.0,
        during: Callable[[], None] | None = None,
        until_done: bool = False,
    ) -> StreamReport:
        """Feed the boards for so long (``during`` runs beside it), then wait for the rest at most ``finish_s``.

        ``until_done``: the cameras go on at least until ``during`` has ended.
        """
        self._end_s = float("inf") if until_done and during is not None else self._clock() + seconds
        start_s = self._start_s = self._clock()
        boards = [threading.Thread(target=self._serve, args=(s,), name=f"stream-{s.board}") for s in self._servers]
        cameras = [threading.Thread(target=self._see, args=(craft,), name=f"camera-{craft}") for craft in self._queues]
        watch = threading.Thread(target=self._watch, name="stream-watch")
        for thread in (*boards, *cameras, watch):
            thread.start()
        try:
            if during is not None:
                during()
        finally:
            self._end_s = start_s + max(seconds, self.seconds if until_done else 0.0)
            for camera in cameras:
                camera.join()
            self.report.fed_s = self._clock() - start_s
            with self._changed:
                self._closed = True
                self._changed.notify_all()
                self._changed.wait_for(self._is_done, finish_s)
                self._gave_up = True
                self._changed.notify_all()
            for board in boards:
                board.join()
            self._ended.set()
            watch.join()
        self.report.seconds = self._clock() - start_s
        self._count_lost()
        return self.report

    @property
    def seconds(self) -> float:
        """Time since the start, s."""
        return self._clock() - self._start_s

    def pause(self, boards: Iterable[str], *, deadline_s: float = 60.0) -> None:
        """Give these boards no more tiles, and wait until they have finished what they have.

        Their tiles go to other spacecraft when all boards there are paused or fail.  BenchError at the deadline.
        """
        with self._changed:
            chosen = set(boards)
            self._paused |= chosen
            if not self._changed.wait_for(lambda: not any(self._at_work[name] for name in chosen), deadline_s):
                raise BenchError(f"{', '.join(sorted(chosen))}: tiles are still in work after {deadline_s:g} s")

    def resume(self, boards: Iterable[str]) -> None:
        """Let these boards take tiles again."""
        with self._changed:
            self._paused -= set(boards)
            self._changed.notify_all()

    def _watch(self) -> None:
        while not self._ended.wait(self._state_s):
            with self._changed:
                waiting = {craft: len(queue.tiles) for craft, queue in self._queues.items()}
                silent = tuple(name for name, board in self.report.boards.items() if not board.works)
            state = StreamState(self.seconds, waiting, silent)
            self.report.states.append(state)
            if self._on_state is not None:
                self._on_state(state)

    def _is_done(self) -> bool:
        return not self._in_work and not any(queue.tiles for queue in self._queues.values())

    def _count_lost(self) -> None:
        for craft, queue in self._queues.items():
            self.report.seen[craft] = queue.numbers
            missing = (n for n in range(queue.numbers) if (craft, n) not in self.report.results)
            self.report.lost += [(craft, n) for n in missing]

    def _see(self, craft: str) -> None:
        """Put tiles of one spacecraft into its queue until the cameras stop."""
        queue, waited_s = self._queues[craft], 0.0
        while self._clock() < self._end_s:
            with self._changed:
                before_s = self._clock()
                while len(queue.tiles) >= self._length and self._clock() < self._end_s:
                    self._changed.wait(min(WAIT_S, max(0.001, self._end_s - self._clock())))
                waited_s += self._clock() - before_s
                due_s = self._start_s + queue.numbers * self._every_s
                while self._every_s and (now_s := self._clock()) < min(due_s, self._end_s):
                    self._changed.wait(min(WAIT_S, due_s - now_s))
                if self._clock() >= self._end_s:
                    break
                key = queue.numbers % len(self._pictures)
                queue.tiles.append(Tile(craft, queue.numbers, key, self._pictures[key]))
                if self._again_every and queue.numbers % self._again_every == 0:
                    queue.tiles.append(Tile(craft, queue.numbers, key, self._pictures[key], check="again"))
                queue.numbers += 1
                self._changed.notify_all()
        self.report.waited_s[craft] = waited_s

    def _take(self, server: TileServer) -> Tile | None:
        """Return the next tile for a board, which is then in work; None at the end."""
        with self._changed:
            while not self._gave_up:
                craft = self._chosen(server)
                if craft is not None:
                    tile = self._queues[craft].tiles.popleft()
                    self._queues[craft].taken_s = self._clock()
                    self._abroad[server.board] += craft != server.spacecraft
                    self._in_work += 1
                    self._at_work[server.board] += 1
                    self._changed.notify_all()
                    return tile
                if self._closed and self._is_done():
                    return None
                self._changed.wait(WAIT_S)
            return None

    def _chosen(self, server: TileServer) -> str | None:
        """Return the spacecraft whose tile the board takes now."""
        own = self._queues[server.spacecraft]
        if server.board in self._paused:
            return None
        choices = [server.spacecraft] if own.tiles else []
        if own.tiles and self._abroad[server.board]:
            return server.spacecraft
        idle = self._clock() - max(self._start_s, own.taken_s) >= HELP_S
        for craft, queue in self._queues.items():
            works = any(
                b.works and name not in self._paused for name, b in self.report.boards.items() if b.spacecraft == craft
            )
            open_way = self._clock() >= self._closed_until_s.get((server.board, craft), 0.0)
            helps = not works or (idle and not own.tiles and len(queue.tiles) >= self._length)
            if craft != server.spacecraft and queue.tiles and open_way and helps:
                choices.append(craft)
        return min(choices, key=lambda craft: self._queues[craft].taken_s, default=None)

    def _serve(self, server: TileServer) -> None:
        board, taken = self.report.boards[server.board], 0
        while (tile := self._take(server)) is not None:
            taken += 1
            start_s = self._clock()
            try:
                result = server.compute(tile)
            except HilError as exc:
                board.failures += 1
                board.last_error = exc.message
                self._give_back(server, board, tile)
                self._leave(server, tile)
                time.sleep(RETRY_S)
                continue
            self._keep(server, tile, result, start_s)
            if self._known_every and taken % self._known_every == 0:
                self._ask_known(server, board, taken)
            self._leave(server, tile)

    def _leave(self, server: TileServer, tile: Tile) -> None:
        with self._changed:
            self._at_work[server.board] -= 1
            self._abroad[server.board] -= tile.spacecraft != server.spacecraft
            self._changed.notify_all()

    def _give_back(self, server: TileServer, board: BoardDuty, tile: Tile) -> None:
        """Put a tile back; where it was of another spacecraft, its way is left alone for a while."""
        with self._changed:
            if tile.spacecraft == server.spacecraft:
                board.works = False
            else:
                self._closed_until_s[server.board, tile.spacecraft] = self._clock() + AWAY_S
            self._in_work -= 1
            self._queues[tile.spacecraft].tiles.appendleft(tile)
            self._changed.notify_all()

    def _ask_known(self, server: TileServer, board: BoardDuty, taken: int) -> None:
        key = taken // self._known_every % len(self._pictures)  # each picture in turn: a flip may show on few of them
        if key not in self._known:
            return
        tile = Tile(server.spacecraft, -taken, key, self._pictures[key], check="known")
        start_s = self._clock()
        try:
            result = server.compute(tile)
        except HilError as exc:
            board.failures += 1
            board.last_error = exc.message
            return
        with self._changed:
            self.report.checks += 1
            self._count_time(board, start_s, result)
            self._compare(server.board, tile, self._known[key], result.output_sha256)

    def _count_time(self, board: BoardDuty, start_s: float, result: TileResult) -> None:
        board.asked_s.append(start_s - self._start_s)
        board.done_s.append(self.seconds)
        board.computed_s.append(result.seconds)

    def _keep(self, server: TileServer, tile: Tile, result: TileResult, start_s: float) -> None:
        board, name = self.report.boards[server.board], (tile.spacecraft, tile.number)
        with self._changed:
            self._in_work -= 1
            board.works = True
            board.tiles += 1
            board.elsewhere += int(tile.spacecraft != server.spacecraft)
            board.latencies_s.append(self._clock() - start_s)
            self._count_time(board, start_s, result)
            before = self._outputs.setdefault(name, (server.board, result.output_sha256))
            if tile.check == "again":
                self.report.checks += 1
            elif name in self.report.results:
                self.report.duplicates += 1
            else:
                self.report.results[name] = hashlib.sha256(result.mask).hexdigest()
                self.report.raw_bytes += len(tile.content)
                self.report.result_bytes += len(result.mask)
            if tile.key in self._known:
                self._compare(server.board, tile, self._known[tile.key], result.output_sha256)
            elif before[1] != result.output_sha256:
                self._compare(server.board, tile, before[1], result.output_sha256)
            self._changed.notify_all()

    def _compare(self, board: str, tile: Tile, expected: str, found: str) -> None:
        if expected != found:
            self.report.wrong.append(Disagreement(board, tile, expected, found))
