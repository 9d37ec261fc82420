"""Tenants' shares as messages: classes, their rates, their queues, and whose packets go into which."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hil.links.engines import htb, rtnl
from hil.links.engines.htb import FIRST, REST, WHOLE, ClassCount, Shares

SHARES = Shares(25_000_000, 700_000, 1514, (30, 70), (("198.18.1.11", "198.18.2.11"), ("198.18.1.12",)))


def fields(message: bytes) -> tuple[int, int, int, int, int]:
    """Type, flags, handle, parent, info."""
    _, kind, flags, *_ = struct.unpack_from("=IHHII", message)
    _, _, _, _, handle, parent, info = struct.unpack_from("=BBHiIII", message, 16)
    return kind, flags, handle, parent, info


def content(message: bytes) -> dict[int, bytes]:
    return {kind: message[slice(*place)] for kind, place in rtnl.attributes(message, 36).items()}


def of_kind(messages: list[bytes], kind: int) -> Iterator[bytes]:
    return (message for message in messages if fields(message)[0] == kind)


def test_tenants_with_all_of_a_link_leave_a_hundredth_to_others_and_keep_their_proportion() -> None:
    classes = SHARES.classes()
    assert classes[WHOLE] == 25_000_000
    assert classes[REST] == 25_000_000 // 101
    assert classes[FIRST + 1] / classes[FIRST] == pytest.approx(70 / 30, rel=1e-6)
    assert (
        sum(classes.values()) - classes[WHOLE] <= 25_000_000
    )  # HTB serves a class that has tokens whatever the others do


def test_what_no_tenant_has_is_everybody_elses() -> None:
    classes = Shares(1_000_000, 1, 1514, (10, 30), ((), ())).classes()
    assert (classes[FIRST], classes[FIRST + 1], classes[REST]) == (100_000, 300_000, 600_000)


def test_the_smallest_share_of_the_slowest_link_has_a_rate() -> None:
    assert min(Shares(1, 1, 1514, (1, 99), ((), ())).classes().values()) == 1


def test_the_scheduler_is_below_the_netem_and_each_class_has_a_queue_in_bytes() -> None:
    qdisc, *rest = htb.build(7, SHARES)
    assert fields(qdisc) == (rtnl.RTM_NEWQDISC, 0x605, 0x20000, 0x10001, 0)
    assert struct.unpack_from("=I", qdisc, 20) == (7,)
    assert content(qdisc)[1] == b"htb\0"
    parents = {fields(m)[2]: fields(m)[3] for m in of_kind(rest, 40)}
    assert parents == {0x20001: 0x20000, 0x20002: 0x20001, 0x20010: 0x20001, 0x20011: 0x20001}
    queues = {fields(m)[3]: content(m) for m in of_kind(rest, rtnl.RTM_NEWQDISC)}
    assert queues.keys() == {0x20002, 0x20010, 0x20011}
    assert queues[0x20010] == {1: b"bfifo\0", 2: struct.pack("=I", 700_000)}


def test_a_packet_is_its_senders_and_only_then_its_receivers() -> None:
    filters = list(of_kind(htb.build(7, SHARES), rtnl.RTM_NEWTFILTER))
    found = []
    for message in filters:
        _, _, _, parent, info = fields(message)
        assert (parent, info & 0xFFFF) == (0x20000, 0x0008)  # IPv4
        options = content(message)[2]
        parts = {kind: options[slice(*place)] for kind, place in rtnl.attributes(options, 0).items()}
        mask, value, offset, _ = struct.unpack_from("=I4sii", parts[5], 16)
        assert mask == 0xFFFFFFFF
        found.append((info >> 16, ".".join(map(str, value)), offset, struct.unpack("=I", parts[1])[0] & 0xFFFF))
    assert found == [
        (1, "198.18.1.11", 12, FIRST),
        (1, "198.18.2.11", 12, FIRST),
        (1, "198.18.1.12", 12, FIRST + 1),
        (2, "198.18.1.11", 16, FIRST),
        (2, "198.18.2.11", 16, FIRST),
        (2, "198.18.1.12", 16, FIRST + 1),
    ]


def test_every_class_may_borrow_up_to_the_whole_link_in_proportion_to_its_share() -> None:
    quanta = {}
    for message in of_kind(htb.change(7, SHARES), 40):
        options = content(message)[2]
        begin, end = rtnl.attributes(options, 0)[1]
        _, ceil, _, _, quantum, _, _ = struct.unpack("=12s12sIIIII", options[begin:end])
        assert struct.unpack("=BBHhHI", ceil)[-1] == 25_000_000
        quanta[fields(message)[2] & 0xFFFF] = quantum
    assert (quanta[FIRST], quanta[FIRST + 1]) == (1514, 3532)


@pytest.mark.parametrize("rate", [25_000_000, 50_000_000_000])
def test_a_class_that_the_kernel_dumps_reads_as_what_was_sent(rate: int) -> None:
    shares = Shares(rate, 700_000, 1514, (30, 70), ((), ()))
    stats = rtnl.attribute(1, struct.pack("=QII", 1 << 33, 9, 0)) + rtnl.attribute(
        3, struct.pack("=IIIII", 4, 0, 2, 0, 0)
    )
    found = {}
    for message in of_kind(htb.change(7, shares), 40):
        dumped = message + rtnl.attribute(7, stats)
        index, minor, counted = htb.decode(dumped) or (0, 0, ClassCount(0, 0, 0, 0, 0, 0))
        assert index == 7
        assert (counted.sent_bytes, counted.sent_packets, counted.dropped_packets, counted.queued_packets) == (
            1 << 33,
            9,
            2,
            4,
        )
        found[minor] = replace(counted, queue_bytes=shares.queue_of(minor))
    assert htb.as_commanded(shares, found)
    assert not htb.as_commanded(Shares(rate, 700_000, 1514, (40, 60), ((), ())), found)
    assert not htb.as_commanded(replace(shares, closed=frozenset({1})), found)
    assert not htb.as_commanded(shares, {})


def test_a_tenant_for_whom_the_link_is_cut_has_no_queue_and_the_others_have_theirs() -> None:
    queues = list(of_kind(htb.change(7, replace(SHARES, closed=frozenset({1}))), rtnl.RTM_NEWQDISC))
    assert [htb.queue_of(m) for m in queues] == [(7, REST, 700_000), (7, FIRST, 700_000), (7, FIRST + 1, 0)]
    assert htb.queue_of(htb.build(7, SHARES)[0]) is None


def test_what_is_no_class_of_ours_reads_as_nothing() -> None:
    assert htb.decode(htb.dump_request(7)) is None
    other = bytearray(next(of_kind(htb.change(7, SHARES), 40)))
    struct.pack_into("=I", other, 24, 0x50001)
    assert htb.decode(bytes(other)) is None
