"""The kernel engine: netem of this host's own kernel, inside the link box's namespace."""

from __future__ import annotations

import errno
import os
import platform
from contextlib import ExitStack

from hil.core import netns
from hil.errors import BenchError
from hil.links.engines import cables, netem, police, rtnl
from hil.links.engines.agent import Agent
from hil.links.engines.kinds import EngineKind, Kernels, LinkNics, Site
from hil.links.engines.police import Police
from hil.links.engines.process import RelayProcess
from hil.links.engines.relay import Kind, RelayLine, compile_relay
from hil.links.state import LinkState

_LOOPBACK = 1  # the first NIC of every namespace


class KernelAgent(Agent):
    """This host's kernel: the relay runs inside ``namespace`` and ends with this process."""

    def __init__(self, namespace: str) -> None:
        argv = [str(compile_relay()), "serve", str(netns.path_of(namespace))]
        self._process = RelayProcess(argv, name="the relay")
        self._line = RelayLine(self._process.sock, name="the relay")
        self._greet()

    def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
        return self._line.ask(kind, payload)

    def close(self) -> None:
        self._line.close()
        self._process.close()


def missing_in_kernel() -> str:
    """Return what this host's kernel lacks for shaping links, in words; empty when it lacks nothing."""
    scratch = f"hil.probe.{os.getpid()}"
    netns.delete(scratch)
    netns.create(scratch)
    try:
        with KernelAgent(scratch) as agent:
            return " and ".join(missing(agent))
    finally:
        netns.delete(scratch)


def missing(agent: Agent) -> list[str]:
    """Return what the kernel behind ``agent`` lacks for shaping links; its namespace is a scratch one.

    BenchError when it refuses for another reason than that it does not know the thing.
    """
    steps = (
        ("netem", netem.encode(_LOOPBACK, LinkState(1000, 0), limit=100, delay_ns=1_000_000)),
        ("ingress", rtnl.ingress(_LOOPBACK)),
        ("matchall or mirred", rtnl.redirect(_LOOPBACK, _LOOPBACK)),
        ("police", police.change(_LOOPBACK, Police(1000, 0))),
    )
    unknown = []
    for what, message in steps:
        (reply,) = rtnl.replies(agent.request(rtnl.number([message])))
        if reply.error == errno.ENOENT:
            unknown.append(what)
        elif reply.error:
            raise BenchError(
                f"probing the kernel for {what}: {os.strerror(reply.error)}", remedy="the link box needs root"
            )
    return unknown


def _lacking() -> str:
    lacking = missing_in_kernel()
    return f"this host's kernel {platform.release()} lacks {lacking}" if lacking else ""


def _start(site: Site, undo: ExitStack) -> Kernels:
    laid = cables.lay_all(site.namespace, site.wires, site.profile, undo)
    agent = undo.enter_context(KernelAgent(site.namespace))
    return Kernels((agent,), tuple(LinkNics(0, a.nic, b.nic) for a, b in laid))


KERNEL = EngineKind(
    about="this host's kernel has netem, matchall, mirred and police",
    lacking=_lacking,
    remedy="use a kernel with CONFIG_NET_SCH_NETEM, _CLS_MATCHALL, _ACT_MIRRED and _ACT_POLICE, or the uml engine",
    start=_start,
    rank=0,
)
