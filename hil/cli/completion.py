"""`hil completion`, and the words that a shell offers for Tab: light, because a person waits for them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script for completion in your shell: commands, options, boards, links, benches, runs, leases."""
    from click.shell_completion import get_completion_class

    from hil.cli.app import cli

    script = get_completion_class(shell)
    assert script is not None  # click has all three
    click.echo(script(cli, {}, "hil", "_HIL_COMPLETE").source())


Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _completer(words: Callable[[click.Context], Iterable[str]]) -> Completer:
    """Make of a function that lists names what click wants for ``shell_complete``."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
        return [word for word in dict.fromkeys(words(ctx)) if word.startswith(incomplete)]

    return complete


@_completer
def bench_names(ctx: click.Context) -> Iterable[str]:
    """List benches that are up."""
    return _up(None)


@_completer
def board_names(ctx: click.Context) -> Iterable[str]:
    """List boards of the bench that is meant, else of all that are up."""
    return _boards(ctx)


@_completer
def target_names(ctx: click.Context) -> Iterable[str]:
    """List boards, spacecraft, and the word for all of them."""
    return [*_boards(ctx), *_spacecraft(ctx), "all"]


def _spacecraft(ctx: click.Context) -> Iterable[str]:
    from hil.bench.state import read_state
    from hil.errors import HilError
    from hil.lab.model import load_lab

    for name in _up(_bench_of(ctx)):
        try:
            if state := read_state(name):
                yield from (craft.name for craft in load_lab(Path(state.lab_path)).spacecraft)
        except (HilError, OSError):
            continue  # its lab file was moved


def _boards(ctx: click.Context) -> Iterable[str]:
    from hil.bench.state import read_state

    for name in _up(_bench_of(ctx)):
        if state := read_state(name):
            yield from state.consoles


@_completer
def link_names(ctx: click.Context) -> Iterable[str]:
    """List links of the bench that is meant, else of all that are up, as the link box notes them."""
    from hil.bench.state import link_socket

    for name in _up(_bench_of(ctx)):
        try:
            document = json.loads(link_socket(name).with_suffix(".json").read_text(encoding="utf-8"))
            yield from [link["name"] for link in document["links"]]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it is going down now: nothing to complete


@_completer
def run_ids(ctx: click.Context) -> Iterable[str]:
    """List ``last`` and the runs, newest first."""
    from hil.core.paths import reports_out

    folder = reports_out() / "runs"
    return ["last", *sorted((run.name for run in folder.glob("[!.]*")), reverse=True)]


@_completer
def job_ids(ctx: click.Context) -> Iterable[str]:
    """List ``last`` and the campaigns that were started with --detach, newest first."""
    from hil.core.paths import reports_out

    folder = reports_out() / "jobs"
    return ["last", *sorted((job.name for job in folder.glob("[!.]*")), reverse=True)]


@_completer
def lease_names(ctx: click.Context) -> Iterable[str]:
    """List numbers of leases and the boards that they hold."""
    from hil.errors import HilError
    from hil.leases.leases import Leases, default_store

    try:
        store = ctx.params.get("store") or default_store()
        claims = Leases(store).list() if store.exists() else ()
    except HilError:  # the server of the store is away
        claims = ()
    return [*(str(claim.id) for claim in claims), *(b for claim in claims for b in sorted(claim.boards))]


@_completer
def mode_names(ctx: click.Context) -> Iterable[str]:
    """List power modes of the reference OS: a board is not asked, it may be slow."""
    from hil.core.paths import PACKAGE

    for conf in PACKAGE.glob("images/os/reference/rootfs/etc/nvpmodel.conf"):
        yield from re.findall(r"POWER_MODEL .*NAME=(\w+)", conf.read_text("utf-8"))


def spacecraft_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """List spacecraft of the lab file or of the bench that was named; after a comma the second one."""
    from hil.bench.state import read_state
    from hil.errors import HilError
    from hil.lab.model import load_lab

    bench = _bench_of(ctx)
    state = read_state(bench) if bench else None
    try:
        lab = load_lab(Path(ctx.params.get("lab_path") or (state.lab_path if state else "")))
    except (HilError, OSError):
        return []
    before, comma, begun = incomplete.rpartition(",")
    return [
        f"{before}{comma}{craft.name}"
        for craft in lab.spacecraft
        if craft.name.startswith(begun) and craft.name != before
    ]


def _bench_of(ctx: click.Context) -> str | None:
    return ctx.params.get("bench_name") or os.environ.get("HIL_BENCH")


def _up(name: str | None) -> list[str]:
    from hil.bench.state import is_up, known_benches

    return [each for each in ([name] if name else known_benches()) if is_up(each)]
