"""A bench that goes down: what its keeper, a process that this test stands in for, could not do is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from hil.bench import bench
from hil.bench.state import bench_dir, is_up
from hil.core.wait import wait_until
from hil.errors import BenchError
from tests.kits.checkout import TWO_BOARDS

KEEPER = """
import os, shutil, signal, sys, time
from hil.bench.state import BenchState, bench_dir, hold, write_state

state = {"name": "b", "lab_path": "x", "keeper_pid": os.getpid(), "tied": False}
with hold("b"):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    write_state(BenchState(**state, status="up"))
    try:
        time.sleep(60)
    finally:
        if sys.argv[1]:
            error = {"blame": "bench", "message": sys.argv[1], "remedy": "look at it"}
            write_state(BenchState(**state, status="failed", error=error))
        else:
            shutil.rmtree(bench_dir("b"))
"""


@contextmanager
def keeper(says: str) -> Iterator[None]:
    """A keeper of bench ``b`` that is up, and that meets this when it takes the bench down."""
    with subprocess.Popen([sys.executable, "-c", KEEPER, says]) as process:
        try:
            wait_until(lambda: is_up("b"), what="the keeper to be up", deadline_s=20)
            yield
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_RUN", str(tmp_path))


def test_a_real_board_that_may_still_have_power_is_said_when_the_bench_goes_down() -> None:
    with keeper("board b1: power off: strip 7: silent; it may still have power"):
        with pytest.raises(BenchError, match=r"did not go down as it should: board b1: .* still have power\n"):
            bench.down("b")
        assert not bench_dir("b").exists()


def test_a_bench_that_goes_down_in_order_says_nothing() -> None:
    with keeper(""):
        bench.down("b")
        assert not bench_dir("b").exists()


def test_a_bench_that_cannot_be_opened_lets_go_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise BenchError("the link box does not answer")

    closed: list[bool] = []
    state = SimpleNamespace(lab_path=TWO_BOARDS, consoles={}, hardware_image="")
    monkeypatch.setattr(bench, "require_state", lambda name: state)
    monkeypatch.setattr("hil.host.engine.engine.connect", lambda: SimpleNamespace(close=lambda: closed.append(True)))
    monkeypatch.setattr("hil.images.pki.ensure_pki", lambda: None)
    monkeypatch.setattr("hil.bench.equipment.boards_of", refuses)
    with pytest.raises(BenchError, match="the link box"):
        bench.Bench.attach("b")
    assert closed == [True]
