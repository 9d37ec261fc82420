"""`hil bench`: a lab that stays up between commands."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.completion import bench_names
from hil.cli.output import (
    JSON_OPTION,
    Progress,
    duration_option,
    every_option,
    lab_option,
    plural,
    print_json,
    print_result,
    print_rows,
    say,
)
from hil.cli.select_bench import FORCE, attach, bench_argument, bench_option, claim, default_name, pick
from hil.core import paths
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.bench.journal import JournalEntry

SOONEST_S = 0.5


@click.group()
def bench() -> None:
    """Bring a lab up, watch it, take it down."""


@bench.command()
@lab_option("Lab file.", required=True)
@click.option(
    "--name",
    "--bench",
    "name",
    metavar="NAME",
    help="Name of the bench: lower case letters and digits (default: from the lab file's name).",
)
@click.option("--epoch", metavar="TIME", help="Mission time to start at, ISO 8601 UTC (labs with an orbit).")
@duration_option("--wait", "Queue so long for boards that another person has leased.")
@JSON_OPTION
def up(lab_path: Path, name: str | None, epoch: str | None, wait_s: float | None, as_json: bool) -> None:
    """Bring up the boards and links of a lab; they stay up until `hil bench down`.

    Ctrl-C while it comes up takes everything down again.
    """
    from hil.bench.bench import Bench

    fresh = Bench(lab_path, name=default_name(lab_path) if name is None else name, epoch=epoch, lease_wait_s=wait_s)
    if epoch:
        from hil.bench.orbit_clock import check_epoch

        check_epoch(epoch, fresh.lab)
    with Progress() as progress:
        fresh.up(progress=progress.say, keep=True)
    try:
        if as_json:
            print_json(asdict(fresh.state))
            return
        took_s = sum(fresh.state.phases_s.values())
        engine = fresh.state.engine
        click.echo(
            f"bench {fresh.name} is up after {took_s:.1f} s: {plural(len(fresh.boards), 'board')}, "
            f"{plural(len(fresh.lab.links), 'link')} shaped by {engine.get('kind')} ({engine.get('kernel_release')})"
        )
        if memory_mb := sorted(size / 1e6 for size in fresh.memory_b().values()):
            say(f"memory per board: {memory_mb[len(memory_mb) // 2]:.0f} MB (median), all: {sum(memory_mb):.0f} MB")
        say("next: `hil board list`, `hil link show`, `hil bench down`")
    finally:
        fresh.close()


@bench.command()
@click.argument("name", required=False, metavar="[BENCH]", shell_complete=bench_names)
@bench_option("Show only this bench.")
@JSON_OPTION
def status(name: str | None, bench_name: str | None, as_json: bool) -> int:
    """Show the benches of this host. Exit code 3 when one has failed or lost its keeper."""
    from hil.bench.state import is_live, known_benches, read_state

    name = name or bench_name
    known = known_benches()
    if name and name not in known:
        names = ", ".join(known) or "none; `hil bench up` makes one"
        raise ConfigurationError(f"there is no bench {name}", remedy=f"benches: {names}")
    rows: list[dict[str, Any]] = []
    for each in [name] if name else known:
        state, live = read_state(each), is_live(each)
        row: dict[str, Any] = asdict(state) if state else {"name": each, "status": "unknown"}
        if not live and row["status"] in ("starting", "up", "unknown"):
            row["status"] = "lost" if state else "not up"
        rows.append({**row, "live": live})
    if as_json:
        print_json(rows)
    else:
        print_rows(
            rows,
            {
                "bench": lambda r: r["name"],
                "status": lambda r: r["status"],
                "lab": lambda r: r.get("lab_path", ""),
                "links by": lambda r: (r.get("engine") or {}).get("kind", ""),
                "since (UTC)": lambda r: str(r.get("started_utc", "")).removesuffix("+00:00"),
                "step": lambda r: r.get("step", ""),
            },
            empty="no bench is up; `hil bench up --lab virtual` brings one up",
            optional=["since (UTC)", "links by", "lab", "step"],
        )
        for row in rows:
            if row["status"] == "lost":
                click.echo(f"bench {row['name']} lost its keeper: `hil clean` removes what it left", err=True)
            elif error := row.get("error"):
                click.echo(f"bench {row['name']}: {error.get('message')}", err=True)
    return 3 if any(r["status"] in ("lost", "failed") for r in rows) else 0


@bench.command()
@bench_argument
@click.option("--all", "everything", is_flag=True, help="Every bench that is up.")
@FORCE
@JSON_OPTION
def down(name: str | None, everything: bool, force: bool, as_json: bool) -> None:
    """Take a bench down: boards, links, namespaces, disks. Real boards are shut down and lose their power.

    Refused while a run uses it, and when another person brought it up. With --all such benches stay up.
    """
    from hil.bench.bench import down as take_down
    from hil.bench.ownership import may_take_down
    from hil.bench.state import is_live, known_benches
    from hil.errors import BenchError
    from hil.leases.leases import LeaseTaken

    names = [n for n in known_benches() if is_live(n)] if everything else [pick(name)]
    ended: list[str] = []
    refused: list[LeaseTaken] = []
    for each in names:
        try:
            may_take_down(each, force=force)
        except LeaseTaken as exc:
            refused.append(exc)
            continue
        take_down(each)
        ended.append(each)
        if not as_json:
            click.echo(f"bench {each} is down")
    if len(refused) == 1:
        raise refused[0]
    if refused:
        raise BenchError("; ".join(exc.message for exc in refused), remedy=refused[0].remedy)
    if as_json:
        print_json({"down": ended})
    elif not names:
        click.echo("no bench is up")


@bench.command()
@bench_argument
@FORCE
@JSON_OPTION
def reset(name: str | None, force: bool, as_json: bool) -> None:
    """Put a bench back as its lab file has it: links, power, slots; boards in containers fresh from the factory.

    A real board starts its factory slot again. Its other slot and its files stay: a campaign removes what it uploaded.
    """
    from hil.bench import reset as steps

    with attach(name) as bench, Progress() as progress:
        claim(bench, bench.boards, "as the lab file has it", force=force, verb="reset")
        found = steps.differences(bench)
        virtual = [name for name in bench.boards if steps.is_virtual(bench, name)]
        was_slots = {each.name: each.was for each in found if each.kind != "link"}
        steps.put_back(bench, [each for each in found if each.name not in virtual], progress.say)
        steps.renew(bench, {name: was_slots.get(name, "used") for name in virtual}, progress.say)
        steps.put_back(bench, steps.differences(bench), progress.say)
    was = [str(each) for each in found]
    said = "; ".join(was) or "nothing differed"
    text = (
        f"bench {bench.name} is as its lab file has it ({said}); {plural(len(virtual), 'board')} fresh from the factory"
    )
    print_result(as_json, {"bench": bench.name, "differed": was, "fresh": virtual}, text)


@bench.command()
@bench_argument
@click.option("-f", "--follow", is_flag=True, help="Go on with new entries until Ctrl-C.")
@click.option("-n", "count", type=click.IntRange(0, 100_000), default=50, show_default=True, help="Last entries.")
@JSON_OPTION
def log(name: str | None, follow: bool, count: int, as_json: bool) -> None:
    """Show the journal of a bench, each entry with its time and its person.

    Power, links, slots, files, leases, runs, up and down. The journal stays when the bench goes down. With --json
    each entry is one line.
    """
    from hil.bench.journal import Journal, journal_folder

    journals = sorted(path.name.partition(".")[0] for path in journal_folder().glob("*.jsonl"))
    name = name if name in journals else pick(name) if not name or follow else name
    if name not in journals and not follow:
        there = ", ".join(journals) or "none yet"
        raise ConfigurationError(f"bench {name} has no journal", remedy=f"benches with a journal: {there}")
    journal = Journal(name)

    def show(entry: JournalEntry) -> None:
        click.echo(json.dumps(asdict(entry)) if as_json else f"{entry.clock_time}  {entry}")

    for entry in journal.entries(last=count):
        show(entry)
    with suppress(KeyboardInterrupt):
        for each in journal.follow() if follow else ():
            if each is None:
                time.sleep(0.2)
            else:
                show(each)


@bench.command()
@bench_argument
@every_option("1s", least_s=SOONEST_S)
@click.option("--once", is_flag=True, help="Print one frame and end.")
@JSON_OPTION
def watch(name: str | None, every_s: float, once: bool, as_json: bool) -> None:
    """Watch a bench live: boards, links, leases, the campaign's step; q or Ctrl-C ends it.

    Boards' sensors are read every 5 s, so that watching costs them little.
    """
    from hil.cli.bench import watch as bench_watch

    name = pick(name)
    if once or as_json:
        bench_watch.once(name, as_json=as_json)
    else:
        bench_watch.live(name, every_s=every_s)


@bench.command()
@bench_argument
@click.option("--listen", default="127.0.0.1:9435", show_default=True, metavar="HOST:PORT", help="Port 0: a free one.")
@every_option("5s", least_s=SOONEST_S)
@click.option("--probe", is_flag=True, help="Also time five small packets over every link that is up.")
@click.option(
    "--runs", is_flag=True, help="Also the figures of runs, series of trials and nights of the reports folder."
)
@JSON_OPTION
def export(name: str | None, listen: str, every_s: float, probe: bool, runs: bool, as_json: bool) -> None:
    """Serve the bench's figures to Prometheus until Ctrl-C or SIGTERM (exit code 0); print the URL.

    A bench that goes down and comes up again is followed; a bench that is named need not be up yet.
    docs/monitoring.md lists all figures.
    """
    from hil.cli.app import Terminated
    from hil.monitor.exporter import BenchCollector, host_and_port, is_loopback, serving
    from hil.monitor.run_metrics import ReportsCollector
    from hil.monitor.watch_loop import BenchFollower, Sampler

    host, port = host_and_port(listen)
    name = pick(name)
    try:
        with (
            BenchFollower(name, probe=probe) as follower,
            Sampler(follower.health, every_s=every_s) as sampler,
            serving(
                BenchCollector(name, sampler.fresh),
                *([ReportsCollector(paths.reports_out().absolute())] if runs else []),
                host=host,
                port=port,
            ) as port,
        ):
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
            print_result(as_json, {"bench": name, "url": url}, f"bench {name}: {url}")
            if not is_loopback(host):
                click.echo(f"everybody who can reach {host} can read it: it has no password", err=True)
            shown = ""
            while True:
                time.sleep(1.0)
                if sampler.error not in ("", shown):  # once, not every few seconds
                    click.echo(f"bench {name}: {sampler.error}", err=True)
                shown = sampler.error
    except (KeyboardInterrupt, Terminated):
        return
