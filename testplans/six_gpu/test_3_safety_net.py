"""The safety net is proven before anything relies on it: bad bundles, power cuts, systems that do not boot."""

from __future__ import annotations

import time

import pytest

from hil.boards.protocol import Via
from hil.errors import Blame, DeviceError
from hil.evidence.model import equals
from hil.faults.inject import strike
from hil.images.bundles import BundleKind
from hil.rollout.rollout import Rollout
from hil.rollout.updaters.protocol import RefusedBundle

INTO_THE_WRITE_S = 0.05
"""Power goes this long after the updater began with the slot."""

pytestmark = pytest.mark.needs("calibration")


@pytest.fixture(scope="module")
def guinea_pig(fleet):
    """The board on which bundles that must fail are tried: the last one of the other spacecraft."""
    return fleet.members[-1]


@pytest.fixture
def attempt(fleet, guinea_pig, bundles, os_adapter, recorder):
    """A rollout of one bundle onto the guinea pig alone, over the same links."""

    def of(kind):
        bundle = bundles.bundle(kind)
        return Rollout(fleet.only(guinea_pig.name), bundle, recorder, adapter=os_adapter(bundle.version))

    return of


def slot_b(board):
    """What the firmware thinks of slot B."""
    return next(slot for slot in board.boot.state().slots if slot.slot == "B")


def digest_of_slot_b(board) -> str:
    """sha256 of the slot, read through the OS that runs in the other one."""
    with board.shell(Via.MANAGEMENT) as shell:
        answer: str = shell.run(["openssl", "dgst", "-sha256", "-r", "/dev/mmcblk0p2"], timeout_s=60).stdout
    return answer.split()[0]


@pytest.mark.requirement("SIX-050")
@pytest.mark.step("bad bundles")
@pytest.mark.needs("boards")
@pytest.mark.parametrize(
    "kind",
    [
        BundleKind.TAMPERED_PAYLOAD,
        BundleKind.TAMPERED_SIGNATURE,
        BundleKind.TRUNCATED,
        BundleKind.WRONG_KEY,
        BundleKind.WRONG_HARDWARE,
    ],
    ids=str,
)
def test_a_bad_bundle_is_refused_and_the_slot_left_untouched(attempt, guinea_pig, kind, verify, measure):
    """The bundle arrives whole, but the updater on the board must not accept it."""
    bad = attempt(kind)
    before = digest_of_slot_b(guinea_pig)
    bad.distribute()
    with pytest.raises(RefusedBundle) as refusal:
        bad.install()
    measure("reason given by the updater", refusal.value.reason)
    verify("digest of slot B", digest_of_slot_b(guinea_pig), limit=equals(before))
    verify("slot B can be booted", slot_b(guinea_pig).bootable, limit=equals(True))
    verify("slot to boot next", guinea_pig.boot.state().active, limit=equals("A"))


@pytest.mark.requirement("SIX-100")
@pytest.mark.step("power cut")
@pytest.mark.needs("relay")
def test_a_power_cut_during_installation_leaves_the_old_os_and_a_second_try_works(
    rollout, guinea_pig, recorder, verify, measure
):
    """Power goes while slot B is written; the board boots the old OS, and the installation is repeated."""
    before, digest = guinea_pig.identity(), digest_of_slot_b(guinea_pig)

    def lose_power() -> None:
        time.sleep(INTO_THE_WRITE_S)
        guinea_pig.supervisor.reset()

    struck = strike(
        lambda: rollout.install([guinea_pig.name]),
        lose_power,
        # The updater marks the slot bad before it writes the first byte.
        progress=lambda: int(not slot_b(guinea_pig).bootable),
        threshold=1,
        what="power cut during the installation",
        sink=recorder,
    )
    # An installation that was over when the power went shows nothing: the cut came too late.
    verify("the installation was interrupted", struck.error is not None, limit=equals(True), blame=Blame.BENCH)
    after = guinea_pig.wait_booted(deadline_s=30)
    verify("boot id changed", after.boot_id != before.boot_id, limit=equals(True))
    verify("OS version", after.os_version, limit=equals(before.os_version))
    verify("slot", after.slot, limit=equals(before.slot))
    verify("slot B can be booted", slot_b(guinea_pig).bootable, limit=equals(False))
    measure("slot B was torn", digest_of_slot_b(guinea_pig) != digest)
    status = rollout.install([guinea_pig.name])[guinea_pig.name]
    verify("image in slot B", status.slot("B").image_sha256, limit=equals(rollout.bundle.image_sha256))


@pytest.mark.requirement("SIX-090")
@pytest.mark.step("fall back")
@pytest.mark.needs("boards")
def test_a_board_whose_new_os_does_not_boot_returns_to_the_old_one(attempt, guinea_pig, verify):
    """A correctly signed OS that panics at every boot is installed and activated on one board."""
    broken = attempt(BundleKind.NO_BOOT)
    before = guinea_pig.identity()
    start = guinea_pig.console.log.stat().st_size
    broken.distribute()
    broken.install()
    with pytest.raises(DeviceError):
        broken.activate_canary()
    after = guinea_pig.wait_booted(deadline_s=60)
    console = guinea_pig.console.log.read_bytes()[start:]
    verify("boots of the broken OS", console.count(b"Kernel panic"), limit=equals(3))
    verify("OS version", after.os_version, limit=equals(before.os_version))
    verify("slot", after.slot, limit=equals(before.slot))
    verify("slot B can be booted", slot_b(guinea_pig).bootable, limit=equals(False))
