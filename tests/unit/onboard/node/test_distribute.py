"""Boards feed each other while they are fed: every byte once, through every cut."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.core import netns
from hil.images.artefact import Artefact
from hil.testing.attacker import HostileSource, Malice
from tests.kits.loopback_nodes import Bed, LoopBoard, bed, eventually
from tests.kits.manifest import CHUNK, manifest_of

CONTENT = bytes((i * 13 + i // 199) % 256 for i in range(40 * CHUNK + 333))
ID = hashlib.sha256(CONTENT).hexdigest()
PART = 12345


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Bed]:
    with bed(tmp_path, {"a": 2, "b": 2}) as made:
        yield made


def ask(board: LoopBoard, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(board.ip, board.port, timeout=5)
    try:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def announce(board: LoopBoard, content: bytes = CONTENT) -> None:
    document = manifest_of(content)
    status, _ = ask(board, "PUT", f"/artefacts/{document['id']}/manifest", json.dumps(document).encode())
    assert status == 200


def send(board: LoopBoard, start: int, end: int) -> int:
    return ask(board, "PATCH", f"/artefacts/{ID}?offset={start}", CONTENT[start:end])[0]


def pull(board: LoopBoard, *sources: LoopBoard) -> None:
    body = json.dumps({"from": [f"{s.ip}:{s.port}" for s in sources]}).encode()
    assert ask(board, "POST", f"/artefacts/{ID}/pull", body)[0] == 202


def have(board: LoopBoard) -> int:
    return int(ask(board, "GET", f"/artefacts/{ID}")[1].get("have_bytes", 0))


def complete(board: LoopBoard) -> bool:
    return bool(ask(board, "GET", f"/artefacts/{ID}")[1].get("complete"))


def received(board: LoopBoard) -> dict[str, int]:
    found: dict[str, int] = ask(board, "GET", f"/artefacts/{ID}")[1]["received"]
    return found


def test_bytes_reach_the_end_of_the_chain_long_before_the_upload_ends(boards: Bed) -> None:
    announce(boards["a1"])
    pull(boards["b1"], boards["a1"])
    pull(boards["b2"], boards["b1"])
    assert send(boards["a1"], 0, 10 * CHUNK) == 200
    eventually(lambda: have(boards["b2"]) == 10 * CHUNK, "the first chunks at the end of the chain")
    assert send(boards["a1"], 10 * CHUNK, len(CONTENT)) == 200
    eventually(lambda: complete(boards["b2"]), "the whole artefact at the end of the chain")
    assert received(boards["b1"]) == {"a1": len(CONTENT)}
    assert received(boards["b2"]) == {"b1": len(CONTENT)}
    sent = ask(boards["a1"], "GET", f"/artefacts/{ID}")[1]["sent"]
    assert list(sent.values()) == [len(CONTENT)]
    assert boards["b2"].node is not None
    assert boards["b2"].node.store.get(ID).path.read_bytes() == CONTENT


def test_an_upload_that_makes_progress_is_not_taken_over_by_another_controller(
    boards: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = boards["a1"]
    announce(board)
    path = f"/artefacts/{ID}?offset="
    slow = socket.create_connection((board.ip, board.port), timeout=5)
    slow.sendall(f"PATCH {path}0&by=one HTTP/1.1\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode() + CONTENT[:PART])
    eventually(lambda: have(board) == PART, "the first part")
    status, answer = ask(board, "PATCH", f"{path}{PART}&by=two", b"x")
    assert (status, answer["error"]) == (423, "busy: one uploads it")
    monkeypatch.setattr("hil.onboard.node.artefact.TAKE_OVER_S", 0.0)
    assert ask(board, "PATCH", f"{path}{PART}&by=two", CONTENT[PART:])[0] == 200, "it has been silent for too long"
    assert complete(board)
    slow.close()


def test_an_upload_whose_connection_ended_is_taken_over_at_once(boards: Bed) -> None:
    board = boards["a1"]
    announce(board)
    with socket.create_connection((board.ip, board.port), timeout=5) as cut:
        cut.sendall(
            f"PATCH /artefacts/{ID}?offset=0&by=one HTTP/1.1\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode()
        )
        cut.sendall(CONTENT[:PART])
        eventually(lambda: have(board) == PART, "the first part")
    path = f"/artefacts/{ID}?offset={PART}&by=two"
    eventually(lambda: ask(board, "PATCH", path, CONTENT[PART:])[0] == 200, "the other controller's turn", 2.0)


def test_a_board_may_be_told_to_pull_before_its_source_has_heard_of_the_artefact(boards: Bed) -> None:
    pull(boards["a2"], boards["a1"])
    time.sleep(0.05)
    announce(boards["a1"])
    send(boards["a1"], 0, len(CONTENT))
    eventually(lambda: complete(boards["a2"]), "the artefact")


def test_a_source_that_restarts_costs_nothing_that_had_arrived(boards: Bed) -> None:
    announce(boards["a1"])
    pull(boards["a2"], boards["a1"])
    send(boards["a1"], 0, 15 * CHUNK + 100)
    eventually(lambda: have(boards["a2"]) == 15 * CHUNK, "the first part")
    boards["a1"].off()
    boards["a1"].on()
    send(boards["a1"], 15 * CHUNK + 100, len(CONTENT))
    eventually(lambda: complete(boards["a2"]), "the rest after the restart")
    assert received(boards["a2"]) == {"a1": len(CONTENT)}


def test_a_board_that_restarts_goes_on_pulling_by_itself(boards: Bed) -> None:
    announce(boards["a1"])
    pull(boards["a2"], boards["a1"])
    send(boards["a1"], 0, 20 * CHUNK)
    eventually(lambda: have(boards["a2"]) == 20 * CHUNK, "the first part")
    boards["a2"].off()
    send(boards["a1"], 20 * CHUNK, len(CONTENT))
    boards["a2"].on()
    eventually(lambda: complete(boards["a2"]), "the rest without another order")
    assert sum(received(boards["a2"]).values()) == len(CONTENT)


def test_the_second_source_helps_out_when_the_first_is_gone(boards: Bed) -> None:
    announce(boards["a1"])
    send(boards["a1"], 0, len(CONTENT))
    boards["b1"].off()
    pull(boards["b2"], boards["b1"], boards["a1"])
    eventually(lambda: complete(boards["b2"]), "the artefact from the second source")
    assert received(boards["b2"]) == {"a1": len(CONTENT)}


def test_a_source_that_falls_silent_is_left_for_a_new_connection(boards: Bed) -> None:
    """A listener that accepts and never answers stands for a path that died."""
    with socket.create_server(("127.88.250.1", 0)) as deaf:
        ip, port = deaf.getsockname()
        body = json.dumps({"from": [f"{ip}:{port}", f"{boards['a1'].ip}:{boards['a1'].port}"]}).encode()
        ask(boards["a2"], "POST", f"/artefacts/{ID}/pull", body)
        announce(boards["a1"])
        send(boards["a1"], 0, len(CONTENT))
        eventually(lambda: complete(boards["a2"]), "the artefact from the source that speaks")


def test_an_upload_that_is_cut_in_a_chunk_resumes_at_the_byte(boards: Bed) -> None:
    announce(boards["a1"])
    board = boards["a1"]
    with socket.create_connection((board.ip, board.port)) as sock:
        head = f"PATCH /artefacts/{ID}?offset=0 HTTP/1.1\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
        sock.sendall(head.encode() + CONTENT[:12345])
        eventually(lambda: have(board) == 12345, "the first part")
    assert send(board, 12345, len(CONTENT)) == 200
    assert complete(board)
    assert sum(received(board).values()) == len(CONTENT)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("POST", "/health", b"", 405),
        ("GET", f"/artefacts/{ID}", None, 404),
        ("PATCH", f"/artefacts/{ID}?offset=0", b"x", 404),
        ("PUT", f"/artefacts/{ID}/manifest", b"{", 400),
        ("PUT", f"/artefacts/{ID}/manifest", b"[]", 400),
        ("POST", f"/artefacts/{ID}/pull", b'{"from": []}', 400),
        ("POST", f"/artefacts/{ID}/pull", b'{"from": ["nowhere"]}', 400),
        ("POST", "/cluster/propose", b'{"document": {}}', 400),
        ("POST", "/cluster/renew", b"{}", 400),
        ("POST", "/cluster/commit", b'{"epoch": "one"}', 400),
        ("POST", "/infer?epoch=1", b"tile", 409),
        ("POST", "/infer?epoch=-1", b"tile", 400),
        ("POST", "/jobs", b'{"scene": "x"}', 409),
        ("GET", "/jobs/7", None, 404),
    ],
)
def test_a_bad_request_gets_a_status_and_a_sentence(
    boards: Bed, method: str, path: str, body: bytes | None, status: int
) -> None:
    found, answer = ask(boards["a1"], method, path, body)
    assert found == status
    assert answer["error"]


def test_what_is_not_http_does_not_hurt(boards: Bed) -> None:
    board = boards["a1"]
    for garbage in (b"\x00\xff\x00\xff\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n"):
        with socket.create_connection((board.ip, board.port)) as sock:
            sock.sendall(garbage)
            sock.settimeout(5)
            assert b"40" in sock.recv(200)[:20]
    assert ask(board, "GET", "/health")[0] == 200


def test_a_plain_download_has_what_is_verified(boards: Bed) -> None:
    announce(boards["a1"])
    send(boards["a1"], 0, len(CONTENT))
    connection = http.client.HTTPConnection(boards["a1"].ip, boards["a1"].port, timeout=5)
    connection.request("GET", f"/artefacts/{ID}/data?offset=1000")
    assert connection.getresponse().read() == CONTENT[1000:]
    connection.close()


def test_a_deleted_artefact_is_gone_and_its_space_free(boards: Bed) -> None:
    announce(boards["a1"])
    send(boards["a1"], 0, len(CONTENT))
    assert boards["a1"].node is not None
    path = boards["a1"].node.store.get(ID).path
    assert ask(boards["a1"], "DELETE", f"/artefacts/{ID}")[0] == 200
    assert ask(boards["a1"], "GET", f"/artefacts/{ID}")[0] == 404
    assert not path.exists()


@pytest.mark.parametrize("malice", [Malice.LIE, Malice.ENDLESS], ids=str)
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "not ordered"])
def test_a_source_cannot_lie_about_what_was_ordered(
    boards: Bed, tmp_path: Path, malice: Malice, *, ordered: bool
) -> None:
    """An order that names the manifest; without that the board believes the source, and takes what it gets."""
    file = tmp_path / "scene"
    file.write_bytes(CONTENT)
    artefact = Artefact.of_file(file, "scene")
    board = boards["a2"]
    with HostileSource(netns.HOST, "127.0.0.1", artefact, malice, None) as source:
        order = {"from": [source.address], **({"manifest_sha256": artefact.manifest_sha256} if ordered else {})}
        assert ask(board, "POST", f"/artefacts/{ID}/pull", json.dumps(order).encode())[0] == 202
        if not ordered:
            eventually(lambda: have(board) > 0, "false bytes")
            return
        says = f"/artefacts/{ID}"
        eventually(lambda: "not the one" in str(ask(board, "GET", says)[1].get("pulling")), "a refusal")
        assert (have(board), source.asked) == (0, 0)
    announce(boards["a1"])
    assert send(boards["a1"], 0, len(CONTENT)) == 200
    right = {"from": [f"{boards['a1'].ip}:{boards['a1'].port}"], "manifest_sha256": artefact.manifest_sha256}
    if ask(boards["a1"], "GET", f"/artefacts/{ID}/manifest")[1]["chunk_size"] != artefact.manifest()["chunk_size"]:
        del right["manifest_sha256"]  # the same file, announced here in smaller chunks
    assert ask(board, "POST", says + "/pull", json.dumps(right).encode())[0] == 202
    eventually(lambda: complete(board), "the artefact from an honest source")
