"""The container engine: whose it is, what ours is started with, who uses it.  No Docker needed here."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.core.processes import ProcessId, current
from hil.errors import BenchError, ConfigurationError
from hil.host.engine import dockerd, engine
from hil.host.engine.dockerd import EngineFiles, answers, argv, call, container_processes, last_lines, started
from tests.kits.proc_tree import proc_entry

GONE = ProcessId(2**22 - 3, 1)


@pytest.fixture
def files(tmp_path: Path) -> EngineFiles:
    found = EngineFiles(tmp_path / "run", tmp_path / "docker")
    found.users.mkdir(parents=True)
    return found


@contextmanager
def http(path: Path, pages: Mapping[str, object]) -> Iterator[list[str]]:
    """A unix socket that answers like an engine; yields the requests it saw."""
    seen: list[str] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                line = client.recv(65536).decode().splitlines()[0]
                seen.append(line)
                body = pages.get(line.split()[1])
                status = "200 OK" if body is not None else "404 Not Found"
                client.sendall(f"HTTP/1.0 {status}\r\n\r\n{json.dumps(body)}".encode())

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield seen
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_our_engine_makes_no_bridge_no_firewall_rule_and_keeps_to_its_directories(files: EngineFiles) -> None:
    line = argv(files)
    assert {"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"} <= set(
        line
    )
    for option in ("--data-root", "--exec-root", "--pidfile", "--config-file"):
        place = Path(line[line.index(option) + 1])
        assert files.run in place.parents or place == files.data
    assert line[line.index("--host") + 1] == f"unix://{files.socket}"


def test_an_engine_on_another_machine_is_refused(files: EngineFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://198.18.0.1:2375")
    with pytest.raises(ConfigurationError, match="another machine"):
        engine.connect(files)


def test_the_users_engine_is_preferred_and_never_counted_as_ours(
    tmp_path: Path, files: EngineFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{theirs}")
    pages = {"/version": {"Version": "27.0"}, "/info": {"KernelVersion": os.uname().release}}
    with http(theirs, pages):
        found = engine.find(files)
    assert found == engine.EngineInfo(f"unix://{theirs}", ours=False, version="27.0")


@pytest.mark.parametrize(
    ("info", "why"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, "rootless"),
        ({"SecurityOptions": ["name=userns"]}, "remaps"),
        ({"KernelVersion": "5.15.0-desktop-vm"}, "another kernel"),
        ({}, None),
    ],
)
def test_a_users_engine_that_cannot_run_boards_is_passed_over(
    tmp_path: Path, files: EngineFiles, monkeypatch: pytest.MonkeyPatch, info: dict[str, object], why: str | None
) -> None:
    theirs = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{theirs}")
    with http(theirs, {"/version": {"Version": "27.0"}, "/info": {"KernelVersion": os.uname().release, **info}}):
        reason = engine.unfit(theirs)
        assert reason is None if why is None else reason is not None and why in reason
        assert (engine.find(files) is None) == (why is not None)


def test_a_socket_without_anybody_behind_it_does_not_answer(tmp_path: Path) -> None:
    assert answers(tmp_path / "nothing.sock") == ""
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    assert answers(path) == "" and call(path, "GET", "/version", 1.0) == (0, None)


def test_an_error_page_has_its_status(tmp_path: Path) -> None:
    with http(tmp_path / "s", {}) as seen:
        assert call(tmp_path / "s", "DELETE", "/containers/x?force=1", 5.0) == (404, None)
    assert seen == ["DELETE /containers/x?force=1 HTTP/1.1"]


def test_users_that_were_killed_stop_counting(files: EngineFiles) -> None:
    (files.users / f"{current()}-aa").touch()
    (files.users / f"{GONE}-bb").touch()
    (files.users / "something-else").touch()
    assert engine.users(files) == [current()]
    assert sorted(p.name for p in files.users.iterdir()) == sorted([f"{current()}-aa", "something-else"])


def test_an_engine_that_we_did_not_start_is_never_stopped(files: EngineFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dockerd, "stop", lambda *a: pytest.fail("stopped"))
    assert started(files) is None and engine.stop_if_ours(files) is False
    files.record.write_text(str(GONE))
    assert started(files) is None and engine.stop_if_ours(files) is False
    files.record.write_text("not a process")
    assert started(files) is None and engine.stop_if_ours(files) is False


def test_our_engine_stays_while_somebody_uses_it(files: EngineFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    files.record.write_text(str(current()))
    (files.users / f"{current()}-aa").touch()
    monkeypatch.setattr(dockerd, "stop", lambda *a: pytest.fail("stopped"))
    assert engine.stop_if_ours(files) is False


def test_the_last_user_stops_our_engine(files: EngineFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[ProcessId] = []
    files.record.write_text(str(current()))
    monkeypatch.setattr(dockerd, "stop", lambda _files, who: stopped.append(who))
    assert engine.stop_if_ours(files) is True
    assert stopped == [current()]


def test_only_root_starts_an_engine(files: EngineFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigurationError, match="only root"):
        dockerd.start(files)


def test_a_path_too_long_for_a_unix_socket_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name, path: "/usr/sbin/dockerd")
    with pytest.raises(ConfigurationError, match="too long") as caught:
        dockerd.start(EngineFiles(tmp_path / ("x" * 100), tmp_path))
    assert "HIL_RUN" in caught.value.remedy


def test_an_engine_that_ends_at_once_is_reported_with_the_end_of_its_log_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with tempfile.TemporaryDirectory() as name:  # a short path: sockets will lie in it
        fake = Path(name) / "dockerd"
        fake.write_text("#!/bin/sh\necho no such storage driver; exit 1\n")
        fake.chmod(0o755)
        monkeypatch.setattr(shutil, "which", lambda name, path: str(fake))
        files = EngineFiles(run=Path(name) / "run", data=Path(name) / "docker")
        with pytest.raises(BenchError, match="no such storage driver"):
            dockerd.start(files)
        assert not files.record.exists()


def test_processes_in_our_containers_are_found_by_their_cgroups(tmp_path: Path, files: EngineFiles) -> None:
    (files.data / "containers/abc123").mkdir(parents=True)
    for pid, group in ((20, "/docker/abc123"), (21, "/docker/def456"), (22, "/user.slice")):
        proc_entry(tmp_path / "proc", pid, ticks=pid)
        (tmp_path / f"proc/{pid}/cgroup").write_text(f"4:cpu:{group}\n")
    assert container_processes(files, tmp_path / "proc") == [ProcessId(20, 20)]


def test_the_end_of_a_log_is_short_and_a_missing_log_is_empty(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n".join(map(str, range(10_000))))
    assert last_lines(tmp_path / "log", 2) == "9998\n9999"
    assert last_lines(tmp_path / "nothing") == ""
