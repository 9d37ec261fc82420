"""The link box's verbs and its service for other processes, on an engine that only remembers."""

import errno
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hil.errors import BenchError, ConfigurationError
from hil.evidence.events import LinkCommanded, LinkCut, LinkRestored
from hil.links.calibration.shares import sure
from hil.links.engines import netem, rtnl
from hil.links.engines.agent_server import AgentClient, AgentServer
from hil.links.engines.relay import Kind
from hil.links.engines.uml import deal
from hil.links.link_box import End, LinkBox, Wire
from hil.links.state import PPM, GilbertElliott, LinkState
from hil.links.status import kernel_does
from hil.links.wires import Share, check_wires
from hil.testing.fakes import ListSink
from hil.testing.links import FakeAgent, fake_box
from tests.kits.fake_probe import FakeProbe

GROUND = LinkState(5_000, 50_000_000)
CROSS = LinkState(14_390, 200_000_000)
BURSTS = LinkState(14_390, 200_000_000, gemodel=GilbertElliott(1_000, 50_000))
WIRES = (
    Wire("ground", End("gs", "gnd0"), End("A", "gnd0"), GROUND, GROUND),
    Wire("crosslink", End("A", "isl0"), End("B", "isl0"), CROSS, CROSS),
)


SHARED = replace(
    WIRES[1], shares=(Share("alpha", 30, ("198.18.1.11",)), Share("beta", 60, ("198.18.1.12", "198.18.2.11")))
)


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def box(tmp_path: Path, agent: FakeAgent, sink: ListSink) -> Iterator[LinkBox]:
    with fake_box(WIRES, socket_path=tmp_path / "links.sock", agent=agent, sink=sink) as made:
        yield made


def test_show_has_what_was_commanded_and_what_the_kernel_says(box: LinkBox) -> None:
    ground, crosslink = box.show()
    assert (ground.name, crosslink.name) == box.links == ("ground", "crosslink")
    assert crosslink.a_to_b.commanded == crosslink.a_to_b.kernel == CROSS
    assert crosslink.a_to_b.limit_packets == -(-200_000_000 * (14_390 + 30_000) // 480_000_000)  # frames of 60 bytes
    assert (crosslink.a, crosslink.b) == (End("A", "isl0"), End("B", "isl0"))


def test_directions_are_independent(box: LinkBox) -> None:
    box.set("crosslink", b_to_a=replace(CROSS, delay_us=7_000))
    _, crosslink = box.show()
    assert crosslink.a_to_b.kernel == CROSS
    assert crosslink.b_to_a.kernel == replace(CROSS, delay_us=7_000)


def test_a_cut_loses_everything_and_a_restore_brings_back_what_was_commanded(box: LinkBox, sink: ListSink) -> None:
    box.set("crosslink", a_to_b=BURSTS)
    box.cut("crosslink")
    _, cut = box.show()
    assert not cut.up
    assert cut.a_to_b.kernel is not None
    assert (cut.a_to_b.kernel.up, cut.a_to_b.kernel.delay_us) == (False, 14_390)
    assert cut.a_to_b.agrees
    box.restore("crosslink")
    _, restored = box.show()
    assert restored.up
    assert restored.a_to_b.kernel == BURSTS
    assert sink.events == [
        LinkCommanded("crosslink", a_to_b=asdict(BURSTS)),
        LinkCut("crosslink"),
        LinkRestored("crosslink"),
    ]


def test_a_direction_that_does_not_change_gets_no_message_because_it_would_restart_the_loss_model(
    box: LinkBox, agent: FakeAgent
) -> None:
    box.set("crosslink", a_to_b=BURSTS)
    before = len(agent.batches)
    box.set("crosslink", a_to_b=BURSTS)
    assert len(agent.batches) == before


def policers(batch: bytes) -> list[int]:
    """The rates that a batch gives to policers, bytes/s."""
    return [struct.unpack_from("=I", m, 76)[0] for m in rtnl.messages(batch) if m[4] == 48]


def test_a_change_of_rate_reaches_policer_and_netem_in_one_batch(box: LinkBox, agent: FakeAgent) -> None:
    before = len(agent.batches)
    box.set("crosslink", a_to_b=replace(CROSS, rate_bps=8_000_000))
    box.set("crosslink", a_to_b=replace(CROSS, rate_bps=8_000_000, loss_ppm=7))
    faster, lossy = agent.batches[before:]
    assert (policers(faster), len(list(rtnl.messages(faster)))) == ([999_000], 2)
    assert policers(lossy) == []


def test_profile_bulk_has_no_policer_and_counts_full_packets(tmp_path: Path, agent: FakeAgent) -> None:
    with fake_box(WIRES, socket_path=tmp_path / "bulk.sock", agent=agent, profile="bulk") as bulk:
        assert bulk.show()[1].a_to_b.limit_packets == 238 + 476
    assert not any(policers(batch) for batch in agent.batches)


def test_both_directions_of_a_cut_go_in_one_batch(box: LinkBox, agent: FakeAgent) -> None:
    before = len(agent.batches)
    box.cut("crosslink")
    assert len(agent.batches) == before + 1


def test_the_engines_own_delay_is_subtracted_but_never_below_zero(box: LinkBox) -> None:
    box.compensate("crosslink", "a_to_b", 120_000)
    _, crosslink = box.show()
    assert crosslink.a_to_b.kernel_delay_ns == 14_270_000
    assert crosslink.a_to_b.commanded == CROSS
    assert crosslink.b_to_a.kernel_delay_ns == 14_390_000
    assert crosslink.a_to_b.agrees and crosslink.b_to_a.agrees
    box.set("crosslink", a_to_b=LinkState(50, 200_000_000))
    assert box.show()[1].a_to_b.kernel_delay_ns == 0


def test_a_link_as_short_as_its_engine_may_reorder(box: LinkBox) -> None:
    box.compensate("crosslink", "a_to_b", 120_000)
    box.set("crosslink", a_to_b=replace(CROSS, delay_us=100, reorder_ppm=10))
    crosslink = box.show()[1].a_to_b
    assert crosslink.kernel_delay_ns == 0 and crosslink.agrees


def test_a_kernel_that_does_something_else_than_commanded_is_noticed(box: LinkBox, agent: FakeAgent) -> None:
    stray = netem.encode(3, replace(GROUND, rate_bps=8_000), limit=66, delay_ns=5_000_000)
    agent.request(rtnl.number([stray]))
    ground, crosslink = box.show()
    assert not ground.a_to_b.agrees
    assert ground.b_to_a.agrees and crosslink.a_to_b.agrees


def test_a_link_that_is_up_and_loses_everything_is_as_commanded(box: LinkBox) -> None:
    everything = replace(CROSS, loss_ppm=PPM, duplicate_ppm=20_000)
    box.set("crosslink", a_to_b=everything)
    (status,) = [each.a_to_b for each in box.show() if each.name == "crosslink"]
    assert status.agrees
    assert status.kernel and kernel_does(status.kernel, everything)


def test_a_netem_that_is_none_of_the_box_is_passed_over_whatever_it_does(box: LinkBox, agent: FakeAgent) -> None:
    agent.request(rtnl.number([netem.encode(99, GROUND, limit=66, delay_ns=61_000_000_000)]))
    assert all(link.a_to_b.agrees and link.b_to_a.agrees for link in box.show())


def test_an_unknown_link_is_refused_with_the_names_there_are(box: LinkBox) -> None:
    with pytest.raises(ConfigurationError, match="'crosslnk'") as refused:
        box.cut("crosslnk")
    assert "ground, crosslink" in refused.value.remedy


def test_the_mtu_cannot_change_while_the_bench_is_up(box: LinkBox) -> None:
    with pytest.raises(ConfigurationError, match="MTU 1500"):
        box.set("crosslink", a_to_b=replace(CROSS, mtu=9000))


def test_what_the_kernel_refuses_is_a_bench_error_and_is_not_noted_as_commanded(box: LinkBox, agent: FakeAgent) -> None:
    agent.refuse = {36: 1}
    with pytest.raises(BenchError, match="netem on crosslink a_to_b: Operation not permitted"):
        box.cut("crosslink")
    assert box.commanded("crosslink", "a_to_b") == CROSS


def test_profile_bulk_refuses_random_loss_but_not_a_cut(tmp_path: Path) -> None:
    with fake_box(WIRES, socket_path=tmp_path / "s", profile="bulk") as box:
        with pytest.raises(ConfigurationError, match="profile bulk"):
            box.set("crosslink", a_to_b=replace(CROSS, loss_ppm=1))
        box.cut("crosslink")
        assert not box.show()[1].up


@pytest.mark.parametrize(
    ("wires", "complaint"),
    [
        ((), "without links"),
        ((WIRES[0], replace(WIRES[1], name="ground")), "link name used twice: ground"),
        ((WIRES[0], replace(WIRES[1], a=End("A", "gnd0"))), "link end used twice"),
        ((replace(WIRES[0], a_to_b=replace(GROUND, mtu=9000)),), "two MTUs"),
        ((replace(WIRES[0], a=End("gs", "a-name-of-16-chr")),), "no NIC name"),
        ((replace(WIRES[0], a=End("gs", "")),), "no NIC name"),
    ],
)
def test_wires_that_make_no_sense_are_refused_before_anything_is_made(
    tmp_path: Path, wires: tuple[Wire, ...], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        LinkBox.up("no-such-namespace", wires, socket_path=tmp_path / "s")


def test_random_loss_in_profile_bulk_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    lossy = replace(WIRES[0], a_to_b=replace(GROUND, loss_ppm=PPM))
    with pytest.raises(ConfigurationError, match="profile bulk"):
        LinkBox.up("no-such-namespace", [lossy], socket_path=tmp_path / "s", profile="bulk")


def test_another_process_sees_and_drives_the_same_links(tmp_path: Path, box: LinkBox, agent: FakeAgent) -> None:
    server = AgentServer([agent], tmp_path / "links.sock")
    try:
        with LinkBox.attach(tmp_path / "links.sock") as one, LinkBox.attach(tmp_path / "links.sock") as two:
            one.cut("ground")
            assert not two.show()[0].up
            two.restore("ground")
            assert box.show()[0].up
            assert (one.engine, one.kernel_release, one.links) == (box.engine, "0.0.0-fake", box.links)
        assert not agent.closed  # a client that leaves does not take the engine with it
    finally:
        server.close()
    assert not (tmp_path / "links.sock").exists()


def test_clients_that_change_different_links_at_once_do_not_lose_each_others_commands(
    tmp_path: Path, box: LinkBox, agent: FakeAgent
) -> None:
    server = AgentServer([agent], tmp_path / "links.sock")

    def drive(link: str) -> None:
        with LinkBox.attach(tmp_path / "links.sock") as client:
            for _ in range(10):
                client.cut(link)
                client.restore(link)
            client.set(link, a_to_b=LinkState(1, 8))

    try:
        threads = [threading.Thread(target=drive, args=(name,)) for name in box.links]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    finally:
        server.close()
    for link in box.show():
        assert link.up
        assert link.a_to_b.commanded == link.a_to_b.kernel == LinkState(1, 8)


def test_attaching_where_nothing_is_served_says_so(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no link box answers") as refused:
        LinkBox.attach(tmp_path / "links.sock")
    assert "hil bench up" in refused.value.remedy


def test_a_client_notices_that_the_owner_went_away(tmp_path: Path, agent: FakeAgent) -> None:
    server = AgentServer([agent], tmp_path / "s")
    with AgentClient(tmp_path / "s") as client:
        assert client.clock() == 0
        server.close()
        with pytest.raises(BenchError, match="went away"):
            client.clock()


def test_an_error_of_the_engine_reaches_the_client_in_its_words(tmp_path: Path) -> None:
    class Broken(FakeAgent):
        def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
            if kind is Kind.IOCTL:
                raise BenchError("User-Mode Linux is gone")
            return super().ask(kind, payload)

    server = AgentServer([Broken()], tmp_path / "s")
    try:
        with AgentClient(tmp_path / "s") as client, pytest.raises(BenchError, match="User-Mode Linux is gone"):
            client.ioctl("vec0", bytes(8))
    finally:
        server.close()


def test_a_server_that_has_no_descriptor_left_for_a_moment_serves_on(
    tmp_path: Path, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, failed = socket.socket.accept, threading.Event()

    def full_once(listener: socket.socket) -> tuple[socket.socket, object]:
        if not failed.is_set():
            failed.set()
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", full_once)
    server = AgentServer([agent], tmp_path / "links.sock")
    try:
        AgentClient(tmp_path / "links.sock", timeout_s=2).close()  # greeted
        assert failed.is_set()
    finally:
        server.close()
    assert not server._thread.is_alive()


def test_the_socket_of_a_killed_owner_is_replaced_and_that_of_a_living_one_is_not(
    tmp_path: Path, agent: FakeAgent
) -> None:
    (tmp_path / "s").touch()
    server = AgentServer([agent], tmp_path / "s")
    try:
        with pytest.raises(BenchError, match="already served"):
            AgentServer([agent], tmp_path / "s")
        with AgentClient(tmp_path / "s") as client:
            assert client.kernel_release == "0.0.0-fake"
    finally:
        server.close()


def test_the_links_of_a_box_are_shaped_by_several_kernels_each_its_own(tmp_path: Path) -> None:
    agents = [FakeAgent(), FakeAgent()]
    wires = [Wire(f"l{i}", End("a", f"n{i}"), End("b", f"n{i}"), GROUND, GROUND) for i in range(3)]
    box = fake_box(wires, socket_path=tmp_path / "links.sock", agent=agents)
    server = AgentServer(agents, tmp_path / "links.sock")
    try:
        with LinkBox.attach(tmp_path / "links.sock") as other:
            for agent in agents:
                agent.batches.clear()
            other.cut("l1")
            assert [len(agent.batches) > 0 for agent in agents] == [False, True]
            assert [status.up for status in box.show()] == [True, False, True]
            assert all(status.a_to_b.agrees and status.b_to_a.agrees for status in other.show())
            other.restore("l1")
            other.cut("l2")
            assert [status.up for status in box.show()] == [True, True, False]
    finally:
        server.close()


def test_the_fastest_links_are_dealt_to_different_kernels() -> None:
    assert deal([10, 200, 10, 200, 50], 2) == [1, 0, 0, 1, 0]
    assert deal([10, float("inf"), 10], 3) == [1, 0, 2]
    assert deal([10, 10], 1) == [0, 0]


def cut_and_not_answered(box: LinkBox) -> None:
    """Cut the crosslink; the engine does it, and its answer is lost."""
    ask = FakeAgent.ask

    def done_and_not_answered(self: FakeAgent, kind: Kind, payload: bytes = b"") -> bytes:
        ask(self, kind, payload)
        raise BenchError("User-Mode Linux did not answer in time")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeAgent, "ask", done_and_not_answered)
        with pytest.raises(BenchError, match="did not answer"):
            box.cut("crosslink")


def test_a_restore_after_a_cut_whose_answer_was_lost_brings_the_link_back(box: LinkBox) -> None:
    cut_and_not_answered(box)
    box.restore("crosslink")
    _, crosslink = box.show()
    assert crosslink.up
    assert crosslink.a_to_b.agrees
    assert crosslink.b_to_a.agrees


def test_a_cut_counts_at_once_while_a_fault_holds_the_link_and_stays_when_it_is_mended(box: LinkBox) -> None:
    box.impair("crosslink", {"a_to_b": replace(CROSS, loss_ppm=10_000)}, fault="loss")
    box.cut("crosslink")
    assert not any(d.commanded.up or (d.kernel and d.kernel.up) for d in (box.show()[1].a_to_b, box.show()[1].b_to_a))
    box.mend("crosslink", fault="loss")
    assert box.cut_links() == {"crosslink"}
    box.restore("crosslink")
    assert box.show()[1].a_to_b.kernel == CROSS


def test_what_was_cut_by_hand_and_not_answered_is_put_back(box: LinkBox) -> None:
    before = box.store.load().link("crosslink")
    cut_and_not_answered(box)
    assert box.put_back(before)
    assert box.show()[1].a_to_b.agrees


def test_a_cut_and_a_shape_are_undone_at_the_end_of_a_block_and_stay_without_one(box: LinkBox, sink: ListSink) -> None:
    box.set("crosslink", a_to_b=replace(CROSS, delay_us=7_000))
    with box.shaped("crosslink", loss_ppm=10_000), box.cut("crosslink", why="test"):
        _, crosslink = box.show()
        assert not crosslink.up and box.cut_links() == {"crosslink"}
        assert box.commanded("crosslink", "a_to_b") == replace(CROSS, delay_us=7_000, loss_ppm=10_000, up=False)
    _, crosslink = box.show()
    assert (crosslink.a_to_b.kernel, crosslink.b_to_a.kernel) == (replace(CROSS, delay_us=7_000), CROSS)
    assert [type(event) for event in sink.events[-2:]] == [LinkRestored, LinkCommanded]
    box.cut("ground")
    with pytest.raises(RuntimeError), box.shaped("ground", direction="a_to_b", rate_bps=1_000_000):
        raise RuntimeError
    assert box.cut_links() == {"ground"}
    with pytest.raises(ConfigurationError, match="a link has no loss"):
        box.shaped("ground", loss=1)


def test_a_link_says_in_what_it_is_not_as_it_was_built_and_is_reset(box: LinkBox) -> None:
    assert box.differences() == {} and not box.reset("ground")
    box.set("ground", a_to_b=replace(GROUND, loss_ppm=10))
    box.cut("crosslink")
    box.compensate("ground", "a_to_b", 5_000)
    assert box.differences() == {"ground": "a_to_b: loss_ppm 10, not 0", "crosslink": "cut by hand"}
    assert box.reset("ground") and box.reset("crosslink")
    assert box.differences() == {} and all(link.up for link in box.show())
    assert box.show()[0].a_to_b.compensation_ns == 5_000


def test_a_shared_link_shows_the_whole_rate_and_what_each_tenant_is_sure_of(tmp_path: Path, agent: FakeAgent) -> None:
    with fake_box([WIRES[0], SHARED], socket_path=tmp_path / "s", agent=agent) as box:
        ground, crosslink = box.show()
        assert not ground.a_to_b.shares
        assert crosslink.a_to_b.agrees
        assert crosslink.a_to_b.kernel == CROSS
        assert [(s.tenant, s.percent, s.kernel_rate_bps) for s in crosslink.a_to_b.shares] == [
            ("alpha", 30, 60_000_000),
            ("beta", 60, 120_000_000),
            ("", 10, 20_000_000),
        ]


def test_another_rate_of_a_shared_link_is_another_rate_of_each_class_and_a_cut_none(
    tmp_path: Path, agent: FakeAgent
) -> None:
    with fake_box([SHARED], socket_path=tmp_path / "s", agent=agent) as box:
        before = len(agent.batches)
        box.cut("crosslink")
        kinds = [struct.unpack_from("=IH", m)[1] for batch in agent.batches[before:] for m in rtnl.messages(batch)]
        assert kinds == [rtnl.RTM_NEWQDISC] * 2
        box.restore("crosslink")
        box.set("crosslink", a_to_b=replace(CROSS, rate_bps=10_000_000))
        (crosslink,) = box.show()
        assert [s.kernel_rate_bps for s in crosslink.a_to_b.shares] == [3_000_000, 6_000_000, 1_000_000]
        assert [s.kernel_rate_bps for s in crosslink.b_to_a.shares] == [60_000_000, 120_000_000, 20_000_000]
        assert crosslink.a_to_b.agrees


def test_a_shared_link_may_have_no_rate_and_a_long_delay(tmp_path: Path, agent: FakeAgent) -> None:
    with fake_box([SHARED], socket_path=tmp_path / "s", agent=agent) as box:
        box.set("crosslink", a_to_b=replace(CROSS, rate_bps=0, delay_us=100_000))
        assert box.show()[0].a_to_b.agrees
        assert sure(of_tenant(box, "alpha"), [FakeProbe(link="crosslink")]) == []  # of no rate there is no share


def test_a_link_whose_classes_are_gone_does_not_do_what_is_commanded(tmp_path: Path, agent: FakeAgent) -> None:
    with fake_box([SHARED], socket_path=tmp_path / "s", agent=agent) as box:
        agent._classes.clear()
        (crosslink,) = box.show()
        assert not crosslink.a_to_b.agrees
        assert [s.kernel_rate_bps for s in crosslink.a_to_b.shares] == [0, 0, 0]


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ((Share("alpha", 60, ()), Share("beta", 41, ())), "the shares are 101 percent"),
        ((Share("alpha", 60, ()), Share("alpha", 10, ())), "a tenant twice"),
        ((Share("alpha", 0, ()),), "a share of 0 percent"),
    ],
)
def test_shares_that_make_no_sense_are_refused(shares: tuple[Share, ...], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        check_wires([replace(WIRES[0], shares=shares)], "exact")


@pytest.fixture
def shared_box(tmp_path: Path, agent: FakeAgent, sink: ListSink) -> Iterator[LinkBox]:
    with fake_box([WIRES[0], SHARED], socket_path=tmp_path / "s", agent=agent, sink=sink) as made:
        yield made


def of_tenant(box: LinkBox, name: str, sink: ListSink | None = None) -> LinkBox:
    return LinkBox(box.agents, box.store, box.store.load(), sink, now_ns=box.now_ns, tenant=name)


def test_a_tenants_cut_is_down_for_it_and_for_nobody_else(shared_box: LinkBox, sink: ListSink) -> None:
    alpha, beta = of_tenant(shared_box, "alpha", sink), of_tenant(shared_box, "beta")
    with alpha.cut("crosslink", why="a fault"):
        assert not alpha.commanded("crosslink", "a_to_b").up
        assert alpha.cut_links() == {"crosslink"}
        assert beta.commanded("crosslink", "a_to_b").up
        assert not beta.cut_links()
        assert shared_box.differences() == {"crosslink": "cut for tenant alpha"}
        assert shared_box.show()[1].a_to_b.agrees
        assert shared_box.store.load().commands[-1].tenant == "alpha"
    assert alpha.commanded("crosslink", "a_to_b").up
    assert not shared_box.differences()
    assert [event for event in sink.events if isinstance(event, LinkCut | LinkRestored)] == [
        LinkCut("crosslink", "for tenant alpha: a fault"),
        LinkRestored("crosslink", "for tenant alpha"),
    ]


def test_what_a_tenant_puts_back_is_its_own_cut_only(shared_box: LinkBox) -> None:
    alpha, beta = of_tenant(shared_box, "alpha"), of_tenant(shared_box, "beta")
    before = {link.name: link for link in alpha.remembered()}
    beta.cut("crosslink")
    alpha.cut("crosslink")
    assert alpha.put_back(before["crosslink"])
    assert not alpha.put_back(before["crosslink"])
    assert shared_box.store.load().link("crosslink").cut_for == ("beta",)
    assert shared_box.reset("crosslink")  # the operator may
    assert not shared_box.differences()


def test_what_the_operator_puts_back_leaves_the_cuts_of_tenants_as_they_are(shared_box: LinkBox) -> None:
    alpha, (_, before) = of_tenant(shared_box, "alpha"), shared_box.remembered()
    with alpha.cut("crosslink"):
        assert not shared_box.put_back(before)
        _, before = shared_box.remembered()
        with shared_box.shaped("crosslink", delay_us=9_999):
            alpha.restore("crosslink")
        assert alpha.commanded("crosslink", "a_to_b") == CROSS
        alpha.cut("crosslink")
        assert shared_box.reset("crosslink")
    assert not shared_box.differences()


def test_what_would_change_a_link_for_others_is_refused_to_a_tenant(shared_box: LinkBox) -> None:
    alpha = of_tenant(shared_box, "alpha")
    for attempt in (
        lambda: alpha.set("crosslink", a_to_b=GROUND),
        lambda: alpha.shaped("crosslink", loss_ppm=10),
        lambda: alpha.impair("crosslink", {"a_to_b": GROUND}, fault="slow"),
        lambda: alpha.compensate("crosslink", "a_to_b", 9),
    ):
        with pytest.raises(ConfigurationError, match="refused to tenant alpha"):
            attempt()
    with pytest.raises(ConfigurationError, match="alpha has no share of link ground"):
        alpha.cut("ground")
    assert not shared_box.differences()


def test_a_cut_for_a_tenant_that_the_kernel_does_not_have_is_seen(shared_box: LinkBox, agent: FakeAgent) -> None:
    before = dict(agent._qdiscs)
    of_tenant(shared_box, "alpha").cut("crosslink")
    agent._qdiscs = before
    assert not shared_box.show()[1].a_to_b.agrees
