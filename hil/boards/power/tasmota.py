"""Tasmota plugs: ``/cm?cmnd=Power1%20On`` answers ``{"POWER1": "ON"}`` (Tasmota documentation, Commands)."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field

from hil.boards.power.http_client import HttpOutlet
from hil.boards.power.kinds import OutletKind
from hil.boards.power.switch import Reading
from hil.boards.protocol import PowerState
from hil.errors import BenchError
from hil.lab.power import Secret, StripSpec
from hil.lab.yamlfile import with_example


class TasmotaSpec(StripSpec):
    """A relay of a device that runs Tasmota, over HTTP."""

    model_config = with_example("""\
kind: tasmota
address: 192.0.2.21:8080
outlet: 2
""")
    kind: Literal["tasmota"]
    outlet: Annotated[int, Field(ge=1, le=32, description="relay, from 1")] = 1
    user: str = Field(default="admin", description="with the password, when it has one")
    password: Secret | None = None


class Tasmota(HttpOutlet):
    """``hil.boards.power.switch.Outlet`` on one relay, counted from 1 as Tasmota does."""

    maker = "Tasmota"
    scheme = "query"

    def command(self, wanted: PowerState) -> None:
        self._ask(f"Power{self._number} {wanted.value.capitalize()}")

    def read(self) -> Reading:
        return Reading(self._ask(f"Power{self._number}"))

    def _ask(self, command: str) -> PowerState:
        answer: dict[str, Any] = self._strip.get(f"/cm?cmnd={quote(command)}")
        # A device with one relay says POWER where the others say POWER1.
        keys = (f"POWER{self._number}", "POWER") if self._number == 1 else (f"POWER{self._number}",)
        for key in keys:
            if (value := answer.get(key)) in ("ON", "OFF"):
                return PowerState.ON if value == "ON" else PowerState.OFF
        # Older firmware says so with HTTP 200: {"WARNING": "Need user=<username>&password=<password>"}
        if "Need user" in str(answer.get("WARNING", "")):
            raise BenchError(
                f"{self.name}: wants a log-in",
                remedy="set password in the lab file to env:NAME or file:PATH with its WebPassword",
            )
        raise BenchError(
            f"{self.name}: answered {self._strip.said(str(answer))} to {command!r}",
            remedy="does it have this relay (they count from 1), and is it a Tasmota?",
        )


TASMOTA = OutletKind(TasmotaSpec, Tasmota.of)
