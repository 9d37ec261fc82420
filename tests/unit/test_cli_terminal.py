"""The console in the user's terminal: bytes both ways, Ctrl-] ends it, the terminal comes back as it was."""

from __future__ import annotations

import os
import pty
import select
import termios
import threading
from pathlib import Path

import pytest

from hil.cli.output import delay, print_table, rate
from hil.cli.terminal import ESCAPE, interact, print_log, raw
from hil.errors import BenchError


def read_until(fd: int, wanted: bytes) -> bytes:
    got = b""
    while wanted not in got:
        assert select.select([fd], [], [], 10)[0], f"waited 10 s for {wanted!r}, got {got!r}"
        got += os.read(fd, 1024)
    return got


def test_what_the_board_says_is_shown_what_is_typed_is_sent_and_ctrl_bracket_ends_it() -> None:
    board, line = pty.openpty()
    keyboard_in, keyboard = os.pipe()
    screen, screen_in = os.pipe()
    errors: list[BaseException] = []

    def session() -> None:
        try:
            interact(os.ttyname(line), keyboard_in, screen_in)
        except BaseException as exc:
            errors.append(exc)

    worker = threading.Thread(target=session)
    worker.start()
    os.write(keyboard, b"\n")  # once this arrives, the port is open
    assert read_until(board, b"\n") == b"\n"
    os.write(board, b"orin login: ")
    assert read_until(screen, b"orin login: ") == b"orin login: "
    os.write(keyboard, b"root\n")
    assert read_until(board, b"root\n") == b"root\n"
    os.write(keyboard, b"halt" + ESCAPE + b"not sent")
    assert read_until(board, b"halt") == b"halt"
    worker.join(timeout=10)
    assert not worker.is_alive() and errors == []
    for fd in (board, line, keyboard_in, keyboard, screen, screen_in):
        os.close(fd)


def test_a_console_that_is_not_there_is_the_benchs_fault(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="console"):
        interact(str(tmp_path / "pts"), 0, 1)


def test_the_terminal_is_raw_inside_and_as_before_afterwards_even_after_an_error() -> None:
    master, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    with pytest.raises(ZeroDivisionError), raw(terminal):
        assert not termios.tcgetattr(terminal)[3] & termios.ICANON
        raise ZeroDivisionError
    assert termios.tcgetattr(terminal) == before
    os.close(master)
    os.close(terminal)


def test_a_console_log_is_printed_byte_for_byte(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    log = tmp_path / "a1.console.log"
    log.write_bytes(b"MB1\r\n\xff\x1b[0m login:")
    print_log(log, follow=False)
    assert capfdbinary.readouterr().out == b"MB1\r\n\xff\x1b[0m login:"
    with pytest.raises(BenchError, match="console log"):
        print_log(tmp_path / "nothing", follow=False)


def test_figures_are_printed_with_their_units() -> None:
    assert rate(2_500_000_000) == "2.5 Gbit/s" and rate(64_000) == "64 kbit/s" and rate(0) == "no limit"
    assert delay(14386) == "14.386 ms"


def test_a_table_in_a_pipe_is_plain_aligned_text_that_is_never_cut(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(["name", "value"], [("a", "x" * 300), ("long name", 7)])
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0].startswith("name       value")
        and lines[1].endswith("x" * 300)
        and lines[2] == "long name  7"
    )
    print_table(["name"], [], empty="nothing here")
    assert capsys.readouterr().out == "nothing here\n"
