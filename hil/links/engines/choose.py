"""Which kernel shapes: this host's when it has netem, else User-Mode Linux. Asked, not guessed."""

from __future__ import annotations

import errno
import os
import platform
from dataclasses import dataclass
from typing import Literal

from hil.core import netns
from hil.errors import BenchError
from hil.links.engines import netem, rtnl, uml
from hil.links.engines.agent import Agent, KernelAgent
from hil.links.state import LinkState

EngineKind = Literal["kernel", "uml", "shaper_host"]
_LOOPBACK = 1  # the first NIC of every namespace


@dataclass(frozen=True)
class EngineChoice:
    kind: EngineKind
    reason: str
    kernel_release: str  # of the kernel that will shape


def detect(forced: EngineKind | None = None) -> EngineChoice:
    """The engine to use, by trying netem in a scratch namespace; ``forced`` is checked, not just believed.

    Raises BenchError when there is no engine, or not the forced one.
    """
    if forced == "uml":
        return _uml("asked for")
    missing = missing_in_kernel()
    if not missing:
        reason = "asked for" if forced else "this host's kernel has netem, matchall and mirred"
        return EngineChoice("kernel", reason, platform.release())
    lacks = f"this host's kernel {platform.release()} lacks {missing}"
    if forced == "kernel":
        raise BenchError(
            f"the kernel link engine was asked for, but {lacks}",
            remedy="use a kernel with CONFIG_NET_SCH_NETEM, NET_CLS_MATCHALL and NET_ACT_MIRRED, or the uml engine",
        )
    return _uml(lacks)


def missing_in_kernel() -> str:
    """What this host's kernel lacks for shaping links, in words; empty when it lacks nothing."""
    scratch = f"hil.probe.{os.getpid()}"
    netns.delete(scratch)
    netns.create(scratch)
    try:
        with KernelAgent(scratch) as agent:
            return " and ".join(lacking(agent))
    finally:
        netns.delete(scratch)


def lacking(agent: Agent) -> list[str]:
    """What the kernel behind ``agent`` lacks for shaping links; its namespace is a scratch one.

    BenchError when it refuses for another reason than that it does not know the thing.
    """
    steps = (
        ("netem", netem.encode(_LOOPBACK, LinkState(1000, 0), limit=100, delay_ns=1_000_000)),
        ("ingress", rtnl.ingress(_LOOPBACK)),
        ("matchall or mirred", rtnl.redirect(_LOOPBACK, _LOOPBACK)),
    )
    missing = []
    for what, message in steps:
        (reply,) = rtnl.replies(agent.request(rtnl.number([message])))
        if reply.error == errno.ENOENT:
            missing.append(what)
        elif reply.error:
            raise BenchError(
                f"probing the kernel for {what}: {os.strerror(reply.error)}",
                remedy="the link box needs root",
            )
    return missing


def _uml(reason: str) -> EngineChoice:
    version = uml.release()
    if version is None:
        raise BenchError(
            f"no engine can shape links: {reason}, and User-Mode Linux is not installed",
            remedy="run `hil setup` as root (it installs the package user-mode-linux)",
        )
    return EngineChoice("uml", reason, version)
