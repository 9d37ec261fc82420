"""The console pump and its readers, on real pseudo-terminals."""

from __future__ import annotations

import errno
import os
import termios
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from hil.boards.console.log_console import ConsoleLine, LogConsole
from hil.boards.console.log_file import LogFile
from hil.boards.console.mute import say_why_muted
from hil.boards.console.pump import ConsolePump
from hil.core.wait import wait_until
from hil.errors import BenchError, DeviceError, HarnessError
from hil.testing.fakes import FakeClock


@pytest.fixture
def pump(tmp_path: Path) -> Iterator[ConsolePump]:
    with ConsolePump(tmp_path) as pump:
        yield pump


@pytest.fixture
def line(pump: ConsolePump) -> ConsoleLine:
    return pump.add("a1")


class BoardEnd:
    """What a board holds: its side of the console, raw."""

    def __init__(self, line: ConsoleLine) -> None:
        self.descriptor = os.open(line.board_tty, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.descriptor)

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.descriptor, data) :]

    def close(self) -> None:
        os.close(self.descriptor)


@pytest.fixture
def board(line: ConsoleLine) -> Iterator[BoardEnd]:
    end = BoardEnd(line)
    yield end
    end.close()


def test_every_byte_is_logged_whether_somebody_reads_or_not(board: BoardEnd, line: ConsoleLine) -> None:
    content = os.urandom(200_000)
    board.write(content)
    wait_until(lambda: line.log.stat().st_size >= len(content), what="the log", deadline_s=10.0)
    assert line.log.read_bytes() == content
    index = [row.split() for row in line.log.with_suffix(".idx").read_text().splitlines()]
    assert index[0][0] == "0"
    assert [int(offset) for offset, _ in index] == sorted(int(offset) for offset, _ in index)


def test_a_listener_sees_new_text_and_not_what_came_before_it(board: BoardEnd, line: ConsoleLine) -> None:
    board.write(b"old\n")
    LogConsole(line.url, line.log).wait_for("old", deadline_s=5.0)
    with serial.serial_for_url(line.url, timeout=5.0) as port:
        board.write(b"new\n")
        assert port.read_until(b"\n") == b"new\n"


def test_a_log_that_cannot_be_written_stops_no_board_and_no_other_console(tmp_path: Path) -> None:
    for ending in ("log", "idx"):
        (tmp_path / f"a1.console.{ending}").symlink_to("/dev/full")
    with ConsolePump(tmp_path) as pump:
        full, other = BoardEnd(a1 := pump.add("a1")), BoardEnd(b1 := pump.add("b1"))
        with serial.serial_for_url(a1.url, timeout=5.0) as port:
            full.write(b"hello\n")
            assert port.read_until(b"\n") == b"hello\n", "who listens gets it"
        full.write(b"x" * 100_000)  # more than its terminal holds
        other.write(b"still here\n")
        wait_until(lambda: b1.log.read_bytes() == b"still here\n", what="the log", deadline_s=5.0)
        full.close()
        other.close()


def test_a_log_that_has_room_again_says_what_it_lacks(
    pump: ConsolePump, board: BoardEnd, line: ConsoleLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = bytearray()

    def refuse(_file: LogFile, data: bytes) -> float:
        lost.extend(data)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(LogFile, "append", refuse)
        board.write(b"lost\n")
        wait_until(lambda: bytes(lost) == b"lost\n", what="the pump", deadline_s=5.0)
    board.write(b"kept\n")
    wait_until(lambda: line.log.read_bytes().endswith(b"kept\n"), what="the log", deadline_s=5.0)
    assert line.log.read_bytes() == b"\n[hil: 5 bytes left out here: this log could not be written]\nkept\n"


def test_what_a_person_types_reaches_the_board(board: BoardEnd, line: ConsoleLine) -> None:
    for _ in range(2):  # a second listener, too
        with serial.serial_for_url(line.url, timeout=5.0) as port:
            port.write(b"root\n")
            assert os.read(board.descriptor, 100) == b"root\n"


def test_a_listener_that_does_not_read_never_stops_the_board(board: BoardEnd, line: ConsoleLine) -> None:
    with serial.serial_for_url(line.url, timeout=0.1):
        done = threading.Thread(target=board.write, args=(b"x" * 500_000,), daemon=True)
        done.start()
        done.join(timeout=20.0)
        assert not done.is_alive()
    wait_until(lambda: line.log.stat().st_size == 500_000, what="the log", deadline_s=10.0)


def test_the_console_survives_the_boards_power_cycle(line: ConsoleLine) -> None:
    console = LogConsole(line.url, line.log)
    for word in ("first", "second"):
        board = BoardEnd(line)
        board.write(f"{word} boot\n".encode())
        console.wait_for(f"{word} boot", deadline_s=5.0)
        board.close()


def test_lines_are_separate_and_names_are_unique(pump: ConsolePump, line: ConsoleLine, board: BoardEnd) -> None:
    second = pump.add("b1")
    board.write(b"only a1\n")
    LogConsole(line.url, line.log).wait_for("only a1", deadline_s=5.0)
    assert second.log.read_bytes() == b""
    assert len({line.url, line.board_tty, second.url, second.board_tty}) == 4
    with pytest.raises(HarnessError, match="a1"):
        pump.add("a1")


def test_closing_gives_the_terminals_back(tmp_path: Path) -> None:
    pump = ConsolePump(tmp_path)
    pump.start()
    line = pump.add("a1")
    pump.close()
    pump.close()
    with pytest.raises((OSError, termios.error)):
        termios.tcgetattr(os.open(line.board_tty, os.O_RDWR | os.O_NOCTTY))


def test_escape_sequences_and_carriage_returns_do_not_hide_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\x1b[2J\x1b[=3h\x1b[01;32mBooting \x1b[0mLinux\r\nlogin: ")
    console = LogConsole("unused", log)
    assert console.wait_for(r"^Booting Linux$", deadline_s=1.0) == "Booting Linux"
    assert console.text() == "Booting Linux\nlogin: "


def test_a_wait_looks_only_behind_its_offset_and_fails_with_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first login: \n")
    console = LogConsole("unused", log, FakeClock())
    with pytest.raises(DeviceError) as caught:
        console.wait_for("login: ", deadline_s=3.0, since=console.size())
    assert "waited 3 s for 'login: ' on the console" in caught.value.message
    assert "first login" in caught.value.message


def test_a_log_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    console = LogConsole("unused", tmp_path / "none", FakeClock())
    assert (console.size(), console.text()) == (0, "")
    assert "(nothing)" in console.tail()


def test_any_process_types_a_line_and_expects_what_comes_after_it(
    pump: ConsolePump, line: ConsoleLine, board: BoardEnd
) -> None:
    board.write(b"got one\r\n")  # an answer from before must not count
    console = LogConsole(line.url, line.log)
    console.wait_for("got one", deadline_s=5.0)
    for word in ("one", "two"):
        console.sendline(word)
        assert os.read(board.descriptor, 100) == word.encode() + b"\n"
        board.write(f"\x1b[2Kgot {word}\r\nok\r\n".encode())
        assert console.expect(r"^got \w+$", deadline_s=5.0) == f"got {word}"
        assert console.expect("ok", deadline_s=5.0) == "ok"
    with pytest.raises(DeviceError, match=r"waited 0\.05 s for 'ok' on the console; it last said:\n +got one"):
        console.expect("ok", deadline_s=0.05)
    console.close()


def test_a_muted_console_takes_no_key_and_says_why(line: ConsoleLine) -> None:
    say_why_muted(line.log, "a1 gets no keys before login: was seen")
    with pytest.raises(BenchError, match="a1 gets no keys") as caught:
        LogConsole(line.url, line.log).sendline("x")
    assert "booted" in caught.value.remedy


def test_a_console_of_a_bench_that_is_gone_is_a_bench_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="No such file"):
        LogConsole(str(tmp_path / "none"), tmp_path / "log").write(b"x")
