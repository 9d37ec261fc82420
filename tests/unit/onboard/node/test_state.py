"""Damaged state files: the node starts, says so, never serves under what was not committed, and goes on."""

from __future__ import annotations

import copy
import json
import random
import shutil
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hil.onboard.node.app import Node, Settings
from hil.onboard.node.epoch import Config, CoordinatorState, MemberState
from hil.onboard.node.facts import Places
from hil.onboard.node.state import save
from tests.kits.manifest import manifest_of

CONTENT = bytes(range(256)) * 40
MANIFEST = manifest_of(CONTENT)
DOCUMENT = {"gateway": "a1", "members": {"a1": "127.0.0.1:8470"}, "os_version": "1.0.0", "params": {"lease_s": 0.5}}
KNOWN = (Config.of(6, DOCUMENT), Config.of(7, {**DOCUMENT, "os_version": "2.0.0"}))
FILES = ["cluster/member.json", "cluster/coordinator.json", "cluster/incarnation.json"]
FILES += ["cluster/incarnation.copy.json"]
FILES += [f"artefacts/{MANIFEST['id']}/{name}" for name in ("manifest.json", "counters.json", "pull.json")]
JUNK: list[Any] = [None, True, -1, 5, 10**18, 1.5, "x", "\ud800", "", [], [[]], {}, {"x": 1}]


def refuse(host: str, port: int, timeout_s: float) -> socket.socket:
    raise ConnectionRefusedError(host)


def start(root: Path) -> Node:
    facts = root / "facts"
    facts.mkdir(parents=True, exist_ok=True)
    (facts / "board").write_text('{"name": "a1"}')
    return Node(Settings("127.0.0.1", 0, root / "data", Places.under(facts)), connector=refuse)


def written(root: Path) -> Path:
    """Return a node's data directory with state of every kind."""
    node = start(root)
    artefact = node.store.put(MANIFEST["id"], MANIFEST)
    artefact.append(artefact.begin(0, "ground"), memoryview(CONTENT), "ground")
    save(root / "data/cluster/member.json", asdict(MemberState(KNOWN[1], KNOWN[0])))
    save(root / "data/cluster/coordinator.json", asdict(CoordinatorState(7, KNOWN[1], KNOWN[0], (6, 0.5))))
    (root / "data" / FILES[-1]).write_text(json.dumps({"from": ["127.0.0.1:9"]}))
    node.stop()
    return root / "data"


def bit(dice: random.Random, content: bytes) -> bytes:
    at = dice.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << dice.randrange(8)]) + content[at + 1 :]


def cut(dice: random.Random, content: bytes) -> bytes:
    return content[: dice.randrange(len(content))]


def shape(dice: random.Random, content: bytes) -> bytes:
    return dice.choice([json.dumps(dice.choice(JUNK)).encode(), b"[" * 100_000, b"NaN", b"\xff\0"])


def value(dice: random.Random, content: bytes) -> bytes:
    """One value somewhere in the document is another, and the digest of an older version is not there."""
    document = copy.deepcopy(json.loads(content))
    document.pop("state_sha256", None)
    place: Any = document
    while True:
        key = dice.choice(sorted(place) if isinstance(place, dict) else range(len(place)))
        if not place[key] or not isinstance(place[key], dict | list) or dice.random() < 0.3:
            break
        place = place[key]
    place[key] = dice.choice(JUNK)
    return json.dumps(document).encode()


@pytest.mark.parametrize("lost", ["incarnation.json", "incarnation.copy.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"incarnation": "x"}'])
def test_one_damaged_file_does_not_begin_the_count_of_starts_anew(
    tmp_path: Path, lost: str, content: bytes | None
) -> None:
    for wanted in (1, 2):
        node = start(tmp_path)
        assert node.cluster.member.incarnation == wanted
        node.stop()
    file = tmp_path / "data/cluster" / lost
    file.unlink() if content is None else file.write_bytes(content)
    node = start(tmp_path)
    assert node.cluster.member.incarnation == 3
    node.stop()


@pytest.mark.parametrize("damage", [bit, cut, shape, value])
def test_a_node_with_a_damaged_file_starts_and_goes_on(
    damage: Callable[[random.Random, bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = written(tmp_path / "whole")
    dice = random.Random(damage.__name__)
    for number in range(54):
        root = tmp_path / str(number)
        shutil.copytree(whole, root / "data")
        path = root / "data" / FILES[number % len(FILES)]
        path.write_bytes(content := damage(dice, path.read_bytes()))
        node = start(root)
        node.distributor.resume()
        try:
            assert node.health().board == "a1", content
            stored = node.cluster.member.state.stored
            assert {(c.document, c.sha256) for c in stored} <= {(c.document, c.sha256) for c in KNOWN}, content
            assert node.cluster.describe()["member"] is not None
            node.cluster.renew_once()
            artefact = node.store.put(MANIFEST["id"], MANIFEST)
            assert artefact.status()["complete"] and artefact.path.read_bytes() == CONTENT, content
            proposed = node.cluster.propose({**DOCUMENT, "os_version": "3.0.0"}, fresh=False)
            assert proposed["missing"] == {} and node.cluster.commit(proposed["epoch"]), content
        finally:
            node.stop()
    if damage is not value:
        assert "was damaged and is forgotten" in capsys.readouterr().err


def test_what_was_forgotten_is_said(tmp_path: Path) -> None:
    path = written(tmp_path) / "cluster/member.json"
    path.write_text(path.read_text().replace("2.0.0", "2.0.1"))
    assert "does not fit its digest" in start(tmp_path).cluster.describe()["forgotten"][0]
    assert path.with_name("member.json.damaged").exists()
