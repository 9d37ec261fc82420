"""The User-Mode Linux engine: a kernel with netem, as a process, on a host whose kernel has none.

Debian's stock ``linux.uml`` with one raw packet-socket NIC per link end and the relay as its init.  Three bugs of
that kernel (6.1) shape this: it can sleep through a signal, and can lose the edge that says that something came.
The launcher (``native/launcher.c``) looks after both; until the NICs are up, ``relay.py`` nudges the serial line.
And it dies on a processor with more registers than it knows, which ``native/preload/registers.c`` prevents.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from hil.core import netns, paths
from hil.core.processes import identify
from hil.errors import BenchError, ConfigurationError, HilError
from hil.links.engines import cables, mconsole
from hil.links.engines.agent import Agent
from hil.links.engines.kinds import EngineKind, Kernels, LinkNics, Site
from hil.links.engines.process import RelayProcess
from hil.links.engines.relay import Kind, RelayLine, compile_preload, compile_relay
from hil.links.engines.sysctl import big_socket_buffers, left_raised, restore_socket_buffers
from hil.links.wires import Profile

BINARY = "linux.uml"
_UMID = "vm"
MODULES = ("sch_netem", "sch_tbf", "sch_ingress", "cls_matchall", "act_mirred", "act_police", "sch_htb", "cls_u32")
_MODULE_TREE = Path("/usr/lib/uml/modules")
_COMMAND_LINE_MAX = 4000  # the kernel exits at 4096; NICs that do not fit are plugged in when it runs
_NOT_STARTED = ("raid6_select_algo", "calibrate_xor_blocks", "init_btrfs_fs")
"""Benchmarks that a disk driver runs at boot and this kernel has no use for: 1.4 s to ready becomes 0.5 s."""
_MEMORY = {"exact": "512M", "bulk": "768M"}  # an upper bound: the host backs only what was touched
_LINE_MAX = 999  # stands for the number of the serial line's descriptor where only the length matters
_BOOT_DEADLINE_S = 30.0
_ANSWER_DEADLINE_S = 5.0
_NOT_INSTALLED = "User-Mode Linux with its modules is not installed"
_REMEDY = "run `hil setup` as root (it installs the package user-mode-linux)"
_KERNELS_MAX = 4
_NUDGE_S = 0.02
# When this kernel coalesces received TCP segments (GRO), the payload of all but the first reads as zeros, behind a
# checksum that it vouches for; found by comparing bytes end to end.  Profile exact turns coalescing off.  Profile
# bulk needs the feature, which is also what makes the receive buffers large, so there packets are taken one at a
# time, which leaves nothing to coalesce.
_DEPTH = {"exact": 64, "bulk": 1}
_ETHTOOL_SGRO = 0x2C
_ETHERNET_OVERHEAD_B = 18  # header and a VLAN tag
_serial = itertools.count(1)

# ld #pkttype; jeq #PACKET_OUTGOING, drop, keep: a raw socket also sees what it sent itself
_NO_OUTGOING = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in ((0x30, 0, 0, 0xFFFFF004), (0x15, 0, 1, 4), (0x06, 0, 0, 0), (0x06, 0, 0, 0x40000))
)


def release() -> str | None:
    """Return the kernel release of the installed User-Mode Linux that also has its modules; None without one."""
    binary = shutil.which(BINARY)
    if binary is None:
        return None
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10)
    version = done.stdout.strip()
    return version if version and all(_module(version, name).exists() for name in MODULES) else None


class UmlAgent(Agent):
    """One User-Mode Linux in ``namespace``; its NIC ``vec<i>`` is joined to ``nics[i]`` there.

    Ends with this process, however this process ends.  BenchError when it does not come up, with the end of its
    console.
    """

    def __init__(self, namespace: str, nics: Sequence[str], *, mtu: int, profile: Profile = "exact") -> None:
        version = release()
        if version is None:
            raise BenchError(_NOT_INSTALLED, remedy=_REMEDY)
        self._profile, self._nics = profile, len(nics)
        root = _root_directory(compile_relay(), version)
        self.directory = paths.run_dir() / "uml" / f"{os.getpid()}-{next(_serial)}"
        shutil.rmtree(self.directory, ignore_errors=True)  # of an earlier process with this pid
        self.directory.mkdir(parents=True)
        cards = _cards(nics, mtu=mtu, profile=profile)
        fitting = _fitting(_kernel_argv(root, self.directory, _LINE_MAX, profile=profile), cards)
        self._process = self._launched(namespace, root, cards[:fitting])
        self._line = RelayLine(self._process.sock, name="User-Mode Linux", nudge_s=_NUDGE_S)
        self._deadline_s = _BOOT_DEADLINE_S
        self._boot(plugged_in_later=cards[fitting:])
        self._deadline_s = _ANSWER_DEADLINE_S

    def _launched(self, namespace: str, root: Path, cards: Sequence[str]) -> RelayProcess:
        """Start the kernel with these cards on its command line."""

        def argv(line: int, lifeline: int) -> list[str]:
            kernel = [*_kernel_argv(root, self.directory, line, profile=self._profile), *cards]
            return [str(root / "init"), "launch", str(netns.path_of(namespace)), str(lifeline), *kernel]

        try:
            return RelayProcess(
                argv_for=argv,
                name="User-Mode Linux",
                log=self.directory / "console.log",
                cwd=root,
                env={"LD_PRELOAD": str(compile_preload())},
            )
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def _boot(self, *, plugged_in_later: Sequence[str]) -> None:
        """Wait until the relay in it answers, then plug in the cards that the command line had no room for."""
        try:
            self.ask(Kind.HELLO)  # before the greeting, which would take the console away
            self._greet()
            if plugged_in_later:
                mconsole.configure(self.directory / _UMID, plugged_in_later, nudge=self.clock)
        except BaseException as exc:
            console = self._console()
            self.close()
            if not isinstance(exc, HilError):
                raise
            what = f"User-Mode Linux did not come up: {exc.message}\n{console}"
            raise BenchError(what, remedy="run `hil doctor`") from exc

    @property
    def pid(self) -> int:
        """The launcher's process; killing it ends the engine."""
        return self._process.pid

    def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
        return self._line.ask(kind, payload, deadline_s=self._deadline_s)

    def set_up_nics(self, indexes: Sequence[int]) -> None:
        with big_socket_buffers():
            super().set_up_nics(indexes)
        if self._profile == "exact":  # after they are up: coming up turns it on
            for index in range(self._nics):
                self.ioctl(f"vec{index}", struct.pack("=II", _ETHTOOL_SGRO, 0))
        self._process.signal_ready()
        console = self._console()
        if "reading bpf file" in console:  # it goes on without the filter, and frames go round in circles
            what = f"User-Mode Linux has no packet filter:\n{console}"
            raise BenchError(what, remedy="`hil clean`, then again")

    def _console(self) -> str:
        """Return the end of its console, where it complains."""
        with suppress(OSError):
            return (self.directory / "console.log").read_text(errors="replace")[-1500:].strip()
        return ""

    def close(self) -> None:
        self._line.close()
        self._process.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def _kernel_argv(root: Path, directory: Path, line: int, *, profile: str) -> list[str]:
    return [
        shutil.which(BINARY) or BINARY,
        *("rootfstype=hostfs", f"rootflags={root}", "ro", "init=/init", f"mem={_MEMORY[profile]}", "quiet"),
        *("con=null", "con0=null,fd:1", "ssl=null", f"ssl0=fd:{line}"),
        *(f"uml_dir={directory}/", f"umid={_UMID}", "dummy.numdummies=0", "ifb.numifbs=0"),
        f"MODS={','.join(MODULES)}",
        f"initcall_blacklist={','.join(_NOT_STARTED)}",
    ]


def _cards(nics: Sequence[str], *, mtu: int, profile: str) -> list[str]:
    """Return its NICs as arguments, each joined to one of ours."""
    gro = int(profile == "bulk")
    return [
        f"vec{index}:transport=raw,ifname={nic},depth={_DEPTH[profile]},mtu={mtu + _ETHERNET_OVERHEAD_B},gro={gro},"
        "bpffile=b"  # relative to the directory it is started in: a command line holds 4 KB
        for index, nic in enumerate(nics)
    ]


def _fitting(argv: Sequence[str], cards: Sequence[str]) -> int:
    """Return how many cards the command line holds besides the rest."""
    lengths = itertools.accumulate((1 + len(card) for card in cards), initial=len(" ".join(argv)))
    return sum(length <= _COMMAND_LINE_MAX for length in lengths) - 1


def _root_directory(relay: Path, version: str) -> Path:
    """Prepare the file system it sees: the relay, its modules, two mount points, and nothing of the host."""
    files = {
        "init": relay.read_bytes(),
        "b": _NO_OUTGOING,
        **{f"mod/{name}.ko": _module(version, name).read_bytes() for name in MODULES},
    }
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)} ".encode() + content)
    target = paths.cache() / "relay" / digest.hexdigest()[:16]
    if " " in str(target) or "," in str(target):
        raise ConfigurationError(f"{target} has a space or a comma", remedy="set HIL_HOME to a plain path")
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as directory:
            scratch = Path(directory, "root")
            for mount in ("dev", "mod"):
                (scratch / mount).mkdir(parents=True)
            for name, content in files.items():
                (scratch / name).write_bytes(content)
            (scratch / "init").chmod(0o755)
            scratch.rename(target)
    except OSError as exc:
        if not target.exists():  # else another bench was faster
            raise BenchError(f"cannot prepare {target}: {exc}", remedy="check space and rights") from exc
    return target


def _module(version: str, name: str) -> Path:
    return _MODULE_TREE / version / "kernel/net/sched" / f"{name}.ko"


def kernels_for(links: int) -> int:
    """Return how many User-Mode Linuxes share so many links: one per core that we may use, at most four.

    One of them uses one core and serves one link at a time, so a link that is full holds up its neighbours: on two
    cores the 95th percentile of a neighbour's delay error was 1.4 ms beside it, and 0.1 ms with a kernel of its own.
    """
    return max(1, min(links, len(os.sched_getaffinity(0)), _KERNELS_MAX))


def deal(rates_bps: Sequence[float], kernels: int) -> list[int]:
    """Return the kernel of each link: dealt out like cards, the fastest first, so that those that fill up are apart."""
    order = sorted(range(len(rates_bps)), key=lambda index: -rates_bps[index])
    kernel_of = {index: turn % kernels for turn, index in enumerate(order)}
    return [kernel_of[index] for index in range(len(rates_bps))]


def _start(site: Site, undo: ExitStack) -> Kernels:
    laid = cables.lay_all(site.namespace, site.wires, site.profile, undo)
    rates_bps = [max(s.rate_bps or math.inf for s in (w.a_to_b, w.b_to_a)) for w in site.wires]
    kernel_of = deal(rates_bps, site.kernels or kernels_for(len(laid)))
    nics: list[list[str]] = [[] for _ in range(max(kernel_of) + 1)]
    places = []
    for kernel, (a, b) in zip(kernel_of, laid, strict=True):
        first = len(nics[kernel])
        places.append(LinkNics(kernel, f"vec{first}", f"vec{first + 1}"))
        nics[kernel] += [a.nic, b.nic]
    mtu = max(wire.a_to_b.mtu for wire in site.wires)

    def start(own: Sequence[str]) -> UmlAgent:
        return UmlAgent(site.namespace, own, mtu=mtu, profile=site.profile)

    with ThreadPoolExecutor(len(nics)) as pool:
        started = [pool.submit(start, own) for own in nics]
    for future in started:  # first those that came up, so that they end when another did not
        if future.exception() is None:
            undo.callback(future.result().close)
    agents = tuple(future.result() for future in started)
    return Kernels(agents, tuple(places), f"{len(agents)} kernels share the links" if len(agents) > 1 else "")


def _leftovers() -> dict[str, Callable[[], object]]:
    """Return directories (``uml/<pid of the owner>-<n>``) and raised host settings of owners that were killed."""
    left: dict[str, Callable[[], object]] = {}
    for directory in sorted((paths.run_dir() / "uml").glob("*-*")):
        owner = directory.name.partition("-")[0]
        if owner.isdigit() and not identify(int(owner)):
            left[str(directory)] = partial(shutil.rmtree, directory, ignore_errors=True)
    if left_raised():
        left["socket buffer sizes, raised for a moment"] = restore_socket_buffers
    return left


UML = EngineKind(
    about="User-Mode Linux, whose kernel has netem",
    lacking=lambda: "" if release() else _NOT_INSTALLED,
    remedy=_REMEDY,
    start=_start,
    leftovers=_leftovers,
    rank=1,
)
