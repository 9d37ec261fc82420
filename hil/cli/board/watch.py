"""`hil board watch`: the sensors of one board, live."""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import click

from hil.cli.completion import board_names
from hil.cli.output import JSON_OPTION, print_json, print_table, seconds
from hil.cli.select_bench import attach, bench_option, board_of
from hil.errors import DeviceError, HilError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console, RenderableType

    from hil.boards.jetson.sensors import Reading
    from hil.boards.protocol import Board, Shell
    from hil.cli.bench.watch import Key

LEAST_S = 0.2
"""Asking takes a board some tens of milliseconds; more often it would measure the watching."""

_FIRST = ("tj_c", "board_mw", "gpu_load_percent", "gpu_mhz")
_UNITS = {
    "_c": ("°C", 1.0, 1),
    "_mw": ("W", 1e-3, 2),
    "_percent": ("%", 1.0, 0),
    "_mhz": ("MHz", 1.0, 0),
    "_mb": ("MB", 1.0, 0),
}
"""Ending of a reading's name to (unit, factor, digits)."""


@runtime_checkable
class ReadsOverShell(Protocol):
    """A board that tells more than flat numbers: what throttles it, over-current, alarms."""

    def reading_over(self, shell: Shell) -> Reading: ...


@dataclass(frozen=True)
class Look:
    """One look at a board. None: this board does not tell."""

    at: float  # Unix time, s
    sensors: Mapping[str, float]
    throttled_by: tuple[str, ...] | None = None
    over_current: Mapping[str, int] | None = None  # events since the first look
    alarms: tuple[str, ...] | None = None
    gated: tuple[str, ...] = ()  # zones without power


class SensorWatch(AbstractContextManager["SensorWatch"]):
    """Looks at one board again and again, over one session as long as it lasts."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._shell: Shell | None = None
        self._first: Reading | None = None
        self._without_reading = not isinstance(board, ReadsOverShell)

    def look(self) -> Look:
        """HilError when the board does not answer; the next look opens a new session then."""
        from hil.monitor.board_watch import SensesOverShell

        board = self._board
        try:
            if self._shell is None and isinstance(board, ReadsOverShell | SensesOverShell):
                self._shell = board.shell()
            if self._shell is not None and (look := self._full(self._shell)):
                return look
            if self._shell is not None and isinstance(board, SensesOverShell):
                return Look(time.time(), board.sensors_over(self._shell))
            return Look(time.time(), board.sensors())
        except HilError:
            self.close()
            raise

    def _full(self, shell: Shell) -> Look | None:
        """None where sysfs has no Orin's sensors: ``sensors`` knows the other source."""
        board = self._board
        if self._without_reading or not isinstance(board, ReadsOverShell):
            return None
        try:
            reading = board.reading_over(shell)
        except DeviceError:
            self._without_reading = self._first is None  # it told before: then it is the session that broke
            if self._without_reading:
                return None
            raise
        if "tj" not in reading.zones_c:  # every Orin has it; another kernel's zones are not the module's
            self._without_reading = True
            return None
        if self._first is None or self._first.boot_id != reading.boot_id:
            self._first = reading  # the counters begin anew with every boot
        return Look(
            time.time(),
            reading.sensors(),
            reading.throttled_by,
            dict(reading.over_current_since(self._first).events),
            reading.alarms,
            reading.gated,
        )

    def close(self) -> None:
        shell, self._shell = self._shell, None
        if shell is not None:
            shell.close()

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass
class Spans:
    """Lowest and highest of every reading since the watching began."""

    lowest: dict[str, float] = field(default_factory=dict)
    highest: dict[str, float] = field(default_factory=dict)

    def take(self, look: Look) -> None:
        for name, value in look.sensors.items():
            self.lowest[name] = min(value, self.lowest.get(name, value))
            self.highest[name] = max(value, self.highest.get(name, value))

    def rows(self, look: Look) -> list[tuple[str, str, str, str]]:
        """(sensor, now, lowest, highest), the telling ones first; one that is silent now has no value."""
        rows = []
        for name in sorted(self.lowest, key=_rank):
            title, low = readable(name, self.lowest[name])
            now = readable(name, look.sensors[name])[1] if name in look.sensors else "-"
            rows.append((title, now, low, readable(name, self.highest[name])[1]))
        return rows


def readable(name: str, value: float) -> tuple[str, str]:
    """A reading for people: ``("board", "5.20 W")`` for ``board_mw``, 5200."""
    for ending, (unit, factor, digits) in _UNITS.items():
        if name.endswith(ending):
            title = name.removesuffix(ending).replace("_", " ") + (" clock" if ending == "_mhz" else "")
            return title, f"{value * factor:.{digits}f} {unit}"
    return name, f"{value:g}"


def page_rows(sensors: Mapping[str, float]) -> list[tuple[str, str]]:
    """All readings for people, the telling ones first."""
    return [readable(name, sensors[name]) for name in sorted(sensors, key=_rank)]


def _rank(name: str) -> tuple[int, int, str]:
    kind = next((n for n, ending in enumerate(_UNITS) if name.endswith(ending)), len(_UNITS))
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), kind, name)


def remarks(look: Look) -> list[str]:
    """What no number says."""
    throttled = (
        "this board does not tell" if look.throttled_by is None else ", ".join(look.throttled_by) or "no"
    )
    said = [f"throttled: {throttled}"]
    if look.over_current and any(look.over_current.values()):
        events = ", ".join(f"{name}: {count}" for name, count in look.over_current.items() if count)
        said.append(f"over-current events since the first look: {events}")
    if look.alarms:
        said.append(f"alarms: {', '.join(look.alarms)}")
    if look.gated:
        said.append(f"without power: {', '.join(look.gated)}")
    return said


@click.command()
@click.argument("name", shell_complete=board_names)
@bench_option
@click.option(
    "--every", "every_s", type=seconds, default="1s", show_default=True, metavar="TIME", help="Between looks."
)
@click.option("--once", is_flag=True, help="Look once and end.")
@JSON_OPTION
def watch(name: str, bench_name: str | None, every_s: float, once: bool, as_json: bool) -> None:
    """Sensors of a board, live: temperatures, power, load, clocks, what throttles it; q or Ctrl-C ends it.

    With the lowest and the highest value since you began. Where stdout is no terminal, one line per look; with --json,
    one document per line and all figures.

    \b
    Examples:
      hil board watch a1
      hil board watch b1 --every 5s
      hil board watch b1 --once
      hil board watch b1 --json >b1.jsonl
    """
    if every_s < LEAST_S:
        raise click.BadParameter(f"at least {LEAST_S:g}s", param_hint="--every")
    with attach(bench_name) as bench, SensorWatch(board_of(bench, name)) as eye:
        if once:
            _once(eye, as_json)
            return
        with suppress(KeyboardInterrupt):  # that is how it ends
            if as_json or not sys.stdout.isatty():
                _lines(eye, every_s, as_json)
            else:
                from rich.console import Console

                from hil.cli.bench.watch import keys

                live(name, eye, every_s, console=Console(highlight=False), keys=keys())


def _once(eye: SensorWatch, as_json: bool) -> None:
    look = eye.look()
    if as_json:
        print_json(asdict(look))
        return
    print_table(["sensor", "now"], page_rows(look.sensors))
    for remark in remarks(look):
        click.echo(remark)


def _lines(eye: SensorWatch, every_s: float, as_json: bool) -> None:
    """Until Ctrl-C; a board that does not answer is a note, because it may be rebooting."""
    while True:
        begun = time.monotonic()
        try:
            look = eye.look()
        except HilError as exc:
            click.echo(f"note: {exc.message}", err=True)
        else:
            click.echo(json.dumps(asdict(look)) if as_json else _line(look))
        time.sleep(max(0.0, every_s - (time.monotonic() - begun)))


def _line(look: Look) -> str:
    shown = [readable(name, look.sensors[name]) for name in _FIRST if name in look.sensors]
    clock = time.strftime("%H:%M:%S", time.gmtime(look.at))
    return "  ".join([f"{clock} UTC", *(f"{title} {value}" for title, value in shown), *remarks(look)])


def live(
    name: str, eye: SensorWatch, every_s: float, *, console: Console, keys: AbstractContextManager[Key]
) -> None:
    """Draw a new page every ``every_s`` seconds until q; a board that does not answer is told on the last page."""
    from rich.live import Live

    spans = Spans()
    look: Look | None = None
    with Live(console=console, screen=True, auto_refresh=False) as page, keys as key:
        while True:
            problem = ""
            begun = time.monotonic()
            try:
                look = eye.look()
                spans.take(look)
            except HilError as exc:
                problem = exc.message
            page.update(page_of(name, look, spans, problem), refresh=True)
            left = every_s
            while left > 0:  # at least once, or a board that takes long would never let anybody go
                if key(max(0.0, every_s - (time.monotonic() - begun))) in ("q", "Q"):
                    return
                left = every_s - (time.monotonic() - begun)


def page_of(name: str, look: Look | None, spans: Spans, problem: str = "") -> RenderableType:
    """The picture: a table, what no number says, and why there is nothing new."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    title = Text.assemble((f"board {name}", "bold"))
    if look is not None:
        title.append(f"  {time.strftime('%H:%M:%S', time.gmtime(look.at))} UTC")
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for column in ("sensor", "now", "lowest", "highest"):
            table.add_column(column, justify="left" if column == "sensor" else "right", no_wrap=True)
        for row in spans.rows(look):
            table.add_row(*row)
        parts = [Text(""), table, Text("")]
        parts += [
            Text(remark, style="red" if look.throttled_by or look.alarms else "") for remark in remarks(look)
        ]
    if problem:
        parts.append(Text(f"! {problem}", style="red"))
    return Group(title, *parts, Text("q ends it", style="dim"))
