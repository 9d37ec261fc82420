"""`hil lab init`: a repository of one's own to start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from hil.cli.output import JSON_OPTION, print_json
from hil.core import paths
from hil.errors import ConfigurationError


@click.command()
@click.argument(
    "directory", metavar="[DIR]", type=click.Path(path_type=Path, file_okay=False), default=Path()
)
@JSON_OPTION
def init(directory: Path, as_json: bool) -> None:
    """Write a repository to start from: a lab file, a plan, first tests, a README.

    DIR is the working directory unless given. No file is overwritten.
    """
    starter = paths.shipped("examples") / "customer"
    files = [path for path in sorted(starter.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    targets = [directory / path.relative_to(starter) for path in files]
    if present := [str(target) for target in targets if target.exists()]:
        raise ConfigurationError(
            f"these files are there already: {', '.join(present)}", remedy="name a directory without them"
        )
    for path, target in zip(files, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if as_json:
        print_json([str(target) for target in targets])
        return
    for target in targets:
        click.echo(target)
    click.echo("next: see README.md there, then `hil campaign run plans/first_contact --lab lab/first.yaml`")
