"""Starts the `hil` command in processes that need not import it: a server that has done so forks one for each.

``python -m hil.cli`` imports for a second of a core before it does anything, and tests run it a hundred times.  What
is forked is a process like any other: arguments, environment, working directory, standard streams and exit code are
its own.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.forkserver import set_forkserver_preload
from pathlib import Path

from hil.core import paths

PRELOADED = (
    *(
        "hil.cli.app",
        "hil.cli.bench.group",
        "hil.cli.board.group",
        "hil.cli.fault",
        "hil.cli.host",
        "hil.cli.lab.group",
    ),
    *("hil.cli.lease", "hil.cli.link", "hil.bench.bench", "hil.bench.ownership", "hil.monitor.board_watch"),
    *("cryptography.x509", "docker", "paramiko", "rich.console", "rich.live", "rich.table"),
)
"""No module that notes who or where its process is while it is imported (`hil.rollout.upload` does)."""
set_forkserver_preload([__name__, *PRELOADED])


def run(
    arguments: tuple[str, ...], stdin: str, env: Mapping[str, str], *, out: Path, err: Path, timeout_s: float
) -> int:
    """Run `hil` with its output in these files; return its exit code as `subprocess` has it."""
    told = (arguments, stdin, dict(env), str(Path.cwd()), out, err)
    process = get_context("forkserver").Process(target=_become, args=told)
    process.start()
    process.join(timeout_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise subprocess.TimeoutExpired(["hil", *arguments], timeout_s)
    return process.exitcode


def _become(arguments: tuple[str, ...], stdin: str, env: Mapping[str, str], cwd: str, out: Path, err: Path) -> None:
    """Take the place of a process that was started with these arguments, environment, folder and streams."""
    given, give = os.pipe()
    os.write(give, stdin.encode())  # less than a pipe holds
    os.close(give)
    for standard, fd in enumerate((given, os.open(out, os.O_WRONLY), os.open(err, os.O_WRONLY))):
        os.dup2(fd, standard)
        os.close(fd)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # for as long as the process is
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = [str(paths.PACKAGE / "cli/__main__.py"), *arguments]
    from hil.cli import main

    code = main()
    atexit._run_exitfuncs()
    sys.exit(code)
