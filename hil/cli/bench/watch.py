"""`hil bench watch`: a bench, live, in a terminal."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from hil.bench.state import require_state
from hil.cli.bench.heat_history import HeatHistory
from hil.cli.bench.watch_columns import frame
from hil.cli.live import keys, show
from hil.cli.output import print_json
from hil.errors import ConfigurationError
from hil.monitor.watch_loop import BenchFollower, Sample, Sampler

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from hil.monitor.bench_health import Health

PLAIN_WIDTH = 200
"""Columns of a frame that is printed to a file or a pipe."""


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
    with BenchFollower(name) as follower, Sampler(follower.health, every_s=every_s) as sampler, keys() as key:
        try:
            down = show(lambda: sampler.latest, BenchPage(console), console, key)
        except KeyboardInterrupt:
            down = False
    if down:
        click.echo(f"bench {name} is down")


class BenchPage:
    """The page of a sample; it keeps the sample before, for the traffic between both, and what was warm when."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0
        self._now: Health | None = None
        self._before: Health | None = None
        self._history = HeatHistory()

    def __call__(self, sample: Sample[Health]) -> RenderableType | None:
        """Return the page; None when the bench is down."""
        from rich.text import Text

        if sample.number != self._number:  # else only the terminal's size has changed
            self._now, self._before, self._number = sample.value, self._now, sample.number
            if sample.value is not None:
                self._history.add(sample.value)
        if sample.value is None:
            return Text(f"no answer from the bench: {sample.error}", style="red") if sample.error else None
        console = self._console
        size = {"width": console.width, "height": console.height}
        return frame(sample.value, **size, before=self._before, history=self._history)
