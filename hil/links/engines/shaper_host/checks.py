"""``hil doctor --lab``: whether the shaper host that a lab file names can be the link box, why not, what to do.

Facts come over SSH (``probe``); the judgement (``examine``) is a pure function of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from hil.boards.ssh.login import Target
from hil.core.check import Check, Status
from hil.core.wait import poll_until
from hil.errors import ConfigurationError, HilError
from hil.links.engines import offload, rtnl
from hil.links.engines.kernel import missing
from hil.links.engines.shaper_host import ports
from hil.links.engines.shaper_host.agent import ShaperHostAgent, install, log_in
from hil.links.engines.shaper_host.ports import Nic
from hil.links.wires import Port, ShaperHost

if TYPE_CHECKING:
    from hil.lab.model import Lab

WITHOUT = "benches whose lab file has no shaper_host work; this lab's links do not"
INEXACT = "everything, but runs may end INCONCLUSIVE"
ROUND_TRIP_WARN_MS = 5.0
ROUND_TRIP_FAIL_MS = 250.0
"""A cut by hand takes one; the player needs a few dozen in the 15 s that it is ahead."""
GOOD_CLOCKS = ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page")
MAX_RESOLUTION_NS = 1_000
_ROUND_TRIPS = 50
_CARRIER_S = 4.0
_FACTS = r"""
echo "cpus=$(nproc)"
echo "load=$(cut -d' ' -f1 /proc/loadavg)"
echo "clocksource=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource 2>/dev/null)"
echo "resolution_ns=$(grep -m1 -o '[.]resolution: *[0-9]*' /proc/timer_list 2>/dev/null | grep -o '[0-9]*$')"
{ zcat /proc/config.gz || cat "/boot/config-$(uname -r)"; } 2>/dev/null | sed -n 's/^CONFIG_HZ=/hz=/p'
true
"""


@dataclass(frozen=True)
class ShaperHostFacts:
    """What there is to know about a shaper host."""

    name: str
    ports: tuple[Port, ...]
    problem: str = ""  # why nothing could be asked
    remedy: str = ""
    kernel_release: str = ""
    missing: tuple[str, ...] = ()  # of what links need
    cpus: int = 0
    load: float = 0.0  # processes that want to run, over a minute
    clocksource: str = ""
    resolution_ns: int | None = None  # of its timers; None: it does not say
    hz: int | None = None
    round_trip_ms: float = 0.0  # median of the control connection
    clock_uncertainty_us: float = 0.0
    nics: Mapping[str, Nic] | None = None
    offloads: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] | None = (
        None  # NIC: (can be off, stay on)
    )


def diagnose(shaper: ShaperHost) -> list[Check]:
    """Look at a shaper host and judge it; what it had is restored."""
    return examine(probe(shaper))


def probe(shaper: ShaperHost) -> ShaperHostFacts:
    """Ask it. Ports that are down are set up for the while, to see whether something is at their other end."""
    ends = tuple(port for pair in shaper.ports.values() for port in pair)
    name = shaper.target.name
    try:
        return _probed(shaper.target, ends)
    except HilError as exc:
        return ShaperHostFacts(name, ends, problem=exc.message, remedy=exc.remedy)


def _probed(target: Target, ends: tuple[Port, ...]) -> ShaperHostFacts:
    with log_in(target) as shell:
        answer = shell.run(["sh", "-c", _FACTS]).stdout
        said = dict(line.partition("=")[::2] for line in answer.splitlines())
        relay = install(shell)
        with ShaperHostAgent(shell, relay, scratch=True) as agent:
            lacking = [*missing(agent), *([] if ports.makes_vlans(agent) else ["VLANs (8021q)"])]
            took_ms = [_timed_ms(agent) for _ in range(_ROUND_TRIPS)]
            clock = agent.offset(time.monotonic_ns, readings=10)
            release = agent.kernel_release
        with ShaperHostAgent(shell, relay) as agent:
            nics = ports.nics(agent)
            wanted = sorted({port.nic for port in ends} & {*nics})
            offloads = {nic: _offloads(agent, nic) for nic in wanted}
            nics = _with_carrier(
                agent, nics, [nic for nic in wanted if not nics[nic].up and not nics[nic].master]
            )
    return ShaperHostFacts(
        target.name,
        ends,
        kernel_release=release,
        missing=tuple(lacking),
        cpus=int(said.get("cpus") or 0),
        load=float(said.get("load") or 0),
        clocksource=said.get("clocksource", ""),
        resolution_ns=int(said["resolution_ns"]) if said.get("resolution_ns") else None,
        hz=int(said["hz"]) if said.get("hz") else None,
        round_trip_ms=median(took_ms),
        clock_uncertainty_us=clock.uncertainty_ns / 1000,
        nics=nics,
        offloads=offloads,
    )


def _timed_ms(agent: ShaperHostAgent) -> float:
    before = time.monotonic_ns()
    agent.clock()
    return (time.monotonic_ns() - before) / 1e6


def _offloads(agent: ShaperHostAgent, nic: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    free, stuck = offload.segmenting(ports.asking(agent, nic), udp_only=False)
    return tuple(free), tuple(stuck)


def _with_carrier(agent: ShaperHostAgent, nics: dict[str, Nic], down: Sequence[str]) -> dict[str, Nic]:
    """Set NICs up that are down, and return all after a carrier had time to come; the relay sets them down again."""
    for name in down:
        nic = nics[name]
        agent.undo(ports.set_link(nic.index, nic.flags, nic.mtu))
        if nic.address_mode is not None:
            agent.undo(ports.address_mode(nic.index, nic.address_mode))
            rtnl.transact(agent, [("no IPv6 address", ports.address_mode(nic.index, 1))])
        rtnl.transact(agent, [(f"port {name} up", ports.set_link(nic.index, nic.flags | 1, nic.mtu))])
    for _ in poll_until(_CARRIER_S if down else 0.0, every_s=0.2):
        nics = ports.nics(agent)
        if all(nics[name].carrier for name in down):
            break
    return nics


def examine(facts: ShaperHostFacts) -> list[Check]:
    """Judge a shaper host by all checks."""
    if facts.problem:
        why = "the links of this lab are shaped there"
        return [Check("shaper-host", "fail", facts.problem, why, facts.remedy, WITHOUT)]
    return [
        Check(
            "shaper-host", "ok", f"{facts.name}, Linux {facts.kernel_release}", "the links are shaped there"
        ),
        *_kernel(facts),
        *_ports(facts),
    ]


def _check(
    ok: bool, name: str, found: str, why: str, *, remedy: str, bad: Status = "fail", without: str = ""
) -> Check:
    if ok:
        return Check(f"shaper-host-{name}", "ok", found, why)
    without = without or (WITHOUT if bad == "fail" else INEXACT)
    return Check(f"shaper-host-{name}", bad, found, why, remedy, without)


def _kernel(f: ShaperHostFacts) -> Iterator[Check]:
    trunk = any(port.vlan is not None for port in f.ports)
    shaping, tagging = (
        "links are shaped by netem and joined by redirection",
        "a link's end can be a VLAN of a trunk",
    )
    for thing, modules, why, needed in (
        ("netem", "sch_netem", shaping, True),
        ("ingress", "sch_ingress", shaping, True),
        ("matchall or mirred", "cls_matchall act_mirred", shaping, True),
        ("VLANs (8021q)", "8021q", tagging, trunk),
    ):
        module = modules.split()[0]
        yield _check(
            thing not in f.missing,
            module,
            f"{thing} missing" if thing in f.missing else f"{thing.replace(' or ', ' and ')}: works",
            why,
            remedy=f"there, as root: modprobe -a {modules}; if there is no such module (Jetson kernels lack some), "
            f"use a machine with a distribution's kernel ({module.upper()} is an option of it)",
            bad="fail" if needed else "warn",
            without=WITHOUT if needed else "whole ports work",
        )
    hidden = f.resolution_ns is None
    yield _check(
        f.resolution_ns is not None and f.resolution_ns <= MAX_RESOLUTION_NS,
        "timers",
        ("resolution not told" if hidden else f"resolution {f.resolution_ns} ns")
        + (f", HZ {f.hz}" if f.hz else ""),
        "without high-resolution timers a delay is a multiple of a tick (1 to 10 ms)",
        remedy="calibration will tell how late it is"
        if hidden
        else "use a kernel with CONFIG_HIGH_RES_TIMERS",
        bad="warn" if hidden else "fail",
    )
    yield _check(
        f.clocksource in GOOD_CLOCKS,
        "clock",
        f"source {f.clocksource or 'not told'}; known to {f.clock_uncertainty_us:.0f} us",
        "netem and the schedule go by it; a slow source costs a microsecond or more per packet",
        remedy=f"boot with clocksource={GOOD_CLOCKS[0]}, if the machine has it",
        bad="warn",
    )
    yield _check(
        f.round_trip_ms <= ROUND_TRIP_WARN_MS,
        "round-trip",
        f"{f.round_trip_ms:.2f} ms over the control connection",
        "a cut by hand comes so much later, and clocks are compared over it; schedules do not wait for it",
        remedy="connect the shaper host by cable, in the same network",
        bad="warn" if f.round_trip_ms <= ROUND_TRIP_FAIL_MS else "fail",
    )
    idle = f.cpus - f.load
    yield _check(
        f.cpus >= 2 and idle >= 1,
        "cpu",
        f"{f.cpus} cores, load {f.load:.2f}",
        "a busy shaper host adds delays of its own; calibration will say so",
        remedy="use a machine with two cores or more, and end what else runs there",
        bad="warn",
    )


def _ports(f: ShaperHostFacts) -> Iterator[Check]:
    nics = f.nics or {}
    for name in sorted({port.nic for port in f.ports}):
        port = next(p for p in sorted(f.ports, key=lambda p: p.vlan is not None) if p.nic == name)
        try:
            ports.check(port, dict(nics))
        except ConfigurationError as exc:
            found, remedy = exc.message, exc.remedy
            yield _check(False, f"port-{name}", found, "a port carries links and nothing else", remedy=remedy)
            continue
        nic = nics[name]
        yield _check(
            nic.carrier,
            f"port-{name}",
            f"{'carrier' if nic.carrier else 'no carrier'}, {len(nic.addresses) or 'no'} address, MTU {nic.mtu}",
            "a link's end is cabled to it",
            remedy="plug its cable in, and see that the other end is up",
        )
        free, stuck = (f.offloads or {}).get(name, ((), ()))
        words = [f"the bench turns {len(free)} off ({', '.join(free[:2])}, ...)"] if free else []
        yield _check(
            not stuck,
            f"offload-{name}",
            "; ".join([*words, *([f"stays on: {', '.join(stuck)}"] if stuck else [])]) or "none on",
            "packets that a NIC puts together are lost together",
            remedy="use another NIC, or link_profile: bulk (outages, no random loss)",
            bad="warn",
            without="profile bulk works",
        )


def checks(lab: Lab) -> list[Check]:
    """Check the shaper host of a lab; empty for a lab without one."""
    return diagnose(ShaperHost.of(lab.shaper_host)) if lab.shaper_host else []
