"""Eighteen tenants on the forty boards of lab kepler: every ordered pair tries to reach, command and starve the other.

    python -m tests.benchmarks.isolation [--tenants 18] [--out DIR] [--without-rules]

Boards are network namespaces on the real routers, switches and links of a bench.  Of each pair of tenants every board
tries every board: TCP to the node's port (reach, read, command), a packet with the address of one of the other's own
boards (forge), a hundred packets with its own (starve).  Writes ``isolation.json`` and ``isolation.svg``.  Exit code 1
when anything succeeds between two tenants, or a tenant does not reach its own boards.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import permutations, product
from pathlib import Path

from hil.bench import isolation
from hil.core import paths
from hil.core.svg import Canvas, picture
from hil.lab.model import Lab, load_lab
from hil.lab.tenant import TenantSpec
from tests.kits.bare_boards import BareBoards

CELL, LEFT, TOP = 22.0, 60.0, 60.0
STYLE = (
    ".none{fill:#d7ecd9}.some{fill:#c0392b}.own{fill:#cfd8dc}text{font:11px sans-serif;fill:#222}.head{text-anchor:end}"
)


def shared(lab: Lab, tenants: int) -> Lab:
    """Give the lab's boards to so many tenants, in turns, two each: the two are on different spacecraft."""
    names = [board.name for board in lab.boards]
    specs = [
        TenantSpec.model_validate({"name": f"t{n + 1:02}", "boards": [names[n], names[n + tenants]]})
        for n in range(tenants)
    ]
    return lab.model_copy(update={"tenants": tuple(specs)})


def drawn(lab: Lab, found: Mapping[tuple[str, str], list[str]]) -> str:
    """Draw the matrix: rows try, columns are tried on."""
    canvas, names = Canvas(), [tenant.name for tenant in lab.tenants]
    for row, here in enumerate(names):
        y = TOP + row * CELL
        canvas.text("head", LEFT - 6, y + 15, here)
        canvas.text("", LEFT + row * CELL + 2, TOP - 6, here[1:])
        for column, there in enumerate(names):
            words = found.get((here, there), [])
            css = "own" if here == there else "some" if words else "none"
            tip = f"{here} on {there}: {', '.join(words) or 'nothing succeeded'}"
            canvas.rect(css, LEFT + column * CELL, y, CELL - 2, CELL - 2, tip=tip)
    size = len(names) * CELL
    title = "What tenants (rows) could do to others (columns)"
    svg = picture("matrix", LEFT + size + 10, TOP + size + 10, title, [canvas], head=f"<style>{STYLE}</style>")
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=18)
    parser.add_argument("--out", type=Path, default=paths.reports_out())
    parser.add_argument("--without-rules", action="store_true", help="to see that the attempts can succeed")
    options = parser.parse_args()
    if options.without_rules:
        isolation.keep_apart = lambda namespace, script: None
    lab = shared(load_lab(Path("kepler")), options.tenants)
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, BareBoards("hiltmatrix", lab, Path(directory)) as boards:
        succeeded = boards.attempts()
    found: dict[tuple[str, str], list[str]] = {}
    lonely = []
    for here, there in product(lab.tenants, repeat=2):
        words = {word for pair in product(here.boards, there.boards) for word in succeeded.get(pair, ())}
        if here.name == there.name:
            lonely += [pair for pair in permutations(here.boards, 2) if "reach" not in succeeded.get(pair, ())]
        elif words:
            found[here.name, there.name] = sorted(words)
    pairs = options.tenants * (options.tenants - 1)
    unheard = [board.name for board in lab.boards if "reach" not in succeeded.get(("ground", board.name), ())]
    result = {
        "tenants": options.tenants,
        "boards": len(lab.boards),
        "pairs": pairs,
        "pairs_that_succeeded": len(found),
        "what_succeeded": {f"{here} on {there}": words for (here, there), words in found.items()},
        "own_boards_not_reached": lonely,
        "boards_the_ground_does_not_reach": unheard,
        "took_s": round(time.monotonic() - begun_s, 1),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "isolation.json").write_text(json.dumps(result, indent=1), "utf-8")
    (options.out / "isolation.svg").write_text(drawn(lab, found), "utf-8")
    print(json.dumps({name: value for name, value in result.items() if name != "what_succeeded"}, indent=1))
    return int(bool(found or lonely or unheard))


if __name__ == "__main__":
    sys.exit(main())
