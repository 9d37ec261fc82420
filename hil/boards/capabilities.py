"""What a board can do besides ``hil.boards.protocol.Board``, and what a board does not have of it.

A test or a command asks for the capability, never for the driver::

    if isinstance(board, Recoverable):
        board.enter_recovery()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable
from unittest import SkipTest

from hil.boards.jetson.flash.recovery import SYSFS, UsbDevice
from hil.boards.jetson.inspection import BoardReport
from hil.boards.jetson.sensors import Provision, Reading
from hil.boards.protocol import Board, Shell, Via
from hil.boards.ssh.login import Target
from hil.boards.ssh.stream import Sink, Source

# --- what more a board can do


@runtime_checkable
class ResumableFiles(Shell, Protocol):
    """A shell that continues a file where an earlier connection broke."""

    def alive(self) -> bool:
        """Return whether the connection still stands, as far as this side knows."""

    def file_size(self, remote: str) -> int:
        """Return the bytes of a file on the board; -1 when it is not there."""

    def send_from(self, local: Path, remote: str, offset: int) -> Iterator[int]:
        """Send from ``offset`` on; yield the bytes that are there."""

    def receive_from(self, remote: str, local: Path, offset: int, limit: int | None = None) -> Iterator[int]:
        """Fetch from ``offset`` on, until ``limit`` bytes are here; yield the bytes that are."""


@runtime_checkable
class Streaming(Protocol):
    """A shell that gives on what a command says while it runs."""

    def stream(
        self,
        argv: Sequence[str],
        *,
        out: Sink,
        err: Sink,
        stdin: Source = b"",
        timeout_s: float = math.inf,
        stop: Callable[[], bool] = lambda: False,
    ) -> int | None:
        """Return the exit code; None when the command was ended, after ``timeout_s`` or because ``stop`` said so."""


@runtime_checkable
class BootBudgets(Protocol):
    """A board that knows how long it may take."""

    @property
    def boot_budget_s(self) -> float:
        """Power-on until it answers over SSH, at most."""

    @property
    def fall_back_budget_s(self) -> float:
        """A restart into an OS that does not come up, until the one before it answers, at most."""


@runtime_checkable
class SensesOverShell(Protocol):
    """A board whose sensors can be read over a session that is open already."""

    def sensors_over(self, shell: Shell) -> dict[str, float]: ...


@runtime_checkable
class ReadsOverShell(Protocol):
    """A board that reports more than flat numbers: what throttles it, over-current, alarms."""

    def reading_over(self, shell: Shell) -> Reading: ...


@runtime_checkable
class Inspectable(Protocol):
    """A board that reports its module, its boot and its slots, its trip points and rails."""

    def inspect(self) -> BoardReport: ...
    def provision(self) -> Provision: ...


@runtime_checkable
class Recoverable(Protocol):
    """A board whose module has a force-recovery mode, in which a flash tool writes it over USB."""

    @property
    def module(self) -> str:
        """Part number, e.g. ``p3701-0005``."""

    @property
    def usb_path(self) -> str:
        """USB port where it appears in that mode; empty when it is not cabled."""

    @property
    def has_recovery_pin(self) -> bool:
        """Whether it gets there by a pin; else only its running Linux brings it there."""

    def enter_recovery(self, *, deadline_s: float = 30.0, sysfs: Path = SYSFS) -> UsbDevice:
        """Enter the mode; return once USB proves it."""


@runtime_checkable
class Reachable(Protocol):
    """A board that says how an SSH client gets to it."""

    def target(self, via: Via = Via.MANAGEMENT) -> Target: ...


@runtime_checkable
class Crashable(Protocol):
    """A board whose OS can be made to crash, or to stand still, from outside."""

    @property
    def can_freeze(self) -> bool:
        """Whether :meth:`freeze` is possible."""

    def panic(self) -> None:
        """Let the kernel panic; the board boots again by itself."""

    def freeze(self, *, only_init: bool = False) -> None:
        """Stop all processes of the OS, or only its init; BenchError when that is not possible."""

    def frozen(self) -> tuple[bool, str]:
        """Return whether all processes of the OS stand still, and their number in words."""

    def thaw(self) -> None:
        """Let what was stopped go on; nothing when nothing is, or while no OS runs."""


@runtime_checkable
class MemoryBounded(Protocol):
    """A board whose memory can be bounded."""

    def bound_memory(self, margin_b: int | None) -> None:
        """Leave so many bytes beyond what is in use now; None: as much as before."""


# --- what a board does not have


class Feature(StrEnum):
    """A part of the board protocol that a board may lack."""

    POWER = "power"  # a supervisor that switches it
    POWER_LOSS = "power loss"  # a cut loses what was not synced to disk
    RESTART = "restart"  # its OS restarts on `reboot`, proved by another boot id
    CONSOLE = "console"  # a serial console with a log-in prompt
    SLOTS = "slots"  # two root file systems
    SENSORS = "sensors"  # temperature, power and memory
    ORIN = "orin"  # it is a Jetson Orin, with NVIDIA's firmware and tools


@runtime_checkable
class Partial(Protocol):
    """A board that does not have every feature of the protocol."""

    @property
    def lacks(self) -> Mapping[Feature, str]:
        """Each feature that it does not have, with the reason."""


def lacks(board: Board) -> Mapping[Feature, str]:
    """Return what a board does not have, with the reasons; empty for one that says nothing of it."""
    return board.lacks if isinstance(board, Partial) else {}


Test = TypeVar("Test", bound=Callable[..., None])


def needs(*features: Feature) -> Callable[[Test], Test]:
    """Skip a test of a suite, with the reason, on a board that lacks one of these features.

    The test takes the board as its first argument or as ``board=``.  Raises ``unittest.SkipTest``, which pytest knows.
    """

    def mark(test: Test) -> Test:
        @wraps(test)
        def checked(self: Any, board: Board, *args: Any, **more: Any) -> None:
            for feature in features:
                if why := lacks(board).get(feature):
                    raise SkipTest(f"board {board.name} has no {feature}: {why}")
            test(self, board, *args, **more)

        return checked  # type: ignore[return-value]  # the same signature, which pytest reads through `wraps`

    return mark
