"""Whose a bench is: who may change it, who is refused with the holder's name, and what --force leaves behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from hil.bench.journal import Journal
from hil.bench.ownership import Me, may_change, may_take_down, others, up_already, usually_done, what_is_free
from hil.bench.state import BenchState, lease_keys, write_state
from hil.cli.lease import board_keys
from hil.core import paths
from hil.core.processes import current
from hil.lab.model import load_lab
from hil.leases.leases import Leases, LeaseTaken
from tests.kits.fake_bench import LAB, bench_state
from tests.kits.lease_store import HERE, entry

KEYS = frozenset({"six/a1", "six/b1"})
ANNA = Me("anna", frozenset({"10:0", "11:0"}), "", HERE)
BOB = Me("bob", frozenset({"20:0"}), "", HERE)
KEPT = replace(bench_state("six"), lease="1:0")
TIED = replace(KEPT, tied=True, owner="10:0")


def names(found: list[object]) -> list[int]:
    return [getattr(each, "id", 0) for each in found]


def refused(me: Me, state: BenchState, *, run: int = 0, by_name: bool = False) -> list[int]:
    """The leases that stand in ``me``'s way; ``run``: pid of anna's run on the bench, 0 when there is none."""
    bench = replace(entry(1, *KEYS, holds=True), pid=5)
    inner = replace(entry(2, *KEYS, holds=True, within=1), pid=run)
    return names([*others([bench, inner] if run else [bench], KEYS, state, me, by_name=by_name)])


def test_a_kept_bench_is_its_persons_and_a_run_on_it_that_runs() -> None:
    assert (refused(ANNA, KEPT), refused(BOB, KEPT)) == ([], [1])
    assert refused(BOB, KEPT, run=20) == []  # his own run, within anna's bench
    assert refused(BOB, KEPT, run=11) == [2]
    assert refused(replace(ANNA, processes=frozenset({"99:0"})), KEPT, run=11) == [2]  # her other terminal
    assert refused(replace(ANNA, processes=frozenset({"99:0"})), KEPT, run=11, by_name=True) == []


def test_a_bench_that_a_run_brought_up_is_that_runs() -> None:
    assert (refused(ANNA, TIED), refused(BOB, TIED)) == ([], [1])
    assert refused(replace(ANNA, processes=frozenset({"99:0"})), TIED) == [1]


def test_who_works_within_the_lease_is_not_refused() -> None:
    assert refused(replace(BOB, lease="1:0"), KEPT) == [] == refused(replace(BOB, lease="2:0"), KEPT, run=11)
    assert refused(replace(BOB, lease="1:0"), KEPT, run=11) == [2]


def test_only_the_boards_concerned_count() -> None:
    person = replace(entry(7, "six/a1", holds=True), by_person=True)
    assert names([*others([person], frozenset({"six/a1"}), KEPT, BOB)]) == [7]
    assert not others([person], frozenset({"six/a1"}), KEPT, ANNA)
    assert not others([person], frozenset({"six/b1"}), KEPT, BOB)
    assert not others([entry(8, "six/b1")], frozenset({"six/b1"}), KEPT, BOB)  # it only waits


def test_container_boards_of_two_hosts_that_share_a_store_are_different_boards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIL_LEASES", raising=False)
    lab = load_lab(LAB)
    assert lease_keys(lab, "six")[0] == "six/a1"
    monkeypatch.setenv("HIL_STORE", "postgresql://hil@db/hil")
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(nodename="Controller_1.lab"))
    assert lease_keys(lab, "six")[0] == "six-on-controller-1-lab/a1"
    assert board_keys(("a1",), LAB) == [f"{lab.lease_scope}-on-controller-1-lab/a1"]


@pytest.fixture
def annas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchState:
    """A bench that anna keeps up; this process is bob's."""
    monkeypatch.setenv("HIL_HOME", str(tmp_path))
    monkeypatch.setenv("HIL_RUN", str(tmp_path / "run"))
    monkeypatch.delenv("HIL_LEASES", raising=False)
    monkeypatch.delenv("HIL_LEASE", raising=False)
    monkeypatch.setenv("SUDO_USER", "bob")
    lease = Leases().reserve(lease_keys(load_lab(LAB), "six"), holder="anna", purpose="bench six")
    state = replace(bench_state("six"), lease=lease.name)
    write_state(state)
    return state


def test_a_refusal_names_the_holder_and_force_is_written_down(annas: BenchState) -> None:
    lab = load_lab(LAB)
    with pytest.raises(
        LeaseTaken, match=r'b3: power cut: refused.*\n.*six/b3 is held by anna.*for "bench six"'
    ) as told:
        may_change(annas, lab, ["b3"], "b3: power cut", force=False, verb="power", about="b3")
    assert "ask anna" in told.value.remedy and "--force" in told.value.remedy
    assert Journal("six").entries() == []
    may_change(annas, lab, ["b3"], "b3: power cut", force=True, verb="power", about="b3")
    (noted,) = Journal("six").entries()
    assert (noted.verb, noted.about, noted.process) == ("power", "b3", str(current())) and "anna" in noted.forced


def test_the_bench_of_another_is_not_taken_down_nor_offered_for_it(annas: BenchState) -> None:
    with pytest.raises(LeaseTaken, match="take it down: refused"):
        may_take_down("six", force=False)
    may_take_down("six", force=True)
    told = up_already("six")
    assert "anna" in told.message and "down" not in told.remedy


def test_a_third_is_told_which_tenants_are_free_and_when_the_others_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIL_LEASES", str(tmp_path / "leases.db"))
    lab, leases = load_lab(paths.ROOT / "lab/two-tenants.yaml"), Leases()
    keys = {name: lease_keys(lab.as_seen_by(name), "six") for name in ("alpha", "beta")}
    assert keys["alpha"] == ["six/a1", "six/a2", "six/b1"]
    free = {"alpha": "tenant alpha (a1, a2, b1): free now", "beta": "tenant beta (a3, b2, b3): free now"}
    with leases.take(lease_keys(lab, "six"), purpose="bench six") as whole:
        state = replace(bench_state("six"), lease=whole.entry.name)
        assert what_is_free(lab, state, leases) == [*free.values()]
        purpose = f"pytest r1, tenant alpha, {usually_done(400)}"
        with leases.take(keys["alpha"], purpose=purpose, within=whole.entry.name) as run:
            taken = run.entry.taken
            assert taken is not None
            said = what_is_free(lab, state, leases, taken + timedelta(seconds=100))
            end = f"{taken + timedelta(seconds=400):%Y-%m-%d %H:%M:%S} UTC"
            when = f"free at about {end}, in 5 min 0 s, if its run takes as long as usual"
            assert said == [free["beta"], f"tenant alpha (a1, a2, b1): {when}"]
            late = what_is_free(lab, state, leases, taken + timedelta(seconds=460))[1]
            assert late.endswith("in use, 1 min 0 s longer than such a run usually takes")
            with leases.take(keys["beta"], purpose="pytest r2", within=whole.entry.name):
                assert what_is_free(lab, state, leases)[1].endswith("no run like that has passed here yet")
