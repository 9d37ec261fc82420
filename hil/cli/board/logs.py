"""`hil board logs`: what a board's console and its OS have said, and say now."""

from __future__ import annotations

import math
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hil.cli.board.access import streaming
from hil.cli.board.live_output import Lines
from hil.cli.output import duration_option, note
from hil.cli.select_bench import on_board
from hil.errors import HilError

if TYPE_CHECKING:
    from hil.boards.protocol import Board

_LINES = 50
_TAIL_B = 4 << 20
_LOOK_S = 0.1
_AGAIN_S = 2.0
"""How soon a board that went away is asked again."""
OS_LOG = """
if command -v journalctl >/dev/null; then
    exec journalctl --no-pager --output=short-iso-precise --quiet "$@"
fi
set -- /run/log/*.log
[ -e "$1" ] || set -- /var/log/syslog /var/log/messages
exec tail -q $TAIL "$@"
"""
"""For ``sh -c``: the journal, else the files of a small OS; journalctl's options as arguments, tail's in ``$TAIL``."""


@click.command()
@on_board
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, also through reboots, until Ctrl-C.")
@duration_option("--since", "Only what came since so long ago; of an OS without a journal, its last lines.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), help=f"Last lines of each (default: {_LINES}; with --since all)."
)
@click.option("--source", type=click.Choice(["all", "console", "os"]), default="all", show_default=True)
def logs(board: Board, follow: bool, since_s: float | None, lines: int | None, source: str) -> None:
    """Print the log of a board: its serial console, and the journal (or log files) of its OS where it answers."""
    last = lines if lines is not None or since_s is not None else _LINES
    os_log = threading.Thread(target=_follow_os, args=(board, since_s, last, stop := threading.Event()), daemon=True)
    try:
        if source != "os":
            _console(board.console.log, since_s, last, follow=False)
        if source != "console" and not follow:
            _os(board, since_s, last, stop)
        elif follow:
            if source != "console":
                os_log.start()
            if source != "os":
                _console(board.console.log, 0.0, 0, follow=True)
            while os_log.is_alive():
                os_log.join(1.0)
    except KeyboardInterrupt:  # the usual end of --follow
        pass
    finally:
        stop.set()
        if os_log.is_alive():
            os_log.join(10.0)


def _console(log: Path, since_s: float | None, last: int | None, *, follow: bool) -> None:
    """Print a console's log from there on, each line with the time when it came."""
    from hil.cli.board.terminal import Stamped, open_log

    shown = Lines(sys.stdout, "console")
    with open_log(log) as stream:
        offset = max(_since(log.with_suffix(".idx"), since_s), _last_lines(log, last))
        stream.seek(offset)
        stamped = Stamped(log.with_suffix(".idx"), offset=offset)
        while True:
            while part := stream.read(1 << 16):
                shown(stamped.add(part))
            if not follow or not log.exists():
                break
            time.sleep(_LOOK_S)
    shown.end()


def _since(index: Path, since_s: float | None) -> int:
    """Return from which byte on a console's log came within the last ``since_s`` seconds; 0 for all of it."""
    if since_s is None:
        return 0
    begin, offset = time.time() - since_s, 0
    with suppress(OSError, ValueError):
        for row in index.read_text().splitlines():
            offset, when = int(row.split()[0]), float(row.split()[1])
            if when >= begin:
                return offset
    return index.with_suffix(".log").stat().st_size


def _last_lines(log: Path, count: int | None) -> int:
    """Return where the last ``count`` lines of a log begin; of very many, those of its last 4 MiB."""
    size = log.stat().st_size
    if count is None:
        return 0
    with log.open("rb") as file:
        first = file.seek(max(0, size - _TAIL_B))
        tail = file.read(size - first)
    at = len(tail) - tail.endswith(b"\n")
    for _ in range(count):
        at = tail.rfind(b"\n", 0, at)
        if at < 0:
            return first
    return first + at + 1 if count else size


def _os(board: Board, since_s: float | None, last: int | None, stop: threading.Event, *, follow: bool = False) -> None:
    """Print the OS's log; a note when the board does not answer."""
    from hil.boards.protocol import Via

    shown, complaints = Lines(sys.stdout, "os"), Lines(sys.stderr, "os")
    options = [] if last is None else [f"--lines={last}"]
    options += [] if since_s is None else [f"--since=-{math.ceil(since_s)}s"]
    tail = f"-n {_LINES if last is None else last}" + (" -F" if follow else "")
    argv = ["env", f"TAIL={tail}", "sh", "-c", OS_LOG, "sh", *options, *(["--follow"] if follow else [])]
    try:
        with streaming(board, Via.MANAGEMENT) as shell:
            shell.stream(argv, out=shown, err=complaints, stop=stop.is_set)
    except HilError as exc:
        if not stop.is_set():
            note(f"the log of the OS cannot be read: {exc.message}")
    shown.end()
    complaints.end()


def _follow_os(board: Board, since_s: float | None, last: int | None, stop: threading.Event) -> None:
    """Follow the OS's log, and ask again when the board went away."""
    while not stop.is_set():
        _os(board, since_s, last, stop, follow=True)
        since_s, last = None, 10
        stop.wait(_AGAIN_S)
