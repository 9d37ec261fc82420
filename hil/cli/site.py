"""`hil site`: runs, nights and history as static pages."""

from __future__ import annotations

from pathlib import Path

import click

from hil.cli.output import JSON_OPTION, plural, print_result


@click.group()
def site() -> None:
    """Make static pages of all runs and nights, for any web server or the viewer of a CI job's artefacts."""


@site.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--no-artefacts", is_flag=True, help="Leave out consoles and other files of runs; their links are dead.")
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public key (PEM): runs that are not signed with it are marked.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Reports folder (default: reports/out).")
@JSON_OPTION
def build(folder: Path, no_artefacts: bool, key: Path | None, out: Path | None, as_json: bool) -> None:
    """Bring the site in DIR up to date: only what is new is made. Links to runs and nights stay as they are."""
    from hil.core import paths
    from hil.nightly.site import INDEX, build_site

    built = build_site((out or paths.reports_out()).absolute(), folder, artefacts=not no_artefacts, key=key)
    done = f"{plural(built.runs, 'run')}, {plural(built.nights, 'night')}, {built.histories} histories made"
    facts = {"page": str(folder / INDEX), "runs": built.runs, "nights": built.nights, "histories": built.histories}
    print_result(as_json, facts, f"{folder / INDEX}\n{done}")
