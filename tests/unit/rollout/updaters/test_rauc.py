"""The RAUC adapter against RAUC's own words."""

from __future__ import annotations

import pytest

from hil.errors import DeviceError
from hil.rollout.updaters.declaration import load_adapter
from hil.rollout.updaters.declared import RAUC, DeclaredAdapter
from hil.rollout.updaters.protocol import InstallFailed, OsStatus, RefusedBundle
from hil.testing.fakes import FakeClock
from tests.kits import checkout
from tests.kits.rauc_answers import rauc_status
from tests.kits.updater_shell import FakeShell

CASES = checkout.ROOT / "tests/data/cases"
DIGEST = "ab" * 32


FILE = load_adapter(RAUC)


def adapter(shell: FakeShell) -> DeclaredAdapter:
    return DeclaredAdapter(FILE, "a1", lambda: shell, clock=FakeClock())


def status(text: str) -> OsStatus:
    return adapter(FakeShell(rauc_status=(0, text, ""))).status()


def test_the_status_is_read_whatever_the_order_of_the_slots() -> None:
    found = status(rauc_status())
    assert (found.booted, found.primary, found.compatible) == ("A", "A", "orbital-ref-orin")
    assert (found.other.slot, found.other.image_sha256, found.other.version) == ("B", "cd" * 32, "2.0.0")
    assert found.other.complete and not found.other.bootable
    assert found.slot("A").image_sha256 is None


def test_a_slot_whose_installation_was_cut_off_is_not_complete() -> None:
    assert not status(rauc_status({"status": "pending", "checksum": {"sha256": "cd" * 32}})).other.complete


@pytest.mark.parametrize("text", ["", "{}", '{"slots": 3}', rauc_status().replace('"booted": "A"', '"booted": "?"')])
def test_a_status_that_cannot_be_read_is_the_devices_fault(text: str) -> None:
    with pytest.raises(DeviceError, match="adapter 'RAUC'"):
        status(text)


def test_the_digest_is_checked_before_rauc_is_asked() -> None:
    shell = FakeShell(openssl=(0, f"{'00' * 32} */data/x\n", ""))
    with pytest.raises(RefusedBundle) as refusal:
        adapter(shell).install("/data/x", sha256=DIGEST)
    assert refusal.value.reason == "digest mismatch"
    assert not any("install" in argv for argv in shell.ran)


@pytest.mark.parametrize(
    "reason",
    [
        "Installation error: Compatible mismatch: Expected 'orbital-ref-orin' but bundle manifest has 'other'",
        "signature verification failed: Verify error: unable to get local issuer certificate",
        "signature verification failed: error:1700009E:CMS routines::verification failure",
        "Invalid bundle format: Signature size (12543719243909077580) exceeds bundle size",
        "Failed mounting bundle: Failed to open /dev/mapper/control: No such file or directory",
    ],
)
def test_a_refusal_before_the_slot_is_told_from_a_failure_with_its_reason(reason: str) -> None:
    shell = FakeShell(
        openssl=(0, f"{DIGEST} */data/x\n", ""),
        rauc_install=(1, "installing\n 0% Installing\n", f"LastError: {reason}\nInstalling `/data/x` failed\n"),
    )
    with pytest.raises(RefusedBundle) as refusal:
        adapter(shell).install("/data/x", sha256=DIGEST)
    assert refusal.value.reason == reason


@pytest.mark.parametrize("lacking", ["verity", "squashfs"])
def test_a_board_whose_kernel_can_mount_no_bundle_has_not_refused_one(lacking: str) -> None:
    words = (CASES / f"28-rauc-install-no-{lacking}.txt").read_text()
    shell = FakeShell(openssl=(0, f"{DIGEST} */data/x\n", ""), rauc_install=(1, words, ""))
    with pytest.raises(InstallFailed, match="Failed mounting bundle"):
        adapter(shell).install("/data/x", sha256=DIGEST)


@pytest.mark.parametrize("names", ["system0", "app"])
def test_slots_may_have_other_boot_names_than_a_and_b(names: str) -> None:
    found = status((CASES / f"30-rauc-status-{names}.json").read_text())
    assert [slot.state for slot in found.slots] == ["booted", "inactive"]


def test_two_slots_of_one_boot_name_are_the_devices_fault() -> None:
    with pytest.raises(DeviceError, match="which should be"):
        status((CASES / "30-rauc-status-app.json").read_text().replace("APP_b", "APP"))


def test_a_failure_while_writing_is_an_install_failure() -> None:
    words = "LastError: Installation error: Failed updating slot rootfs.1: Input/output error"
    shell = FakeShell(openssl=(0, f"{DIGEST} */data/x\n", ""), rauc_install=(1, words, "failed"))
    with pytest.raises(InstallFailed) as failure:
        adapter(shell).install("/data/x", sha256=DIGEST)
    assert "Input/output error" in failure.value.last_error


def test_an_updater_that_is_busy_or_starting_is_waited_for() -> None:
    shell = FakeShell(
        rauc_status=[
            (1, "", "rauc status: error creating proxy: Could not connect: No such file or directory"),
            (1, "", "Already processing a different method"),
            (1, "", 'error calling D-Bus method "GetSlotStatus": already processing a different method'),
            (0, rauc_status(), ""),
        ]
    )
    assert adapter(shell).status().booted == "A"


def test_a_connection_that_broke_is_opened_again() -> None:
    shell = FakeShell(rauc_status=[(0, rauc_status(), ""), DeviceError("the connection broke"), (0, rauc_status(), "")])
    rauc = adapter(shell)
    rauc.status()
    assert rauc.status().booted == "A"
    assert shell.closed == 1


def test_activation_marks_the_other_slot_and_restarts() -> None:
    shell = FakeShell()
    adapter(shell).activate()
    assert shell.ran == [("rauc", "status", "mark-active", "other"), ("reboot",)]


def test_rolling_back_to_a_slot_that_cannot_boot_is_refused_and_nothing_happens() -> None:
    shell = FakeShell(rauc_status=(0, rauc_status(), ""))
    with pytest.raises(DeviceError, match="slot B is not bootable"):
        adapter(shell).roll_back()
    assert ("reboot",) not in shell.ran


def test_a_command_that_fails_is_reported_with_its_words() -> None:
    shell = FakeShell(mark=(1, "", "rauc status: slot not found"))
    with pytest.raises(DeviceError, match="slot not found"):
        adapter(shell).confirm()
