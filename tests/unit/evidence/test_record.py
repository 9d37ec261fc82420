"""The run directory: append-only, thread-safe, readable after SIGKILL."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from hil.core.processes import is_alive, this_process
from hil.errors import ConfigurationError, HarnessError
from hil.evidence.events import ArtefactLost, ArtefactStored, Event, LinkCut, Measurement, Unknown, WatchSummary
from hil.evidence.model import Verdict, at_most
from hil.evidence.readback import RunRecord
from hil.evidence.record import Recorder, jsonable
from tests.kits.synthetic_run import build


@dataclass(frozen=True)
class Tick(Event, kind="tick"):
    """An event of a campaign's own."""

    thread: int
    count: int
    padding: str


def test_what_is_recorded_can_be_read_back(tmp_path: Path) -> None:
    with Recorder.create(tmp_path / "run-1", {"plan": "demo"}) as recorder:
        recorder.emit(LinkCut("isl-ab"))
        recorder.measure("delay", 0.25, "ms", limit=at_most(0.5))
    run = RunRecord.load(tmp_path / "run-1")
    cut, measured = run.events
    assert (cut, run.meta["plan"]) == (LinkCut("isl-ab"), "demo")
    assert measured == Measurement("delay", 0.25, "ms", "<= 0.5 ms", True, "device under test", high=0.5)
    assert 0 <= cut.t_s <= measured.t_s < 60


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    Recorder.create(tmp_path / "run-1", {}).close()
    with pytest.raises(HarnessError, match="exists already"):
        Recorder.create(tmp_path / "run-1", {})


def test_a_run_that_is_none_cannot_be_continued_or_read(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="not a run directory"):
        Recorder.attach(tmp_path)
    with pytest.raises(ConfigurationError, match="not a run directory"):
        RunRecord.load(tmp_path)


def test_lines_of_many_threads_and_two_recorders_are_never_mixed(tmp_path: Path) -> None:
    first = Recorder.create(tmp_path / "run-1", {})
    second = Recorder.attach(tmp_path / "run-1")

    def write(recorder: Recorder, number: int) -> None:
        for count in range(200):
            recorder.emit(Tick(number, count, "x" * 300))

    threads = [threading.Thread(target=write, args=(r, n)) for n, r in enumerate([first, second] * 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.close()
    second.close()
    run = RunRecord.load(tmp_path / "run-1")
    assert run.unreadable_lines == 0
    assert (run.chain.linked, run.chain.broken, len(run.chain.lines)) == (True, "", 1600)
    seen = [(e.extra["thread"], e.extra["count"]) for e in run.events]
    assert sorted(seen) == [(t, c) for t in range(8) for c in range(200)]


KILLED_WRITER = """
import sys
from pathlib import Path
from hil.evidence.events import WatchSummary
from hil.evidence.record import Recorder
recorder = Recorder.create(Path(sys.argv[1]), {})
for count in range(10**9):
    recorder.emit(WatchSummary(samples=count))
    if count == 500:
        print("ready", flush=True)
"""


def test_every_complete_line_survives_sigkill(tmp_path: Path) -> None:
    directory = tmp_path / "run-1"
    with subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(directory)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        writer.send_signal(signal.SIGKILL)
    run = RunRecord.load(directory)
    assert [e.samples for e in run.of(WatchSummary)] == list(range(len(run.events)))
    assert len(run.events) > 500
    assert run.unreadable_lines <= 1


def test_a_torn_last_line_is_counted_and_does_not_spoil_what_is_appended(tmp_path: Path) -> None:
    Recorder.create(tmp_path / "run-1", {}).close()
    (tmp_path / "run-1" / "evidence.jsonl").write_text('{"t_utc":"x","mono_s":1,"kind":"a"}\n{"t_utc":"2026', "utf-8")
    with Recorder.attach(tmp_path / "run-1") as recorder:
        recorder.emit(LinkCut("b"))
    run = RunRecord.load(tmp_path / "run-1")
    assert run.events == (Unknown("a"), LinkCut("b"))
    assert run.unreadable_lines == 1


def test_an_artefact_is_copied_and_its_hash_recorded(tmp_path: Path) -> None:
    source = tmp_path / "console.log"
    source.write_bytes(b"boot\n")
    with Recorder.create(tmp_path / "run-1", {}) as recorder:
        copy = recorder.artefact(source, kind="console", board="a1")
        again = recorder.artefact(source, kind="console", board="a2")
        recorder.artefact_bytes("../../sly", b"x", kind="log")
    assert copy.read_bytes() == b"boot\n"
    assert copy != again
    first, _, third = RunRecord.load(tmp_path / "run-1").of(ArtefactStored)
    assert first.sha256 == hashlib.sha256(b"boot\n").hexdigest()
    assert (first.board, first.size, first.artefact_kind) == ("a1", 5, "console")
    assert third.path == "artefacts/sly"


def test_a_growing_file_is_collected_as_it_is_at_the_end(tmp_path: Path) -> None:
    console = tmp_path / "a1.console.log"
    console.write_text("boot\n", "utf-8")
    with Recorder.create(tmp_path / "run-1", {}) as recorder:
        recorder.follow(console, kind="console", board="a1")
        recorder.follow(console, kind="console", board="a1")
        recorder.follow(tmp_path / "gone.log", kind="console", board="a2")
        with console.open("a") as file:
            file.write("login:\n")
    run = RunRecord.load(tmp_path / "run-1")
    (artefact,) = run.of(ArtefactStored)
    assert (tmp_path / "run-1" / artefact.path).read_text("utf-8") == "boot\nlogin:\n"
    assert artefact.board == "a1"
    assert run.of(ArtefactLost)[0].source.endswith("gone.log")


def test_values_that_json_cannot_say_become_text() -> None:
    given = {"nan": float("nan"), "path": Path("/x"), "set": {1}, "verdict": Verdict.NOT_RUN, 5: [float("inf")]}
    assert json.loads(json.dumps(jsonable(given), allow_nan=False)) == {
        "nan": "nan",
        "path": "/x",
        "set": [1],
        "verdict": "NOT RUN",
        "5": ["inf"],
    }


def test_numpy_numbers_are_recorded_as_numbers(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    with Recorder.create(tmp_path / "run-1", {}) as recorder:
        taken = recorder.measure("tiles", numpy.int64(12), limit=at_most(12))
    assert taken.ok is True
    assert RunRecord.load(tmp_path / "run-1").of(Measurement)[0].value == 12


def test_the_scope_of_a_test_is_on_every_event_of_every_thread(tmp_path: Path) -> None:
    with Recorder.create(tmp_path / "run-1", {}) as recorder:
        with recorder.scope(test="t1"):
            thread = threading.Thread(target=recorder.emit, args=(LinkCut("isl-ab"),))
            thread.start()
            thread.join()
        recorder.emit(LinkCut("isl-ab"))
    inside, outside = RunRecord.load(tmp_path / "run-1").events
    assert (inside.test, outside.test) == ("t1", "")


def test_facts_learnt_later_are_merged_into_the_run(tmp_path: Path) -> None:
    with Recorder.create(tmp_path / "run-1", {"plan": "demo"}) as recorder:
        recorder.update_meta(engine={"kind": "uml"})
    meta = RunRecord.load(tmp_path / "run-1").meta
    assert (meta["plan"], meta["engine"], meta["schema"]) == ("demo", {"kind": "uml"}, 1)


def test_evidence_after_the_end_is_refused_instead_of_lost(tmp_path: Path) -> None:
    recorder = Recorder.create(tmp_path / "run-1", {})
    recorder.close()
    recorder.close()
    with pytest.raises(HarnessError, match="too late"):
        recorder.emit(LinkCut("isl-ab"))


def test_a_process_is_known_by_more_than_its_pid() -> None:
    me = this_process()
    assert is_alive(me)
    assert not is_alive({**me, "start_ticks": 1})  # the pid was recycled
    assert not is_alive({**me, "boot_id": "another"})  # the machine was restarted
    assert not is_alive({})


def test_a_process_that_ended_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    about = {**this_process(), "pid": child.pid}
    stat = Path(f"/proc/{child.pid}/stat").read_text("utf-8")
    about["start_ticks"] = int(stat.rpartition(")")[2].split()[19])
    assert is_alive(about)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    assert not is_alive(about)
    child.wait()
    assert not is_alive(about)


def test_a_killed_run_knows_which_test_it_was_in_and_which_it_never_reached(tmp_path: Path) -> None:
    run = RunRecord.load(build(tmp_path / "run-1", "crash"))
    assert run.state == "crashed"
    assert run.unreadable_lines == 1
    verdicts = [o.verdict for o in run.outcomes]
    assert verdicts == [Verdict.PASS] * 8 + [Verdict.INCONCLUSIVE] + [Verdict.NOT_RUN] * 4
    assert run.outcomes[8].message == "the run was killed during this test"
    assert run.outcomes[9].message == "the run ended before this test"


def test_an_abandoned_attempt_counts_as_a_retry_and_not_as_the_result(tmp_path: Path) -> None:
    run = RunRecord.load(build(tmp_path / "run-1"))
    calibration = run.outcomes[1]
    assert (calibration.verdict, calibration.retries) == (Verdict.PASS, 1)
    # Times are those of the attempt that counts.
    assert [calibration.start_s, calibration.duration_s] == pytest.approx([6.4, 2.4])
