"""The board driver on a real sshd: the suite that every driver must pass, as far as the machine goes."""

from __future__ import annotations

from typing import Any

import pytest
from machine import Machine

from hil.boards.capabilities import BootBudgets, Feature, Reachable, lacks
from hil.boards.conformance import BoardConformance
from hil.boards.protocol import Board


class TestSshHost(BoardConformance):
    boot_deadline_s = 20.0
    data_dir = "/var/tmp"
    stock_os = True

    @pytest.fixture
    def board(self, machine: Machine, acme: dict[str, Any]) -> Board:
        return machine.board()

    def test_a_power_cut_loses_what_was_not_synced_and_keeps_what_was(self, board: Board) -> None:
        pytest.skip("the disk of this machine is memory: a cut loses all of it")


def test_what_it_lacks_is_said_with_reasons(machine: Machine) -> None:
    board: Board = machine.board()
    assert set(lacks(board)) == {Feature.SLOTS, Feature.SENSORS, Feature.ORIN, Feature.CONSOLE}
    assert lacks(board)[Feature.CONSOLE] == "sshhost.console is not in the lab file"
    assert isinstance(board, BootBudgets) and isinstance(board, Reachable)
