"""Files to and from a board: folders, refusals that are not tried again, breaks that are."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hil.boards.protocol import Completed
from hil.boards.ssh import transfer
from hil.errors import BenchError, ConfigurationError, DeviceError
from hil.testing.fakes import FakeClock


class HereShell:
    """A board's shell that works on this host's files, as SshShell answers: refusals have an OSError as cause."""

    def __init__(self, room_b: int = 1 << 30) -> None:
        self.room_b = room_b
        self.connected = True
        self.opened = 0
        self.breaks = 0

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
            Path(remote).write_bytes(content[: self.room_b])  # a full disk: paramiko does not always notice
        except OSError as exc:
            raise DeviceError(f"cannot write {remote}: {exc}") from exc
        yield len(content)

    def receive_from(self, remote: str, local: Path, offset: int) -> Iterator[int]:
        local.write_bytes(Path(remote).read_bytes())
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


@pytest.mark.parametrize("full", [True, False])
def test_what_the_board_refuses_is_not_tried_again(full: bool, blob: Path, board: Path) -> None:
    shell = HereShell(room_b=1000 if full else 1 << 30)
    with pytest.raises(DeviceError, match="arrived as" if full else "No such file") as caught:
        push(shell, blob, board / ("file" if full else "missing/file"))
    assert shell.opened == 1
    assert "is the disk full" in caught.value.remedy
    assert not list(board.iterdir())


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
    with pytest.raises(DeviceError, match="there is no"):
        pull(shell, board / "nothing", tmp_path / "x")
    assert shell.opened == 1
    with pytest.raises(ConfigurationError, match="does not exist"):
        pull(shell, board / "nothing", tmp_path / "missing" / "x")
