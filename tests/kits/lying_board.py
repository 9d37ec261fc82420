"""A board that lies: every field of every answer of its node service, in every way that JSON and HTTP allow."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast, get_args, get_origin, get_type_hints

from hil.boards.protocol import Board
from hil.onboard.node.answers import ArtefactStatus, Health, Proposal
from hil.rollout.cluster_job import JobStatus
from hil.rollout.fleet import Fleet

ANSWERS: dict[type, tuple[str, str]] = {
    Health: ("GET", "/health"),
    ArtefactStatus: ("GET", "/artefacts/" + "0" * 64),
    Proposal: ("POST", "/cluster/propose"),
    JobStatus: ("GET", "/jobs/1"),
}
"""Every answer that the harness reads, and how it asks for it."""

FLOOD = b"@flood@"
"""Stands for 200 MiB."""
SHOUT = '"\\u001b]0;PWN\\u0007\\u001b[2J\\u202e\\u009b31m<script>alert(1)</script>\\r"'
LIES: dict[str, str] = {
    "null": "null",
    "text": '"x"',
    "number": "7",
    "fraction": "1.9",
    "boolean": "true",
    "list": "[[]]",
    "object": '{"x": [1]}',
    "negative": "-1",
    "long number": "1" + "0" * 5000,
    "large number": "1" + "0" * 60,
    "infinite": "1e999",
    "NaN": "NaN",
    "half a character": '"\\ud800"',
    "escape sequences": SHOUT,
    "NUL": '"\\u0000x"',
    "deep": "[" * 100_000 + "]" * 100_000,
    "long text": json.dumps("x" * 100_000),
    "flood": f'"{FLOOD.decode()}"',
}
"""By name what stands in place of a value."""


def message(body: bytes, status: str = "200 OK") -> bytes:
    size = len(body) + body.count(FLOOD) * ((200 << 20) - len(FLOOD))
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body


BROKEN: dict[str, bytes | Callable[[], Iterable[bytes]]] = {
    "drips its head": lambda: dripping(b"HTTP/1.1 200 OK\r\nX: "),
    "drips its body": lambda: dripping(b'HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{"board": "'),
    "ends too soon": b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n{"board"',
    "no HTTP": b"\x00\xff\x1b[2J\r\n\r\n",
    "no status": b"HTTP/1.1 \r\n\r\n",
    "odd status": message(b"{}", "-7 \x1b[2J"),
    "odd length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
    "odd chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n{}",
    "long head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n{}",
    "many heads": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5_000 + b"\r\n{}",
    "for ever 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000,
    "nothing": message(b""),
    "no JSON": message(b"<html>\x1b[2J"),
    "no text": message(b'"\xff\xfe'),
    "no object": message(b"[1, 2]"),
    "deep": message(b"[" * 100_000),
    "flood": message(b'{"x": "' + FLOOD + b'"}'),
}
"""By name an answer that is wrong as a whole."""


def dripping(start: bytes) -> Iterator[bytes]:
    yield start
    while True:
        time.sleep(0.02)
        yield b"x"


def sample(hint: Any) -> Any:
    """Return a good value of a type."""
    for choice in choices(hint):
        if isinstance(choice, type) and dataclasses.is_dataclass(choice):
            return {key: sample(inner) for key, inner in fields(choice).items()}
        if get_origin(choice) is dict:
            return {"k": sample(get_args(choice)[1])}
        if get_origin(choice) is tuple:
            return [sample(get_args(choice)[0])]
        return {bool: True, int: 1, float: 1.0, str: "1"}[choice]


def choices(hint: Any) -> list[Any]:
    found = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return [choice for choice in found if choice is not types.NoneType]


def fields(cls: type) -> dict[str, Any]:
    """Return by JSON key the type of each field."""
    hints = get_type_hints(cls)
    return {f.metadata.get("key", f.name): hints[f.name] for f in dataclasses.fields(cls)}


def parts(hint: Any) -> Iterator[type]:
    """Yield the types of objects within a type."""
    for choice in choices(hint):
        if isinstance(choice, type) and dataclasses.is_dataclass(choice):
            yield choice
            for inner in fields(choice).values():
                yield from parts(inner)
        else:
            for inner in get_args(choice):
                yield from parts(inner)


def places(hint: Any) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to every value in an answer of a type."""
    for choice in choices(hint):
        inner: dict[Any, Any] = {}
        if isinstance(choice, type) and dataclasses.is_dataclass(choice):
            inner = dict(fields(choice))
        elif get_origin(choice) is dict:
            inner = {"k": get_args(choice)[1]}
        elif get_origin(choice) is tuple:
            inner = {0: get_args(choice)[0]}
        for key, each in inner.items():
            yield (key,)
            for rest in places(each):
                yield (key, *rest)


def answer(cls: type, place: tuple[str | int, ...] = (), lie: str = "", board: str = "b1") -> bytes:
    """Return a good answer of a type, with a lie at one place."""
    document = sample(cls)
    if "board" in document:
        document["board"] = board
    if place:
        within = document
        for key in place[:-1]:
            within = within[key]
        within[place[-1]] = "@lie@"
    return message(json.dumps(document).replace('"@lie@"', lie).encode())


def documents() -> Iterator[tuple[type, tuple[str | int, ...], str, str]]:
    """Yield type, place, and name and text of the lie, of every answer that lies at one place."""
    for cls in ANSWERS:
        for place in places(cls):
            for name, lie in LIES.items():
                yield cls, place, name, lie


class LyingBoard:
    """A server on a loopback port that answers every request with ``says``."""

    def __init__(self, name: str = "b1") -> None:
        self.name, self.spacecraft = name, "sc-b"
        self.says: bytes | Callable[[], Iterable[bytes]] = b""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def address(self, via: object = None) -> tuple[str, str]:
        return "", "127.0.0.1"

    def fleet(self) -> Fleet:
        def dial(namespace: str, address: tuple[str, int], *, timeout_s: float) -> socket.socket:
            return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

        return Fleet((cast(Board, self),), self.name, port=self.port, dial=dial)

    def close(self) -> None:
        self._server.close()

    def __enter__(self) -> LyingBoard:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        flood = bytes(1 << 20).replace(b"\0", b"x")
        with connection, connection.makefile("rb") as requests:
            try:
                while line := requests.readline():
                    length = 0
                    while line.strip():
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                        line = requests.readline()
                    requests.read(length)
                    says = self.says
                    for part in [says] if isinstance(says, bytes) else says():
                        start, flooded, end = part.partition(FLOOD)
                        connection.sendall(start)
                        for _ in range(200 if flooded else 0):
                            connection.sendall(flood)
                        connection.sendall(end)
            except OSError:
                return
