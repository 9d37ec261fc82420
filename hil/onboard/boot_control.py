"""Firmware variables of a board and the A/B boot control kept in them.

Pure standard library: the firmware (PID 1 of the hardware image), the boot-control tools inside the OS and the
harness on the host all use this one module, so there is one definition of what a slot's state means.

Files look like efivarfs: ``<Name>-<GUID>``, four bytes of attributes (little endian, 7 = non-volatile, boot,
run time), then the value.  Names with the Jetson GUID exist on a Jetson with the same meaning; where NVIDIA keeps
state outside UEFI variables (retry counters live in scratch registers) ours stand under a GUID of our own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hil.onboard.files import write_durably

Slot = Literal["A", "B"]
SLOTS: tuple[Slot, Slot] = ("A", "B")

JETSON_GUID = "781e084c-a330-417c-b678-38e696380cb9"
OWN_GUID = "5b0a2d5e-92c1-4d6e-8a61-0f6b7c1f4e2a"
ATTRIBUTES = struct.pack("<I", 7)

STATUS_NORMAL = 0x00
STATUS_UNBOOTABLE = 0xFF
RETRY_COUNT_MAX = 3

_JETSON_NAMES = ("Rootfs", "BootChainFw")
"""How the names begin that a Jetson has too."""

DEFAULTS: dict[str, int] = {
    "EscPromptMs": 300,  # how long the firmware waits for ESC
    "WatchdogTimeoutMs": 15_000,  # between two feeds; 120 s on a Jetson, shortened so that trials stay short
    # Until the first feed after the kernel was started: forty boards that boot at once on two cores need a while
    "WatchdogBootMs": 40_000,
    "ConfirmDeadlineS": 60,  # an unconfirmed slot reboots itself after this long
    "BootCount": 0,
}


def other(slot: Slot) -> Slot:
    """Return the slot that is not this one."""
    return "B" if slot == "A" else "A"


class Variables:
    """One directory of variables. A write is atomic (rename) and, unless ``durable`` is off, fsynced."""

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self.directory = directory
        self.durable = durable

    def path(self, name: str) -> Path:
        guid = JETSON_GUID if name.startswith(_JETSON_NAMES) else OWN_GUID
        return self.directory / f"{name}-{guid}"

    def read(self, name: str) -> bytes | None:
        """Return the value without its attributes; None when it is not set or too short to be one."""
        try:
            content = self.path(name).read_bytes()
        except FileNotFoundError:
            return None
        return content[4:] if len(content) >= 4 else None

    def write(self, name: str, value: bytes) -> None:
        write_durably(self.path(name), ATTRIBUTES + value, durable=self.durable)

    def number(self, name: str, default: int | None = None) -> int:
        """A little-endian unsigned variable; ``default`` (else :data:`DEFAULTS`, else 0) when unset or torn."""
        value = self.read(name)
        if value:
            return int.from_bytes(value[:8], "little")
        return DEFAULTS.get(name, 0) if default is None else default

    def set_number(self, name: str, value: int) -> None:
        if self.read(name) != (packed := struct.pack("<I", value)):
            self.write(name, packed)

    def text(self, name: str, default: str = "") -> str:
        value = self.read(name)
        return default if value is None else value.decode("utf-8", "replace")

    def set_text(self, name: str, value: str) -> None:
        self.write(name, value.encode())

    def names(self) -> list[str]:
        """Return file names (``Name-GUID``) of everything that is set, sorted."""
        return sorted(p.name for p in self.directory.iterdir() if not p.name.startswith("."))


@dataclass(frozen=True)
class SlotRecord:
    """What the firmware knows of one slot."""

    slot: Slot
    bootable: bool  # status normal and tries left
    retries: int
    confirmed: bool  # marked good after a health check
    status: int  # STATUS_NORMAL or STATUS_UNBOOTABLE


class BootControl:
    """A/B boot control on :class:`Variables`.

    A slot that was just made active has all its tries but is not *confirmed*; only ``mark_good`` confirms.
    Every boot takes one try, stored before the boot, so a boot that hangs or panics has been counted.
    """

    def __init__(self, variables: Variables) -> None:
        self.variables = variables

    @property
    def active(self) -> Slot:
        """The slot tried first at the next boot."""
        return "B" if self.variables.number("BootChainFwNext") == 1 else "A"

    @property
    def current(self) -> Slot:
        """The slot the firmware started last."""
        return "B" if self.variables.number("BootChainFwCurrent") == 1 else "A"

    def slot(self, slot: Slot) -> SlotRecord:
        status = self.variables.number(f"RootfsStatusSlot{slot}", STATUS_NORMAL)
        retries = self.variables.number(f"RetryCount{slot}", RETRY_COUNT_MAX)
        confirmed = self.variables.number(f"Confirmed{slot}", 0) == 1
        return SlotRecord(slot, status == STATUS_NORMAL and retries > 0, retries, confirmed, status)

    def initialise(self) -> None:
        """As it leaves the factory: A active, both slots confirmed with all their tries."""
        self.variables.set_number("RootfsRedundancyLevel", 1)
        self.variables.set_number("RootfsRetryCountMax", RETRY_COUNT_MAX)
        self.variables.set_number("BootChainFwStatus", 0)
        self.variables.set_number("BootChainFwCurrent", 0)
        self.variables.set_number("BootChainFwNext", 0)
        for slot in SLOTS:
            self.mark_good(slot)

    def set_active(self, slot: Slot) -> None:
        """Try ``slot`` first from now on, with all its tries.

        It stays as confirmed as it was: an installed image went through ``mark_bad`` and is not, the image one
        rolls back to still is.
        """
        self._arm(slot)
        self.variables.set_number("BootChainFwNext", SLOTS.index(slot))

    def mark_good(self, slot: Slot) -> None:
        """Health was checked: confirm the slot and give it all its tries again."""
        self._arm(slot)
        self.variables.set_number(f"Confirmed{slot}", 1)

    def mark_bad(self, slot: Slot) -> None:
        """Never boot this slot (the updater does this before it writes to it)."""
        self.variables.set_number(f"RootfsStatusSlot{slot}", STATUS_UNBOOTABLE)
        self.variables.set_number(f"RetryCount{slot}", 0)
        self.variables.set_number(f"Confirmed{slot}", 0)

    def refresh(self, slot: Slot) -> None:
        """A confirmed slot has booted well again: give it back its tries. Nothing for an unconfirmed one."""
        if self.slot(slot).confirmed:
            self._arm(slot)

    def choose(self) -> Slot | None:
        """Return the firmware's choice for this boot, or None for the recovery shell.

        Takes one try of the chosen slot and stores that first.  An exhausted active slot is marked unbootable
        and the other one becomes active.
        """
        first = self.active
        for slot in (first, other(first)):
            record = self.slot(slot)
            if record.bootable:
                self.variables.set_number(f"RetryCount{slot}", record.retries - 1)
                if slot != first:
                    self.variables.set_number("BootChainFwNext", SLOTS.index(slot))
                self.variables.set_number("BootChainFwCurrent", SLOTS.index(slot))
                return slot
            self.mark_bad(slot)
        return None

    def _arm(self, slot: Slot) -> None:
        self.variables.set_number(f"RetryCount{slot}", RETRY_COUNT_MAX)
        self.variables.set_number(f"RootfsStatusSlot{slot}", STATUS_NORMAL)
