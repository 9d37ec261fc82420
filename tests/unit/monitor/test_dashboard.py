"""The dashboard: what a run's evidence says so far, sent as it is written; without the token nothing is changed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import create_connection, gethostname
from typing import Any

import pytest

from hil.core.processes import this_process
from hil.core.wait import poll_until
from hil.errors import ConfigurationError
from hil.evidence.events import (
    BoardBooted,
    CollectedTest,
    FaultHealed,
    FaultInjected,
    LinkCut,
    LinkRestored,
    RolloutStep,
    RunCollected,
    RunEnded,
    RunJudged,
    TestEnded,
    TestStarted,
    WatchClaim,
)
from hil.evidence.record import Recorder
from hil.evidence.twin import BoardHeat, TwinSample
from hil.monitor import dashboard
from hil.monitor.dashboard import FILES, serving
from hil.monitor.live_run import Follower, LiveRun
from tests.kits.synthetic_run import meta

TOKEN = "a-token"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def begin(out: Path, run_id: str = "run-1") -> Recorder:
    recorder = Recorder.create(out / "runs" / run_id, {**meta(run_id), "process": this_process()})
    recorder.emit(RunCollected((CollectedTest("a::t1", "Links"), CollectedTest("a::t2", "Boards"))))
    return recorder


def test_the_state_is_what_the_evidence_says_so_far(tmp_path: Path) -> None:
    recorder = begin(tmp_path)
    live = LiveRun(recorder.directory)
    assert live.read() and not live.read()
    assert (live.state["plan"], live.state["links"]["isl-ab"]["state"]) == ("six-gpu", "up")
    with recorder.scope(test="a::t1"):
        recorder.emit(TestStarted())
        recorder.emit(LinkCut("isl-ab"))
        recorder.emit(FaultInjected("link-cut", target="isl-ab", proof="confirmed"))
        recorder.emit(BoardBooted("a1", "B", "2.0.0"))
        recorder.emit(WatchClaim("a1", 3))
        recorder.emit(RolloutStep("b1", "install", "start"))
        recorder.emit(TwinSample("sc-a", boards={"a1": BoardHeat(junction_c=61.23, binding="heat")}))
    assert live.read()
    state = live.state
    assert [step["verdict"] for step in state["steps"].values()] == ["running", ""]
    assert state["links"]["isl-ab"]["state"] == "cut"
    assert state["faults"] == [{"what": "link-cut", "target": "isl-ab", "proof": "confirmed", "healed": False}]
    a1 = state["boards"]["a1"]
    assert (a1["slot"], a1["os"], a1["epoch"], a1["junction_c"], a1["held_by"]) == ("B", "2.0.0", 3, 61.2, "heat")
    assert state["boards"]["b1"]["step"] == "install"
    with recorder.scope(test="a::t1"):
        recorder.emit(LinkRestored("isl-ab"))
        recorder.emit(FaultHealed("link-cut", "isl-ab"))
        recorder.emit(TestEnded("FAIL", message="<b>too late</b>", duration_s=2.0))
    recorder.emit(RunEnded())
    recorder.emit(RunJudged("FAIL"))
    live.read()
    assert state["steps"]["a::t1"] | {"since_s": 0} == {
        **{"title": "Links", "verdict": "FAIL", "seconds": 2.0, "why": "<b>too late</b>", "since_s": 0}
    }
    assert (state["state"], state["verdict"], state["faults"][0]["healed"]) == ("finished", "FAIL", True)
    assert [line["text"] for line in state["log"]][-2:] == ["healed: link-cut isl-ab", "FAIL: t1"]


def test_half_a_line_waits_for_its_end_and_a_garbled_one_is_left_out(tmp_path: Path) -> None:
    recorder = begin(tmp_path)
    live = LiveRun(recorder.directory)
    with (recorder.directory / "evidence.jsonl").open("ab") as file:
        file.write(b'garbled\n{"t_utc":"x","mono_s":1,"kind":"link.cut","li')
        file.flush()
        live.read()
        assert live.state["links"]["isl-ab"]["state"] == "up"
        file.write(b'nk":"isl-ab"}\n')
    live.read()
    assert live.state["links"]["isl-ab"]["state"] == "cut"


def test_a_run_whose_process_is_gone_has_crashed(tmp_path: Path) -> None:
    with Recorder.create(tmp_path / "runs" / "r", meta("r")) as recorder:
        live = LiveRun(recorder.directory)
    assert live.read() and live.state["state"] == "crashed"


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    with Follower(tmp_path, poll_s=0.01) as follower:
        yield follower


@pytest.fixture
def done() -> list[str]:
    """The commands that were done."""
    return []


@pytest.fixture
def port(follower: Follower, done: list[str]) -> Iterator[int]:
    commands = {"/cancel": lambda: done.append("cancel")}
    with serving(follower, host="127.0.0.1", port=0, commands=commands, token=TOKEN) as port:
        yield port


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def stream(port: int) -> tuple[http.client.HTTPConnection, Iterator[dict[str, Any]]]:
    """A viewer, and the states that it gets."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    lines = iter(answer.readline, b"")
    return connection, (json.loads(line[6:]) for line in lines if line.startswith(b"data: "))


def until(states: Iterator[dict[str, Any]], run: str, link: str) -> dict[str, Any]:
    return next(s for s in states if s.get("run") == run and s["links"]["isl-ab"]["state"] == link)


def test_each_viewer_gets_what_is_written_and_the_next_run(tmp_path: Path, port: int) -> None:
    viewers = [stream(port) for _ in range(3)]
    with begin(tmp_path) as recorder:
        for _, states in viewers:
            until(states, "run-1", "up")
        recorder.emit(LinkCut("isl-ab"))
        for _, states in viewers:
            until(states, "run-1", "cut")
        begin(tmp_path, "run-2").close()
        for connection, states in viewers:
            assert any(s.get("run") == "run-2" and s["steps"].keys() == {"a::t1", "a::t2"} for s in states)
            connection.close()
    assert json.loads(ask(port, "GET", "/state")[1])["run"] == "run-2"


def test_without_the_token_no_request_changes_anything(tmp_path: Path, port: int, done: list[str]) -> None:
    begin(tmp_path).close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for path in (*FILES, "/state", "/cancel", "/other", "/../../etc/passwd", "//cancel", "/cancel?x"):
        for method in METHODS:
            for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": "Bearer "}):
                status, body, _ = ask(port, method, path, **headers)
                good = method == "GET" and path in (*FILES, "/state")
                assert (status == 200) is good, (method, path, status)
                assert b"root:" not in body
    assert done == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert ask(port, "POST", "/cancel", Authorization=f"Bearer {TOKEN}")[0] == 202
    assert done == ["cancel"]


def test_a_server_without_a_token_takes_no_command_at_all(follower: Follower, done: list[str]) -> None:
    with serving(follower, host="127.0.0.1", port=0, commands={"/cancel": lambda: done.append("x")}) as port:
        for given in ("", "Bearer ", "Bearer None"):
            assert ask(port, "POST", "/cancel", Authorization=given)[0] == 403
    assert done == []


def test_a_page_of_another_name_that_leads_here_reads_nothing(port: int) -> None:
    assert ask(port, "GET", "/state", Host="evil.example:9436")[0] == 421
    assert ask(port, "GET", "/state", Host="localhost:1")[0] == 200
    assert "default-src 'none'" in ask(port, "GET", "/")[2]["Content-Security-Policy"]


def test_viewers_are_bounded(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    connections = [stream(port)[0] for _ in range(dashboard.MOST_VIEWERS)]
    assert ask(port, "GET", "/events")[0] == 503
    for connection in connections:
        connection.close()


def test_a_port_that_is_taken_is_told(follower: Follower, port: int) -> None:
    with pytest.raises(ConfigurationError, match="cannot listen"), serving(follower, host="127.0.0.1", port=port):
        pass


def test_the_command_ends_with_0_on_sigterm(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "hil.cli", "dashboard", "--listen", "127.0.0.1:0", "--out", str(tmp_path), "--json"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    url = json.loads("".join(process.stdout.readline() for _ in range(3)))["url"]
    assert ask(int(url.rstrip("/").rpartition(":")[2]), "GET", "/")[0] == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    process.stdout.close()


def test_an_address_is_a_name_of_ours_and_half_a_one_is_none(port: int) -> None:
    for host in ("127.0.0.1:1", "[::1]:1", "192.0.2.7", gethostname()):
        assert ask(port, "GET", "/state", Host=host)[0] == 200
    for host in ("127.0.0.1.evil.example", "[", "[::1", "", "evil.example#127.0.0.1"):
        assert ask(port, "GET", "/state", Host=host)[0] == 421


def test_connections_are_bounded_and_those_that_end_make_room(port: int) -> None:
    with ExitStack() as opened:
        for _ in range(dashboard.MOST_CONNECTIONS):
            opened.enter_context(create_connection(("127.0.0.1", port)))
        with create_connection(("127.0.0.1", port), timeout=10) as one_more:
            assert one_more.recv(1) == b""
    for _ in poll_until(10.0):
        try:
            assert ask(port, "GET", "/state")[0] == 200
        except OSError:
            continue
        return
    pytest.fail("no room for a connection")
