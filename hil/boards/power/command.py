"""Any command of this host that switches an outlet: for strips that have no driver here."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hil.boards.power.switch import NoAnswerError, Reading
from hil.boards.protocol import PowerState
from hil.core.command import Result, Runner, run_unlogged
from hil.errors import BenchError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Commands:
    """argv lists, never a shell line; the patterns are searched in what ``state`` prints."""

    on: Sequence[str]
    off: Sequence[str]
    state: Sequence[str]
    state_on: str
    state_off: str


class CommandOutlet:
    """``hil.boards.power.switch.Outlet`` on three commands."""

    def __init__(self, commands: Commands, *, timeout_s: float = 10.0, runner: Runner = run_unlogged) -> None:
        self._commands = commands
        self._timeout_s = timeout_s
        self._run = runner

    @property
    def name(self) -> str:
        return f"power by `{' '.join(self._commands.on)}`"

    def command(self, wanted: PowerState) -> None:
        self._ask(self._commands.on if wanted is PowerState.ON else self._commands.off)

    def read(self) -> Reading:
        said = self._ask(self._commands.state).stdout
        on = re.search(self._commands.state_on, said, re.MULTILINE)
        off = re.search(self._commands.state_off, said, re.MULTILINE)
        if bool(on) == bool(off):
            which = "both fit" if on else "neither fits"
            raise BenchError(
                f"{self.name}: `{' '.join(self._commands.state)}` printed {said.strip()[:200]!r}; "
                f"state_on {self._commands.state_on!r} and state_off {self._commands.state_off!r}: {which}",
                remedy="correct the two patterns in the lab file",
            )
        return Reading(PowerState.ON if on else PowerState.OFF)

    def _ask(self, argv: Sequence[str]) -> Result:
        line = " ".join(argv)
        _log.debug("run %s (%d arguments, not shown: they may hold a password)", argv[0], len(argv) - 1)
        try:
            done = self._run(argv, timeout_s=self._timeout_s)
        except BenchError as exc:
            raise NoAnswerError(f"{self.name}: {exc.message}", remedy=f"run `{line}` by hand") from exc
        _log.debug("%s: exit code %d", argv[0], done.returncode)
        if not done.ok:
            raise BenchError(
                f"{self.name}: `{line}` exited {done.returncode}: {done.tail(3)}",
                remedy=f"run `{line}` by hand",
            )
        return done
