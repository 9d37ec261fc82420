"""A hostile peer of a node: it may waste its own share of the board, and nobody else's."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hil.onboard.node import server
from hil.onboard.node.app import Node, Settings
from hil.onboard.node.distribute import MAX_ORDERS
from hil.onboard.node.epoch import Config
from hil.onboard.node.facts import Places
from hil.onboard.node.routes import Api
from hil.onboard.node.server import MAX_CONNECTIONS, MAX_PER_PEER
from hil.onboard.node.store import MAX_ANNOUNCED
from tests.kits.loopback_nodes import eventually
from tests.kits.manifest import CHUNK, manifest_of

FRIEND, STRANGER = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    (tmp_path / "board").write_text('{"name": "a1"}')
    (tmp_path / "os_release").write_text("VERSION_ID=1")
    made = Node(Settings("127.0.0.1", 0, tmp_path / "data", Places.under(tmp_path)))
    made.start()
    yield made
    made.stop()


def dial(node: Node, source: str = STRANGER) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.port), timeout=10, source_address=(source, 0))


def ask(node: Node, method: str, path: str, body: bytes = b"", source: str = FRIEND) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10, source_address=(source, 0))
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    finally:
        connection.close()


@contextmanager
def many(node: Node, count: int, said: bytes) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(dial(node)) for _ in range(count)]
        for sock in sockets:
            with suppress(OSError):
                sock.sendall(said)
        yield sockets


@pytest.mark.parametrize("said", [b"", b"GET /hea", b"POST /infer?epoch=1 HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"])
def test_one_address_cannot_take_all_connections(node: Node, said: bytes) -> None:
    with many(node, MAX_CONNECTIONS + 4, said):
        assert ask(node, "GET", "/health")[0] == 200
    assert MAX_PER_PEER < MAX_CONNECTIONS / 2


@pytest.mark.parametrize(
    "said", [b"GET /health HTTP/1.1\r\nX: ", b"POST /cluster/renew HTTP/1.1\r\nContent-Length: 900\r\n\r\n"]
)
def test_a_request_that_drips_is_ended(node: Node, said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.4)
    monkeypatch.setattr(server, "BODY_S", 0.2)
    with dial(node) as sock:
        sock.sendall(said)
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < begun + 5:
                sock.sendall(b"x")
                time.sleep(0.02)
        assert time.monotonic() - begun < 2


def test_an_idle_connection_stays_for_the_next_request(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.1)
    with dial(node) as sock:
        for _ in range(2):
            sock.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            assert b" 200 " in sock.recv(20)
            time.sleep(0.3)
            sock.recv(65536)


def test_bodies_are_bounded_together_and_their_memory_comes_back(node: Node) -> None:
    path, size = f"/artefacts/{'0' * 64}/manifest", 15 << 20
    said = f"PUT {path} HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode()
    with many(node, 2, said):
        eventually(lambda: node._server.memory.taken == 2 * size, "two bodies to be read")
        with dial(node) as sock:
            sock.sendall(said)
            assert b" 503 " in sock.recv(20)
        assert ask(node, "PUT", path, b"x" * (2 << 20))[0] == 400, "another address has a share of its own"
    eventually(lambda: node._server.memory.taken == 0, "the memory to come back")


def test_a_tile_is_not_read_before_its_epoch_is_known(node: Node) -> None:
    with dial(node) as sock:
        sock.sendall(b"POST /infer?epoch=7 HTTP/1.1\r\nContent-Length: 60000000\r\n\r\n")
        assert b" 409 " in sock.recv(20)
    assert ask(node, "POST", "/infer?epoch=7", b"x" * 2_000_000)[1]["error"] == "this board does not claim epoch 7"


def test_pull_orders_are_bounded(node: Node) -> None:
    order = json.dumps({"from": ["127.0.0.1:1"]}).encode()
    found = [ask(node, "POST", f"/artefacts/{n:064x}/pull", order)[0] for n in range(MAX_ORDERS + 3)]
    assert found == [202] * MAX_ORDERS + [429] * 3
    assert ask(node, "DELETE", f"/artefacts/{0:064x}")[0] in (200, 404)
    eventually(lambda: ask(node, "POST", f"/artefacts/{99:064x}/pull", order)[0] == 202, "a free place")


def announce(node: Node, content: bytes, source: str, **changes: Any) -> int:
    document = manifest_of(content, **changes)
    return ask(node, "PUT", f"/artefacts/{document['id']}/manifest", json.dumps(document).encode(), source)[0]


def test_announcements_of_a_stranger_take_no_place_of_others_and_block_no_upload(node: Node) -> None:
    content = b"the bundle"
    artefact = f"/artefacts/{hashlib.sha256(content).hexdigest()}"
    assert announce(node, content, STRANGER, chunk_sha256=["0" * 64]) == 200
    assert announce(node, content, FRIEND) == 200
    for number in range(MAX_ANNOUNCED + 8):
        assert announce(node, bytes([number]), STRANGER) == 200
    assert len(node.store.all()) <= MAX_ANNOUNCED + 1
    status, answer = ask(node, "PATCH", f"{artefact}?offset=0", content)
    assert status == 200 and answer["complete"]
    assert announce(node, content, STRANGER, chunk_sha256=["0" * 64]) == 409


@pytest.mark.parametrize("wrong", [{"chunk_sha256": ["", "0" * 64]}, {"size": CHUNK + 5}, {"kind": "scene"}])
def test_a_wrong_announcement_of_which_bytes_are_here_gives_way_to_the_right_one(
    node: Node, wrong: dict[str, Any]
) -> None:
    content = bytes(CHUNK) + b"the rest"
    right = manifest_of(content)
    if "chunk_sha256" in wrong:
        wrong = {"chunk_sha256": [right["chunk_sha256"][0], "0" * 64]}
    artefact = f"/artefacts/{right['id']}"
    assert announce(node, content, STRANGER, **wrong) == 200
    assert ask(node, "PATCH", f"{artefact}?offset=0", content[: CHUNK + 2], STRANGER)[1]["have_bytes"] == CHUNK + 2
    assert announce(node, content, FRIEND) == 200
    assert ask(node, "GET", artefact)[1]["have_bytes"] == CHUNK + 2, "what is here and fits is not lost"
    status, answer = ask(node, "PATCH", f"{artefact}?offset={CHUNK + 2}", content[CHUNK + 2 :])
    assert status == 200 and answer["complete"]
    assert announce(node, content, STRANGER, **wrong) == 409


def test_two_lengths_are_refused(node: Node) -> None:
    with dial(node) as sock:
        sock.sendall(b"POST /cluster/wake HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n")
        assert b" 400 " in sock.recv(20)


def test_no_request_is_an_error_of_the_service(node: Node) -> None:
    """Every address with every kind of nonsense: refused with a sentence, and the service goes on."""
    dice = random.Random(18)
    config = Config.of(1, {"gateway": "a1", "members": {"a1": "127.0.0.1:1"}, "os_version": "1"})
    renewal = {"member": "a1", "incarnation": 1, "seq": 1, "stored": [[1, "x"]], "fit": [1], "holding": None}
    bodies: list[dict[str, Any]] = [
        {"document": json.loads(config.document), "fresh": False},
        vars(config),
        renewal,
        manifest_of(b"x"),
        {"from": ["127.0.0.1:1"]},
        {"epoch": 1},
        {"scene": "x"},
    ]
    junk = ["null", "true", "-1", "1e999", "NaN", "1" + "0" * 400, '"x"', '"\\ud800"', '"\\u0000"', "[]", "[[]]", "{}"]
    deep = b"[" * 30_000
    routes = [(route.method, route.pattern.pattern[:-2]) for route in Api(node).routes()._routes]
    for method, pattern in routes:
        path = pattern.replace("([0-9a-f]{64})", "0" * 64).replace(r"(\d{1,9})", "1")
        for query in ("", "?epoch=1&offset=0", "?epoch=-1&offset=x", "?offset=" + "9" * 30, "?%ff=%00"):
            for raw in (b"", deep, b'{"x":' * 9_000, b"\xff"):
                status, answer = ask(node, method, path + query, raw)
                assert status < 500 or status == 501, (method, path, query, raw[:20], answer)
        for _ in range(24):
            body = {**dice.choice(bodies)}
            text = json.dumps({**body, (key := dice.choice(sorted(body))): "@"}).replace('"@"', dice.choice(junk))
            if dice.random() < 0.3 and isinstance(body.get("document"), dict):
                inner = dict(body["document"])
                inner[dice.choice(sorted(inner))] = "@"
                text = json.dumps({**body, "document": inner}).replace('"@"', dice.choice(junk))
            status, answer = ask(node, method, path, text.encode())
            assert status < 500 or status == 501, (method, path, key, text, answer)
    assert ask(node, "GET", "/health")[1]["healthy"] in (True, False)
