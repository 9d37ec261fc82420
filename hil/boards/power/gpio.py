"""GPIO lines of this host that pull a board's pins.

GPIO goes through ``gpioset`` of libgpiod (1.x in Debian 12, 2.x later), which drives a line only while it runs: a
pin is held by a process that lives as long as the hold, and read back with ``gpioinfo``.

Wiring: FC_REC and SYS_RESET of an Orin are pulled up on the module; pull them low, never drive them high.  Hence the
defaults: active low, open drain.
"""

from __future__ import annotations

import contextlib
import logging
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import Field

from hil.boards.power.kinds import OutletKind, Surroundings
from hil.core.wait import wait_until
from hil.errors import BenchError
from hil.lab.power import OutletSpec
from hil.lab.yamlfile import with_example

_log = logging.getLogger(__name__)

PULSE_S = 0.2
PROGRAM_S = 3.0
"""Seconds that libgpiod's programs may take."""


class GpioSpec(OutletSpec):
    """A line of this host, through libgpiod."""

    model_config = with_example("""\
kind: gpio
chip: gpiochip0
line: 5
""")
    kind: Literal["gpio"]
    chip: str = Field(pattern=r"^(gpiochip\d+|\d+|/dev/gpiochip\d+)$", description="as gpiodetect prints it")
    line: int = Field(ge=0, le=1023, description="number of the line on that chip (gpioinfo)")
    active: Literal["low", "high"] = Field(
        default="low", description="level that pulls the pin; high where a transistor or relay turns it round"
    )
    drive: Literal["open-drain", "push-pull"] = Field(
        default="open-drain", description="an Orin's pins are pulled up on the module: never drive them high"
    )


class GpioPin:
    """:class:`RecoveryPin` and :class:`ResetPin` on one line of this host."""

    def __init__(self, spec: GpioSpec, here: Surroundings, *, program: str = "gpioset", info: str = "gpioinfo") -> None:
        self._line = spec
        self._program = program
        self._info = info
        self._run = here.runner
        self._clock = here.clock

    @property
    def name(self) -> str:
        return f"GPIO {self._line.chip} line {self._line.line}"

    def pulse(self) -> None:
        with self.held():
            self._clock.sleep(PULSE_S)

    @contextmanager
    def held(self) -> Iterator[None]:
        major = self._major()
        argv = self._argv(major, active=True)
        try:
            _log.debug("%s: hold with %s", self.name, " ".join(argv))
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        except OSError as exc:
            raise BenchError(f"{self.name}: {exc}", remedy="apt-get install gpiod") from exc
        try:
            self._wait_held(child, argv, major)
            yield
        finally:
            _end(child)
            # A line may keep its last level when nobody holds it: let that be the inactive one.
            self._release(major)

    def _wait_held(self, child: subprocess.Popen[str], argv: list[str], major: int) -> None:
        def held() -> bool:
            return child.poll() is not None or self._is_ours(major)

        wait_until(
            held,
            what=f"{self.name} to be held by {self._program}",
            deadline_s=PROGRAM_S,
            remedy=f"see `{' '.join(argv)}` and `{self._info}`",
            clock=self._clock,
        )
        if child.poll() is not None:
            said = child.stderr.read().strip() if child.stderr else ""
            raise BenchError(
                f"{self.name}: `{' '.join(argv)}` ended at once: {said or f'exit {child.returncode}'}",
                remedy="busy: another program has the line; permission: root, or the group of /dev/gpiochip*",
            )

    def _is_ours(self, major: int) -> bool:
        """Tell whether ``gpioinfo`` shows the line in use by ``gpioset``."""
        done = self._run([self._info, *(["-c"] if major >= 2 else []), self._line.chip], timeout_s=PROGRAM_S)
        return any(re.match(rf"\s*line\s+{self._line.line}:.*\bgpioset\b", row) for row in done.stdout.splitlines())

    def _release(self, major: int) -> None:
        argv = self._argv(major, active=False)
        done = self._run(argv, timeout_s=PROGRAM_S)
        if not done.ok:
            raise BenchError(
                f"{self.name}: may still be pulled: `{' '.join(argv)}` failed: {done.tail(3)}",
                remedy=f"release it by hand, then check `{self._info}`: a module with FC_REC held boots into recovery",
            )

    def _major(self) -> int:
        done = self._run([self._program, "--version"], timeout_s=PROGRAM_S)
        match = re.search(r"\bv(\d+)\.", done.stdout)
        if not done.ok or not match:
            raise BenchError(
                f"{self.name}: `{self._program} --version` says {done.tail(2)!r}", remedy="apt-get install gpiod"
            )
        return int(match[1])

    def _argv(self, major: int, *, active: bool) -> list[str]:
        """Return ``gpioset`` that stays until it is ended (active) or sets and exits; its options changed with 2.0."""
        line = self._line
        argv = [self._program, f"--drive={line.drive}", *(["--active-low"] if line.active == "low" else [])]
        if major >= 2:
            return [*argv, *([] if active else ["--toggle", "0"]), "-c", line.chip, f"{line.line}={int(active)}"]
        return [*argv, f"--mode={'signal' if active else 'exit'}", line.chip, f"{line.line}={int(active)}"]


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.wait(timeout=2.0)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait(timeout=2.0)
    with contextlib.suppress(OSError):
        if child.stderr:
            child.stderr.close()


GPIO = OutletKind(GpioSpec, reset=GpioPin, recovery=GpioPin)
