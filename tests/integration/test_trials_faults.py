"""On two boards: every fault bites and is healed, its proof fails when it does nothing, and a short series."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hil.bench.bench import Bench
from hil.boards.container.board import ContainerSupervisor
from hil.boards.protocol import Board
from hil.core import kinds, paths
from hil.evidence import carriers
from hil.evidence.model import Verdict
from hil.faults import bench_kinds, power_kinds
from hil.faults.bench_kinds import PartFrozen
from hil.faults.bit_kinds import ARTEFACTS, Damaged
from hil.faults.clock_kinds import ClockMoved
from hil.faults.crash_kinds import Hang, KernelPanic, WatchdogReset
from hil.faults.fault import Injection, Outcome, injected
from hil.faults.link_kinds import LinksHeld, LinksMoved
from hil.faults.os_kinds import ConsoleFlood, MemoryFull, Scripted, SshdGone
from hil.faults.power_kinds import PowerGlitch
from hil.faults.update_kinds import OlderBundleOffered
from hil.lab.model import load_lab
from hil.onboard.boot_control import Variables
from hil.rollout.updaters.declaration import load_adapter
from hil.rollout.updaters.declared import RAUC, DeclaredAdapter
from hil.rollout.updaters.protocol import InstallFailed
from hil.testing.fakes import ListSink
from hil.trials.page import PAGE
from hil.trials.profile import load_profile
from hil.trials.run import Runner, go_on
from hil.trials.series import Series, SeriesFacts

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

LAB = paths.ROOT / "tests/data/two_boards.yaml"
TARGETS = {
    **dict.fromkeys(("swizzle",), "two-boards"),
    **dict.fromkeys(("spacecraft-dark", "spacecraft-lost"), "sc-b"),
    "ground-lost": "gs-1",
    "bench-part-frozen": "keeper",
}
"""By kind, what it hits here: else the crosslink, or board b1."""
ELSEWHERE = {
    "contact-gap": "tests/integration/test_rollout_gap.py",
    "bench-part-killed": "tests/integration/test_faults_bench.py",
    "bench-clock-jump": "tests/unit/faults/test_clock_kinds.py",
    "bench-disks-full": "tests/integration/test_faults_bench.py",
}
"""Kinds that need another bench than this one: with an orbit, to lose, in a process or on a disk of its own."""
KINDS = [name for name in kinds.names(kinds.FAULTS) if name not in ELSEWHERE]
PARAMETERS: dict[str, dict[str, float]] = {
    **{"sshd-gone": {"for_s": 2.0}, "console-flood": {"for_s": 3.0}, "boot-cut": {"within_s": 0.0}},
    "swizzle": {"step_s": 0.05},
}
SAME_STEP = ("clock-1970", "clock-2038", "clock-strobe")
"""Kinds that bite by the step of clock-bump; their proofs without it are in tests/unit/faults/test_clock_kinds.py."""
ARTEFACT_OF = {"flip-bundle": "os", "flip-model": "model"}
UNSYNCED = "/data/conformance-unsynced"


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(LAB, sink=ListSink()) as up:
        yield up


def _injection(bench: Bench, name: str) -> Injection:
    link = "isl-ab" if name.startswith("link-") else "b1"
    return Injection(name, bench, TARGETS.get(name, link), PARAMETERS.get(name, {}))


@pytest.mark.parametrize("name", KINDS)
def test_every_fault_bites_is_not_confirmed_when_it_does_nothing_and_heals(
    bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in ARTEFACT_OF:
        _put_artefact(bench.boards["b1"], ARTEFACT_OF[name])
    if name == "watchdog-reset":  # or it takes 15 s
        board: Any = bench.boards["b1"]
        Variables(board.spec.nv_dir / "vars").set_number("WatchdogTimeoutMs", 4000)
    if name not in SAME_STEP:
        _is_not_confirmed_without_its_bite(bench, name, monkeypatch)
    injection = _injection(bench, name)
    try:
        assert injection.begin().outcome is Outcome.CONFIRMED, injection.proof
    finally:
        injection.end()
    assert bench.boards["b1"].wait_booted(deadline_s=30)
    assert all(link.a_to_b.agrees and link.b_to_a.agrees and link.up for link in bench.links.show())


def _is_not_confirmed_without_its_bite(bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as idle:
        _do_nothing(idle)
        if name in ("power-cut", "spacecraft-lost"):  # others restart a board with it, and bite otherwise
            idle.setattr(ContainerSupervisor, "cut", lambda self: None)
        injection = _injection(bench, name)
        try:
            assert injection.begin().outcome is Outcome.MISMATCH, injection.proof
        finally:
            injection.end()


def _put_artefact(board: Board, kind: str) -> None:
    """Leave an artefact as a rollout does; the node service sets this one aside when it starts again."""
    folder = f"{ARTEFACTS}/conformance"
    with board.shell() as shell:
        shell.run(["rm", "-rf", folder])
        shell.run(["mkdir", "-p", folder])
        shell.write(f"{folder}/manifest.json", f'{{"kind": "{kind}"}}'.encode())
        shell.write(f"{folder}/data", bytes(range(256)) * 256)


def _do_nothing(idle: pytest.MonkeyPatch) -> None:
    """Take from every kind the step with which it bites; what is around that stays."""
    idle.setattr(Scripted, "bite", lambda self, board, values: "1")
    idle.setattr(MemoryFull, "bite", lambda self, board, values: "1")
    idle.setattr(Damaged, "bite", lambda self, board, path, source, values: [])
    idle.setattr(ClockMoved, "bite", lambda self, board, off_s, half_s: None)
    idle.setattr(PartFrozen, "bite", lambda self, pids: None)
    idle.setattr(bench_kinds, "EFFECT_S", 0.1)
    idle.setattr(OlderBundleOffered, "bite", lambda self, adapter, bundle: None)
    for links in (LinksHeld, LinksMoved):
        idle.setattr(links, "command", lambda *args: None)
    for kind in (ConsoleFlood, SshdGone):
        idle.setattr(kind, "bite", lambda self, board, values: None)
    for crash in (KernelPanic, Hang):
        idle.setattr(crash, "bite", lambda self, board: None)
    for awaited in (KernelPanic, WatchdogReset):
        idle.setattr(awaited, "within_s", 0.5)
    idle.setattr(power_kinds, "START_S", 0.5)
    idle.setattr(PowerGlitch, "cut", lambda self, board, values: None)


def test_what_was_not_on_disk_is_lost_in_a_panic(bench: Bench) -> None:
    board = bench.boards["b1"]
    for _ in range(3):  # boards share a kernel: another one's `sync` may save this one's data
        with board.shell() as shell:
            shell.run(["sh", "-c", f"rm -f {UNSYNCED}; sync"])
            shell.write(UNSYNCED, b"x" * 100_000)
        with injected("kernel-panic", bench, "b1"):
            pass
        with board.shell() as shell:
            if shell.run(["cat", UNSYNCED], check=False).stdout != "x" * 100_000:
                return
    pytest.fail("what was never synced was there every time")


def test_a_board_that_believes_it_is_1970_can_install_nothing_and_has_refused_nothing(bench: Bench) -> None:
    board, bundle, place = bench.boards["b1"], bench.images.bundles.os_v2, "/data/conformance.bundle"
    with board.shell() as shell:
        shell.push(bundle.path, place)
    with closing(DeclaredAdapter(load_adapter(RAUC), board.name, board.shell)) as adapter:
        with (
            injected("clock-1970", bench, "b1"),
            pytest.raises(InstallFailed, match="CRL is not yet valid; no refusal"),
        ):
            adapter.install(place, sha256=bundle.sha256)
        adapter.install(place, sha256=bundle.sha256)


def test_a_short_series_finds_its_canary_and_says_what_it_shows(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carriers, "CROWD", 40.0)  # other tests run beside this one, and the canary must be judged
    profile = load_profile("links")
    facts = SeriesFacts(
        id="short",
        started_utc="20261129T120000Z",
        seed=3,
        lab="two-boards",
        lab_sha256="",
        commit="",
        rule="count",
        most=1,
        goal=None,
        failures=0,
        profile=profile.model_dump(mode="json", by_alias=True),
    )
    series = Series.create(tmp_path / "short", facts)
    said: list[str] = []
    with Runner(load_lab(LAB), profile, kept=bench.name, tell=said.append) as runner:
        standing = go_on(series, runner, said=said.append)
    assert standing.canary == Verdict.FAIL.value, said
    # A busy host makes a trial INCONCLUSIVE; a FAIL of the reference OS is never right.
    assert standing.failures == 0 and standing.passes + standing.inconclusive >= 1, said
    assert "canary" in (series.folder / PAGE).read_text("utf-8")
