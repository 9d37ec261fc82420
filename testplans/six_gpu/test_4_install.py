"""The new OS on all six boards: installed beside the old one, canary first, confirmed after health checks."""

from __future__ import annotations

import pytest

from hil.evidence.model import equals


@pytest.mark.requirement("SIX-050", "SIX-060")
@pytest.mark.step("install")
@pytest.mark.needs("relay", "bad bundles", "power cut", "fall back")
def test_the_bundle_is_installed_on_all_six_while_the_old_os_runs(rollout, fleet, boards, verify):
    """Into the slot that does not run, on all boards at once; nothing restarts.

    It shows, too, that the board that refused the bad bundles accepts a good one.
    """
    before = {name: board.identity().boot_id for name, board in boards.items()}
    statuses = rollout.install()
    verify("boards", len(statuses), limit=equals(len(fleet)))
    for name, status in statuses.items():
        installed, wanted = status.other.image_sha256, rollout.bundle.image_sha256
        verify("image_sha256", installed, limit=equals(wanted), board=name, slot=status.other.slot)
        verify("running_slot", status.booted, limit=equals("A"), board=name)
    after = {name: board.identity().boot_id for name, board in boards.items()}
    verify("boards that restarted", sum(before[n] != after[n] for n in boards), limit=equals(0))


@pytest.mark.requirement("SIX-070")
@pytest.mark.step("canary")
@pytest.mark.needs("install")
def test_one_canary_runs_the_new_os_before_any_other_board(rollout, boards, bundles, verify):
    """The canary restarts into the new OS, passes its health checks and is confirmed; the others run the old one."""
    canary = rollout.activate_canary()
    versions = {name: board.identity().os_version for name, board in boards.items()}
    verify("os_version", versions.pop(canary), limit=equals(bundles.os_v2.version), board=canary)
    verify(
        "other boards on the old OS",
        sum(v != bundles.os_v2.version for v in versions.values()),
        limit=equals(len(versions)),
    )


@pytest.mark.requirement("SIX-080")
@pytest.mark.step("activate")
@pytest.mark.needs("canary")
def test_all_six_run_the_new_os_and_are_confirmed(rollout, boards, bundles, verify):
    """The other five restart at once; each is confirmed only after its own health checks."""
    rollout.activate_rest()
    for name, board in boards.items():
        identity = board.identity()
        verify("os_version", identity.os_version, limit=equals(bundles.os_v2.version), board=name)
        verify("image_sha256", identity.image_sha256, limit=equals(bundles.os_v2.image_sha256), board=name)
        running = next(s for s in board.boot.state().slots if s.slot == identity.slot)
        verify("slot_confirmed", running.good, limit=equals(True), board=name, slot=identity.slot)
