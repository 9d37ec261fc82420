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

from hil.errors import BenchError, HilError
from hil.workload.stream_report import BoardDuty, Disagreement, StreamReport, StreamState
from hil.workload.tile import Tile, TileResult, TileServer

RETRY_S = 0.25
"""A board that failed is asked again after this time."""
WAIT_S = 0.1
STATE_S = 1.0
AWAY_S = 5.0
"""A board that could not be reached with another spacecraft's tile gets none of those for so long."""
HELP_S = 0.2
"""So long a board's own queue is empty before it helps another spacecraft that cannot keep up."""
FINISH_S = 60.0
"""The cameras have stopped, and no board has finished a tile for so long: none will."""
SLOWER = 3.0
"""What waits when the cameras stop may take so many times longer than at the speed until then."""


@dataclass
class _Queue:
    tiles: deque[Tile] = field(default_factory=deque)
    numbers: int = 0
    taken_s: float = 0.0
    """When a tile was taken from it last."""


class TileStream:
    """Runs for a time, then lets everything that was seen be finished.

    ``pictures``: contents of tiles, taken in turn; ``known``: the raw output's digest of each.  Every
    ``known_every``-th tile of a board is such a check; every ``again_every``-th tile is computed once more, which is a
    check where another board does it.
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
        self._start_s = self._end_s = self._last_s = 0.0
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
        finish_s: float = FINISH_S,
        during: Callable[[], None] | None = None,
        until_done: bool = False,
    ) -> StreamReport:
        """Feed the boards for so long (``during`` runs beside it), then wait for the rest.

        The wait ends when no tile was finished for ``finish_s``, and at the latest after that time and ``SLOWER`` times
        what the rest takes at the speed until then.

        ``until_done``: the cameras go on at least until ``during`` has ended.  An error of ``during`` ends all at once.
        """
        self._end_s = float("inf") if until_done and during is not None else self._clock() + seconds
        start_s = self._start_s = self._clock()
        boards = [_thread(f"stream-{server.board}", self._serve, server) for server in self._servers]
        cameras = [_thread(f"camera-{craft}", self._see, craft) for craft in self._queues]
        watch = _thread("stream-watch", self._watch)
        for thread in (*boards, *cameras, watch):
            thread.start()
        whole = False
        try:
            if during is not None:
                during()
            self._end_s = start_s + max(seconds, self.seconds if until_done else 0.0)
            for camera in cameras:
                camera.join()
            whole = True
        finally:
            if not whole:  # an error, Ctrl-C or the bench's loss: what waits is left
                self._end_s, finish_s = self._clock(), 0.0
                for camera in cameras:
                    camera.join()
            self.report.fed_s = self._clock() - start_s
            with self._changed:
                self._closed = True
                self._changed.notify_all()
                self._wait_for_rest(finish_s)
                self._gave_up = True
                self._changed.notify_all()
            for board in boards:
                board.join()
            self._ended.set()
            watch.join()
        self.report.seconds = self._clock() - start_s
        self._count_rest()
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
        return not self._left()

    def _left(self) -> int:
        """Return how many tiles wait or are in work."""
        return self._in_work + sum(len(queue.tiles) for queue in self._queues.values())

    def _wait_for_rest(self, finish_s: float) -> None:
        begun_s = self._last_s = self._clock()
        speed = len(self.report.results) / max(1e-9, begun_s - self._start_s)
        end_s = begun_s + finish_s + (SLOWER * self._left() / speed if speed else 0.0)
        while not self._is_done():
            left_s = min(end_s, self._last_s + finish_s) - self._clock()
            if left_s <= 0:
                self.report.stuck = self._clock() >= self._last_s + finish_s
                break
            self._changed.wait(left_s)

    def _count_rest(self) -> None:
        """Tell tiles that still wait from those that are nowhere; the boards have come back with what they had."""
        for craft, queue in self._queues.items():
            self.report.seen[craft] = queue.numbers
            held = {tile.number for tile in queue.tiles}
            for number in range(queue.numbers):
                if (craft, number) not in self.report.results:
                    (self.report.unfinished if number in held else self.report.lost).append((craft, number))

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
                self._count_failure(board, exc)
                self._give_back(server, board, tile)
                self._leave(server, tile)
                time.sleep(RETRY_S)
                continue
            except BaseException:  # of ours: this thread ends, and the others get its tile
                self._give_back(server, board, tile)
                self._leave(server, tile)
                raise
            self._keep(server, tile, result, start_s)
            try:
                if self._known_every and taken % self._known_every == 0:
                    self._ask_known(server, board, taken)
            finally:
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
            self._count_failure(board, exc)
            return
        with self._changed:
            self.report.checks += 1
            self._count_time(board, start_s, result)
            self._compare(server.board, tile, self._known[key], result.output_sha256)

    def _count_failure(self, board: BoardDuty, error: HilError) -> None:
        with self._changed:  # a board may have several threads
            board.failures += 1
            board.last_error = error.message

    def _count_time(self, board: BoardDuty, start_s: float, result: TileResult) -> None:
        asked_s, done_s = start_s - self._start_s, self.seconds
        board.asked_s.append(asked_s)
        board.done_s.append(done_s)
        board.computed_s.append(min(result.seconds, done_s - asked_s))

    def _keep(self, server: TileServer, tile: Tile, result: TileResult, start_s: float) -> None:
        board, name = self.report.boards[server.board], (tile.spacecraft, tile.number)
        with self._changed:
            self._in_work -= 1
            self._last_s = self._clock()
            board.works = True
            board.tiles += 1
            board.elsewhere += int(tile.spacecraft != server.spacecraft)
            board.latencies_s.append(self._clock() - start_s)
            self._count_time(board, start_s, result)
            before = self._outputs.setdefault(name, (server.board, result.output_sha256))
            self.report.checks += before[0] != server.board
            if tile.check != "again" and name in self.report.results:
                self.report.duplicates += 1
            elif tile.check != "again":
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


def _thread(name: str, target: Callable[..., None], *arguments: object) -> threading.Thread:
    return threading.Thread(target=target, args=arguments, name=name, daemon=True)
