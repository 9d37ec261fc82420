"""The link box on another machine: a real sshd in a network namespace, veth pairs for ports, this kernel behind it.

This kernel may have no netem, matchall or 8021q; what they are told is compared byte for byte in the unit tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from hil.bench.host_nics import HostNics
from hil.bench.plumbing import Plumbing
from hil.cli.host import doctor
from hil.core import netns, paths
from hil.core.wait import wait_until
from hil.errors import BenchError, ConfigurationError
from hil.images.pki import ensure_pki
from hil.lab.model import load_lab
from hil.links.calibration.probe import Probe, collect, pace, warm_up
from hil.links.engines.kernel import missing_in_kernel
from hil.links.engines.shaper_host import agent as shaper_host_agent
from hil.links.engines.shaper_host import ports
from hil.links.engines.shaper_host.agent import log_in
from hil.links.engines.shaper_host.checks import examine, probe
from hil.links.engines.wire_format import PlanRow
from hil.links.link_box import End, LinkBox, Wire
from hil.links.state import LinkState
from hil.links.wires import Port, ShaperHost
from hil.testing.links import fake_box
from tests.kits.kernel_shapes import queue_length, queue_length_shape, wait_for_rows
from tests.kits.shaper_host_namespace import LocalShaperHost, at_work, connected, shaper_host

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]
STATE = LinkState(1_000, 50_000_000)


@pytest.fixture(scope="module")
def shaper() -> Iterator[LocalShaperHost]:
    with shaper_host("links") as made:
        yield made


@pytest.fixture
def untouched(shaper: LocalShaperHost) -> Iterator[None]:
    """Whatever a test does, the shaper host is afterwards as it was, and nothing runs there."""

    def settled() -> bool:
        return not shaper.relays() and "NO-CARRIER" not in shaper.state()

    wait_until(settled, what="relays to end", deadline_s=10)
    before = shaper.state()
    yield
    wait_until(settled, what="relays to end", deadline_s=10)
    assert shaper.state() == before


def test_its_clock_is_ours_to_within_what_was_measured(shaper: LocalShaperHost) -> None:
    with connected(shaper.target) as agent:
        clock = agent.offset(time.monotonic_ns, readings=20)
        assert abs(clock.offset_ns) <= clock.uncertainty_ns  # here both are the same clock
        assert agent.kernel_release == os.uname().release


def test_the_relay_is_copied_once(shaper: LocalShaperHost) -> None:
    with connected(shaper.target):
        pass
    (copy,) = (shaper.home / ".cache/hil").glob("relay-*")
    stamp = copy.stat().st_mtime_ns
    with connected(shaper.target):
        pass
    assert copy.stat().st_mtime_ns == stamp
    copy.write_bytes(b"half of it")
    with connected(shaper.target):
        pass
    assert copy.stat().st_size > 100_000


@pytest.mark.usefixtures("untouched")
def test_frames_cross_the_shaper_host_and_everything_is_as_before_when_it_is_closed(
    shaper: LocalShaperHost, tmp_path: Path
) -> None:
    ends = [End(shaper.prefix + "a", "isl0"), End(shaper.prefix + "b", "isl0")]
    for end, address in zip(ends, ("198.19.128.5/30", "198.19.128.6/30"), strict=True):
        subprocess.run(["ip", "-n", end.namespace, "addr", "replace", address, "dev", end.ifname], check=True)
    with at_work(shaper.target) as agent:
        now = ports.nics(agent)
        assert all(now[name].flags & 0x101 == 0x101 for name in ("p0", "p1"))
        assert {kind for kind, _ in now["p1"].qdiscs} == {"tbf", "ingress"}
        with fake_box([Wire("x", ends[0], ends[1], STATE, STATE)], socket_path=tmp_path / "fake") as box:
            (status,) = box.show()
        with Probe(status, "a_to_b") as there, Probe(status, "b_to_a") as back:
            assert not warm_up([there, back])
            pace([there, back], count=50, interval_s=0.002)
            assert len(collect(there, expected=50)) == len(collect(back, expected=50)) == 50


@pytest.mark.usefixtures("untouched")
def test_a_client_that_is_killed_leaves_nothing_behind(shaper: LocalShaperHost) -> None:
    target = shaper.target
    module = [sys.executable, "-m", "tests.kits.shaper_host_namespace"]
    argv = [*module, target.namespace, str(target.key), *target.host_key.split()]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=paths.ROOT) as client:
        assert client.stdout is not None and client.stdout.readline() == b"at work\n"
        assert "mtu 9000" in shaper.state()
        client.kill()
    wait_until(lambda: not shaper.relays(), what="the relay to end", deadline_s=10)


@pytest.mark.usefixtures("untouched")
def test_a_cable_that_was_pulled_is_noticed_by_the_relay_itself(
    shaper: LocalShaperHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shaper_host_agent, "SILENCE_S", 4)  # a lab allows it more; what is shown is the same
    cable = ["ip", "-n", shaper.target.namespace, "link", "set", "u0"]
    with at_work(shaper.target) as agent:
        subprocess.run([*cable, "down"], check=True)  # no end of the connection, only silence
        try:
            wait_until(lambda: not shaper.relays(), what="the relay to end", deadline_s=40, every_s=0.5)
            with pytest.raises(BenchError, match="it undoes by itself"):
                agent.clock()
        finally:
            subprocess.run([*cable, "up"], check=True)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("which", [0, 1])
def test_a_relay_of_which_one_process_is_killed_undoes_all_the_same(shaper: LocalShaperHost, which: int) -> None:
    with at_work(shaper.target, mtu=9000) as agent:
        os.kill(shaper.relays()[which], signal.SIGKILL)
        wait_until(lambda: not shaper.relays(), what="the relay to end", deadline_s=10)
        with pytest.raises(BenchError):
            agent.clock()


def test_the_next_one_clears_away_what_a_killed_relay_left() -> None:
    with shaper_host("killed") as own:
        with at_work(own.target) as agent:
            for relay in own.relays():
                os.kill(relay, signal.SIGSTOP)
            for relay in own.relays():
                os.kill(relay, signal.SIGKILL)
            with pytest.raises(BenchError):
                agent.clock()
        assert own.state().count("ingress") == 2
        # a token bucket took the place of netem here, which the next one would know as its own
        subprocess.run(["tc", "-n", own.namespace, "qdisc", "delete", "dev", "p1", "root"], check=True)
        with at_work(own.target):
            pass
        assert "ingress" not in own.state()


def test_a_second_bench_is_told_that_the_shaper_host_is_taken(shaper: LocalShaperHost) -> None:
    with (
        connected(shaper.target),
        pytest.raises(BenchError, match="another bench has this shaper host"),
        connected(shaper.target),
    ):
        pass


@pytest.mark.usefixtures("untouched")
def test_rows_are_applied_over_there_at_their_moment_of_our_clock(shaper: LocalShaperHost) -> None:
    with connected(shaper.target) as agent:
        before = queue_length(agent)  # of loopback, which stands in for a shaped NIC
        try:
            agent.shape(3, queue_length_shape())
            clock = agent.offset(time.monotonic_ns)
            zero = time.monotonic_ns() + 50_000_000
            at = [zero + step * 20_000_000 - clock.offset_ns for step in range(5)]
            agent.plan_stage([PlanRow(t, n, 0x41414141, 0x41414141, 3, 1) for n, t in enumerate(at, 1)])
            agent.plan_commit()
            log = wait_for_rows(agent, 5)
            assert [(each.planned_ns, each.error) for each in log] == [(t, 0) for t in at]
            assert time.monotonic_ns() >= zero + 80_000_000
            assert queue_length(agent) == 5_000
        finally:
            restore = ["ip", "-n", shaper.namespace, "link", "set", "lo", "txqueuelen", str(before), "alias", ""]
            subprocess.run(restore, check=True)


@pytest.mark.usefixtures("untouched")
@pytest.mark.skipif(not missing_in_kernel(), reason="this kernel has everything")
def test_a_link_box_there_names_what_its_kernel_lacks(shaper: LocalShaperHost, tmp_path: Path) -> None:
    wire = Wire("x", End(shaper.prefix + "a", "isl0"), End(shaper.prefix + "b", "isl0"), STATE, STATE)
    host = ShaperHost(shaper.target, {"x": (Port("p0"), Port("p1"))})
    with pytest.raises(BenchError, match=r"its kernel .* lacks netem and matchall or mirred"):
        LinkBox.up("unused", [wire], socket_path=tmp_path / "box", engine="shaper_host", shaper_host=host)


@pytest.mark.usefixtures("untouched")
@pytest.mark.skipif(bool(missing_in_kernel()), reason="this kernel has no netem or no matchall")
def test_a_link_box_there_shapes_and_reads_back(shaper: LocalShaperHost, tmp_path: Path) -> None:
    wire = Wire("x", End(shaper.prefix + "a", "isl0"), End(shaper.prefix + "b", "isl0"), STATE, STATE)
    host = ShaperHost(shaper.target, {"x": (Port("p0"), Port("p1"))})
    with LinkBox.up("unused", [wire], socket_path=tmp_path / "box", engine="shaper_host", shaper_host=host) as box:
        assert all(status.a_to_b.agrees and status.b_to_a.agrees for status in box.show())
        assert box.engine == "shaper_host"


def test_wrong_logins_are_refused_and_say_what_to_do(shaper: LocalShaperHost) -> None:
    other = ensure_pki().host_key("somebody-else")
    with pytest.raises(BenchError, match="another host key than the pinned one"):
        log_in(replace(shaper.target, host_key=other.public_line))
    stranger = shaper.home / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)], check=True)
    with pytest.raises(ConfigurationError, match="the login as root is refused"):
        log_in(replace(shaper.target, key=stranger))
    with pytest.raises(BenchError, match="Connection refused"):
        log_in(replace(shaper.target, port=9))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("port", "said"),
    [
        (Port("p9"), r"has no NIC p9"),
        (Port("mgmt0"), r"port mgmt0 .* has address 198.19.200.2/30: is it the way to the shaper host"),
    ],
)
def test_a_port_that_cannot_be_ours_is_left_alone(shaper: LocalShaperHost, port: Port, said: str) -> None:
    with connected(shaper.target) as agent, pytest.raises(ConfigurationError, match=said):
        ports.lay(agent, [Port("p0"), port], mtus=[1500, 1500], profile="exact")


@pytest.mark.usefixtures("untouched")
def test_somebody_elses_queueing_discipline_is_left_alone(shaper: LocalShaperHost) -> None:
    tc = ["tc", "-n", shaper.namespace, "qdisc"]
    subprocess.run([*tc, "add", "dev", "p1", "root", "handle", "7:", "pfifo"], check=True)
    try:
        with connected(shaper.target) as agent, pytest.raises(ConfigurationError, match="pfifo, which is not ours"):
            ports.lay(agent, [Port("p1")], mtus=[1500], profile="exact")
    finally:
        subprocess.run([*tc, "delete", "dev", "p1", "root"], check=True)


@pytest.mark.usefixtures("untouched")
def test_the_doctor_sees_kernel_clock_and_ports_and_changes_nothing(shaper: LocalShaperHost) -> None:
    found = {c.id: c for c in examine(probe(ShaperHost(shaper.target, {"x": (Port("p0"), Port("mgmt0"))})))}
    lacks = missing_in_kernel()
    assert found["shaper-host-sch_netem"].status == ("fail" if "netem" in lacks else "ok")
    assert found["shaper-host-cls_matchall"].status == ("fail" if "matchall" in lacks else "ok")
    assert found["shaper-host-sch_ingress"].status == "ok"
    assert found["shaper-host-timers"].found.startswith("resolution 1 ns")
    assert found["shaper-host-port-p0"].found.startswith("carrier, no address")
    assert "is it the way to the shaper host" in found["shaper-host-port-mgmt0"].found
    assert found["shaper-host-round-trip"].status == "ok"


LAB = """
schema: 1
name: rack
ground_station: {{name: gs-1}}
gateway: a1
spacecraft: [{{name: sc-a, boards: [{{name: a1}}]}}]
links: [{{name: ground, kind: ground, between: [gs-1, sc-a], one_way_delay_us: 4000, rate_bps: 100000000}}]
shaper_host:
  ssh: {{address: 127.0.0.1, port: 9, key_file: {key}, host_key: {host_key}}}
  links: {{ground: {{a: {{port: p0, near: hiltgwa}}, b: {{port: p1, near: hiltgwb}}}}}}
"""


@pytest.fixture
def lab_file(shaper: LocalShaperHost, tmp_path: Path) -> Path:
    path = tmp_path / "rack.yaml"
    path.write_text(LAB.format(key=shaper.target.key, host_key=shaper.target.host_key))
    return path


def test_the_doctor_says_that_nobody_answers_and_fails(lab_file: Path) -> None:
    result = CliRunner().invoke(doctor, ["--lab", str(lab_file), "--json"], standalone_mode=False)
    assert result.return_value == 1
    assert "Connection refused" in result.output


def test_near_nics_become_link_nics_and_come_back_as_they_were(lab_file: Path) -> None:
    lab = load_lab(lab_file)
    plumbing, near = Plumbing(f"hilt-shaper-{os.getpid()}", lab), HostNics(lab.shaper_host)
    add = ["ip", "link", "add", "hiltgwa", "type", "veth", "peer", "name", "hiltgwb"]
    subprocess.run(add, check=True)
    try:
        show = ["ip", "-o", "link", "show", "hiltgwa"]
        before = subprocess.run(show, capture_output=True, text=True, check=True).stdout
        plumbing.build()
        near.take(plumbing.wires({}))
        plumbing.address_links()
        near.give_back()
        plumbing.remove()
        assert subprocess.run(show, capture_output=True, text=True, check=True).stdout == before
        with netns.inside(netns.HOST):
            again = HostNics(lab.shaper_host)
        plumbing.build()
        subprocess.run(["ip", "link", "set", "hiltgwa", "name", "hiltgwc"], check=True)
        with pytest.raises(BenchError, match="no NIC hiltgwa"):
            again.take(plumbing.wires({}))
        alias = "testbed link NIC, else called hiltgwa"  # as a killed bench leaves it
        subprocess.run(["ip", "link", "set", "hiltgwc", "alias", alias], check=True)
        again.take(plumbing.wires({}))
        again.give_back()
    finally:
        plumbing.remove()
        subprocess.run(["ip", "link", "delete", "hiltgwa"], capture_output=True)
        subprocess.run(["ip", "link", "delete", "hiltgwc"], capture_output=True)
