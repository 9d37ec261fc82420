"""``hil doctor --lab``: whether the shaper host that a lab file names can be the link box, why not, what to do.

Facts come over SSH (``probe``); the judgement (``examine``) is a pure function of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
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
from hil.links.engines.shaper_host.ports import VLANS, Nic
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
_SHAPING = "links are shaped by netem and joined by redirection"
_PARTS = (
    ("netem", "sch_netem", _SHAPING),
    ("ingress", "sch_ingress", _SHAPING),
    ("matchall or mirred", "cls_matchall act_mirred", _SHAPING),
    ("police", "act_police", "a link's queue is limited in bytes"),
    (VLANS, "8021q", "a link's end can be a VLAN of a trunk"),
)
"""Of its kernel: name, modules, what for."""
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
    nics: Mapping[str, Nic] = field(default_factory=dict)
    offloads: Mapping[str, tuple[Sequence[str], Sequence[str]]] = field(default_factory=dict)
    """By NIC: features that can be turned off, and those that stay on."""


def checks(lab: Lab) -> list[Check]:
    """Look at the shaper host of a lab and judge it; empty for a lab without one. What it had is restored."""
    return examine(probe(ShaperHost.of(lab.shaper_host))) if lab.shaper_host else []


def probe(shaper: ShaperHost) -> ShaperHostFacts:
    """Ask it. Ports that are down are set up for the while, to see whether something is at their other end."""
    ends = tuple(port for pair in shaper.ports.values() for port in pair)
    try:
        return _probed(shaper.target, ends)
    except HilError as exc:
        return ShaperHostFacts(shaper.target.name, ends, problem=exc.message, remedy=exc.remedy)


def _probed(target: Target, ends: tuple[Port, ...]) -> ShaperHostFacts:
    with log_in(target) as shell:
        answer = shell.run(["sh", "-c", _FACTS]).stdout
        said = dict(line.partition("=")[::2] for line in answer.splitlines())
        relay = install(shell)
        with ShaperHostAgent(shell, relay, scratch=True) as agent:
            lacking = [*missing(agent), *ports.missing_vlans(agent)]
            clocks = [agent.offset(time.monotonic_ns, readings=1) for _ in range(_ROUND_TRIPS)]
            release = agent.kernel_release
        with ShaperHostAgent(shell, relay) as agent:
            nics = ports.nics(agent)
            wanted = sorted({port.nic for port in ends} & {*nics})
            offloads = {nic: offload.segmenting(partial(agent.ioctl, nic), udp_only=False) for nic in wanted}
            down = [nic for nic in wanted if not nics[nic].up and not nics[nic].master]
            nics = _with_carrier(agent, nics, down)
    uncertain_ns = [clock.uncertainty_ns for clock in clocks]  # half a round trip
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
        round_trip_ms=2 * median(uncertain_ns) / 1e6,
        clock_uncertainty_us=min(uncertain_ns) / 1000,
        nics=nics,
        offloads=offloads,
    )


def _with_carrier(agent: ShaperHostAgent, nics: dict[str, Nic], down: Sequence[str]) -> dict[str, Nic]:
    """Set NICs up that are down, and return all after a carrier had time to come; the relay sets them down again."""
    for name in down:
        nic = nics[name]
        agent.undo(ports.set_link(nic.index, nic.flags, nic.mtu))
        ports.no_own_address(agent, nic)
        rtnl.transact(agent, [(f"port {name} up", ports.set_link(nic.index, nic.flags | 1, nic.mtu))])
    for _ in poll_until(_CARRIER_S if down else 0.0, every_s=0.2):
        nics = ports.nics(agent)
        if all(nics[name].carrier for name in down):
            break
    return nics


def examine(facts: ShaperHostFacts) -> list[Check]:
    """Judge a shaper host by all checks."""
    why = "the links of this lab are shaped there"
    if facts.problem:
        return [Check("shaper-host", "fail", facts.problem, why, facts.remedy, WITHOUT)]
    found = f"{facts.name}, Linux {facts.kernel_release}"
    return [Check("shaper-host", "ok", found, why), *_kernel(facts), *_ports(facts)]


def _check(status: Status, name: str, found: str, why: str, *, remedy: str, without: str = "") -> Check:
    if status == "ok":
        return Check(f"shaper-host-{name}", "ok", found, why)
    without = without or (WITHOUT if status == "fail" else INEXACT)
    return Check(f"shaper-host-{name}", status, found, why, remedy, without)


def _kernel(f: ShaperHostFacts) -> Iterator[Check]:
    trunk = any(port.vlan is not None for port in f.ports)
    for thing, modules, why in _PARTS:
        lacks, needed = thing in f.missing, trunk or thing != VLANS
        module = modules.split()[0]
        yield _check(
            "ok" if not lacks else "fail" if needed else "warn",
            module,
            f"{thing} missing" if lacks else f"{thing.replace(' or ', ' and ')}: works",
            why,
            remedy=f"there, as root: modprobe -a {modules}; if there is no such module (Jetson kernels lack some), "
            f"use a machine with a distribution's kernel ({module.upper()} is an option of it)",
            without="" if needed else "whole ports work",
        )
    timers_why = "without high-resolution timers a delay is a multiple of a tick (1 to 10 ms)"
    hz = f", HZ {f.hz}" if f.hz else ""
    if f.resolution_ns is None:
        remedy = "calibration will tell how late it is"
        yield _check("warn", "timers", f"resolution not told{hz}", timers_why, remedy=remedy)
    else:
        yield _check(
            "ok" if f.resolution_ns <= MAX_RESOLUTION_NS else "fail",
            "timers",
            f"resolution {f.resolution_ns} ns{hz}",
            timers_why,
            remedy="use a kernel with CONFIG_HIGH_RES_TIMERS",
        )
    yield _check(
        "ok" if f.clocksource in GOOD_CLOCKS else "warn",
        "clock",
        f"source {f.clocksource or 'not told'}; known to {f.clock_uncertainty_us:.0f} us",
        "netem and the schedule go by it; a slow source costs a microsecond or more per packet",
        remedy=f"boot with clocksource={GOOD_CLOCKS[0]}, if the machine has it",
    )
    slow: Status = "warn" if f.round_trip_ms <= ROUND_TRIP_FAIL_MS else "fail"
    yield _check(
        "ok" if f.round_trip_ms <= ROUND_TRIP_WARN_MS else slow,
        "round-trip",
        f"{f.round_trip_ms:.2f} ms over the control connection",
        "a cut by hand comes so much later, and clocks are compared over it; schedules do not wait for it",
        remedy="connect the shaper host by cable, in the same network",
    )
    yield _check(
        "ok" if f.cpus >= 2 and f.cpus - f.load >= 1 else "warn",
        "cpu",
        f"{f.cpus} cores, load {f.load:.2f}",
        "a busy shaper host adds delays of its own; calibration will say so",
        remedy="use a machine with two cores or more, and end what else runs there",
    )


def _ports(f: ShaperHostFacts) -> Iterator[Check]:
    for name in sorted({port.nic for port in f.ports}):
        port = Port(name) if Port(name) in f.ports else next(p for p in f.ports if p.nic == name)
        try:
            ports.check(port, f.nics)
        except ConfigurationError as exc:
            why = "a port carries links and nothing else"
            yield _check("fail", f"port-{name}", exc.message, why, remedy=exc.remedy)
            continue
        nic = f.nics[name]
        yield _check(
            "ok" if nic.carrier else "fail",
            f"port-{name}",
            f"{'carrier' if nic.carrier else 'no carrier'}, {len(nic.addresses) or 'no'} address, MTU {nic.mtu}",
            "a link's end is cabled to it",
            remedy="plug its cable in, and see that the other end is up",
        )
        free, stuck = f.offloads.get(name, ((), ()))
        words = [f"the bench turns {len(free)} off ({', '.join(free[:2])}, ...)"] if free else []
        if stuck:
            words.append(f"stays on: {', '.join(stuck)}")
        yield _check(
            "warn" if stuck else "ok",
            f"offload-{name}",
            "; ".join(words) or "none on",
            "packets that a NIC puts together are lost together",
            remedy="use another NIC, or link_profile: bulk (outages, no random loss)",
            without="profile bulk works",
        )
