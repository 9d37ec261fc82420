"""`hil board mark`: what people should know of a board, and what others should keep off."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.completion import lease_names
from hil.cli.lease import HOLDER, LAB, STORE, board_keys
from hil.cli.output import JSON_OPTION, print_json, print_rows
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.leases.marks import Mark


@click.command()
@click.argument("board", required=False, shell_complete=lease_names)
@click.option("--tag", "tags", multiple=True, help="Add a tag: `hil lease take --any tag=orin-nx` finds it.")
@click.option("--untag", multiple=True, help="Remove a tag.")
@click.option("--note", metavar="TEXT", help='Text that others read; "" removes it.')
@click.option("--out-of-service", metavar="WHY", help="No lease and no campaign takes the board; they say why.")
@click.option("--in-service", is_flag=True, help="It may be used again.")
@LAB
@HOLDER
@STORE
@JSON_OPTION
def mark(
    board: str | None,
    lab_path: Path | None,
    holder: str,
    store: Path | None,
    in_service: bool,
    as_json: bool,
    **changes: Any,  # tags, untag, note, out_of_service
) -> None:
    """Mark a board with tags, a note, or as out of service; show its marks, or those of all boards.

    BOARD is <lab>/<board> as for `hil lease`, or a plain name with --lab or of the bench that is up.
    """
    from hil.leases.leases import Leases, default_holder
    from hil.text import one_line

    marks = Leases(store).marks
    if in_service and changes["out_of_service"]:
        raise ConfigurationError("a board is in service or out of it", remedy="leave one of the options out")
    if changes["out_of_service"] == "":
        raise ConfigurationError("out of service without a reason", remedy='--out-of-service "fan dead"')
    if in_service:
        changes["out_of_service"] = ""
    changed = any(value not in (None, ()) for value in changes.values())
    if board is None:
        if changed:
            raise ConfigurationError("no board named", remedy="write <lab>/<board>")
        shown = list(marks.all().values())
    else:
        key = _key(board, lab_path)
        if changed:
            marks.change(key, who=one_line(holder) or default_holder(), **changes)
        shown = [found] if (found := marks.all().get(key)) else []
    if as_json:
        print_json([_document(each) for each in shown])
        return
    print_rows(
        shown,
        {
            "board": lambda m: m.board,
            "in service": lambda m: f"NO: {m.out_of_service}" if m.out_of_service else "yes",
            "tags": lambda m: " ".join(sorted(m.tags)),
            "note": lambda m: m.note,
            "by": lambda m: m.who,
            "on": lambda m: f"{m.at:%Y-%m-%d}" if m.at else "",
        },
        empty=f"{board} has no marks" if board else "no board has marks",
        optional=["by", "on"],
    )


def _key(board: str, lab_path: Path | None) -> str:
    """Return the board's name in the store; a plain one is of the lab file, or of the bench that is up."""
    if "/" in board or lab_path:
        return board_keys((board,), lab_path)[0]
    from hil.bench.state import read_state
    from hil.cli.select_bench import pick

    state = read_state(pick(None))
    return board_keys((board,), Path(state.lab_path) if state else None)[0]


def _document(one: Mark) -> dict[str, Any]:
    return asdict(one) | {"tags": sorted(one.tags), "at": one.at and one.at.isoformat()}
