"""The report of 10,000 measurements, and the dashboard with ten viewers: how long, and what it costs.

    python -m tests.benchmarks.pages

The dashboard is `hil dashboard` on loopback beside a run that writes as many events as a campaign does; its viewers
read the stream that the page reads.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hil.core.processes import this_process
from hil.evidence.events import CollectedTest, RunCollected, WatchClaim
from hil.evidence.record import Recorder
from hil.report.make import make_report
from hil.workload.stream_report import quantile
from tests.benchmarks.figures import Figure
from tests.kits.hil_command import HIL
from tests.kits.synthetic_run import build, many_measurements, meta

MEASUREMENTS = 10_000
VIEWERS = 10
SECONDS = 20.0
EVENTS_PER_S = 10.0
"""A six-GPU campaign writes seven."""


def pages(lab: Path | None = None) -> Iterator[Figure]:
    """A report of 10,000 measurements, and a dashboard with ten viewers."""
    yield report()
    yield from dashboard()


def report() -> Figure:
    """Make a report of 10,000 measurements: the second time, so that nothing is imported meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        directory = many_measurements(build(Path(folder, "run")), MEASUREMENTS)
        make_report(build(Path(folder, "small")))
        begun_s, worked_s = time.monotonic(), time.process_time()
        make_report(directory)
        took_s, worked_s = time.monotonic() - begun_s, time.process_time() - worked_s
    return Figure(
        f"report of {MEASUREMENTS:,} measurements", round(took_s, 2), "s", "<= 3", f"{worked_s:.2f} s of a core"
    )


class Viewer(threading.Thread):
    """Reads the stream of a dashboard; ``seen_s`` has when it first saw each epoch of a board (monotonic)."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.seen_s: dict[int, float] = {}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def run(self) -> None:
        self._connection.request("GET", "/events")
        for line in iter(self._connection.getresponse().readline, b""):
            if not line.startswith(b"data: "):
                continue
            boards: dict[str, Any] = json.loads(line[6:]).get("boards") or {}
            now_s = time.monotonic()
            self.seen_s.setdefault(boards.get("a1", {}).get("epoch", 0), now_s)

    def saw_s(self, epoch: int) -> float:
        """Return when it saw an epoch or a later one, which the same state may have brought; infinity: never."""
        return min((at_s for seen, at_s in self.seen_s.items() if seen >= epoch), default=float("inf"))


@contextmanager
def served(out: Path) -> Iterator[tuple[int, int]]:
    """Run `hil dashboard`; yield its process id and port."""
    argv = [*HIL, "dashboard", "--listen", "127.0.0.1:0", "--out", str(out), "--json"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout is not None
        url = json.loads("".join(process.stdout.readline() for _ in range(3)))["url"]
        yield process.pid, int(url.rstrip("/").rpartition(":")[2])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def dashboard() -> Iterator[Figure]:
    """Time events from their writing to ten viewers, and count the dashboard's processor time with and without them."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        with Recorder.create(out / "runs/now", {**meta("now"), "process": this_process()}) as recorder:
            recorder.emit(RunCollected((CollectedTest("t::a", "Links deliver"),)))
            with served(out) as (pid, port):
                alone_s, _ = _written(recorder, pid, 1)
                viewers = [Viewer(port) for _ in range(VIEWERS)]
                for viewer in viewers:
                    viewer.start()
                with_s, written_s = _written(recorder, pid, 1000)
                time.sleep(2.0)
                delays = [v.saw_s(epoch) - at_s for v in viewers for epoch, at_s in written_s.items()]
    beside = f"{VIEWERS} viewers, {len(written_s)} events, {EVENTS_PER_S:g} a second"
    yield Figure("dashboard, from event to viewer, worst", round(max(delays), 3), "s", "<= 1", beside)
    yield Figure("dashboard, from event to viewer, median", round(quantile(delays, 0.5), 3), "s", "", beside)
    share = 100 * (with_s - alone_s) / SECONDS
    alone = f"of a core; {100 * alone_s / SECONDS:.1f} % without viewers"
    yield Figure("dashboard, ten viewers", round(share, 1), "%", "<= 5", alone)


def _written(recorder: Recorder, pid: int, first: int) -> tuple[float, dict[int, float]]:
    """Write events for a while; return the processor time of a process meanwhile, s, and when each was written."""
    begun_s, worked_s, written_s = time.monotonic(), _worked_s(pid), dict[int, float]()
    for number in range(int(SECONDS * EVENTS_PER_S)):
        time.sleep(max(0.0, begun_s + number / EVENTS_PER_S - time.monotonic()))
        written_s[first + number] = time.monotonic()
        recorder.emit(WatchClaim("a1", first + number))
    return _worked_s(pid) - worked_s, written_s


def _worked_s(pid: int) -> float:
    """Return the processor time of a process so far, s."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Print the figures; exit code 1 when one is outside its limit."""
    figures = []
    for figure in pages():
        print(f"{figure.name}: {figure.value} {figure.unit} ({figure.limit}; {figure.compared_with})", flush=True)
        figures.append(figure)
    return 0 if all(figure.ok for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
