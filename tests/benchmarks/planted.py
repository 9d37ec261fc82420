"""Plant a fault in the middle of a campaign, and see that the verdict is right and names the culprit in time.

    python -m tests.benchmarks.planted [--each 5] [--kinds link-by-hand,keeper-frozen] [--seed 1]

Each round runs ``pytest testplans/six_gpu``, plants one fault at a random moment after the calibration, and judges the
run: never FAIL for a fault of the bench, never PASS for one of the device, the culprit in the evidence within 30 s.
A fault of the device on a host that was too slow to judge by, with the figure, is INCONCLUSIVE rightly.
Exit code 1 when a round was judged wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from docker.errors import DockerException

from hil.bench.bench import Bench
from hil.bench.clean import clean
from hil.bench.state import link_socket
from hil.core import paths
from hil.core.wait import wait_until
from hil.errors import BenchError
from hil.evidence.carriers import container, unordered_restarts
from hil.evidence.events import BenchDiffers, BenchLost, BenchPulse, BenchUp, TestEnded
from hil.evidence.readback import RunRecord
from hil.faults.bench_kinds import ENGINE, KEEPER, LINK_BOX, pids_of
from hil.links.engines import rtnl
from hil.links.link_box import LinkBox
from hil.links.shape import shape_step
from hil.onboard.node.answers import PORT as NODE_PORT

FIRST_S, LAST_S = 1.0, 40.0
"""The fault is planted so long after the calibration."""
NAMED_S = 30.0
FROZEN_S = 10.0
DEADLINE_S = 240.0
LINK = "isl-ab"
TOO_SLOW = "this host was too slow to judge by"


@dataclass(frozen=True)
class Plant:
    """A fault: how it is planted on a bench, whom the evidence must name, and which verdicts are right."""

    plant: Callable[[str], None]
    culprit: str
    right: frozenset[str]
    at_strike: bool = False
    """Planted when the campaign's own fault strikes, not at a random moment."""


def link_by_hand(bench: str) -> None:
    """Set the crosslink from another process than the campaign's, as `hil link set` does."""
    with LinkBox.attach(link_socket(bench)) as box:
        states = {d: replace(box.commanded(LINK, d), delay_us=1000, rate_bps=0) for d in ("a_to_b", "b_to_a")}
        box.set(LINK, **states)


def link_in_kernel(bench: str) -> None:
    """Change the netem of the crosslink past the link box, as `tc` in its kernel does."""
    with LinkBox.attach(link_socket(bench)) as box:
        link = box.store.load().link(LINK)
        fast = {d: replace(state, delay_us=1000, rate_bps=0) for d, state in link.commanded.items()}
        rtnl.transact(box.agents[link.kernel], [shape_step(replace(link, commanded=fast), "a_to_b", None)])


def _freeze(pid: int, seconds: float = FROZEN_S) -> None:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    with suppress(ProcessLookupError):  # the campaign has given up and taken its bench down
        os.kill(pid, signal.SIGCONT)


def keeper_frozen(bench: str) -> None:
    """Stop the keeper for a while."""
    (pid,) = pids_of(bench, KEEPER)
    _freeze(pid)


def strike_too_late(bench: str) -> None:
    """Stop the keeper when the campaign strikes, so that the link is cut only when the transfer is over."""
    (pid,) = pids_of(bench, KEEPER)
    _freeze(pid, 6.0)


def engine_stopped(bench: str) -> None:
    """Stop the container engine for a while."""
    (pid,) = pids_of(bench, ENGINE)
    _freeze(pid, FROZEN_S)


def link_box_killed(bench: str) -> None:
    """Kill every User-Mode Linux of the bench."""
    for pid in pids_of(bench, LINK_BOX):
        with suppress(ProcessLookupError):  # a helper of one that ended with it
            os.kill(pid, signal.SIGKILL)


def board_paused(bench: str) -> None:
    """Pause the container of b2 for a while."""
    with _attached(bench) as opened:
        box: Any = opened.boards["b2"]
        box.container().pause()
        time.sleep(FROZEN_S)
        with suppress(BenchError, DockerException):  # the campaign has ended, and its bench with it
            box.container().unpause()


def board_killed(bench: str) -> None:
    """Kill the container of b2."""
    with _attached(bench) as opened:
        box: Any = opened.boards["b2"]
        box.container().kill()


def board_restarts(bench: str) -> None:
    """Let the OS of b2 restart by itself."""
    with _attached(bench) as opened, opened.boards["b2"].shell() as shell:
        shell.run(["sh", "-c", "(sleep 0.3; reboot -f) >/dev/null 2>&1 &"], check=False)


_HEALTH_ONLY = """
import http.server, os, signal, time, urllib.request
url = "http://127.0.0.1:PORT/health"
body = urllib.request.urlopen(url, timeout=5).read()
class Answers(http.server.BaseHTTPRequestHandler):
    def answer(self):
        said, code = (body, 200) if self.path == "/health" else (b"{}", 500)
        self.send_response(code)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    do_GET = do_POST = do_PUT = do_DELETE = answer
    def log_message(self, *_): pass
node = int(open("/run/service/node.pid").read())
os.kill(int(open(f"/proc/{node}/stat").read().split()[3]), signal.SIGKILL)
os.kill(node, signal.SIGKILL)
for _ in range(50):
    try:
        server = http.server.ThreadingHTTPServer(("", PORT), Answers)
        break
    except OSError:
        time.sleep(0.1)
server.serve_forever()
""".replace("PORT", str(NODE_PORT))
"""Takes the place of a node service: it answers ``health`` as that did last, and refuses all else."""


def health_only(bench: str) -> None:
    """Let the node service of b2 answer its health and nothing else."""
    with _attached(bench) as opened, opened.boards["b2"].shell() as shell:
        script = f"setsid python3 -c {shlex.quote(_HEALTH_ONLY)} >/run/log/health-only.log 2>&1 </dev/null &"
        shell.run(["sh", "-c", script])


@contextmanager
def _attached(bench: str) -> Iterator[Bench]:
    opened = Bench.attach(bench)
    try:
        yield opened
    finally:
        opened.close()


INCONCLUSIVE, HARMLESS, FAIL = frozenset({"INCONCLUSIVE"}), frozenset({"INCONCLUSIVE", "PASS"}), frozenset({"FAIL"})

PLANTS: Mapping[str, Plant] = {
    "link-by-hand": Plant(link_by_hand, f"link {LINK}", INCONCLUSIVE),
    "link-in-kernel": Plant(link_in_kernel, f"link {LINK}", INCONCLUSIVE),
    "strike-too-late": Plant(strike_too_late, "the keeper of the bench", HARMLESS, at_strike=True),
    "board-restarts": Plant(board_restarts, "b2", FAIL),
    "health-only": Plant(health_only, "b2", FAIL),
    "link-box-killed": Plant(link_box_killed, "the link box", INCONCLUSIVE),
    "engine-stopped": Plant(engine_stopped, "the container engine", HARMLESS),
    "board-paused": Plant(board_paused, container("b2"), INCONCLUSIVE),
    "board-killed": Plant(board_killed, container("b2"), INCONCLUSIVE),
    "keeper-frozen": Plant(keeper_frozen, "the keeper of the bench", HARMLESS),
}
"""By name; HARMLESS: a freeze that ended before anything needed the part leaves the verdict a PASS, and is named."""


@dataclass(frozen=True)
class Round:
    """What one planted fault led to; times in seconds since it was planted."""

    kind: str
    verdict: str
    reason: str
    named_s: float | None
    ended_s: float
    right: bool

    def __str__(self) -> str:
        named = f"named after {self.named_s:.1f} s" if self.named_s is not None else "NOT NAMED"
        grade = "right" if self.right else "WRONG"
        return f"{grade}: {self.kind}: {self.verdict}, {named}, ended after {self.ended_s:.1f} s: {self.reason}"


def play(kind: str, lab: Path, chance: random.Random, out: Path) -> Round | None:
    """Run one campaign with the fault in it; None when it ended before the fault was planted."""
    plant, run_id = PLANTS[kind], f"{kind}-{chance.randrange(10**6)}"
    wait_s = chance.uniform(FIRST_S, LAST_S)
    argv = [sys.executable, "-m", "pytest", "-q", "testplans/six_gpu", "--lab", str(lab)]
    argv += ["--hil-out", str(out), "--run-id", run_id]
    with (out / f"{run_id}.log").open("wb") as log:
        run = subprocess.Popen(argv, cwd=paths.ROOT, stdout=log, stderr=log, start_new_session=True)
        directory = out / "runs" / run_id
        marker = '"kind":"fault"' if plant.at_strike else '"kind":"test.start","test":"testplans/six_gpu/test_2'

        def reached() -> bool:
            assert run.poll() is None, f"the campaign ended early: see {out / run_id}.log"
            evidence = directory / "evidence.jsonl"
            return evidence.exists() and marker in evidence.read_text("utf-8", "replace")

        wait_until(reached, what="the campaign to get so far", deadline_s=120, every_s=0.02)
        if not plant.at_strike:
            time.sleep(wait_s)
        if run.poll() is not None:
            return None
        bench = RunRecord.load(directory).of(BenchUp)[-1].bench
        planted_s = time.monotonic()
        plant.plant(bench)
        try:
            run.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            run.terminate()  # judged by what it had come to: a run that waits out its deadlines is late
            run.wait(60)
    ended_s = time.monotonic() - planted_s
    clean()
    result = json.loads((directory / "result.json").read_text("utf-8"))
    record = RunRecord.load(directory)
    named_s = _named(record, plant, planted_s - float(record.meta["mono_start_s"]))
    in_time = named_s is not None and named_s <= NAMED_S
    too_slow = plant.right == FAIL and result["verdict"] == "INCONCLUSIVE" and TOO_SLOW in result["reason"]
    right = (result["verdict"] in plant.right or too_slow) and in_time and ended_s < DEADLINE_S
    return Round(kind, result["verdict"], result["reason"], named_s, ended_s, right)


def _named(record: RunRecord, plant: Plant, planted_s: float) -> float | None:
    """Return how long after the planting the evidence named the culprit; None when it never did."""
    for number, event in enumerate(record.events, start=1):
        if event.t_s < planted_s:
            continue
        match event:
            case BenchPulse() if plant.culprit in event.silent or event.late_s.get(plant.culprit, 0.0) >= 3.0:
                return event.t_s - planted_s
            case BenchDiffers(part=plant.culprit) | BenchLost(part=plant.culprit):
                return event.t_s - planted_s
            case TestEnded(verdict="FAIL" | "INCONCLUSIVE", message=said) if (
                plant.right == FAIL and plant.culprit in said
            ):
                return event.t_s - planted_s
        if plant.right == FAIL and unordered_restarts(record.events[:number]):
            return event.t_s - planted_s
    return None


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.planted", description=__doc__.split("\n")[0])
    parser.add_argument("--each", type=int, default=5, help="rounds of each kind")
    parser.add_argument("--kinds", default=",".join(PLANTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lab", type=Path, default=paths.ROOT / "lab/virtual.yaml")
    args = parser.parse_args(argv)
    chance = random.Random(args.seed)
    out = Path(tempfile.mkdtemp(prefix="hil-planted-"))
    rounds = []
    for number in range(args.each):
        for kind in args.kinds.split(","):
            while (played := play(kind, args.lab, chance, out)) is None:
                print(f"{number + 1}: {kind}: the campaign ended before it was planted; once more", flush=True)
            rounds.append(played)
            print(f"{number + 1}: {played}", flush=True)
    right = sum(each.right for each in rounds)
    print(f"{right} of {len(rounds)} judged right; runs and logs: {out}")
    return 0 if right == len(rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
