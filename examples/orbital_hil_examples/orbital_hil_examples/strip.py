"""A power strip in one file: ``GET /outlet/3`` answers ``{"on": true}``; ``/outlet/3/on`` and ``/outlet/3/off`` switch.

The testbed does the rest: it reads every command back, never sends one twice, keeps one deadline and says whose fault a
failure is.
"""

from __future__ import annotations

from typing import Literal

from hil.boards.power.http_client import HttpOutlet
from hil.boards.power.kinds import OutletKind
from hil.boards.power.switch import Reading
from hil.boards.protocol import PowerState
from hil.errors import BenchError
from hil.lab.power import StripSpec
from hil.lab.yamlfile import with_example


class AcmeSpec(StripSpec):
    """An outlet of an Acme strip, over HTTP."""

    model_config = with_example("""\
kind: acme
address: 192.0.2.23
outlet: 3
""")
    kind: Literal["acme"]


class AcmeOutlet(HttpOutlet):
    """One outlet, counted from 1."""

    maker = "Acme"
    word = "outlet"

    def command(self, wanted: PowerState) -> None:
        self._ask(f"/outlet/{self._number}/{wanted.value}")

    def read(self) -> Reading:
        return Reading(self._ask(f"/outlet/{self._number}"))

    def _ask(self, path: str) -> PowerState:
        answer = self._strip.get(path)
        if not isinstance(answer.get("on"), bool):
            raise BenchError(
                f"{self.name}: answered {self._strip.said(str(answer))}, without 'on'",
                remedy="is this an Acme strip? its page `/` says so",
            )
        return PowerState.ON if answer["on"] else PowerState.OFF


ACME = OutletKind(AcmeSpec, AcmeOutlet.of)
