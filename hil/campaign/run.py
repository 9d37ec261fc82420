"""The beginning and the end of a campaign run, without pytest."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.core import paths
from hil.core.files import sha256_of
from hil.core.log import log_file
from hil.core.processes import this_process
from hil.errors import ConfigurationError
from hil.evidence.carriers import JUDGED
from hil.evidence.environment import host_facts, lab_facts
from hil.evidence.events import CollectedTest, Event, Measurement, RestartOrdered, RunCollected, RunEnded
from hil.evidence.fidelity_gaps import load_gaps
from hil.evidence.model import EXIT_CODE, EXIT_CONFIGURATION, Verdict
from hil.evidence.record import HISTORY, LAB, META, PLAN, RECORDED, Recorder, write_json
from hil.evidence.store import RUNS, Run, RunStore, counted
from hil.evidence.test_plan import Plan, load_plan
from hil.images.packages import read_wheels
from hil.images.rootfs import RECIPES

if TYPE_CHECKING:
    from hil.lab.model import Lab
    from hil.rollout.participants import Participants

HARNESS_LOG = "harness.log"

FIDELITY_GAPS = paths.PACKAGE / "evidence/fidelity_gaps.yaml"


class CampaignRecorder(Recorder):
    """A recorder that remembers what the current test is judged by: its measurements, and the state of the bench."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.taken: list[Measurement] = []
        self.about_bench: list[Event] = []
        self._ordered_s: dict[str, list[float]] = {}

    def measure(self, *args: Any, **options: Any) -> Measurement:
        measurement = super().measure(*args, **options)
        self.taken.append(measurement)
        return measurement

    def emit(self, event: Event, *, mono_s: float | None = None) -> None:
        if isinstance(event, JUDGED):  # also when it cannot be written
            self.about_bench.append(event)
        super().emit(event, mono_s=mono_s)
        if isinstance(event, RestartOrdered):
            self._ordered_s.setdefault(event.board, []).append(time.monotonic())

    def ordered_s(self, board: str) -> Sequence[float]:
        """Return when restarts of a board were ordered (CLOCK_MONOTONIC s)."""
        return self._ordered_s.get(board, ())


@dataclass
class CampaignRun:
    """One run of one plan: checked on construction, begun once, finished once."""

    folder: Path
    plan: Plan
    out: Path
    directory: Path
    lab: Lab | None
    bench: str
    tenant: str = ""
    participants: Participants | None = None
    unmet: Mapping[str, str] = field(default_factory=dict)
    """Conditions of requirements that this lab does not meet, with the reason."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    recorder: CampaignRecorder | None = None
    result: dict[str, Any] = field(default_factory=dict)
    report: Path | None = None
    exit_code: int | None = None
    log: ExitStack = field(default_factory=ExitStack)
    """Open while ``harness.log`` is written."""

    @classmethod
    def check(
        cls,
        folder: Path,
        *,
        lab: Lab | None = None,
        bench: str = "",
        tenant: str = "",
        run_id: str = "",
        out: Path | None = None,
        on: str = "",
        split: str = "",
        epoch: str = "",
        changes: Sequence[str] = (),
    ) -> CampaignRun:
        """Read plan, lab file and options; nothing is written.  ConfigurationError when anything is wrong.

        ``changes``: values of the plan's parameters, ``NAME=VALUE``.
        """
        plan = load_plan(folder)
        parameters = plan.parameters_with(changes)
        out = (out or paths.reports_out()).absolute()
        run_id = run_id or new_run_id(plan.id)
        if not paths.is_folder_name(run_id):
            raise ConfigurationError(f"--hil-run-id {run_id}: must be a plain folder name")
        directory = out / RUNS / run_id
        if directory.exists():
            raise ConfigurationError(f"--hil-run-id {run_id} exists already", remedy="runs are never overwritten")
        if bench and lab is not None:
            raise ConfigurationError("--hil-lab and --hil-bench exclude each other: a bench that is up has its lab")
        if tenant and not bench:
            raise ConfigurationError(
                f"--hil-tenant {tenant}: a tenant's run goes on a bench that others use, too",
                remedy="bring it up with `hil bench up`, and name it with --hil-bench",
            )
        lab = _lab_of(bench, tenant) if bench else lab
        run = cls(folder, plan, out, directory, lab, bench, tenant, parameters=parameters)
        if epoch:
            from hil.bench.orbit_clock import check_epoch

            if bench or run.lab is None:
                raise ConfigurationError(
                    "--hil-epoch is for a lab that this run brings up",
                    remedy="a bench that is up has its epoch: give it to `hil bench up`",
                )
            check_epoch(epoch, run.lab)
        if run.lab is not None:
            from hil.rollout.participants import choose

            run.participants = choose(run.lab, on, split)
            if plan.boards not in (None, len(run.participants.boards)):
                raise ConfigurationError(
                    f"{run.plan_path} is about {plan.boards} boards, and {len(run.participants.boards)} of lab "
                    f"{run.lab.name} take part ({run.participants.split})",
                    remedy="choose them with --hil-on and --hil-split, e.g. --hil-split 3+3 or 4+2",
                )
            run.unmet = _unmet(run.lab, run.participants)
            _refuse_without_features(run)
        elif on or split:
            raise ConfigurationError(
                "--hil-on and --hil-split choose boards of a lab", remedy="add --hil-lab FILE, or --hil-bench NAME"
            )
        return run

    @property
    def changed(self) -> str:
        """Return which parameters are not the plan's, in words; empty when all are."""
        own = self.plan.parameters
        differ = [
            f"{name} was {value:g} and not {own[name].value:g} {own[name].unit}".rstrip()
            for name, value in self.parameters.items()
            if value != own[name].value
        ]
        return ", ".join(differ)

    def usual_s(self) -> float | None:
        """Return how long whole runs of this plan on this lab usually take, seconds; None when none has ended."""
        from datetime import datetime
        from statistics import median

        past = RunStore(self.out).runs(plan=self.plan.id, lab=self.lab.name if self.lab else None, brief=True)
        took_s = [
            (datetime.fromisoformat(run.ended_utc) - datetime.fromisoformat(run.started_utc)).total_seconds()
            for run in past
            if run.verdict == Verdict.PASS and run.ended_utc
        ]
        return median(took_s) if took_s else None

    @property
    def plan_path(self) -> Path:
        return self.folder / "plan.yaml"

    def begin(self, tests: Iterable[CollectedTest], *, partial: str = "") -> CampaignRecorder:
        """Make the run directory, enter it into the store and record which tests were collected.

        ``partial`` says why this is not the whole campaign: such a run counts neither for nor against the plan.
        """
        meta: dict[str, Any] = {
            **host_facts(self.folder, *([self.lab.file.parent] if self.lab else [])),
            "plan": self.plan.id,
            "plan_title": self.plan.title,
            "plan_file": str(self.plan_path),
            "plan_sha256": sha256_of(self.plan_path),
            "tests_sha256": tests_sha256(self.folder),
            "bench": self.bench,
            "tenant": self.tenant,
            "partial": partial,
            "process": this_process(),
            "fidelity_gaps": [gap.model_dump(mode="json") for gap in load_gaps(FIDELITY_GAPS)],
            "board_packages": {wheel.name: wheel.version for wheel in read_wheels(RECIPES / "wheels.txt")},
        }
        if self.lab is not None:
            meta.update(lab_facts(self.lab, self.lab.file))
        if self.participants is not None:
            meta["participants"] = self.participants.facts()
        if self.parameters:
            meta["parameters"] = {
                name: {"value": self.parameters[name], "plan": own.value, "unit": own.unit, "text": own.text}
                for name, own in self.plan.parameters.items()
            }
        store = RunStore(self.out)
        store.rebuild()
        past, left_out = counted(store.runs(plan=self.plan.id, lab=meta.get("lab") or ""))
        recorder = self.recorder = CampaignRecorder.create(self.directory, meta)
        self.log.enter_context(log_file(self.directory / HARNESS_LOG))
        recorder.follow(self.directory / HARNESS_LOG, kind="log")
        write_json(self.directory / PLAN, self.plan.model_dump(mode="json", by_alias=True))
        releases = store.releases()
        earlier = [_past(run, meta) | {"release": releases.get(run.run_id, "")} for run in past]
        write_json(self.directory / HISTORY, {"runs": earlier, "left_out": left_out})
        if self.lab is not None:
            (self.directory / LAB).write_bytes(self.lab.file.read_bytes())
        store.start(json.loads((self.directory / META).read_text("utf-8")), self.directory)
        recorder.emit(RunCollected(tuple(tests)))
        return recorder

    def finish(self, *, interrupted: str = "", configuration_error: str = "") -> None:
        """Write the end of the run, its result and its report, and decide the exit code; once."""
        if self.recorder is None or self.exit_code is not None:
            return
        # Should anything below fail, the run has not shown what it was to show.
        self.exit_code = EXIT_CODE[Verdict.INCONCLUSIVE]
        recorded = {name: sha256_of(file) for name in RECORDED if (file := self.directory / name).is_file()}
        self.recorder.emit(RunEnded(interrupted, configuration_error, recorded))
        self.log.close()
        self.recorder.close()
        (self.directory / HARNESS_LOG).unlink(missing_ok=True)  # the artefact is its copy
        from hil.report.make import finish_run

        self.result, self.report = finish_run(self.directory, self.out)
        self.exit_code = EXIT_CODE[Verdict(self.result["verdict"])]
        if configuration_error:
            self.exit_code = EXIT_CONFIGURATION


def new_run_id(plan: str) -> str:
    """Return a name for a run that begins now."""
    return f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{plan}-{secrets.token_hex(2)}"


def _lab_of(bench: str, tenant: str) -> Lab:
    """Read the lab file of a bench that is up, as a tenant sees it if there is one."""
    from hil.bench.state import require_state
    from hil.lab.model import load_lab

    lab = load_lab(Path(require_state(bench).lab_path))
    return lab.as_seen_by(tenant) if tenant else lab


def tests_sha256(folder: Path) -> str:
    """Return one digest of everything that decides what a campaign demonstrates: its plan and its Python files."""
    total = hashlib.sha256()
    for file in sorted(f for f in folder.rglob("*") if f.suffix in (".py", ".yaml", ".toml", ".ini") and f.is_file()):
        total.update(f"{file.relative_to(folder)}\0{sha256_of(file)}\n".encode())
    return total.hexdigest()


def _past(run: Run, meta: dict[str, Any]) -> dict[str, Any]:
    """Return a stored run as ``history.json`` has it."""
    boards = (meta.get("participants") or {}).get("boards") or []
    same = (
        run.plan_sha256 == meta["plan_sha256"]
        and run.lab_sha256 == (meta.get("lab_sha256") or "")
        and run.summary.get("boards", boards) == boards  # runs before this was kept do not say
        and run.summary.get("tests_sha256") == meta["tests_sha256"]
    )
    names = ("run_id", "started_utc", "state", "verdict", "commit", "engine")
    return {
        **{name: getattr(run, name) for name in names},
        "same_inputs": same,
        "requirements": run.summary.get("requirements", {}),
        "measurements": run.summary.get("measurements", {}),
    }


def _refuse_without_features(run: CampaignRun) -> None:
    """Raise ConfigurationError for a feature that the plan needs and there is not, or that a board lacks."""
    from hil.boards.capabilities import Feature
    from hil.boards.kinds import kind_of

    if unknown := [name for name in run.plan.needs if name not in [*Feature]]:
        raise ConfigurationError(
            f"{run.plan_path}: needs: there is no feature {', '.join(unknown)}",
            remedy=f"features: {', '.join(Feature)}",
        )
    assert run.lab is not None and run.participants is not None
    taking_part = [board for board in run.lab.boards if board.name in run.participants.boards]
    lacking = {board.name: kind_of(board).lacks(board) for board in taking_part if run.plan.needs}
    faults = [
        f"board {name} has no {need}, which {run.plan_path} needs: {why}"
        for name, lacks in lacking.items()
        for need in run.plan.needs
        if (why := lacks.get(Feature(need)))
    ]
    if faults:
        raise ConfigurationError(
            "\n".join(faults), remedy="choose other boards with --on and --split, or complete the lab file"
        )


def _unmet(lab: Lab, participants: Participants) -> dict[str, str]:
    """Return the conditions of ``Requirement.when`` that do not hold, each with the reason."""
    from hil.rollout.participants import second_way

    reasons: dict[str, str] = {}
    if second_way(lab, participants) is None:
        between = " and ".join(participants.spacecraft)
        reasons["detour"] = f"lab {lab.name} has no second way between {between}"
    if not participants.others:
        reasons["uninvolved_boards"] = f"every board of lab {lab.name} takes part"
    if lab.orbit is None:
        reasons["orbit"] = f"the links of lab {lab.name} are fixed; they follow no orbit"
    return reasons
