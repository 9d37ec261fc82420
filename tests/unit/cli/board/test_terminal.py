"""The console in the user's terminal: bytes both ways, Ctrl-] ends it, the terminal comes back as it was."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.boards.console.mute import say_why_muted
from hil.cli.board.terminal import ESCAPE, Stamped, interact, print_log, raw
from hil.cli.output import delay, print_table, rate
from hil.errors import BenchError


def read_until(fd: int, wanted: bytes) -> bytes:
    got = b""
    while wanted not in got:
        assert select.select([fd], [], [], 10)[0], f"waited 10 s for {wanted!r}, got {got!r}"
        got += os.read(fd, 1024)
    return got


class Sitting:
    """Somebody at a console: a keyboard, a screen, and the command in between."""

    def __init__(self, url: str, log: Path) -> None:
        self._keys_out, self._keys = os.pipe()
        self._screen, self._screen_in = os.pipe()
        self.errors: list[BaseException] = []
        self._worker = threading.Thread(target=self._sit, args=(url, log))
        self._worker.start()
        self.sees(b"[here]")

    def _sit(self, url: str, log: Path) -> None:
        try:
            interact(url, log, self._keys_out, self._screen_in, greeting="[here]")
        except BaseException as exc:
            self.errors.append(exc)

    def types(self, keys: bytes) -> None:
        os.write(self._keys, keys)

    def sees(self, wanted: bytes) -> bytes:
        return read_until(self._screen, wanted)

    def has_left(self) -> bool:
        self._worker.join(timeout=10)
        return not self._worker.is_alive()

    def close(self) -> None:
        self.types(ESCAPE)
        assert self.has_left()
        for descriptor in (self._keys_out, self._keys, self._screen, self._screen_in):
            os.close(descriptor)


@pytest.fixture
def console(tmp_path: Path) -> Iterator[tuple[int, str, Path]]:
    """(the board's end of its line, what is typed into, the log)."""
    board, line = pty.openpty()
    log = tmp_path / "a1.console.log"
    log.write_bytes(b"")
    yield board, os.ttyname(line), log
    os.close(line)
    os.close(board)


def says(log: Path, what: bytes) -> None:
    with log.open("ab") as file:
        file.write(what)


def test_what_the_board_says_is_shown_what_is_typed_is_sent_and_ctrl_bracket_ends_it(
    console: tuple[int, str, Path],
) -> None:
    board, url, log = console
    one = Sitting(url, log)
    says(log, b"orin login: ")
    assert one.sees(b"orin login: ") == b"orin login: "
    one.types(b"root\n")
    assert read_until(board, b"root\n") == b"root\n"
    one.types(b"halt" + ESCAPE + b"not sent")
    assert read_until(board, b"halt") == b"halt"
    assert one.has_left() and one.errors == []
    one.close()


def test_two_people_at_one_console_each_see_every_byte_and_both_may_type(console: tuple[int, str, Path]) -> None:
    board, url, log = console
    people = [Sitting(url, log), Sitting(url, log)]
    text = b"".join(b"%05d\r\n" % number for number in range(5000))
    for start in range(0, len(text), 1000):
        says(log, text[start : start + 1000])
        os.set_blocking(board, False)
        with contextlib.suppress(BlockingIOError):  # the pump gives it to whoever listens at the line, too
            os.write(board, text[start : start + 1000])
    assert all(one.sees(b"04999\r\n") == text for one in people)
    for number, one in enumerate(people):
        one.types(b"%d\n" % number)
        assert select.select([board], [], [], 10)[0] and os.read(board, 10) == b"%d\n" % number
        one.close()
        assert one.errors == []


def test_the_console_begins_with_the_last_lines_and_without_what_moves_the_cursor(
    console: tuple[int, str, Path],
) -> None:
    _, url, log = console
    says(log, b"long ago\r\n" * 50 + b"\x1b[2J\x1b[HUEFI\r\n\r\norin login: ")
    keys, screen = os.pipe(), os.pipe()
    os.write(keys[1], ESCAPE)
    interact(url, log, keys[0], screen[1], greeting="[here]")
    shown = os.read(screen[0], 4096)
    assert shown.endswith(b"\r\nUEFI\r\n\r\norin login: \r\n[here]")
    assert b"\x1b" not in shown and shown.count(b"long ago") < 10
    for descriptor in (*keys, *screen):
        os.close(descriptor)


def test_keys_that_would_go_nowhere_are_not_sent_and_the_typist_is_told_why(console: tuple[int, str, Path]) -> None:
    board, url, log = console
    say_why_muted(log, "a1 gets no keys before login: was seen")
    one = Sitting(url, log)
    one.types(b"x")
    assert b"gets no keys" in one.sees(b"was seen]")
    say_why_muted(log, "")
    one.types(b"y")
    assert select.select([board], [], [], 10)[0] and os.read(board, 10) == b"y"
    one.close()


def test_a_console_that_goes_away_ends_the_sitting_as_the_benchs_fault(console: tuple[int, str, Path]) -> None:
    _, url, log = console
    one = Sitting(url, log)
    log.unlink()
    assert one.has_left()
    assert isinstance(one.errors[0], BenchError) and "is gone" in str(one.errors[0])
    one.close()


def test_a_console_that_is_not_there_is_the_benchs_fault(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="console"):
        interact(str(tmp_path / "pts"), tmp_path / "log", 0, 1)


def test_the_terminal_is_raw_inside_and_as_before_afterwards_even_after_an_error() -> None:
    master, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    with pytest.raises(ZeroDivisionError), raw(terminal):
        assert not termios.tcgetattr(terminal)[3] & termios.ICANON
        raise ZeroDivisionError
    assert termios.tcgetattr(terminal) == before
    os.close(master)
    os.close(terminal)


def test_a_console_log_is_printed_byte_for_byte(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log = tmp_path / "a1.console.log"
    log.write_bytes(b"MB1\r\n\xff\x1b[0m login:")
    print_log(log, follow=False)
    assert capfdbinary.readouterr().out == b"MB1\r\n\xff\x1b[0m login:"
    with pytest.raises(BenchError, match="console log"):
        print_log(tmp_path / "nothing", follow=False)


def test_every_line_of_a_console_can_have_the_time_at_which_it_began(tmp_path: Path) -> None:
    index = tmp_path / "a1.console.idx"
    index.write_text("0 1763888000.25\n")
    stamped = Stamped(index)
    assert stamped.add(b"MB1\r\nMB") == b"2025-11-23 08:53:20.250  MB1\r\n2025-11-23 08:53:20.250  MB"
    with index.open("a") as file:
        file.write("5 1763888001.0\n9 1763888002.5\n11 176388")  # the last row is not whole yet
    assert stamped.add(b"2\r\n") == b"2\r\n"  # the line has begun already
    assert stamped.add(b"login: ") == b"2025-11-23 08:53:22.500  login: "
    assert Stamped(tmp_path / "nothing").add(b"x\n") == b" " * 25 + b"x\n"


def test_figures_are_printed_with_their_units() -> None:
    assert rate(2_500_000_000) == "2.5 Gbit/s" and rate(64_000) == "64 kbit/s" and rate(0) == "no limit"
    assert delay(14386) == "14.386 ms"


def test_a_table_in_a_pipe_is_plain_aligned_text_that_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "value"], [("a", "x" * 300), ("long name", 7)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("name       value") and lines[1].endswith("x" * 300) and lines[2] == "long name  7"
    print_table(["name"], [], empty="nothing here")
    assert capsys.readouterr().out == "nothing here\n"
