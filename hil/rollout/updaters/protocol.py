"""What a rollout needs from an operating system's updater.

What a file declares (:mod:`hil.rollout.updaters.declared`) implements it, also for RAUC and SWUpdate.  Another one
plugs in by implementing :class:`OsAdapter`, passing ``AdapterConformance``, and giving a factory of it to
:class:`hil.rollout.rollout.Rollout`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hil.boards.protocol import Slot
from hil.errors import DeviceError


@dataclass(frozen=True)
class InstalledSlot:
    """One slot as the updater sees it."""

    slot: Slot
    state: Literal["booted", "active", "inactive"]
    bootable: bool  # the updater's boot status is "good": the firmware may try it
    image_sha256: str | None  # None: the updater did not write this slot, or was cut off while writing
    version: str | None
    complete: bool  # the last write of this slot ran to its end


@dataclass(frozen=True)
class OsStatus:
    """The updater's view of a board."""

    compatible: str
    booted: Slot
    primary: Slot | None  # tried first at the next boot
    slots: tuple[InstalledSlot, ...]

    def slot(self, name: Slot) -> InstalledSlot:
        """Return the slot of that name; DeviceError when the updater does not list it."""
        for slot in self.slots:
            if slot.slot == name:
                return slot
        raise DeviceError(f"the updater does not know slot {name}; it lists {[s.slot for s in self.slots]}")

    @property
    def other(self) -> InstalledSlot:
        """The slot that is not running."""
        return self.slot("B" if self.booted == "A" else "A")


@dataclass(frozen=True)
class HealthReport:
    """What a board says about itself after a boot."""

    healthy: bool
    problems: tuple[str, ...]
    facts: dict[str, Any]


class RefusedBundle(DeviceError):
    """The updater refused a bundle before it touched a slot.

    ``reason`` is the updater's own words.  Whether a refusal is a failure is for the caller to say: of a tampered
    bundle it is what the requirement asks for.
    """

    def __init__(self, message: str, *, reason: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class InstallFailed(DeviceError):
    """The bundle was accepted and writing it failed; ``last_error`` is the updater's own words."""

    def __init__(self, message: str, *, last_error: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.last_error = last_error


class OsAdapter(Protocol):
    """The verbs of an updater on one board.  Every verb may be repeated without harm."""

    def prepare(self) -> None:
        """Do ahead what the first verb would spend time on, such as logging in; may do nothing."""
        ...

    def status(self) -> OsStatus:
        """Return what is in the slots; DeviceError when the updater does not answer."""
        ...

    def install(self, path_on_board: str, *, sha256: str, timeout_s: float = 120.0) -> OsStatus:
        """Check digest and signature, then write the slot that is not running; it does not become active.

        RefusedBundle before anything is touched; InstallFailed after.
        """
        ...

    def activate(self) -> None:
        """Make the slot that is not running the one to boot next, and restart. Returns before the restart."""
        ...

    def confirm(self) -> None:
        """Mark the running slot good, so that the firmware keeps it."""
        ...

    def configure(self, document: dict[str, Any]) -> None:
        """Give the OS settings of its own that are not the cluster configuration (may do nothing)."""
        ...

    def health(self) -> HealthReport:
        """Ask the OS whether it is fit to be confirmed."""
        ...

    def roll_back(self) -> None:
        """Make the previous slot the one to boot next, and restart. Returns before the restart."""
        ...

    def close(self) -> None: ...
