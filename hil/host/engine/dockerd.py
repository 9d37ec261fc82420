"""Our own dockerd: where it keeps its things, how it starts, how it ends without leaving anything."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import urllib.parse
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from hil.core import paths
from hil.core.mounts import mounts_under, unmount
from hil.core.processes import PROC, ProcessId, end, identify, processes
from hil.core.wait import poll_until
from hil.errors import BenchError, ConfigurationError, HilError
from hil.host.packages import SYSTEM_PATH

START_DEADLINE_S = 45.0
STOP_DEADLINE_S = 30.0
MAX_SOCKET_PATH = 107  # sun_path of unix(7), without its NUL


class EngineFiles:
    """Where our own engine keeps its things."""

    def __init__(self, run: Path, data: Path) -> None:
        self.run = run
        self.data = data
        self.socket = run / "docker.sock"
        self.url = f"unix://{self.socket}"
        self.exec_root = run / "docker"
        self.pidfile = run / "docker.pid"
        self.state = run / "engine"
        self.users = self.state / "users"
        self.log = self.state / "dockerd.log"
        self.record = self.state / "started-by-hil"
        """``pid:start`` of the dockerd that this project started; the one it may stop."""
        self.config = self.state / "daemon.json"
        """An empty configuration: ``/etc/docker/daemon.json`` is the user's and may contradict ours."""

    @classmethod
    def default(cls) -> EngineFiles:
        return cls(paths.run_dir(), paths.home() / "docker")


def start(files: EngineFiles) -> None:
    """Start our dockerd and wait until it answers; the caller holds the lock.

    ConfigurationError when this is not root, Docker is not installed or a path is too long for a socket;
    BenchError with the end of its log when it does not come up.
    """
    if os.geteuid() != 0:
        raise ConfigurationError(
            "no Docker Engine answers, and only root can start one",
            remedy="run as root, or start your Docker and add yourself to the group docker",
        )
    search = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    program = shutil.which("dockerd", path=search)
    if program is None:
        raise ConfigurationError("Docker is not installed", remedy="`hil setup` installs it")
    if len(str(files.exec_root / "containerd" / "containerd-debug.sock")) > MAX_SOCKET_PATH:
        raise ConfigurationError(
            f"{files.run} is too long a path for unix sockets", remedy="set HIL_RUN to a shorter one"
        )
    # A containerd that finds living shims of a killed one hangs at its start (1.6.20): begin from nothing.
    sweep(files)
    for directory in (files.run, files.data, files.state, files.users):
        directory.mkdir(parents=True, exist_ok=True)
    files.data.chmod(0o711)
    files.config.write_text("{}\n", encoding="ascii")
    env = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID")}
    # posix_spawn, not Popen: the daemon outlives the object that would hold it.
    pid = os.posix_spawn(
        program,
        argv(files),
        {**env, "PATH": search},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(files.log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsigdef=(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE),  # else ours are inherited
        setsid=True,  # Ctrl-C at the terminal must not end it before its containers
    )
    daemon = identify(pid)
    if daemon:
        files.record.write_text(str(daemon), encoding="ascii")

    try:
        message = f"waited {START_DEADLINE_S:g} s for our Docker Engine to answer"
        for _ in poll_until(START_DEADLINE_S):
            if os.waitpid(pid, os.WNOHANG)[0]:
                message = "our Docker Engine ended as it started"
                break
            if answers(files.socket):
                return
        raise BenchError(
            f"{message}; its log ends:\n{last_lines(files.log)}",
            remedy=f"see {files.log}; `hil doctor` checks what Docker needs",
        )
    except BaseException:  # Ctrl-C while it comes up, too: do not leave half of it
        if daemon:
            stop(files, daemon)
        raise


def stop(files: EngineFiles, daemon: ProcessId) -> None:
    """End our dockerd, its containerd and what is mounted for them.  BenchError when it does not end."""
    end(daemon, what="our dockerd", term_s=STOP_DEADLINE_S)
    with suppress(ChildProcessError):  # it is our child only when this very process started it
        os.waitpid(daemon.pid, 0)
    sweep(files)


def sweep(files: EngineFiles) -> None:
    """Take away what is left of our engine when no dockerd runs: processes, mounts, sockets."""
    # A dockerd that was killed leaves containerd and shims, and the containers, which outlive both.
    for who, name in own_processes(files):
        with suppress(HilError):
            end(who, what=f"{name} of our engine")
    for who in container_processes(files):
        with suppress(HilError):
            end(who, what="a container of our engine", term_s=0.0)
    for mount in mounts_under(files.data, files.exec_root):
        unmount(mount)
    shutil.rmtree(files.exec_root, ignore_errors=True)  # run-time state only
    for stale in (files.record, files.socket, files.pidfile):
        stale.unlink(missing_ok=True)


def container_processes(files: EngineFiles, proc: Path = PROC) -> list[ProcessId]:
    """Return processes in containers of our engine, found by the container ids in their cgroup paths."""
    ids = [p.name for p in (files.data / "containers").glob("*")]
    found = []
    for entry in proc.glob("[0-9]*/cgroup") if ids else ():
        with suppress(OSError):
            text = entry.read_text()
            who = identify(int(entry.parent.name), proc)
            if who and any(one in text for one in ids):
                found.append(who)
    return found


def argv(files: EngineFiles) -> list[str]:
    """Return command line of our dockerd: no bridge, no firewall rules, no forwarding; only its directories."""
    return [
        "dockerd",
        "--host",
        files.url,
        "--data-root",
        str(files.data),
        "--exec-root",
        str(files.exec_root),
        "--pidfile",
        str(files.pidfile),
        "--config-file",
        str(files.config),
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-masq=false",
        "--ip-forward=false",
    ]


def started(files: EngineFiles) -> ProcessId | None:
    """Our dockerd, when this project started it and it still runs."""
    with suppress(OSError, ValueError):
        who = ProcessId.parse(files.record.read_text(encoding="ascii"))
        return who if who.alive() else None
    return None


def own_processes(files: EngineFiles) -> list[tuple[ProcessId, str]]:
    """(process, name) of our dockerd, containerd and shims, found by the paths on their command lines."""
    found = []
    for process in processes():
        name = Path(process.argv[0]).name
        line = " ".join(process.argv)
        # The directory with its slash, or as a word of its own: /run/hil must not claim /run/hil2.
        mine = f"{files.exec_root}/" in line or str(files.exec_root) in process.argv
        if mine and (name in ("dockerd", "containerd") or name.startswith("containerd-shim")):
            found.append((process.id, name))
    return found


def answers(path: Path, timeout_s: float = 5.0) -> str:
    """Return version of the engine behind a unix socket; empty when nothing answers there."""
    return str(get(path, "/version", timeout_s).get("Version", ""))


def get(path: Path, target: str, timeout_s: float) -> dict[str, Any]:
    """Return a JSON object from an engine's socket.  Empty when it does not answer, or answers something else."""
    status, value = call(path, "GET", target, timeout_s)
    return value if status == 200 and isinstance(value, dict) else {}


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("docker", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def call(path: Path, method: str, target: str, timeout_s: float) -> tuple[int, Any]:
    """Make one request to an engine's socket, at a sixth of the cost of importing the SDK.

    Return (HTTP status, decoded JSON or None); status 0 when nothing answers within ``timeout_s``.
    """
    if not path.exists():
        return 0, None
    with closing(_UnixConnection(path, timeout_s)) as connection:
        try:
            connection.request(method, target)
            response = connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, None
    try:
        return status, json.loads(body)
    except ValueError:
        return status, None


def container_events(path: Path, label: str, since_s: float, until_s: float, timeout_s: float) -> list[dict[str, Any]]:
    """Return what happened to containers with a label (``key=value``) in a span of Unix time that is over.

    BenchError when the engine does not answer within ``timeout_s``.
    """
    filters = json.dumps({"type": ["container"], "label": [label]})
    query = urllib.parse.urlencode({"since": f"{since_s:.6f}", "until": f"{until_s:.6f}", "filters": filters})
    with closing(_UnixConnection(path, timeout_s)) as connection:
        try:
            connection.request("GET", f"/events?{query}")
            response = connection.getresponse()
            status, lines = response.status, response.read().splitlines()
            if status != 200:
                raise BenchError(f"the container engine answered HTTP {status}", remedy="see `hil doctor`")
            return [json.loads(line) for line in lines]
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise BenchError(f"the container engine does not answer: {exc!r}", remedy="see `hil doctor`") from exc


def last_lines(log: Path, count: int = 8) -> str:
    """Return the end of a log file; empty when there is none."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 16384))
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-count:])
    except OSError:
        return ""
