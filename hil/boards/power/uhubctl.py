"""Ports of a USB hub that can switch its power, through ``uhubctl`` (Debian package of that name).

Its output, 2.5.0::

    Current status for hub 1-1.4 [05e3:0608 USB2.1 Hub, USB 2.10, 4 ports, ppps]
      Port 2: 0503 power highspeed enable connect [0955:7323 NVIDIA Corp. APX]
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from hil.boards.power.kinds import OutletKind, Surroundings
from hil.boards.power.switch import NoAnswerError, Reading
from hil.boards.protocol import PowerState
from hil.core.command import Result
from hil.errors import BenchError
from hil.lab.power import OutletSpec, RequestS
from hil.lab.yamlfile import with_example

_HUB = re.compile(r"^(?:Current|New) status for hub ([^\s,]+)")  # uhubctl 1 prints a comma after it
_PORT = re.compile(r"^\s+Port (\d+): [0-9a-f]{4}\b(.*)$")


class UhubctlSpec(OutletSpec):
    """A port of a USB hub that can switch its power."""

    model_config = with_example("""\
kind: uhubctl
hub: 1-1.4
outlet: 3
""")
    kind: Literal["uhubctl"]
    hub: str = Field(pattern=r"^\d+(-\d+(\.\d+)*)?$", description="as uhubctl prints it, e.g. 1-1.4")
    outlet: Annotated[int, Field(ge=1, le=32, description="port of the hub")]
    request_timeout_s: RequestS = 5.0


class HubPort:
    """``hil.boards.power.switch.Outlet`` on one port of a hub."""

    def __init__(self, spec: UhubctlSpec, here: Surroundings) -> None:
        self._hub, self._port = spec.hub, spec.outlet
        self._timeout_s = spec.request_timeout_s
        self._run = here.runner

    @property
    def name(self) -> str:
        return f"USB hub {self._hub}, port {self._port}"

    def command(self, wanted: PowerState) -> None:
        # Repeated by uhubctl itself: some hubs need to be told off several times (its README).
        self._ask("-a", wanted.value, "-r", "3")

    def read(self) -> Reading:
        done = self._ask()
        hub = ""
        for line in done.stdout.splitlines():
            if match := _HUB.match(line):
                hub = match[1]
            elif (match := _PORT.match(line)) and hub == self._hub and int(match[1]) == self._port:
                words = re.sub(r"\[.*", "", match[2]).split()
                if ("power" in words) != ("off" in words):
                    return Reading(PowerState.ON if "power" in words else PowerState.OFF)
        raise BenchError(
            f"{self.name}: uhubctl does not tell its power: {done.tail(4)!r}",
            remedy=f"see what `uhubctl -l {self._hub}` prints",
        )

    def _ask(self, *more: str) -> Result:
        argv = ["uhubctl", "-l", self._hub, "-p", str(self._port), *more]
        try:
            done = self._run(argv, timeout_s=self._timeout_s)
        except BenchError as exc:
            raise NoAnswerError(
                f"{self.name}: {exc.message}", remedy="a hub that hangs: unplug it, then look at dmesg"
            ) from exc
        if done.ok:
            return done
        said = done.stdout + done.stderr
        remedy = f"run `{' '.join(argv)}` by hand"
        if done.returncode == 127:
            remedy = "install it: apt-get install uhubctl"
        elif "permission" in said.lower():
            remedy = "run as root, or give your group the hub by a udev rule (README of uhubctl)"
        elif "No compatible devices" in said:
            remedy = "no hub at this place can switch its ports: `uhubctl` alone lists those that can"
        raise BenchError(f"{self.name}: uhubctl failed: {done.tail(3)}", remedy=remedy)


UHUBCTL = OutletKind(UhubctlSpec, HubPort)
