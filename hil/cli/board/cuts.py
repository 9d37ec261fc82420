"""`hil board cuts`: a power cut at every point of an update of one board."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hil.cli.output import JSON_OPTION, note, print_json, print_rows, say
from hil.cli.select_bench import FORCE, board_argument, board_of, claim, on_bench
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.protocol import Board
    from hil.images.artefact import BundleFacts


@click.command()
@board_argument
@on_bench
@click.option("--bundle", "path", type=click.Path(path_type=Path), help="A signed bundle of your OS.")
@click.option("--os-version", default="", help="VERSION_ID of the OS in it.")
@click.option("--image-sha256", default="", help="Digest of the image in it, as the updater says it.")
@click.option("--at", "wanted", multiple=True, metavar="POINT", help="Only here; may be repeated. Else everywhere.")
@click.option("--boot-s", type=float, default=60.0, show_default=True, help="Until it is back, all tries included.")
@click.option("--off-s", type=float, default=0.2, show_default=True, help="Without power; an Orin wants 3 or more.")
@FORCE
@JSON_OPTION
def cuts(
    bench: Bench,
    name: str,
    path: Path | None,
    os_version: str,
    image_sha256: str,
    wanted: tuple[str, ...],
    boot_s: float,
    off_s: float,
    force: bool,
    as_json: bool,
) -> None:
    """Update a board, and cut its power at every point of that; say what boots, and whether a second try works.

    Unattended: one update without a cut shows which points this board has. Points of a real Orin that it does not
    have are named. Exit code 1 when a cut was not survived, 3 when one never took place.
    """
    from hil.faults.cut_points import CutProcedure
    from hil.rollout.updaters.kinds import adapter_of

    board = board_of(bench, name)
    bundle = _bundle(bench, board, path, os_version, image_sha256)
    claim(bench, [board.name], f"{board.name}: power cuts during updates", force=force, verb="power", about=board.name)
    factory = adapter_of(bench.lab, version=bundle.version)
    procedure = CutProcedure(board, lambda: factory(board), bundle, boot_s=boot_s, off_s=off_s, tell=note)
    note(f"{board.name}: one update without a cut")
    reference = procedure.measure()
    points = reference.points()
    if unknown := {*wanted} - {point.name for point in points}:
        raise ConfigurationError(
            f"{board.name} has no point {', '.join(sorted(unknown))}",
            remedy=f"choose of: {', '.join(point.name for point in points)}",
        )
    results = procedure.run([point for point in points if not wanted or point.name in wanted])
    if as_json:
        print_json(
            {
                "board": board.name,
                "reference": asdict(reference),
                "cuts": [{**asdict(result), "survived": result.survived} for result in results],
                "needs_a_real_board": reference.missing,
            }
        )
    else:
        columns = {
            "cut at": lambda r: r.point,
            "took place": lambda r: "yes" if r.reached else "NO",
            "runs then": lambda r: f"the {r.system} system, after {r.back_s} s" if r.answers else "NOTHING",
            "tries left": lambda r: r.tries,
            "update completed": lambda r: "yes" if r.completed else "NO",
            "problem": lambda r: r.problem,
        }
        print_rows(results, columns, optional=["problem"])
        for stage, what in reference.missing.items():
            say(f"needs a real board: {stage}: {what}")
    if not all(result.survived for result in results if result.reached):
        raise click.exceptions.Exit(1)
    if not all(result.reached for result in results):
        raise click.exceptions.Exit(3)


def _bundle(bench: Bench, board: Board, path: Path | None, version: str, image_sha256: str) -> BundleFacts:
    """Return the bundle to install. ConfigurationError when there is none for this board."""
    from hil.images.artefact import BundleFacts

    if path is None:
        if board.fidelity == "hardware":
            raise ConfigurationError(
                f"{board.name} is a real board, and no bundle was named", remedy="give --bundle and --os-version"
            )
        return bench.images.bundles.os_v2
    if not version or not image_sha256:
        raise ConfigurationError("--bundle without its OS", remedy="give --os-version and --image-sha256")
    return BundleFacts.of_file(path, version=version, image_sha256=image_sha256)
