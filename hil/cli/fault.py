"""`hil fault`: list kinds of faults, inject them by hand, and heal what is left of them."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hil.cli.output import JSON_OPTION, duration_option, print_json, print_rows, say
from hil.cli.select_bench import BENCH, FORCE, attach, claim, on_bench

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.faults.fault import Injection


@click.group()
def fault() -> None:
    """List faults, inject and heal them. Other packages may bring more (entry points `hil.faults`)."""


@fault.command("list")
@BENCH
@JSON_OPTION
def list_faults(bench_name: str | None, as_json: bool) -> None:
    """List the kinds of fault with their parameters; with --bench also what each can hit there."""
    from hil.faults.fault import all_faults

    faults = all_faults()
    targets: dict[str, list[str]] = {}
    if bench_name is not None:
        with attach(bench_name) as bench:
            targets = {name: list(kind.targets(bench)) for name, kind in faults.items()}
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "description": kind.description,
                    "works_on": kind.works_on,
                    "parameters": [asdict(p) for p in kind.parameters],
                    **({"targets": targets[name]} if targets else {}),
                }
                for name, kind in faults.items()
            ]
        )
        return
    columns: dict[str, Any] = {
        "fault": str,
        "what it does": lambda name: faults[name].description,
        "works on": lambda name: faults[name].works_on,
        "parameters": lambda name: "; ".join(
            f"{p.name}={p.default:.12g} ({p.description}; {p.least:.12g} to {p.most:.12g})"
            for p in faults[name].parameters
        ),
    }
    if targets:
        columns["targets here"] = lambda name: ", ".join(targets[name]) or "none"
    print_rows(faults, columns, empty="no faults are installed", optional=["works on"])


@fault.command()
@click.argument("name")
@click.argument("target")
@on_bench
@duration_option("--for", "Heal it after this time (30s, 5m); else at Ctrl-C.")
@click.option("-p", "settings", multiple=True, metavar="NAME=NUMBER", help="A parameter; may be repeated.")
@click.option("--seed", type=int, default=0, help="Of the draw where TARGET is one, half or one_per_spacecraft.")
@FORCE
@JSON_OPTION
def inject(
    bench: Bench,
    force: bool,
    name: str,
    target: str,
    for_s: float | None,
    settings: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Inject a fault at TARGET, say what proves it, and heal it at the end of the command.

    TARGET is a name (a board, a link, a spacecraft), or one, half, gateway, one_per_spacecraft or all of what the
    fault can hit. An effect that is not confirmed is an error, and is healed at once.
    """
    from hil.faults.fault import injected

    claim(bench, bench.boards, f"{target}: {name}", force=force, verb="fault", about=target)
    with injected(name, bench, target, target_seed=seed, **dict(map(_setting, settings))) as injections:
        until = "Ctrl-C ends it" if for_s is None else f"for {for_s:g} s"
        for each in injections:
            say(f"{each.target}: {name}; {until}; {each.proof.outcome}: {each.proof.seen}")
        threading.Event().wait(for_s)
        at_the_end = [(each, each.prove()) for each in injections]
    if as_json:
        print_json([_document(each) for each, _ in at_the_end])
    say(f"{', '.join(each.target for each in injections)}: healed")


def _document(injection: Injection) -> dict[str, Any]:
    return {
        "fault": injection.name,
        "target": injection.target,
        "parameters": injection.values,
        "proof": injection.proof.outcome.value,
        "seen": injection.proof.seen,
    }


@fault.command()
@click.argument("name")
@click.argument("target")
@on_bench
@FORCE
@JSON_OPTION
def heal(bench: Bench, force: bool, name: str, target: str, as_json: bool) -> None:
    """Heal a fault at TARGET that another process left, such as one that was killed.

    TARGET is as for `hil fault inject`. What has no such fault stays as it is.
    """
    from random import Random

    from hil.faults.fault import checked, load_fault
    from hil.faults.targets import chosen

    kind = load_fault(name)
    claim(bench, bench.boards, f"{target}: {name}: healed", force=force, verb="heal", about=target)
    # A link that a fault holds down is no target of another one, but it can be healed.
    names = chosen(target, kind.targets(bench), bench.lab, Random(0))
    for each in names:
        values = {parameter.name: parameter.default for parameter in kind.parameters}
        if each in kind.targets(bench):
            values = checked(name, kind, bench, each, {})
        kind.heal(bench, each, values)
        say(f"{each}: healed")
    if as_json:
        print_json({"fault": name, "healed": names})


def _setting(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER, such as boot_s=120") from exc
