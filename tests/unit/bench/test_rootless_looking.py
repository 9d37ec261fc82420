"""Commands that only look, run by a bench's keeper for members of its group; here they are a program of the test."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.bench import rootless_looking
from hil.bench.rootless_looking import Look, MembersService
from hil.core.wait import wait_until
from hil.errors import ConfigurationError

SHOW = "import os, sys; print(sys.argv[1:], os.environ.get('TERM'), flush=True); print(input()); sys.exit(7)"


@pytest.mark.parametrize(
    ("arguments", "words", "bench"),
    [
        ("board list", "board list", ""),
        ("board list --bench lab1 --json", "board list --json", "lab1"),
        ("board console a1 --follow --stamps", "board console a1 --follow --stamps", ""),
        ("board logs a1 -n 50 --bench=lab1", "board logs a1 -n 50", "lab1"),
        ("bench watch lab1 --every 2s", "bench watch --every 2s", "lab1"),
        ("bench watch --every 2s", "bench watch --every 2s", ""),
    ],
)
def test_what_only_looks_is_told_with_the_bench_that_it_names(arguments: str, words: str, bench: str) -> None:
    assert Look.of(arguments.split()) == Look(tuple(words.split()), bench)


@pytest.mark.parametrize(
    "arguments",
    [
        "board power a1 off",
        "board console a1",
        "board console a1 --force --follow",
        "board list --help",
        "board list --store /etc/x",
        "board show ../x",
        "board logs a1 --since=$(id)",
        "bench down",
        "board",
        "",
    ],
)
def test_nothing_else_is_taken_for_looking(arguments: str) -> None:
    assert Look.of(arguments.split()) is None


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MembersService]:
    monkeypatch.setenv("HIL_RUN", str(tmp_path))
    path = rootless_looking.socket_of("lab1")
    path.parent.mkdir(parents=True)
    service = MembersService("lab1", path, [sys.executable, "-c", SHOW])
    yield service
    service.close()


def test_the_keeper_runs_the_command_on_the_members_own_files(
    service: MembersService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    typed, shown = tmp_path / "in", tmp_path / "out"
    typed.write_text("typed\n")
    with typed.open() as stdin, shown.open("w") as stdout:
        files = stdin.fileno(), stdout.fileno(), stdout.fileno()
        assert rootless_looking.look("lab1", ["board", "list", "--json"], files) == 7
    assert shown.read_text() == "['board', 'list', '--json', '--bench', 'lab1'] xterm-256color\ntyped\n"


def test_the_keeper_itself_refuses_what_does_not_look(service: MembersService) -> None:
    with pytest.raises(ConfigurationError, match="no command that only looks"):
        rootless_looking.look("lab1", ["board", "power", "a1", "off"])
    for request in (b"", b"[]", b"{", b'{"words": [["board"], 1], "term": 1, "no_color": 0}'):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.connect(str(rootless_looking.socket_of("lab1")))
            socket.send_fds(line, [request], [0, 1, 2])
            assert b"refused" in line.recv(4096) or not request


def test_a_member_who_goes_away_ends_the_command(service: MembersService, tmp_path: Path) -> None:
    shown = tmp_path / "out"
    reader, writer = os.pipe()  # nothing is ever typed
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line, shown.open("w") as stdout:
        line.connect(str(rootless_looking.socket_of("lab1")))
        request = b'{"words": ["board", "list"], "term": "$(x)", "no_color": false}'
        socket.send_fds(line, [request], [reader, stdout.fileno(), stdout.fileno()])
        wait_until(
            lambda: "None" in shown.read_text(), what="the command to run", deadline_s=10
        )  # an odd TERM is left out
        assert "member" in {thread.name for thread in threading.enumerate()}
    wait_until(
        lambda: "member" not in {thread.name for thread in threading.enumerate()},
        what="the command to end",
        deadline_s=10,
    )
    assert "KeyboardInterrupt" in shown.read_text()
    os.close(reader)
    os.close(writer)


def test_who_is_no_member_is_told_what_to_do(service: MembersService, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refused)
    with pytest.raises(ConfigurationError, match="no member of group hil") as error:
        rootless_looking.look("lab1", ["board", "list"])
    assert "usermod -aG hil" in error.value.remedy


def test_a_bench_without_the_socket_is_looked_at_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_RUN", str(tmp_path))
    assert rootless_looking.look("lab1", ["board", "list"]) is None
