"""Boards that this machine has heard of: by its lab files, its benches, its leases and marks.

A lease of a name that nobody has reserves nothing, so a mistyped one is worth a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hil.cli.select_bench import default_name
from hil.core import paths
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.leases.leases import Leases


def check_known(boards: Iterable[str], leases: Leases) -> None:
    """Raise ConfigurationError for a ``<lab>/<board>`` that no lab file here, no bench and no lease has."""
    leased = {board for entry in (*leases.list(), *leases.queue()) for board in entry.boards} | set(leases.marks.all())
    for board in boards:
        scope = board.partition("/")[0]
        known = {*_in_lab_files(scope), *leased}
        if board in known:
            continue
        of_lab = sorted(name for name in known if name.startswith(f"{scope}/"))
        there = f"boards: {', '.join(of_lab)}" if of_lab else f"no lab file in lab/ and no bench is called {scope}"
        raise ConfigurationError(
            f"there is no board {board}: {there}",
            remedy="correct it, or give the lab file with --lab; --force leases a name that nobody has",
        )


def _in_lab_files(scope: str) -> Iterator[str]:
    """Yield ``<lab>/<board>`` of the lab files that may have this lab: shipped, in lab/, of benches."""
    from hil.bench.state import known_benches, lease_keys, on_this_host, read_state
    from hil.lab.model import load_lab

    scope = scope.removesuffix(on_this_host())
    files: dict[Path, set[str]] = {}
    for folder in (paths.shipped("lab"), Path("lab")):
        for file in sorted(folder.glob("*.yaml")):
            files.setdefault(file.resolve(), {default_name(file)})
    for bench in known_benches():
        if (state := read_state(bench)) and Path(state.lab_path).is_file():
            files.setdefault(Path(state.lab_path).resolve(), set()).add(bench)
    for file, benches in files.items():
        if scope not in benches and not re.search(rf"\b{re.escape(scope)}\b", file.read_text("utf-8", "replace")):
            continue
        try:
            lab = load_lab(file)
        except ConfigurationError:
            continue  # a file that is not finished says nothing of this board
        for name in (*benches, lab.name, lab.lease_scope):
            yield from lease_keys(lab, name)
            yield from (f"{name}/{board.name}" for board in lab.boards)
