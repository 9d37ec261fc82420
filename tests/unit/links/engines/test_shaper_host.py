"""The link box on another machine: every message that its kernel gets, what is undone, its clock, what is refused."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from hil.boards.ssh.login import Target
from hil.errors import BenchError, ConfigurationError
from hil.lab.model import load_lab
from hil.lab.shaper_host import ShaperHostSpec
from hil.links.engines import netem, offload, police, rtnl
from hil.links.engines.police import Police
from hil.links.engines.relay import Kind
from hil.links.engines.shaper_host import kind, ports
from hil.links.engines.shaper_host.agent import failure
from hil.links.engines.shaper_host.checks import ShaperHostFacts, checks, examine
from hil.links.engines.shaper_host.ports import Nic
from hil.links.link_box import End, LinkBox, Wire
from hil.links.schedule.player import Player
from hil.links.schedule.windows import ScheduleRow
from hil.links.state import LinkState, limit_small_packets
from hil.links.wires import Port, ShaperHost
from hil.testing.links import FakeAgent, fake_box

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
TARGET = Target("shaper host", "", "192.0.2.7", None, KEY, under_test=False)
FEATURES = ("rx-checksum", "tx-tcp-segmentation", "rx-gro", "rx-gro-hw")


def attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


class FakeShaper(FakeAgent):
    """A kernel with NICs enp3s0 (2, down) and enp4s0 (3, up, MTU 9000), that makes VLANs and remembers all messages."""

    def __init__(self) -> None:
        self.nics: dict[str, tuple[int, int, int]] = {"enp3s0": (2, 0, 1500), "enp4s0": (3, 0x11043, 9000)}
        self.addresses: dict[int, bytes] = {}
        self.sent: list[bytes] = []
        self.undos: list[tuple[int, bytes]] = []
        self.features = {name: 0b0110 for name in self.nics}
        super().__init__()

    def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
        if kind is Kind.UNDO:
            self.undos.append((struct.unpack_from("<I", payload)[0], payload[4:]))
            return bytes(4)
        if kind is Kind.IOCTL:
            return bytes(4) + self._ethtool(payload[:16].rstrip(b"\0").decode(), payload[16:])
        if kind is Kind.NETLINK:
            return b"".join(self._answer(message) for message in rtnl.messages(payload))
        return super().ask(kind, payload)

    def _answer(self, message: bytes) -> bytes:
        _, kind, _, sequence, _ = struct.unpack_from("=IHHII", message)
        body = b""
        if kind == 18:
            for name, (index, flags, mtu) in self.nics.items():
                content = (
                    struct.pack("=BxHiII", 0, 1, index, flags, 0)
                    + attribute(3, name.encode() + b"\0")
                    + attribute(4, struct.pack("=I", mtu))
                )
                body += struct.pack("=IHHII", 16 + len(content), 16, 2, sequence, 0) + content
        elif kind == 22:
            for index, address in self.addresses.items():
                content = struct.pack("=BBBBI", 2, 24, 0, 0, index) + attribute(1, address)
                body += struct.pack("=IHHII", 16 + len(content), 20, 2, sequence, 0) + content
        elif kind != 38:
            self.sent.append(message[:8] + bytes(4) + message[12:])
            if kind == 16 and struct.unpack_from("=i", message, 20)[0] == 0:
                length = struct.unpack_from("=H", message, 32)[0]
                name = message[36 : 32 + length].rstrip(b"\0").decode()
                self.nics[name] = (10 + len(self.nics), 0, 1500)
                self.features[name] = 0b0010
            return struct.pack("=IHHIIi", 36, 2, 0, sequence, 0, 0) + message[:16]
        return body + struct.pack("=IHHIIi", 20, 3, 2, sequence, 0, 0)

    def _ethtool(self, name: str, request: bytes) -> bytes:
        (command,) = struct.unpack_from("=I", request)
        if command == 0x37:
            return request[:16] + struct.pack("=I", len(FEATURES))
        if command == 0x1B:
            return request[:12] + b"".join(feature.encode().ljust(32, b"\0") for feature in FEATURES)
        if command == 0x3A:  # rx-gro-hw is not to be had; rx-checksum is on for good
            active = self.features[name]
            return request[:8] + struct.pack("=IIII", 0b0111, active, active | 1, 0b0001)
        valid, wanted = struct.unpack_from("=II", request, 8)
        self.features[name] = (self.features[name] & ~valid) | (wanted & valid)
        return request


def set_link(index: int, flags: int, mtu: int) -> bytes:
    body = struct.pack("=BBHiII", 0, 0, 0, index, flags, 0x101) + attribute(4, struct.pack("=I", mtu))
    return struct.pack("=IHHII", 16 + len(body), 16, 0x5, 0, 0) + body


def set_link_up(index: int) -> bytes:
    """Up and promiscuous."""
    return struct.pack("=IHHII", 32, 16, 0x5, 0, 0) + struct.pack("=BBHiII", 0, 0, 0, index, 0x101, 0x101)


def new_vlan(name: bytes, link: int, vlan: int, mtu: int) -> bytes:
    """As `ip link add link ... type vlan id ...` has it, each attribute written out."""
    data = struct.pack("=HHH2x", 6, 1, vlan)
    info = attribute(1, b"vlan\0") + struct.pack("=HH", 4 + len(data), 2) + data
    body = bytes(16) + attribute(3, name + b"\0")
    body += struct.pack("=HHI", 8, 5, link) + struct.pack("=HHI", 8, 4, mtu) + struct.pack("=HHI", 8, 13, 10_000)
    body += struct.pack("=HH", 4 + len(info), 18) + info
    return struct.pack("=IHHII", 16 + len(body), 16, 0x605, 0, 0) + body


def delete_link(name: bytes) -> bytes:
    body = bytes(16) + attribute(3, name + b"\0")
    return struct.pack("=IHHII", 16 + len(body), 17, 0x5, 0, 0) + body


def features(name: bytes, valid: int, wanted: int) -> bytes:
    return struct.pack("=16sIIII", name, 0x3B, 1, valid, wanted)


def test_vlans_of_a_trunk_are_made_by_these_messages_and_undone_by_those_in_reverse() -> None:
    kernel = FakeShaper()
    made = ports.lay(kernel, [Port("enp3s0", 101), Port("enp3s0", 102)], mtus=[1500, 1500], profile="exact")
    assert made == ["hil.v0.101", "hil.v0.102"]
    assert kernel.sent == [
        set_link(2, 0x1, 1500),
        new_vlan(b"hil.v0.101", 2, 101, 1500),
        new_vlan(b"hil.v0.102", 2, 102, 1500),
    ]
    netlink, ioctl = int(Kind.NETLINK), int(Kind.IOCTL)
    assert kernel.undos == [
        (netlink, set_link(2, 0, 1500)),
        (ioctl, features(b"enp3s0", 0b0110, 0b0110)),
        (netlink, delete_link(b"hil.v0.101")),
        (ioctl, features(b"hil.v0.101", 0b0110, 0b0010)),
        (netlink, delete_link(b"hil.v0.102")),
        (ioctl, features(b"hil.v0.102", 0b0110, 0b0010)),
    ]
    assert kernel.features == {"enp3s0": 0, "enp4s0": 0b0110, "hil.v0.101": 0, "hil.v0.102": 0}


def switched_off(*, requested: int, active: int) -> tuple[list[bytes], list[bytes]]:
    """What a NIC with these features is told, and how it is undone. rx-checksum cannot be changed."""
    told: list[bytes] = []
    undo: list[bytes] = []

    def ask(request: bytes) -> bytes:
        (command,) = struct.unpack_from("=I", request)
        if command == 0x3A:
            return request[:8] + struct.pack("=IIII", 0b11110, requested, active if not told else 0, 0b1)
        if command == 0x3B:
            told.append(request)
            return request
        if command == 0x37:
            return request[:16] + struct.pack("=I", 5)
        names = (*FEATURES, "tx-scatter-gather")
        return request[:12] + b"".join(feature.encode().ljust(32, b"\0") for feature in names)

    offload.switch_off(ask, "p0", udp_only=False, undo_first=undo.append)
    return told, undo


def test_features_that_the_driver_turned_on_unasked_survive_or_come_back() -> None:
    told, undo = switched_off(requested=0b00100, active=0b10111)
    assert told == [struct.pack("=IIII", 0x3B, 1, 0b11110, 0b10000)]
    assert undo == [struct.pack("=IIII", 0x3B, 1, 0b11110, 0b10110)]


def test_a_nic_that_has_nothing_to_turn_off_is_told_nothing() -> None:
    assert switched_off(requested=0, active=0b10001) == ([], [])


class Refusing:
    """A kernel that refuses every message."""

    def __init__(self, error: int) -> None:
        self.error = error
        self.sent = b""

    def request(self, batch: bytes) -> bytes:
        self.sent += batch
        (sequence,) = struct.unpack_from("=I", batch, 8)
        return struct.pack("=IHHIIi", 36, 2, 0, sequence, 0, -self.error) + batch[:16]


def test_vlans_are_asked_for_by_a_request_that_no_kernel_grants() -> None:
    knows, never_heard = Refusing(errno.ERANGE), Refusing(errno.EOPNOTSUPP)
    assert ports.missing_vlans(knows) == []
    assert ports.missing_vlans(never_heard) == [ports.VLANS]
    assert struct.pack("=HHH", 6, 1, 4095) in knows.sent  # 4094 is the last
    with pytest.raises(BenchError, match="probing the kernel for VLANs: Operation not permitted"):
        ports.missing_vlans(Refusing(errno.EPERM))


def test_a_whole_port_is_promiscuous_keeps_its_larger_mtu_and_loses_its_qdiscs_in_the_end() -> None:
    kernel = FakeShaper()
    assert ports.lay(kernel, [Port("enp4s0")], mtus=[1500], profile="bulk") == ["enp4s0"]
    assert kernel.sent == [set_link(3, 0x101, 9000)]
    root = struct.pack("=IHHII", 36, 37, 0x5, 0, 0) + struct.pack("=BxxxiIII", 0, 3, 0, 0xFFFFFFFF, 0)
    ingress = struct.pack("=IHHII", 36, 37, 0x5, 0, 0) + struct.pack("=BxxxiIII", 0, 3, 0xFFFF0000, 0xFFFFFFF1, 0)
    assert [message for _, message in kernel.undos[:3]] == [set_link(3, 1, 9000), root, ingress]
    assert kernel.features["enp4s0"] == 0b0110  # bulk leaves TCP's offloads on


def test_a_trunk_with_links_of_several_mtus_gets_the_largest() -> None:
    kernel = FakeShaper()
    ports.lay(kernel, [Port("enp3s0", 5), Port("enp3s0", 6)], mtus=[9000, 1500], profile="bulk")
    assert kernel.sent == [set_link(2, 1, 9000), new_vlan(b"hil.v0.5", 2, 5, 9000), new_vlan(b"hil.v0.6", 2, 6, 1500)]


def nested(kind: int, *inner: bytes) -> bytes:
    return attribute(kind, b"".join(inner))


def qdisc_ingress(index: int) -> bytes:
    body = struct.pack("=BxxxiIII", 0, index, 0xFFFF0000, 0xFFFFFFF1, 0) + attribute(1, b"ingress\0")
    return struct.pack("=IHHII", 16 + len(body), 36, 0x605, 0, 0) + body


def matchall_redirect(index: int, to: int, police: bytes) -> bytes:
    """matchall, police, mirred egress redirect: action TC_ACT_STOLEN, direction TCA_EGRESS_REDIR."""
    mirred = attribute(2, struct.pack("=IIiiiiI", 0, 0, 4, 0, 0, 1, to))
    action = attribute(1, police) + nested(2, attribute(1, b"mirred\0"), nested(2, mirred))
    body = struct.pack("=BxxxiIII", 0, index, 0, 0xFFFF0000, 0x10300)
    body += attribute(1, b"matchall\0") + nested(2, nested(2, action))
    return struct.pack("=IHHII", 16 + len(body), 44, 0x605, 0, 0) + body


@pytest.fixture
def fake_shaper(monkeypatch: pytest.MonkeyPatch) -> FakeShaper:
    """Behind every shaper host of the test."""
    kernel = FakeShaper()
    monkeypatch.setattr(kind, "log_in", lambda target: nullcontext())
    monkeypatch.setattr(kind, "install", lambda shell: "/relay")
    monkeypatch.setattr(kind, "missing", lambda agent: [])
    monkeypatch.setattr(ports, "missing_vlans", lambda agent: [])
    monkeypatch.setattr(
        kind, "ShaperHostAgent", lambda shell, relay, scratch=False: FakeShaper() if scratch else kernel
    )
    return kernel


def test_a_link_box_on_a_shaper_host_wires_and_shapes_its_vlans_by_these_messages(
    tmp_path: Path, fake_shaper: FakeShaper
) -> None:
    a_to_b, b_to_a = LinkState(14_390, 200_000_000), LinkState(5_000, 50_000_000)
    wire = Wire("x", End("a", "n"), End("b", "n"), a_to_b, b_to_a)
    shaper = ShaperHost(TARGET, {"x": (Port("enp3s0", 101), Port("enp3s0", 102))})
    with LinkBox.up("unused", [wire], socket_path=tmp_path / "s", engine="shaper_host", shaper_host=shaper) as box:
        assert (box.engine, box.store.load().clock is None) == ("shaper_host", True)
    a, b = 12, 13
    assert fake_shaper.sent[3:] == [
        set_link_up(a),
        set_link_up(b),
        qdisc_ingress(a),
        qdisc_ingress(b),
        netem.encode(b, a_to_b, limit=limit_small_packets(200_000_000, 14_390, 1500), delay_ns=14_390_000),
        netem.encode(a, b_to_a, limit=limit_small_packets(50_000_000, 5_000, 1500), delay_ns=5_000_000),
        matchall_redirect(a, b, police.action(b, Police.of(200_000_000, 30_000))),
        matchall_redirect(b, a, police.action(a, Police.of(50_000_000, 20_000))),
    ]
    assert fake_shaper.closed


def test_a_link_without_ports_is_named(tmp_path: Path) -> None:
    wire = Wire("y", End("a", "n"), End("b", "n"), LinkState(1, 0), LinkState(1, 0))
    with pytest.raises(ConfigurationError, match="'y' has no ports"):
        LinkBox.up(
            "unused", [wire], socket_path=tmp_path / "s", engine="shaper_host", shaper_host=ShaperHost(TARGET, {})
        )


def test_what_a_killed_relay_left_is_removed_before_anything_else() -> None:
    kernel = FakeShaper()
    kernel.nics["hil.v0.101"] = (7, 1, 1500)
    ports._sweep(kernel, ports.nics(kernel), [Port("enp3s0", 101)])
    assert kernel.sent == [delete_link(b"hil.v0.101")]


NIC = Nic(2, 0x11043, 1500, False, (), (), None)


@pytest.mark.parametrize(
    ("port", "nic", "said"),
    [
        (Port("p1"), NIC, "has no NIC p1.*"),
        (Port("p0"), replace(NIC, master=True), "belongs to a bridge"),
        (Port("p0"), replace(NIC, addresses=("10.0.0.1/8",)), "is it the way to the shaper host"),
        (Port("p0"), replace(NIC, qdiscs=(("fq", 0x80010000),)), "queueing discipline fq, which is not ours"),
    ],
)
def test_a_port_that_is_somebody_elses_is_refused(port: Port, nic: Nic, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ports.check(port, {"p0": nic})


def test_a_trunk_may_have_an_address_and_the_kernels_own_queueing() -> None:
    ports.check(Port("p0", 7), {"p0": replace(NIC, addresses=("10.0.0.1/8",), qdiscs=(("mq", 0),))})


# -- its clock


class Wandering(FakeAgent):
    """An engine on another machine: 5 s behind ours and 100 us a second slower."""

    own_clock = True

    def __init__(self, ours: Callable[[], int]) -> None:
        super().__init__(clock=lambda: ours() - 5_000_000_000 - ours() // 10_000)


class Still:
    """Up and down every second."""

    links = ("x",)

    def window(self, from_ns: int, to_ns: int) -> list[ScheduleRow]:
        times = [from_ns, *range(-(-(from_ns + 1) // 10**9) * 10**9, to_ns, 10**9)]
        return [ScheduleRow(at, "x", at // 10**9 % 2 == 0, 1000, 0) for at in times]


class Unhurried(Player):
    """Its thread does nothing: the test makes the rounds."""

    def _run(self) -> None:
        return


def test_a_schedule_follows_our_clock_though_the_shaper_hosts_runs_apart(tmp_path: Path) -> None:
    now = zero = 1_000_000_000_000
    agent = Wandering(lambda: now)
    state = LinkState(1000, 50_000_000)
    wire = Wire("x", End("a", "n"), End("b", "n"), state, state)
    with fake_box([wire], socket_path=tmp_path / "s", agent=agent) as box:
        player = Unhurried(box, Still(), zero_ns=zero, log_path=tmp_path / "log.csv", now_ns=lambda: now)
        player.start()
        for _ in range(240):
            now += 500_000_000
            player.step()
            for (_, engine_ns), sent in player._feeds[0].sent.items():  # as it was told
                ours = zero + sent.row.at_ns
                # up to 17 s ahead at 100 us a second; measured once a window it would be 4.5 ms
                assert abs(ours - 5_000_000_000 - ours // 10_000 - engine_ns) < 2_000_000
        summary, clock = player.summary(), box.store.load().clock
        player.close()
    assert summary["errors"] == 0
    assert clock is not None
    assert now - clock.at_ns < 3 * 10**9


def test_the_offset_is_that_of_the_tightest_round_trip_and_wrong_by_half_of_it_at_most() -> None:
    times = iter([0, 1000, 2000, 2100, 5000, 9000])
    agent = FakeAgent(clock=iter([100, 1650, 6000]).__next__)
    clock = agent.offset(lambda: next(times), readings=3)
    assert (clock.offset_ns, clock.uncertainty_ns, clock.at_ns) == (400, 50, 2100)


# -- the way in


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("relay: another bench has this shaper host: Address in use", BenchError, "another bench"),
        ("sh: 1: /h/relay: Permission denied", BenchError, "cannot be run"),
        ("relay: netlink: No buffer space available", BenchError, "No buffer space"),
    ],
)
def test_every_way_to_fail_there_is_named(said: str, kind: type[Exception], words: str) -> None:
    error = failure(replace(TARGET, user="op"), said)
    assert isinstance(error, kind)
    assert words in error.message
    assert error.remedy


# -- the lab file

SSH = {"address": "192.0.2.7", "host_key": KEY, "key_file": "/k"}


def section(*ends: tuple[str, int | None, str]) -> ShaperHostSpec:
    a, b = ({"port": port, "near": near, "vlan": vlan} for port, vlan, near in ends)
    return ShaperHostSpec.model_validate({"ssh": SSH, "links": {"x": {"a": a, "b": b}}})


def test_a_lab_file_becomes_a_shaper_host() -> None:
    shaper = ShaperHost.of(section(("enp3s0", 101, "t.101"), ("enp4s0", None, "eth9")))
    assert shaper.ports == {"x": (Port("enp3s0", 101), Port("enp4s0"))}
    assert shaper.target == replace(TARGET, key=Path("/k"), name="shaper host root@192.0.2.7")


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((("p", 1, "n"), ("p", 1, "m")), "port p VLAN 1: used for two ends"),
        ((("p", None, "n"), ("p", None, "m")), "port p: used for two ends"),
        ((("p", 1, "n"), ("q", 1, "n")), "near n: used for two ends"),
        ((("p", None, "n"), ("p", 2, "m")), "whole and as a trunk"),
        ((("p", 4095, "n"), ("p", 2, "m")), "4094"),
    ],
)
def test_ports_that_cannot_be_are_refused(ends: tuple[tuple[str, int | None, str], ...], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        section(*ends)


# -- the doctor

GOOD = ShaperHostFacts(
    "shaper host root@192.0.2.7",
    (Port("p0", 1), Port("p1")),
    kernel_release="6.1.0",
    cpus=4,
    load=0.2,
    clocksource="tsc",
    resolution_ns=1,
    hz=250,
    round_trip_ms=0.3,
    clock_uncertainty_us=120,
    nics={"p0": NIC, "p1": NIC},
    offloads={"p0": (("rx-gro",), ()), "p1": ((), ())},
)


def test_a_good_shaper_host_has_nothing_to_complain_of() -> None:
    checks = examine(GOOD)
    assert {c.status for c in checks} == {"ok"}
    assert not any(c.remedy for c in checks)


@pytest.mark.parametrize(
    ("facts", "check", "status", "words"),
    [
        (replace(GOOD, problem="no answer", remedy="switch it on"), "shaper-host", "fail", "no answer"),
        (replace(GOOD, missing=("netem",)), "shaper-host-sch_netem", "fail", "netem missing"),
        (replace(GOOD, missing=("VLANs (8021q)",)), "shaper-host-8021q", "fail", "missing"),
        (replace(GOOD, missing=("VLANs (8021q)",), ports=(Port("p1"),)), "shaper-host-8021q", "warn", "missing"),
        (replace(GOOD, resolution_ns=4_000_000), "shaper-host-timers", "fail", "4000000 ns"),
        (replace(GOOD, resolution_ns=None), "shaper-host-timers", "warn", "not told"),
        (replace(GOOD, clocksource="hpet"), "shaper-host-clock", "warn", "hpet"),
        (replace(GOOD, round_trip_ms=40), "shaper-host-round-trip", "warn", "40.00 ms"),
        (replace(GOOD, round_trip_ms=400), "shaper-host-round-trip", "fail", "400.00 ms"),
        (replace(GOOD, load=3.7), "shaper-host-cpu", "warn", "load 3.70"),
        (replace(GOOD, nics={"p0": NIC}), "shaper-host-port-p1", "fail", "no NIC p1"),
        (replace(GOOD, nics={"p0": NIC, "p1": replace(NIC, flags=3)}), "shaper-host-port-p1", "fail", "no carrier"),
        (replace(GOOD, offloads={"p0": ((), ("rx-gro-hw",))}), "shaper-host-offload-p0", "warn", "rx-gro-hw"),
    ],
)
def test_each_fault_is_found_with_a_remedy(facts: ShaperHostFacts, check: str, status: str, words: str) -> None:
    found = {c.id: c for c in examine(facts)}
    assert found[check].status == status
    assert words in found[check].found
    assert found[check].remedy
    assert all(c.status == "ok" for c in found.values() if c.id != check)


def test_a_lab_without_a_shaper_host_has_none_to_look_at() -> None:
    assert checks(load_lab(Path("lab/virtual.yaml"))) == []
