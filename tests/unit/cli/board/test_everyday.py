"""`hil board logs`, `wait` and `cp` as a technician types them, without a bench."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.boards.protocol import Identity, PowerState
from hil.boards.ssh.shell import SshShell
from hil.cli.app import run
from hil.errors import DeviceError
from hil.onboard.node.answers import Health
from tests.kits.fake_bench import HEALTH, FakeBoard, fake_bench
from tests.kits.ssh_server import ssh_server


@dataclass
class Board(FakeBoard):
    """A board whose OS is this machine, reached by the SSH server of a test."""

    target: Any = None
    log: Path = Path()
    version: str = "1.0.0"

    @property
    def console(self) -> Any:
        return SimpleNamespace(log=self.log)

    def shell(self, via: Any = None) -> Any:
        if self.power is PowerState.OFF:
            raise DeviceError(f"{self.name} does not answer")
        return SshShell(self.target)

    def identity(self) -> Identity:
        return Identity("", "", "", "B", self.version, "")


@pytest.fixture
def a1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    monkeypatch.setenv("HIL_BENCH", "six")
    log = tmp_path / "a1.console.log"
    log.write_text("".join(f"line {n}\n" for n in range(100)))
    now = time.time()
    log.with_suffix(".idx").write_text(f"0 {now - 600:.3f}\n{len(log.read_text()) - 8} {now - 5:.3f}\n")
    with fake_bench(tmp_path) as bench, ssh_server(tmp_path) as target:
        board = Board("a1", target=target, log=log)
        bench.boards = {"a1": board, "b1": FakeBoard("b1")}
        monkeypatch.setattr("hil.bench.bench.Bench.attach", lambda name: bench)
        yield board


def lines(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert run(["board", "logs", "a1", *argv]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_console_log_is_cut_by_lines_or_by_time_and_each_line_has_its_moment(
    a1: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(*argv: str) -> list[str]:
        return [line.split()[-1] for line in lines(capsys, "--source", "console", *argv)]

    assert ends("-n", "2") == ["98", "99"] and len(ends()) == 50 and len(ends("--lines", "0")) == 0
    assert ends("--since", "1m") == ["99"] and len(ends("--since", "1h")) == 100
    (last,) = lines(capsys, "--source", "console", "-n", "1")
    assert last.startswith("console: 20") and last.endswith("  line 99")


def test_the_os_is_asked_for_its_journal_with_the_same_limits(
    a1: Board, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "journalctl").write_text('#!/bin/sh\necho "journal $*"\n')
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    asked = "os: journal --no-pager --output=short-iso-precise --quiet"
    assert lines(capsys, "--source", "os", "-n", "7", "--since", "2m") == [f"{asked} --lines=7 --since=-120s"]
    assert lines(capsys)[-1] == f"{asked} --lines=50"


def test_a_board_that_is_off_has_its_console_and_a_note(a1: Board, capsys: pytest.CaptureFixture[str]) -> None:
    a1.power = PowerState.OFF
    assert run(["board", "logs", "a1", "-n", "1"]) == 0
    said = capsys.readouterr()
    assert "line 99" in said.out and "a1 does not answer" in said.err


def test_wait_is_over_when_every_state_is_reached(
    a1: Board, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil.monitor.board_watch.node_health", lambda *_: Health.from_json(dict(HEALTH)))
    states = ["on", "ssh", "serving", "slot=B", "os=1.0.0"]
    asked = [word for state in states for word in ("--for", state)]
    assert run(["board", "wait", "a1", *asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["name"] == "a1" and document["is"] == states
    assert run(["board", "wait", "all", "--for", "on", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["a1", "b1"]


def test_what_is_not_so_in_time_is_told_with_how_it_is(a1: Board, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["board", "wait", "a1", "--for", "os=2.0.0", "--timeout", "0.1s"]) == 1
    assert "waited 0.1 s for os=2.0.0; it is now: os=1.0.0" in capsys.readouterr().err
    assert run(["board", "wait", "a1", "--for", "off", "--timeout", "0.1s"]) == 3
    a1.power = PowerState.OFF
    assert run(["board", "wait", "a1", "--for", "ssh", "--timeout", "0.1s"]) == 1
    assert "a1 does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["slot=C", "slot=", "os", "on=1", "happy"])
def test_what_cannot_be_waited_for_is_refused_with_what_can(
    state: str, a1: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["board", "wait", "a1", "--for", state]) == 2
    assert "on, off, ssh, serving, slot=A, slot=B or os=VERSION" in " ".join(capsys.readouterr().err.split())


def test_cp_copies_folders_there_and_back(a1: Board, tmp_path: Path) -> None:
    (tmp_path / "app" / "sub").mkdir(parents=True)
    (tmp_path / "app" / "sub" / "x").write_text("hello")
    for folder in ("board", "back"):
        (tmp_path / folder).mkdir()
    assert run(["board", "cp", str(tmp_path / "app"), f"a1:{tmp_path}/board"]) == 0
    assert run(["board", "cp", f"a1:{tmp_path}/board/app", str(tmp_path / "back")]) == 0
    assert (tmp_path / "back/app/sub/x").read_text() == "hello"


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("a1:/x", "b1:/x", "one of them is on a board"),
        ("./a:x", "/tmp/y", "one of them is on a board"),
        ("zz:/x", ".", "has no board zz"),
        ("nothing-here", "a1:/x", "there is no nothing-here on this machine"),
    ],
)
def test_cp_says_what_it_cannot_copy(
    source: str, target: str, words: str, a1: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["board", "cp", source, target]) == 2
    assert words in capsys.readouterr().err
