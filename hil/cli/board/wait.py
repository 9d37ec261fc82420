"""`hil board wait`: until a board is as a person or a script wants it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from hil.cli.board.targets import Targets, Tell, on_boards
from hil.cli.output import JSON_OPTION, duration_option, say
from hil.core.wait import poll_until
from hil.errors import BenchError, ConfigurationError, DeviceError, HilError

if TYPE_CHECKING:
    from hil.boards.protocol import Board
    from hil.images.flight_pki import Operator

_LOOK_S = 0.5


def _power(board: Board, operator: Operator | None) -> str:
    return str(board.supervisor.state())


def _ssh(board: Board, operator: Operator | None) -> str:
    with board.shell() as shell:
        shell.run(["true"])
    return "ssh"


def _serving(board: Board, operator: Operator | None) -> str:
    from hil.monitor.board_watch import node_health

    health = node_health(board, operator)
    if health.claim.serving:
        return "serving"
    return "; ".join(health.problems) or "it does not serve"


LOOKS: dict[str, Callable[[Board, Operator | None], str]] = {
    "on": _power,
    "off": _power,
    "ssh": _ssh,
    "serving": _serving,
    "slot": lambda board, operator: f"slot={board.identity().slot}",
    "os": lambda board, operator: f"os={board.identity().os_version}",
}
"""What can be waited for, without its value, and what tells how it is now (it is so when both are equal), given the
bench's operator."""
WRITTEN = "on, off, ssh, serving, slot=A, slot=B or os=VERSION"


class Wanted(click.ParamType[str]):
    """One of the states that can be waited for."""

    name = "state"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        kind, equals, what = text.partition("=")
        valued = kind in ("slot", "os")
        if (
            kind not in LOOKS
            or valued != bool(what)
            or (equals and not valued)
            or (kind == "slot" and what not in "AB")
        ):
            self.fail(f"{text!r} cannot be waited for: write {WRITTEN}", param, ctx)
        return text


@click.command()
@on_boards
@click.option(
    "--for",
    "wanted",
    type=Wanted(),
    multiple=True,
    required=True,
    metavar="STATE",
    shell_complete=lambda _ctx, _param, begun: [
        word for word in ("on", "off", "ssh", "serving", "slot=A", "slot=B", "os=") if word.startswith(begun)
    ],
    help=f"{WRITTEN}; several times: all of them at once.",
)
@duration_option("--timeout", "Give up after so long.", default="2m")
@JSON_OPTION
def wait(targets: Targets, wanted: tuple[str, ...], timeout_s: float, as_json: bool) -> int:
    """Wait until boards are on or off, answer over SSH, serve, or run a slot or an OS version.

    Exit code 1 (of power: 3) when it is not so in time; the message says how it is.
    """
    if {"on", "off"} <= {*wanted}:
        raise ConfigurationError("a board is not on and off at the same time", remedy="wait for one after the other")

    def until(board: Board, tell: Tell) -> dict[str, Any]:
        waited_s = _until(board, targets.bench.operator, wanted, timeout_s)
        tell(f"{board.name}: {', '.join(wanted)} (waited {waited_s:.1f} s)")
        return {"name": board.name, "is": [*wanted], "waited_s": round(waited_s, 1)}

    return targets.do(until, as_json=as_json)


def _until(board: Board, operator: Operator | None, wanted: tuple[str, ...], timeout_s: float) -> float:
    """Wait until all of it is so; return the seconds. BenchError (of power) or DeviceError when it is not in time."""
    now: list[str] = []
    begin = time.monotonic()
    for _ in poll_until(timeout_s, every_s=_LOOK_S):
        if now != (now := [_now(board, operator, each) for each in wanted]) and now != [*wanted]:
            say(f"  {board.name}: {'; '.join(now)}")
        if now == [*wanted]:
            return time.monotonic() - begin
    power_only = all(LOOKS[each.partition("=")[0]] is _power for each in wanted)
    raise (BenchError if power_only else DeviceError)(
        f"{board.name}: waited {timeout_s:g} s for {', '.join(wanted)}; it is now: {'; '.join(now)}",
        remedy=f"`hil board logs {board.name}` shows what it says",
    )


def _now(board: Board, operator: Operator | None, wanted: str) -> str:
    """Return the same words when it is so, else how it is."""
    try:
        return LOOKS[wanted.partition("=")[0]](board, operator)
    except (HilError, OSError, EOFError) as exc:
        return str(exc).splitlines()[0]
