"""Every message to a kernel is attributes to its last byte, on every level: nothing is "leftover after parsing"."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hil.links.engines import htb, netem, police, rtnl
from hil.links.engines.shaper_host import ports
from hil.links.state import GilbertElliott, LinkState

TC, LINK, ACTION = 20, 16, 4
"""Bytes of the header of a family: struct tcmsg, ifinfomsg, tcamsg."""
STATE = LinkState(delay_us=4000, rate_bps=100_000_000)
SHARES = htb.Shares(12_500_000, 100_000, 1514, (30, 70), (("198.18.0.1", "198.18.0.3"), ("198.18.0.2",)))
WIDE = replace(SHARES, bytes_per_s=5_000_000_000, closed=frozenset([1]))


def parsed(data: bytes, where: str) -> dict[int, list[bytes]]:
    """As the kernel's nla_parse goes through them; AssertionError for bytes that are no attribute."""
    at, found = 0, dict[int, list[bytes]]()
    while at < len(data):
        length, kind = struct.unpack_from("=HH", data, at) if len(data) - at >= 4 else (0, 0)
        assert 4 <= length <= len(data) - at, f"{len(data) - at} bytes left over in {where}: {data[at:].hex()}"
        found.setdefault(kind & 0x3FFF, []).append(data[at + 4 : at + length])
        at += (length + 3) // 4 * 4
    return found


def actions(table: bytes, where: str) -> None:
    for place, each in parsed(table, where).items():
        for action in each:
            for options in parsed(action, f"{where} {place}").get(2, ()):
                parsed(options, f"options of {where} {place}")


def options(kind: str, content: bytes, where: str) -> None:
    """Go into the options of a queueing discipline, class or filter; bfifo's are a number and no attributes."""
    if kind == "netem":
        for loss in parsed(content[24:], where).get(5, ()):  # behind struct tc_netem_qopt
            parsed(loss, f"loss of {where}")
    elif kind == "matchall":
        for table in parsed(content, where).get(2, ()):
            actions(table, f"actions of {where}")
    elif kind in ("htb", "u32"):
        parsed(content, where)
    else:
        assert (kind, len(content)) == ("bfifo", 4)


def messages() -> Iterator[tuple[str, int, bytes]]:
    for name, shares in (("shares", SHARES), ("wide shares", WIDE)):
        yield from ((f"{name} {n}", TC, message) for n, message in enumerate(htb.build(3, shares)))
    yield "classes", TC, htb.dump_request(3)
    bursty = replace(STATE, gemodel=GilbertElliott(10_000, 100_000))
    wide = replace(STATE, rate_bps=40_000_000_000, jitter_us=20, reorder_ppm=10, corrupt_ppm=5, loss_ppm=7)
    for name, state in (("plain", STATE), ("bursty", bursty), ("wide", wide), ("down", replace(STATE, up=False))):
        yield name, TC, netem.encode(3, state, limit=100, delay_ns=5, seed=4, handle=htb.NETEM_HANDLE)
    yield "qdiscs", TC, netem.dump_request()
    yield "ingress", TC, rtnl.ingress(3)
    yield "redirection", TC, rtnl.redirect(3, 4)
    yield "no ingress", TC, ports.delete_qdisc(3, ingress=True)
    for name, what in (("policer", police.Police(10**7, 10**6)), ("wide policer", police.Police(10**10, 10**6))):
        yield f"redirection behind a {name}", TC, rtnl.redirect(3, 4, police.action(3, what))
        yield name, ACTION, police.change(3, what)
    yield "policers", ACTION, police.dump_request()
    links = [rtnl.nic_up(3), ports.new_vlan("v0", 3, 7, 1500), ports.delete_link("v0"), ports.address_mode(3, 1)]
    yield from ((f"link {n}", LINK, message) for n, message in enumerate([*links, ports.set_link(3, 1, 1400)]))


@pytest.mark.parametrize(("name", "head", "message"), [pytest.param(*each, id=each[0]) for each in messages()])
def test_a_message_is_attributes_to_its_last_byte(name: str, head: int, message: bytes) -> None:
    assert struct.unpack_from("=I", message) == (len(message),)
    found = parsed(message[rtnl.HEADER.size + head :], name)
    if head == TC:
        kind = found.get(1, [b""])[0].rstrip(b"\0").decode()
        for content in found.get(2, ()):
            options(kind, content, f"{name}: {kind}")
    elif head == ACTION:
        actions(found[1][0], name)


def test_bytes_that_are_no_attribute_are_seen() -> None:
    with pytest.raises(AssertionError, match="4 bytes left over"):
        parsed(rtnl.attribute(1, b"xyz") + bytes(4), "a message")
