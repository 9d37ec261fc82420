"""A shaper host to try things on that is another machine: User-Mode Linux with netem, 8021q and a clock of its own.

Debian's kernel and userland, with a real sshd; nothing of it is this machine's kernel, which may lack all of that.
Its NICs are joined to veth pairs; a switch stands before its trunk.  See ``shaper_host_cables.py`` and
docs/shaper-host.md.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hil.boards.ssh.login import Target
from hil.core import netns, paths
from hil.core.wait import wait_until
from hil.errors import BenchError
from hil.images.pki import ensure_pki
from hil.images.rootfs import ensure_base
from hil.links.engines import offload, uml
from hil.links.engines.process import RelayProcess
from hil.links.engines.relay import compile_preload, compile_relay
from hil.links.engines.shaper_host import ports
from hil.links.engines.shaper_host.agent import ShaperHostAgent, install, log_in
from hil.links.engines.sysctl import big_socket_buffers

ADDRESS, OURS = "198.19.200.2", "198.19.200.1"
TRUNK, PORTS = "trunk", ("p0", "p1", "p2", "p3")
VLANS = (101, 102, 103, 104)
_MODULES = (*uml.MODULES, "llc", "stp", "garp", "mrp", "8021q")
_MODULE_TREE = Path("/usr/lib/uml/modules")
_NOT_STARTED = "raid6_select_algo,calibrate_xor_blocks,init_btrfs_fs"  # benchmarks of a second, at boot
_BOOT_S = 40.0
# ld #pkttype; jeq #PACKET_OUTGOING, drop, keep: a raw socket also sees what it sent itself
_NO_OUTGOING = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in ((0x30, 0, 0, 0xFFFFF004), (0x15, 0, 1, 4), (0x06, 0, 0, 0), (0x06, 0, 0, 0x40000))
)
_MTU = 1500
_TAGS_B = 8
_SSHD = """
Port 22
ListenAddress {address}
HostKey /mnt/host_key
AuthorizedKeysFile /mnt/authorized_keys
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
"""
_INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for place in run tmp root etc; do mount -t tmpfs tmpfs /$place; done
mkdir -p /run/sshd /dev/shm
cp /mnt/passwd /mnt/shadow /etc
hostname shaper
for module in {modules}; do insmod /mnt/mod/$module.ko; done
ip link set lo up
n=0
for nic in mgmt0 {nics}; do
    ip link set vec$n name $nic
    ip link set $nic mtu {mtu} up
    n=$((n + 1))
done
ip addr add {address}/30 dev mgmt0
echo ready > /dev/ttyS0
/usr/sbin/sshd -D -e -f /mnt/sshd_config
"""


@dataclass(frozen=True)
class Machine:
    """The shaper host that runs.

    ``near`` are NICs of this machine, without addresses: the first four lead to its whole ports ``p0`` to ``p3``,
    the other four are access ports of a switch, VLANs 101 to 104 of its port ``trunk``.
    """

    target: Target
    release: str
    near: tuple[str, ...]
    relay: str  # where it is there

    def run(self, script: str) -> str:
        """What a shell script prints there."""
        with log_in(self.target) as shell:
            return shell.run(["sh", "-c", script]).stdout

    def relays(self) -> list[int]:
        """Process ids, there, of relays that run there."""
        return [int(n) for n in self.run(f"pidof {Path(self.relay).name} || true").split()]

    def state(self) -> str:
        """All that a bench changes there: NICs, their flags, MTU, queueing disciplines, IPv6 modes and features."""
        with log_in(self.target) as shell, ShaperHostAgent(shell, self.relay) as agent:
            nics = ports.nics(agent)
            features = {
                name: offload.segmenting(partial(agent.ioctl, name), udp_only=False) for name in (*PORTS, TRUNK)
            }
        return "\n".join(f"{name} {nic} {features.get(name)}" for name, nic in sorted(nics.items()))


@contextmanager
def machine() -> Iterator[Machine]:
    """Boot it; it ends with this process, however that ends."""
    release = uml.release()
    if release is None:
        raise BenchError("User-Mode Linux is not installed", remedy="run `hil setup` as root")
    near = tuple(f"hgw{side}{n}-{os.getpid() % 10_000}" for side in "pv" for n in range(4))
    with ExitStack() as stack:
        kit = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hilt-machine-")))
        kit.chmod(0o755)
        public = _furnish(kit, release)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = int(listener.getsockname()[1])
            far = stack.enter_context(_far_side(listener))
        cabling = f"/proc/{far.pid}/ns/net"
        _ip("link", "add", "u0", "type", "veth", "peer", "name", "mgmt0", inside=cabling)
        _ip("addr", "add", f"{OURS}/30", "dev", "u0", inside=cabling)
        _ip("link", "add", "t0", "type", "veth", "peer", "name", TRUNK, inside=cabling)
        for nic in ("u0", "mgmt0", "t0", TRUNK):
            # a trunk's frames are longer by their tags
            mtu = _MTU + (_TAGS_B if nic in ("t0", TRUNK) else 0)
            _ip("link", "set", nic, "mtu", str(mtu), "addrgenmode", "none", "up", inside=cabling)
            _plain(cabling, nic)
        for name, other in zip(near, (*PORTS, *(f"s{n}" for n in VLANS)), strict=True):
            stack.callback(_remove, name)
            _cable(far.pid, name, other)
        _boot(cabling, kit, stack)
        assert far.stdin is not None
        far.stdin.write(b"\n")
        far.stdin.flush()
        key = ensure_pki().ssh_key
        target = Target("shaper host", netns.HOST, "127.0.0.1", key, public, port, under_test=False)
        shell = wait_until(lambda: log_in(target), what="sshd of the shaper host", deadline_s=20)
        with shell:
            relay = install(shell)
        yield Machine(target, release, near, relay)


@contextmanager
def _far_side(listener: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """The process whose network namespace has the other ends of all cables; they go with it, as it does with us."""
    access = [f"s{vlan}={vlan}" for vlan in VLANS]
    module = [sys.executable, "-m", "tests.kits.shaper_host_cables"]
    process = subprocess.Popen(
        ["unshare", "--net", *module, str(listener.fileno()), ADDRESS, "t0", *access],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=paths.ROOT,
        pass_fds=[listener.fileno()],
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "the process with the cables did not start"
        yield process
    finally:
        process.kill()
        process.communicate()


def _cable(pid: int, near: str, far: str) -> None:
    """One veth pair."""
    size = ("mtu", str(_MTU))
    _ip("link", "add", near, *size, "type", "veth", "peer", "name", far, *size, "netns", str(pid))
    _ip("link", "set", near, "addrgenmode", "none", "up")
    cabling = f"/proc/{pid}/ns/net"
    _ip("link", "set", far, "addrgenmode", "none", "up", inside=cabling)
    _plain(netns.HOST, near)
    _plain(cabling, far)


def _plain(namespace: str, nic: str) -> None:
    """A cable has no frames longer than its MTU."""
    with netns.datagram(namespace) as sock:
        offload.turn_off(sock, nic, udp_only=False)


def _furnish(kit: Path, release: str) -> str:
    """Everything that is this machine's own: init, modules, accounts, keys. Its public host key."""
    key = kit / "host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    may = ["ssh-keygen", "-y", "-f", str(ensure_pki().ssh_key)]
    (kit / "authorized_keys").write_text(subprocess.run(may, check=True, capture_output=True, text=True).stdout)
    (kit / "passwd").write_text("root:x:0:0::/root:/bin/sh\nsshd:x:74:74::/run/sshd:/bin/false\n")
    (kit / "shadow").write_text("root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n")
    (kit / "sshd_config").write_text(_SSHD.format(address=ADDRESS))
    (kit / "b").write_bytes(_NO_OUTGOING)
    (kit / "mod").mkdir()
    for name in _MODULES:
        (source,) = (_MODULE_TREE / release / "kernel/net").glob(f"*/{name}.ko")
        shutil.copy(source, kit / "mod")
    init = kit / "init"
    script = _INIT.format(modules=" ".join(_MODULES), nics=" ".join((*PORTS, TRUNK)), address=ADDRESS, mtu=_MTU)
    init.write_text(script)
    init.chmod(0o755)
    return key.with_suffix(".pub").read_text().strip()


def _boot(cabling: str, kit: Path, stack: ExitStack) -> None:
    """Its root is Debian's userland, read-only; ``kit`` is bound over /mnt there, for this process tree alone."""
    tree = ensure_base(paths.cache(), lambda line: None) / "tree"
    nics = ("mgmt0", *PORTS, TRUNK)
    cards = [
        f"vec{n}:transport=raw,ifname={nic},depth=64,mtu={_MTU + 18 + _TAGS_B},gro=0,bpffile=b"
        for n, nic in enumerate(nics)
    ]

    def argv(line: int, lifeline: int) -> list[str]:
        kernel = [
            *(shutil.which(uml.BINARY) or uml.BINARY, "rootfstype=hostfs", f"rootflags={tree}", "ro"),
            *("init=/mnt/init", "mem=256M", "quiet", "con=null", "con0=null,fd:1", "ssl=null"),
            *(f"ssl0=fd:{line}", f"uml_dir={kit}/", "umid=shaper", f"initcall_blacklist={_NOT_STARTED}"),
            *cards,
        ]
        bound = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
        launcher = [str(compile_relay()), "launch", str(netns.path_of(cabling)), str(lifeline)]
        apart = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", bound, "sh"]
        return [*apart, str(kit), str(tree / "mnt"), *launcher, *kernel]

    with big_socket_buffers():
        log, preload = kit / "console.log", {"LD_PRELOAD": str(compile_preload())}
        process = RelayProcess(argv_for=argv, name="the shaper host", log=log, cwd=kit, env=preload)
        stack.callback(process.close)
        process.sock.settimeout(0.1)
        said = b""

        def ready() -> bool:
            nonlocal said
            with suppress(TimeoutError):
                said += process.sock.recv(100)
            if process.exit_status() is not None:
                raise AssertionError(log.read_text(errors="replace"))
            return b"ready" in said

        wait_until(ready, what="the shaper host to boot", deadline_s=_BOOT_S)
    process.signal_ready()


def _remove(nic: str) -> None:
    subprocess.run(["ip", "link", "delete", nic], capture_output=True)


def _ip(*argv: str, inside: str = netns.HOST) -> None:
    done = subprocess.run(netns.argv_inside(inside, ["ip", *argv]), capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"`ip {' '.join(argv)}` failed: {done.stderr.strip()}")
