"""The cables of a link box: one veth pair per link end, and the redirection between the two ends of a link."""

from __future__ import annotations

import logging
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from hil.core import netns
from hil.errors import BenchError
from hil.links.engines import offload
from hil.links.wires import Profile, Wire

_log = logging.getLogger(__name__)

_GROUP = 77
"""Of the pairs in a link box's namespace, which holds nothing else."""
_QUEUE_PACKETS = 10_000  # a device queue shorter than a burst loses packets that netem never saw


@dataclass(frozen=True)
class Cable:
    """One veth pair: ``nic`` in the box namespace, ``ifname`` in the end's."""

    nic: str
    namespace: str
    ifname: str
    mtu: int


def lay_all(box_namespace: str, wires: Sequence[Wire], profile: Profile, undo: ExitStack) -> list[tuple[Cable, Cable]]:
    """Lay the cables of all links, to ends a and b of each; ``undo`` removes them."""
    pairs = [
        (
            Cable(f"l{index}a", wire.a.namespace, wire.a.ifname, wire.a_to_b.mtu),
            Cable(f"l{index}b", wire.b.namespace, wire.b.ifname, wire.a_to_b.mtu),
        )
        for index, wire in enumerate(wires)
    ]
    lay(box_namespace, [cable for pair in pairs for cable in pair], profile=profile)
    undo.callback(remove, box_namespace)
    return pairs


def lay(box_namespace: str, cables: Sequence[Cable], *, profile: Profile) -> None:
    """Make the pairs, offloads as ``profile`` says, both sides up. Addresses are the caller's business.

    Raises BenchError when a namespace is missing or a NIC name is taken; what was made is removed again.
    """
    script = "".join(
        f"link add name {c.nic} mtu {c.mtu} txqueuelen {_QUEUE_PACKETS} group {_GROUP} type veth "
        f"peer name {c.ifname} mtu {c.mtu} txqueuelen {_QUEUE_PACKETS} netns {c.namespace}\n"
        for c in cables
    )
    wanted = ", ".join(f"{c.ifname} in {c.namespace}" for c in cables)
    if _ip(box_namespace, "-oneline", "link", "show", "group", str(_GROUP)).stdout:
        raise BenchError(
            f"cannot make the link NICs ({wanted}): {box_namespace} has a link box already",
            remedy="`hil bench down` first",
        )
    try:
        done = _ip(box_namespace, "-batch", "-", script=script)
        if done.returncode != 0:
            what = f"cannot make the link NICs ({wanted}): {' '.join(done.stderr.split())}"
            raise BenchError(what, remedy="`hil clean`, then again")
        for cable in cables:
            _prepare(cable.namespace, cable.ifname, profile)
            _prepare(box_namespace, cable.nic, profile)
    except BaseException:
        remove(box_namespace)
        raise


def remove(box_namespace: str) -> None:
    """Delete all pairs of a link box; no error for those that are gone already."""
    if netns.path_of(box_namespace).exists():
        # as a group: the kernel waits for its readers once and not for every pair (45 links: 0.05 s instead of 1.6)
        _ip(box_namespace, "link", "delete", "group", str(_GROUP))


def _ip(namespace: str, *argv: str, script: str = "") -> subprocess.CompletedProcess[str]:
    _log.debug("run ip -n %s %s %.500r", namespace, " ".join(argv), script)
    return subprocess.run(["ip", "-n", namespace, *argv], input=script, capture_output=True, text=True, timeout=30)


def _prepare(namespace: str, ifname: str, profile: Profile) -> None:
    with netns.inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # IPv6 would put its own packets on the link unasked; this path exists only where the kernel has IPv6
        with suppress(FileNotFoundError):
            Path(f"/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6").write_text("1\n")
    with sock:
        offload.turn_off(sock, ifname, udp_only=profile == "bulk")
        offload.set_up(sock, ifname)
