"""Any command of this host that switches an outlet: for strips that have no driver here."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hil.boards.power.kinds import OutletKind, Surroundings, resolve_secret
from hil.boards.power.switch import NoAnswerError, Reading
from hil.boards.protocol import PowerState
from hil.core.command import Result, run, run_unlogged
from hil.errors import BenchError
from hil.lab.power import SECRET, OutletSpec, RequestS
from hil.lab.yamlfile import with_example

Argv = Annotated[
    tuple[str, ...],
    Field(
        min_length=1,
        strict=False,
        description="command and arguments, no shell; a word env:NAME or file:/path is read when it is needed and "
        "never shown",
    ),
]

_log = logging.getLogger(__name__)


class CommandSpec(OutletSpec):
    """Whatever commands of this machine switch."""

    model_config = with_example("""\
kind: command
turn_on: [rack-power, --outlet, "4", "on"]     # a word may be env:NAME or file:/path: a password
turn_off: [rack-power, --outlet, "4", "off"]
state: [rack-power, --outlet, "4", status]
state_on: "(?m)^outlet 4: on$"
state_off: "(?m)^outlet 4: off$"
""")
    kind: Literal["command"]
    turn_on: Argv
    turn_off: Argv
    state: Argv
    state_on: str = Field(description="regular expression found in what `state` prints when the outlet is on")
    state_off: str = Field(description="the same for off")
    request_timeout_s: RequestS = 10.0

    @model_validator(mode="after")
    def _patterns(self) -> Self:
        for pattern in (self.state_on, self.state_off):
            try:
                re.compile(pattern)
            except re.error as exc:
                raise ValueError(f"{pattern!r} is no regular expression: {exc}") from exc
        return self


class CommandOutlet:
    """``hil.boards.power.switch.Outlet`` on three commands."""

    def __init__(self, spec: CommandSpec, here: Surroundings) -> None:
        self._spec = spec
        # Its arguments may hold a password: they are not written into the log.
        self._run = run_unlogged if here.runner is run else here.runner

    @property
    def name(self) -> str:
        return f"power by `{self._spec.turn_on[0]}`"

    def command(self, wanted: PowerState) -> None:
        self._ask(self._spec.turn_on if wanted is PowerState.ON else self._spec.turn_off)

    def read(self) -> Reading:
        said = self._ask(self._spec.state).stdout
        on = re.search(self._spec.state_on, said, re.MULTILINE)
        off = re.search(self._spec.state_off, said, re.MULTILINE)
        if bool(on) == bool(off):
            which = "both fit" if on else "neither fits"
            raise BenchError(
                f"{self.name}: `{_shown(self._spec.state)}` printed {said.strip()[:200]!r}; "
                f"state_on {self._spec.state_on!r} and state_off {self._spec.state_off!r}: {which}",
                remedy="correct the two patterns in the lab file",
            )
        return Reading(PowerState.ON if on else PowerState.OFF)

    def _ask(self, argv: Sequence[str]) -> Result:
        line = _shown(argv)
        argv = [resolve_secret(word) if SECRET.fullmatch(word) else word for word in argv]
        _log.debug("run %s (%d arguments, not shown: they may hold a password)", argv[0], len(argv) - 1)
        try:
            done = self._run(argv, timeout_s=self._spec.request_timeout_s)
        except BenchError as exc:
            raise NoAnswerError(f"{self.name}: {exc.message}", remedy=f"run `{line}` by hand") from exc
        _log.debug("%s: exit code %d", argv[0], done.returncode)
        if not done.ok:
            raise BenchError(
                f"{self.name}: `{line}` exited {done.returncode}: {done.tail(3)}", remedy=f"run `{line}` by hand"
            )
        return done


def _shown(argv: Sequence[str]) -> str:
    """Return a command for a message: its words may hold a password, so only its name."""
    return f"{argv[0]} ..." if len(argv) > 1 else argv[0]


COMMAND = OutletKind(CommandSpec, CommandOutlet)
