"""The kernel engine's relay against this host's kernel, in scratch namespaces, as far as this kernel goes."""

from __future__ import annotations

import errno
import os
import platform
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from hil.core import netns
from hil.core.wait import wait_until
from hil.errors import BenchError
from hil.links.calibration.probe import Probe, blast, collect, pace, warm_up
from hil.links.engines import cables, netem, rtnl
from hil.links.engines.agent_server import AgentServer, RemoteAgent
from hil.links.engines.choose import choose
from hil.links.engines.kernel import KernelAgent, missing_in_kernel
from hil.links.engines.relay import Kind
from hil.links.link_box import End, LinkBox, Wire
from hil.links.state import LinkState
from hil.testing.links import fake_box
from tests.kits.kernel_shapes import joined_by_u32, queue_length, queue_length_shape, row, wait_for_rows
from tests.kits.link_namespaces import give_addresses, namespaces, wires

pytestmark = pytest.mark.integration


def test_the_relay_speaks_for_this_kernel_from_inside_a_namespace() -> None:
    with namespaces("relay") as prefix, KernelAgent(prefix + "box") as agent:
        assert agent.kernel_release == platform.release()
        assert rtnl.interfaces(agent) == {"lo": 1}
        assert 0 < agent.clock() <= agent.clock()


def test_frames_cross_the_box_by_redirection_and_are_shaped_on_the_way_out(tmp_path: Path) -> None:
    with namespaces("data") as prefix:
        a_end, b_end = End(prefix + "a", "isl0"), End(prefix + "b", "isl0")
        laid = [
            cables.Cable(nic, end.namespace, end.ifname, 1500)
            for nic, end in (("l0a", a_end), ("l0b", b_end))
        ]
        cables.lay(prefix + "box", laid, profile="exact")
        give_addresses(prefix, nics=("isl0",))
        with KernelAgent(prefix + "box") as agent:
            index = rtnl.interfaces(agent)
            a, b = index["l0a"], index["l0b"]
            rtnl.transact(agent, joined_by_u32(a, b))
            state = LinkState(0, 0)
            with fake_box([Wire("x", a_end, b_end, state, state)], socket_path=tmp_path / "fake") as box:
                (status,) = box.show()
            with Probe(status, "a_to_b") as there, Probe(status, "b_to_a") as back:
                assert not warm_up([there, back])
                pace([there, back], count=50, interval_s=0.001)
                assert len(collect(there, expected=50)) == len(collect(back, expected=50)) == 50
                arrivals, _ = blast(there, rate_bps=20_000_000, frame_b=1514, frames=330)
            late = arrivals[len(arrivals) // 4 :]  # the bucket lets the first ones through at once
            took_s = (late[-1].arrived_ns - late[0].arrived_ns) / 1e9
            assert (len(late) - 1) * 1514 * 8 / took_s < 1.1 * 20_000_000


def test_netem_is_either_there_or_refused_with_no_such_file() -> None:
    with namespaces("netem") as prefix, KernelAgent(prefix + "box") as agent:
        message = netem.encode(1, LinkState(14_390, 200_000_000), limit=714, delay_ns=14_390_000)
        (reply,) = rtnl.replies(agent.request(rtnl.number([message])))
        assert reply.error == (errno.ENOENT if missing_in_kernel() else 0)


def test_detection_says_which_engine_and_why_and_leaves_no_namespace() -> None:
    choice = choose()
    missing = missing_in_kernel()
    assert choice.name == ("uml" if missing else "kernel")
    assert missing in choice.reason
    assert choose("uml").name == "uml"
    assert f"hil.probe.{os.getpid()}" not in netns.names("hil.probe.")


def test_forcing_the_kernel_engine_works_or_names_what_is_missing(tmp_path: Path) -> None:
    with namespaces("force") as prefix:
        if missing_in_kernel():
            with pytest.raises(BenchError, match="kernel link engine was asked for, but"):
                LinkBox.up(prefix + "box", wires(prefix), socket_path=tmp_path / "s", engine="kernel")
        else:
            with LinkBox.up(
                prefix + "box", wires(prefix), socket_path=tmp_path / "s", engine="kernel"
            ) as box:
                assert [status.a_to_b.kernel for status in box.show()] == [
                    status.a_to_b.commanded for status in box.show()
                ]


def test_one_bad_message_of_a_batch_does_not_stop_the_others_and_is_named() -> None:
    with namespaces("bad") as prefix, KernelAgent(prefix + "box") as agent:
        good, bad = rtnl.nic_up(1), rtnl.nic_up(99)
        answers = rtnl.replies(agent.request(rtnl.number([good, bad, good])))
        assert [answer.error for answer in answers] == [0, errno.ENODEV, 0]
        with pytest.raises(BenchError, match="a NIC that is not there: No such device"):
            rtnl.transact(agent, [("a NIC that is not there", bad)])


def test_a_long_batch_and_a_long_answer_cross_in_pieces() -> None:
    with namespaces("long") as prefix, KernelAgent(prefix + "box") as agent:
        cables.lay(
            prefix + "box",
            [cables.Cable(f"c{index}", prefix + "a", f"e{index}", 1500) for index in range(8)],
            profile="bulk",
        )
        answers = rtnl.replies(agent.request(rtnl.number([rtnl.nic_up(1)] * 300)))
        assert len(answers) == 300
        assert not any(answer.error for answer in answers)
        assert set(rtnl.interfaces(agent)) == {"lo", *(f"c{index}" for index in range(8))}


def test_a_message_that_is_no_netlink_is_answered_and_does_not_hang() -> None:
    with namespaces("junk") as prefix, KernelAgent(prefix + "box") as agent:
        unknown = struct.pack("=IHHII", 16, 9999, 1, 7, 0)
        (reply,) = rtnl.replies(agent.request(unknown))
        assert reply.error == errno.EOPNOTSUPP
        assert agent.ask(Kind.CLOCK)


def test_rows_are_applied_in_order_on_the_relays_clock_and_told_once() -> None:
    with namespaces("plan") as prefix, KernelAgent(prefix + "box") as agent:
        agent.shape(3, queue_length_shape())
        start = agent.clock() + 20_000_000
        planned = [start + step * 10_000_000 for step in range(5)]
        agent.plan_stage([row(at_ns, delay_us) for delay_us, at_ns in enumerate(planned, 1)])
        assert agent.plan_log().applied == []
        agent.plan_commit()
        log = wait_until(
            lambda: found if len((found := agent.plan_log()).applied) == 5 else None,
            what="five rows",
            deadline_s=10,
        )
        assert [(each.planned_ns, each.error, each.held) for each in log.applied] == [
            (at_ns, 0, False) for at_ns in planned
        ]
        assert queue_length(agent) == 5_000
        for _ in range(2):  # an answer that was lost is told again
            assert [each.planned_ns for each in agent.plan_log(3).applied] == planned[3:]
        assert agent.plan_log(5).applied == []
        assert agent.plan_log(0).applied == []


def test_many_rows_due_at_once_are_all_applied_and_the_refused_ones_are_named() -> None:
    with namespaces("burst") as prefix, KernelAgent(prefix + "box") as agent:
        good = queue_length_shape()
        bad = bytearray(good.up)
        struct.pack_into("=i", bad, 20, 99)  # a NIC that is not there
        agent.shape(0, good)
        agent.shape(1, replace(good, up=bytes(bad)))
        now = agent.clock()
        agent.plan_stage([row(now, 1 + index, slot=index % 3) for index in range(300)])
        agent.plan_commit()
        log = wait_for_rows(agent, 300)
        wanted = {0: 0, 1: errno.ENODEV, 2: errno.EBADSLT}  # the third has no shape
        assert [each.error for each in log] == [wanted[each.slot] for each in log]
        assert [each.slot for each in log] == [index % 3 for index in range(300)]
        assert queue_length(agent) == 298_000


def test_held_rows_are_noted_and_a_release_applies_the_last_of_them() -> None:
    with namespaces("hold") as prefix, KernelAgent(prefix + "box") as agent:
        agent.shape(3, queue_length_shape())
        agent.hold([3])
        now = agent.clock()
        agent.plan_stage([row(now + 1, 7), row(now + 2, 8), row(now + 3_600_000_000_000, 9)])
        agent.plan_commit()
        assert [(each.held, each.error) for each in wait_for_rows(agent, 2)] == [(True, 0), (True, 0)]
        assert queue_length(agent) not in (7_000, 8_000)
        agent.release([3])
        assert queue_length(agent) == 8_000
        agent.shape(3, replace(queue_length_shape(), compensation_ns=500))
        assert queue_length(agent) == 7_500


def test_a_commit_from_a_moment_on_replaces_what_is_to_come_and_nothing_else() -> None:
    with namespaces("swap") as prefix, KernelAgent(prefix + "box") as agent:
        agent.shape(3, queue_length_shape())
        now = agent.clock()
        hour = 3_600_000_000_000
        agent.plan_stage([row(now + 300_000_000, 1), row(now + hour, 2)])
        agent.plan_commit()
        agent.plan_stage([row(now + 400_000_000, 3)])
        agent.plan_commit(now + 350_000_000)
        log = wait_for_rows(agent, 2)
        assert [each.planned_ns - now for each in log] == [300_000_000, 400_000_000]
        assert queue_length(agent) == 3_000
        agent.plan_stage([row(now, 4)])
        agent.plan_stage([])  # thought better of
        agent.plan_commit()
        assert agent.plan_log(2).applied == []


def test_a_plan_longer_than_the_relays_memory_streams_through_it_and_a_full_log_is_counted() -> None:
    with namespaces("long") as prefix, KernelAgent(prefix + "box") as agent:
        total, piece = 400_000, 40_000  # its memory has room for 349,525
        for start in range(0, total, piece):
            agent.plan_stage([row(start + index + 1, 1, slot=9) for index in range(piece)])
            agent.plan_commit()
        log = agent.plan_log()
        wait_until(
            lambda: agent.plan_log().lost == total - 65_536, what="all rows", deadline_s=30
        )  # nobody read the log: it keeps the first ones and counts the others
        assert [each.planned_ns for each in log.applied] == list(range(1, len(log.applied) + 1))


def test_more_rows_than_there_is_room_for_are_refused_and_those_there_are_stay() -> None:
    with namespaces("full") as prefix, KernelAgent(prefix + "box") as agent:
        far = agent.clock() + 3_600_000_000_000
        block = [row(far, 1)] * 125
        for _ in range(2_796):
            agent.plan_stage(block)
        with pytest.raises(BenchError, match="refused more of the schedule: No space left"):
            agent.plan_stage(block)
        agent.plan_forget()
        agent.plan_stage(block)


def test_the_relay_is_lent_to_another_client_through_a_socket(tmp_path: Path) -> None:
    with namespaces("lend") as prefix, KernelAgent(prefix + "box") as agent:
        server = AgentServer([agent], tmp_path / "s")
        try:
            with RemoteAgent(tmp_path / "s") as client:
                assert client.kernel_release == agent.kernel_release
                assert rtnl.interfaces(client) == {"lo": 1}
        finally:
            server.close()
