"""The management console of User-Mode Linux, against a scripted kernel."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil.errors import BenchError
from hil.links.engines.mconsole import configure

REQUEST = struct.Struct("=IIi512s")
Answer = Callable[[str], list[bytes]]


def reply(text: str, *, error: int = 0, more: int = 0) -> bytes:
    return struct.pack("=III", error, more, len(text) + 1) + text.encode() + b"\0"


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Callable[[Answer], list[str]]]:
    """Start a console that answers as told; the commands it was given."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(tmp_path / "mconsole"))
    commands: list[str] = []

    def start(answer: Answer) -> list[str]:
        def run() -> None:
            while True:
                data, client = sock.recvfrom(1024)
                if not data:
                    return
                magic, version, length, text = REQUEST.unpack(data)
                assert (magic, version) == (0xCAFEBABE, 2)
                commands.append(text[:length].decode())
                for piece in answer(commands[-1]):
                    sock.sendto(piece, client)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        running.append(thread)
        return commands

    running: list[threading.Thread] = []
    yield start
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.sendto(b"", str(tmp_path / "mconsole"))
    for thread in running:
        thread.join(timeout=5)
    sock.close()


def test_every_setting_is_told_in_order(tmp_path: Path, kernel: Callable[[Answer], list[str]]) -> None:
    commands = kernel(lambda command: [reply("OK")])
    configure(tmp_path, ["vec7:a=b", "vec8:a=c"], nudge=lambda: None)
    assert commands == ["config vec7:a=b", "config vec8:a=c"]
    assert [path.name for path in tmp_path.iterdir()] == ["mconsole"]


def test_a_refusal_is_told_in_the_kernels_words_even_in_pieces(
    tmp_path: Path, kernel: Callable[[Answer], list[str]]
) -> None:
    kernel(lambda command: [reply("no such ", more=1), reply("interface", error=1)])
    with pytest.raises(BenchError, match=r"refused 'config vec7:x': no such interface"):
        configure(tmp_path, ["vec7:x"], nudge=lambda: None)


def test_a_kernel_that_sleeps_over_a_request_is_nudged_and_not_asked_twice(
    tmp_path: Path, kernel: Callable[[Answer], list[str]]
) -> None:
    awake = threading.Event()

    def answer(command: str) -> list[bytes]:
        assert awake.wait(5)
        return [reply("OK")]

    commands = kernel(answer)
    configure(tmp_path, ["vec7:x"], nudge=awake.set)
    assert commands == ["config vec7:x"]


def test_without_a_console_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="console of User-Mode Linux failed"):
        configure(tmp_path, ["vec7:x"], nudge=lambda: None)
