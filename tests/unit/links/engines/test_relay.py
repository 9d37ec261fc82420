"""The relay's frames, against a scripted other end."""

import math
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from hil.errors import BenchError
from hil.links.engines.agent import split
from hil.links.engines.relay import Kind, RelayLine

HEADER = struct.Struct("<HBBHH")
MAGIC = 0x4C48
Script = Callable[[socket.socket], None]


def receive(sock: socket.socket) -> tuple[int, int, bytes]:
    length, kind, _, sequence, magic = HEADER.unpack(sock.recv(HEADER.size, socket.MSG_WAITALL))
    assert magic == MAGIC
    return kind, sequence, sock.recv(length, socket.MSG_WAITALL) if length else b""


def send(sock: socket.socket, sequence: int, payload: bytes, *, more: bool = False) -> None:
    sock.sendall(HEADER.pack(len(payload), Kind.CLOCK, int(more), sequence, MAGIC) + payload)


@pytest.fixture
def other_end() -> Iterator[Callable[..., RelayLine]]:
    """Start a scripted relay; the line to it."""
    started: list[tuple[socket.socket, threading.Thread]] = []
    failures: list[BaseException] = []

    def start(script: Script, *, nudge_s: float = math.inf) -> RelayLine:
        ours, theirs = socket.socketpair()

        def run() -> None:
            try:
                script(theirs)
            except BaseException as exc:
                failures.append(exc)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        started.append((ours, thread))
        return RelayLine(ours, name="the scripted relay", nudge_s=nudge_s)

    yield start
    for sock, thread in started:
        sock.close()
        thread.join(timeout=5)
    assert not failures


def test_an_answer_comes_back_whole(other_end: Callable[..., RelayLine]) -> None:
    def script(sock: socket.socket) -> None:
        kind, sequence, payload = receive(sock)
        assert (kind, payload) == (Kind.CLOCK, b"ask")
        send(sock, sequence, b"answer")

    assert other_end(script).ask(Kind.CLOCK, b"ask") == b"answer"


def test_a_long_answer_is_fetched_piece_by_piece(other_end: Callable[..., RelayLine]) -> None:
    def script(sock: socket.socket) -> None:
        _, sequence, _ = receive(sock)
        send(sock, sequence, b"a" * 3000, more=True)
        assert receive(sock)[0] == Kind.MORE  # nothing more is sent before it is asked for
        send(sock, sequence, b"b")

    assert other_end(script).ask(Kind.NETLINK) == b"a" * 3000 + b"b"


def test_a_silent_serial_line_is_nudged_until_it_wakes(other_end: Callable[..., RelayLine]) -> None:
    def script(sock: socket.socket) -> None:
        _, sequence, _ = receive(sock)
        for _ in range(2):
            kind, _, payload = receive(sock)
            assert (kind, payload) == (Kind.NUDGE, b"")
        send(sock, sequence, b"awake")

    line = other_end(script, nudge_s=0.005)
    assert line.ask(Kind.CLOCK) == b"awake"
    assert line.nudges >= 2


def test_the_late_answer_to_a_request_given_up_is_not_taken_for_the_next(other_end: Callable[..., RelayLine]) -> None:
    def script(sock: socket.socket) -> None:
        _, first, _ = receive(sock)
        _, second, _ = receive(sock)
        send(sock, first, b"late")
        send(sock, second, b"right")

    line = other_end(script)
    with pytest.raises(BenchError, match="did not answer in time"):
        line.ask(Kind.CLOCK, deadline_s=0.02)
    assert line.ask(Kind.CLOCK) == b"right"


def test_a_relay_that_is_gone_is_a_bench_error_with_its_name(other_end: Callable[..., RelayLine]) -> None:
    line = other_end(lambda sock: sock.close())
    with pytest.raises(BenchError, match="the scripted relay is gone"):
        line.ask(Kind.CLOCK)


def test_something_that_is_not_a_frame_is_refused(other_end: Callable[..., RelayLine]) -> None:
    def script(sock: socket.socket) -> None:
        receive(sock)
        sock.sendall(b"login: root\n")

    line = other_end(script)
    with pytest.raises(BenchError, match="something else than frames"):
        line.ask(Kind.CLOCK)


def test_what_a_terminal_that_was_not_raw_yet_echoes_is_passed_over(other_end: Callable[..., RelayLine]) -> None:
    def script(sock: socket.socket) -> None:
        _, sequence, _ = receive(sock)
        sock.sendall(b"^@^@^A^@^A^@HL^@^@^@^@^A^@HL")  # of the request, and of a nudge
        send(sock, sequence, b"answer")

    assert other_end(script).ask(Kind.HELLO) == b"answer"


def test_a_payload_larger_than_a_frame_is_a_programming_error(other_end: Callable[..., RelayLine]) -> None:
    line = other_end(lambda sock: None)
    with pytest.raises(ValueError, match="3000"):
        line.ask(Kind.CLOCK, bytes(3001))


def test_a_batch_is_cut_between_messages_into_parts_that_fit_a_frame() -> None:
    one = struct.pack("=I", 998) + bytes(996)  # 998 bytes, padded to 1000
    parts = split(one * 7)
    assert [len(part) for part in parts] == [3000, 3000, 1000]
    assert b"".join(parts) == one * 7
    assert split(b"") == []
