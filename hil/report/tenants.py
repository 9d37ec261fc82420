"""What tenants could do to each other: the isolation matrix of a run in which every tenant tried every other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hil.core.svg import Canvas, picture
from hil.evidence.events import IsolationTried
from hil.evidence.readback import RunRecord
from hil.text import one_line

CELL, LEFT, TOP = 22.0, 60.0, 60.0
MOST_TENANTS = 60
"""Beyond that many the squares are too small to read, and the page too large; the counts stay."""
NAME_CHARACTERS = 8


@dataclass(frozen=True)
class TenantsSection:
    """What the page says about tenants."""

    tenants: int
    pairs: int
    succeeded: tuple[tuple[str, str, str], ...]  # who, on whom, what
    tries: str
    picture: str  # SVG, or empty

    @property
    def recorded(self) -> bool:
        return self.pairs > 0


def tenants_section(run: RunRecord) -> TenantsSection:
    """Collect the last matrix of a run; there may be none."""
    tried = run.last(IsolationTried)
    if tried is None:
        return TenantsSection(0, 0, (), "", "")
    names = [one_line(name, 40) for name in tried.tenants]
    found = {(one_line(a.by, 40), one_line(a.on, 40)): one_line(", ".join(a.what)) for a in tried.succeeded if a.what}
    rows = tuple((by, on, what) for (by, on), what in sorted(found.items()))
    drawn = matrix_svg(names, found) if 0 < len(names) <= MOST_TENANTS else ""
    return TenantsSection(len(names), len(names) * (len(names) - 1), rows, one_line(", ".join(tried.tries)), drawn)


def matrix_svg(names: list[str], found: Mapping[tuple[str, str], str]) -> str:
    """Draw the matrix: rows try, columns are tried on. ``found``: what succeeded, by (who, on whom)."""
    canvas = Canvas()
    for row, here in enumerate(names):
        y = TOP + row * CELL
        canvas.text("who", LEFT - 6, y + 15, here[:NAME_CHARACTERS])
        canvas.text("whom", LEFT + row * CELL + 2, TOP - 6, f"{row + 1}")
        for column, there in enumerate(names):
            what = found.get((here, there), "")
            css = "own" if row == column else "some" if what else "none"
            tip = f"{here} itself" if row == column else f"{here} on {there}: {what or 'nothing succeeded'}"
            canvas.rect(css, LEFT + column * CELL, y, CELL - 2, CELL - 2, tip=tip)
    size = len(names) * CELL
    title = "What tenants (rows) could do to others (columns)"
    return picture("isolation", LEFT + size + 10, TOP + size + 10, title, [canvas])
