"""Power of a Jetson: the parts of ``hil.boards.power``, with a console that is quiet before the board goes down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hil.boards.power.supervisor import PoweredSupervisor
from hil.boards.protocol import PowerState


class Quiet(Protocol):
    """A console that can be shut."""

    def silence(self) -> None: ...


class JetsonSupervisor:
    """``hil.boards.protocol.Supervisor``.

    Before every verb that restarts the board its console is shut, and ``forget`` is called: what was known of the
    running OS no longer holds.  A verb that fails leaves the console shut; the next ``login:``, or the OS answering,
    opens it.
    """

    def __init__(
        self, parts: PoweredSupervisor, console: Quiet, forget: Callable[[], None], *, shutdown_s: float
    ) -> None:
        """``shutdown_s``: how long the OS may take to shut down where nothing else is said."""
        self._shutdown_s = shutdown_s
        self._parts = parts
        self._console = console
        self._forget = forget

    def state(self) -> PowerState:
        return self._parts.state()

    def on(self) -> None:
        """Power on; returns once the switch says so. BenchError; the board is then told to be off again."""
        if self.state() is PowerState.ON:
            return
        self._goes_down()
        self._parts.on()

    def off(self, *, deadline_s: float | None = None) -> None:
        """Ask the OS to shut down; cut power once it has, or after ``deadline_s`` (None: the lab file's budget)."""
        if self.state() is PowerState.OFF:
            return
        self._parts.off(deadline_s=self._shutdown_s if deadline_s is None else deadline_s)
        self._goes_down()

    def cut(self) -> None:
        """Remove power at once: what was not synced to disk is lost."""
        self._goes_down()
        self._parts.cut()

    def reset(self) -> None:
        """Cut, wait until the capacitors are empty, then on."""
        self._goes_down()
        self._parts.reset()

    def press_reset(self) -> None:
        """Pulse SYS_RESET: the module starts again without losing power. BenchError without such a pin."""
        self._goes_down()
        self._parts.press_reset()

    def force_recovery(self) -> None:
        """Into force-recovery mode by the pins; that it is there is seen on USB. BenchError without a pin."""
        self._goes_down()
        self._parts.force_recovery()

    def _goes_down(self) -> None:
        self._console.silence()
        self._forget()
