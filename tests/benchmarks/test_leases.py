"""The judges of the contention benchmark see what must not happen."""

from __future__ import annotations

from tests.benchmarks.leases import judge


def test_the_judges_see_an_overlap_a_locked_board_a_lost_lease_and_who_was_never_served() -> None:
    fine = {1: "ask six/a1 1.0\nheld 1 2.0\nend 1 3.0\n", 2: "ask six/a1 1.0\nheld 2 3.5\n"}
    found, turns = judge(fine, killed_s={2: 4.0})
    assert found.doubles == [] and found.unserved == 0 and found.served == 2
    assert max(found.waits_s) == 2.5 and len(turns) == 2
    faults = {
        "held by 1 and 2": {1: fine[1], 2: "ask six/a1 1.0\nheld 2 2.5\nend 2 4.0\n"},
        "locked by another": {1: "ask six/a1 1.0\nheld 1 2.0\ndouble six/a1 2.0\nend 1 3.0\n"},
        "lost lease 1": {1: "ask six/a1 1.0\nheld 1 2.0\nlost 1 3.0\n"},
    }
    for fault, logs in faults.items():
        assert any(fault in line for line in judge(logs, {})[0].doubles), fault
    assert judge({1: "ask six/a1 1.0\n"}, {})[0].unserved == 1
    assert judge({1: "ask six/a1 1.0\nrefused - 1.5\n"}, {})[0].unserved == 0
    assert judge({1: "ask six/a1 1.0\n"}, {1: 2.0})[0].unserved == 0
