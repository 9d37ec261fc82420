"""Runs that are in the store without their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hil.evidence.record import write_json
from hil.evidence.store import RunStore
from tests.kits.synthetic_run import meta


def night(out: Path, number: int, tests: Sequence[dict[str, Any]], verdict: str = "PASS", **more: Any) -> None:
    """A run in the store as its report leaves it there, without evidence."""
    directory, store = out / "runs" / f"run-{number:03d}", RunStore(out)
    facts = {**meta(directory.name), "started_utc": f"2026-11-01T02:{number:02d}:00.000Z"}
    directory.mkdir(parents=True)
    write_json(directory / "run.json", facts)
    store.start(facts, directory)
    kept = {"evidence": {"first": f"{number}"}, "plan": "six-gpu", "lab": "virtual", "state": "finished"}
    store.finish(directory, {**kept, "verdict": verdict, "tests": tests, **more})


def ran(test: str, verdict: str = "PASS", *measurements: dict[str, Any]) -> dict[str, Any]:
    """Return a test as a result has it."""
    return {"id": test, "title": test, "verdict": verdict, "duration_s": 1.0, "measurements": list(measurements)}
