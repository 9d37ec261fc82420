"""Netlink messages byte by byte, put together here from the kernel's headers and not with the code under test."""

import re
import struct
from pathlib import Path
from statistics import pstdev

import pytest
from hypothesis import given

from hil.errors import BenchError
from hil.links.engines import netem, police, rtnl
from hil.links.engines.police import Police
from hil.links.state import MAX_RATE_BPS, GilbertElliott, LinkState
from hil.testing.links import FakeAgent
from tests.kits.link_strategies import states

ROOT = 0xFFFFFFFF


def attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


def tc_header(ifindex: int, handle: int, parent: int, info: int = 0) -> bytes:
    return struct.pack("=BBHiIII", 0, 0, 0, ifindex, handle, parent, info)


def netem_message(ifindex: int, fixed: tuple[int, ...], attributes: bytes) -> bytes:
    # RTM_NEWQDISC; NLM_F_REQUEST|ACK|REPLACE|CREATE; TCA_KIND, TCA_OPTIONS = struct tc_netem_qopt + attributes
    options = struct.pack("=IIIIII", *fixed) + attributes
    return message(36, 0x505, tc_header(ifindex, 0, ROOT) + attribute(1, b"netem\0") + attribute(2, options))


def rate(bytes_per_second: int) -> bytes:
    return attribute(6, struct.pack("=IiIi", bytes_per_second, 0, 0, 0))


UNSPOILED = attribute(4, struct.pack("=II", 0, 0))


def test_delay_and_rate_are_sent_in_ticks_nanoseconds_and_bytes_per_second() -> None:
    got = netem.encode(7, LinkState(14_390, 200_000_000), limit=714, delay_ns=14_390_000)
    # 14390000 ns = 224843.75 ticks of 64 ns; latency, limit, loss, gap, duplicate, jitter
    want = netem_message(
        7, (224_843, 714, 0, 0, 0, 0), rate(25_000_000) + attribute(10, struct.pack("=q", 14_390_000)) + UNSPOILED
    )
    assert got == want


def test_gilbert_elliott_sends_the_share_that_passes_in_the_bad_state() -> None:
    # tc: loss gemodel p 1% r 10% 1-h 70% 1-k 0.1%
    state = LinkState(5_000, 500_000_000, gemodel=GilbertElliott(10_000, 100_000, 700_000, 1_000))
    got = netem.encode(3, state, limit=500, delay_ns=5_000_000)
    gemodel = struct.pack("=IIII", 42_949_673, 429_496_730, 1_288_490_189, 4_294_967)  # p, r, h = 0.3, k1
    want = netem_message(
        3,
        (78_125, 500, 0, 0, 0, 0),
        attribute(5, attribute(2, gemodel))
        + rate(62_500_000)
        + attribute(10, struct.pack("=q", 5_000_000))
        + UNSPOILED,
    )
    assert got == want


def test_jitter_is_sent_with_a_table_of_a_normal_distribution_of_that_spread() -> None:
    got = netem.encode(3, LinkState(20_000, 8_000, jitter_us=2_000), limit=66, delay_ns=20_000_000)
    tail = attribute(10, struct.pack("=q", 20_000_000)) + UNSPOILED
    head = netem_message(3, (312_500, 66, 0, 0, 0, 31_250), rate(1_000) + tail)
    jitter = attribute(11, struct.pack("=q", 2_000_000))
    table = got[len(head) + len(jitter) + 4 :]
    assert got[36:48] == head[36:48] and got[len(head) : len(head) + len(jitter)] == jitter
    points = struct.unpack(f"={len(table) // 2}h", table)
    assert abs(sum(points)) < len(points) and sorted(points) == list(points)
    assert pstdev(points) == pytest.approx(8192, rel=1e-3)  # NETEM_DIST_SCALE is one standard deviation


def test_the_relay_has_room_for_the_longest_message() -> None:
    most = re.search(r"#define SHAPE_MAX (\d+)", (Path(netem.__file__).parent / "native/plan.c").read_text())
    state = LinkState(9, MAX_RATE_BPS, gemodel=GilbertElliott(1, 1), jitter_us=1, corrupt_ppm=1, reorder_ppm=1)
    assert most and len(netem.encode(3, state, limit=9, delay_ns=9_000, seed=1)) <= int(most[1])


def test_random_loss_is_a_share_of_two_to_the_32() -> None:
    got = netem.encode(3, LinkState(0, 8_000, loss_ppm=10_000), limit=66, delay_ns=0)
    assert got == netem_message(3, (0, 66, 42_949_673, 0, 0, 0), rate(1_000) + attribute(10, bytes(8)) + UNSPOILED)


def test_corruption_duplication_and_reordering_are_shares_and_reordering_has_a_gap_of_one() -> None:
    state = LinkState(5_000, 8_000, corrupt_ppm=10_000, duplicate_ppm=20_000, reorder_ppm=250_000)
    got = netem.encode(3, state, limit=66, delay_ns=5_000_000)
    want = netem_message(
        3,
        (78_125, 66, 0, 1, 85_899_346, 0),
        rate(1_000)
        + attribute(10, struct.pack("=q", 5_000_000))
        + attribute(3, struct.pack("=II", 1_073_741_824, 0))
        + attribute(4, struct.pack("=II", 42_949_673, 0)),
    )
    assert got == want
    down = netem.encode(3, LinkState(5_000, 8_000, duplicate_ppm=20_000, up=False), limit=66, delay_ns=5_000_000)
    assert down == netem.encode(3, LinkState(5_000, 8_000, up=False), limit=66, delay_ns=5_000_000)


def test_a_rate_beyond_32_bits_goes_into_its_own_attribute() -> None:
    got = netem.encode(3, LinkState(0, 100_000_000_000), limit=9, delay_ns=0, seed=5)
    want = netem_message(
        3,
        (0, 9, 0, 0, 0, 0),
        attribute(8, struct.pack("=Q", 12_500_000_000))
        + rate(0xFFFFFFFF)
        + attribute(10, bytes(8))
        + UNSPOILED
        + attribute(14, struct.pack("=Q", 5)),
    )
    assert got == want


def test_a_link_that_is_down_loses_everything_and_keeps_delay_rate_and_limit() -> None:
    state = LinkState(5_000, 500_000_000, gemodel=GilbertElliott(10_000, 100_000), up=False)
    got = netem.encode(3, state, limit=500, delay_ns=5_000_000)
    # no loss model attribute: with one, the kernel would not look at the plain loss
    want = netem_message(
        3,
        (78_125, 500, 0xFFFFFFFF, 0, 0, 0),
        rate(62_500_000) + attribute(10, struct.pack("=q", 5_000_000)) + UNSPOILED,
    )
    assert got == want


def test_no_rate_limit_is_sent_as_zero_because_an_absent_rate_would_be_kept() -> None:
    assert rate(0) in netem.encode(3, LinkState(1_000, 0), limit=9, delay_ns=0)


def test_a_dump_asks_for_every_qdisc() -> None:
    assert netem.dump_request() == message(38, 0x301, tc_header(0, 0, 0))


def test_a_nic_is_set_up_and_promiscuous() -> None:
    assert rtnl.nic_up(9) == message(16, 5, struct.pack("=BBHiII", 0, 0, 0, 9, 0x101, 0x101))


def test_ingress_hangs_on_its_own_handle() -> None:
    want = message(36, 0x605, tc_header(9, 0xFFFF0000, 0xFFFFFFF1) + attribute(1, b"ingress\0"))
    assert rtnl.ingress(9) == want


def test_redirection_is_matchall_with_mirred_egress_redirect() -> None:
    # struct tc_mirred: index, capab, action TC_ACT_STOLEN, refcnt, bindcnt, eaction TCA_EGRESS_REDIR, ifindex
    mirred = attribute(2, struct.pack("=IIiiiiI", 0, 0, 4, 0, 0, 1, 11))
    action = attribute(1, attribute(1, b"mirred\0") + attribute(2, mirred))
    body = tc_header(9, 0, 0xFFFF0000, (1 << 16) | 0x0300)
    want = message(44, 0x605, body + attribute(1, b"matchall\0") + attribute(2, attribute(2, action)))
    assert rtnl.redirect(9, 11) == want


def policer(ifindex: int, burst_ticks: int, bytes_per_s: int, more: bytes = b"") -> bytes:
    # struct tc_police: index, action TC_ACT_SHOT, limit, burst, mtu; tc_ratespec: cell_log, linklayer ETHERNET,
    # overhead, cell_align, mpu, rate; peakrate; refcnt, bindcnt, capab.  Then TCA_POLICE_RESULT: TC_ACT_PIPE.
    fixed = struct.pack("=IiIII", 0x48490000 + ifindex, 2, 0, burst_ticks, 0xFFFFFFFF)
    fixed += struct.pack("=BBHhHI", 6, 1, 14, 0, 0, bytes_per_s) + bytes(12 + 12)
    options = attribute(1, fixed) + attribute(5, struct.pack("=I", 3)) + more
    return attribute(1, b"police\0") + attribute(2, options)


TABLE = attribute(2, bytes(1024))


@pytest.mark.parametrize(
    ("wanted", "ticks", "bytes_per_s", "more"),
    [
        (Police.of(200_000_000, 30_000), 468_750, 24_975_000, TABLE),
        (
            Police.of(40_000_000_000, 20_000),
            312_500,
            0xFFFFFFFF,
            TABLE + attribute(8, struct.pack("=Q", 4_995_000_000)),
        ),
        (Police.of(0, 20_000), 0, 0, b""),
        (Police.of(1_000, 1_000_000_000), 0, 0, b""),  # a bucket holds 274 s
    ],
)
def test_a_policer_is_made_or_changed_by_its_number(wanted: Police, ticks: int, bytes_per_s: int, more: bytes) -> None:
    # RTM_NEWACTION; struct tcamsg; TCA_ACT_TAB
    action = policer(11, ticks, bytes_per_s, more)
    want = message(48, 0x505, bytes(4) + attribute(1, attribute(1, action)))
    assert police.change(11, wanted) == want


def test_a_policer_comes_before_the_redirection() -> None:
    wanted = Police.of(200_000_000, 30_000)
    mirred = attribute(2, struct.pack("=IIiiiiI", 0, 0, 4, 0, 0, 1, 11))
    actions = attribute(1, policer(11, 468_750, 24_975_000, TABLE))
    actions += attribute(2, attribute(1, b"mirred\0") + attribute(2, mirred))
    body = tc_header(9, 0, 0xFFFF0000, (1 << 16) | 0x0300)
    want = message(44, 0x605, body + attribute(1, b"matchall\0") + attribute(2, attribute(2, actions)))
    assert rtnl.redirect(9, 11, police.action(11, wanted)) == want


def test_drops_of_policers_are_read_by_nic() -> None:
    def reported(ifindex: int, dropped: int) -> bytes:
        # TCA_ACT_STATS, TCA_STATS_QUEUE: qlen, backlog, drops, requeues, overlimits
        stats = attribute(4, attribute(3, struct.pack("=IIIII", 0, 0, dropped, 0, 9)))
        return policer(ifindex, 1, 1, TABLE) + stats

    table = attribute(0, reported(4, 17)) + attribute(1, reported(5, 0))
    assert police.drops(message(50, 2, bytes(4) + attribute(1, table))) == {4: 17, 5: 0}
    assert police.drops(message(50, 2, bytes(4))) == {}


@given(states)
def test_what_is_encoded_reads_back_as_commanded(state: LinkState) -> None:
    raw = netem.encode(5, state, limit=77, delay_ns=state.delay_us * 1000)
    decoded = netem.decode(raw, mtus={5: state.mtu})
    assert decoded is not None
    ifindex, read = decoded
    # while a link is down the kernel is told of nothing that chance does, so none reads back
    want = state if state.up else state.without_chance()
    assert (ifindex, read.state, read.limit_packets) == (5, want, 77)


def test_a_qdisc_that_is_not_netem_reads_as_nothing() -> None:
    other = message(36, 0, tc_header(5, 0, ROOT) + attribute(1, b"noqueue\0") + attribute(2, b""))
    assert netem.decode(other) is None


def test_a_batch_is_numbered_and_answered_in_order() -> None:
    agent = FakeAgent()
    first, second = rtnl.nic_up(1), rtnl.ingress(2)
    answers = rtnl.replies(agent.request(rtnl.number([first, second])))
    assert [(answer.sequence, answer.error) for answer in answers] == [(1, 0), (2, 0)]


def test_a_refusal_names_the_step_and_the_kernels_reason() -> None:
    agent = FakeAgent()
    agent.refuse = {36: 2}
    with pytest.raises(BenchError, match="netem on x: No such file or directory"):
        rtnl.transact(agent, [("a NIC up", rtnl.nic_up(1)), ("netem on x", rtnl.ingress(1))])


def test_the_kernels_own_words_are_read_from_an_extended_acknowledgement() -> None:
    text = attribute(1, b"Specified qdisc kind is unknown\0")
    body = struct.pack("=i", -2) + bytes(16) + text
    (answer,) = rtnl.replies(struct.pack("=IHHII", 16 + len(body), 2, 0x300, 1, 0) + body)
    assert (answer.error, answer.text) == (2, "Specified qdisc kind is unknown")
