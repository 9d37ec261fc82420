"""``--hil-resume RUN``: what passed in an earlier run on a bench that is still up, and unchanged, is taken over."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hil.core.files import sha256_of
from hil.core.processes import boot_id, identify
from hil.errors import ConfigurationError, HilError
from hil.evidence.model import Verdict
from hil.evidence.readback import RunRecord, TestOutcome
from hil.evidence.store import get_run

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.protocol import Board
    from hil.campaign.run import CampaignRun

BENCH_LEFT = "bench_left"
"""Key of ``run.json``: the bench as the run left it (:func:`state_of`); only of a kept bench."""
PARALLEL = 8
SILENT = "silent"
FRESH = "run it without --resume, from the beginning"


@dataclass(frozen=True)
class Earlier:
    """The run that is resumed."""

    run_id: str
    left: dict[str, Any]
    """The bench as it left it."""
    passed: dict[str, TestOutcome]

    @classmethod
    def of(cls, run: CampaignRun, word: str) -> Earlier:
        """Read the run that is to be resumed.

        ConfigurationError when it is not of this plan, lab, boards and bench, or no test of it passed.
        """
        if not run.bench:
            raise ConfigurationError(
                "--hil-resume goes on where a kept bench was left",
                remedy="add --hil-bench NAME; `hil bench up` keeps one",
            )
        directory = get_run(word, run.out).directory
        record = RunRecord.load(directory)
        if record.state == "running":
            raise ConfigurationError(f"run {record.run_id} still runs", remedy="resume it when it has ended")
        meta = record.meta
        for what, then, now in (
            ("plan", meta.get("plan_sha256"), sha256_of(run.plan_path)),
            ("lab file", meta.get("lab_sha256"), sha256_of(run.lab.file) if run.lab else None),
            ("bench", meta.get("bench"), run.bench),
            ("choice of boards", _boards(meta), list(run.participants.boards) if run.participants else []),
            ("choice of parameters", _parameters(meta), dict(run.parameters)),
        ):
            if then != now:
                raise ConfigurationError(f"run {record.run_id} was made with another {what}", remedy=FRESH)
        if not isinstance(left := meta.get(BENCH_LEFT), dict):
            raise ConfigurationError(f"run {record.run_id} does not say how it left its bench", remedy=FRESH)
        passed = {each.test: each for each in record.outcomes if each.verdict is Verdict.PASS}
        if not passed:
            raise ConfigurationError(f"no test of run {record.run_id} passed", remedy=FRESH)
        return cls(record.run_id, left, passed)

    def taken_over(self, tests: Sequence[tuple[str, str, Sequence[str]]]) -> dict[str, str]:
        """Return, of ``(test, step, needs)`` in order, the tests that need not run, each with the run that it is from.

        A test passed then, and so did every step that it needs.
        """
        failed_steps = {step for test, step, _ in tests if test not in self.passed}
        found: dict[str, str] = {}
        for test, step, needs in tests:
            if test not in self.passed or failed_steps & set(needs):
                failed_steps.add(step)
                continue
            found[test] = self.passed[test].taken_over or self.run_id
        return found

    def check(self, bench: Bench) -> None:
        """Raise ConfigurationError when the bench is not as the earlier run left it."""
        now = state_of(bench)
        for part in ("bench", "boards", "links"):
            then = self.left.get(part)
            if then == now[part]:
                continue
            changed = part
            if isinstance(then, dict) and isinstance(now[part], dict):
                changed = ", ".join(n for n in {**then, **now[part]} if then.get(n) != now[part].get(n))
            raise ConfigurationError(
                f"bench {bench.name} is not as run {self.run_id} left it: {changed} changed since", remedy=FRESH
            )


def state_of(bench: Bench) -> dict[str, Any]:
    """Return what tells whether a bench is the same, and unchanged: its keeper, boots of boards, links cut by hand."""
    keeper = identify(bench.state.keeper_pid)
    with ThreadPoolExecutor(PARALLEL) as pool:
        boots = list(pool.map(_boot_of, bench.boards.values()))
    return {
        "bench": f"{bench.name} {keeper} {boot_id()}",
        "boards": dict(zip(bench.boards, boots, strict=True)),
        "links": dict.fromkeys(sorted(bench.links.cut_links()), "cut"),
    }


def _boot_of(board: Board) -> str:
    with suppress(HilError, OSError, EOFError):
        return board.identity().boot_id
    return SILENT


def _boards(meta: Any) -> list[str]:
    return list((meta.get("participants") or {}).get("boards") or [])


def _parameters(meta: Any) -> dict[str, Any]:
    return {name: facts.get("value") for name, facts in (meta.get("parameters") or {}).items()}
