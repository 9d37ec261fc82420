"""A shaper host to try things on: a real sshd in a network namespace, its ports veth pairs to two other namespaces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hil.boards.ssh.login import Target
from hil.core import netns, paths
from hil.core.wait import wait_until
from hil.images.pki import ensure_pki
from hil.images.rootfs import ensure_base
from hil.links.engines import offload, rtnl
from hil.links.engines.kernel import KernelAgent
from hil.links.engines.shaper_host import ports
from hil.links.engines.shaper_host.agent import ShaperHostAgent, install, log_in
from hil.links.wires import Port
from tests.kits.kernel_shapes import joined_by_u32

ADDRESS, OURS = "198.19.200.2", "198.19.200.1"
CONFIG = """
Port 22
ListenAddress {address}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
"""
# users of its own, and a home that is not this machine's
START = """
set -e
mount --bind {d}/passwd /etc/passwd
mount --bind {d}/shadow /etc/shadow
mount -t tmpfs tmpfs /run/lock && mkdir -p /run/sshd
exec env LD_LIBRARY_PATH={lib} {sshd} -D -e -f {d}/config
"""


@dataclass(frozen=True)
class LocalShaperHost:
    """Namespaces ``<prefix>near`` (us), ``gw`` (its ports p0 and p1), ``a`` and ``b`` (isl0, cabled to p0 and p1)."""

    prefix: str
    target: Target
    home: Path

    @property
    def namespace(self) -> str:
        return self.prefix + "gw"

    def relays(self) -> list[int]:
        """Process ids of relays that run there."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if str(entry.joinpath("exe").readlink()).startswith(str(self.home / ".cache")):
                    found.append(int(entry.name))
        return sorted(found)

    def state(self) -> str:
        """Its NICs, queueing disciplines and features, as the tools print them."""
        argvs = [["ip", "-o", "link"], ["tc", "qdisc"]]
        said = [
            subprocess.run(netns.argv_inside(self.namespace, argv), capture_output=True, text=True, check=True).stdout
            for argv in argvs
        ]
        with KernelAgent(self.namespace) as agent:
            said += [str(offload.segmenting(partial(agent.ioctl, port), udp_only=False)) for port in ("p0", "p1")]
        lines = "\n".join(said).replace("noop", "noqueue").splitlines()
        # what the kernel gives a NIC by itself when it is first up
        return "\n".join(line for line in lines if not line.startswith("qdisc noqueue"))


@contextmanager
def connected(target: Target) -> Iterator[ShaperHostAgent]:
    """Log in, copy the relay, start it; all of it ends with the block."""
    with log_in(target) as shell, ShaperHostAgent(shell, install(shell)) as agent:
        yield agent


@contextmanager
def at_work(target: Target, mtu: int = 1500) -> Iterator[ShaperHostAgent]:
    """An agent that has changed both ports: flags, MTU, offloads, and all that hangs on them."""
    with connected(target) as agent:
        assert ports.lay(agent, [Port("p0"), Port("p1")], mtus=[mtu, mtu], profile="exact") == ["p0", "p1"]
        index = rtnl.interfaces(agent)
        rtnl.transact(agent, joined_by_u32(index["p0"], index["p1"]))
        yield agent


@contextmanager
def shaper_host(test: str) -> Iterator[LocalShaperHost]:
    prefix = f"hilt-shaper-{test}-{os.getpid()}-"
    spaces = [prefix + name for name in ("near", "gw", "a", "b")]
    with tempfile.TemporaryDirectory(prefix="hilt-shaper-") as scratch:
        directory = Path(scratch)
        directory.chmod(0o755)
        sshd: subprocess.Popen[bytes] | None = None
        try:
            for name in spaces:
                netns.create(name)
            near, shaper, a, b = spaces
            for far, nic, port in ((near, "u0", "mgmt0"), (a, "isl0", "p0"), (b, "isl0", "p1")):
                _ip("-n", far, "link", "add", nic, "up", "type", "veth", "peer", "name", port, "netns", shaper)
            _ip("-n", near, "addr", "add", f"{OURS}/30", "dev", "u0")
            _ip("-n", shaper, "addr", "add", f"{ADDRESS}/30", "dev", "mgmt0")
            _ip("-n", shaper, "link", "set", "mgmt0", "up")
            sshd, target = _serve(shaper, near, directory)
            yield LocalShaperHost(prefix, target, directory / "home")
        finally:
            if sshd is not None:
                sshd.send_signal(signal.SIGKILL)  # and with it its pid namespace
                sshd.wait(timeout=10)
            for name in spaces:
                netns.delete(name)


def _serve(shaper: str, near: str, directory: Path) -> tuple[subprocess.Popen[bytes], Target]:
    pki = ensure_pki()
    base = ensure_base(paths.cache(), lambda line: None) / "tree"
    key = directory / "host_key"
    (directory / "home").mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    authorized = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(pki.ssh_key)], check=True, capture_output=True, text=True
    )
    (directory / "authorized_keys").write_text(authorized.stdout)
    (directory / "passwd").write_text(f"root:x:0:0::{directory}/home:/bin/sh\nsshd:x:74:74::/run/sshd:/bin/false\n")
    (directory / "shadow").write_text("root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n")
    (directory / "config").write_text(CONFIG.format(address=ADDRESS, directory=directory))
    script = START.format(d=directory, sshd=base / "usr/sbin/sshd", lib=base / "usr/lib/x86_64-linux-gnu")
    # a pid namespace of its own: nothing of it can be left
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
    with (directory / "sshd.log").open("wb") as log:
        process = subprocess.Popen(netns.argv_inside(shaper, apart), stdout=log, stderr=log, start_new_session=True)

    def answers() -> bool:
        with suppress(OSError), netns.connect(near, (ADDRESS, 22), timeout_s=1):
            return True
        if process.poll() is not None:
            raise AssertionError((directory / "sshd.log").read_text())
        return False

    wait_until(answers, what="sshd", deadline_s=15, every_s=0.05)
    return process, _target(near, pki.ssh_key, public)


def _target(namespace: str, key: Path, host_key: str) -> Target:
    return Target("shaper host", namespace, ADDRESS, key, host_key, under_test=False)


def _ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True, text=True)


if __name__ == "__main__":  # a client that a test can kill: NAMESPACE KEY HOST_KEY, says "at work", waits for ever
    namespace, key, *host_key = sys.argv[1:]
    with at_work(_target(namespace, Path(key), " ".join(host_key)), mtu=9000):
        print("at work", flush=True)
        signal.pause()
