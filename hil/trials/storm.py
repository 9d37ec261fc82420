"""The storm: faults strike a rollout at the moments of their schedule, and all of them are healed at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from hil.errors import Abandoned, DeviceError, HilError
from hil.evidence.events import Event, RolloutStep
from hil.faults.fault import Injection
from hil.trials.history import Struck
from hil.trials.profile import USUALLY_S
from hil.trials.schedule import Strike

if TYPE_CHECKING:
    from hil.bench.bench import Bench

OF_THE_BOARD = frozenset({"install", "boot", "confirm"})
"""Moments that come on every board; those of the transfer are taken from whichever board has them."""
AGAIN_S = 0.3
"""A board that does not answer, because it restarts just now, is struck again after this."""
HEAL_S = 30.0
"""So long is a board that does not answer healed again and again."""
POLL_S = 0.1
JOIN_S = 180.0
"""A strike that has not ended so long after the storm hangs."""


class Moments:
    """The moments of a rollout as they come; feed it with events, and mark those that are no events."""

    def __init__(self) -> None:
        self._came: set[tuple[str, str]] = set()
        self._changed = threading.Condition()
        self._closed = False

    def note(self, event: Event) -> None:
        """Take an event of the evidence in."""
        if isinstance(event, RolloutStep) and event.phase == "start":
            self.mark(event.step, event.board)

    def mark(self, moment: str, board: str = "") -> None:
        """Note that a moment has come, on a board or at all."""
        with self._changed:
            self._came |= {(moment, board), (moment, "")}
            self._changed.notify_all()

    def close(self) -> None:
        """Note that no further moment comes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait(self, moment: str, board: str) -> bool:
        """Wait for a moment; False when it does not come any more."""
        key = moment, board if moment in OF_THE_BOARD else ""
        with self._changed:
            self._changed.wait_for(lambda: key in self._came or self._closed)
            return key in self._came


class Storm:
    """The strikes of one trial, each in a thread of its own.

    Two strikes never hold the same thing at once: the links, or one board.  The second one waits.
    """

    def __init__(self, bench: Bench, strikes: Sequence[Strike], moments: Moments) -> None:
        self._bench = bench
        self._strikes = strikes
        self._moments = moments
        self._stopping = threading.Event()
        self._locks = {name: threading.Lock() for name in ("links", *bench.boards)}
        self._began_s = time.monotonic()
        self.broken = ""
        """A bug of the harness that ended the action or a strike."""
        self.struck: list[Struck] = [Struck(strike) for strike in strikes]

    def run(self, action: Callable[[], object], deadline_s: float, lost: Callable[[], bool] = lambda: False) -> None:
        """Run the action under the strikes, until both are over or ``deadline_s`` has passed; then heal everything.

        The action goes on when it has not ended; what it raises is its own affair: the calm asks again.
        """
        self._began_s = time.monotonic()
        ended = threading.Event()

        def act() -> None:
            try:
                action()
            except (HilError, Abandoned):
                pass  # faults are there to disturb it
            except Exception as exc:
                self.broken = f"the rollout ended with {type(exc).__name__}: {exc}"
            finally:
                ended.set()
                self._moments.close()

        threads = [
            threading.Thread(target=self._strike, args=(i,), name=f"strike: {s}", daemon=True)
            for i, s in enumerate(self._strikes)
        ]
        self._moments.mark("start")
        self.action = threading.Thread(target=act, name="rollout under faults", daemon=True)
        self.action.start()
        for thread in threads:
            thread.start()
        until_s = self._began_s + deadline_s
        try:
            while time.monotonic() < until_s and not lost():
                if ended.is_set() and not any(thread.is_alive() for thread in threads):
                    break
                time.sleep(POLL_S)
        finally:  # also at Ctrl-C: a bench that stays up must not keep a fault
            self._stopping.set()
            self._moments.close()
            for i, thread in enumerate(threads):
                thread.join(JOIN_S)
                if thread.is_alive():
                    self.struck[i] = replace(self.struck[i], error=f"it did not end within {JOIN_S:g} s of the storm")

    def _now_s(self) -> float:
        return round(time.monotonic() - self._began_s, 3)

    def _strike(self, index: int) -> None:
        strike = self._strikes[index]
        board = strike.target if strike.target in self._bench.boards else ""
        if not self._moments.wait(strike.moment, board):
            return
        if self._stopping.wait(strike.part * USUALLY_S[strike.moment]):
            return
        with ExitStack() as held:
            for name in self._holds(strike):
                held.enter_context(self._locks[name])
            if not self._stopping.is_set():
                self.struck[index] = self._injected(strike)

    def _holds(self, strike: Strike) -> list[str]:
        """Return what a strike needs for itself, in the order in which all strikes take it."""
        if strike.target in self._bench.boards:
            return [strike.target]
        boards = [n for n, b in self._bench.boards.items() if b.spacecraft == strike.target]
        return ["links", *boards] if strike.fault == "spacecraft-lost" else ["links"]

    def _injected(self, strike: Strike) -> Struck:
        struck = Struck(strike)
        try:
            injection = Injection(strike.fault, self._bench, strike.target, strike.parameters)
        except HilError as exc:
            return replace(struck, seen=f"could not strike: {exc.message}")
        except Exception as exc:
            return replace(struck, error=f"it could not strike: {type(exc).__name__}: {exc}")
        try:
            while struck.began_s is None:
                try:
                    proof = injection.begin()
                    struck = replace(struck, began_s=self._now_s(), proof=proof.outcome.value, seen=proof.seen)
                except DeviceError as exc:  # it restarts just now, or does not answer for another reason
                    if self._stopping.wait(AGAIN_S):
                        struck = replace(struck, seen=f"could not strike: {exc.message}")
                        break
            self._stopping.wait(strike.lasts_s)
            if (
                struck.began_s is not None and strike.target not in self._bench.boards
            ):  # what links do is as it was until now, or moved as planned
                proof = injection.prove()
                struck = replace(struck, proof=proof.outcome.value, seen=proof.seen)
        except HilError as exc:
            struck = replace(struck, error=exc.message)
        except Abandoned as exc:
            struck = replace(struck, error=str(exc))
        except Exception as exc:
            struck = replace(struck, error=f"it ended with {type(exc).__name__}: {exc}")
        finally:
            struck = self._healed(injection, struck)
        return struck

    def _healed(self, injection: Injection, struck: Struck) -> Struck:
        until_s = time.monotonic() + HEAL_S
        try:
            while True:
                try:
                    injection.end()
                    break
                except DeviceError:  # it restarts just now, and would keep the fault
                    if time.monotonic() >= until_s:
                        raise
                    time.sleep(AGAIN_S)
        except DeviceError as exc:  # a board that does not come back: the final reads say so
            struck = replace(struck, seen=f"{struck.seen}; afterwards: {exc.message}")
        except (HilError, Abandoned) as exc:
            struck = replace(struck, error=struck.error or f"it could not be healed: {exc}")
        except Exception as exc:
            struck = replace(struck, error=struck.error or f"it could not be healed: {type(exc).__name__}: {exc}")
        return replace(struck, ended_s=self._now_s())
