"""``make bench``: what the testbed costs and how it compares, measured in one run, as JSON.

    python -m tests.benchmarks [NAME ...] [--out reports/out/bench.json] [--lab lab/virtual.yaml]

Names: cli, start, power, rollout, parallel, constellation, orbit, schedule, wire, leases, shared_leases, inference,
nights, site, pages, twin, busy.  Without names all of them run (about a quarter of an hour: ``parallel`` alone takes
1,000 rounds of at least 0.2 s, ``wire`` four minutes).
Exits with 1 when a figure is outside its limit.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hil.bench.bench import Bench
from hil.core import paths
from tests.benchmarks.busy_boards import busy_boards
from tests.benchmarks.constellation import constellation
from tests.benchmarks.cpu import cli_help_ms, plugin_cost_ms
from tests.benchmarks.figures import Figure, write
from tests.benchmarks.flight import attack, flight
from tests.benchmarks.inference import inference
from tests.benchmarks.leases import contention
from tests.benchmarks.nights import nights
from tests.benchmarks.orbit import orbit
from tests.benchmarks.pages import pages
from tests.benchmarks.schedule import schedule
from tests.benchmarks.shared_leases import shared_leases
from tests.benchmarks.site import site
from tests.benchmarks.twin import twin
from tests.benchmarks.wire import wire

ROUNDS = 1000
VERB_S = 0.2


def start(lab: Path) -> Iterator[Figure]:
    """Bring-up of boards and links from warm images: median of three."""
    took = []
    for _ in range(3):
        begin = time.monotonic()
        with Bench(lab):
            took.append(time.monotonic() - begin)
    yield Figure("bench bring-up", round(statistics.median(took), 2), "s", "<= 6", "issue limit; median of 3")


def power(lab: Path) -> Iterator[Figure]:
    """From the power cut of a running board to its OS answering over SSH again: median of five."""
    took = []
    with Bench(lab) as bench:
        board = bench.gateway
        for _ in range(5):
            before = board.identity().boot_id
            begin = time.monotonic()
            board.supervisor.reset()
            after = board.wait_booted(deadline_s=20)
            took.append(time.monotonic() - begin)
            assert after.boot_id != before
    yield Figure("power cut to booted", round(statistics.median(took), 2), "s", "<= 2", "issue limit; median of 5")


def rollout(lab: Path) -> Iterator[Figure]:
    """First byte uploaded to six confirmed boards, against the ideal and against scp to one board after another."""
    from hil.rollout.fleet import Fleet
    from hil.rollout.rollout import Rollout
    from tests.benchmarks.scp import scp_to_all

    with Bench(lab) as bench:
        fleet = Fleet.of(bench.boards, bench.lab.gateway, operator=bench.operator)
        bundle = bench.images.bundles.os_v2
        begin = time.monotonic()
        copied = scp_to_all(fleet, bundle.path)
        scp_s = time.monotonic() - begin
        for board in bench.boards.values():
            with board.shell() as shell:
                shell.run(["rm", "-f", copied])
        boot_s = _one_boot(bench)
        begin = time.monotonic()
        Rollout(fleet, bundle).run()
        rollout_s = time.monotonic() - begin
        rates = {link.kind: link.rate_bps for link in bench.lab.links}
        bits = bundle.size_bytes * 8
        ideal_s = bits / rates["ground"] + bits / rates["crosslink"] + boot_s
    yield Figure("bundle size", round(bundle.size_bytes / 1e6, 1), "MB", "", "")
    yield Figure("one boot", round(boot_s, 2), "s", "", "part of the ideal; measured on the gateway")
    yield Figure("rollout", round(rollout_s, 2), "s", "", "first byte uploaded to six confirmed boards")
    yield Figure("ideal", round(ideal_s, 2), "s", "", "bundle / ground rate + bundle / crosslink rate + one boot")
    yield Figure("rollout / ideal", round(rollout_s / ideal_s, 2), "", "<= 1.5", "ideal, same run")
    yield Figure("scp to six boards", round(scp_s, 2), "s", "", "copying only, one board after another")
    yield Figure("scp / rollout", round(scp_s / rollout_s, 2), "", ">= 3", "scp, same links, same run")


def _one_boot(bench: Bench) -> float:
    begin = time.monotonic()
    bench.gateway.supervisor.reset()
    bench.gateway.wait_booted(deadline_s=20)
    return time.monotonic() - begin


def parallel(lab: Path) -> Iterator[Figure]:
    """A verb of 0.2 s on all boards at once, from threads, again and again."""
    took: list[float] = []
    with Bench(lab) as bench, ThreadPoolExecutor(len(bench.boards)) as pool:
        shells = [board.shell() for board in bench.boards.values()]
        for _ in range(ROUNDS):
            begin = time.monotonic()
            list(pool.map(lambda shell: shell.run(["sleep", str(VERB_S)]), shells))
            took.append(time.monotonic() - begin)
        for shell in shells:
            shell.close()
    took.sort()
    yield Figure("parallel round, mean", round(statistics.mean(took), 3), "s", "<= 0.3", f"{VERB_S} s verb")
    yield Figure("parallel round, p99", round(took[int(len(took) * 0.99)], 3), "s", "", f"{ROUNDS} rounds")
    yield Figure("parallel round, worst", round(took[-1], 3), "s", "", f"{ROUNDS} rounds")


def cli(lab: Path) -> Iterator[Figure]:
    """CPU time of ``hil --help``, and what the plugin adds to a pytest run that does not use it."""
    yield Figure("hil --help", round(cli_help_ms(), 1), "ms CPU", "<= 150", "median of 11")
    yield Figure(
        "plugin in a foreign pytest run",
        round(plugin_cost_ms(), 1),
        "ms CPU",
        "<= 30",
        "median of 11, same run with -p no:hil",
    )


def leases(lab: Path) -> Iterator[Figure]:
    """Two hundred processes contend for six boards for a minute, with kill -9 at random."""
    yield from contention(200, 60.0, 1)[1]


def infer(lab: Path) -> Iterator[Figure]:
    """The payload's network on every execution provider of this machine."""
    from hil.workload.artefacts import ensure_artefacts

    built = ensure_artefacts()
    yield from inference(built.model.path, built.scene.path)


BENCHMARKS: dict[str, Callable[[Path], Iterator[Figure]]] = {
    "cli": cli,
    "start": start,
    "power": power,
    "rollout": rollout,
    "parallel": parallel,
    "constellation": constellation,
    "orbit": orbit,
    "schedule": schedule,
    "wire": wire,
    "leases": leases,
    "shared_leases": shared_leases,
    "inference": infer,
    "nights": nights,
    "site": site,
    "pages": pages,
    "twin": twin,
    "busy": busy_boards,
    "flight": flight,
    "attack": attack,
}


def main() -> int:
    """Run the benchmarks named on the command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(BENCHMARKS)}; none means all")
    parser.add_argument("--out", type=Path, default=paths.reports_out() / "bench.json")
    parser.add_argument("--lab", type=Path, default=paths.ROOT / "lab/virtual.yaml")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    console = Console()
    figures: list[Figure] = []
    for name in args.names or BENCHMARKS:
        with console.status(f"{name}: {(BENCHMARKS[name].__doc__ or '').splitlines()[0]}"):
            figures += BENCHMARKS[name](args.lab)
        write(figures, args.out)  # after each, so that an interrupted run keeps what it has
    table = Table("figure", "value", "limit", "", "compared with")
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.value:g} {figure.unit}",
            figure.limit,
            "" if not figure.limit else "ok" if figure.ok else "OUTSIDE",
            figure.compared_with,
        )
    console.print(table)
    console.print(f"written to {args.out}")
    return 0 if all(figure.ok for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
