"""`hil bench`: a lab that stays up between commands."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from hil.cli.benches import default_name, pick
from hil.cli.output import JSON_OPTION, Progress, print_json, print_table


@click.group()
def bench() -> None:
    """Bring a lab up, see it, take it down.

    \b
    Examples:
      hil bench up --lab lab/virtual.yaml
      hil bench status
      pytest testplans/six_gpu --bench virtual     tests on the bench that is up
      hil bench down
    """


@bench.command()
@click.option("--lab", "lab_path", required=True, type=click.Path(path_type=Path), help="Lab file.")
@click.option("--name", help="Name of the bench: letters and digits (default: from the lab file's name).")
@click.option(
    "--epoch", metavar="TIME", help="Moment of the mission to start at, ISO 8601 UTC (labs with an orbit)."
)
def up(lab_path: Path, name: str | None, epoch: str | None) -> None:
    """Bring up the boards and links of a lab; they stay up until `hil bench down`.

    Ctrl-C while it comes up takes everything down again.
    """
    from hil.bench.bench import Bench

    fresh = Bench(lab_path, name=name or default_name(lab_path), epoch=epoch)
    with Progress() as progress:
        fresh.up(progress=progress.say, keep=True)
    try:
        seconds = sum(fresh.state.phases_s.values())
        engine = fresh.state.engine
        click.echo(
            f"bench {fresh.name} is up after {seconds:.1f} s: {len(fresh.boards)} boards, "
            f"{len(fresh.lab.links)} links shaped by {engine.get('kind')} ({engine.get('kernel_release')})"
        )
        memory_mb = sorted(size / 1e6 for size in fresh.memory_b().values())
        click.echo(
            f"memory per board: {memory_mb[len(memory_mb) // 2]:.0f} MB (median), all: {sum(memory_mb):.0f} MB"
        )
        click.echo("next: `hil board list`, `hil link show`, `hil bench down`")
    finally:
        fresh.close()


@bench.command()
@click.argument("name", required=False)
@JSON_OPTION
def status(name: str | None, as_json: bool) -> int:
    """What benches there are. Exit code 3 when one has failed or lost its keeper."""
    from hil.bench.state import is_live, known_benches, read_state

    found: list[dict[str, Any]] = []
    for each in [name] if name else known_benches():
        state = read_state(each)
        live = is_live(each)
        row: dict[str, Any] = asdict(state) if state else {"name": each, "status": "unknown"}
        if not live and row["status"] in ("starting", "up", "unknown"):
            row["status"] = "lost" if state else "not up"
        found.append({**row, "live": live})
    if as_json:
        print_json(found)
    else:
        print_table(
            ["bench", "status", "lab", "links by", "since (UTC)", "step"],
            [
                (
                    r["name"],
                    r["status"],
                    r.get("lab_path", ""),
                    (r.get("engine") or {}).get("kind", ""),
                    str(r.get("started_utc", "")).removesuffix("+00:00"),
                    r.get("step", ""),
                )
                for r in found
            ],
            empty="no bench is up; `hil bench up --lab lab/virtual.yaml` brings one up",
        )
        for row in found:
            if row["status"] == "lost":
                click.echo(f"bench {row['name']} lost its keeper: `hil clean` removes what it left", err=True)
            elif error := row.get("error"):
                click.echo(f"bench {row['name']}: {error.get('message')}", err=True)
    return 3 if any(r["status"] in ("lost", "failed") for r in found) else 0


@bench.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every bench that is up.")
def down(name: str | None, everything: bool) -> None:
    """Take a bench down: boards, links, namespaces, disks."""
    from hil.bench.bench import down as take_down
    from hil.bench.state import is_live, known_benches

    names = [n for n in known_benches() if is_live(n)] if everything else [pick(name)]
    for each in names:
        take_down(each)
        click.echo(f"bench {each} is down")
