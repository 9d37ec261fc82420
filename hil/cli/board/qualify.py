"""`hil board qualify`: the acceptance test of a board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hil.cli.output import JSON_OPTION, Progress, RenamedOptions, print_json
from hil.cli.select_bench import FORCE, board_argument, board_of, claim, on_bench
from hil.text import clean

if TYPE_CHECKING:
    from hil.bench.bench import Bench


@click.command(cls=RenamedOptions, renamed={"--out": ("--output", "{}")})
@board_argument
@on_bench
@click.option("--by", required=True, metavar="PERSON", help="Person who signs.")
@click.option(
    "--only",
    multiple=True,
    metavar="WORDS",
    help="Run only checks with these words, after a repair; never PASS. May be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for page and JSON; default: reports/out/qualifications.",
)
@FORCE
@JSON_OPTION
def qualify(
    bench: Bench, name: str, force: bool, by: str, only: tuple[str, ...], output: Path | None, as_json: bool
) -> int:
    """Qualify a board: run the conformance suite on it and write a page to sign, with its identity and its timings.

    The board is rebooted and loses its power many times: about 15 boots. An estimate of the time is printed once three
    of them have been timed. Ctrl-C ends it with a page of the results so far. The exit code is 0 when it passed, 1 when
    the board failed, 3 when the bench was at fault or checks were left out.
    """
    from hil.boards.qualification import qualify as run
    from hil.boards.wiring import wiring_of
    from hil.core.paths import reports_out
    from hil.report.qualification import write_qualification

    board = board_of(bench, name)
    claim(bench, [name], f"{name}: qualify", force=force, verb="qualify", about=name)
    wiring = wiring_of(next(spec for spec in bench.lab.boards if spec.name == name))
    with Progress() as progress:
        result = run(board, by=by, bench=bench.name, only=only, wiring=wiring, view=progress)
    page = write_qualification(result.document(), output or reports_out() / "qualifications")
    if as_json:
        print_json(result.document() | {"page": str(page)})
    else:
        for check in result.checks:
            if check.outcome != "PASS":
                click.echo(clean(f"{check.outcome}: {check.name}: {check.said}"))
                if check.remedy:
                    click.echo(clean(f"  remedy: {check.remedy}"))
        for remark in result.notes:
            click.echo(clean(f"note: {remark}"))
        click.echo(f"{name}: {result.outcome}; page to sign: {page}")
    return {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}[result.outcome]
