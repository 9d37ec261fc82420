"""A kind of outlet or pin: everything the testbed must know to use one more power strip.

The object is an entry point of the group ``hil.outlets``; the entry point's name is the ``kind`` of the lab file.  The
built-in kinds are such entry points too (pyproject.toml), and :mod:`hil.boards.power.tasmota` is a short example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from hil.boards.power.pins import RecoveryPin, ResetPin
from hil.boards.power.switch import Outlet
from hil.core import netns
from hil.core.command import Runner, run
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.lab.power import OutletSpec

S = TypeVar("S", bound=OutletSpec)


@dataclass(frozen=True)
class Surroundings:
    """What a driver may use of the machine it runs on."""

    namespace: str = netns.HOST  # network namespace from which strips with an address are reached
    runner: Runner = run
    clock: Clock = SYSTEM_CLOCK
    shared: dict[str, Any] = field(default_factory=dict)
    """Objects that several parts of one supervisor share, e.g. a serial port by its name."""


def no_devices(_spec: Any) -> tuple[str, ...]:
    """Return that nothing of this machine is needed."""
    return ()


@dataclass(frozen=True)
class OutletKind(Generic[S]):
    """One kind of power switch, or of pin; a factory raises ConfigurationError when a password cannot be read."""

    model: type[S]
    """Its section of the lab file: ``kind`` is the name of the entry point.  The docs are made from it."""
    outlet: Callable[[S, Surroundings], Outlet] | None = None
    """Make the driver of its outlet; touches nothing yet.  None: it switches no power."""
    reset: Callable[[S, Surroundings], ResetPin] | None = None
    """Make the driver of a reset pin.  None: it has no pins."""
    recovery: Callable[[S, Surroundings], RecoveryPin] | None = None
    devices: Callable[[S], tuple[str, ...]] = no_devices
    """Device files of this machine that it needs; ``hil doctor --lab`` checks that they are there."""
