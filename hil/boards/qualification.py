"""Bringing a board in: the conformance suite on one board, with what the board is and how long it takes.

The result is a plain document (JSON) that somebody signs for; ``hil.report.qualification`` makes a page of it.
"""

from __future__ import annotations

import inspect
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal
from unittest import SkipTest

from hil.boards.capabilities import BootBudgets, Feature, Inspectable, lacks
from hil.boards.conformance import BoardConformance, running
from hil.boards.console.boot_stages import StageReader
from hil.boards.protocol import Board, Identity
from hil.core.command import StepView
from hil.errors import ConfigurationError, DeviceError, HilError

CYCLES = 3
SCHEMA = 1
BOOT_DEADLINE_S = 60.0
FIRMWARE_STAGES = ("mb1", "mb2", "optee", "uefi")
BOOTS_IN_SUITE = 11
"""How often the suite starts the board: what is left when the power cycles have been timed."""
DATA_DIRS = ("/data", "/var/tmp")
"""Where files that survive a power cut go: a data partition, or what every Linux has."""
Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "SKIPPED"]


@dataclass(frozen=True)
class Check:
    """One test of the suite."""

    name: str  # a sentence
    outcome: Outcome
    seconds: float
    said: str = ""  # why it did not pass
    remedy: str = ""


@dataclass(frozen=True)
class Cycle:
    """One power cycle."""

    off_on_s: float  # the supervisor's reset, until power is there again
    boot_s: float  # from then until the OS answered over SSH


@dataclass(frozen=True)
class Qualification:
    """What is signed for."""

    board: str
    spacecraft: str
    fidelity: str
    by: str
    bench: str
    started_utc: str
    took_s: float
    identity: dict[str, str]
    firmware: dict[str, str]
    trips: list[dict[str, Any]]
    rails: list[str]
    notes: list[str]  # what the board does not tell
    cycles: list[Cycle]
    checks: list[Check] = field(default_factory=list)
    wiring: dict[str, str] = field(default_factory=dict)  # by which cable it is reached
    suite: int = 0  # how many checks there are
    schema: int = SCHEMA

    @property
    def outcome(self) -> Outcome:
        """FAIL is the board's; a bench at fault, or a check that was left out, leaves it undecided.

        A check of what the board's driver says that it lacks is SKIPPED, with the reason, and decides nothing.
        """
        outcomes = {check.outcome for check in self.checks} - {"SKIPPED"}
        if "FAIL" in outcomes:
            return "FAIL"
        return "PASS" if outcomes == {"PASS"} and len(self.checks) >= self.suite else "INCONCLUSIVE"

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        boots = [cycle.boot_s for cycle in self.cycles]
        resets = [cycle.off_on_s for cycle in self.cycles]
        return {
            **asdict(self),
            "outcome": self.outcome,
            "boot_s_median": round(median(boots), 2) if boots else None,
            "boot_s_max": round(max(boots), 2) if boots else None,
            "off_on_s_median": round(median(resets), 2) if resets else None,
        }


def qualify(
    board: Board,
    *,
    by: str,
    bench: str,
    only: Sequence[str] = (),
    view: StepView,
    wiring: Mapping[str, str] | None = None,
) -> Qualification:
    """Run the suite on a board; it is rebooted and cut off its power many times, and left on.

    ``only``: just the checks whose sentence holds one of these words; ConfigurationError when none does.  ``wiring``
    goes onto the page.  Ctrl-C ends it with what there is.  Raises what keeps the board from booting at all; every
    later fault is a check that did not pass.
    """
    suite = [name for name in vars(BoardConformance) if name.startswith("test_")]
    chosen = [name for name in suite if not only or any(w.lower() in sentence(name).lower() for w in only)]
    if not chosen:
        raise ConfigurationError(
            f"no check is about {' or '.join(only)}", remedy="\n    ".join(["checks:", *map(sentence, suite)])
        )
    started, begin = datetime.now(UTC), time.monotonic()
    deadline_s = board.boot_budget_s if isinstance(board, BootBudgets) else BOOT_DEADLINE_S
    with _step(view, "who it is"):
        who = running(board, deadline_s=deadline_s)
    absent = lacks(board)
    since = 0 if Feature.CONSOLE in absent else board.console.size()
    cycles = [] if Feature.POWER in absent else [_cycle(board, deadline_s, view, n + 1) for n in range(CYCLES)]
    with _step(view, "its particulars"):
        told = _particulars(board, board.identity())
        told["firmware"] |= {} if Feature.CONSOLE in absent else _firmware(board.console.log, since)
        notes: list[str] = told["notes"]
        notes += [f"no {feature}: {why}" for feature, why in absent.items()]
        data_dir = _data_dir(board)
    if not only and cycles:
        left_s = BOOTS_IN_SUITE * median(cycle.off_on_s + cycle.boot_s for cycle in cycles)
        view.note(f"{len(chosen)} checks will take about {max(1, round(left_s / 60))} min")
    facts = {"boot_deadline_s": deadline_s, "stock_os": who.image_sha256 == "", "data_dir": data_dir}
    checks: list[Check] = []
    try:
        for number, name in enumerate(chosen, 1):
            view.begin(f"[{number:2d}/{len(chosen)}] {sentence(name)}")
            checks.append(done := _check(board, name, facts))
            view.end(done.outcome, done.seconds)
    except KeyboardInterrupt:
        notes.append(f"ended by {by} after {len(checks)} of {len(chosen)} checks")
    if len(chosen) < len(suite):
        notes.append(f"only {len(chosen)} of {len(suite)} checks were asked for: {', '.join(only)}")
    try:
        with _step(view, "it is left on"):
            running(board, deadline_s=deadline_s)
    except HilError as exc:
        notes.append(f"it does not run after the last check: {exc.message.splitlines()[0]}")
    return Qualification(
        board=board.name,
        spacecraft=board.spacecraft,
        fidelity=str(board.fidelity),
        by=by,
        bench=bench,
        started_utc=started.isoformat(timespec="seconds"),
        took_s=round(time.monotonic() - begin, 1),
        **told,
        cycles=cycles,
        checks=checks,
        wiring=dict(wiring or {}),
        suite=len(suite),
    )


@contextmanager
def _step(view: StepView, name: str) -> Iterator[None]:
    begin = time.monotonic()
    view.begin(name)
    yield
    view.end("", time.monotonic() - begin)


def _cycle(board: Board, deadline_s: float, view: StepView, number: int) -> Cycle:
    view.begin(f"power cycle {number} of {CYCLES}")
    begin = time.monotonic()
    board.supervisor.reset()
    powered = time.monotonic()
    board.wait_booted(deadline_s=deadline_s)
    cycle = Cycle(round(powered - begin, 2), round(time.monotonic() - powered, 2))
    view.end(f"off and on {cycle.off_on_s:.1f} s, boot {cycle.boot_s:.1f} s", cycle.off_on_s + cycle.boot_s)
    return cycle


def _data_dir(board: Board) -> str:
    with board.shell() as shell:
        tests = (path for path in DATA_DIRS if shell.run(["test", "-d", path], check=False).returncode == 0)
        return next(tests, DATA_DIRS[-1])


def sentence(test: str) -> str:
    """Return the name of a test as a sentence."""
    words = test.removeprefix("test_").replace("_", " ")
    return words[:1].upper() + words[1:]


def _check(board: Board, name: str, facts: Mapping[str, Any]) -> Check:
    suite = type("Suite", (BoardConformance,), dict(facts))()
    test = getattr(suite, name)
    begin = time.monotonic()
    outcome: Outcome = "PASS"
    said = remedy = ""
    with tempfile.TemporaryDirectory(prefix="hil-qualify-") as scratch:
        fixtures = {"board": board, "tmp_path": Path(scratch)}
        try:
            test(**{word: fixtures[word] for word in inspect.signature(test).parameters})
        except SkipTest as exc:
            outcome, said = "SKIPPED", str(exc)
        except HilError as exc:
            outcome = "FAIL" if isinstance(exc, DeviceError) else "INCONCLUSIVE"
            said, remedy = exc.message, exc.remedy
        except AssertionError as exc:
            outcome, said = "FAIL", str(exc) or _line(exc)
        except Exception as exc:  # a check that breaks decides nothing, and the others still run
            outcome, said = "INCONCLUSIVE", f"{type(exc).__name__}: {exc}"
    return Check(sentence(name), outcome, round(time.monotonic() - begin, 2), said, remedy)


def _line(exc: AssertionError) -> str:
    """Return the assertion itself, where it says nothing."""
    last = traceback.extract_tb(exc.__traceback__)[-1]
    return last.line or "assertion failed"


def _particulars(board: Board, who: Identity) -> dict[str, Any]:
    """Return what the board tells: identity, firmware versions, trip points, rails; notes of what it does not."""
    identity = {
        "model": who.model,
        "serial": who.serial,
        "OS version": who.os_version,
        "image": who.image_sha256,
        "slot": who.slot,
    }
    told: dict[str, Any] = {"identity": identity, "firmware": {}, "trips": [], "rails": []}
    notes: list[str] = []
    told["notes"] = notes
    if not isinstance(board, Inspectable):
        notes.append("this driver reads no trip points and no rails")
        return told
    report = board.inspect()
    identity |= {"module": report.who.part, "TNSPEC": report.who.tnspec, "last reset": report.proof.why}
    versions = {"L4T": report.who.l4t, "JetPack": report.who.jetpack}
    told["firmware"] = {name: version for name, version in versions.items() if version}
    if not report.who.tnspec:
        notes.append("no TNSPEC: the module's EEPROM was not read by the flash tool of its OS")
    if not who.image_sha256:
        notes.append("its OS cannot say which image it runs from")
    try:
        provision = board.provision()
        if "tj" in provision.zones:  # every Orin has it; another kernel's zones are not the module's
            told |= {"trips": [asdict(trip) for trip in provision.trips], "rails": list(provision.rails)}
        else:
            notes.append("no trip points: its sysfs shows no thermal zone of an Orin")
    except DeviceError as exc:
        notes.append(f"no trip points: {exc.message}")
    return told


def _firmware(log: Path, since: int) -> dict[str, str]:
    """Return versions that the firmware prints on the console while it boots."""
    with log.open("rb") as file:
        file.seek(since)
        sightings = StageReader().feed(file.read(), 0.0)
    return {s.stage.value.upper(): s.groups[0] for s in sightings if s.stage.value in FIRMWARE_STAGES and s.groups}
