"""Two hosts share six boards through PostgreSQL; their processes are killed, the server is restarted and crashes.

    python -m tests.benchmarks.shared_leases [--processes 40] [--seconds 60] [--seed 1] [--out FILE]

Each host is a set of namespaces of its own (network, processes, name, time) with another boot id; the monotonic clock
of the second is a day ahead.  The server is Debian's, on a socket in a folder.  At a third of the time it is restarted,
at two thirds it is ended as by a crash.  The judges are those of ``tests/benchmarks/leases.py``: locks on files, and
the holders' own logs, of both hosts together.  Needs root.  Exit code 1 when a figure is outside its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hil.core import paths
from hil.core.wait import wait_until
from hil.database.connection import STORE_ENV, Server, shared
from hil.leases.leases import Leases
from tests.benchmarks.figures import Figure, write
from tests.benchmarks.leases import BOARDS, SERVED_WITHIN_S, Crowd, Judged, judge
from tests.kits.postgres import postgres

HOSTS = (1, 2)
DAY_S = 86_400
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def be_host(number: int, here: Path, processes: int, seconds: float, seed: int) -> None:
    """Be one host, in namespaces of its own: let its processes contend, and write down who was killed."""
    own = here / f"host{number}"
    (own / "boot_id").write_text(f"{uuid.uuid4()}\n")
    subprocess.run(["mount", "--bind", own / "boot_id", BOOT_ID], check=True)
    socket.sethostname(f"controller{number}")
    crowd = Crowd(own, processes, seconds, seed + number, 0, shared())
    for board in BOARDS:  # the locks of the judge are those of both hosts
        name = f"{board.replace('/', '-')}.lock"
        (own / name).symlink_to(here / name)
    crowd.run()
    (own / "found.json").write_text(json.dumps({"killed_s": crowd.killed_s, "failed": crowd.failed}))


def contention(processes: int, seconds: float, seed: int) -> tuple[list[str], list[Figure]]:
    """Let both hosts contend; return what must not be, and figures."""
    with postgres() as server, tempfile.TemporaryDirectory(prefix="hil-shared-") as name:
        here, url = Path(name), server.make("hil")
        Leases(Server.named(url)).list()
        hosts = []
        for number in HOSTS:
            (here / f"host{number}").mkdir()
            argv = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--time"]
            argv += [
                "--monotonic",
                str(DAY_S * (number - 1)),
                sys.executable,
                "-m",
                __spec__.name,
                "--host",
                str(number),
            ]
            argv += ["--here", name, "--processes", str(processes // len(HOSTS)), "--seconds", str(seconds)]
            environment = {**os.environ, STORE_ENV: url, "HIL_LEASES": ""}
            hosts.append(subprocess.Popen([*argv, "--seed", str(seed)], cwd=paths.ROOT, env=environment))
        logs_of = [here / f"host{number}" / "log" for number in HOSTS]
        wait_until(lambda: all(each.is_dir() for each in logs_of), what="both hosts to begin", deadline_s=60)
        away_s = []
        for how in (signal.SIGINT, signal.SIGQUIT):
            time.sleep(seconds / 3)
            began = time.monotonic()
            server.stop(how)
            server.start()
            away_s.append(time.monotonic() - began)
        for host in hosts:
            host.wait(seconds + SERVED_WITHIN_S + 30)
        left = Leases(Server.named(url)).list()
        logs: dict[int, str] = {}
        killed_s: dict[int, float] = {}
        failed: list[str] = []
        for number in HOSTS:
            own, of_host = here / f"host{number}", number * 10**8
            found = json.loads((own / "found.json").read_text())
            failed += found["failed"]
            killed_s |= {of_host + int(pid): at for pid, at in found["killed_s"].items()}
            logs |= {of_host + int(path.name): path.read_text() for path in (own / "log").iterdir()}
    judged, turns = judge(logs, killed_s)
    both = min(sum(turn.held_s is not None and turn.pid // 10**8 == number for turn in turns) for number in HOSTS)
    figures = _figures(f"{processes} processes on 2 hosts, {len(BOARDS)} boards, {seconds:g} s", judged, both)
    away = ", ".join(f"{each:.1f} s" for each in away_s)
    figures.append(Figure("shared leases: left over at the end", len(left), "", "<= 0", f"server away for {away}"))
    return [*judged.doubles, *failed], [*figures, Figure("shared leases: failed", len(failed), "", "<= 0", "")]


def _figures(crowd: str, judged: Judged, both: int) -> list[Figure]:
    waits = sorted(judged.waits_s)
    return [
        Figure("shared leases: boards held twice", len(judged.doubles), "", "<= 0", f"{crowd}; locks and logs"),
        Figure("shared leases: survivors never served", judged.unserved, "", "<= 0", f"within {SERVED_WITHIN_S:g} s"),
        Figure("shared leases: granted", judged.served, "", "", crowd),
        Figure("shared leases: granted on the host with fewer", both, "", "", ""),
        Figure("shared leases: killed with SIGKILL", judged.kills, "", "", ""),
        Figure("shared leases: wait, median", round(statistics.median(waits or [0]), 3), "s", "", ""),
        Figure("shared leases: wait, p99", round((waits or [0])[int(len(waits) * 0.99) - 1], 3), "s", "", ""),
    ]


def main() -> int:
    """Run it, print the figures."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--processes", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    parser.add_argument("--host", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.host:
        be_host(args.host, args.here, args.processes, args.seconds, args.seed)
        return 0
    doubles, figures = contention(args.processes, args.seconds, args.seed)
    for figure in figures:
        print(f"{figure.name:46} {figure.value:>9g} {figure.unit:3} {figure.limit:8} {figure.compared_with}")
    for double in doubles[:20]:
        print(double, file=sys.stderr)
    if args.out:
        write(figures, args.out)
    return 0 if all(figure.ok for figure in figures) else 1


def shared_leases(lab: Path) -> Iterator[Figure]:
    """Two hosts contend for six boards through PostgreSQL for a minute, with kill -9, a restart and a crash."""
    yield from contention(40, 60.0, 1)[1]


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
