"""Output of commands on boards as people and programs get it."""

from __future__ import annotations

import io

import pytest

from hil.cli.board.live_output import Cleaned, Lines, Raw


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_terminal_gets_text_without_control_sequences_however_it_is_cut(step: int) -> None:
    said = "\x1b[31mred\x1b[0m 10 %\r11 %\r\nµ\x1b]52;c;aGk=\x07 done\x1b]0;title\x1b\\".encode()
    sink = io.StringIO()
    printed = Cleaned(sink)
    for start in range(0, len(said), step):
        printed(said[start : start + step])
    printed.end()
    assert sink.getvalue() == "red 10 %\n11 %\nµ done"


def test_text_is_shown_at_once_also_without_an_end_of_line() -> None:
    sink = io.StringIO()
    Cleaned(sink)(b"Password: \x1b[0mtype")
    assert sink.getvalue() == "Password: type"


def test_a_program_gets_the_bytes() -> None:
    sink = io.TextIOWrapper(io.BytesIO())
    Raw(sink)(b"\x1b[31m\xff\r\n")
    assert sink.buffer.getvalue() == b"\x1b[31m\xff\r\n"


def test_lines_have_their_board_before_them_and_are_whole() -> None:
    sink = io.StringIO()
    a1, b1 = Lines(sink, "a1"), Lines(sink, "b1")
    a1(b"first, ")
    b1(b"mine\n\x1b[1mbold\x1b[0m\r\n")
    a1(b"then more\n\nlast")
    a1.end()
    assert sink.getvalue() == "b1: mine\nb1: bold\na1: first, then more\na1: \na1: last\n"
