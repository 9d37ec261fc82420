"""`hil fault`: list kinds of faults and inject them by hand."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from hil.cli.output import JSON_OPTION, duration_option, print_json, print_rows, say
from hil.cli.select_bench import FORCE, claim, on_bench

if TYPE_CHECKING:
    from hil.bench.bench import Bench


@click.group()
def fault() -> None:
    """List faults and inject them. Other packages may bring more (entry points `hil.faults`)."""


@fault.command("list")
@JSON_OPTION
def list_faults(as_json: bool) -> None:
    """List the kinds of fault with their parameters."""
    from hil.faults.fault import all_faults

    faults = all_faults()
    if as_json:
        print_json(
            [
                {"name": n, "description": k.description, "parameters": [asdict(p) for p in k.parameters]}
                for n, k in faults.items()
            ]
        )
        return
    print_rows(
        faults,
        {
            "fault": str,
            "what it does": lambda name: faults[name].description,
            "parameters": lambda name: "; ".join(
                f"{p.name}={p.default:.12g} ({p.description}; {p.least:.12g} to {p.most:.12g})"
                for p in faults[name].parameters
            ),
        },
        empty="no faults are installed",
    )


@fault.command()
@click.argument("name")
@click.argument("target")
@on_bench
@duration_option("--for", "Heal it after this time (30s, 5m); else at Ctrl-C.")
@click.option("-p", "settings", multiple=True, metavar="NAME=NUMBER", help="A parameter; may be repeated.")
@FORCE
def inject(bench: Bench, force: bool, name: str, target: str, for_s: float | None, settings: tuple[str, ...]) -> None:
    """Inject a fault at TARGET (a board, a link, a spacecraft) and heal it at the end of the command."""
    from hil.faults.fault import injected

    claim(bench, bench.boards, f"{target}: {name}", force=force, verb="fault", about=target)
    with injected(name, bench, target, **dict(map(_setting, settings))):
        until = "Ctrl-C ends it" if for_s is None else f"for {for_s:g} s"
        say(f"{target}: {name}; {until}")
        threading.Event().wait(for_s)
    say(f"{target}: healed")


def _setting(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER, such as boot_s=120") from exc
