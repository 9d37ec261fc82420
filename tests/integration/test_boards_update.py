"""Real RAUC on a container board: install, activate, confirm, roll back; and everything that must be refused."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.boards.conformance import reboot, running
from hil.boards.container.board import ContainerBoard
from hil.boards.protocol import Identity, Shell
from hil.core.wait import wait_until
from hil.errors import DeviceError
from hil.images.bundles import Bundle, BundleKind, BundleSet, sign_artefact
from hil.onboard.boot_control import BootControl, Variables
from tests.kits.container_boards import boards, engine_client

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

UPLOAD = "/data/upload.raucb"


@pytest.fixture(scope="module")
def bench() -> Iterator[tuple[ContainerBoard, BundleSet]]:
    with engine_client() as client, boards(client, 1) as (made, images):
        yield made[0], images.bundles


@pytest.fixture(scope="module")
def bundles(bench: tuple[ContainerBoard, BundleSet]) -> BundleSet:
    return bench[1]


@pytest.fixture
def board(bench: tuple[ContainerBoard, BundleSet]) -> Iterator[ContainerBoard]:
    """The board, running its confirmed slot A as it left the factory."""
    board = bench[0]
    control = firmware(board)
    if running(board).slot != "A" or control.active != "A":
        control.mark_good("A")
        control.set_active("A")
        board.supervisor.reset()
        board.wait_booted()
    assert board.boot.state().running == "A"
    yield board
    for name in ("WatchdogBootMs", "WatchdogTimeoutMs", "ConfirmDeadlineS"):
        control.variables.path(name).unlink(missing_ok=True)


def firmware(board: ContainerBoard) -> BootControl:
    return BootControl(Variables(board.spec.nv_dir / "vars"))


def install(shell: Shell, bundle: Bundle) -> None:
    shell.push(bundle.path, UPLOAD)
    shell.run(["rauc", "install", UPLOAD], timeout_s=60.0)


def rauc_status(shell: Shell) -> dict[str, Any]:
    done = shell.run(["rauc", "status", "--detailed", "--output-format=json"])
    status: dict[str, Any] = json.loads(done.stdout)
    status["slots"] = {name: slot for entry in status["slots"] for name, slot in entry.items()}
    return status


def digest(slot: Path) -> str:
    """Return a digest to compare with itself; SHA-256 takes thrice as long."""
    with slot.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def activate(board: ContainerBoard, before: Identity) -> Identity:
    with board.shell() as shell:
        shell.run(["rauc", "status", "mark-active", "other"])
    return reboot(board, before)


def test_an_upload_is_installed_activated_confirmed_and_rolled_back(board: ContainerBoard, bundles: BundleSet) -> None:
    factory = board.identity()
    with board.shell() as shell:
        install(shell, bundles.os_v2)
        status = rauc_status(shell)
        assert status["compatible"] == "orbital-ref-orin"
        assert status["booted"] == "A"
        assert status["boot_primary"] == "rootfs.0", "an install must not activate"
        assert status["slots"]["rootfs.1"]["slot_status"]["checksum"]["sha256"] == bundles.os_v2.image_sha256
    state = board.boot.state()
    assert state.active == "A"
    assert not state.slots[1].bootable

    upload = activate(board, factory)
    assert (upload.slot, upload.os_version) == ("B", "2.0.0")
    assert upload.image_sha256 == bundles.os_v2.image_sha256
    assert upload.image_sha256 != factory.image_sha256
    assert not board.boot.state().slots[1].good, "a fresh slot is not good before a health check"
    with board.shell() as shell:
        assert shell.read("/run/slot-confirmed") == b"0\n"
        assert rauc_status(shell)["slots"]["rootfs.1"]["boot_status"] == "good"
        shell.run(["rauc", "status", "mark-good"])
        assert shell.read("/run/slot-confirmed") == b"1\n"
    confirmed = board.boot.state().slots[1]
    assert (confirmed.good, confirmed.retries) == (True, 3)

    back = activate(board, upload)
    assert (back.slot, back.os_version) == ("A", "1.0.0")
    with board.shell() as shell:
        assert shell.read("/run/slot-confirmed") == b"1\n", "the old slot stays confirmed"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (BundleKind.TAMPERED_PAYLOAD, "signature verification failed"),
        (BundleKind.TAMPERED_SIGNATURE, "signature verification failed"),
        (BundleKind.TRUNCATED, "exceeds bundle size"),
        (BundleKind.EMPTY, "Invalid bundle format"),
        (BundleKind.WRONG_KEY, "unable to get local issuer certificate"),
        (BundleKind.WRONG_HARDWARE, "Compatible mismatch"),
    ],
    ids=lambda value: value.value if isinstance(value, BundleKind) else None,
)
def test_a_bad_bundle_is_refused_and_the_slot_is_untouched(
    board: ContainerBoard, bundles: BundleSet, kind: BundleKind, words: str
) -> None:
    slot = board.spec.nv_dir / "slot_b.img"
    before, state = digest(slot), board.boot.state()
    with board.shell() as shell:
        shell.push(bundles.bundle(kind).path, UPLOAD)
        done = shell.run(["rauc", "install", UPLOAD], check=False, timeout_s=60.0)
        shell.run(["sync"])
    assert done.returncode == 1
    assert "Installing" in done.stderr
    assert words in done.stdout + done.stderr
    assert digest(slot) == before
    assert board.boot.state() == state


def test_a_signed_artefact_is_verified_on_the_board_against_the_same_keyring(
    board: ContainerBoard, tmp_path: Path
) -> None:
    artefact = tmp_path / "model.onnx"
    artefact.write_bytes(b"weights" * 10_000)
    signature = sign_artefact(artefact)
    verify = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "/tmp/model.p7s", "-purpose", "any"]
    verify += ["-content", "/tmp/model", "-CAfile", "/etc/rauc/keyring.pem", "-out", "/dev/null"]
    with board.shell() as shell:
        shell.push(artefact, "/tmp/model")
        shell.push(signature, "/tmp/model.p7s")
        shell.run(verify)
        shell.write("/tmp/model", b"Weights" * 10_000)
        assert shell.run(verify, check=False).returncode != 0


def test_the_runtime_of_the_payload_loads_without_a_word_on_stderr(board: ContainerBoard) -> None:
    script = "import numpy, onnxruntime; print(numpy.ones(3).sum(), onnxruntime.get_available_providers())"
    with board.shell() as shell:
        done = shell.run(["python3", "-c", script])
    assert done.stdout.startswith("3.0 [")
    assert "CPUExecutionProvider" in done.stdout
    assert done.stderr == ""


def test_an_os_that_panics_uses_up_its_tries_and_the_old_one_comes_back(
    board: ContainerBoard, bundles: BundleSet
) -> None:
    before = board.identity()
    since = board.console.size()
    with board.shell() as shell:
        install(shell, bundles.bundle(BundleKind.NO_BOOT))
    after = activate(board, before)
    assert (after.slot, after.image_sha256) == ("A", before.image_sha256)
    assert board.console.text(since).count("Kernel panic - not syncing") == 3
    state = board.boot.state()
    assert (state.active, state.slots[1].bootable, state.slots[1].retries) == ("A", False, 0)
    with board.shell() as shell:
        assert rauc_status(shell)["slots"]["rootfs.1"]["boot_status"] == "bad"
        assert (
            "slot: 1,             retry_count: 0,             status: unbootable"
            in shell.run(["nvbootctrl", "-t", "rootfs", "dump-slots-info"]).stdout
        )


def test_power_cuts_while_the_new_os_boots_use_up_its_tries_and_the_old_one_comes_back(
    board: ContainerBoard, bundles: BundleSet
) -> None:
    before = board.identity()
    with board.shell() as shell:
        install(shell, bundles.os_v2)
        shell.run(["rauc", "status", "mark-active", "other"])
    board.supervisor.cut()
    for left in (2, 1, 0):
        since = board.console.size()
        board.supervisor.on()
        board.console.wait_for(r"Booting Linux on physical CPU", deadline_s=20.0, since=since)
        board.supervisor.cut()
        assert firmware(board).slot("B").retries == left
    board.supervisor.on()
    after = board.wait_booted()
    assert (after.slot, after.image_sha256) == ("A", before.image_sha256)
    assert not firmware(board).slot("B").bootable


def test_an_os_that_hangs_is_ended_by_the_watchdog_until_the_old_one_comes_back(
    board: ContainerBoard, bundles: BundleSet
) -> None:
    before = board.identity()
    since = board.console.size()
    with board.shell() as shell:
        install(shell, bundles.bundle(BundleKind.HANG))
    # Longer than a boot of the good OS takes to feed it, on a busy machine too.
    firmware(board).variables.set_number("WatchdogBootMs", 3000)
    after = activate(board, before)
    assert after.slot == "A"
    assert board.console.text(since).count("CPU watchdog expired") == 3
    with board.shell() as shell:
        assert shell.read("/sys/devices/platform/bus@0/c360000.pmc/reset_reason") == b"BCCPLEXWDT\n"


def test_a_slot_that_nobody_confirms_gives_way_to_the_old_one(board: ContainerBoard, bundles: BundleSet) -> None:
    before = board.identity()
    since = board.console.size()
    with board.shell() as shell:
        install(shell, bundles.bundle(BundleKind.UNHEALTHY))
    firmware(board).variables.set_number("ConfirmDeadlineS", 2)
    upload = activate(board, before)
    assert (upload.slot, upload.os_version) == ("B", "2.0.1+unhealthy")

    def old_one() -> Identity | None:
        now = board.identity()
        return now if now.slot == "A" else None

    after = wait_until(old_one, what="the fall-back to slot A", deadline_s=60.0, error=DeviceError)
    assert after.image_sha256 == before.image_sha256
    assert board.console.text(since).count("slot B was not confirmed within 2 s") == 3
    with board.shell() as shell:
        shell.run(["sleep", "3"])
    assert board.identity().boot_id == after.boot_id, "a confirmed slot has no dead man"


def test_a_power_cut_during_install_leaves_the_old_os_and_the_install_can_be_repeated(
    board: ContainerBoard, bundles: BundleSet
) -> None:
    before = board.identity()
    control = firmware(board)
    control.mark_good("B")
    with board.shell() as shell:
        shell.push(bundles.os_v2.path, UPLOAD)
        shell.run(["sync"])

        def attempt() -> None:
            try:
                shell.run(["rauc", "install", UPLOAD], check=False, timeout_s=20.0)
            except DeviceError:
                return  # the power is gone

        thread = threading.Thread(target=attempt)
        thread.start()
        # The updater marks the slot bad before it writes to it.
        wait_until(lambda: not control.slot("B").bootable, what="the write to slot B", deadline_s=20.0, every_s=0.001)
        board.supervisor.cut()
    thread.join(timeout=30.0)
    assert not control.slot("B").bootable
    board.supervisor.on()
    after = board.wait_booted()
    assert (after.slot, after.image_sha256) == ("A", before.image_sha256)
    assert after.boot_id != before.boot_id
    with board.shell() as shell:
        install(shell, bundles.os_v2)
    upload = activate(board, after)
    assert (upload.slot, upload.image_sha256) == ("B", bundles.os_v2.image_sha256)


def test_an_installed_image_survives_a_power_cut_right_after_the_install(
    board: ContainerBoard, bundles: BundleSet
) -> None:
    with board.shell() as shell:
        install(shell, bundles.os_v2)
        shell.run(["rauc", "status", "mark-active", "other"])
    board.supervisor.reset()
    identity = board.wait_booted()
    assert (identity.slot, identity.image_sha256) == ("B", bundles.os_v2.image_sha256)


def test_the_version_that_runs_is_installed_once_more_and_boots(board: ContainerBoard, bundles: BundleSet) -> None:
    upload = board.identity()
    for expected in ("B", "A"):
        with board.shell() as shell:
            install(shell, bundles.os_v2)
        upload = activate(board, upload)
        assert (upload.slot, upload.image_sha256) == (expected, bundles.os_v2.image_sha256)
        with board.shell() as shell:
            shell.run(["rauc", "status", "mark-good"])
    with board.shell() as shell:  # and nothing older than that, unless somebody allows it
        shell.push(bundles.bundle(BundleKind.OLDER).path, UPLOAD)
        refused = shell.run(["rauc", "install", UPLOAD], check=False)
        assert refused.returncode == 1 and "Pre-install handler error" in refused.stdout + refused.stderr
        shell.run(["touch", "/run/older-allowed"])
        shell.run(["rauc", "install", UPLOAD])
