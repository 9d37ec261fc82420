"""``swupdate-slots``: the A/B side of SWUpdate on the board (``/usr/sbin/swupdate-slots``).

SWUpdate writes images where it is told to and keeps no account of slots.  This tool chooses the slot that is not
running, has the whole bundle checked before anything is touched, and remembers what a slot holds::

    swupdate-slots status                  JSON on stdout
    swupdate-slots install FILE            exit 0; 2 refused, nothing touched; 1 failed, the slot cannot boot; 75 busy
    swupdate-slots mark-active other|A|B   boot it next; refused for a slot without a complete image
    swupdate-slots mark-good               keep the running slot
    swupdate-slots begin                   (SWUpdate's ``preupdatecmd``) from now on the other slot cannot boot
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from hil.onboard.boot_control import SLOTS, BootControl, Slot, Variables, other
from hil.onboard.files import read_object, sync, write_json
from hil.onboard.node.errors import ApiError
from hil.onboard.node.signature import has_revocation_list, verify
from hil.onboard.squashfs import image_sha256

REFUSED, BUSY = 2, 75
HEADER_BYTES = 110
LARGEST_PART = 1 << 20
"""Bytes of the description, and of its signature."""
CONFIGURATION = "/etc/swupdate.cfg"

Run = Callable[[Sequence[str]], int]
"""Runs a command with its output on ours; its exit code."""


class Refused(Exception):
    """What was asked for is not done, and nothing was changed."""


@dataclass(frozen=True)
class Places:
    """Where things are; tests put their own files here."""

    variables: Path = Path("/sys/firmware/efi/efivars")
    command_line: Path = Path("/proc/cmdline")
    confirmed: Path = Path("/run/slot-confirmed")
    hardware: Path = Path("/etc/hwrevision")
    state: Path = Path("/data/swupdate")
    keyring: Path = Path("/etc/rauc/keyring.pem")
    lock: Path = Path("/run/swupdate-slots.lock")
    release: Path = Path("/etc/os-release")
    older_allowed: Path = Path("/run/older-allowed")
    """While this file is there, an older bundle is installed."""
    devices: dict[Slot, Path] = field(
        default_factory=lambda: {"A": Path("/dev/mmcblk0p1"), "B": Path("/dev/mmcblk0p2")}
    )


def run_here(argv: Sequence[str]) -> int:
    """Run a command; its output goes where ours goes.  SWUpdate stages the bundle in ``TMPDIR``."""
    return subprocess.run(argv, stdin=subprocess.DEVNULL).returncode


class Slots:
    """The verbs."""

    def __init__(self, places: Places, run: Run = run_here) -> None:
        self.places = places
        self.control = BootControl(Variables(places.variables))
        self._run = run

    @property
    def booted(self) -> Slot:
        """The running slot, from the kernel's command line. Refused when it does not say."""
        words = self.places.command_line.read_text().split()
        for word in words:
            name, _, value = word.partition("=")
            if name == "boot.slot_suffix":
                return "B" if value == "_b" else "A"
        raise Refused("the kernel's command line does not name the running slot")

    def status(self) -> dict[str, Any]:
        """Return what ``hil/rollout/updaters/swupdate.yaml`` reads."""
        slots = {}
        for slot in SLOTS:
            known = self.control.slot(slot)
            record = self._record(slot)
            slots[slot] = {
                "bootable": known.bootable,
                "confirmed": known.confirmed,
                "complete": record is not None,
                "image_sha256": record and record.get("image_sha256"),
                "version": record and record.get("version"),
            }
        hardware = self.places.hardware.read_text().split()
        primary = self.control.active
        return {"compatible": hardware[-1], "booted": self.booted, "primary": primary, "slots": slots}

    def begin(self) -> None:
        """The other slot is about to be written: from now on it cannot boot, and what it held is forgotten."""
        target = other(self.booted)
        self.control.mark_bad(target)
        self.places.state.mkdir(parents=True, exist_ok=True)
        self._path(target).unlink(missing_ok=True)
        sync(self.places.state)

    def install(self, bundle: Path) -> int:
        """Check all of it, then write the other slot, then read it back. An exit code."""
        target = other(self.booted)
        temporary = self.places.state / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        os.environ["TMPDIR"] = str(temporary)
        argv = ["swupdate", "-f", CONFIGURATION, "-e", f"stable,slot{target}", "-i", str(bundle)]
        if (running := self.running_version()) and not self.places.older_allowed.exists():
            argv += ["-N", running]
        # A dry run checks signature, hardware and every digest; without it SWUpdate begins before it has read all.
        if checked := self._run([*argv, "-n"]):
            return REFUSED if checked == 1 else 1  # it was killed, or is not there: that is no answer
        try:
            self._check_signer(bundle, temporary)
        except ApiError as exc:
            print(f"swupdate-slots: Signature verification failed: {exc}", file=sys.stderr)
            return REFUSED
        self.begin()
        if self._run(argv) != 0:
            return 1
        sync(self.places.devices[target])
        with self.places.devices[target].open("rb") as device:
            digest = image_sha256(device)
        if not digest:
            print(f"swupdate-slots: slot {target} holds no image after the installation", file=sys.stderr)
            return 1
        write_json(self._path(target), {"image_sha256": digest, "version": bundle_version(bundle)})
        return 0

    def _check_signer(self, bundle: Path, temporary: Path) -> None:
        """ApiError when the keyring's revocation list, which SWUpdate does not read, names the signer."""
        if not has_revocation_list(self.places.keyring):
            return
        parts = {"sw-description": b"", "sw-description.sig": b""}
        with bundle.open("rb") as file:
            for name in parts:
                parts[name] = _member(file, name)
        description = temporary / "sw-description"
        description.write_bytes(parts["sw-description"])
        verify(description, parts["sw-description.sig"], self.places.keyring)

    def running_version(self) -> str:
        """Return the version of the OS that runs; empty when it does not say."""
        found = re.search(r'^VERSION_ID="?([^"\s]+)', self.places.release.read_text(), re.MULTILINE)
        return found[1] if found else ""

    def mark_active(self, name: str) -> None:
        """Boot that slot next. Refused when it holds no complete image."""
        if name not in (*SLOTS, "other"):
            raise Refused(f"no slot {name!r}: A, B or other")
        target = other(self.booted) if name == "other" else next(slot for slot in SLOTS if slot == name)
        if self._record(target) is None and not self.control.slot(target).bootable:
            raise Refused(f"slot {target} does not hold a complete image")
        self.control.set_active(target)

    def mark_good(self) -> None:
        """Keep the running slot."""
        self.control.mark_good(self.booted)
        self.places.confirmed.write_text("1\n")

    def _path(self, slot: Slot) -> Path:
        return self.places.state / f"slot_{slot.lower()}.json"

    def _record(self, slot: Slot) -> dict[str, Any] | None:
        return read_object(self._path(slot)) or None


def _member(file: BinaryIO, wanted: str) -> bytes:
    """Return the next file of a cpio archive ("new ASCII" format). ApiError when it is another one."""
    header = file.read(HEADER_BYTES)
    try:
        size, name_size = int(header[54:62], 16), int(header[94:102], 16)
    except ValueError:
        raise ApiError(422, "the archive is none") from None
    name = file.read(min(name_size, 256)).rstrip(b"\0").decode(errors="replace")
    if name != wanted or size > LARGEST_PART:
        raise ApiError(422, f"{wanted} is not where it has to be in the archive")
    file.seek(-file.tell() % 4, os.SEEK_CUR)
    content = file.read(size)
    file.seek(-file.tell() % 4, os.SEEK_CUR)
    return content


def bundle_version(bundle: Path) -> str:
    """``version`` of the description, which is the first file of the archive; empty when it has none."""
    with bundle.open("rb") as file:
        head = file.read(65536)
    found = re.search(rb'version\s*=\s*"([^"]*)"', head)
    return found[1].decode("utf-8", "replace") if found else ""


def run(argv: Sequence[str], slots: Slots) -> int:
    """Carry out one verb; return the exit code."""
    match list(argv):
        case ["status"]:
            print(json.dumps(slots.status()))
        case ["begin"]:
            slots.begin()
        case ["install", name]:
            with slots.places.lock.open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    print("swupdate-slots: another installation is running", file=sys.stderr)
                    return BUSY
                return slots.install(Path(name))
        case ["mark-active", name]:
            slots.mark_active(name)
        case ["mark-good"]:
            slots.mark_good()
        case _:
            print("usage: swupdate-slots status | install FILE | mark-active S | mark-good", file=sys.stderr)
            return 64
    return 0


def main() -> int:
    try:
        return run(sys.argv[1:], Slots(Places()))
    except (Refused, OSError) as exc:
        print(f"swupdate-slots: {exc}", file=sys.stderr)
        return REFUSED if isinstance(exc, Refused) else 1


if __name__ == "__main__":
    sys.exit(main())
