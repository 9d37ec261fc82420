"""The strip's driver against a server that behaves, and misbehaves, as the strip does."""

from __future__ import annotations

from typing import Any

import pytest
from machine import OUTLET, STRIP_PORT, Machine
from orbital_hil_examples.strip import AcmeSpec

from hil.boards.power.build import outlet_of
from hil.boards.power.kinds import Surroundings
from hil.boards.power.switch import ConfirmedSwitch
from hil.boards.protocol import PowerState
from hil.errors import BenchError


def switch(machine: Machine, outlet: int = OUTLET) -> ConfirmedSwitch:
    spec = AcmeSpec(kind="acme", address=f"127.0.0.1:{STRIP_PORT}", outlet=outlet)
    return ConfirmedSwitch(outlet_of(spec, Surroundings(machine.namespace)), deadline_s=2.0)


def test_it_switches_and_reads_back(machine: Machine, acme: dict[str, Any]) -> None:
    machine.cut()
    one, since = switch(machine), len(acme["seen"])
    one.on()
    assert machine.is_on and one.state() is PowerState.ON
    one.off()
    assert not machine.is_on and one.state() is PowerState.OFF
    assert acme["seen"][since : since + 2] == ["/outlet/3/on", "/outlet/3"]


def test_another_device_is_the_benchs_fault(machine: Machine, acme: dict[str, Any]) -> None:
    acme["answer"] = {"device": "coffee machine"}
    try:
        with pytest.raises(BenchError, match="coffee machine"):
            switch(machine).state()
    finally:
        acme["answer"] = None
    with pytest.raises(BenchError, match="HTTP 404"):
        switch(machine, outlet=4).state()
