"""A year of nights as a site: 365 nights, three campaigns of 200 measurements each, made at once and one night more.

python -m tests.benchmarks.site [--nights 365]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hil.evidence.manifest import REPORT
from hil.evidence.record import EVIDENCE, META, RESULT, write_json
from hil.evidence.store import RUNS, RunStore
from hil.nightly.site import build_site
from tests.benchmarks.figures import Figure

CAMPAIGNS = ("virtual", "virtual-4-2", "brief-gap")
MEASUREMENTS = 200
PAGE_BYTES = 250_000


def site(lab: Path | None = None, *, nights: int = 365) -> Iterator[Figure]:
    """A year of nights as a site, and one night more."""
    with tempfile.TemporaryDirectory() as folder:
        out, target = Path(folder, "out"), Path(folder, "site")
        draw, first = random.Random(1), datetime.now(UTC).replace(microsecond=0) - timedelta(days=nights + 1)
        for night in range(nights):
            _night(out, first, night, draw)
        beside = f"{nights} nights x {len(CAMPAIGNS)} campaigns x {MEASUREMENTS} measurements"
        yield _built("site of a year", out, target, 60, beside)
        _night(out, first, nights, draw)
        yield _built("site, one night more", out, target, 2, beside)


def _built(name: str, out: Path, target: Path, most_s: int, beside: str) -> Figure:
    begun, worked = time.monotonic(), time.process_time()
    build_site(out, target)
    took_s, worked_s = time.monotonic() - begun, time.process_time() - worked
    return Figure(name, round(took_s, 2), "s", f"<= {most_s}", f"{beside}; {worked_s:.1f} s of a core")


def _night(out: Path, first: datetime, night: int, draw: random.Random) -> None:
    store = RunStore(out)
    for number, lab in enumerate(CAMPAIGNS):
        directory = out / RUNS / f"night-{night:03d}-{lab}"
        directory.mkdir(parents=True)
        started = (first + timedelta(days=night, hours=number)).isoformat().replace("+00:00", ".000Z")
        meta = {"plan": "six-gpu", "lab": lab, "started_utc": started, "run_id": directory.name}
        result = {**meta, "verdict": "PASS", "reason": "all is well", "state": "finished", "tests": _tests(draw)}
        write_json(directory / META, meta)
        write_json(directory / RESULT, {**result, "evidence": {"first": directory.name}})
        (directory / EVIDENCE).write_bytes(b"{}\n" * 2000)
        (directory / REPORT).write_bytes(b"x" * PAGE_BYTES)
        store.start(meta, directory)
        store.finish(directory, {**result, "evidence": {"first": directory.name}})


def _tests(draw: random.Random) -> list[dict[str, Any]]:
    def measured(number: int) -> dict[str, Any]:
        value = draw.gauss(10 + number, 0.3)
        return {"name": f"m{number}", "value": value, "unit": "s", "limit": None, "ok": True, "dimensions": {}}

    per_test = 10
    return [
        {
            **{"id": f"t{test}", "title": f"Test {test}", "verdict": "PASS", "duration_s": draw.gauss(5, 0.2)},
            "measurements": [measured(test * per_test + n) for n in range(per_test)],
        }
        for test in range(MEASUREMENTS // per_test)
    ]


def main() -> int:
    """Print the figures; exit code 1 when one is outside its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--nights", type=int, default=365)
    figures = list(site(nights=parser.parse_args().nights))
    for figure in figures:
        print(f"{figure.name}: {figure.value} {figure.unit} ({figure.limit}; {figure.compared_with})")
    return 0 if all(figure.ok for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
