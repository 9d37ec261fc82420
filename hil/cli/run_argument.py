"""The argument RUN of commands: a run of the index, or the directory of one from another machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hil.cli.completion import run_ids
from hil.core import paths
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.evidence.store import Run, RunStore

RUN_ARGUMENT = click.argument("run_id", metavar="[RUN]", default="last", shell_complete=run_ids)


def directory_of(word: str) -> tuple[Path, RunStore | None]:
    """Return the directory of a run that ended, and the index that has it; None for a directory by its path."""
    from hil.evidence.record import META
    from hil.evidence.store import RUNS, RunStore, get_run

    directory = Path(word)
    if "/" in word and (directory / META).is_file():
        if directory.resolve().parent != (paths.reports_out() / RUNS).resolve():
            return directory.absolute(), None
        word = directory.resolve().name  # one of ours: its index is known
    run = get_run(word)
    if not run.directory.is_dir():
        raise deleted(run)
    if run.state == "running":
        raise ConfigurationError(f"run {run.run_id} is still running", remedy="wait for its end")
    return run.directory, RunStore(paths.reports_out())


def deleted(run: Run) -> ConfigurationError:
    """Return the error of a run whose directory is gone, or on another host."""
    if run.host not in ("", os.uname().nodename):
        return ConfigurationError(
            f"run {run.run_id} was on {run.host}, which has its directory",
            remedy="use the command there; `hil runs show` has what the store kept of it",
        )
    return ConfigurationError(
        f"run {run.run_id}: its directory was deleted ({run.directory})",
        remedy="`hil runs show` has what the list kept of it",
    )
