"""The shaper_host engine: the kernel of another machine, with its physical ports."""

from __future__ import annotations

from contextlib import ExitStack

from hil.errors import BenchError, ConfigurationError
from hil.links.engines.kernel import missing
from hil.links.engines.kinds import EngineKind, Kernels, LinkNics, Site
from hil.links.engines.shaper_host import ports
from hil.links.engines.shaper_host.agent import ShaperHostAgent, install, log_in
from hil.links.engines.shaper_host.checks import checks


def _start(site: Site, undo: ExitStack) -> Kernels:
    """Make the ports ready; when the connection ends the shaper host is as it was.

    Raises ConfigurationError for ports that are not there or somebody else's, BenchError for a kernel that lacks
    something.
    """
    if site.shaper_host is None:
        raise ConfigurationError("the shaper_host link engine needs a shaper_host section in the lab file")
    target, ends = site.shaper_host.target, site.shaper_host.ends(wire.name for wire in site.wires)
    shell = undo.enter_context(log_in(target))
    relay = install(shell)
    with ShaperHostAgent(shell, relay, scratch=True) as probe:
        needs_vlans = any(port.vlan is not None for port in ends)
        lacking = [*missing(probe), *(ports.missing_vlans(probe) if needs_vlans else [])]
        release = probe.kernel_release
    if lacking:
        raise BenchError(
            f"{target.name}: its kernel {release} lacks {' and '.join(lacking)}",
            remedy="`hil doctor --lab FILE` says what to load or to change",
        )
    agent = undo.enter_context(ShaperHostAgent(shell, relay))
    mtus = [wire.a_to_b.mtu for wire in site.wires for _ in range(2)]
    nics = ports.lay(agent, ends, mtus=mtus, profile=site.profile)
    pairs = zip(nics[::2], nics[1::2], strict=True)
    return Kernels((agent,), tuple(LinkNics(0, a, b) for a, b in pairs), f"the lab file names {target.name}")


SHAPER_HOST = EngineKind(
    about="the kernel of another machine, over SSH",
    lacking=str,  # nothing of this host
    remedy="",
    start=_start,
    checks=checks,
)
