"""The kernel engine's relay against this host's kernel, in scratch namespaces, as far as this kernel goes."""

from __future__ import annotations

import errno
import os
import platform
import struct
from pathlib import Path

import pytest

from hil import netns
from hil.errors import BenchError
from hil.links import netem, rtnl, wiring
from hil.links.agent import AgentServer, KernelAgent, RemoteAgent
from hil.links.box import End, LinkBox, Wire
from hil.links.engine import detect, missing_in_kernel
from hil.links.fake import fake_box
from hil.links.probe import Probe, blast, collect, pace, warm_up
from hil.links.relay import Kind
from hil.links.state import LinkState
from hil.wait import wait_until
from tests.integration.links_kit import give_addresses, namespaces, wires

pytestmark = pytest.mark.integration


def tbf(ifindex: int, bytes_per_second: int) -> bytes:
    """A root token bucket filter, composed by pyroute2: a shaper that this kernel has."""
    from pyroute2.netlink.rtnl.tcmsg import sched_tbf, tcmsg

    message = tcmsg()
    message["index"] = ifindex
    message["parent"] = 0xFFFFFFFF
    options = sched_tbf.get_parameters({"rate": bytes_per_second, "burst": 16_384, "latency": "50ms"})
    message["attrs"] = [("TCA_KIND", "tbf"), ("TCA_OPTIONS", options)]
    message["header"]["type"] = 36
    message["header"]["flags"] = 0x505
    message.encode()
    return bytes(message.data)


def test_the_relay_speaks_for_this_kernel_from_inside_a_namespace() -> None:
    with namespaces("relay") as prefix, KernelAgent(prefix + "box") as agent:
        assert agent.kernel_release == platform.release()
        assert rtnl.interfaces(agent) == {"lo": 1}
        assert 0 < agent.clock() <= agent.clock()


def redirect_by_u32(from_ifindex: int, to_ifindex: int) -> bytes:
    """The box's redirection with the classifier that also small kernels have: u32, matching everything."""
    from pyroute2.netlink.rtnl.tcmsg import cls_u32, tcmsg

    message = tcmsg()
    message["index"] = from_ifindex
    message["parent"] = 0xFFFF0000
    message["info"] = (1 << 16) | 0x0300
    action = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": to_ifindex}
    options = cls_u32.get_parameters({"keys": ["0x0/0x0+0"], "action": action, "target": 0})
    options["attrs"] = [pair for pair in options["attrs"] if pair[0] != "TCA_U32_CLASSID"]
    message["attrs"] = [("TCA_KIND", "u32"), ("TCA_OPTIONS", options)]
    message["header"]["type"] = 44
    message["header"]["flags"] = 0x605
    message.encode()
    return bytes(message.data)


def test_frames_cross_the_box_by_redirection_and_are_shaped_on_the_way_out(tmp_path: Path) -> None:
    with namespaces("data") as prefix:
        a_end, b_end = End(prefix + "a", "isl0"), End(prefix + "b", "isl0")
        cables = [
            wiring.Cable(nic, end.namespace, end.ifname, 1500)
            for nic, end in (("l0a", a_end), ("l0b", b_end))
        ]
        wiring.lay(prefix + "box", cables, profile="exact")
        give_addresses(prefix, nics=("isl0",))
        with KernelAgent(prefix + "box") as agent:
            index = rtnl.interfaces(agent)
            a, b = index["l0a"], index["l0b"]
            steps = [
                ("up a", rtnl.nic_up(a)),
                ("up b", rtnl.nic_up(b)),
                ("ingress a", rtnl.ingress(a)),
                ("ingress b", rtnl.ingress(b)),
                ("tbf", tbf(b, 2_500_000)),
                ("a to b", redirect_by_u32(a, b)),
                ("b to a", redirect_by_u32(b, a)),
            ]
            rtnl.transact(agent, steps)
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
    choice = detect()
    missing = missing_in_kernel()
    assert choice.kind == ("uml" if missing else "kernel")
    assert missing in choice.reason
    assert detect("uml").kind == "uml"
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
        wiring.lay(
            prefix + "box",
            [wiring.Cable(f"c{index}", prefix + "a", f"e{index}", 1500) for index in range(8)],
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


def test_a_plan_is_applied_in_order_on_the_relays_clock_with_its_errors_logged() -> None:
    with namespaces("plan") as prefix, KernelAgent(prefix + "box") as agent:
        rows = [
            (0, 7, rtnl.number([rtnl.nic_up(1)])),
            (20_000_000, 8, rtnl.number([rtnl.nic_up(99)])),
            (40_000_000, 9, b""),
        ]
        agent.plan_load(rows)
        assert agent.plan_log() == []
        start = agent.clock() + 10_000_000
        agent.plan_run(start)
        log = wait_until(
            lambda: found if len(found := agent.plan_log()) == 3 else None, what="the plan", deadline_s=5
        )
        assert [(number, error, planned - start) for number, error, planned, _ in log] == [
            (7, 0, 0),
            (8, errno.ENODEV, 20_000_000),
            (9, 0, 40_000_000),
        ]
        assert all(done >= planned for _, _, planned, done in log)


def test_a_plan_that_is_stopped_goes_no_further() -> None:
    with namespaces("stop") as prefix, KernelAgent(prefix + "box") as agent:
        agent.plan_load([(0, 1, b""), (3_600_000_000_000, 2, b"")])
        agent.plan_run(agent.clock())
        wait_until(lambda: agent.plan_log(), what="the first row", deadline_s=5)
        agent.plan_run(0)
        agent.plan_load([])
        assert agent.plan_log() == []


def test_the_relay_is_lent_to_another_client_through_a_socket(tmp_path: Path) -> None:
    with namespaces("lend") as prefix, KernelAgent(prefix + "box") as agent:
        server = AgentServer(agent, tmp_path / "s")
        try:
            with RemoteAgent(tmp_path / "s") as client:
                assert client.kernel_release == agent.kernel_release
                assert rtnl.interfaces(client) == {"lo": 1}
        finally:
            server.close()
