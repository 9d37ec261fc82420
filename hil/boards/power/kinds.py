"""A kind of outlet or pin: everything the testbed must know to use one more power strip.

The object is an entry point of the group ``hil.outlets``; the entry point's name is the ``kind`` of the lab file.  The
built-in kinds are such entry points too (pyproject.toml), and :mod:`hil.boards.power.tasmota` is a short example.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from hil.boards.power.switch import Outlet, RecoveryPin, ResetPin
from hil.core import netns
from hil.core.command import Runner, run
from hil.core.files import read_text
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import ConfigurationError
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
    devices: Callable[[S], tuple[str, ...]] = lambda _spec: ()
    """Device files of this machine that it needs; ``hil doctor --lab`` checks that they are there."""


def resolve_secret(reference: str) -> str:
    """Return what ``env:NAME`` or ``file:PATH`` stands for. ConfigurationError names the place, never a value."""
    scheme, _, place = reference.partition(":")
    if scheme == "env":
        if value := os.environ.get(place):
            return value
        raise ConfigurationError(
            f"environment variable {place} is not set, and the lab file takes a password from it",
            remedy=f"set it for this program: {place}=... hil ...",
        )
    remedy = "the lab file takes a password from it: put it there, readable by you alone (chmod 600)"
    if value := read_text(Path(place), remedy=remedy).strip():
        return value
    raise ConfigurationError(f"{place}: is empty", remedy=remedy)
