"""On two boards: every fault bites and is healed, its proof fails when it does nothing, and a short series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.bench.bench import Bench
from hil.core import paths
from hil.evidence import carriers
from hil.evidence.model import Verdict
from hil.faults.bit_kinds import Damaged
from hil.faults.crash_kinds import Hang, KernelPanic
from hil.faults.fault import Injection, Outcome
from hil.faults.os_kinds import ConsoleFlood, Scripted, SshdGone
from hil.faults.power_kinds import PowerGlitch
from hil.lab.model import load_lab
from hil.testing.fakes import ListSink
from hil.trials.page import PAGE
from hil.trials.profile import load_profile
from hil.trials.run import Runner, go_on
from hil.trials.series import Series, SeriesFacts

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

LAB = paths.ROOT / "tests/data/two_boards.yaml"
ON_LINKS = [
    *(("link-flap", "isl-ab"), ("link-corrupt", "isl-ab"), ("link-reorder", "isl-ab"), ("spacecraft-dark", "sc-b"))
]
ON_BOARDS = [
    *("service-killed", "service-frozen", "service-slow", "sshd-gone", "memory-full", "console-flood", "data-full"),
    *("flip-slot", "torn-slot", "hang", "kernel-panic", "data-read-only", "power-glitch"),
]
PARAMETERS: dict[str, dict[str, float]] = {"sshd-gone": {"for_s": 2.0}, "console-flood": {"for_s": 3.0}}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(LAB, sink=ListSink()) as up:
        yield up


@pytest.mark.parametrize(("name", "target"), [*ON_LINKS, *((name, "b1") for name in ON_BOARDS)])
def test_every_fault_bites_and_what_it_hit_comes_back(bench: Bench, name: str, target: str) -> None:
    injection = Injection(name, bench, target, PARAMETERS.get(name, {}))
    try:
        assert injection.begin().outcome is Outcome.CONFIRMED, injection.proof
    finally:
        injection.end()
    assert bench.boards["b1"].wait_booted(deadline_s=30)
    assert all(link.a_to_b.agrees and link.b_to_a.agrees and link.up for link in bench.links.show())


@pytest.mark.parametrize("name", ["service-frozen", "console-flood", "data-full", "flip-slot", "hang", "sshd-gone"])
def test_the_proof_fails_when_the_fault_does_nothing(bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scripted, "bite", lambda self, board, values: "1")
    monkeypatch.setattr(Damaged, "bite", lambda self, board, path, source, values: [])
    for kind in (ConsoleFlood, SshdGone):
        monkeypatch.setattr(kind, "bite", lambda self, board, values: None)
    for crash in (KernelPanic, Hang):
        monkeypatch.setattr(crash, "bite", lambda self, board: None)
    monkeypatch.setattr(PowerGlitch, "cut", lambda self, board, values: None)
    injection = Injection(name, bench, "b1", {})
    try:
        assert injection.begin().outcome is Outcome.MISMATCH, injection.proof
    finally:
        injection.end()


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
