"""The rules that keep tenants apart: who may send to whom, and with which address."""

from __future__ import annotations

import shutil

import pytest

from hil.bench import isolation
from hil.core import paths
from hil.errors import ConfigurationError
from hil.evidence.events import IsolationTried, TenantAttempt
from hil.lab.addressing import board_addresses
from hil.lab.model import load_lab
from hil.testing.fakes import ListSink

LAB = load_lab(paths.ROOT / "lab/two-tenants.yaml")


def lines(spacecraft: str, **ports: str) -> list[str]:
    return [line.strip() for line in isolation.rules(LAB, board_addresses(LAB), spacecraft, ports).splitlines()]


def test_boards_of_a_tenant_reach_each_other_and_then_no_board_another() -> None:
    found = lines("sc-a")
    alpha, beta = "198.18.1.11, 198.18.1.12, 198.18.2.11", "198.18.1.13, 198.18.2.12, 198.18.2.13"
    every = "198.18.1.11, 198.18.1.12, 198.18.1.13, 198.18.2.11, 198.18.2.12, 198.18.2.13"
    wanted = [
        f"ip saddr {{ {alpha} }} ip daddr {{ {alpha} }} accept",
        f"ip saddr {{ {beta} }} ip daddr {{ {beta} }} accept",
        f"ip saddr {{ {every} }} ip daddr {{ {every} }} counter drop",
    ]
    at = found.index("table ip tenants {")
    assert found[at + 2 : at + 5] == wanted


def test_a_switch_forwards_between_ports_of_one_tenant_and_nothing_else_of_any_protocol() -> None:
    found = lines("sc-a", a1="b-a1", a2="b-a2", a3="enp3s0.7")
    at = found.index("table bridge tenants {")
    assert found[at + 2 : at + 6] == [
        'iifname { "b-a1", "b-a2" } oifname { "b-a1", "b-a2" } accept',
        'iifname { "enp3s0.7" } oifname { "enp3s0.7" } accept',
        "counter drop",
        "}",
    ]


def test_boards_that_are_nobodys_are_apart_from_those_of_tenants() -> None:
    nobodys = LAB.model_copy(update={"tenants": LAB.tenants[:1]})
    rules = isolation.rules(nobodys, board_addresses(LAB), "sc-a", {})
    assert "ip saddr { 198.18.1.13, 198.18.2.12, 198.18.2.13 } ip daddr { 198.18.1.13, 198.18.2.12" in rules


def test_no_packet_leaves_a_board_with_anothers_address() -> None:
    found = lines("sc-b", b1="b-b1", b2="enp3s0.7")
    assert 'iifname "b-b1" ip saddr != 198.18.2.11 counter drop' in found
    assert 'iifname "enp3s0.7" arp saddr ip != 198.18.2.12 counter drop' in found
    assert not any("198.18.2.13 counter" in line for line in found)  # it has no flight port


def test_a_host_without_nft_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigurationError, match="nft is not installed"):
        isolation.keep_apart("hil.x.sc-a", "")


GUESTS = load_lab(paths.ROOT / "lab/guests.yaml")


def guest_lines(spacecraft: str) -> list[str]:
    script = isolation.guest_rules(GUESTS, board_addresses(GUESTS), spacecraft, lambda link: f"l-{link.name}")
    return [line.strip() for line in script.splitlines()]


def test_a_guest_asks_the_board_that_serves_it_and_nothing_else_passes() -> None:
    found = guest_lines("sc-02")
    first = found.index("table ip guests {")
    assert found[first + 2 : first + 7] == [
        'iifname "l-gst-02" ip saddr != 198.18.4.11 counter drop',
        "ip saddr 198.18.4.11 ip daddr 198.18.1.11 tcp dport 8470 accept",
        "ip saddr 198.18.1.11 ip daddr 198.18.4.11 tcp sport 8470 tcp flags & (syn | ack) != syn accept",
        "ip saddr { 198.18.4.0/24 } counter drop",
        "ip daddr { 198.18.4.0/24 } counter drop",
    ]


def test_a_router_itself_hears_of_a_guests_link_what_measures_the_link_only() -> None:
    found = guest_lines("sc-10")
    first = found.index("table ip guests {", found.index("table ip guests {") + 1)
    assert found[first + 2 : first + 5] == [
        'iifname "l-gst-10" ip saddr 198.19.128.21 ip daddr 198.19.128.22 accept',
        'iifname "l-gst-10" counter drop',
        "ip saddr { 198.18.4.0/24 } counter drop",
    ]


def test_what_boards_could_do_is_summed_up_by_tenant_and_recorded() -> None:
    sink = ListSink()
    succeeded = {("a1", "b1"): ["reach"], ("a3", "b1"): {"starve"}, ("b2", "a2"): ["forge"], ("a3", "b2"): ["reach"]}
    found = isolation.attempts_by_tenant(LAB, succeeded, ("reach", "forge", "starve"), sink)
    assert found == {("beta", "alpha"): ["forge", "starve"]}, "a tenant's own boards do not count"
    (event,) = sink.events
    attempt = TenantAttempt("beta", "alpha", ("forge", "starve"))
    assert event == IsolationTried(("alpha", "beta"), ("reach", "forge", "starve"), (attempt,))
