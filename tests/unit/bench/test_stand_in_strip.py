"""The stand-ins' power strip, spoken to by the driver of the real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hil.bench.stand_in_strip import PowerStrip
from hil.boards.power.http_client import HttpStrip
from hil.boards.power.shelly import ShellyGen2
from hil.boards.power.switch import ConfirmedSwitch
from hil.boards.protocol import PowerState
from hil.core import netns
from hil.errors import BenchError


class Lamp:
    """A load that remembers."""

    def __init__(self) -> None:
        self.lit = False
        self.broken = False
        self.changes = 0

    def on(self) -> None:
        self._turn(True)

    def cut(self) -> None:
        self._turn(False)

    def _turn(self, lit: bool) -> None:
        if self.broken:
            raise BenchError("the container engine said: no space left")
        self.lit = lit
        self.changes += 1


@pytest.fixture
def lamps() -> dict[int, Lamp]:
    return {0: Lamp(), 1: Lamp()}


@pytest.fixture
def strip(lamps: dict[int, Lamp]) -> Iterator[PowerStrip]:
    with PowerStrip(netns.HOST, lamps, port=0) as up:
        yield up


def switch(strip: PowerStrip, outlet: int) -> ConfirmedSwitch:
    http = HttpStrip("Shelly 127.0.0.1", ("127.0.0.1", strip.port), timeout_s=5.0)
    return ConfirmedSwitch(ShellyGen2(http, outlet), deadline_s=5.0)


def test_a_load_has_changed_when_the_switch_returns_and_the_others_have_not(
    strip: PowerStrip, lamps: dict[int, Lamp]
) -> None:
    one = switch(strip, 1)
    assert one.state() is PowerState.OFF
    one.on()
    assert (one.state(), lamps[1].lit, lamps[0].lit) == (PowerState.ON, True, False)
    one.on()
    one.off()
    assert (lamps[1].lit, lamps[1].changes) == (False, 2)


def test_a_load_that_refuses_is_a_strip_that_fails_and_the_relay_stays(
    strip: PowerStrip, lamps: dict[int, Lamp]
) -> None:
    lamps[0].broken = True
    with pytest.raises(BenchError, match="no space left"):
        switch(strip, 0).on()
    assert switch(strip, 0).state() is PowerState.OFF


def test_an_outlet_that_is_not_there_is_refused(strip: PowerStrip) -> None:
    with pytest.raises(BenchError, match="not found"):
        switch(strip, 7).on()


@pytest.mark.parametrize(
    "target", ["/", "/rpc/Switch.Set?id=0", "/rpc/Switch.Set?id=0&on=maybe", "/rpc/Switch.Set?id=x&on=true"]
)
def test_anything_else_changes_nothing(strip: PowerStrip, lamps: dict[int, Lamp], target: str) -> None:
    status, _ = strip.answer(target)
    assert status >= 400
    assert lamps[0].changes == 0
