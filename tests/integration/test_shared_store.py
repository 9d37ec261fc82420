"""One store for several hosts: Debian's PostgreSQL under leases, runs and trials."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hil.core import paths
from hil.database.connection import HEAD, Server, ServerAway
from hil.errors import BenchError, ConfigurationError, HilError
from hil.evidence.model import Verdict
from hil.evidence.readback import RunRecord
from hil.evidence.store import RunStore
from hil.leases.leases import LeaseLost, Leases, LeaseTaken
from hil.leases.rules import Origin
from hil.report.make import make_report
from hil.report.nights import changes
from hil.trials.series import Series
from hil.trials.workers import BenchOwner, go_on_at, make_keys, workers_of
from tests.kits.fake_trials import MakeFake, counted_series
from tests.kits.lease_store import A1, A2
from tests.kits.postgres import PASSWORD, Postgres, postgres
from tests.kits.synthetic_run import build

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    try:
        with postgres() as running:
            yield running
    except HilError as exc:
        pytest.skip(f"there is no PostgreSQL here, and {exc.message}")


@pytest.fixture
def url(server: Postgres, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of the test's own, which commands use as well."""
    made = server.make(request.node.name[:60])
    monkeypatch.setenv("HIL_STORE", made)
    monkeypatch.delenv("HIL_LEASES", raising=False)
    return made


def elsewhere(url: str) -> Leases:
    """Return the leases as a host sees them that was copied from this one, with its name and its machine-id."""
    return Leases(Server.named(url), here=replace(Origin.here(), boot="another", clock="time:1", pids="pid:1"))


def test_two_hosts_never_share_a_board_though_processes_are_killed_and_the_server_restarts(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    argv = [sys.executable, "-m", "tests.benchmarks.shared_leases", "--processes", "12", "--seconds", "10"]
    done = subprocess.run([*argv, "--out", str(out)], cwd=paths.ROOT, capture_output=True, text=True, timeout=240)
    assert out.exists(), done.stderr
    value = {figure["name"]: figure["value"] for figure in json.loads(out.read_text())["figures"]}
    for what in ("boards held twice", "survivors never served", "left over at the end", "failed"):
        assert value[f"shared leases: {what}"] == 0, done.stdout + done.stderr
    assert value["shared leases: granted on the host with fewer"] >= 3
    assert value["shared leases: killed with SIGKILL"] >= 3


def test_a_lease_of_another_host_holds_and_its_history_and_marks_are_seen(url: str) -> None:
    there, here = elsewhere(url), Leases()
    with there.take([A1], holder="bob\0\ud800'; --", purpose='x" \x1b[2J') as lease:
        with pytest.raises(LeaseTaken, match="six/a1 is held by bob"):
            here.take([A1], purpose="mine")
        assert here.list()[0].left_s > 50
        assert PASSWORD not in f"{here.list()}{lease!r}{here._store!r}"
        assert lease.environment()["HIL_STORE"] == url
    there.marks.change(A2, who="bob", out_of_service="fan dead")
    with pytest.raises(BenchError, match="six/a2 is out of service: fan dead"):
        here.take([A2], purpose="mine")
    assert [ended.boards for ended in here.marks.history()] == [{A1}]


def test_a_holder_goes_on_over_a_restart_and_waiters_stay_in_the_queue(server: Postgres, url: str) -> None:
    leases = Leases()
    held = leases.take([A1], purpose="holds")
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(lambda: leases.take([A1], purpose="waits", wait_s=60))
        while not leases.queue():
            pass
        server.stop(signal.SIGQUIT)
        with pytest.raises(ServerAway, match="cannot be used") as raised:
            leases.list()
        assert raised.value.remedy and not held.lost
        server.start()
        held.check()
        held.free()
        got = waits.result(60)
    assert not got.lost
    server.stop()
    got.free()  # without the server: what was done on the board counts all the same
    server.start()
    assert [each.id for each in leases.list()] == [got.id]  # until its term is over


def test_a_database_made_anew_or_put_back_from_a_copy_gives_no_second_holder(server: Postgres, url: str) -> None:
    leases = Leases()
    first = leases.take([A1], purpose="before")
    server.run("DELETE FROM claims", _name(url))  # as a copy of before has it
    server.run("ALTER SEQUENCE claims_id_seq RESTART WITH 1", _name(url))
    server.run("UPDATE identity SET token = token - 1", _name(url))
    second = leases.take([A1], purpose="after")
    assert first.id == second.id and first.entry.token != second.entry.token
    with pytest.raises(LeaseLost):
        first.check()
    first.free()
    second.check()
    second.free()


def test_what_is_wrong_with_the_server_is_told_with_blame_and_without_the_password(server: Postgres, url: str) -> None:
    name = _name(url)
    cases: dict[str, tuple[type[HilError], str]] = {
        server.url("none"): (ConfigurationError, "does not exist"),
        server.url(name, password="geheim"): (ConfigurationError, "lets this user not in"),
        server.url(name, password="geheim", host="/nowhere"): (ServerAway, "No such file"),
    }
    for wrong, (kind, said) in cases.items():
        with pytest.raises(kind, match=said) as raised:
            Leases(Server.named(wrong)).list()
        assert raised.value.remedy and "geheim" not in str(raised.value) and PASSWORD not in str(raised.value)
    Leases().list()
    server.run("UPDATE alembic_version SET version_num = '9999'", name)
    with pytest.raises(ConfigurationError, match="is of a later release"):
        Leases().list()
    server.run(f"UPDATE alembic_version SET version_num = '{HEAD}'", name)
    server.run("DROP TABLE sightings", name)
    with pytest.raises(BenchError, match='damaged, or not made by this program: relation "sightings"'):
        Leases().list()
    argv = [sys.executable, "-m", "hil.cli", "lease", "list"]
    done = subprocess.run(argv, env={**os.environ, "HIL_STORE": server.url("none")}, capture_output=True)
    assert done.returncode == 2 and b"HIL_STORE" not in done.stdout and PASSWORD.encode() not in done.stderr


def test_of_two_that_come_to_an_empty_database_at_once_one_makes_the_tables(server: Postgres, url: str) -> None:
    code = "from hil.leases.leases import Leases; Leases().list()"
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=paths.ROOT) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0] * 2
    assert server.run("SELECT version_num FROM alembic_version", _name(url)) == [(HEAD,)]
    assert server.run("SELECT count(*) FROM identity", _name(url)) == [(1,)]


def test_runs_of_two_hosts_are_in_one_store(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    make_report(build(here / "runs" / "r1"))
    make_report(build(there / "runs" / "r2", "fail"))
    for out in (here, there):
        RunStore(out).rebuild()
    store = RunStore(here)
    assert {run.run_id: run.verdict for run in store.runs(brief=True)} == {"r1": "PASS", "r2": "FAIL"}
    runs, found = store.history("six-gpu", "virtual", nights=40, until="r2")
    assert [run.run_id for run in runs] == ["r2"] and found  # which counts before r1, whose evidence begins alike
    one, other = store.get("r1"), store.get("r2")
    assert "FAIL" in {change.now for change in changes(store, one, other)}
    assert store.differences(here / "runs" / "r1") == []
    store.release("r1", "1.0")
    assert RunStore(there).releases() == {"r1": "1.0"}
    store.release("r1", "")
    assert store.releases() == {} and not (here / "runs.sqlite").exists() and not (here / "releases.json").exists()
    old = [[run.run_id for run in each.prunable("2999-01-01T00:00:00Z")] for each in (store, RunStore(there))]
    assert old == [["r1"], []]  # each host deletes folders of its own only


def test_runs_of_one_plan_that_end_at_once_on_several_hosts_are_all_indexed(
    server: Postgres, url: str, tmp_path: Path
) -> None:
    def end(host: int) -> None:
        chance, store = random.Random(host), RunStore(tmp_path / str(host))
        tests = [{"id": f"t{n}", "title": f"t{n}", "verdict": "PASS", "duration_s": 1.0} for n in range(40)]
        for number in range(4):
            directory = store.out / "runs" / f"r{host}-{number}"
            chance.shuffle(tests)  # series are written in this order
            store.start({"plan": "p", "lab": "l"}, directory)
            store.finish(directory, {"plan": "p", "lab": "l", "verdict": "PASS", "tests": tests})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(end, range(4)))
    assert server.run("SELECT count(*) FROM points", _name(url)) == [(4 * 4 * 40,)]


def test_a_run_that_ends_while_the_server_is_away_has_its_report_and_is_indexed_later(
    server: Postgres, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory, store = build(tmp_path / "runs" / "r1"), RunStore(tmp_path)
    store.start(RunRecord.load(directory).meta, directory)
    server.stop()
    try:
        assert make_report(directory).is_file() and "takes it into the index" in caplog.text
    finally:
        server.start()
    assert [run.verdict for run in store.runs()] == [""]
    store.rebuild()
    assert [run.verdict for run in store.runs()] == ["PASS"] and store.differences(directory) == []


def test_a_run_of_another_host_is_not_taken_for_crashed(url: str, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    gone = {"pid": 1, "start_ticks": 1, "boot_id": "another"}
    for run_id, host in (("mine", os.uname().nodename), ("theirs", "controller2")):
        store.start({"process": {**gone, "host": host}}, tmp_path / "runs" / run_id)
    assert {run.run_id: (run.state, run.host) for run in store.runs()} == {
        "mine": ("crashed", os.uname().nodename),
        "theirs": ("running", "controller2"),
    }


def test_of_an_attempt_the_first_end_counts_on_whichever_host_and_over_a_restart(
    server: Postgres, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = counted_series(tmp_path / "a", 2)
    monkeypatch.setenv("HIL_REPORTS", str(tmp_path / "b"))
    there = Series.join(tmp_path / "nowhere" / "s1")
    assert there.folder == tmp_path / "b" / "series" / "s1" and there.facts == series.facts
    there.begin("counted", 1, 1)
    following = series.next_trial()
    assert following is not None and (following.number, following.attempt) == (1, 2)  # the other may be frozen
    server.stop()
    with ThreadPoolExecutor() as pool:
        lost = pool.submit(series.add, "counted", {"number": 1, "attempt": 1, "verdict": "INCONCLUSIVE"})
        server.start()
        lost.result(30)
    there.add("counted", {"number": 1, "attempt": 1, "verdict": "PASS"})  # late
    there.add("counted", {"number": 1, "attempt": 2, "verdict": "PASS"})
    verdicts = [(line["number"], line["attempt"], line["verdict"]) for line in series.lines()]
    assert verdicts == [(1, 1, "INCONCLUSIVE"), (1, 2, "PASS")] and series.standing().trials == 1
    with pytest.raises(ConfigurationError, match="a series s1 already"):
        counted_series(tmp_path / "c", 2)
    monkeypatch.delenv("HIL_STORE")
    with pytest.raises(ConfigurationError, match="several hosts share"):
        series.lines()


def test_a_worker_of_another_host_joins_with_the_keys_and_the_store_needs_no_common_folder_and_leaves_at_the_end(
    url: str, tmp_path: Path
) -> None:
    out, own, keys = tmp_path / "out", tmp_path / "own", tmp_path / "keys"
    series = counted_series(out, 3)
    make_keys(keys)
    with workers_of(0, listen="127.0.0.1:0", keys=keys, owner=BenchOwner(make=MakeFake(0.1))) as client:
        argv = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(out)]  # it cannot see it
        argv += [sys.executable, "-m", "hil.cli", "worker", client.cluster.scheduler_address, "--keys", str(keys)]
        worker = subprocess.Popen(argv, cwd=paths.ROOT, env={**os.environ, "HIL_REPORTS": str(own)})
        go_on_at(series, client, said=print)
    assert worker.wait(30.0) == 0
    assert series.standing().verdict is Verdict.PASS and len(series.lines()) == 3
    assert len(list((own / "series" / "s1" / "trials").iterdir())) == 3
    assert not (series.folder / "trials.jsonl").exists()


def _name(url: str) -> str:
    return url.split("@/")[1].split("?")[0]
