"""Boards that take no part, as node services on loopback: who was touched, and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from hil.boards.protocol import Board
from hil.rollout.rollout import Rollout
from hil.rollout.uninvolved_boards import UninvolvedBoards
from hil.testing.fakes import FakeClock
from tests.kits.loopback_nodes import Bed, FakeBundle, bed


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Bed]:
    with bed(tmp_path, {"a": 2, "b": 2}) as made:
        yield made


def others(boards: Bed) -> UninvolvedBoards:
    return UninvolvedBoards(boards.fleet.only("b1", "b2"))


def test_boards_that_are_left_alone_are_not_named(boards: Bed) -> None:
    watched = others(boards)
    assert watched.answer()
    assert watched.touched(["0" * 64]) == {}


def test_a_restart_an_artefact_and_silence_are_named(boards: Bed, tmp_path: Path) -> None:
    watched, bundle = others(boards), FakeBundle.make(tmp_path / "v2", size=200_000)
    boards["b1"].off()
    boards["b1"].on()
    Rollout(boards.fleet.only("b1"), bundle, adapter=boards.adapter).upload()
    boards["b2"].off()
    assert watched.touched([bundle.sha256], deadline_s=5, clock=FakeClock()) == {
        "b1": "has restarted and holds 1 of the artefacts",
        "b2": "does not answer within 5 s",
    }


def test_a_board_whose_answer_is_late_is_asked_again_and_was_left_alone(boards: Bed) -> None:
    watched = others(boards)

    class Meanwhile(FakeClock):
        """While the second wait lasts the board's node service comes back to the network."""

        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.now == 1.0:
                watched._fleet = reachable

    reachable, unreachable = watched._fleet, replace(boards.fleet.only("b1", "b2"), port=1)
    watched._fleet = unreachable
    assert watched.touched([], clock=Meanwhile()) == {}


def test_a_claim_is_named(boards: Bed, tmp_path: Path) -> None:
    watched, bundle = others(boards), FakeBundle.make(tmp_path / "v2", size=1000)
    work = Rollout(boards.fleet.only("b1"), bundle, adapter=boards.adapter)
    work.configure(work.fleet.config(os_version="1.0.0"))
    assert watched.touched([bundle.sha256]) == {"b1": "claims epoch 1"}


def test_boards_that_still_boot_at_first_are_asked_again(boards: Bed) -> None:
    boards["b2"].off()
    watched = others(boards)
    assert not watched.answer()
    boards["b2"].on()
    assert watched.answer()
    assert watched.touched([]) == {}


def test_there_may_be_none() -> None:
    nobody = UninvolvedBoards.of(cast(dict[str, Board], {}), ())
    assert nobody.answer() and nobody.touched(["x"]) == {}
