"""Checks of the conformance suite that a board with NVIDIA's own OS must be able to pass: nobody may log in as root."""

from __future__ import annotations

import os
import pty
import select
import threading
import tty
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.boards.conformance import BoardConformance
from hil.boards.console.log_console import LogConsole
from hil.boards.protocol import PowerState, Via


class Getty:
    """The console of a stock system: it asks who is there, then for a password, which root has none of."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.url = os.ttyname(slave)
        self._slave = slave
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        asked = b"tegra-ubuntu login: "
        while not self._stop.is_set():
            if select.select([self._master], [], [], 0.02)[0]:
                name = os.read(self._master, 100).strip()
                if asked == b"Password: ":
                    os.write(self._master, b"\r\nLogin incorrect\r\n")
                asked = b"Password: " if name else b"tegra-ubuntu login: "
                os.write(self._master, asked)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        os.close(self._slave)
        os.close(self._master)


class StockBoard:
    """As much of a real board as these checks look at; "" is this machine's own network, where real boards are."""

    name = "b1"
    supervisor = SimpleNamespace(state=lambda: PowerState.ON)
    here = ("", "192.0.2.11")

    def __init__(self, url: str, log: Path) -> None:
        self.console = LogConsole(url, log)

    def wait_booted(self, *, deadline_s: float) -> None: ...

    def address(self, via: Via) -> tuple[str, str]:
        return self.here

    def shell(self, via: Via) -> Addresses:
        return Addresses()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Any]:
    log = tmp_path / "b1.console.log"
    log.write_text("\r\ntegra-ubuntu login: \r\n" + "[   25.1] nvgpu: late words of the kernel\r\n" * 10)
    getty = Getty()
    yield StockBoard(getty.url, log)
    getty.close()


class Addresses:
    def __enter__(self) -> Addresses:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def run(self, argv: list[str]) -> SimpleNamespace:
        return SimpleNamespace(stdout="inet 192.0.2.11/24 scope global eth0")


class Stock(BoardConformance):
    stock_os = True


def test_that_the_console_asks_for_a_password_is_enough_where_nobody_gets_in_without(board: Any) -> None:
    Stock().test_a_person_can_log_in_on_the_console_with_pyserial(board)


def test_what_the_console_said_last_need_not_be_its_log_in(board: Any) -> None:
    Stock().test_waiting_for_what_never_comes_ends_with_the_last_lines(board)


def test_a_board_that_is_reached_from_this_machines_own_network_passes(board: Any) -> None:
    Stock().test_the_management_address_is_where_the_shell_goes(board)
    board.here = ("", "192.0.2.99")
    with pytest.raises(AssertionError):
        Stock().test_the_management_address_is_where_the_shell_goes(board)
