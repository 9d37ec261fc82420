"""Which step of a campaign runs on a bench: a small file in the bench's run directory.

The campaign writes it at the start of every test; whoever shows the bench reads it.  It goes away with the bench,
and a campaign that was killed is told from one that runs by its process.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from hil.bench.state import bench_dir
from hil.core.files import write_atomic
from hil.core.processes import current, is_gone


@dataclass(frozen=True)
class Step:
    """One test of a run, at work now."""

    run_id: str
    plan: str
    step: str
    title: str
    attempt: int = 1
    started_utc: str = ""
    pid: int = 0
    start_ticks: int = 0

    @classmethod
    def now(cls, *, run_id: str, plan: str, step: str, title: str, attempt: int = 1) -> Step:
        """Return a step of this process that begins at this moment."""
        process = current()
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        return cls(run_id, plan, step, title, attempt, moment, process.pid, process.start_ticks)


def write_step(bench: str, step: Step | None) -> None:
    """Note the step that runs on a bench (None: none any more); nothing happens when the bench is not up.

    Never raises: what a technician sees must not decide what becomes of a test.
    """
    path = _path(bench)
    with suppress(OSError):
        if step is None:
            path.unlink(missing_ok=True)
        elif path.parent.is_dir():
            write_atomic(path, json.dumps(asdict(step)), durable=False)


def read_step(bench: str) -> Step | None:
    """Return the step that runs on a bench now; None when there is none, or when its process has ended."""
    try:
        step = Step(**json.loads(_path(bench).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return None if is_gone(step.pid, step.start_ticks) else step


def _path(bench: str) -> Path:
    return bench_dir(bench) / "step.json"
