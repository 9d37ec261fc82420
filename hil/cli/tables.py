"""Tables for people: what identifies a thing stays whole, other text folds between words, less important columns go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from textwrap import wrap

_GAP = 2
_LEAST_FOLDED = 20
"""A column is folded to no fewer characters than this."""

Cells = list[list[str]]


def table_lines(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table, the titles first; a column of numbers is aligned to the right."""
    return _lines(titles, [[str(cell) for cell in row] for row in rows], {})


def fitted(
    titles: Sequence[str], cells: Cells, width: int, *, optional: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Return the lines of a table of at most ``width`` characters where possible, and the columns that had to go.

    Long text is folded, at blanks only, so no word is cut; then the ``optional`` columns go, the first one first.
    """
    kept = list(range(len(titles)))
    for dropped in range(len(optional) + 1):
        kept = [index for index, title in enumerate(titles) if title not in optional[:dropped]]
        shown, rows = [titles[index] for index in kept], [[row[index] for index in kept] for row in cells]
        folds = _folds(shown, rows, width)
        if folds is not None:
            return _lines(shown, rows, folds), list(optional[:dropped])
    return _lines(shown, rows, _folds(shown, rows, width, anyway=True) or {}), list(optional)


def _folds(titles: Sequence[str], cells: Cells, width: int, *, anyway: bool = False) -> dict[int, int] | None:
    """Return the width of each column to fold; None when that does not make room enough."""
    widths = _widths(titles, cells)
    words = [
        max(len(word) for cell in (title, *column) for word in cell.split(" "))
        for title, *column in zip(titles, *cells, strict=True)
    ]
    least = [min(now, max(longest, _LEAST_FOLDED)) for now, longest in zip(widths, words, strict=True)]
    now = list(widths)
    while (over := sum(now) + _GAP * (len(now) - 1) - width) > 0:
        index = max(range(len(now)), key=lambda i: now[i] if now[i] > least[i] else 0)
        if now[index] <= least[index]:
            if not anyway:
                return None
            break
        now[index] = max(least[index], now[index] - over)
    return {index: size for index, size in enumerate(now) if size < widths[index]}


def _lines(titles: Sequence[str], cells: Cells, folds: dict[int, int]) -> list[str]:
    columns = list(zip(titles, *cells, strict=True))
    numeric = [all(cell[:1].isdigit() or cell in ("", "-") for cell in column[1:]) for column in columns]
    widths = [folds.get(index, size) for index, size in enumerate(_widths(titles, cells))]
    lines = []
    for row in (titles, *cells):
        folded = [_fold(cell, folds.get(index)) for index, cell in enumerate(row)]
        for parts in zip_longest(*folded, fillvalue=""):
            aligned = [
                part.rjust(size) if right else part.ljust(size)
                for part, size, right in zip(parts, widths, numeric, strict=True)
            ]
            lines.append("  ".join(aligned).rstrip())
    return lines


def _fold(cell: str, size: int | None) -> list[str]:
    if size is None or len(cell) <= size:
        return [cell]
    return wrap(cell, size, break_long_words=False, break_on_hyphens=False) or [cell]


def _widths(titles: Sequence[str], cells: Cells) -> list[int]:
    return [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
