"""Tables at the width of a terminal: nothing that identifies a thing is cut."""

from __future__ import annotations

from hil.cli.tables import fitted, table_lines

BOARDS = "virtual/a1, virtual/a2, virtual/a3, virtual/b1, virtual/b2, virtual/b3"
TITLES = ["lease", "boards", "holder", "host", "for"]
ROW = ["7", BOARDS, "anna", "controller-1", "thermal run"]


def test_a_wide_terminal_has_one_line_a_row() -> None:
    lines, dropped = fitted(TITLES, [ROW], 200, optional=["host"])
    assert lines == table_lines(TITLES, [ROW]) and len(lines) == 2 and not dropped


def test_text_folds_between_words_before_a_column_goes() -> None:
    lines, dropped = fitted(TITLES, [ROW], 80, optional=["host"])
    assert not dropped and max(map(len, lines)) <= 80 and len(lines) == 3
    assert lines[1].split() == [
        "7",
        "virtual/a1,",
        "virtual/a2,",
        "virtual/a3,",
        "anna",
        "controller-1",
        "thermal",
        "run",
    ]
    text = " ".join(lines)
    assert all(f"virtual/{board}" in text for board in ("a1", "a2", "a3", "b1", "b2", "b3"))


def test_then_optional_columns_go_and_what_is_left_is_whole_even_if_it_is_too_wide() -> None:
    lines, dropped = fitted(TITLES, [ROW], 50, optional=["host", "for"])
    assert dropped == ["host"] and max(map(len, lines)) <= 50 and "virtual/b3" in lines[-1]
    lines, dropped = fitted(["run"], [["six_gpu-20260301T120000Z-4e8e11aa"]], 20)
    assert lines[1] == "six_gpu-20260301T120000Z-4e8e11aa" and dropped == []
