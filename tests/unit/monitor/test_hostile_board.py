"""A hostile board: whatever its node service answers, the run has a verdict, the fault is its own, the others are seen.

The fields come from the types of the answers, so a new field is lied about from its first day.
"""

from __future__ import annotations

import json
import socket
import unicodedata
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from hil.boards.protocol import Via
from hil.core import netns
from hil.errors import DeviceError
from hil.evidence.events import WatchViolation
from hil.monitor.board_watch import BoardWatch
from hil.monitor.exporter import BenchCollector
from hil.onboard.node import answers
from hil.onboard.node.answers import Health
from hil.rollout.node_client import NodeClient, NodeSilent
from hil.rollout.watcher import InvariantWatcher
from hil.testing.fakes import ListSink
from tests.kits import lying_board
from tests.kits.campaign_folder import HEAD, Campaign
from tests.kits.fake_bench import FakeBoard, board_health, health
from tests.kits.loopback_nodes import eventually
from tests.kits.lying_board import ANSWERS, BROKEN, LIES, LyingBoard, answer, documents, message, places

pytest_plugins = ["pytester"]

WATCHED = ("null", "text", "negative", "infinite", "half a character", "escape sequences", "object")
NO_ANSWER = {"drips its head", "drips its body", "ends too soon", "for ever 100", "odd length", "odd chunks"}
"""Looks like a path that died, so the path is asked before the board is blamed."""

CAMPAIGN = (
    HEAD
    + """
from dataclasses import asdict

from hil.boards.protocol import Via
from hil.evidence.events import WatchViolation
from hil.rollout.node_client import NodeClient
from tests.kits.lying_board import ANSWERS, BROKEN, LIES, LyingBoard, answer, message, places

@pytest.mark.requirement("DEM-1", "DEM-2")
@pytest.mark.parametrize("name", LIES)
def test_a_field(name, recorder):
    faults = []
    with LyingBoard() as board, NodeClient(board.fleet(), "b1", Via.MANAGEMENT) as client:
        for kind, request in ANSWERS.items():
            for place in places(kind):
                board.says = answer(kind, place, LIES[name])
                try:
                    said = str(asdict(client.ask(kind, *request)))
                    recorder.emit(WatchViolation("odd-answer", said))
                except DeviceError as exc:
                    faults.append(exc)
        board.says = message(b'{"error": ' + LIES[name].encode() + b', "job": ' + LIES[name].encode() + b"}", "409 No")
        try:
            client.health()
        except DeviceError as exc:
            faults.append(exc)
    raise DeviceError("; ".join(exc.message for exc in faults[-3:]))

@pytest.mark.parametrize("name", BROKEN)
def test_an_answer(name, recorder):
    with LyingBoard() as board, NodeClient(board.fleet(), "b1", Via.MANAGEMENT, timeout_s=0.3) as client:
        board.says = BROKEN[name]
        client.health()
"""
)


def test_every_type_of_the_contract_is_lied_about() -> None:
    told = {*ANSWERS, *(inner for kind in ANSWERS for inner in lying_board.parts(kind))}
    written_by_ground = {answers.Configuration, answers.Params, answers.Order, answers.Signed}
    ours = {c for c in vars(answers).values() if isinstance(c, type) and c.__module__ == answers.__name__}
    assert {c for c in ours if hasattr(c, "__dataclass_fields__")} == {
        c for c in told | written_by_ground if c.__module__ == answers.__name__
    }


def test_a_run_over_every_lie_has_all_verdicts_on_disk_and_clean_pages(
    pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIL_REPORTS", str(tmp_path / "out"))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    campaign = Campaign(pytester, tmp_path / "out")
    campaign.write(CAMPAIGN)
    terminal = campaign.run()
    tests = campaign.result["tests"]
    assert len(tests) == len(LIES) + len(BROKEN)
    blamed = {t["id"]: (t["verdict"], t.get("blame")) for t in tests}
    assert len(blamed) == len(tests)
    for step, found in blamed.items():
        silent = any(name in step for name in NO_ANSWER)
        assert found == (("INCONCLUSIVE", "bench") if silent else ("FAIL", "device under test")), (step, found)
    assert campaign.result["verdict"] == "FAIL"
    for name in ("result.json", "report.html", "junit.xml", "evidence.jsonl"):
        assert_clean((campaign.directory() / name).read_bytes().decode("utf-8"), name)
    assert_clean(terminal.stdout.str() + terminal.stderr.str(), "the terminal")


def assert_clean(text: str, where: str) -> None:
    hostile = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t"}
    assert not hostile, (where, hostile)
    assert "<script>alert" not in text or not where.endswith(".html")
    if where.endswith(".json"):
        assert_clean("".join(strings(json.loads(text))), f"{where}, read")


def strings(document: Any) -> list[str]:
    if isinstance(document, dict):
        return [s for k, v in document.items() for s in (k, *strings(v))]
    if isinstance(document, list):
        return [s for each in document for s in strings(each)]
    return [document] if isinstance(document, str) else []


def test_the_watcher_outlives_every_lie_and_tells_of_it() -> None:
    sink = ListSink()
    with LyingBoard() as board, InvariantWatcher(board.fleet(), sink, every_s=0.002) as watcher:
        lies = [answer(Health, p, LIES[n]) for p in places(Health) for n in WATCHED]
        for says in [*lies, *(says for name, says in BROKEN.items() if name not in NO_ANSWER)]:
            before, board.says = watcher.report().samples, says
            eventually(lambda b=before: watcher.report().samples > b + 1, "another question")  # type: ignore[misc]
        board.says = answer(Health)
        before = watcher.report().answers
        eventually(lambda: watcher.report().answers > before, "a good answer")
    report = watcher.report()
    assert report.ended_early == () and report.violations[0].startswith("odd answer: b1: ")
    assert len(sink.of(WatchViolation)) == len(report.violations)
    assert_clean("\n".join(report.violations), "the summary")


def test_the_metrics_of_the_other_boards_stay_whatever_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    liar = FakeBoard("b1", readings=DeviceError("no shell"))
    latest = [health()]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BenchCollector("six", lambda: latest[0], is_up=lambda name: True))
    with LyingBoard() as board:
        monkeypatch.setattr(
            netns,
            "connect",
            lambda namespace, address, timeout_s: socket.create_connection(("127.0.0.1", board.port), timeout_s),
        )
        watch = BoardWatch(cast(Any, liar), sensors_every_s=1e9)
        for kind, place, name, lie in documents():
            if kind is not Health:
                continue
            board.says = answer(Health, place, lie)
            watch.begin()
            found = watch.wait(5)
            latest[0] = health(boards=(board_health("a1"), found))
            if found.node is not None or place[0] == "board":  # a refused answer leaves the page as it is without one
                page = generate_latest(registry).decode()
                assert 'hil_board_healthy{bench="six",board="a1"} 1.0' in page, (place, name)
                assert_clean(page, f"the page: {place} {name}")
            assert_clean("\n".join(found.problems), f"the problems: {place} {name}")
            assert found.node is not None or any("node service" in p for p in found.problems), (place, name)
        watch.close()


@pytest.mark.parametrize("name", sorted(NO_ANSWER))
def test_an_answer_without_an_end_ends_in_time_as_silence(name: str) -> None:
    with LyingBoard() as board, NodeClient(board.fleet(), "b1", Via.MANAGEMENT, timeout_s=0.3) as client:
        board.says = BROKEN[name]
        with pytest.raises(NodeSilent):
            client.health()


def test_a_good_answer_is_taken() -> None:
    with LyingBoard() as board, NodeClient(board.fleet(), "b1", Via.MANAGEMENT) as client:
        for kind, request in ANSWERS.items():
            board.says = answer(kind)
            assert client.ask(kind, *request)
        board.says = message(b'{"error": "busy", "x": 1}', "409 No")
        with pytest.raises(DeviceError, match="busy"):
            client.health()
