"""The campaign that runs now, worked out from its evidence as it is written: what a dashboard shows."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hil.core.processes import is_alive
from hil.evidence.events import (
    BenchDiffers,
    BenchLost,
    BenchRetried,
    BoardBooted,
    BoardPower,
    Event,
    FaultHealed,
    FaultInjected,
    LinkCommanded,
    LinkCut,
    LinkRestored,
    RolloutStep,
    RunCollected,
    RunEnded,
    RunJudged,
    TestEnded,
    TestStarted,
    WatchClaim,
    WatchViolation,
    from_record,
)
from hil.evidence.readback import read_meta
from hil.evidence.record import EVIDENCE, META
from hil.evidence.store import RUNS
from hil.evidence.twin import TwinSample
from hil.text import one_line

POLL_S = 0.2
MOST_LINES = 30
"""Of what happened last."""
MOST_FAULTS = 50
CHUNK = 4_000_000
"""Bytes of evidence that are read at a time."""


class LiveRun:
    """One run as its evidence describes it so far."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.meta = read_meta(directory / META)[0]
        self._mono_start_s = self.meta.get("mono_start_s") or 0.0
        self._offset = 0
        self._rest = b""
        self.state: dict[str, Any] = {
            "run": directory.name,
            **{name: self.meta.get(name) or "" for name in ("plan", "plan_title", "lab", "started_utc", "fidelity")},
            "state": "running",
            "verdict": "",
            "steps": {},
            "boards": {
                name: {"spacecraft": board.get("spacecraft") or "", "kind": board.get("fidelity") or ""}
                for name, board in (self.meta.get("boards") or {}).items()
            },
            "links": {
                name: {"between": list(link.between), "kind": link.kind, "state": "up"}
                for name, link in (self.meta.get("links") or {}).items()
            },
            "faults": [],
            "log": [],
        }

    def read(self) -> bool:
        """Read what was written since; True when anything changed."""
        before = (self.state["state"], self._offset)
        try:
            with (self.directory / EVIDENCE).open("rb") as file:
                file.seek(self._offset)
                while chunk := file.read(CHUNK):
                    self._offset += len(chunk)
                    *lines, self._rest = (self._rest + chunk).split(b"\n")
                    for line in lines:
                        self._line(line)
        except OSError:
            pass  # not written yet, or deleted
        if self.state["state"] == "running" and not is_alive(self.meta.get("process") or {}):
            self.state["state"] = "crashed"
        return before != (self.state["state"], self._offset)

    def _line(self, line: bytes) -> None:
        try:
            event = from_record(json.loads(line), self._mono_start_s)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return
        self._take(event)

    def _take(self, event: Event) -> None:
        state = self.state
        match event:
            case RunCollected():
                state["steps"] |= {
                    t.test: {"title": t.title or t.test, "verdict": ""} for t in event.tests if t.selected
                }
            case TestStarted():
                self._step(event.test, verdict="running", since_s=event.t_s)
            case TestEnded():
                verdict = "repeated" if event.retried else event.verdict
                self._step(event.test, verdict=verdict, seconds=event.duration_s, why=one_line(event.message, 200))
            case BoardPower():
                self._board(event.board, power=event.action)
            case BoardBooted():
                self._board(event.board, power="on", slot=event.slot, os=event.os_version)
            case RolloutStep():
                done = "" if event.phase == "start" else " done" if event.ok else " failed"
                self._board(event.board, step=f"{event.step}{done}")
            case WatchClaim():
                self._board(event.board, epoch=event.epoch)
            case TwinSample():
                for name, heat in event.boards.items():
                    self._board(name, junction_c=round(heat.junction_c, 1), held_by=heat.binding)
            case LinkCut():
                self._link(event.link, "cut")
            case LinkRestored():
                self._link(event.link, "up")
            case LinkCommanded():
                self._link(event.link, "set by hand")
            case FaultInjected():
                fault = {"what": event.what, "target": event.target, "proof": event.proof, "healed": False}
                state["faults"] = [*state["faults"], fault][-MOST_FAULTS:]
            case FaultHealed():
                for fault in state["faults"]:
                    fault["healed"] |= (fault["what"], fault["target"]) == (event.what, event.target)
            case RunEnded():
                state["state"] = "finished"
            case RunJudged():
                state["verdict"] = event.verdict
        if said := _said(event):
            state["log"] = [*state["log"], {"t_s": round(event.t_s, 1), "text": one_line(said, 240)}][-MOST_LINES:]

    def _step(self, test: str, **facts: Any) -> None:
        self.state["steps"].setdefault(test, {"title": test}).update(facts)

    def _board(self, name: str, **facts: Any) -> None:
        self.state["boards"].setdefault(name, {"spacecraft": ""}).update(facts)

    def _link(self, name: str, state: str) -> None:
        self.state["links"].setdefault(name, {"between": []})["state"] = state


def _said(event: Event) -> str:
    """Return one line about an event that a person who watches wants to see; empty for the others."""
    match event:
        case LinkCut():
            return f"{event.link} is cut"
        case LinkRestored():
            return f"{event.link} is up again"
        case BoardPower():
            return f"{event.board}: power {event.action}"
        case BoardBooted():
            return f"{event.board} runs {event.os_version or 'its OS'} in slot {event.slot or '?'}"
        case FaultInjected():
            return f"fault: {event.what} {event.target} {event.proof}".rstrip()
        case FaultHealed():
            return f"healed: {event.what} {event.target}".rstrip()
        case BenchDiffers() | BenchLost():
            return f"bench: {event.part}: {event.what}"
        case BenchRetried():
            return f"repeated: {event.what}: {event.error}"
        case WatchViolation():
            return f"violation: {event.what} {event.detail}"
        case RolloutStep(phase="end"):
            return f"{event.board}: {event.step} {'done' if event.ok else 'failed'}"
        case TestEnded(retried=False):
            return f"{event.verdict}: {event.test.rpartition('::')[2]}"
    return ""


class Follower(AbstractContextManager["Follower"]):
    """Follows the newest run of a reports folder in a thread; viewers wait for the next version of its state."""

    def __init__(self, out: Path, *, poll_s: float = POLL_S) -> None:
        self._runs = out / RUNS
        self._poll_s = poll_s
        self._seen = 0
        self._run: LiveRun | None = None
        self._changed = threading.Condition()
        self._version, self._document = 0, b"{}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="live-run", daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(timeout=5)

    @property
    def process(self) -> Mapping[str, Any]:
        """The process of the run that is shown, while it runs; empty otherwise."""
        run = self._run
        return dict(run.meta.get("process") or {}) if run is not None and run.state["state"] == "running" else {}

    def latest(self) -> bytes:
        """Return the state as JSON."""
        return self._document

    def versions(self, *, beat_s: float = 10.0) -> Iterator[bytes]:
        """Yield each state as JSON, the present one first; after ``beat_s`` without a new one yield nothing (empty)."""
        seen = -1
        while not self._stop.is_set():
            with self._changed:
                if self._version == seen:
                    self._changed.wait(beat_s)
                fresh, seen, document = self._version != seen, self._version, self._document
            yield document if fresh else b""

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_s):
            begun = self._newest()
            if self._run is not None and (self._run.read() or begun):
                document = json.dumps({**self._run.state, "now": time.time()}).encode()
                with self._changed:
                    self._version, self._document = self._version + 1, document
                    self._changed.notify_all()

    def _newest(self) -> bool:
        """Turn to a run that began; True when there is another one."""
        try:
            changed = self._runs.stat().st_mtime_ns
            if changed == self._seen:
                return False
            metas = [(path.stat().st_mtime_ns, path.parent) for path in self._runs.glob(f"*/{META}")]
        except OSError:
            return False
        if not metas:
            return False
        directory = max(metas)[1]
        # A directory is there a moment before its run.json: look again until the folder has been quiet for a second.
        if time.time_ns() - changed > 1_000_000_000:
            self._seen = changed
        if self._run is not None and self._run.directory == directory:
            return False
        self._run = LiveRun(directory)
        return True
