"""The output of commands: JSON for programs, tables for people, progress and notes on stderr."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hil.cli.tables import fitted, table_lines
from hil.errors import ConfigurationError
from hil.text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

F = TypeVar("F", bound=Callable[..., object])
T = TypeVar("T")
VERBOSE, QUIET = "hil.verbose", "hil.quiet"
"""Keys of click's ``ctx.meta``: how often -v was given, and whether -q was."""

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON, also for an error.")


def lab_option(help: str, *, required: bool = False) -> Callable[[F], F]:
    """Make ``--lab FILE``; the command's function gets ``lab_path``."""
    return click.option(
        "--lab", "lab_path", metavar="FILE", type=click.Path(path_type=Path), required=required, help=help
    )


def duration_option(name: str, help: str, *, default: str | None = None, least_s: float = 0.0) -> Callable[[F], F]:
    """Make an option such as ``--wait DURATION``; the command's function gets ``wait_s``, in seconds."""

    def duration(text: str) -> float:
        from hil.core.wait import duration_s

        try:
            seconds = duration_s(text)
        except ValueError as exc:
            raise click.BadParameter(str(exc)) from exc
        if seconds < least_s:
            raise click.BadParameter(f"at least {least_s:g}s")
        return seconds

    variable = f"{name.strip('-').replace('-', '_')}_s"
    return click.option(name, variable, type=duration, default=default, show_default=True, help=help)


def every_option(default: str, *, least_s: float) -> Callable[[F], F]:
    """Make ``--every DURATION``: an interval of at least ``least_s`` seconds."""
    return duration_option("--every", "Interval between two readings.", default=default, least_s=least_s)


class OutputFile(click.Path):
    """A file to write: its folder must be there, so that a mistyped path is noticed before any work."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(str(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            self.fail(f"folder {path.parent} does not exist", param, ctx)
        return path


OUTPUT_OPTION = click.option("-o", "--output", type=OutputFile(), help="Write to this file, not to stdout.")


def write_output(path: Path, text: str) -> None:
    """Write a file that a person asked for; ConfigurationError when that is not possible."""
    try:
        path.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be written: {exc.strerror}", remedy="choose another path") from exc


class RenamedOptions(click.Command):
    """A command whose former spellings of options still work, with a note on stderr.

    ``renamed``: former name to (name now, template of its value, or ``None`` for a flag).
    """

    def __init__(self, *args: Any, renamed: Mapping[str, tuple[str, str | None]], **options: Any) -> None:
        super().__init__(*args, **options)
        self._renamed = renamed

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        now: list[str] = []
        rest = iter(args)
        for word in rest:
            name, equals, value = word.partition("=")
            if name not in self._renamed:
                now.append(word)
                if word == "--":
                    break
                continue
            current, template = self._renamed[name]
            now.append(current)
            if template is not None:
                now.append(template.format(value if equals else next(rest, "")))
            note(f"{name} is now {' '.join(now[-1 if template is None else -2 :])}", ctx)
        return super().parse_args(ctx, [*now, *rest])


def note(text: str, ctx: click.Context | None = None) -> None:
    """Print a remark on stderr; nothing with ``hil -q``."""
    say(f"note: {text}", ctx)


def say(text: str, ctx: click.Context | None = None) -> None:
    """Print on stderr what a command does, or what to do next; nothing with ``hil -q``."""
    ctx = ctx or click.get_current_context(silent=True)
    if not (ctx and ctx.meta.get(QUIET)):
        click.echo(clean(text), err=True)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout, in ASCII: a board may have sent any character."""
    click.echo(json.dumps(value, indent=2))


def console() -> Console:
    """Return the console for pages: plain text where stdout is no terminal, never cut at a made-up width."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def print_result(as_json: bool, document: Any, text: str) -> None:
    """Print the result of a command: the document with ``--json``, else the text."""
    if as_json:
        print_json(document)
    else:
        click.echo(text)


def print_rows(
    rows: Iterable[T], columns: Mapping[str, Callable[[T], object]], *, empty: str = "", optional: Sequence[str] = ()
) -> None:
    """Print a table of things: each title with what makes a row's cell; as :func:`print_table`."""
    cells = [[cell(row) for cell in columns.values()] for row in rows]
    print_table(list(columns), cells, empty=empty, optional=optional)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "", optional: Sequence[str] = ()
) -> None:
    """Print a table, numbers to the right; ``empty`` when there is no row.

    A cell is never cut.  On a terminal that is too narrow text folds between words, and then the ``optional`` columns
    go, the first one first.
    """
    cells = [[clean(str(cell)).replace("\n", " ") for cell in row] for row in rows]
    if not cells:
        click.echo(empty)
        return
    if sys.stdout.isatty():
        lines, dropped = fitted(columns, cells, shutil.get_terminal_size().columns, optional=optional)
    else:
        lines, dropped = table_lines(columns, cells), []
    click.secho(lines[0], bold=True)
    for line in lines[1:]:
        click.echo(line)
    if dropped:
        note(f"this terminal is too narrow for {', '.join(dropped)}; --json has everything")


class Progress(AbstractContextManager["Progress"]):
    """Steps with their elapsed time on stderr: a spinner on a terminal, plain lines elsewhere, nothing with -q.

    Implements ``hil.core.command.StepView``.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._step = ""
        self._status: Status | None = None
        ctx = click.get_current_context(silent=True)
        meta = ctx.meta if ctx else {}
        self._quiet = bool(meta.get(QUIET))
        if sys.stderr.isatty() and not self._quiet and not meta.get(VERBOSE):
            from rich.console import Console

            self._status = Console(stderr=True, highlight=False).status("")

    def __enter__(self) -> Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._status:
            self._status.stop()

    @property
    def on_terminal(self) -> bool:
        """Whether a line can change in place."""
        return self._status is not None

    def begin(self, step: str) -> None:
        """Show that a step begins."""
        self._step = step
        self._now(step, f"{step} ...")

    def say(self, line: str) -> None:
        """Show what the step does now; nothing for an empty line."""
        if line:
            self._now(f"{self._step}: {line}" if self._step else line, f"  {line}")

    def note(self, line: str) -> None:
        """Print a line that stays on the screen."""
        self._keep(line, line)

    def end(self, summary: str, seconds: float) -> None:
        """Print that the step is done."""
        done = f"{self._step}: {summary}" if summary else self._step
        self._keep(f"[green]✓[/] {done} [dim]({seconds:.1f} s)[/]", f"{done} ({seconds:.1f} s)")

    def _now(self, status: str, plain: str) -> None:
        if self._status:
            self._status.update(status)
        else:
            self._print(plain)

    def _keep(self, status: str, plain: str) -> None:
        if self._status:
            self._status.console.print(status)
        else:
            self._print(plain)

    def _print(self, line: str) -> None:
        if not self._quiet:
            click.echo(f"[{time.monotonic() - self._start:6.1f} s] {line}", err=True)


def rate(bps: int) -> str:
    """Return a rate for people, such as ``2.5 Gbit/s``; 0 is no limit."""
    if bps == 0:
        return "no limit"
    for unit, size in (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3)):
        if bps >= size:
            return f"{bps / size:g} {unit}"
    return f"{bps} bit/s"


def delay(us: float) -> str:
    """Return a delay for people, in milliseconds."""
    return f"{us / 1000:.3f} ms"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 hop``, ``2 hops``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
