"""Shelly and Tasmota drivers against servers that behave, and misbehave, as the strips do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hil.boards.power.http_client import Credentials, HttpStrip, digest_header
from hil.boards.power.shelly import ShellyGen1, ShellyGen2
from hil.boards.power.switch import ConfirmedSwitch, NoAnswerError, Outlet
from hil.boards.power.tasmota import Tasmota
from hil.boards.protocol import PowerState
from hil.errors import BenchError
from hil.evidence.events import PowerAnswerLost
from hil.testing.fakes import ListSink
from tests.kits import power_strips
from tests.kits.power_strips import Fault, ShellyGen1Strip, ShellyGen2Strip, TasmotaStrip

KINDS = ("shelly-gen1", "shelly-gen2", "tasmota")
OUTLET = 1
SERVERS: dict[str, Callable[..., power_strips.HttpStrip]] = {
    "shelly-gen1": ShellyGen1Strip,
    "shelly-gen2": ShellyGen2Strip,
    "tasmota": TasmotaStrip,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def strip(kind: str) -> Iterator[power_strips.HttpStrip]:
    with SERVERS[kind]() as server:
        yield server


def outlet_of(kind: str, address: str, *, outlet: int = OUTLET, timeout_s: float = 2.0, password: str = "") -> Outlet:
    host, port = address.split(":")
    schemes = {"shelly-gen1": "basic", "shelly-gen2": "digest", "tasmota": "query"}
    login = Credentials("admin", password, schemes[kind]) if password else None  # type: ignore[arg-type]  # a literal
    strip = HttpStrip(f"{kind} {address}", (host, int(port)), timeout_s=timeout_s, credentials=login)
    drivers: dict[str, Callable[[HttpStrip, int], Outlet]] = {
        "shelly-gen1": ShellyGen1,
        "shelly-gen2": ShellyGen2,
        "tasmota": Tasmota,
    }
    return drivers[kind](strip, outlet)


def switch_of(kind: str, address: str, *, timeout_s: float = 2.0, deadline_s: float = 3.0) -> ConfirmedSwitch:
    return ConfirmedSwitch(
        outlet_of(kind, address, timeout_s=timeout_s), deadline_s=deadline_s, every_s=0.01, sink=ListSink()
    )


def test_on_and_off_switch_that_outlet_and_no_other(kind: str, strip: power_strips.HttpStrip) -> None:
    switch = switch_of(kind, strip.address)
    other = next(number for number in strip.outlets.on if number != OUTLET)
    switch.on()
    assert (strip.outlets.on[OUTLET], strip.outlets.on[other]) == (True, False)
    assert switch.state() is PowerState.ON
    switch.off()
    assert not strip.outlets.on[OUTLET]
    assert switch.state() is PowerState.OFF


def test_a_verb_returns_only_when_a_slow_relay_has_followed(kind: str, strip: power_strips.HttpStrip) -> None:
    strip.slow_s = 0.15
    switch_of(kind, strip.address).on()
    assert strip.outlets.on[OUTLET]


FAULTS = {
    Fault.ERROR_500: ("HTTP 500", "restart it"),
    Fault.CLOSE: ("closed the connection", "some seconds"),
    Fault.HANG: ("did not answer within 0.3 s", "power-cycle the strip itself"),
    Fault.DRIP: ("did not answer within 0.3 s", "power-cycle the strip itself"),
    Fault.REDIRECT: (r"redirects to 'http://login\.invalid/\?next=", "correct the address"),
    Fault.OTHER_PROTOCOL: ("the answer is not HTTP .*SSH-2.0-x", "is this the address"),
    Fault.DEEP_JSON: ("not a JSON object", "is this the address"),
    Fault.GARBAGE: ("not a JSON object", "is this the address"),
    Fault.WRONG_JSON: ("coffee machine", "it a "),
    Fault.FLOOD: ("more than 65536 bytes", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_way_to_fail_is_an_error_of_its_own_within_the_deadline_and_switches_nothing(
    kind: str, strip: power_strips.HttpStrip, fault: Fault
) -> None:
    said, remedy = FAULTS[fault]
    strip.fault, strip.fault_commands_only = fault, True
    switch = switch_of(kind, strip.address, timeout_s=0.3, deadline_s=0.3)
    began = time.monotonic()
    # A dripping strip obeys before it answers: reading back shows that, and that is success.
    if fault is Fault.DRIP:
        switch.on()
        assert strip.outlets.on[OUTLET]
        return
    with pytest.raises(BenchError, match=said) as error:
        switch.on()
    assert time.monotonic() - began < 10
    assert strip.address in error.value.message
    assert remedy in error.value.remedy
    assert not strip.outlets.on[OUTLET]


@pytest.mark.parametrize(
    "fault", [Fault.ERROR_500, Fault.HANG, Fault.CLOSE, Fault.OTHER_PROTOCOL, Fault.GARBAGE, Fault.REDIRECT]
)
def test_a_strip_that_fails_at_everything_leaves_an_error_that_names_it(
    kind: str, strip: power_strips.HttpStrip, fault: Fault
) -> None:
    strip.fault = fault
    with pytest.raises(BenchError) as error:
        switch_of(kind, strip.address, timeout_s=0.2, deadline_s=0.2).on()
    assert strip.address in error.value.message
    assert error.value.remedy
    assert not strip.outlets.on[OUTLET]


def test_a_strip_that_lies_is_caught_by_reading_back(kind: str, strip: power_strips.HttpStrip) -> None:
    strip.fault, strip.fault_commands_only = Fault.LIE, True
    with pytest.raises(BenchError, match=r"accepted the command to turn on, but .* says it is off") as error:
        switch_of(kind, strip.address, deadline_s=0.2).on()
    assert "welded" in error.value.remedy


def test_a_lost_answer_is_settled_by_reading_and_the_command_is_not_sent_again(
    kind: str, strip: power_strips.HttpStrip
) -> None:
    strip.fault, strip.fault_commands_only = Fault.LOSE_ANSWER, True
    sink = ListSink()
    ConfirmedSwitch(outlet_of(kind, strip.address), deadline_s=3, every_s=0.01, sink=sink).on()
    assert strip.outlets.on[OUTLET]
    assert sum(strip.is_command(*_split(path)) for path in strip.seen) == 1
    assert [type(event) for event in sink.events] == [PowerAnswerLost]


def _split(path: str) -> tuple[str, dict[str, list[str]]]:
    from urllib.parse import parse_qs, urlsplit

    parts = urlsplit(path)
    return parts.path, parse_qs(parts.query)


def test_six_outlets_of_one_strip_are_switched_at_the_same_time() -> None:
    with TasmotaStrip(relays=6) as strip:
        switches = [
            ConfirmedSwitch(outlet_of("tasmota", strip.address, outlet=number, timeout_s=10), deadline_s=20)
            for number in range(1, 7)
        ]
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda switch: switch.on(), switches))
        assert all(strip.outlets.on.values())


def test_a_strip_that_is_not_there_is_an_error_with_its_address(kind: str) -> None:
    with SERVERS[kind]() as server:
        address = server.address
    with pytest.raises(BenchError, match=f"{address}.*cannot connect") as error:
        switch_of(kind, address).on()
    assert "powered" in error.value.remedy


def test_an_outlet_that_does_not_exist_is_named(kind: str, strip: power_strips.HttpStrip) -> None:
    outlet = outlet_of(kind, strip.address, outlet=9)
    with pytest.raises(BenchError) as error:
        outlet.read()
    assert strip.address in error.value.message


def test_the_right_password_opens_a_strip_and_a_wrong_one_never_shows_in_the_error(kind: str) -> None:
    secret = 'p&ss w"rd%'
    with SERVERS[kind](password=secret) as server:
        outlet = outlet_of(kind, server.address, password=secret)
        outlet.command(PowerState.ON)
        assert outlet.read().state is PowerState.ON
        with pytest.raises(BenchError, match="log-in") as error:
            outlet_of(kind, server.address, password="wr0ng").command(PowerState.OFF)
        assert "wr0ng" not in str(error.value)
        assert "env:NAME" in error.value.remedy
        with pytest.raises(BenchError, match="log-in"):
            outlet_of(kind, server.address).command(PowerState.OFF)
        assert server.outlets.on[OUTLET]


def test_a_stale_nonce_is_answered_once_more_with_the_fresh_one() -> None:
    with ShellyGen2Strip(password="secret") as strip:
        strip.stale_answers = 1
        assert outlet_of("shelly-gen2", strip.address, password="secret").read().state is PowerState.OFF
        strip.stale_answers = 2
        with pytest.raises(BenchError, match="log-in"):
            outlet_of("shelly-gen2", strip.address, password="secret").read()


def test_a_challenge_of_another_kind_is_an_error_that_quotes_it() -> None:
    with pytest.raises(BenchError, match="auth-int"):
        digest_header('Digest qop="auth-int", realm="x", nonce="1"', Credentials("admin", "secret", "digest"), "/")


def test_a_portal_that_echoes_the_request_does_not_get_the_password_into_the_error() -> None:
    secret = "p&ss word/%"
    with TasmotaStrip(password=secret) as strip:
        strip.fault = Fault.REDIRECT
        with pytest.raises(BenchError, match=r"password=\*\*\*'; not followed"):
            outlet_of("tasmota", strip.address, password=secret).read()


def test_a_shelly_that_trips_says_why() -> None:
    with ShellyGen1Strip() as first, ShellyGen2Strip() as second:
        first.overpower, second.errors = True, ["overtemp"]
        for kind, server, why in (("shelly-gen1", first, "overpower"), ("shelly-gen2", second, "overtemp")):
            with pytest.raises(BenchError, match=f"gives the reason: {why}"):
                switch_of(kind, server.address, deadline_s=0.1).on()
            # Off is off, whatever the reason.
            switch_of(kind, server.address).off()


def test_a_tasmota_with_one_relay_says_power_without_a_number() -> None:
    with TasmotaStrip(relays=1) as server:
        switch_of("tasmota", server.address).on()
        assert server.outlets.on[1]


def test_a_strip_that_dies_after_the_command_leaves_its_state_unknown_and_says_so() -> None:
    with ShellyGen1Strip() as server:
        switch = switch_of("shelly-gen1", server.address, timeout_s=0.2, deadline_s=0.2)
        server.fault = Fault.LOSE_ANSWER
        with pytest.raises(NoAnswerError, match="whether it did cannot be read") as error:
            switch.on()
        assert "look at the outlet itself" in error.value.remedy
