"""What is known about a bench on disk: JSON files, and a lock that is held while its keeper lives."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hil.core import paths
from hil.core.files import write_atomic
from hil.core.locks import LOOK_S, is_locked, locked
from hil.core.processes import current, is_gone
from hil.errors import ConfigurationError
from hil.leases.leases import default_store

if TYPE_CHECKING:
    from hil.lab.model import Lab

Status = Literal["starting", "up", "failed", "down"]


@dataclass(frozen=True)
class BenchState:
    """``bench.json``: everything another process needs to use this bench."""

    name: str
    lab_path: str
    keeper_pid: int
    status: Status
    tied: bool  # goes down with the process that brought it up
    started_utc: str = ""
    engine: dict[str, Any] = field(default_factory=dict)  # link engine: kind, reason, kernel release
    hardware_image: str = ""
    consoles: dict[str, dict[str, str]] = field(default_factory=dict)  # board -> fields of its ConsoleLine
    power_modes: dict[str, str] = field(default_factory=dict)  # board -> mode, where the lab file wants one
    phases_s: dict[str, float] = field(default_factory=dict)  # seconds of each bring-up phase
    owner: str = ""  # process that brought it up (a ProcessId); only while it is tied does that one count
    lease: str = ""  # name of the keeper's lease of the boards
    step: str = ""  # what bring-up is doing now
    error: dict[str, str] = field(default_factory=dict)  # of a failed bring-up: blame, message, remedy


def own_name() -> str:
    """Name of the bench that this process brings up when no other name is given."""
    return f"run{os.getpid()}"


def lease_keys(lab: Lab, bench: str) -> list[str]:
    """Return the names of a bench's boards among the leases: real boards by rack or lab, virtual ones by bench.

    A real board is one thing whatever bench it is part of; container boards of two benches share only names.
    """
    own = f"{bench}{on_this_host()}"
    return [f"{lab.lease_scope if b.fidelity == 'hardware' else own}/{b.name}" for b in lab.boards]


def on_this_host() -> str:
    """Return what sets the container boards of this host apart in a store that hosts share; empty in a file."""
    if isinstance(default_store(), Path):
        return ""
    return f"-on-{re.sub('[^a-z0-9]+', '-', os.uname().nodename.lower()).strip('-') or 'host'}"


def bench_dir(name: str) -> Path:
    """Return sockets, state and log of a bench (run-time; on tmpfs where /run is one)."""
    return paths.run_dir() / "bench" / name


def disk_dir(name: str) -> Path:
    """Board disks and console logs of a bench."""
    return paths.home() / "bench" / name


def link_socket(name: str) -> Path:
    return bench_dir(name) / "links.sock"


def orbit_file(name: str) -> Path:
    """Return the plan of the links' phases, for a lab with an orbit."""
    return bench_dir(name) / "sky.json"


def keeper_log(name: str) -> Path:
    """Return what the bench's keeper did: its log at DEBUG, and its traceback when it failed."""
    return bench_dir(name) / "keeper.log"


def pulse_file(name: str) -> Path:
    """Return where the bench's keeper says twice a second that it lives, and which of its threads died."""
    return bench_dir(name) / "pulse.json"


def schedule_log(name: str) -> Path:
    """Return what the link box applied of the schedule, when, and how late: CSV."""
    return bench_dir(name) / "schedule.csv"


def routes_log(name: str) -> Path:
    """Return changes of routes, one JSON object per line."""
    return bench_dir(name) / "routes.jsonl"


def write_state(state: BenchState) -> None:
    """Replace ``bench.json`` in one step, so that a reader never sees half of it."""
    path = bench_dir(state.name) / "bench.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(asdict(state), indent=1), durable=False)


def read_state(name: str) -> BenchState | None:
    """Return the state of a bench; None when there is none (or it was removed this moment)."""
    try:
        return BenchState(**json.loads((bench_dir(name) / "bench.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def known_benches() -> list[str]:
    """Return names that have a bench directory, live or left over, sorted."""
    root = paths.run_dir() / "bench"
    return sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []


def is_live(name: str) -> bool:
    """Return whether a keeper holds this bench now: decided by its lock, which the kernel frees when it dies."""
    return is_locked(_lock_path(name))


def is_up(name: str) -> bool:
    """Whether a bench is up.  Its lock is tried only when a keeper should have it: one that starts finds it free."""
    state = read_state(name)
    return state is not None and state.status == "up" and is_live(name)


@contextmanager
def hold(name: str) -> Iterator[None]:
    """Hold the bench's lock; ConfigurationError when another keeper has it. The file stays: removing it would race."""
    path = _lock_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, deadline_s=LOOK_S, error=ConfigurationError(f"bench {name} is up already")):
        yield


def pick(name: str | None) -> str:
    """Return the name of the bench: the one named, else the only one that is kept up, else the only run's own.

    A run's own bench counts only where its lab file is of this checkout or below the working directory.
    ConfigurationError when none or several could be meant.
    """
    if name:
        return name
    up = [n for n in known_benches() if is_live(n)]
    states = {n: state for n in up if (state := read_state(n))}
    kept = [n for n in up if n in states and not states[n].tied]
    meant = kept or [n for n in up if n not in states or _is_of_here(states[n])]
    if len(meant) == 1:
        return meant[0]
    if up and not meant:
        there = ", ".join(f"{n} (of {states[n].lab_path})" for n in up)
        raise ConfigurationError(
            f"no bench of your own is up, only of runs elsewhere: {there}",
            remedy="name it with --bench NAME, or bring one up: hil bench up --lab virtual",
        )
    if not up:
        raise ConfigurationError("no bench is up", remedy="`hil bench up --lab virtual` brings one up")
    raise ConfigurationError(
        f"several benches are up: {', '.join(up)}", remedy="name one with --bench NAME, or HIL_BENCH in the environment"
    )


def _is_of_here(state: BenchState) -> bool:
    """Return whether a bench's lab file is of this checkout (or installation), or below the working directory."""
    file = Path(state.lab_path).resolve()
    return any(file.is_relative_to(place) for place in (paths.checkout() or paths.PACKAGE, Path.cwd()))


def require_state(name: str) -> BenchState:
    """State of a bench that is up; ConfigurationError names the benches that are."""
    state = read_state(name)
    if state is not None and state.status == "starting" and is_live(name):
        raise ConfigurationError(f"bench {name} is still coming up", remedy="wait until `hil bench status` says up")
    if state is None or state.status != "up" or not is_live(name):
        up = [n for n in known_benches() if is_up(n)]
        raise ConfigurationError(
            f"no bench {name} is up; up now: {', '.join(up) or 'none'}",
            remedy="bring one up with `hil bench up --lab virtual`",
        )
    return state


def _lock_path(name: str) -> Path:
    return paths.run_dir() / "bench" / f"{name}.lock"


@dataclass(frozen=True)
class Step:
    """``step.json``: the test of a campaign that runs on the bench now; shown by those that watch the bench.

    A campaign that was killed is told from one that runs by its process.
    """

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


def write_step(bench: str, step: Step | None, tenant: str = "") -> None:
    """Note the step that runs on a bench (None: none any more); nothing happens when the bench is not up.

    Each tenant has its own.  Never raises: what a technician sees must not decide what becomes of a test.
    """
    path = bench_dir(bench) / (f"step-{tenant}.json" if tenant else "step.json")
    with suppress(OSError):
        if step is None:
            path.unlink(missing_ok=True)
        elif path.parent.is_dir():
            write_atomic(path, json.dumps(asdict(step)), durable=False)


def read_steps(bench: str) -> list[Step]:
    """Return the steps that run on a bench now, of each tenant one; not those whose process has ended."""
    found = []
    for path in sorted(bench_dir(bench).glob("step*.json")):
        with suppress(OSError, ValueError, TypeError):
            found.append(Step(**json.loads(path.read_text(encoding="utf-8"))))
    return [step for step in found if not is_gone(step.pid, step.start_ticks)]


def read_step(bench: str) -> Step | None:
    """Return the first of the steps that run on a bench now; None when there is none."""
    return next(iter(read_steps(bench)), None)
