"""Files to and from a board: folders, refusals that are not tried again, breaks that are."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hil.boards.protocol import Completed
from hil.boards.ssh import transfer
from hil.errors import BenchError, ConfigurationError, DeviceError
from hil.testing.fakes import FakeClock


class HereShell:
    """A board's shell that works on this host's files, as SshShell answers: what broke the connection is the cause."""

    def __init__(self, room_b: int = 1 << 30) -> None:
        self.room_b = room_b
        self.connected = True
        self.opened = 0
        self.breaks = 0
        self.says_so = True  # that its disk is full
        self.full_here = False

    def open(self) -> HereShell:
        self.opened += 1
        self.connected = True
        return self

    def alive(self) -> bool:
        return self.connected

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = True) -> Completed:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s)
        if check and done.returncode:
            raise DeviceError(f"{argv[0]} ended with {done.returncode}: {done.stderr}")
        return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)

    def file_size(self, remote: str) -> int:
        return Path(remote).stat().st_size if Path(remote).exists() else -1

    def send_from(self, local: Path, remote: str, offset: int) -> Iterator[int]:
        if self.breaks:
            self.breaks -= 1
            self.connected = False
            raise DeviceError("the connection broke") from EOFError()
        content = local.read_bytes()
        try:
            Path(remote).write_bytes(content[: self.room_b])
        except OSError as exc:
            raise DeviceError(f"cannot write {remote}: {exc}") from None
        if len(content) > self.room_b and self.says_so:
            raise DeviceError(f"cannot write {remote}: cat: write error: No space left on device")
        yield len(content)

    def receive_from(self, remote: str, local: Path, offset: int, limit: int | None = None) -> Iterator[int]:
        if self.full_here:
            raise OSError(errno.ENOSPC, "No space left on device")
        local.write_bytes(Path(remote).read_bytes()[:limit])
        yield local.stat().st_size

    def __enter__(self) -> HereShell:
        return self

    def __exit__(self, *exc: object) -> None: ...


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "os.raucb"
    path.write_bytes(bytes(range(256)) * 40)
    return path


@pytest.fixture
def board(tmp_path: Path) -> Path:
    folder = tmp_path / "board"
    folder.mkdir()
    return folder


def push(shell: HereShell, local: Path, remote: Path) -> transfer.Transferred:
    return transfer.push(shell.open, local, str(remote), clock=FakeClock())  # type: ignore[arg-type]


def pull(shell: HereShell, remote: Path, local: Path) -> transfer.Transferred:
    return transfer.pull(shell.open, str(remote), local, clock=FakeClock())  # type: ignore[arg-type]


def test_a_folder_gets_the_file_under_its_own_name(blob: Path, board: Path, tmp_path: Path) -> None:
    push(HereShell(), blob, board)
    assert [path.name for path in board.iterdir()] == ["os.raucb"]
    back = tmp_path / "back"
    back.mkdir()
    pull(HereShell(), board / "os.raucb", back)
    assert (back / "os.raucb").read_bytes() == blob.read_bytes()


@pytest.mark.parametrize("says_so", [True, False])
def test_a_full_disk_is_not_tried_again(says_so: bool, blob: Path, board: Path) -> None:
    shell = HereShell(room_b=1000)
    shell.says_so = says_so
    with pytest.raises(DeviceError, match="No space left" if says_so else "arrived as") as caught:
        push(shell, blob, board / "file")
    assert shell.opened == 1
    assert "is the disk full" in caught.value.remedy


def test_what_the_board_may_not_write_is_not_tried_again(blob: Path, board: Path) -> None:
    (board / "file.part").mkdir()
    shell = HereShell()
    with pytest.raises(DeviceError, match="Is a directory"):
        push(shell, blob, board / "file")
    assert shell.opened == 1


@pytest.mark.parametrize("remote", ["missing/file", "missing/"])
def test_a_folder_that_is_not_there_is_a_mistake_of_the_user(remote: str, blob: Path, board: Path) -> None:
    shell = HereShell()
    with pytest.raises(ConfigurationError, match=r"folder .*missing/? does not exist on the board"):
        transfer.push(shell.open, blob, f"{board}/{remote}", clock=FakeClock())  # type: ignore[arg-type]
    assert shell.opened == 1
    assert not list(board.iterdir())


def test_folders_travel_with_what_is_in_them(board: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep" / "empty").mkdir(parents=True)
    (tree / "one").write_bytes(b"1" * 5000)
    (tree / "deep" / "a name").write_bytes(b"")
    (tree / "deep" / "link").symlink_to(tree / "one")
    shell, seen = HereShell(), []
    shell.breaks = 1
    done = transfer.push(
        shell.open,  # type: ignore[arg-type]
        tree,
        str(board),
        progress=lambda there, size: seen.append((there, size)),
        clock=FakeClock(),
    )
    assert (done.size_bytes, done.connections) == (10_000, 2)
    assert seen[-1] == (10_000, 10_000)
    back = tmp_path / "back"
    assert pull(shell, board / "tree", back).size_bytes == 10_000
    for place in (board / "tree", back):
        names = {str(path.relative_to(place)) for path in place.rglob("*")}
        assert names == {"one", "deep", "deep/a name", "deep/link", "deep/empty"}
        assert (place / "deep" / "link").read_bytes() == b"1" * 5000
    pull(shell, board / "tree", back)
    assert (back / "tree" / "one").exists(), "a folder that is there gets it under its own name"


def test_a_board_cannot_name_files_outside_of_what_was_asked_for(board: Path, tmp_path: Path) -> None:
    class Lying(HereShell):
        def run(self, argv: Sequence[str], **more: Any) -> Completed:
            done = super().run(argv, **more)
            return replace(done, stdout=f"{board}/../outside\0") if argv[0] == "find" else done

    with pytest.raises(DeviceError, match="the board lists"):
        pull(Lying(), board, tmp_path / "back")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("content", [b"booting\n" * 100, b""])
def test_a_file_that_grows_while_it_is_pulled_arrives_as_it_was(content: bytes, board: Path, tmp_path: Path) -> None:
    log = board / "log"
    log.write_bytes(content)

    class Growing(HereShell):
        def run(self, argv: Sequence[str], **more: Any) -> Completed:
            with log.open("ab") as file:
                file.write(b"more\n")
            return super().run(argv, **more)

    done = pull(Growing(), log, tmp_path / "back")
    assert log.read_bytes().startswith(back := (tmp_path / "back").read_bytes())
    assert len(back) >= done.size_bytes >= len(content)


def test_what_is_neither_file_nor_folder_does_not_travel(board: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    os.mkfifo(tmp_path / "tree" / "pipe")
    with pytest.raises(ConfigurationError, match="neither a file nor a folder"):
        push(HereShell(), tmp_path / "tree", board)


def test_the_disk_of_this_machine_is_not_the_boards_fault(board: Path, tmp_path: Path) -> None:
    (board / "file").write_bytes(b"x")
    shell = HereShell()
    shell.full_here = True
    with pytest.raises(BenchError, match="on this machine: No space left"):
        pull(shell, board / "file", tmp_path / "x")
    assert shell.opened == 1


def test_a_connection_that_breaks_is_opened_again(blob: Path, board: Path) -> None:
    shell = HereShell()
    shell.breaks = 2
    assert push(shell, blob, board / "file").connections == 3


def test_a_board_that_stays_away_is_given_up_at_the_deadline(blob: Path) -> None:
    def open_none() -> HereShell:
        raise BenchError("no route")

    with pytest.raises(BenchError, match="not done within 5 s"):
        transfer.push(open_none, blob, "/data/x", deadline_s=5.0, clock=FakeClock())  # type: ignore[arg-type]


def test_a_pull_of_nothing_and_into_no_folder_ends_at_once(board: Path, tmp_path: Path) -> None:
    shell = HereShell()
    with pytest.raises(ConfigurationError, match="there is no"):
        pull(shell, board / "nothing", tmp_path / "x")
    assert shell.opened == 1
    with pytest.raises(ConfigurationError, match="does not exist"):
        pull(shell, board / "nothing", tmp_path / "missing" / "x")
