"""`hil board`: the boards of a bench that is up, listed and shown; other commands have files of their own."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hil.cli.board.access import console, run, shell
from hil.cli.board.cuts import cuts
from hil.cli.board.files import cp, pull, push
from hil.cli.board.flash import flash, recovery
from hil.cli.board.logs import logs
from hil.cli.board.mark import mark
from hil.cli.board.power import mode, power, reset
from hil.cli.board.qualify import qualify
from hil.cli.board.targets import Targets, Tell, on_boards
from hil.cli.board.wait import wait
from hil.cli.board.watch import watch
from hil.cli.output import JSON_OPTION, note, print_json, print_rows, print_table
from hil.cli.select_bench import board_argument, board_of, on_bench
from hil.database.connection import ServerAway
from hil.errors import HilError
from hil.text import clean

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.protocol import Board, Slot
    from hil.monitor.bench_health import BoardHealth
    from hil.monitor.board_watch import BoardQuestions


@click.group()
def board() -> None:
    """List, watch, power, flash and log in to boards of a bench that is up."""


@board.command("list")
@on_bench
@JSON_OPTION
def list_boards(bench: Bench, as_json: bool) -> None:
    """List boards with power, slots and addresses."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(bench.boards)) as pool:
        rows = list(pool.map(lambda one: _document(one, _power_and_slots(one).health), bench.boards.values()))
    for row in rows:
        tenant = bench.lab.tenant_of(row["name"])
        row["tenant"] = tenant.name if tenant else None
    if as_json:
        print_json(rows)
        return
    print_rows(
        rows,
        {
            "board": lambda r: r["name"],
            "spacecraft": lambda r: r["spacecraft"],
            **({"tenant": lambda r: r["tenant"] or "-"} if bench.lab.tenants else {}),
            "fidelity": lambda r: r["fidelity"],
            "power": lambda r: r["power"] or "?",
            "runs slot": lambda r: r["running"] or "-",
            "starts next": lambda r: r["active"] or "-",
            "confirmed": lambda r: ", ".join(r["good"]) or "-",
            "management": lambda r: r["addresses"]["management"] or "-",
            "flight": lambda r: r["addresses"]["flight"] or "-",
        },
        optional=["fidelity", "confirmed", "starts next", "spacecraft", "runs slot"],
    )
    try:
        marks = _marks(bench)
    except ServerAway as exc:  # what the boards say is worth reading without it
        marks = {}
        note(f"marks of boards are not known: {exc.message}")
    for row in rows:
        for problem in row["problems"]:
            note(f"{row['name']}: {problem}")
        for text in marks.get(row["name"], ()):
            note(f"{row['name']}: {text}")


def _marks(bench: Bench) -> dict[str, list[str]]:
    """Return what is marked of the boards of a bench; nothing where there is no store of leases."""
    from hil.bench.state import lease_keys
    from hil.leases.leases import Leases, default_store

    if not default_store().exists():
        return {}
    marks = Leases().marks.all()
    keys = lease_keys(bench.lab, bench.lab.lease_scope)
    found = {board.name: marks.get(key) for board, key in zip(bench.lab.boards, keys, strict=True)}
    return {
        name: [
            *([f"out of service: {one.out_of_service}"] if one.out_of_service else []),
            *([one.note] if one.note else []),
        ]
        for name, one in found.items()
        if one
    }


def _power_and_slots(one: Board) -> BoardQuestions:
    from hil.monitor.board_watch import BoardQuestions

    questions = BoardQuestions(one)
    questions.ask_power()
    questions.ask_slots()
    return questions


def _document(one: Board, health: BoardHealth) -> dict[str, Any]:
    """Return a board's row for JSON."""
    from hil.boards.protocol import Via

    addresses: dict[str, str | None] = {}
    for via in Via:
        try:
            addresses[via] = one.address(via)[1]
        except HilError:  # no path of that kind leads to it
            addresses[via] = None
    slots = health.slots
    return {
        **{key: getattr(health, key) for key in ("name", "spacecraft", "fidelity", "power")},
        "running": next((name for name, slot in slots.items() if slot.running), None),
        "active": next((name for name, slot in slots.items() if slot.next), None),
        "good": [name for name, slot in slots.items() if slot.confirmed],
        "retries": {name: slot.retries for name, slot in slots.items()},
        "slots": [{"slot": name, **asdict(slot)} for name, slot in slots.items()],
        "addresses": addresses,
        "problems": list(health.problems),
    }


@board.command()
@board_argument
@on_bench
@JSON_OPTION
def show(bench: Bench, name: str, as_json: bool) -> None:
    """Show everything about one board: module, OS, addresses, cables, sensors."""
    from hil.boards.capabilities import Inspectable
    from hil.boards.wiring import wiring_of

    one = board_of(bench, name)
    spec = next(b for b in bench.lab.boards if b.name == name)
    questions = _power_and_slots(one)
    identity = last_reset = sensors = None
    if questions.health.power != "off":
        identity = questions.ask("the OS", one.identity)
        sensors = questions.ask("the sensors", one.sensors)
        if isinstance(one, Inspectable):
            last_reset = questions.ask("the reset reason", lambda: one.inspect().proof.why)
    document = _document(one, questions.health) | {
        "bench": bench.name,
        "module": spec.module,
        "driver": spec.driver,
        "stand_in": spec.stand_in is not None,
        "wiring": wiring_of(spec),
        "identity": asdict(identity) if identity else None,
        "last_reset": last_reset,
        "off_since": _off_since(bench, name) if questions.health.power == "off" else None,
        "sensors": sensors,
        "console": {"url": one.console.url, "log": str(one.console.log)},
    }
    if as_json:
        print_json(document)
    else:
        _print_board(document)


def _off_since(bench: Bench, name: str) -> str | None:
    entry = bench.journal.power_off(name)
    return f"since {entry.clock_time}, switched off by {entry.who} ({entry.program})" if entry else None


def _print_board(document: dict[str, Any]) -> None:
    from hil.cli.board.watch import page_rows

    identity = document["identity"] or {}
    driver = f"{document['driver']}, stand-in" if document["stand_in"] else document["driver"]
    lines = {
        "board": f"{document['name']} on {document['spacecraft']}, bench {document['bench']}",
        "module": f"{document['module']}  {identity.get('model', '')}".rstrip(),
        "serial": identity.get("serial"),
        "driver": f"{driver}; results are of class {document['fidelity']}",
        "power": " ".join(filter(None, (document["power"] or "?", document["off_since"]))),
        "OS": f"{identity['os_version']} from slot {identity['slot']}" if identity else None,
        "image": identity.get("image_sha256"),
        "boot": identity.get("boot_id"),
        "last reset": document["last_reset"],
        **{f"{via} address": address for via, address in document["addresses"].items()},
        "console": document["console"]["url"],
        "console log": document["console"]["log"],
        **{f"{title} cable": text for title, text in document["wiring"].items()},
    }
    width = max(map(len, lines))
    for title, text in lines.items():
        click.echo(clean(f"{title:<{width}}  {text or '-'}"))
    if document["slots"]:
        click.echo()
        _print_slots(document["slots"])
    if document["sensors"]:
        click.echo()
        print_table(["sensor", "now"], page_rows(document["sensors"]))
    for problem in document["problems"]:
        note(problem)


@board.command()
@on_boards
@click.option(
    "--next", "following", type=click.Choice(["A", "B"]), help="Start this slot at the next boot; no reboot now."
)
@JSON_OPTION
def slots(targets: Targets, following: Slot | None, as_json: bool) -> int:
    """Show the two slots of a board as its firmware sees them, or choose the one that starts next."""
    from hil.monitor.board_watch import slots_of

    if following:
        targets.claim("slots", f"start slot {following} next")

    def look(board: Board, tell: Tell) -> dict[str, Any]:
        if following:
            board.boot.set_active(following)
        state = board.boot.state()
        rows = [{"slot": name, **asdict(slot)} for name, slot in slots_of(state).items()]
        if targets.alone and not as_json:
            _print_slots(rows)
        else:
            good = ", ".join(row["slot"] for row in rows if row["confirmed"]) or "none"
            tell(f"{board.name}: runs {state.running or '-'}, starts {state.active} next, confirmed: {good}")
        return {"name": board.name, "running": state.running, "active": state.active, "slots": rows}

    return targets.do(look, as_json=as_json)


def _print_slots(rows: list[dict[str, Any]]) -> None:
    print_rows(
        rows,
        {
            "slot": lambda r: r["slot"],
            "runs": lambda r: "yes" if r["running"] else "-",
            "starts next": lambda r: "yes" if r["next"] else "-",
            "bootable": lambda r: "yes" if r["bootable"] else "NO",
            "tries left": lambda r: r["retries"],
            "confirmed": lambda r: "yes" if r["confirmed"] else "-",
        },
    )


for command in (
    *(console, cp, cuts, flash, logs, mark, mode, power, pull, push),
    *(qualify, recovery, reset, run, shell, wait, watch),
):
    board.add_command(command)
