"""The stream of tiles: none lost, none counted twice, at home while that can be, and nothing thrown away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from hil.errors import BenchError
from hil.workload.stream import TileStream
from hil.workload.stream_report import StreamState
from hil.workload.tile import Tile, TileResult, TileServer

PICTURES = [b"tile-0", b"tile-1", b"tile-2"]
KNOWN = {k: f"output of {picture!r}" for k, picture in enumerate(PICTURES)}


class Server:
    """A board that answers after a while, unless something stands in its way."""

    def __init__(self, board: str, spacecraft: str, *, seconds: float = 0.004) -> None:
        self.board, self.spacecraft, self.seconds = board, spacecraft, seconds
        self.fails: Callable[[Tile], bool] = lambda tile: False
        self.wrong = False
        self.claims_s = seconds
        self.computed: list[Tile] = []

    def compute(self, tile: Tile) -> TileResult:
        time.sleep(self.seconds)
        if self.fails(tile):
            raise BenchError(f"{self.board} does not answer")
        self.computed.append(tile)
        output = KNOWN[tile.key] + (" flipped" if self.wrong else "")
        return TileResult(tile.content[:1], output, self.claims_s)


def six() -> list[Server]:
    return [Server(f"{x}{k}", f"sc-{x}") for x in "ab" for k in (1, 2, 3)]


def stream(servers: list[Server], *, queue: int = 12, known_every: int = 0, again_every: int = 0) -> TileStream:
    boards: list[TileServer] = list(servers)
    return TileStream(boards, PICTURES, known=KNOWN, queue=queue, known_every=known_every, again_every=again_every)


def test_every_tile_is_computed_once_and_on_the_spacecraft_that_saw_it() -> None:
    servers = six()
    report = stream(servers, queue=40).run(0.4)
    assert report.lost == [] and report.duplicates == 0 and report.wrong == []
    assert len(report.results) == sum(report.seen.values()) > 50
    assert all(board.tiles and not board.elsewhere for board in report.boards.values())
    assert report.raw_bytes == 6 * len(report.results)
    assert report.result_bytes == len(report.results)
    assert all(waited_s > 0 for waited_s in report.waited_s.values())  # the cameras are faster: backpressure
    assert report.latency_s(0.5) <= report.latency_s(0.99)
    assert all(0.3 < board.duty(report.fed_s) <= 1 for board in report.boards.values())


def test_a_board_that_dies_and_a_crosslink_that_is_cut_lose_and_repeat_nothing() -> None:
    servers = six()
    gone = threading.Event()
    servers[1].fails = lambda tile: gone.is_set()
    for server in servers[3:]:
        server.fails = lambda tile: gone.is_set() and tile.spacecraft == "sc-a"
    threading.Timer(0.15, gone.set).start()
    report = stream(servers).run(0.5)
    assert report.lost == [] and report.duplicates == 0
    assert report.boards["a2"].failures >= 1
    assert len(report.results) == sum(report.seen.values())


def test_a_spacecraft_without_a_board_that_works_is_helped_by_the_other() -> None:
    servers = six()
    for server in servers[:3]:
        server.fails = lambda tile: True
    report = stream(servers).run(0.4)
    assert report.lost == []
    assert {name for name, n in report.results if name == "sc-a"}
    assert sum(board.elsewhere for board in report.boards.values()) >= report.seen["sc-a"]


def test_what_nobody_can_compute_is_named() -> None:
    servers = six()[:3]
    for server in servers:
        server.fails = lambda tile: True
    report = stream(servers).run(0.1, finish_s=0.2)
    assert report.unfinished == [("sc-a", n) for n in range(report.seen["sc-a"])] != []
    assert report.stuck and report.lost == []


def test_tiles_that_take_longer_than_the_wait_for_one_of_them_are_finished() -> None:
    servers = six()
    for server in servers:
        server.seconds = 0.05
    report = stream(servers, queue=60).run(0.3, finish_s=0.5)  # 120 tiles wait then: a second
    assert report.lost == report.unfinished == [] and not report.stuck
    assert report.seconds - report.fed_s > 0.5


def test_boards_that_become_much_slower_lose_nothing_and_the_wait_for_them_ends() -> None:
    servers = six()

    def become_slow() -> None:
        time.sleep(0.2)
        for server in servers:
            server.seconds = 0.15

    report = stream(servers, queue=60).run(0.2, finish_s=0.5, during=become_slow)
    assert report.lost == [] and not report.stuck
    assert report.unfinished and len(report.results) + len(report.unfinished) == sum(report.seen.values())
    assert report.seconds - report.fed_s < 3.0  # and not until all is done


def test_a_thread_of_ours_that_dies_leaves_its_tile_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    servers, died = six(), []
    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(args.exc_type))

    def bug(tile: Tile) -> bool:
        servers[1].fails = lambda tile: False
        raise ZeroDivisionError

    servers[1].fails = bug
    report = stream(servers).run(0.2, finish_s=5.0)
    assert died == [ZeroDivisionError]
    assert report.lost == report.unfinished == [] and report.seconds - report.fed_s < 4.0


def test_a_board_that_computes_wrongly_is_named() -> None:
    servers = six()
    servers[4].wrong = True
    report = stream(servers, known_every=5, again_every=4).run(0.3)
    assert report.wrong and {found.board for found in report.wrong} == {"b2"}
    assert report.checks > 3
    assert report.duplicates == 0  # a second look is no second result


def test_known_tiles_show_every_picture_in_turn() -> None:
    servers = six()
    stream(servers, known_every=len(PICTURES)).run(0.3)
    assert {tile.key for server in servers for tile in server.computed if tile.check == "known"} == {0, 1, 2}


def test_a_camera_of_a_fixed_rate_keeps_it_and_a_backlog_is_seen_and_worked_off() -> None:
    servers, capped = six(), threading.Event()
    for server in servers:
        server.fails = lambda tile: capped.is_set()
    boards: list[TileServer] = list(servers)
    seen: list[StreamState] = []
    fed = TileStream(boards, PICTURES, camera_per_s=40.0, queue=1000, on_state=seen.append, state_s=0.05)
    timer = threading.Timer(0.5, capped.clear)
    capped.set()
    timer.start()
    report = fed.run(1.5)
    assert report.lost == []
    assert 100 < sum(report.seen.values()) <= 122
    assert seen == report.states
    most = max(max(state.waiting.values()) for state in seen)
    assert most > 5 and any(state.silent for state in seen)
    assert report.worked_off_s(0.5, tiles=2) is not None


def test_paused_boards_finish_what_they_have_and_the_others_take_all_until_they_are_resumed() -> None:
    servers = six()
    fed, far = stream(servers), ["b1", "b2", "b3"]
    counts: list[int] = []

    def pause() -> None:
        time.sleep(0.1)
        fed.pause(far)
        counts.append(sum(len(server.computed) for server in servers[3:]))
        time.sleep(0.3)
        counts.append(sum(len(server.computed) for server in servers[3:]))
        fed.resume(far)
        time.sleep(0.2)

    report = fed.run(0.0, during=pause, until_done=True)
    assert counts[0] == counts[1] < sum(len(server.computed) for server in servers[3:])
    assert report.fed_s > 0.6 and report.lost == []
    assert sum(board.failures for board in report.boards.values()) == 0
    assert sum(board.elsewhere for board in report.boards.values()) > 0


def test_a_board_that_does_not_finish_is_no_paused_one() -> None:
    servers = six()
    servers[3].seconds = 0.5
    fed = stream(servers)
    errors: list[BenchError] = []

    def pause() -> None:
        time.sleep(0.1)
        try:
            fed.pause(["b1"], deadline_s=0.05)
        except BenchError as exc:
            errors.append(exc)

    fed.run(0.2, during=pause)
    assert "b1: tiles are still in work" in errors[0].message


def left_running() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith(("stream-", "camera-"))]


def test_an_error_beside_the_stream_ends_it_at_once() -> None:
    def fail() -> None:
        time.sleep(0.1)
        raise BenchError("the bench is lost")

    begun_s = time.monotonic()
    with pytest.raises(BenchError, match="the bench is lost"):
        stream(six()).run(30.0, during=fail)
    assert time.monotonic() - begun_s < 2.0 and not left_running()


def test_what_is_interrupted_while_the_cameras_run_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    real, joined = threading.Thread.join, list[str]()

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        joined.append(self.name)
        if len(joined) == 1:
            raise KeyboardInterrupt
        real(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    begun_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stream(six()).run(30.0)
    assert time.monotonic() - begun_s < 2.0 and not left_running()


def test_a_board_that_says_that_it_computed_for_long_has_no_more_duty_than_work() -> None:
    servers = six()
    for server in servers:
        server.claims_s = 1e9
    report = stream(servers).run(0.3)
    for board in report.boards.values():
        assert board.duty(report.fed_s) <= board.assigned(report.fed_s) + 1e-9


def test_a_thread_that_dies_of_a_known_tile_does_not_hold_up_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = six()
    monkeypatch.setattr(threading, "excepthook", lambda args: None)

    def bug(tile: Tile) -> bool:
        if tile.check == "known":
            raise ZeroDivisionError
        return False

    servers[0].fails = bug
    fed = stream(servers, known_every=1)

    def pause() -> None:
        time.sleep(0.2)
        fed.pause(["a1"], deadline_s=2.0)
        fed.resume(["a1"])

    assert fed.run(0.3, during=pause).lost == []


def test_a_second_look_by_the_same_board_is_no_check() -> None:
    report = stream([Server("a1", "sc-a")], again_every=1).run(0.1)
    assert len(report.results) > 3 and report.checks == 0
