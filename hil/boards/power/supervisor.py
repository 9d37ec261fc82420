"""One supervisor made of a power switch and, where they are wired, the reset and force-recovery pins.

The parts are dumb on purpose; what keeps a board safe is here: the state is read back, capacitors get time to empty, a
board that could not be powered on properly is told to be off again, a pin is released on every way out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from hil.boards.power.switch import ConfirmedSwitch, RecoveryPin, ResetPin
from hil.boards.protocol import PowerState
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import BenchError, HilError
from hil.evidence.events import BoardPower, RestartOrdered
from hil.evidence.sink import NullSink, Sink

_log = logging.getLogger(__name__)

ShutDown = Callable[[float], bool]
"""Ask the OS to power off; True once it is seen to be down, False when the seconds given are over."""


class PoweredSupervisor:
    """``hil.boards.protocol.Supervisor`` of a real board, with ``force_recovery`` and ``press_reset``."""

    def __init__(
        self,
        board: str,
        switch: ConfirmedSwitch,
        *,
        recovery: RecoveryPin | None = None,
        reset: ResetPin | None = None,
        min_off_s: float = 3.0,
        recovery_hold_s: float = 1.0,
        shut_down: ShutDown | None = None,
        shutdown_s: float = 10.0,
        before_restart: Callable[[], None] | None = None,
        sink: Sink | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Keep a board off for at least ``min_off_s`` between off and on, or a module may not see the cut.

        ``recovery_hold_s``: how long FC_REC stays held after reset or power; the boot ROM samples it at once.
        Without ``shut_down``, :meth:`off` cannot ask the OS and cuts; ``shutdown_s`` is how long the OS may take
        where :meth:`off` is not told.  ``before_restart`` is called before every verb that ends a boot or begins one
        (after the OS was asked to shut down), whether the verb succeeds or not.
        """
        self._board = board
        self._switch = switch
        self._recovery = recovery
        self._reset = reset
        self._min_off_s = min_off_s
        self._recovery_hold_s = recovery_hold_s
        self._shut_down = shut_down
        self._shutdown_s = shutdown_s
        self._before_restart = before_restart or (lambda: None)
        self._sink = sink or NullSink()
        self._clock = clock
        self._off_since: float | None = None

    def state(self) -> PowerState:
        with self._blamed("power state"):
            return self._switch.state()

    def on(self) -> None:
        """Power on; returns once the switch says so. BenchError; the board is then told to be off again."""
        with self._blamed("power on"):
            if self._switch.state() is PowerState.ON:
                return
            self._order("power on")
            self._rest()
            _log.debug("board %s: give it power", self._board)
            try:
                self._switch.on()
            except BenchError as exc:
                raise self._put_off(exc) from exc
        self._note("on")

    def off(self, *, deadline_s: float | None = None) -> None:
        """Ask the OS to shut down; cut power once it has, or after ``deadline_s`` (None: ``shutdown_s``)."""
        # A strip that cannot say its state may still obey: the command and its read-back decide.
        with suppress(BenchError):
            if self._switch.state() is PowerState.OFF:
                return
        is_down = False
        try:
            if self._shut_down:
                patience_s = self._shutdown_s if deadline_s is None else deadline_s
                _log.debug("board %s: ask its OS to shut down, for %g s at most", self._board, patience_s)
                # An OS that does not answer is what the cut is for.
                self._sink.emit(RestartOrdered(self._board, "shutdown"))
                with suppress(HilError, OSError, EOFError):
                    is_down = self._shut_down(patience_s)
        finally:  # whatever went wrong, a bug of ours included: the board gets no power any more
            self._order("power off")
            self._cut("off" if is_down else "cut")

    def cut(self) -> None:
        """Remove power at once: what was not synced to disk is lost."""
        self._order("power cut")
        # A strip that cannot say its state may still obey: the command and its read-back decide.
        with suppress(BenchError):
            if self._switch.state() is PowerState.OFF:
                return
        self._cut("cut")

    def reset(self) -> None:
        """Cut, wait ``min_off_s``, then on. A cut that cannot be confirmed ends it: the board stays as it is."""
        self.cut()
        self.on()

    def press_reset(self) -> None:
        """Pulse SYS_RESET: the module starts again without losing power. BenchError without such a pin."""
        if self._reset is None:
            raise BenchError(
                f"board {self._board}: has no reset pin",
                remedy="wire SYS_RESET and give reset_pin in the lab file, or use a power cycle",
            )
        self._order("reset")
        with self._blamed("reset"):
            self._reset.pulse()
        self._note("reset")

    def force_recovery(self) -> None:
        """Hold FC_REC, reset the module (or power-cycle it, without a reset pin), release.

        Returns when the pin is released; that the module is in recovery is seen on USB
        (``hil.boards.jetson.flash.recovery``).  BenchError without a recovery pin.
        """
        if self._recovery is None:
            raise BenchError(
                f"board {self._board}: has no force-recovery pin",
                remedy="while its Linux runs, `reboot --force forced-recovery` does the same; else wire FC_REC and "
                "give recovery_pin in the lab file",
            )
        self._order("force recovery")
        if self._reset is None:
            self.cut()
        with self._blamed("force recovery"), self._recovery.held():
            if self.state() is PowerState.OFF:
                self.on()
            elif self._reset is not None:
                self._reset.pulse()
            else:
                raise BenchError("the board has power again, though it was cut just now")
            self._clock.sleep(self._recovery_hold_s)
        self._note("recovery")

    def _order(self, what: str) -> None:
        """Record, before it is done, that the board is to boot anew."""
        self._sink.emit(RestartOrdered(self._board, what))
        self._before_restart()

    def _cut(self, action: str) -> None:
        _log.debug("board %s: take its power away", self._board)
        with self._blamed("power off"):
            self._switch.off()
        self._off_since = self._clock.monotonic()
        self._note(action)

    def _rest(self) -> None:
        """Wait until it was off for ``min_off_s``, from now on where another process may have cut it just now."""
        now = self._clock.monotonic()
        left = (now if self._off_since is None else self._off_since) + self._min_off_s - now
        if left > 0:
            _log.debug("board %s: wait %.1f s for its capacitors", self._board, left)
            self._clock.sleep(left)

    def _put_off(self, exc: BenchError) -> BenchError:
        """Turn a board off that could not be powered on properly; the message says whether it is off."""
        try:
            self._switch.off()
            self._off_since = self._clock.monotonic()
            left = "it is off again"
        except BenchError as again:
            left = f"whether it is off cannot be told ({again.message})"
        return BenchError(f"{exc.message}; {left}", remedy=exc.remedy)

    @contextmanager
    def _blamed(self, verb: str) -> Iterator[None]:
        """Put the board's name before what a part says."""
        prefix = f"board {self._board}: "
        try:
            yield
        except BenchError as exc:
            if exc.message.startswith(prefix):
                raise
            raise exc.with_context(f"{prefix}{verb}: {exc.message}") from exc

    def _note(self, action: str) -> None:
        _log.info("board %s: power %s", self._board, action)
        self._sink.emit(BoardPower(self._board, action))
