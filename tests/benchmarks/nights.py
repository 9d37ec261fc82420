"""Prepared histories of forty nights, drawn by seed: how often each is classified right, false alarms, time of queries.

python -m tests.benchmarks.nights [--count 200] [--steady 1000] [--seed 1]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hil.database.connection import STORE_ENV, upsert, writing
from hil.evidence.points import DIMENSIONS
from hil.evidence.store import RunStore
from hil.report.history_classes import Class, Night, State, class_of
from tests.benchmarks.figures import Figure
from tests.kits.postgres import postgres

NIGHTS = 40
NOISE = 0.03
LEVEL = 100.0


def steady(draw: random.Random) -> list[Night]:
    """Draw forty nights on which all is well: a value with a noise of 3 %."""
    return [Night(State.PASS, LEVEL * draw.gauss(1, NOISE)) for _ in range(NIGHTS)]


def _from(draw: random.Random, first: int, state: State) -> list[Night]:
    """Draw nights that are in another state from night ``first`` on; a value is taken where the test ran."""
    nights = steady(draw)
    kept = state in (State.PASS, State.FAIL)
    return [*nights[:first], *(Night(state, night.value if kept else None) for night in nights[first:])]


def regression(draw: random.Random) -> list[Night]:
    """Draw a test that fails from some night on."""
    return _from(draw, draw.randrange(20, NIGHTS), State.FAIL)


def flake(draw: random.Random) -> list[Night]:
    """Draw a test that fails in 5 % of the nights, at least once."""
    while True:
        nights = [Night(State.FAIL, n.value) if draw.random() < 0.05 else n for n in steady(draw)]
        if any(night.state is State.FAIL for night in nights):
            return nights


def bench_fault(draw: random.Random) -> list[Night]:
    """Draw a bench that fails now and then, and last night."""
    nights = _from(draw, draw.randrange(35, NIGHTS), State.BENCH)
    return [Night(State.BENCH) if draw.random() < 0.08 else night for night in nights]


def missing(draw: random.Random) -> list[Night]:
    """Draw a test that is gone."""
    return _from(draw, draw.randrange(20, NIGHTS), State.ABSENT)


def drift(draw: random.Random) -> list[Night]:
    """Draw a value that moves by 10 to 30 % over the forty nights."""
    whole = draw.choice((-1, 1)) * draw.uniform(0.10, 0.30)
    return [_scaled(night, 1 + whole * n / (NIGHTS - 1)) for n, night in enumerate(steady(draw))]


def spike(draw: random.Random) -> list[Night]:
    """Draw a value that is off by 25 to 50 % for one night."""
    at, by = draw.randrange(NIGHTS), draw.choice((-1, 1)) * draw.uniform(0.25, 0.50)
    return [_scaled(night, 1 + by * (n == at)) for n, night in enumerate(steady(draw))]


def step(draw: random.Random) -> list[Night]:
    """Draw a value that moves by 10 to 20 % from one night to the next, and stays there for three nights or more."""
    at, by = draw.randrange(5, NIGHTS - 2), draw.choice((-1, 1)) * draw.uniform(0.10, 0.20)
    return [_scaled(night, 1 + by * (n >= at)) for n, night in enumerate(steady(draw))]


def fixed(draw: random.Random) -> list[Night]:
    """Draw a test that failed for some nights in a row, and passes again."""
    first = draw.randrange(5, 25)
    last = draw.randrange(first + 3, 36)
    return [Night(State.FAIL, n.value) if first <= i < last else n for i, n in enumerate(steady(draw))]


def never(draw: random.Random) -> list[Night]:
    """Draw a test that has always failed."""
    return _from(draw, 0, State.FAIL)


def _scaled(night: Night, factor: float) -> Night:
    return Night(night.state, (night.value or 0.0) * factor)


RIGHT: dict[Callable[[random.Random], list[Night]], frozenset[Class]] = {
    regression: frozenset({Class.REGRESSION, Class.FAILING}),
    flake: frozenset({Class.INTERMITTENT}),
    bench_fault: frozenset({Class.BENCH_FAULT}),
    missing: frozenset({Class.MISSING}),
    drift: frozenset({Class.DRIFT}),
    spike: frozenset({Class.SPIKE}),
    fixed: frozenset({Class.FIXED}),
    step: frozenset({Class.STEP}),
    never: frozenset({Class.NEVER_PASSED}),
}


def confusion(count: int, seed: int) -> Counter[tuple[str, Class]]:
    """Classify ``count`` histories drawn by ``seed``; how often each kind got each class."""
    draw, kinds = random.Random(seed), list(RIGHT)
    found: Counter[tuple[str, Class]] = Counter()
    for number in range(count):
        kind = kinds[number % len(kinds)]
        found[kind.__name__, class_of(kind(draw)).kind] += 1
    return found


def right(found: Counter[tuple[str, Class]]) -> float:
    """Return the share that was classified right."""
    wanted = {kind.__name__: classes for kind, classes in RIGHT.items()}
    return sum(n for (kind, got), n in found.items() if got in wanted[kind]) / found.total()


def false_alarms(count: int, seed: int) -> float:
    """Return the share of steady histories that are called anything else."""
    draw = random.Random(seed)
    return sum(class_of(steady(draw)).kind is not Class.STEADY for _ in range(count)) / count


def matrix(found: Counter[tuple[str, Class]]) -> Table:
    """Return the confusion matrix: a row for each kind drawn, a column for each class given."""
    classes = [each for each in Class if any(got is each for _, got in found)]
    table = Table("drawn", *(each.value for each in classes))
    for kind in RIGHT:
        table.add_row(kind.__name__, *(str(found[kind.__name__, each] or "") for each in classes))
    return table


def nights(lab: Path | None = None, *, count: int = 200, steady_count: int = 1000, seed: int = 1) -> Iterator[Figure]:
    """Histories of forty nights: classes of prepared ones, and the time that reading one takes."""
    found = confusion(count, seed)
    Console(stderr=True, width=150).print(matrix(found))
    yield Figure("histories classified right", round(right(found), 4), "", ">= 0.95", f"{count} drawn, seed {seed}")
    alarms = false_alarms(steady_count, seed)
    yield Figure("false alarms", round(alarms, 4), "per series", "<= 0.01", f"{steady_count} steady series")
    with tempfile.TemporaryDirectory() as folder:
        yield from queries(Path(folder))
    with postgres() as server, tempfile.TemporaryDirectory() as folder:
        os.environ[STORE_ENV] = server.make("hil")
        try:
            yield from queries(Path(folder), " on PostgreSQL")
        finally:
            del os.environ[STORE_ENV]


def queries(
    out: Path, where: str = "", *, labs: int = 5, runs: int = 365 * 3, measurements: int = 200
) -> Iterator[Figure]:
    """How long a history takes beside a million measurements: of one plan on one lab, and of one test of it."""
    store = RunStore(out)
    _fill(store, labs, runs, measurements)
    for what, test in (("everything", None), ("one test", "test_7")):
        took = []
        for lab in range(labs):
            begun = time.monotonic()
            found = store.history("six-gpu", f"lab-{lab}", nights=NIGHTS, test=test)[1]
            took.append(time.monotonic() - begun)
            assert len(found) == (measurements if test is None else 10)
        median_ms = statistics.median(took) * 1e3
        beside = f"{labs * runs * measurements:,} measurements, {NIGHTS} nights"
        yield Figure(f"history of {what}{where}", round(median_ms, 1), "ms", "<= 100", beside)


def _fill(store: RunStore, labs: int, runs: int, measurements: int) -> None:
    """Write runs and points as the store has them, run by run, many at once."""
    of_run = {"dir": "", "plan": "six-gpu", "plan_sha256": "", "lab_sha256": "", "state": "finished", "verdict": "PASS"}
    of_series = {"plan": "six-gpu", **dict.fromkeys(DIMENSIONS, ""), "title": "title", "unit": "s"}
    with store._open() as db, writing(db, durable=False):
        for lab in (f"lab-{number}" for number in range(labs)):
            ids = {f"{lab}-{number:05d}": f"2026-{number:05d}" for number in range(runs)}
            rows = [{**of_run, "run_id": run, "lab": lab, "started_utc": moment} for run, moment in ids.items()]
            db.executemany(upsert("runs", rows[0], key="run_id"), rows)
            every = [
                {**of_series, "lab": lab, "test": f"test_{number // 10}", "name": f"m{number}"}
                for number in range(measurements)
            ]
            names = list(every[0])
            db.executemany(
                f"INSERT INTO series ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})", every
            )
            db.executemany("INSERT INTO indexed VALUES (:run_id)", rows)
            db.executemany(
                "INSERT INTO points SELECT id, CAST(:run_id AS TEXT), 'PASS', 1.5 FROM series WHERE lab = :lab", rows
            )


def main(words: Sequence[str] | None = None) -> int:
    """Print the confusion matrix and the figures; exit code 1 when one is outside its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steady", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(words)
    figures = list(nights(count=args.count, steady_count=args.steady, seed=args.seed))
    for figure in figures:
        print(f"{figure.name}: {figure.value} ({figure.limit}; {figure.compared_with})")
    return 0 if all(figure.ok for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
