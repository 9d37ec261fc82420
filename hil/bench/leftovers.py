"""What a killed run can leave on this host, and how each kind of it is found and taken away.

A bench is *live* while its keeper is: what belongs to a live bench is not a leftover.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from hil.bench.state import bench_dir, disk_dir, is_live, known_benches
from hil.core import kinds, netns, paths
from hil.core.command import Runner, run
from hil.core.mounts import MOUNTINFO, mounts_under, unmount
from hil.core.processes import PROC, Process, ProcessId, end, identify, processes
from hil.core.wait import wait_until
from hil.errors import BenchError, HilError
from hil.host.apt_no_start import ServiceGuard
from hil.host.engine import dockerd, engine
from hil.host.engine.dockerd import EngineFiles, call

if TYPE_CHECKING:
    from docker import DockerClient

LABEL = "hil.bench"
NAMESPACE_PREFIX = "hil."
KEEPER_MODULE = "hil.bench.keeper"
CALL_TIMEOUT_S = 60.0
DYING_S = 3.0


@dataclass(frozen=True)
class Leftover:
    """One thing that should not be there."""

    kind: str
    name: str
    remove: Callable[[], object]
    """Takes it away; no error when it is gone already. BenchError when it cannot be removed."""
    bench: str = ""
    detail: str = ""

    def __str__(self) -> str:
        of = f" of bench {self.bench}" if self.bench else ""
        return f"{self.kind} {self.name}{of}" + (f" ({self.detail})" if self.detail else "")

    def as_json(self) -> dict[str, str]:
        """``{"kind", "name", "bench", "detail"}``."""
        return {"kind": self.kind, "name": self.name, "bench": self.bench, "detail": self.detail}


Finder = Callable[[Collection[str]], Iterator[Leftover]]
"""One kind of leftover: what is there of it and belongs to no bench among those that are live."""


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
    dying = held - running
    with suppress(HilError):
        wait_until(lambda: not any(map(is_live, dying)), what="keepers that were killed to end", deadline_s=DYING_S)
    return {name for name in held if is_live(name)} | running


def strangers() -> list[ProcessId]:
    """Processes that use the container engine without being a keeper: tests, a set-up; this one not counted."""
    known = set(keepers().values())
    users = engine.users(EngineFiles.default())
    return sorted({u for u in users if u.pid != os.getpid()} - known, key=lambda u: u.pid)


def user_mode_linux(live: Collection[str], proc: Path = PROC) -> Iterator[Leftover]:
    """User-Mode Linux and relays that outlived their keeper."""
    everybody = {p.id.pid: p for p in processes(proc)}
    for process in everybody.values():
        if (name := ours(process)) and not _has_parent(process, everybody):
            remove = partial(end, process.id, what=name, term_s=1.0)
            yield Leftover("process", f"{process.id}", remove, detail=name)


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


def containers(live: Collection[str]) -> Iterator[Leftover]:
    """Board containers, in the user's engine or in ours; ours is started for it when it is down.

    While a test or a set-up uses the engine, containers without a keeper may be its: then none is a leftover.
    """
    files = EngineFiles.default()
    for name, bench, state in () if strangers() else _containers(files):
        if bench not in live:
            yield Leftover("container", name, partial(_remove_container, files, name), bench, state)


def _containers(files: EngineFiles) -> Iterator[tuple[str, str, str]]:
    """(name, bench, state) of our containers in every engine."""
    for socket in _sockets(files):
        query = quote(json.dumps({"label": [LABEL]}))
        _, answer = call(socket, "GET", f"/containers/json?all=1&filters={query}", CALL_TIMEOUT_S)
        for one in answer if isinstance(answer, list) else ():
            name = str((one.get("Names") or [one["Id"]])[0]).lstrip("/")
            yield name, str(one.get("Labels", {}).get(LABEL, "")), str(one.get("State", ""))
    if not dockerd.answers(files.socket):
        for name, bench in stored_containers(files.data):
            yield name, bench, "in our stopped engine"


def _remove_container(files: EngineFiles, name: str) -> None:
    if not any(_remove_at(socket, name) for socket in _sockets(files)):
        # Left running for the next one; the finder of engines, which comes last, stops it.
        engine.connect(files).close()
        _remove_at(files.socket, name)


def _remove_at(socket: Path, name: str) -> bool:
    status, answer = call(socket, "DELETE", f"/containers/{quote(name)}?force=1&v=1", CALL_TIMEOUT_S)
    if status in (0, 404):
        return False
    # 409: somebody else removes it at this moment.
    if status not in (204, 409):
        said = answer.get("message", "") if isinstance(answer, dict) else ""
        raise BenchError(f"Docker would not remove container {name}: {said}", remedy="see `hil doctor`")
    return True


def _sockets(files: EngineFiles) -> list[Path]:
    candidates = [files.socket]
    with suppress(Exception):
        if found := engine.find(files):
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


def namespaces(live: Collection[str]) -> Iterator[Leftover]:
    """Named network namespaces ``hil.<bench>.<node>``; their NICs go with them."""
    for name in netns.names(NAMESPACE_PREFIX):
        _, bench, *rest = name.split(".")
        if bench == "probe" and rest and rest[0].isdigit() and identify(int(rest[0])):
            continue  # `hil.probe.<pid>`: a process tries what the kernel can do, this moment
        if bench not in live:
            yield Leftover("namespace", name, partial(netns.delete, name), bench)


def _run(runner: Runner, argv: Sequence[str], gone: str) -> None:
    """Run a command that removes something; one that fails because of what is ``gone`` already has done its work."""
    done = runner(argv)
    if not done.ok and gone not in done.stderr:
        raise BenchError(f"`{' '.join(argv)}` failed: {done.tail(1)}")


def mounts(live: Collection[str], mountinfo: Path = MOUNTINFO) -> Iterator[Leftover]:
    """Mounts below our directories; the container engine's own are its business."""
    files = EngineFiles.default()
    spared = [files.data, files.exec_root]
    for name in live:
        spared += [bench_dir(name), disk_dir(name)]
    # The directories themselves may be mount points of the user: a disk of their own, a tmpfs.
    keep = {paths.home(), paths.run_dir(), files.data}
    for point in mounts_under(paths.home(), paths.run_dir(), mountinfo=mountinfo):
        if point not in keep and not any(d == point or d in point.parents for d in spared):
            yield Leftover("mount", str(point), partial(unmount, point), _bench_of(point))


def loop_devices(live: Collection[str], block: Path = Path("/sys/block"), runner: Runner = run) -> Iterator[Leftover]:
    """Loop devices whose file lies below our home."""
    spared = [disk_dir(name) for name in live]
    for device in sorted(block.glob("loop*")):
        try:
            text = (device / "loop" / "backing_file").read_text().rstrip("\n")
        except OSError:
            continue  # not attached
        backing = Path(text.removesuffix(" (deleted)"))
        if paths.home() in backing.parents and not any(d in backing.parents for d in spared):
            argv = ["losetup", "--detach", f"/dev/{device.name}"]
            remove = partial(_run, runner, argv, "No such device")
            yield Leftover("loop device", device.name, remove, _bench_of(backing), str(backing))


def _bench_of(path: Path) -> str:
    """Return the bench whose disks are at or below a path; empty where it is not one of theirs."""
    root = paths.home() / "bench"
    return path.relative_to(root).parts[0] if root in path.parents else ""


def directories(live: Collection[str]) -> Iterator[Leftover]:
    """Run-time directories and board disks of benches that are gone."""
    for root, kind in ((paths.run_dir() / "bench", "bench"), (paths.home() / "bench", "board disks")):
        for directory in sorted(root.iterdir()) if root.is_dir() else ():
            if directory.is_dir() and directory.name not in live:
                yield Leftover(kind, str(directory), partial(_remove_tree, directory), directory.name)


def _remove_tree(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        raise BenchError(f"cannot remove {directory}", remedy="is something mounted in it?")


def link_engines(live: Collection[str]) -> Iterator[Leftover]:
    """What link engines left of owners that are gone; each kind of engine knows its own."""
    for kind in kinds.all_of(kinds.ENGINES).values():
        for name, remove in kind.leftovers().items():
            yield Leftover("link engine", name, remove)


def package_guard(live: Collection[str], guard: ServiceGuard | None = None) -> Iterator[Leftover]:
    """The ``policy-rc.d`` of a set-up that was killed while apt worked."""
    from hil.host.setup import is_running

    guard = guard or ServiceGuard()
    if guard.needed() and not is_running():
        yield Leftover("package guard", str(guard.policy), guard.recover, detail="no service could start")


def container_engine(live: Collection[str]) -> Iterator[Leftover]:
    """Our own dockerd without users, and what a dockerd that was killed left running."""
    files = EngineFiles.default()
    daemon = dockerd.started(files)
    kind = "container engine"
    if daemon and not engine.users(files):
        detail = f"ours, pid {daemon.pid}, nobody uses it"
        yield Leftover(kind, "dockerd", engine.stop_if_ours, detail=detail)
    elif not daemon and not dockerd.answers(files.socket):
        for who, name in dockerd.own_processes(files):
            yield Leftover(kind, name, engine.remove_remains, detail=f"pid {who.pid}, its dockerd is gone")


FINDERS: Sequence[Finder] = (
    user_mode_linux,
    containers,
    namespaces,
    mounts,
    loop_devices,
    directories,
    link_engines,
    package_guard,
    container_engine,
)
"""Every kind, in the order in which they are removed: holders go before what they hold."""


def remove_earlier(name: str, client: DockerClient) -> None:
    """Remove what a killed keeper left of a bench, for one that brings up a bench of the same name.

    The caller holds its lock. Raises what resists.
    """
    earlier = client.containers.list(all=True, filters={"label": f"{LABEL}={name}"})
    if not earlier and not disk_dir(name).exists():
        return  # a keeper takes its boards' disks along, unless it was killed
    for container in earlier:
        container.remove(force=True, v=True)
    others = live_benches() - {name}
    for find in (namespaces, mounts, loop_devices):
        for leftover in list(find(others)):
            if leftover.bench == name:
                leftover.remove()
    shutil.rmtree(disk_dir(name), ignore_errors=True)
