"""A command on a board whose output is seen while it runs, and that ends when nobody wants it any more."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.boards.ssh.shell import SshShell
from hil.core.wait import wait_until
from tests.kits.ssh_server import ssh_server

ANSWERS_TO_INT = "trap 'echo ended; exit 3' INT; echo begun; while :; do sleep 0.05; done"
DEAF = "trap '' INT; echo begun; while :; do sleep 0.05; done"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[SshShell]:
    with ssh_server(tmp_path) as target, SshShell(target) as opened:
        yield opened


def stream(shell: SshShell, command: str, **more: object) -> tuple[int | None, bytes, bytes]:
    out, err = bytearray(), bytearray()
    code = shell.stream(["sh", "-c", command], out=out.extend, err=err.extend, **more)  # type: ignore[arg-type]
    return code, bytes(out), bytes(err)


def test_output_comes_while_the_command_runs_and_the_exit_code_at_its_end(shell: SshShell) -> None:
    came: list[tuple[bytes, float]] = []
    code = shell.stream(
        ["sh", "-c", "echo one; sleep 0.4; echo two; exit 7"],
        out=lambda data: came.append((data, time.monotonic())),
        err=lambda data: None,
    )
    assert code == 7 and b"".join(data for data, _ in came) == b"one\ntwo\n"
    assert came[-1][1] - came[0][1] > 0.3


def test_both_outputs_and_the_input_pass_as_they_are(shell: SshShell) -> None:
    assert stream(shell, "cat; echo no >&2", stdin=b"\x00\xff" * 200_000) == (0, b"\x00\xff" * 200_000, b"no\n")
    reading, writing = os.pipe()

    def type_and_end() -> None:
        os.write(writing, b"typed\n")
        os.close(writing)

    threading.Timer(0.2, type_and_end).start()
    try:
        assert stream(shell, "cat", stdin=reading) == (0, b"typed\n", b"")
    finally:
        os.close(reading)


def is_gone(word: str) -> bool:
    """Whether no process has this word in its command line."""
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    return not any(word.encode() in line for line in lines)


@pytest.mark.parametrize("command", [ANSWERS_TO_INT, DEAF])
def test_a_command_that_takes_too_long_is_ended_there_and_what_it_said_is_kept(command: str, shell: SshShell) -> None:
    mark = f"mark-{os.getpid()}-{len(command)}"
    code, out, _ = stream(shell, f": {mark}; {command}", timeout_s=0.5)
    assert code is None and out.startswith(b"begun\n") and (b"ended" in out) == (command == ANSWERS_TO_INT)
    wait_until(lambda: is_gone(mark), what="the command on the board to be gone", deadline_s=5)


def test_ctrl_c_ends_the_command_there(shell: SshShell) -> None:
    mark = f"mark-{os.getpid()}-interrupt"

    def interrupt(data: bytes) -> None:
        if data == b"begun\n":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shell.stream(["sh", "-c", f": {mark}; {ANSWERS_TO_INT}"], out=interrupt, err=interrupt)
    wait_until(lambda: is_gone(mark), what="the command on the board to be gone", deadline_s=5)
    assert shell.run(["echo", "still here"]).stdout == "still here\n"


def test_another_thread_stops_it(shell: SshShell) -> None:
    stop = threading.Event()
    threading.Timer(2.0, stop.set).start()
    assert stream(shell, "echo begun; sleep 60", stop=stop.is_set) == (None, b"begun\n", b"")
