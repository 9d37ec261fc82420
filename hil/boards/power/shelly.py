"""Shelly relays and plugs over their local HTTP interface.

Gen1: ``/relay/N?turn=on`` answers ``{"ison": true, "overpower": false, ...}`` (Shelly Gen1 API reference).
Gen2 and later: ``/rpc/Switch.Set?id=N&on=true`` answers ``{"was_on": false}``, ``/rpc/Switch.GetStatus?id=N`` answers
``{"output": true, "errors": ["overpower"], ...}`` (Shelly Gen2+ API, component Switch); log-in is digest with SHA-256.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from hil.boards.power.http_client import HttpOutlet
from hil.boards.power.kinds import OutletKind
from hil.boards.power.switch import Reading
from hil.boards.protocol import PowerState
from hil.errors import BenchError
from hil.lab.power import Secret, StripSpec
from hil.lab.yamlfile import with_example


class ShellyGen1Spec(StripSpec):
    """A relay of a first-generation Shelly, over HTTP."""

    model_config = with_example("""\
kind: shelly-gen1
address: 192.0.2.20
outlet: 0
password: file:/etc/hil/strip
""")
    kind: Literal["shelly-gen1"]
    user: str = Field(default="admin", description="for HTTP basic authentication, when it has a password")
    password: Secret | None = None


class ShellyGen2Spec(StripSpec):
    """A switch of a Shelly of the second generation or later (Plus, Pro, Gen3, Gen4); its user is always admin."""

    model_config = with_example("""\
kind: shelly-gen2
address: 192.0.2.20
outlet: 0
password: env:STRIP_PASSWORD
""")
    kind: Literal["shelly-gen2"]
    password: Secret | None = None


class _Shelly(HttpOutlet):
    maker = "Shelly"

    def _state(self, answer: dict[str, Any], key: str) -> PowerState:
        """Return what a boolean of the answer says. BenchError when it is not there."""
        value = answer.get(key)
        if not isinstance(value, bool):
            raise BenchError(
                f"{self.name}: answered {self._strip.said(str(answer))}, without {key!r}",
                remedy="is it a Shelly of the generation that the lab file says (shelly-gen1, shelly-gen2)?",
            )
        return PowerState.ON if value else PowerState.OFF


class ShellyGen1(_Shelly):
    """``hil.boards.power.switch.Outlet`` on one relay of a first-generation Shelly."""

    def command(self, wanted: PowerState) -> None:
        self._read(self._strip.get(f"/relay/{self._number}?turn={wanted.value}"))

    def read(self) -> Reading:
        return self._read(self._strip.get(f"/relay/{self._number}"))

    def _read(self, answer: dict[str, Any]) -> Reading:
        trouble = "overpower" if answer.get("overpower") is True else ""
        return Reading(self._state(answer, "ison"), trouble)


class ShellyGen2(_Shelly):
    """``hil.boards.power.switch.Outlet`` on one switch of a Shelly of the second generation or later."""

    word = "switch"
    scheme = "digest"

    def command(self, wanted: PowerState) -> None:
        on = "true" if wanted is PowerState.ON else "false"
        self._state(self._strip.get(f"/rpc/Switch.Set?id={self._number}&on={on}"), "was_on")

    def read(self) -> Reading:
        answer = self._strip.get(f"/rpc/Switch.GetStatus?id={self._number}")
        errors = answer.get("errors") or []
        trouble = ", ".join(map(str, errors)) if isinstance(errors, list) else str(errors)
        return Reading(self._state(answer, "output"), trouble)


GEN1 = OutletKind(ShellyGen1Spec, ShellyGen1.of)
GEN2 = OutletKind(ShellyGen2Spec, ShellyGen2.of)
