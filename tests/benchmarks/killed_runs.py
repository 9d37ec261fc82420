"""Kill a run of pytest with the plug-in at random moments, and see that each is still reported.

    python -m tests.benchmarks.killed_runs [--times 10] [--seed 1]

Each round starts ``pytest`` on a plan of its own, without a bench and without root, and sends SIGKILL to it at a
random moment from when its run directory appears to after its end.  What is left has to give a report, JUnit and a
result with the gap marked, and `hil verify` may find nothing changed afterwards.  Exit code 1 when one does not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xmlschema

from hil.core import paths
from hil.core.wait import wait_until
from tests.kits.hil_command import HIL

TESTS = 8
PLAN = """\
schema: 1
id: killed
title: A plan that is killed
requirements:
  - {id: KIL-1, text: It works., method: T, level: system, fidelity_needed: virtual}
"""
BODY = f'''
import time

import pytest

from hil.evidence.model import at_most


@pytest.mark.requirement("KIL-1")
@pytest.mark.parametrize("number", range({TESTS}))
def test_it(number, measure, recorder):
    """A while, a few measurements, and a file."""
    for k in range(20):
        measure(f"value {{k}}", k, "s", limit=at_most(20))
        time.sleep(0.01)
    recorder.artefact_bytes(f"log-{{number}}.txt", b"x" * 100_000, kind="log")
'''
ARGUMENTS = ("-q", "-p", "no:cacheprovider", "--rootdir", ".", "killed")
DEADLINE_S = 120.0
SCHEMA = paths.ROOT / "tests/data/junit.xsd"
GAPS = {"the run was killed during this test", "the run ended before this test"}


@dataclass(frozen=True)
class Round:
    """What a kill left; ``faults`` are what is wrong with that, a sentence each."""

    killed_s: float
    found: str
    faults: Sequence[str] = ()

    def __str__(self) -> str:
        return f"killed after {self.killed_s:.2f} s: {self.found}" + "".join(f"\n  WRONG: {f}" for f in self.faults)


def started(folder: Path) -> subprocess.Popen[bytes]:
    """Start pytest on the plan, as the leader of a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *ARGUMENTS],
        cwd=folder,
        env={**os.environ, "HIL_REPORTS": str(folder / "out")},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def directory_of(folder: Path) -> Path:
    """Wait until the run has its directory, and return that."""
    every: list[Path] = []

    def appeared() -> bool:
        every[:] = (folder / "out/runs").glob("*")
        return bool(every)

    wait_until(appeared, what="the run directory", deadline_s=DEADLINE_S, every_s=0.005)
    return every[0]


def kill_after(folder: Path, moment_s: float) -> Round:
    """Run, kill so long after the run directory appeared, make the report, and judge what there is."""
    run = started(folder)
    try:
        directory = directory_of(folder)
        with suppress(subprocess.TimeoutExpired):
            run.wait(moment_s)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    asked = _hil(folder, "runs", "report", directory.name)
    if asked.returncode:
        return Round(moment_s, "no report", [f"hil runs report: {asked.returncode}: {asked.stdout} {asked.stderr}"])
    result = json.loads((directory / "result.json").read_text("utf-8"))
    faults = list(_faults(directory, result))
    verified = _hil(folder, "verify", directory.name)
    if verified.returncode:
        faults.append(f"hil verify: {verified.stdout.strip()}")
    ended = sum(test["verdict"] == "PASS" for test in result["tests"])
    return Round(moment_s, f"{result['state']}, {result['verdict']}, {ended} of {len(result['tests'])} tests", faults)


def _hil(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HIL_REPORTS": str(folder / "out")}
    return subprocess.run(
        [*HIL, *words], env=environment, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S
    )


def _faults(directory: Path, result: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the outputs of a run that was killed, or that was not any more."""
    page = (directory / "report.html").read_text("utf-8")
    junit, tests = xmlschema.XMLResource(directory / "junit.xml"), result["tests"]
    yield from (f"junit.xml: {error.reason}" for error in xmlschema.XMLSchema(SCHEMA).iter_errors(junit))
    wanted = len(tests) + len(result["findings"])  # of the run as a whole
    if (cases := len(list(junit.root.iter("testcase")))) != wanted:
        yield f"junit.xml has {cases} cases, result.json {wanted} tests and findings"
    if len(tests) not in (0, TESTS):
        yield f"{len(tests)} of {TESTS} tests are listed"
    missing = [test for test in tests if test["verdict"] != "PASS"]
    if result["state"] == "crashed":
        if result["verdict"] != "INCONCLUSIVE" or "killed" not in result["reason"]:
            yield f"a run that was killed is {result['verdict']}: {result['reason']}"
        if "run crashed" not in page or result["reason"] not in page:
            yield "the page does not say that the run was killed"
        if odd := [test["message"] for test in missing if test["message"] not in GAPS]:
            yield f"tests that did not end have other reasons than that: {odd}"
    elif result["state"] != "finished" or missing or len(tests) != TESTS:
        yield f"the state is {result['state']}, and {len(missing)} of {len(tests)} tests did not pass"


def killed_runs(times: int, seed: int) -> Iterator[Round]:
    """Yield what each of so many kills left."""
    chance = random.Random(seed)
    whole_s = 0.0
    for _ in range(times + 1):
        with tempfile.TemporaryDirectory(prefix="hil-killed-") as name:
            folder = Path(name)
            (folder / "killed").mkdir()
            (folder / "killed/plan.yaml").write_text(PLAN, "utf-8")
            (folder / "killed/test_1.py").write_text(BODY, "utf-8")
            (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")
            if whole_s:
                yield kill_after(folder, chance.uniform(0.0, 1.1 * whole_s))
                continue
            run = started(folder)
            directory = directory_of(folder)
            begun_s = time.monotonic()
            code = run.wait(DEADLINE_S)
            whole_s = time.monotonic() - begun_s
            if not (directory / "result.json").is_file():
                raise RuntimeError(f"a run that nobody killed left no result; pytest ended with {code}")


def main() -> int:
    """Kill and print; exit code 1 when anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.killed_runs", description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    wrong = 0
    for number, each in enumerate(killed_runs(args.times, args.seed), start=1):
        print(f"{number}: {each}", flush=True)
        wrong += bool(each.faults)
    print(f"{args.times - wrong} of {args.times} right")
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(paths.ROOT))
    sys.exit(main())
