"""The RAUC adapter against RAUC's own words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from hil.errors import DeviceError
from hil.rollout.updaters.declaration import load_adapter
from hil.rollout.updaters.declared import RAUC, DeclaredAdapter
from hil.rollout.updaters.kinds import RAUC as RAUC_KIND
from hil.rollout.updaters.kinds import RaucSpec
from hil.rollout.updaters.protocol import InstallFailed, OsStatus, RefusedBundle
from hil.testing.fakes import FakeClock
from tests.kits import checkout
from tests.kits.rauc_answers import rauc_status
from tests.kits.updater_shell import FakeShell

CASES = checkout.ROOT / "tests/data/cases"
DIGEST = "ab" * 32


FILE = load_adapter(RAUC)


def adapter(shell: FakeShell) -> DeclaredAdapter:
    return DeclaredAdapter(FILE, "a1", lambda: shell, clock=FakeClock(), time_s=lambda: 1_700_000_000.0)


def status(text: str) -> OsStatus:
    return adapter(FakeShell(rauc_status=(0, text, ""))).status()


def test_the_status_is_read_whatever_the_order_of_the_slots() -> None:
    found = status(rauc_status())
    assert (found.booted, found.primary, found.compatible) == ("A", "A", "orbital-ref-orin")
    assert (found.other.slot, found.other.image_sha256, found.other.version) == ("B", "cd" * 32, "2.0.0")
    assert found.other.complete and not found.other.bootable
    assert found.slot("A").image_sha256 is None


def test_a_boot_state_that_rauc_does_not_know_is_not_good() -> None:
    text = rauc_status().replace('"boot_status": "bad"', '"boot_status": "unknown"')
    assert "unknown" in text
    assert not status(text).other.bootable


def test_a_slot_whose_installation_was_cut_off_is_not_complete() -> None:
    assert not status(rauc_status({"status": "pending", "checksum": {"sha256": "cd" * 32}})).other.complete


@pytest.mark.parametrize("text", ["", "{}", '{"slots": 3}', rauc_status().replace('"booted": "A"', '"booted": "?"')])
def test_a_status_that_cannot_be_read_is_the_devices_fault(text: str) -> None:
    with pytest.raises(DeviceError, match="adapter 'RAUC'"):
        status(text)


def test_the_digest_is_checked_before_rauc_is_asked() -> None:
    shell = refusing("", openssl=(0, f"{'00' * 32} */data/x\n", ""))
    with pytest.raises(RefusedBundle) as refusal:
        adapter(shell).install("/data/x", sha256=DIGEST)
    assert refusal.value.reason == "digest mismatch"
    assert not any("install" in argv for argv in shell.ran)


def refusing(words: str, **answers: Any) -> FakeShell:
    """A board whose RAUC ends an installation with these words, and which is able to install."""
    usual = {
        "openssl": (0, f"{DIGEST} */data/x\n", ""),
        "rauc_install": (1, "installing\n 0% Installing\n", f"LastError: {words}\nInstalling `/data/x` failed\n"),
        "rauc_status": (0, rauc_status(), ""),
        "date": (0, "1700000000\n", ""),
    }
    return FakeShell(**{**usual, **answers})


NOT_YET = "signature verification failed: Verify error: certificate is not yet valid"


@pytest.mark.parametrize(
    "reason",
    [
        "Installation error: Compatible mismatch: Expected 'orbital-ref-orin' but bundle manifest has 'other'",
        "signature verification failed: Verify error: unable to get local issuer certificate",
        "signature verification failed: Verify error: unsuitable certificate purpose",
        "signature verification failed: Verify error: certificate revoked",
        "signature verification failed: error:1700009E:CMS routines::verification failure",
        "signature verification failed: error:0200008A:rsa routines::invalid padding",
        "Invalid bundle format: Signature size (12543719243909077580) exceeds bundle size",
        "Invalid bundle format: Signature data is no valid CMS",
        "Invalid bundle format: Failed to seek to end of bundle: Error seeking in file: Invalid argument",
        "Bundle format 'verity' not allowed",
        NOT_YET,
    ],
)
def test_a_refusal_before_the_slot_is_told_from_a_failure_with_its_reason(reason: str) -> None:
    with pytest.raises(RefusedBundle) as refusal:
        adapter(refusing(reason)).install("/data/x", sha256=DIGEST)
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    "words",
    [
        "Failed mounting bundle: Failed to open /dev/mapper/control: No such file or directory",
        "signature verification failed: Verify error: unable to get certificate CRL",
        "signature verification failed: Verify error: CRL has expired",
        "signature verification failed: error:0308010C:digital envelope routines::unsupported",
        "failed to load CA file '/etc/rauc/keyring.pem' and/or directory '(null)'",
        "No keyring file or directory provided",
        "Installation error: Failed updating slot rootfs.1: Input/output error",
        "Invalid bundle format: Failed to read signature size from bundle: Input/output error",
    ],
)
def test_words_that_a_board_says_of_every_bundle_or_that_are_unknown_are_no_refusal(words: str) -> None:
    with pytest.raises(InstallFailed, match="not known as a fault of a bundle") as failure:
        adapter(refusing(words)).install("/data/x", sha256=DIGEST)
    assert failure.value.last_error == words


@pytest.mark.parametrize("lacking", ["verity", "squashfs"])
def test_a_board_whose_kernel_can_mount_no_bundle_has_not_refused_one(lacking: str) -> None:
    words = (CASES / f"28-rauc-install-no-{lacking}.txt").read_text()
    with pytest.raises(InstallFailed, match="Failed mounting bundle"):
        adapter(refusing("", rauc_install=(1, words, ""))).install("/data/x", sha256=DIGEST)


@pytest.mark.parametrize("lacking", ["squashfs", "loop"])
def test_a_board_that_could_install_nothing_refuses_nothing_whatever_it_says(lacking: str) -> None:
    shell = refusing("signature verification failed: Verify error: certificate revoked", **{lacking: (1, "", "")})
    with pytest.raises(InstallFailed, match=f"can install no bundle at all: .*{lacking}"):
        adapter(shell).install("/data/x", sha256=DIGEST)


@pytest.mark.parametrize(
    ("date", "said"),
    [
        ((0, "0\n", ""), "clock is 19,676 days behind"),
        ((127, "", "date: not found"), "does not tell its clock"),
        ((0, "9" * 5000, ""), "does not tell its clock"),
    ],
)
def test_a_certificate_that_is_not_yet_valid_on_a_board_with_a_dead_clock_is_the_boards_fault(
    date: tuple[int, str, str], said: str
) -> None:
    with pytest.raises(InstallFailed, match=said):
        adapter(refusing(NOT_YET, date=date)).install("/data/x", sha256=DIGEST)


def test_a_bundle_is_not_refused_when_the_other_slot_was_touched_or_the_updater_is_silent_afterwards() -> None:
    touched = rauc_status({"status": "pending", "checksum": {"sha256": "00" * 32}})
    for after, said in ((touched, "slot B was"), ("", "does not answer afterwards")):
        shell = refusing("Compatible mismatch: x", rauc_status=[(0, rauc_status(), ""), (0, after, "")])
        with pytest.raises(InstallFailed, match=said):
            adapter(shell).install("/data/x", sha256=DIGEST)


def test_a_board_that_cannot_compute_a_digest_has_not_refused_a_bundle() -> None:
    shell = refusing("", openssl=(127, "", "sh: openssl: not found"))
    with pytest.raises(InstallFailed, match="not found"):
        adapter(shell).install("/data/x", sha256=DIGEST)


def test_the_root_slots_may_be_of_another_class() -> None:
    text = rauc_status().replace("rootfs.", "system.")
    member = SimpleNamespace(name="a1")
    member.shell = lambda _via: FakeShell(rauc_status=(0, text, ""))
    made = RAUC_KIND.adapter(RaucSpec(adapter="rauc", slot_class="system"), checkout.ROOT, "")(cast("Any", member))
    assert [slot.state for slot in made.status().slots] == ["booted", "inactive"]


@pytest.mark.parametrize("names", ["system0", "app"])
def test_slots_may_have_other_boot_names_than_a_and_b(names: str) -> None:
    found = status((CASES / f"30-rauc-status-{names}.json").read_text())
    assert [slot.state for slot in found.slots] == ["booted", "inactive"]


def test_two_slots_of_one_boot_name_are_the_devices_fault() -> None:
    with pytest.raises(DeviceError, match="which should be"):
        status((CASES / "30-rauc-status-app.json").read_text().replace("APP_b", "APP"))


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
