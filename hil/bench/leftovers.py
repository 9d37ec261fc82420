"""What a killed run can leave on this host, and how each kind of it is found and taken away.

A bench is *live* while its keeper is: what belongs to a live bench is not a leftover.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from hil.bench.state import bench_dir, disk_dir, is_live, known_benches
from hil.core import kinds, netns, paths
from hil.core.command import Runner, run
from hil.core.mounts import mounts_under, unmount
from hil.core.processes import PROC, Process, ProcessId, end, identify, processes
from hil.core.wait import wait_until
from hil.errors import BenchError, HilError
from hil.host.apt_no_start import ServiceGuard
from hil.host.engine import dockerd, engine
from hil.host.engine.dockerd import EngineFiles, call

LABEL = "hil.bench"
NAMESPACE_PREFIX = "hil."
NIC_PREFIX = "hil"
KEEPER_MODULE = "hil.bench.keeper"
CALL_TIMEOUT_S = 60.0
DYING_S = 3.0


@dataclass(frozen=True)
class Leftover:
    """One thing that should not be there."""

    kind: str
    name: str
    bench: str = ""
    detail: str = ""

    def __str__(self) -> str:
        of = f" of bench {self.bench}" if self.bench else ""
        return f"{self.kind} {self.name}{of}" + (f" ({self.detail})" if self.detail else "")


class Kind(Protocol):
    """One kind of leftover."""

    def find(self, live: Collection[str]) -> Iterator[Leftover]:
        """What is there and belongs to no bench in ``live``."""
        ...

    def remove(self, leftover: Leftover) -> None:
        """Take one away; no error when it is gone already. BenchError when it cannot be removed."""
        ...


def keepers(proc: Path = PROC) -> dict[str, ProcessId]:
    """Keeper processes that run on this host, by bench, wherever their run-time directory is."""
    found = {}
    for process in processes(proc):
        if KEEPER_MODULE in process.argv and "--name" in process.argv[:-1]:
            found[process.argv[process.argv.index("--name") + 1]] = process.id
    return found


def live_benches() -> set[str]:
    """Return benches whose keeper is alive: it holds the bench's lock, or is about to take or release it.

    A keeper that was killed keeps its lock until its last thread has ended, which is waited for.
    """
    running = set(keepers())
    held = {name for name in known_benches() if is_live(name)}
    for name in held - running:
        with suppress(HilError):
            wait_until(
                partial(_is_free, name), what=f"the killed keeper of {name} to end", deadline_s=DYING_S
            )
    return {name for name in held if is_live(name)} | running


def _is_free(name: str) -> bool:
    return not is_live(name)


def strangers(files: EngineFiles | None = None) -> list[ProcessId]:
    """Processes that use the container engine without being a keeper: tests, a set-up; this one not counted."""
    known = set(keepers().values())
    users = engine.users(files or EngineFiles.default())
    return sorted({u for u in users if u.pid != os.getpid()} - known, key=lambda u: u.pid)


class Containers:
    """Board containers, in the user's engine or in ours; ours is started for it when it is down.

    While a test or a set-up uses the engine, containers without a keeper may be its: then none is a leftover.
    """

    def __init__(self, files: EngineFiles | None = None) -> None:
        self._files = files or EngineFiles.default()

    def find(self, live: Collection[str]) -> Iterator[Leftover]:
        if strangers(self._files):
            return
        for socket in self._sockets():
            query = quote(json.dumps({"label": [LABEL]}))
            _, answer = call(socket, "GET", f"/containers/json?all=1&filters={query}", CALL_TIMEOUT_S)
            for one in answer if isinstance(answer, list) else ():
                bench = str(one.get("Labels", {}).get(LABEL, ""))
                if bench not in live:
                    name = str((one.get("Names") or [one["Id"]])[0]).lstrip("/")
                    yield Leftover("container", name, bench, str(one.get("State", "")))
        if not dockerd.answers(self._files.socket):
            for name, bench in stored_containers(self._files.data):
                if bench not in live:
                    yield Leftover("container", name, bench, "in our stopped engine")

    def remove(self, leftover: Leftover) -> None:
        if not any(self._remove_at(socket, leftover.name) for socket in self._sockets()):
            # Left running for the next one; the kind Engine, which comes last, stops it.
            engine.connect(self._files).close()
            self._remove_at(self._files.socket, leftover.name)

    def _remove_at(self, socket: Path, name: str) -> bool:
        status, answer = call(socket, "DELETE", f"/containers/{quote(name)}?force=1&v=1", CALL_TIMEOUT_S)
        if status in (0, 404):
            return False
        # 409: somebody else removes it at this moment.
        if status not in (204, 409):
            said = answer.get("message", "") if isinstance(answer, dict) else ""
            raise BenchError(f"Docker would not remove container {name}: {said}", remedy="see `hil doctor`")
        return True

    def _sockets(self) -> list[Path]:
        candidates = [self._files.socket]
        with suppress(Exception):
            if found := engine.find(self._files):
                candidates.append(Path(found.url.removeprefix("unix://")))
        return [s for s in dict.fromkeys(candidates) if dockerd.answers(s)]


def stored_containers(data: Path) -> list[tuple[str, str]]:
    """(name, bench) of our containers in an engine's data directory, read from its files."""
    found = []
    for file in sorted(data.glob("containers/*/config.v2.json")):
        with suppress(OSError, ValueError, AttributeError):
            config = json.loads(file.read_text())
            labels = config.get("Config", {}).get("Labels") or {}
            if LABEL in labels:
                found.append((str(config["Name"]).lstrip("/"), str(labels[LABEL])))
    return found


class Namespaces:
    """Named network namespaces ``hil.<bench>.<node>``; their NICs go with them."""

    def find(self, live: Collection[str]) -> Iterator[Leftover]:
        for name in netns.names(NAMESPACE_PREFIX):
            _, bench, *rest = name.split(".")
            if bench == "probe" and rest and rest[0].isdigit() and identify(int(rest[0])):
                continue  # `hil.probe.<pid>`: a process tries what the kernel can do, this moment
            if bench not in live:
                yield Leftover("namespace", name, bench)

    def remove(self, leftover: Leftover) -> None:
        netns.delete(leftover.name)


class Nics:
    """Veth pairs of ours in the host's own namespace."""

    def __init__(self, runner: Runner = run) -> None:
        self._run = runner

    def find(self, live: Collection[str]) -> Iterator[Leftover]:
        if live:
            return  # a NIC that a live bench is just moving to its namespace has no bench in its name
        done = self._run(["ip", "-json", "link", "show", "type", "veth"])
        with suppress(ValueError):
            for nic in json.loads(done.stdout or "[]"):
                name = str(nic.get("ifname", ""))
                if name.startswith(NIC_PREFIX):
                    yield Leftover("nic", name)

    def remove(self, leftover: Leftover) -> None:
        done = self._run(["ip", "link", "delete", "dev", leftover.name])
        if not done.ok and "Cannot find device" not in done.stderr:
            raise BenchError(f"cannot remove NIC {leftover.name}: {done.tail(1)}")


class Processes:
    """User-Mode Linux and relays that outlived their keeper."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc

    def find(self, live: Collection[str]) -> Iterator[Leftover]:
        everybody = {p.id.pid: p for p in processes(self._proc)}
        for process in everybody.values():
            if (name := ours(process)) and not self._has_parent(process, everybody):
                yield Leftover("process", f"{process.id}", detail=name)

    def remove(self, leftover: Leftover) -> None:
        end(ProcessId.parse(leftover.name), what=leftover.detail, term_s=1.0)

    @staticmethod
    def _has_parent(process: Process, everybody: dict[int, Process]) -> bool:
        """Return True when some Python above it still runs: a keeper, a test, a set-up that looks after it."""
        seen = process
        while above := everybody.get(seen.parent):
            if "python" in Path(above.argv[0]).name or KEEPER_MODULE in above.argv:
                return True
            seen = above
        return False


def ours(process: Process) -> str:
    """Return what a process of the link box is; empty when it is not one, or belongs to another ``HIL_RUN``."""
    program = Path(process.argv[0]).name
    run_dir, cache = f"{paths.run_dir()}/", f"{paths.cache()}/"
    if program.startswith("linux") and any(a.startswith("uml_dir=" + run_dir) for a in process.argv):
        return "User-Mode Linux of a link box"
    if process.argv[0].startswith(cache) and "relay" in process.argv[0]:
        return "relay of a link box"
    return ""


class Mounts:
    """Mounts below our directories; the container engine's own are its business."""

    def __init__(self, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
        self._mountinfo = mountinfo

    def find(self, live: Collection[str]) -> Iterator[Leftover]:
        files = EngineFiles.default()
        spared = [files.data, files.exec_root]
        for name in live:
            spared += [bench_dir(name), disk_dir(name)]
        # The directories themselves may be mount points of the user: a disk of their own, a tmpfs.
        keep = {paths.home(), paths.run_dir(), files.data}
        for point in mounts_under(paths.home(), paths.run_dir(), mountinfo=self._mountinfo):
            if point not in keep and not any(d == point or d in point.parents for d in spared):
                yield Leftover("mount", str(point))

    def remove(self, leftover: Leftover) -> None:
        unmount(Path(leftover.name))


class LoopDevices:
    """Loop devices whose file lies below our home."""

    def __init__(self, block: Path = Path("/sys/block"), runner: Runner = run) -> None:
        self._block = block
        self._run = runner

    def find(self, live: Collection[str]) -> Iterator[Leftover]:
        spared = [disk_dir(name) for name in live]
        for device in sorted(self._block.glob("loop*")):
            try:
                text = (device / "loop" / "backing_file").read_text().rstrip("\n")
            except OSError:
                continue  # not attached
            backing = Path(text.removesuffix(" (deleted)"))
            if paths.home() in backing.parents and not any(d in backing.parents for d in spared):
                yield Leftover("loop device", device.name, _bench_of(backing), str(backing))

    def remove(self, leftover: Leftover) -> None:
        done = self._run(["losetup", "--detach", f"/dev/{leftover.name}"])
        if not done.ok and "No such device" not in done.stderr:
            raise BenchError(f"cannot detach {leftover.name}: {done.tail(1)}")


def _bench_of(path: Path) -> str:
    root = paths.home() / "bench"
    return path.relative_to(root).parts[0] if root in path.parents else ""


class Directories:
    """Run-time directories and board disks of benches that are gone."""

    def find(self, live: Collection[str]) -> Iterator[Leftover]:
        for root, kind in ((paths.run_dir() / "bench", "bench"), (paths.home() / "bench", "board disks")):
            for directory in sorted(root.iterdir()) if root.is_dir() else ():
                if directory.is_dir() and directory.name not in live:
                    yield Leftover(kind, str(directory), directory.name)

    def remove(self, leftover: Leftover) -> None:
        shutil.rmtree(leftover.name, ignore_errors=True)
        if Path(leftover.name).exists():
            raise BenchError(f"cannot remove {leftover.name}", remedy="is something mounted in it?")


class LinkEngines:
    """What link engines left of owners that are gone; each kind of engine knows its own."""

    def __init__(self) -> None:
        self._removers: dict[str, Callable[[], object]] = {}

    def find(self, live: Collection[str]) -> Iterator[Leftover]:
        for kind in kinds.all_of(kinds.ENGINES).values():
            for name, remove in kind.leftovers().items():
                self._removers[name] = remove
                yield Leftover("link engine", name)

    def remove(self, leftover: Leftover) -> None:
        self._removers[leftover.name]()


class PackageGuard:
    """The ``policy-rc.d`` of a set-up that was killed while apt worked."""

    def __init__(self, guard: ServiceGuard, busy: Callable[[], bool]) -> None:
        self._guard = guard
        self._busy = busy

    def find(self, live: Collection[str]) -> Iterator[Leftover]:
        if self._guard.needed() and not self._busy():
            yield Leftover("package guard", str(self._guard.policy), detail="no service could start")

    def remove(self, leftover: Leftover) -> None:
        self._guard.recover()


class Engine:
    """Our own dockerd without users, and what a dockerd that was killed left running."""

    def __init__(self, files: EngineFiles | None = None) -> None:
        self._files = files or EngineFiles.default()

    def find(self, live: Collection[str]) -> Iterator[Leftover]:
        daemon = dockerd.started(self._files)
        if daemon and not engine.users(self._files):
            yield Leftover("container engine", "dockerd", detail=f"ours, pid {daemon.pid}, nobody uses it")
        elif not daemon and not dockerd.answers(self._files.socket):
            for who, name in dockerd.own_processes(self._files):
                yield Leftover("container engine", name, detail=f"pid {who.pid}, its dockerd is gone")

    def remove(self, leftover: Leftover) -> None:
        if dockerd.started(self._files):
            engine.stop_if_ours(self._files)
        else:
            engine.remove_remains(self._files)
