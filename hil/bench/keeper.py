"""The keeper: one process per bench that owns what needs a live process, and removes all of it at the end.

It brings the bench up, writes ``bench.json``, and then waits: for SIGTERM (``hil bench down``), or, when it is
tied to the process that started it, for the end of its standard input (that process ended, however it ended).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hil.bench import rootless_looking
from hil.bench.bring_up import BringUp
from hil.bench.journal import Journal, forget_old
from hil.bench.state import BenchState, bench_dir, hold, keeper_log, known_benches, lease_keys, pulse_file, write_state
from hil.core.files import write_atomic
from hil.core.log import log_file
from hil.core.processes import identify
from hil.errors import BenchError, HarnessError, HilError
from hil.lab.model import load_lab
from hil.leases.leases import Lease, Leases

_log = logging.getLogger(__name__)

PULSE_S = 0.5
STALL_S = 2.0
"""A pulse so late is noted as a stall: whoever reads it may have looked away meanwhile."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stop(SystemExit):
    """It was asked to end: no handler of errors takes it for one, and an event loop lets nothing else through.

    asyncio, on which netlink is done, keeps every other BaseException that a signal raises in a callback to itself.
    """


def main() -> int:
    """``python -m hil.bench.keeper --name N --lab FILE [--epoch TIME] [--tied]``."""
    parser = argparse.ArgumentParser(prog="hil-bench-keeper")
    parser.add_argument("--name", required=True)
    parser.add_argument("--lab", required=True, type=Path)
    parser.add_argument("--epoch", help="moment of the mission at which the bench starts, ISO 8601 UTC")
    parser.add_argument("--lease-wait-s", type=float, help="queue so long for boards that somebody else has")
    parser.add_argument("--tied", action="store_true", help="end when standard input ends")
    args = parser.parse_args()
    keeper = Keeper(args.name, args.lab, epoch=args.epoch, lease_wait_s=args.lease_wait_s, tied=args.tied)
    with log_file(keeper_log(args.name)):
        return keeper.run()


class Keeper:
    """See the module."""

    def __init__(self, name: str, lab_path: Path, *, epoch: str | None, lease_wait_s: float | None, tied: bool) -> None:
        self.tied = tied
        self.epoch = epoch
        self.lease_wait_s = lease_wait_s
        self.lab = load_lab(lab_path)
        self.problems: list[str] = []
        """Threads that ended with an error, and a schedule that could not be played."""
        self._pulsed_s = math.inf
        self._stall = (0.0, 0.0)
        """The last time that it stood still: for how long, and when it went on (CLOCK_MONOTONIC s)."""
        self.state = BenchState(
            name=name,
            lab_path=str(lab_path),
            keeper_pid=os.getpid(),
            status="starting",
            tied=tied,
            started_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            owner=str(identify(os.getppid()) or ""),
        )
        self.journal = Journal(name)

    def run(self) -> int:
        """Bring up, wait, take down; the process's exit code."""
        for number in STOP_SIGNALS:
            signal.signal(number, _asked_to_stop)
        threading.excepthook = self._thread_died
        with hold(self.state.name):
            forget_old({*known_benches(), self.state.name})
            try:
                if self.tied:
                    threading.Thread(target=_stop_at_end_of_stdin, daemon=True).start()
                with ExitStack() as stack:
                    lease = self._lease(stack)
                    BringUp(self.state.name, self.lab, self.epoch, stack, self._set, self.problems.append).run()
                    if looking := rootless_looking.serve(self.state.name):
                        stack.callback(looking.close)
                    self._pulse()
                    self._set(status="up", step="")
                    self.journal.note("bench", what=f"up, of {self.lab.file}")
                    while not lease.lost:
                        time.sleep(PULSE_S)
                        self._pulse()
                    self.journal.note("lease", what="freed by force: the bench goes down")
                    raise BenchError(
                        "the boards of this bench were freed by force and are somebody else's now",
                        remedy="see `hil lease list`, then bring the bench up again",
                    )
            except Stop:
                pass
            except Exception as exc:
                self.journal.note("bench", what=f"failed: {exc}")
                self._failed(exc)
                return 1
            self.journal.note("bench", what="down")
            self._set(status="down", step="")
            shutil.rmtree(bench_dir(self.state.name), ignore_errors=True)
            return 0

    def _lease(self, stack: ExitStack) -> Lease:
        """The right to use the boards: had before anything of theirs is touched, given back after everything."""
        lease = stack.enter_context(
            Leases().take(
                lease_keys(self.lab, self.state.name),
                purpose=f"bench {self.state.name}",
                wait_s=self.lease_wait_s,
                progress=lambda line: self._set(step=line),
            )
        )
        self._set(lease=lease.entry.name)
        return lease

    def _pulse(self) -> None:
        now_s = time.monotonic()
        if now_s - self._pulsed_s >= STALL_S:
            self._stall = now_s - self._pulsed_s, now_s
        self._pulsed_s = now_s
        pulse = {"mono_s": now_s, "stall": self._stall, "problems": self.problems}
        write_atomic(pulse_file(self.state.name), json.dumps(pulse), durable=False)

    def _thread_died(self, died: threading.ExceptHookArgs) -> None:
        name = died.thread.name if died.thread is not None else "unknown"
        self.problems.append(f"its thread {name} ended with {died.exc_type.__name__}: {died.exc_value}")
        threading.__excepthook__(died)

    def _set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        write_state(self.state)

    def _failed(self, exc: Exception) -> None:
        traceback.print_exc()
        told = exc if isinstance(exc, HilError) else HarnessError(f"{type(exc).__name__}: {exc}")
        self._set(status="failed", error={"blame": told.blame.value, "message": told.message, "remedy": told.remedy})


def _asked_to_stop(number: int, frame: object) -> None:
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # going down already: let that finish
    raise Stop


def _stop_at_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
