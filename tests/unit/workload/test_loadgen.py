"""LoadGen's scenarios over boards that only pretend."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from hil.errors import BenchError
from hil.workload.loadgen import TRIES, ScenarioResult, run_scenario
from hil.workload.tile import Tile, TileResult, TileServer

pytest.importorskip("mlperf_loadgen")

PICTURES = [b"0", b"1"]


class Server:
    """A board that computes a tile in 20 ms, except for the first ``breaks``."""

    def __init__(self, board: str) -> None:
        self.board, self.spacecraft = board, board[:1]
        self.tiles, self.at_work, self.at_once, self.breaks = 0, 0, 0, 0
        self._lock = threading.Lock()

    def compute(self, tile: Tile) -> TileResult:
        with self._lock:
            self.at_work += 1
            self.at_once = max(self.at_once, self.at_work)
        time.sleep(0.02)
        with self._lock:
            self.at_work -= 1
            self.tiles += 1
            breaks, self.breaks = self.breaks, max(0, self.breaks - 1)
        if breaks:
            raise BenchError(f"{self.board} does not answer")
        assert tile.content == PICTURES[tile.key]
        return TileResult(b"", "", 0.02)


def boards() -> list[Server]:
    return [Server(name) for name in ("a1", "a2", "b1")]


def run(scenario: str, servers: list[Server], per_s: float) -> ScenarioResult:
    ways: list[TileServer] = [server for server in servers for _ in range(2)]
    return run_scenario(scenario, ways, PICTURES, seconds=0.5, per_s=per_s)  # type: ignore[arg-type]


def test_one_tile_at_a_time_goes_to_each_board_in_turn() -> None:
    servers = boards()
    result = run("SingleStream", servers, 150.0)
    assert max(server.at_once for server in servers) == 1
    assert max(s.tiles for s in servers) - min(s.tiles for s in servers) <= 1
    assert 0.02 <= result.latency_s(0.5) < 0.2
    assert len(result.took_s) == sum(server.tiles for server in servers) >= 3


def test_all_at_once_keeps_every_board_busy_and_latency_counts_from_the_question() -> None:
    servers = boards()
    result = run("Offline", servers, 150.0)
    assert all(server.at_once >= 1 and server.tiles > 5 for server in servers)
    assert result.latency_s(1.0) > 5 * result.latency_s(0.0)
    assert result.tiles_per_s > 30


def test_tiles_at_random_moments_come_at_the_rate_that_was_asked_for() -> None:
    result = run("Server", boards(), 40.0)
    assert Counter(result.errors) == Counter()
    assert 8 <= len(result.took_s) <= 60


def test_a_tile_that_a_board_refuses_is_asked_for_again() -> None:
    servers = boards()
    servers[1].breaks = 1
    result = run("Server", servers, 40.0)
    assert (result.errors, servers[1].breaks) == ([], 0)
    assert result.took_s


def test_boards_that_fail_are_named_and_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.workload.loadgen.AGAIN_S", 0.0)
    servers = boards()
    for server in servers:
        server.breaks = 1 << 30
    result = run("Offline", servers, 10.0)
    assert {*result.errors} <= {f"{server.board} does not answer" for server in servers}
    assert result.errors and not result.took_s
    assert sum(server.tiles for server in servers) == TRIES * len(result.errors)
