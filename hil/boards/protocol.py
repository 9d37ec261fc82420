"""What a board is: the verbs every board driver implements and the conformance suite checks.

A test never asks which driver it has; it asks for a capability (``hil.boards.capabilities``).  ``fidelity`` says what
a result on this board is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

Slot = Literal["A", "B"]


class Fidelity(StrEnum):
    """What a result is worth: a virtual pass never closes a hardware requirement."""

    VIRTUAL = "virtual"
    HARDWARE = "hardware"


class PowerState(StrEnum):
    OFF = "off"
    ON = "on"


class Via(StrEnum):
    """Which way a connection to a board goes."""

    MANAGEMENT = "management"  # the lab's debug port: never shaped, not there in flight
    FLIGHT = "flight"  # from the ground station over the emulated links, as an operator would


@dataclass(frozen=True)
class Identity:
    """Who answers, read from the board itself."""

    model: str  # /proc/device-tree/model without its NUL, e.g. "NVIDIA Jetson AGX Orin Developer Kit"
    serial: str
    boot_id: str  # /proc/sys/kernel/random/boot_id: the only sound proof that a reboot happened
    slot: Slot  # the slot that is running
    os_version: str  # VERSION_ID of /etc/os-release
    image_sha256: str  # sha256 of the running root image


@dataclass(frozen=True)
class SlotState:
    slot: Slot
    bootable: bool
    retries: int
    good: bool  # confirmed after a health check


@dataclass(frozen=True)
class BootState:
    running: Slot | None  # None: off, in firmware, or in the recovery shell
    active: Slot  # tried first at the next boot
    slots: tuple[SlotState, SlotState]


@dataclass(frozen=True)
class Completed:
    """A finished command on a board."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


class Supervisor(Protocol):
    """The microcontroller beside the module: power and reset, outside Linux."""

    def state(self) -> PowerState: ...
    def on(self) -> None:
        """Power on; returns once power is applied and the NICs are plugged, not once it has booted."""

    def off(self, *, deadline_s: float = 10.0) -> None:
        """Ask the OS to shut down; cut power if it has not within ``deadline_s``."""

    def cut(self) -> None:
        """Remove power at once: what was not synced to disk is lost."""

    def reset(self) -> None:
        """Cut, then on."""


class Console(Protocol):
    """The serial console."""

    @property
    def url(self) -> str:
        """What ``serial.serial_for_url`` opens (a pty path for container boards)."""

    @property
    def log(self) -> Path:
        """Every byte since the bench came up, appended as it arrives."""

    def size(self) -> int:
        """Return the bytes of the log so far: the offset from which only new text is seen."""

    def tail(self, lines: int = 8) -> str:
        """Return the last lines, indented, for messages."""

    def wait_for(self, pattern: str, *, deadline_s: float, since: int = 0) -> str:
        """Wait until the log, from byte offset ``since``, matches the regex; return the matched text.

        DeviceError at the deadline, with the last lines of the console.
        """

    def write(self, data: bytes, *, deadline_s: float = 5.0) -> None:
        """Send keystrokes. BenchError while the board's firmware runs, without a console, and at the deadline."""

    def sendline(self, text: str, *, deadline_s: float = 5.0) -> None:
        """Send a line; :meth:`expect` then looks at what comes from here on. Raises what :meth:`write` raises."""

    def expect(self, pattern: str, *, deadline_s: float) -> str:
        """Wait until what came since the last ``sendline`` or ``expect`` matches the regex; return the matched text.

        DeviceError at the deadline, with what was waited for and the last lines of the console.
        """


class Shell(AbstractContextManager["Shell"], Protocol):
    """Commands and files over SSH."""

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = True) -> Completed:
        """Run one command as root; DeviceError on a non-zero exit when ``check`` (message has stderr's tail).

        DeviceError also when it says more than 16 MiB.
        """

    def push(self, local: Path, remote: str) -> None: ...
    def pull(self, remote: str, local: Path) -> None: ...
    def read(self, remote: str) -> bytes: ...
    def write(self, remote: str, content: bytes) -> None: ...
    def close(self) -> None: ...


class BootControl(Protocol):
    """A/B slots as the firmware sees them (works while the OS is down where the hardware allows)."""

    def state(self) -> BootState: ...
    def set_active(self, slot: Slot) -> None: ...


class Board(Protocol):
    """One Orin module with its carrier and supervisor."""

    # Read-only, so that a driver's own richer types satisfy them.
    @property
    def name(self) -> str: ...
    @property
    def spacecraft(self) -> str: ...
    @property
    def fidelity(self) -> Fidelity: ...
    @property
    def supervisor(self) -> Supervisor: ...
    @property
    def console(self) -> Console: ...
    @property
    def boot(self) -> BootControl: ...

    def shell(self, via: Via = Via.MANAGEMENT) -> Shell:
        """Open a new SSH session. BenchError when there is no route, DeviceError when sshd does not answer."""

    def address(self, via: Via = Via.MANAGEMENT) -> tuple[str, str]:
        """Return (network namespace to connect from, IPv4 address of the board)."""

    def identity(self) -> Identity: ...

    def wait_booted(self, *, deadline_s: float = 30.0) -> Identity:
        """Wait until the OS answers over SSH; DeviceError at the deadline with the console's last lines."""

    def sensors(self) -> dict[str, float]:
        """Return the latest readings by name with the unit in it: ``tj_c``, ``gpu_load_percent``, ``vdd_in_mw``."""
