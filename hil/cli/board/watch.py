"""`hil board watch`: the sensors of one board, live."""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from hil.boards.linux_board import KeptShell
from hil.cli.live import keys, show
from hil.cli.output import JSON_OPTION, every_option, note, print_json, print_table
from hil.cli.select_bench import on_board
from hil.errors import DeviceError, HilError
from hil.monitor.board_watch import read_sensors
from hil.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from hil.boards.jetson.sensors import Reading
    from hil.boards.protocol import Board, Shell
    from hil.monitor.watch_loop import Sample

LEAST_S = 0.2
"""Reading takes a board some tens of milliseconds; more often it would measure the watching."""

_FIRST = ("tj_c", "board_mw", "gpu_load_percent", "gpu_mhz")
_UNITS = {
    "_c": ("°C", 1.0, 1),
    "_mw": ("W", 1e-3, 2),
    "_percent": ("%", 1.0, 0),
    "_mhz": ("MHz", 1.0, 0),
    "_mb": ("MB", 1.0, 0),
}
"""Ending of a reading's name to (unit, factor, digits)."""


@dataclass(frozen=True)
class SensorSample:
    """The sensors of a board at one moment. None: this board has no such reading."""

    at: float  # Unix time, s
    sensors: Mapping[str, float]
    throttled_by: tuple[str, ...] | None = None
    over_current: Mapping[str, int] | None = None  # events since the first sample
    alarms: tuple[str, ...] | None = None
    gated: tuple[str, ...] = ()  # zones without power


class SensorWatch(AbstractContextManager["SensorWatch"]):
    """Samples of one board, over one session as long as that lasts."""

    def __init__(self, board: Board) -> None:
        from hil.boards.capabilities import ReadsOverShell

        self._board = board
        self._shell = KeptShell(board.shell)
        self._first: Reading | None = None
        self._reads = board if isinstance(board, ReadsOverShell) else None

    def sample(self) -> SensorSample:
        """Read the sensors; HilError when the board does not answer, and the next sample opens a new session."""
        if self._reads and (sample := self._shell.use(self._full_sample)):
            return sample
        return SensorSample(time.time(), read_sensors(self._board, self._shell))

    def _full_sample(self, shell: Shell) -> SensorSample | None:
        """Return None where sysfs has no Orin's sensors; ``read_sensors`` knows the other source."""
        assert self._reads
        try:
            reading = self._reads.reading_over(shell)
        except DeviceError as exc:
            if self._first is not None or exc.__cause__ is not None:  # it is the session that broke
                raise
            reading = None
        if reading is None or "tj" not in reading.zones_c:  # every Orin has it; other zones are no module's
            self._reads = None
            return None
        if self._first is None or self._first.boot_id != reading.boot_id:
            self._first = reading  # the counters begin anew with every boot
        return SensorSample(
            time.time(),
            reading.sensors(),
            reading.throttled_by,
            reading.over_current_since(self._first),
            reading.alarms,
            reading.gated,
        )

    def __exit__(self, *exc: object) -> None:
        self._shell.close()


class Spans:
    """Lowest and highest value of every reading since the beginning."""

    def __init__(self) -> None:
        self._spans: dict[str, tuple[float, float]] = {}

    def take(self, sample: SensorSample) -> None:
        for name, value in sample.sensors.items():
            low, high = self._spans.get(name, (value, value))
            self._spans[name] = min(value, low), max(value, high)

    def rows(self, sample: SensorSample) -> list[tuple[str, str, str, str]]:
        """Return (sensor, now, lowest, highest), important ones first; one that is absent now has no value."""
        rows = []
        for name in sorted(self._spans, key=_rank):
            (title, low), (_, high) = (readable(name, value) for value in self._spans[name])
            now = readable(name, sample.sensors[name])[1] if name in sample.sensors else "-"
            rows.append((title, now, low, high))
        return rows


def readable(name: str, value: float) -> tuple[str, str]:
    """Return a reading for people: ``("board", "5.20 W")`` for ``board_mw``, 5200."""
    for ending, (unit, factor, digits) in _UNITS.items():
        if name.endswith(ending):
            title = name.removesuffix(ending).replace("_", " ") + (" clock" if ending == "_mhz" else "")
            return clean(title), f"{value * factor:.{digits}f} {unit}"
    return clean(name), f"{value:g}"


def page_rows(sensors: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return all readings for people, important ones first."""
    return [readable(name, sensors[name]) for name in sorted(sensors, key=_rank)]


def _rank(name: str) -> tuple[int, int, str]:
    kind = next((n for n, ending in enumerate(_UNITS) if name.endswith(ending)), len(_UNITS))
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), kind, name)


def remarks(sample: SensorSample) -> list[str]:
    """Return what no number says: throttling, over-current, alarms, zones without power."""
    throttled = "unknown on this board" if sample.throttled_by is None else ", ".join(sample.throttled_by) or "no"
    said = [f"throttled: {throttled}"]
    if sample.over_current and any(sample.over_current.values()):
        events = ", ".join(f"{name}: {count}" for name, count in sample.over_current.items() if count)
        said.append(f"over-current events since the first reading: {events}")
    if sample.alarms:
        said.append(f"alarms: {', '.join(sample.alarms)}")
    if sample.gated:
        said.append(f"without power: {', '.join(sample.gated)}")
    return [clean(text) for text in said]


@click.command()
@on_board
@every_option("1s", least_s=LEAST_S)
@click.option("--once", is_flag=True, help="Read once and end.")
@JSON_OPTION
def watch(board: Board, every_s: float, once: bool, as_json: bool) -> None:
    """Watch the sensors of a board live: temperatures, power, load, clocks, throttling; q or Ctrl-C ends it.

    Shows also the lowest and the highest value since the beginning. Where stdout is no terminal: one line per reading;
    with --json: one document per line, with all figures.
    """
    with SensorWatch(board) as sensors:
        if once:
            _once(sensors, as_json)
            return
        with suppress(KeyboardInterrupt):  # the usual end
            if as_json or not sys.stdout.isatty():
                _lines(sensors, every_s, as_json)
                return
            from rich.console import Console

            from hil.monitor.watch_loop import Sampler

            with Sampler(sensors.sample, every_s=every_s) as sampler, keys() as key:
                show(lambda: sampler.latest, BoardPage(board.name), Console(highlight=False), key)


def _once(sensors: SensorWatch, as_json: bool) -> None:
    sample = sensors.sample()
    if as_json:
        print_json(asdict(sample))
        return
    print_table(["sensor", "now"], page_rows(sample.sensors))
    for remark in remarks(sample):
        click.echo(remark)


def _lines(sensors: SensorWatch, every_s: float, as_json: bool) -> None:
    """Print samples until Ctrl-C; a board that does not answer is a note, because it may be rebooting."""
    while True:
        begun = time.monotonic()
        try:
            sample = sensors.sample()
        except HilError as exc:
            note(exc.message)
        else:
            click.echo(json.dumps(asdict(sample)) if as_json else _line(sample))
        time.sleep(max(0.0, every_s - (time.monotonic() - begun)))


def _line(sample: SensorSample) -> str:
    shown = [readable(name, sample.sensors[name]) for name in _FIRST if name in sample.sensors]
    clock = time.strftime("%H:%M:%S", time.gmtime(sample.at))
    return "  ".join([f"{clock} UTC", *(f"{title} {value}" for title, value in shown), *remarks(sample)])


class BoardPage:
    """The page of a board's sample: the readings, the remarks, and why there is no new sample."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spans = Spans()
        self._last: SensorSample | None = None

    def __call__(self, sample: Sample[SensorSample]) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if sample.value is not None:
            self._last = sample.value
            self._spans.take(sample.value)
        parts: list[RenderableType] = []
        title = Text.assemble((f"board {self._name}", "bold"))
        if last := self._last:
            title.append(f"  {time.strftime('%H:%M:%S', time.gmtime(last.at))} UTC")
            table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
            for column in ("sensor", "now", "lowest", "highest"):
                table.add_column(column, justify="left" if column == "sensor" else "right", no_wrap=True)
            for row in self._spans.rows(last):
                table.add_row(*map(Text, row))  # and no markup of a zone's name
            style = "red" if last.throttled_by or last.alarms else ""
            parts = [Text(""), table, Text(""), *(Text(remark, style=style) for remark in remarks(last))]
        if sample.error:
            parts.append(Text(f"! {sample.error}", style="red"))
        return Group(title, *parts, Text("q ends it", style="dim"))
