"""What this board is and what runs on it, read from the files that the firmware and the OS leave."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from hil.onboard.files import read_object
from hil.onboard.node.epoch import Config


@dataclass(frozen=True)
class Places:
    """Where to read; tests put their own files here."""

    board: Path = Path("/run/board.json")
    boot: Path = Path("/run/boot.json")
    confirmed: Path = Path("/run/slot-confirmed")
    os_release: Path = Path("/etc/os-release")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")
    command_line: Path = Path("/proc/cmdline")
    services: Path = Path("/run/service")
    keyring: Path = Path("/etc/rauc/keyring.pem")
    flight: Path = Path("/data/flight")
    """Directory with the certificates of flight security."""

    @classmethod
    def under(cls, root: Path) -> Places:
        """Return places that are all in one directory, for tests."""
        return cls(**{f: root / f for f in cls.__dataclass_fields__})


class Facts:
    """Facts of this boot, and the few that change while it runs."""

    def __init__(self, places: Places, data: Path) -> None:
        self.places = places
        self._data = data
        self.board = read_object(places.board)
        self.boot = read_object(places.boot)
        self.name = str(self.board.get("name", "board"))
        self.os_version = _os_version(places.os_release)
        self.boot_id = _text(places.boot_id)
        self.started_s = boot_clock()
        self.flight_security = str(self.board.get("flight_security", "none"))
        """``mtls``: nobody is served without a certificate."""
        hosts = self.board.get("hosts")
        self.addresses = {str(name): str(ip) for name, ip in hosts.items()} if isinstance(hosts, dict) else {}
        """Flight addresses of the boards, by name."""
        self._names = {ip: name for name, ip in self.addresses.items()}

    @property
    def slot(self) -> str | None:
        """A or B, from the kernel's command line as every updater reads it."""
        for word in _text(self.places.command_line).split():
            if word.startswith("rauc.slot="):
                return word.partition("=")[2]
        slot = self.boot.get("slot")
        return str(slot) if slot is not None else None

    @property
    def image_sha256(self) -> str | None:
        """Digest of the root image that runs, as the firmware found it at boot."""
        digest = self.boot.get("image_sha256")
        return str(digest) if digest else None

    @property
    def confirmed(self) -> bool:
        """Whether the running slot was marked good after a health check."""
        return _text(self.places.confirmed) == "1"

    def name_of(self, address: str) -> str:
        """Return the board that has a flight address, or the address itself."""
        return self._names.get(address, address)

    def unfit(self, config: Config, model_installed: bool) -> list[str]:
        """Return why this board must not serve under a configuration; empty when it may."""
        wanted = config.content
        reasons = []
        if self.name not in config.members:
            reasons.append(f"{self.name} is not a member")
        if self.os_version != wanted.os_version:
            reasons.append(f"runs OS {self.os_version}, {wanted.os_version} is wanted")
        image = wanted.image_sha256
        if image and image != self.image_sha256:
            reasons.append(f"runs image {(self.image_sha256 or 'unknown')[:12]}, {image[:12]} is wanted")
        if not self.confirmed:
            reasons.append("the running slot is not confirmed")
        if wanted.model and not model_installed:
            reasons.append("the model is not installed")
        return reasons

    def services(self) -> dict[str, bool]:
        """Return whether each service that init supervises has a live process."""
        found = {}
        if self.places.services.is_dir():
            for pid_file in sorted(self.places.services.glob("*.pid")):
                pid = _text(pid_file)
                found[pid_file.stem] = pid.isdigit() and Path(f"/proc/{pid}").is_dir()
        return found

    def problems(self) -> list[str]:
        """Return what a health check must not pass; empty when the board is fit to be confirmed."""
        found = [f"service {name} does not run" for name, ok in self.services().items() if not ok]
        if self.os_version is None:
            found.append("the OS does not say its version")
        try:
            if shutil.disk_usage(self._data).free < 1 << 20:
                found.append("the data partition is full")
            if os.statvfs(self._data).f_flag & os.ST_RDONLY:
                found.append("the data partition is read-only")
        except OSError as exc:
            found.append(f"the data partition cannot be read: {exc.strerror}")
        return found


def boot_clock() -> float:
    """Return seconds of a clock that never jumps and also counts while the board sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _os_version(path: Path) -> str | None:
    for line in _text(path).splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_ID":
            return value.strip("\"' ")
    return None
