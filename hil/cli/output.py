"""How commands print: JSON for programs, tables for people, progress for whoever waits."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from hil.core.wait import duration_s

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a page.")


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def console() -> Console:
    """Where pages go; plain text when stdout is not a terminal, never cut at a made-up width."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "") -> None:
    """A table; numbers are right-aligned.  ``empty`` is printed when there is no row."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        click.echo(empty)
        return
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        for row in [list(columns), *cells]:
            click.echo("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = all(row[index][:1].isdigit() or row[index] in ("", "-") for row in cells)
        table.add_column(column, justify="right" if numeric else "left")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


class Progress(AbstractContextManager["Progress"]):
    """Steps with their elapsed time: a spinner on a terminal, plain lines elsewhere.  All on stderr.

    Implements ``hil.host.setup.View``.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._step = ""
        self._status: Status | None = None
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True, highlight=False).status("")

    def __enter__(self) -> Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._status:
            self._status.stop()

    def begin(self, step: str) -> None:
        """A step begins."""
        self._step = step
        if self._status:
            self._status.update(step)
        else:
            self._print(f"{step} ...")

    def say(self, line: str) -> None:
        """What the step does now; an empty line says nothing."""
        if not line:
            return
        if self._status:
            self._status.update(f"{self._step}: {line}" if self._step else line)
        else:
            self._print(f"  {line}")

    def note(self, line: str) -> None:
        """Something to keep on the screen."""
        if self._status:
            self._status.console.print(line)
        else:
            self._print(line)

    def end(self, summary: str, seconds: float) -> None:
        """The step is done."""
        done = f"{self._step}: {summary}" if summary else self._step
        if self._status:
            self._status.console.print(f"[green]✓[/] {done} [dim]({seconds:.1f} s)[/]")
        else:
            self._print(f"{done} ({seconds:.1f} s)")

    def _print(self, line: str) -> None:
        click.echo(f"[{time.monotonic() - self._start:6.1f} s] {line}", err=True)


def rate(bps: int) -> str:
    """A rate for people: ``2.5 Gbit/s``; 0 is no limit."""
    if bps == 0:
        return "no limit"
    for unit, size in (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3)):
        if bps >= size:
            return f"{bps / size:g} {unit}"
    return f"{bps} bit/s"


def delay(us: float) -> str:
    """A delay for people, in milliseconds."""
    return f"{us / 1000:.3f} ms"


def seconds(text: str) -> float:
    """An option's duration in seconds; click.BadParameter when it is none."""
    try:
        return duration_s(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc
