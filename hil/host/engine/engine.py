"""The Docker Engine: the user's when it answers, else one of our own.

Ours has its own socket, data directory, pid file and containerd, no bridge and no firewall rules, so it
leaves the host's network as it found it and cannot meet a Docker that starts later.  It lives while somebody
uses it: users are recorded by pid and start time, so a user that was killed stops counting by itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hil.core.locks import locked
from hil.core.processes import ProcessId, current
from hil.errors import BenchError, ConfigurationError
from hil.host.engine import dockerd
from hil.host.engine.dockerd import EngineFiles, answers, call, get, started

if TYPE_CHECKING:
    from docker import DockerClient
    from requests import Response

_log = logging.getLogger(__name__)

USER_SOCKET = Path("/var/run/docker.sock")
LOCK_DEADLINE_S = 120.0
CALL_TIMEOUT_S = 60


@dataclass(frozen=True)
class EngineInfo:
    """Which engine answers."""

    url: str
    ours: bool
    """True when this project started it."""
    version: str


def connect(files: EngineFiles | None = None) -> DockerClient:
    """Return a client of a local Docker Engine; starts our own engine when none answers.

    The user's engine (``DOCKER_HOST``, else ``/var/run/docker.sock``) is preferred and never started or
    stopped; one that cannot run boards (rootless, in a virtual machine) is passed over.  An engine that was
    started here stays until :func:`stop_if_ours`; prefer :func:`engine`, which does both.
    ConfigurationError when ``DOCKER_HOST`` names another machine, when this is not root, or when Docker is
    not installed; BenchError, with the log's last lines, when our engine does not come up.
    """
    files = files or EngineFiles.default()
    if info := find(files):
        return client_of(info.url)
    with _lock(files):
        if not answers(files.socket):
            dockerd.start(files)
    return client_of(files.url)


def find(files: EngineFiles | None = None) -> EngineInfo | None:
    """Return the engine that :func:`connect` would use, without starting anything; None when none answers."""
    files = files or EngineFiles.default()
    for url in (_user_url(), files.url):
        path = Path(url.removeprefix("unix://"))
        version = answers(path)
        if version and (url == files.url or unfit(path) is None):
            return EngineInfo(url, ours=url == files.url and started(files) is not None, version=version)
    return None


@contextmanager
def engine(files: EngineFiles | None = None) -> Iterator[DockerClient]:
    """A client, and the promise that our engine stays up until the block ends (whatever others do).

    The last user stops our engine; the user's own engine is left alone.
    """
    files = files or EngineFiles.default()
    token = files.users / f"{current()}-{os.urandom(3).hex()}"
    with _lock(files):
        files.users.mkdir(parents=True, exist_ok=True)
        token.touch()
    try:
        with closing(connect(files)) as client:
            yield client
    finally:
        token.unlink(missing_ok=True)
        stop_if_ours(files)


def stop_if_ours(files: EngineFiles | None = None) -> bool:
    """End our dockerd and its containerd when nobody uses them; True when they were stopped now.

    Refuses (False) while a user is alive or a container runs in it.  An engine that this project did not
    start is never stopped.  BenchError when it does not end.
    """
    files = files or EngineFiles.default()
    if not files.state.is_dir():
        return False
    with _lock(files):
        daemon = started(files)
        if daemon is None or users(files) or call(files.socket, "GET", "/containers/json", CALL_TIMEOUT_S)[1]:
            return False
        dockerd.stop(files, daemon)
        return True


def remove_remains(files: EngineFiles | None = None) -> None:
    """End what a killed dockerd of ours left: containerd, shims (hence containers) and mounts."""
    files = files or EngineFiles.default()
    with _lock(files):
        if not answers(files.socket):
            dockerd.sweep(files)


def users(files: EngineFiles) -> list[ProcessId]:
    """Return who uses our engine now; tokens of processes that are gone are dropped."""
    alive = []
    for token in sorted(files.users.glob("*")) if files.users.is_dir() else ():
        try:
            who = ProcessId.parse(token.name.partition("-")[0])
        except ValueError:
            continue
        if who.alive():
            alive.append(who)
        else:
            token.unlink(missing_ok=True)
    return alive


def unfit(path: Path) -> str | None:
    """Return why the engine behind a socket cannot run container boards, or None."""
    info = get(path, "/info", 10.0)
    options = " ".join(map(str, info.get("SecurityOptions") or ()))
    if "name=rootless" in options:
        return "it is rootless: boards need real loop devices and mounts"
    if "name=userns" in options:
        return "it remaps user ids: boards need real loop devices and mounts"
    if info.get("KernelVersion") != os.uname().release:
        return "its containers run on another kernel (a virtual machine): NICs cannot be plugged into them"
    return None


def client_of(url: str) -> DockerClient:
    """Return an SDK client for an engine's address.  BenchError when it does not answer."""
    import docker

    try:
        client = docker.DockerClient(base_url=url, timeout=CALL_TIMEOUT_S)
        client.api.hooks["response"].append(_log_call)
        return client
    except docker.errors.DockerException as exc:
        raise BenchError(f"Docker Engine at {url}: {exc}", remedy="see `hil doctor`") from exc


def _log_call(response: Response, *_args: object, **_options: object) -> None:
    """Note one call of the container engine (a hook of ``requests``); bodies hold environments, so they are not."""
    request = response.request
    _log.debug("docker: %s %s: HTTP %d", request.method, request.path_url, response.status_code)


def _user_url() -> str:
    url = os.environ.get("DOCKER_HOST") or f"unix://{USER_SOCKET}"
    if not url.startswith("unix://"):
        raise ConfigurationError(
            f"DOCKER_HOST is {url}, an engine on another machine",
            remedy="container boards get their NICs from this machine's kernel: unset DOCKER_HOST",
        )
    return url


@contextmanager
def _lock(files: EngineFiles) -> Iterator[None]:
    """One process at a time starts or stops the engine, or joins its users."""
    try:
        files.state.mkdir(parents=True, exist_ok=True)
        (files.state / "lock").touch(0o600)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot write {exc.filename}: {exc.strerror}",
            remedy="the virtual lab needs root: run as root; `make unit` and `hil lab` do not need it",
        ) from exc
    what = f"another hil process that starts or stops the engine ({files.state / 'lock'})"
    with locked(files.state / "lock", deadline_s=LOCK_DEADLINE_S, what=what):
        yield
