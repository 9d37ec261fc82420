"""SWUpdate: the adapter against SWUpdate's own words, the bundles, and the tool on the board that keeps the slots."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hil.errors import DeviceError, HarnessError
from hil.images.bundles import BundleKind, damage
from hil.images.pki import Pki, ensure_pki
from hil.images.swu import members, pack_swu
from hil.onboard.boot_control import BootControl, Variables
from hil.onboard.squashfs import image_sha256
from hil.onboard.updaters.swupdate_slots import BUSY, REFUSED, Places, Refused, Slots, run
from hil.rollout.updaters.declaration import load_adapter
from hil.rollout.updaters.declared import SWUPDATE, DeclaredAdapter
from hil.rollout.updaters.protocol import InstallFailed, OsStatus, RefusedBundle
from hil.testing.fakes import FakeClock
from tests.kits.updater_shell import FakeShell

DIGEST = "ab" * 32
GOOD_FILE = (0, f"{DIGEST} */data/x\n", "")


def status(**other: Any) -> str:
    facts = {"bootable": False, "confirmed": False, "complete": True, "image_sha256": "cd" * 32, "version": "2.0.0"}
    running = {**facts, "bootable": True, "complete": False, "image_sha256": None, "version": None}
    slots = {"A": running, "B": {**facts, **other}}
    return json.dumps({"compatible": "orbital-ref-orin", "booted": "A", "primary": "A", "slots": slots})


FILE = load_adapter(SWUPDATE)


def adapter(shell: FakeShell) -> DeclaredAdapter:
    return DeclaredAdapter(FILE, "a1", lambda: shell, clock=FakeClock(), time_s=lambda: 1_700_000_000.0)


def able(**answers: Any) -> FakeShell:
    """A board that is able to install."""
    usual = {"openssl": GOOD_FILE, "slots_status": (0, status(), ""), "date_": (0, "1700000000\n", "")}
    return FakeShell(**{**usual, **answers})


def read(text: str) -> OsStatus:
    return adapter(FakeShell(status=(0, text, ""))).status()


# -- the adapter


def test_the_status_tells_what_each_slot_holds() -> None:
    found = read(status())
    assert (found.booted, found.primary, found.compatible) == ("A", "A", "orbital-ref-orin")
    assert (found.other.image_sha256, found.other.version, found.other.complete) == ("cd" * 32, "2.0.0", True)
    assert not found.other.bootable
    assert (found.slot("A").state, found.other.state) == ("booted", "inactive")


@pytest.mark.parametrize("text", ["", "{}", "[]", status().replace('"booted": "A"', '"booted": "C"')])
def test_a_status_that_cannot_be_read_is_the_devices_fault(text: str) -> None:
    with pytest.raises(DeviceError, match="adapter 'SWUpdate'"):
        read(text)


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        (
            "[ERROR] : SWUPDATE failed [0] ERROR : HASH mismatch : 00 <--> 11\n"
            "[ERROR] : SWUPDATE failed [1] Image invalid or corrupted. Not installing ...\n",
            "HASH mismatch : 00 <--> 11",
        ),
        ("[ERROR] : SWUPDATE failed [0] ERROR : SW not compatible with hardware\n", "SW not compatible with hardware"),
        ("[ERROR] : SWUPDATE failed [0] ERROR : Authentication of all signatures failed\n", "Authentication"),
    ],
)
def test_a_refusal_gives_swupdates_first_words_not_the_consequences(stderr: str, reason: str) -> None:
    shell = able(install=(REFUSED, "", stderr))
    with pytest.raises(RefusedBundle) as refusal:
        adapter(shell).install("/data/x", sha256=DIGEST)
    assert reason in refusal.value.reason


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "[ERROR] : SWUPDATE failed [0] ERROR : HASH mismatch : 00 <--> 11\n"),
        (REFUSED, "[ERROR] : SWUPDATE failed [0] ERROR : cannot write 16384 bytes: No space left on device\n"),
        (REFUSED, "[ERROR] : SWUPDATE failed [1] Image invalid or corrupted. Not installing ...\nbroken pipe\n"),
        (REFUSED, ""),
    ],
)
def test_an_exit_code_alone_or_words_alone_are_no_refusal(code: int, words: str) -> None:
    with pytest.raises(InstallFailed, match="no refusal"):
        adapter(able(install=(code, "", words))).install("/data/x", sha256=DIGEST)


def test_swupdate_does_not_say_why_a_signature_fails_so_a_dead_clock_makes_it_a_failure() -> None:
    words = "[ERROR] : SWUPDATE failed [0] ERROR : Authentication of all signatures failed\n"
    with pytest.raises(InstallFailed, match="clock is 19,676 days behind"):
        adapter(able(install=(REFUSED, "", words), date_=(0, "7\n", ""))).install("/data/x", sha256=DIGEST)


def test_another_digest_is_refused_before_swupdate_is_asked() -> None:
    shell = able(openssl=(0, f"{'00' * 32} */data/x\n", ""))
    with pytest.raises(RefusedBundle, match="is not the one with digest"):
        adapter(shell).install("/data/x", sha256=DIGEST)
    assert not any("install" in argv for argv in shell.ran)


def test_an_installation_that_runs_already_is_waited_for() -> None:
    shell = FakeShell(
        openssl=GOOD_FILE,
        install=[(BUSY, "", "swupdate-slots: another installation is running"), (0, "", "")],
        status=(0, status(), ""),
    )
    assert adapter(shell).install("/data/x", sha256=DIGEST).other.complete
    assert [argv for argv in shell.ran if "install" in argv] == [("swupdate-slots", "install", "/data/x")] * 2


def test_activation_chooses_the_other_slot_and_restarts() -> None:
    shell = FakeShell()
    adapter(shell).activate()
    assert shell.ran == [("swupdate-slots", "mark-active", "other"), ("reboot",)]


def test_an_activation_that_the_board_refuses_does_not_restart_it() -> None:
    shell = FakeShell(mark=(2, "", "swupdate-slots: slot B does not hold a complete image"))
    with pytest.raises(DeviceError, match="complete image"):
        adapter(shell).activate()
    assert ("reboot",) not in shell.ran


def test_rolling_back_to_a_slot_that_cannot_boot_is_refused_and_nothing_happens() -> None:
    shell = FakeShell(status=(0, status(), ""))
    with pytest.raises(DeviceError, match="slot B is not bootable"):
        adapter(shell).roll_back()
    assert len(shell.ran) == 1


# -- the tool on the board


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "vars").mkdir()
    BootControl(Variables(tmp_path / "vars")).initialise()
    (tmp_path / "cmdline").write_text("root=/dev/mmcblk0p1 ro boot.slot_suffix= rauc.slot=A\n")
    (tmp_path / "hwrevision").write_text("orin orbital-ref-orin\n")
    for name in "AB":
        (tmp_path / name).write_bytes(bytes(65536))
    return Places(
        variables=tmp_path / "vars",
        command_line=tmp_path / "cmdline",
        confirmed=tmp_path / "confirmed",
        hardware=tmp_path / "hwrevision",
        state=tmp_path / "state",
        lock=tmp_path / "lock",
        devices={"A": tmp_path / "A", "B": tmp_path / "B"},
    )


def squashfs(size: int = 8192) -> bytes:
    """Something with the superblock of a squashfs of ``size`` bytes, less a few that are padding."""
    head = b"hsqs" + bytes(36) + struct.pack("<Q", size - 100)
    return (head + bytes(range(256)) * 256)[:size]


class Updater:
    """``swupdate``: writes an image unless it is a dry run; gives back what the test wants."""

    def __init__(self, places: Places, image: bytes = b"", check: int = 0, write: int = 0) -> None:
        self.places, self.image, self.check, self.write = places, image, check, write
        self.ran: list[list[str]] = []

    def __call__(self, argv: Sequence[str]) -> int:
        self.ran.append(list(argv))
        if "-n" in argv:
            return self.check
        slot = BootControl(Variables(self.places.variables)).slot("B")
        assert not slot.bootable, "the slot could still boot while it is written"
        with self.places.devices["B"].open("r+b") as file:
            file.write(self.image)
        return self.write


def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "x.swu"
    path.write_bytes(b"070701..." + b'software = { version = "2.0.0"; }')
    return path


def test_an_installation_checks_everything_first_writes_the_other_slot_and_reads_it_back(
    places: Places, tmp_path: Path
) -> None:
    image = squashfs()
    updater = Updater(places, image)
    slots = Slots(places, updater)
    assert slots.install(bundle(tmp_path)) == 0
    assert [("-n" in argv, argv[4]) for argv in updater.ran] == [(True, "stable,slotB"), (False, "stable,slotB")]
    found = slots.status()
    assert found["slots"]["B"]["image_sha256"] == hashlib.sha256(image).hexdigest()
    assert (found["slots"]["B"]["version"], found["slots"]["B"]["complete"]) == ("2.0.0", True)
    assert (found["booted"], found["primary"]) == ("A", "A"), "an installation must not activate"
    assert not found["slots"]["B"]["bootable"]
    slots.mark_active("other")
    assert slots.control.active == "B"
    assert slots.control.slot("B").bootable
    assert not slots.control.slot("B").confirmed


def test_a_refused_bundle_leaves_slot_and_boot_order_alone(places: Places, tmp_path: Path) -> None:
    slots = Slots(places, Updater(places, squashfs(), check=1))
    before = slots.status()
    assert slots.install(bundle(tmp_path)) == REFUSED
    assert Slots(places, Updater(places, squashfs(), check=-9)).install(bundle(tmp_path)) == 1, "it was killed"
    assert slots.status() == before


@pytest.mark.parametrize(("image", "code"), [(squashfs(), 1), (b"no squashfs at all", 0)])
def test_a_slot_whose_write_failed_cannot_boot_and_cannot_be_made_active(
    places: Places, tmp_path: Path, image: bytes, code: int
) -> None:
    slots = Slots(places, Updater(places, image, write=code))
    assert slots.install(bundle(tmp_path)) == 1
    assert not slots.status()["slots"]["B"]["complete"]
    with pytest.raises(Refused, match="slot B does not hold a complete image"):
        slots.mark_active("other")
    assert slots.control.active == "A"


def test_what_a_slot_held_is_forgotten_before_it_is_written(places: Places, tmp_path: Path) -> None:
    slots = Slots(places, Updater(places, squashfs()))
    slots.install(bundle(tmp_path))
    slots.begin()
    assert not slots.status()["slots"]["B"]["complete"]


def test_only_one_installation_runs_at_a_time(places: Places, tmp_path: Path) -> None:
    class Nested(Updater):
        def __call__(self, argv: Sequence[str]) -> int:
            assert run(["install", "y.swu"], Slots(places, self)) == BUSY
            return super().__call__(argv)

    assert run(["install", str(bundle(tmp_path))], Slots(places, Nested(places, squashfs()))) == 0


def test_a_factory_slot_can_be_rolled_back_to_though_the_updater_never_wrote_it(places: Places) -> None:
    slots = Slots(places)
    slots.mark_active("other")
    assert slots.control.active == "B"


def test_an_image_is_measured_with_its_padding_and_not_at_all_when_it_is_cut(tmp_path: Path) -> None:
    image = squashfs(8192)
    device = tmp_path / "slot"
    device.write_bytes(image + b"old bytes behind it" * 100)
    with device.open("rb") as slot:
        assert image_sha256(slot) == hashlib.sha256(image).hexdigest()
    device.write_bytes(image[:5000])
    with device.open("rb") as slot:
        assert image_sha256(slot) == ""


# -- bundles


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("home") / "pki")


@pytest.fixture
def swu(tmp_path: Path, pki: Pki) -> Path:
    image, out = tmp_path / "rootfs.img", tmp_path / "x.swu"
    image.write_bytes(squashfs(5001))
    pack_swu(image, out, compatible="orbital-ref-orin", version="2.0.0", signer=pki.release)
    return out


def content(bundle: Path) -> dict[str, bytes]:
    data = bundle.read_bytes()
    return {name: data[start : start + size] for name, start, size in members(bundle)}


def signed(bundle: Path, pki: Pki, tmp_path: Path) -> bool:
    """Whether the description's signature holds, and the description names the image that is there."""
    parts = content(bundle)
    for name, data in parts.items():
        (tmp_path / name).write_bytes(data)
    argv = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "sw-description.sig"]
    argv += ["-content", "sw-description", "-CAfile", str(pki.keyring), "-out", "/dev/null"]
    verified = subprocess.run(argv, cwd=tmp_path, capture_output=True).returncode == 0
    return verified and hashlib.sha256(parts["rootfs.img"]).hexdigest() in parts["sw-description"].decode()


def test_a_bundle_begins_with_its_signed_description_which_names_the_image_by_digest(
    swu: Path, pki: Pki, tmp_path: Path
) -> None:
    assert list(content(swu)) == ["sw-description", "sw-description.sig", "rootfs.img"]
    assert content(swu)["rootfs.img"] == squashfs(5001)
    assert signed(swu, pki, tmp_path)
    assert swu.stat().st_size % 512 == 0


@pytest.mark.parametrize("kind", [BundleKind.TAMPERED_PAYLOAD, BundleKind.TAMPERED_SIGNATURE])
def test_a_tampered_bundle_is_a_whole_archive_whose_signature_no_longer_covers_it(
    swu: Path, pki: Pki, tmp_path: Path, kind: BundleKind
) -> None:
    damage(kind, swu)
    assert len(content(swu)) == 3
    assert not signed(swu, pki, tmp_path)


def test_a_foreign_key_signs_what_the_keyring_does_not_trust(tmp_path: Path, pki: Pki) -> None:
    image, out = tmp_path / "rootfs.img", tmp_path / "x.swu"
    image.write_bytes(squashfs())
    pack_swu(image, out, compatible="orbital-ref-orin", version="2.0.0", signer=pki.foreign)
    assert not signed(out, pki, tmp_path)


@pytest.mark.parametrize("kind", [BundleKind.TRUNCATED, BundleKind.EMPTY, BundleKind.RANDOM])
def test_what_is_cut_emptied_or_random_is_no_whole_archive(swu: Path, kind: BundleKind) -> None:
    before = swu.stat().st_size
    damage(kind, swu)
    assert swu.stat().st_size in (0, before * 6 // 10, before)
    with pytest.raises(HarnessError, match="not a bundle"):
        content(swu)


def test_a_revoked_signer_is_refused_by_the_tool_for_swupdate_reads_no_revocation_list(
    places: Places, tmp_path: Path, pki: Pki, capfd: pytest.CaptureFixture[str]
) -> None:
    slots = Slots(replace(places, keyring=pki.keyring), Updater(places, squashfs()))
    before = slots.status()
    image, out = tmp_path / "rootfs.img", tmp_path / "x.swu"
    image.write_bytes(squashfs())
    pack_swu(image, out, compatible="orbital-ref-orin", version="2.0.0", signer=pki.revoked)
    assert slots.install(out) == REFUSED
    assert "Signature verification failed" in (said := capfd.readouterr().err) and "revoked" in said
    assert slots.status() == before
    pack_swu(image, out, compatible="orbital-ref-orin", version="2.0.0", signer=pki.release)
    assert slots.install(out) == 0
    assert slots.install(bundle(tmp_path)) == REFUSED, "an archive in which the description is not where it has to be"
