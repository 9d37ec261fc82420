"""`hil board`: the boards of a bench that is up. What each is, here; what is done to it, in ``board_*.py``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hil.cli.board.access import console, run, shell
from hil.cli.board.files import pull, push
from hil.cli.board.flash import flash
from hil.cli.board.mode import mode
from hil.cli.board.power import power, reset
from hil.cli.board.qualify import qualify
from hil.cli.board.recovery import recovery
from hil.cli.board.watch import watch
from hil.cli.completion import board_names
from hil.cli.output import JSON_OPTION, print_json, print_table
from hil.cli.select_bench import attach, bench_option, board_of
from hil.errors import HilError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hil.boards.protocol import Board, BootState, Slot, Via


@click.group()
def board() -> None:
    """The boards of a bench that is up.

    \b
    Examples:
      hil board list
      hil board show a1
      hil board console a1                   Ctrl-] ends it
      hil board shell a1
      hil board run all -- uptime
      hil board watch a1
      hil board power a1 cut
      hil board push a1 os.raucb /data/os.raucb
      hil board mode a1 50W --reboot
      hil board recovery b1
      hil board flash b1 --tree ~/Linux_for_Tegra --ab --size 8GiB
      hil board qualify b1 --by "A. Technician"
    """


@board.command("list")
@bench_option
@JSON_OPTION
def list_boards(bench_name: str | None, as_json: bool) -> None:
    """Boards with power, slots and addresses.

    \b
    Examples:
      hil board list
      hil board list --json
    """
    from concurrent.futures import ThreadPoolExecutor

    with attach(bench_name) as bench, ThreadPoolExecutor(len(bench.boards)) as pool:
        rows = list(pool.map(_row, bench.boards.values()))
    if as_json:
        print_json(rows)
        return
    print_table(
        [
            "board",
            "spacecraft",
            "fidelity",
            "power",
            "runs slot",
            "starts next",
            "confirmed",
            "management",
            "flight",
        ],
        [
            (
                r["name"],
                r["spacecraft"],
                r["fidelity"],
                r["power"] or "?",
                r["running"] or "-",
                r["active"] or "-",
                ", ".join(r["good"]) or "-",
                r["addresses"]["management"] or "-",
                r["addresses"]["flight"] or "-",
            )
            for r in rows
        ],
    )
    for problem in (problem for r in rows for problem in r["problems"]):
        click.echo(f"note: {problem}", err=True)


def _row(one: Board) -> dict[str, Any]:
    from hil.boards.protocol import Via

    problems = []
    power = state = None
    try:
        power = str(one.supervisor.state())
    except HilError as exc:
        problems.append(exc.message)
    try:
        state = one.boot.state()
    except HilError as exc:
        if power != "off":  # then a board that tells its slots only while it runs says nothing new
            problems.append(exc.message)
    return {
        "name": one.name,
        "spacecraft": one.spacecraft,
        "fidelity": str(one.fidelity),
        "power": power,
        "running": state.running if state else None,
        "active": state.active if state else None,
        "good": [s.slot for s in state.slots if s.good] if state else [],
        "retries": {s.slot: s.retries for s in state.slots} if state else {},
        "slots": _slots(state) if state else [],
        "addresses": {str(via): _address(one, via) for via in Via},
        "problems": problems,
    }


def _address(one: Board, via: Via) -> str | None:
    """None: no way of that kind leads to it."""
    try:
        return one.address(via)[1]
    except HilError:
        return None


@board.command()
@click.argument("name", shell_complete=board_names)
@bench_option
@JSON_OPTION
def show(name: str, bench_name: str | None, as_json: bool) -> None:
    """Everything about one board: what it is, what it runs, how to reach it, how it feels.

    \b
    Examples:
      hil board show a1
      hil board show b1 --json
    """
    from hil.boards.qualification import Detailed
    from hil.boards.wiring import wiring_of

    with attach(bench_name) as bench:
        one = board_of(bench, name)
        spec = next(b for b in bench.lab.boards if b.name == name)
        found = _row(one)
        found |= {
            "bench": bench.name,
            "module": spec.module,
            "driver": spec.driver,
            "stand_in": spec.stand_in is not None,
            "wiring": wiring_of(spec),
            "identity": None,
            "last_reset": None,
            "sensors": None,
            "console": {"url": one.console.url, "log": str(one.console.log)},
        }
        if found["power"] != "off":
            questions: list[tuple[str, Callable[[], Any]]] = [
                ("identity", lambda: asdict(one.identity())),
                ("sensors", one.sensors),
            ]
            if isinstance(one, Detailed):
                questions.append(("last_reset", lambda: one.inspect().proof.why))
            for key, question in questions:
                try:
                    found[key] = question()
                except HilError as exc:
                    if exc.message not in found["problems"]:
                        found["problems"].append(exc.message)
    if as_json:
        print_json(found)
        return
    _print_board(found)


def _print_board(found: dict[str, Any]) -> None:
    from hil.cli.board.watch import page_rows

    who = found["identity"] or {}
    driver = f"{found['driver']}, stand-in" if found["stand_in"] else found["driver"]
    lines = {
        "board": f"{found['name']} on {found['spacecraft']}, bench {found['bench']}",
        "module": f"{found['module']}  {who.get('model', '')}".rstrip(),
        "serial": who.get("serial"),
        "driver": f"{driver}; results are of class {found['fidelity']}",
        "power": found["power"] or "?",
        "OS": f"{who['os_version']} from slot {who['slot']}" if who else None,
        "image": who.get("image_sha256"),
        "boot": who.get("boot_id"),
        "last reset": found["last_reset"],
        **{f"{via} address": address for via, address in found["addresses"].items()},
        "console": found["console"]["url"],
        "console log": found["console"]["log"],
        **{f"{title} cable": text for title, text in found["wiring"].items()},
    }
    width = max(map(len, lines))
    for title, text in lines.items():
        click.echo(f"{title:<{width}}  {text or '-'}")
    if found["slots"]:
        click.echo()
        _print_slots(found["slots"])
    if found["sensors"]:
        click.echo()
        print_table(["sensor", "now"], page_rows(found["sensors"]))
    for problem in found["problems"]:
        click.echo(f"note: {problem}", err=True)


@board.command()
@click.argument("name", shell_complete=board_names)
@bench_option
@click.option(
    "--next",
    "following",
    type=click.Choice(["A", "B"]),
    help="Start this slot at the next boot; reboots nothing.",
)
@JSON_OPTION
def slots(name: str, bench_name: str | None, following: Slot | None, as_json: bool) -> None:
    """The two slots of a board as its firmware sees them, and which one starts next.

    \b
    Examples:
      hil board slots a1
      hil board slots a1 --next B            then `hil board reset a1` starts B
    """
    with attach(bench_name) as bench:
        one = board_of(bench, name)
        if following:
            one.boot.set_active(following)
        state = one.boot.state()
    rows = _slots(state)
    if as_json:
        print_json({"name": name, "running": state.running, "active": state.active, "slots": rows})
    else:
        _print_slots(rows)


def _slots(state: BootState) -> list[dict[str, Any]]:
    return [
        {
            "slot": slot.slot,
            "running": slot.slot == state.running,
            "next": slot.slot == state.active,
            "bootable": slot.bootable,
            "retries": slot.retries,
            "confirmed": slot.good,
        }
        for slot in state.slots
    ]


def _print_slots(rows: list[dict[str, Any]]) -> None:
    def yes(value: bool) -> str:
        return "yes" if value else "-"

    print_table(
        ["slot", "runs", "starts next", "bootable", "tries left", "confirmed"],
        [
            (
                r["slot"],
                yes(r["running"]),
                yes(r["next"]),
                "yes" if r["bootable"] else "NO",
                r["retries"],
                yes(r["confirmed"]),
            )
            for r in rows
        ],
    )


for command in (console, flash, mode, power, pull, push, qualify, recovery, reset, run, shell, watch):
    board.add_command(command)
