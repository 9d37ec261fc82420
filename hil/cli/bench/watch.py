"""`hil bench watch`: a bench, live, in a terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click

from hil.bench.state import require_state
from hil.cli.bench.frame import frame
from hil.cli.output import print_json
from hil.errors import ConfigurationError
from hil.monitor.watch_loop import Sample, Sampler, Watched

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from hil.monitor.health import Health

POLL_S = 0.1
"""How often keys, the terminal's size and new looks are looked for."""
PLAIN_WIDTH = 200
"""Of a frame that is printed to a file or a pipe."""

Key = Callable[[float], str]
"""Waits at most so many seconds for a key; the key, or nothing."""


def once(name: str, *, as_json: bool) -> None:
    """Print one frame (or everything, as JSON) and end.  ConfigurationError when the bench is not up."""
    from hil.bench.bench import Bench
    from hil.monitor.bench_watch import snapshot

    with closing(Bench.attach(name)) as bench:
        health = snapshot(bench)
    if as_json:
        print_json(health.to_json())
        return
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    with console.capture() as capture:
        console.print(frame(health, width=console.width))
    for line in capture.get().splitlines():  # rich fills rows with blanks
        click.echo(line.rstrip())


def live(name: str, *, every_s: float) -> None:
    """Show the bench until q or Ctrl-C, or until it goes down.  ConfigurationError without a terminal or a bench."""
    require_state(name)
    if not sys.stdout.isatty():
        raise ConfigurationError(
            "the live view needs a terminal", remedy="`hil bench watch --once` prints one frame, --json data"
        )
    from rich.console import Console

    console = Console(highlight=False)
    with Watched(name) as watched, Sampler(watched.look, every_s=every_s) as sampler, keys() as key:
        try:
            down = show(lambda: sampler.latest, console, key)
        except KeyboardInterrupt:
            down = False
    if down:
        click.echo(f"bench {name} is down")


def show(latest: Callable[[], Sample | None], console: Console, key: Key) -> bool:
    """Draw every new look until q (False) or until the bench is down (True)."""
    from rich.live import Live
    from rich.text import Text

    drawn: tuple[int, object] | None = None
    now: Health | None = None
    before: Health | None = None
    number = 0
    # The other screen of the terminal: what stood there before comes back, and a frame is drawn over the last one.
    with Live(Text("looking ..."), console=console, screen=True, auto_refresh=False) as page:
        page.refresh()
        while True:
            sample = latest()
            if sample is not None and (sample.number, console.size) != drawn:
                if sample.health is None and not sample.error:
                    return True
                if sample.number != number:
                    now, before, number = sample.health, now, sample.number
                page.update(_page(sample, before, console), refresh=True)
                drawn = (sample.number, console.size)
            if key(POLL_S) in ("q", "Q"):
                return False


def _page(sample: Sample, before: Health | None, console: Console) -> RenderableType:
    from rich.text import Text

    if sample.health is None:
        return Text(f"cannot look at the bench: {sample.error}", style="red")
    return frame(sample.health, width=console.width, height=console.height, before=before)


@contextmanager
def keys() -> Iterator[Key]:
    """Single keys from the terminal, without Enter and without an echo; none when stdin is something else."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    fd = sys.stdin.fileno()
    settings = termios.tcgetattr(fd)
    tty.setcbreak(fd)  # unlike raw mode it leaves Ctrl-C a signal

    def key(timeout_s: float) -> str:
        ready, _, _ = select.select([fd], [], [], timeout_s)
        typed = os.read(fd, 64) if ready else b""
        if ready and not typed:  # the terminal was closed
            raise KeyboardInterrupt
        return typed[:1].decode("ascii", "replace")

    try:
        yield key
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, settings)


def _no_key(timeout_s: float) -> str:
    select.select([], [], [], timeout_s)
    return ""
