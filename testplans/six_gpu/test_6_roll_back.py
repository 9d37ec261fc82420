"""The way back, and what the watcher saw from the first moment to the last."""

from __future__ import annotations

import pytest

from hil.bench.state import schedule_log
from hil.errors import BenchError, Blame
from hil.evidence.model import at_least, at_most, equals
from hil.links.schedule.applied_log import summarise


@pytest.mark.requirement("SIX-140")
@pytest.mark.step("roll back")
@pytest.mark.needs("activate")
def test_all_six_return_to_the_previous_os_on_command(rollout, boards, bench, verify):
    """One command; every board runs the old OS again, confirmed."""
    rollout.roll_back()
    for name, board in boards.items():
        identity = board.identity()
        verify("os_version", identity.os_version, limit=equals(bench.images.factory.version), board=name)
        running = next(s for s in board.boot.state().slots if s.slot == identity.slot)
        verify("slot_confirmed", running.good, limit=equals(True), board=name, slot=identity.slot)


@pytest.mark.requirement("SIX-160")
@pytest.mark.step("bystanders")
@pytest.mark.needs("relay")
def test_boards_that_take_no_part_were_left_alone(uninvolved_boards, rollout, payload, verify, measure):
    """None has restarted, has any of the bundle, model or scene, or claims an epoch."""
    touched = uninvolved_boards.touched([rollout.bundle.sha256, payload.model.sha256, payload.scene.sha256])
    measure("boards that take no part", len(uninvolved_boards.before))
    verify("of them touched", "; ".join(f"{name} {what}" for name, what in touched.items()), limit=equals(""))


@pytest.mark.requirement("SIX-015")
@pytest.mark.step("schedule")
@pytest.mark.needs("relay")
def test_links_did_what_the_plan_says_and_on_time(bench, measure):
    """The link box's own log of the whole run; what it could not do is the bench's fault."""
    applied = summarise(schedule_log(bench.name))
    measure("rows applied", applied["rows"], limit=at_least(1), blame=Blame.BENCH)
    measure("rows refused", applied["errors"], limit=equals(0), blame=Blame.BENCH)
    measure("lateness of rows, p99", round(applied["late_p99_us"] / 1e3, 3), "ms", limit=at_most(50), blame=Blame.BENCH)


@pytest.mark.requirement("SIX-120")
@pytest.mark.step("invariant")
@pytest.mark.needs("split")
def test_no_two_boards_ever_claimed_different_epochs(watcher, fleet, verify, measure):
    """Sampled on all boards through the whole run, outages and restarts included."""
    report = watcher.stop()
    measure("samples", report.samples, limit=at_least(len(fleet)))
    measure("longest time without a sample of a board", round(report.max_gap_s, 3), "s")
    if not report.conclusive:
        raise BenchError(
            f"{report.max_gap_board} was not sampled for {report.max_gap_s:.2f} s: a violation could have gone unseen",
            remedy="free the host; the watcher needs a sample a second from every board",
        )
    verify("violations", len(report.violations), limit=equals(0))
