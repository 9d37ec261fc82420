"""The kernel engine's relay against this host's kernel, in scratch namespaces, as far as this kernel goes."""

from __future__ import annotations

import errno
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.core import netns
from hil.errors import BenchError
from hil.links.calibration.probe import Probe, blast, collect, pace, warm_up
from hil.links.engines import cables, netem, rtnl
from hil.links.engines.agent import Agent
from hil.links.engines.agent_server import AgentClient, AgentServer
from hil.links.engines.kernel import KernelAgent, missing_in_kernel
from hil.links.engines.kinds import choose
from hil.links.engines.relay import Kind
from hil.links.link_box import End, LinkBox, Wire
from hil.links.state import LinkState
from hil.testing.links import fake_box
from tests.kits.agent_contract import AgentContract
from tests.kits.kernel_shapes import joined_by_u32
from tests.kits.link_namespaces import give_addresses, namespaces, wires

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


def test_the_relay_speaks_for_this_kernel_from_inside_a_namespace() -> None:
    with namespaces("relay") as prefix, KernelAgent(prefix + "box") as agent:
        assert agent.kernel_release == platform.release()
        assert rtnl.interfaces(agent) == {"lo": 1}
        assert 0 < agent.clock() <= agent.clock()


def test_frames_cross_the_box_by_redirection_and_are_shaped_on_the_way_out(tmp_path: Path) -> None:
    with namespaces("data") as prefix:
        a_end, b_end = End(prefix + "a", "isl0"), End(prefix + "b", "isl0")
        laid = [cables.Cable(nic, end.namespace, end.ifname, 1500) for nic, end in (("l0a", a_end), ("l0b", b_end))]
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
            with LinkBox.up(prefix + "box", wires(prefix), socket_path=tmp_path / "s", engine="kernel") as box:
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


class TestRelay(AgentContract):
    @pytest.fixture
    def agent(self) -> Iterator[Agent]:
        with namespaces("plan") as prefix, KernelAgent(prefix + "box") as agent:
            yield agent


def test_the_relay_is_lent_to_another_client_through_a_socket(tmp_path: Path) -> None:
    with namespaces("lend") as prefix, KernelAgent(prefix + "box") as agent:
        server = AgentServer([agent], tmp_path / "s")
        try:
            with AgentClient(tmp_path / "s") as client:
                assert client.kernel_release == agent.kernel_release
                assert rtnl.interfaces(client) == {"lo": 1}
        finally:
            server.close()
