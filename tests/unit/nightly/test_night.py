"""`hil nightly`: jobs in their order, attempts, deadlines, resumed after SIGKILL, and what the morning is told."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hil.cli.app import cli
from hil.core import paths
from hil.core.locks import locked
from hil.core.wait import poll_until
from hil.errors import BenchError, ConfigurationError
from hil.evidence.model import Verdict
from hil.nightly import morning as mornings
from hil.nightly import night as nights
from hil.nightly.morning import chat, markdown, morning_of, notify, write_morning
from hil.nightly.night import Night, all_nights, get_night
from hil.nightly.plan import load_nightly
from tests.kits.nights import FAKE, HEAD, begin, job, said
from tests.kits.real_board_lab import REAL, lab_of
from tests.kits.stored_runs import night as store_night
from tests.kits.stored_runs import ran
from tests.kits.synthetic_run import dump, meta


def test_all_jobs_run_and_the_worst_decides(tmp_path: Path) -> None:
    trials = "- {name: faults, lab: virtual, trials: default, count: 1}\n"
    night = begin(tmp_path, job("good"), job("bad", "1"), trials)
    lines = said(night)
    assert [night.verdict_of(name) for name in ("good", "bad", "faults")] == [Verdict.PASS, Verdict.FAIL, Verdict.PASS]
    assert (night.state, night.verdict, night.exit_code) == ("ended", Verdict.FAIL, 1)
    assert any("bad: FAIL: <b>it</b> ended with 1" in line for line in lines)
    (series,) = (tmp_path / "out/series").iterdir()
    seed = json.loads((series / "series.json").read_text())["seed"]
    assert seed == int(night.jobs[2]["id"][:8]), "another seed each night"
    assert begin(tmp_path, job("good"), job("bad"), night_id="n2").jobs[0]["name"] == "bad", "failed last night: first"


@pytest.mark.parametrize(
    ("behave", "attempts", "verdict", "code"),
    [
        ("flaky-bench", ["INCONCLUSIVE", "PASS"], Verdict.PASS, 0),
        ("3", ["INCONCLUSIVE", "INCONCLUSIVE"], Verdict.INCONCLUSIVE, 3),
        ("1", ["FAIL"], Verdict.FAIL, 1),
        ("2", ["NOT RUN"], Verdict.NOT_RUN, 2),
    ],
)
def test_only_the_bench_is_given_another_attempt(
    tmp_path: Path, behave: str, attempts: list[str], verdict: Verdict, code: int
) -> None:
    night = begin(tmp_path, job("one", behave))
    said(night)
    assert [attempt.verdict for attempt in night.attempts("one")] == attempts
    assert (night.verdict, night.exit_code) == (verdict, code)
    told = markdown(morning_of(night))
    assert ("one, attempt 1: INCONCLUSIVE" in told) is (len(attempts) == 2)


def test_a_job_is_ended_at_its_deadline_and_the_next_one_runs(tmp_path: Path) -> None:
    night = begin(tmp_path, job("slow", "hang", ", deadline: 1s"), job("next"))
    said(night)
    (attempt,) = night.attempts("slow")
    assert (attempt.verdict, attempt.reason[:29]) == ("INCONCLUSIVE", "ended at its deadline of 1 s;")
    assert (night.verdict_of("next"), night.exit_code) == (Verdict.PASS, 3)


def test_what_the_night_has_no_time_for_is_said(tmp_path: Path) -> None:
    night = begin(tmp_path, job("one"))
    night.facts["deadline_s"] = 0.0
    said(night)
    assert night.attempts("one")[0].reason == "the night's time was over before it began"
    assert night.exit_code == 3 and not list((night.folder / "logs").iterdir())


@pytest.mark.parametrize("kind", ["campaign", "trials"])
def test_a_night_that_was_killed_goes_on_where_it_was(tmp_path: Path, kind: str) -> None:
    hangs = job("second", "once-hang")
    if kind == "trials":
        hangs = '- {name: second, lab: virtual, trials: default, count: 1, arguments: ["--behave", "once-hang"]}\n'
    night = begin(tmp_path, job("first"), hangs, job("third"))
    program = f"from hil.nightly.night import *; Night(Path({str(night.folder)!r})).run(print, {FAKE})"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    hanging = "series/*/series.json" if kind == "trials" else "hung"
    begun = (night.attempts("second") for _ in poll_until(20.0, every_s=0.05) if any((tmp_path / "out").glob(hanging)))
    began = next(attempts for attempts in begun if attempts)[-1]
    with pytest.raises(ConfigurationError, match="runs already"):
        said(night)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert get_night("n1", tmp_path / "out").state == "interrupted"
    first = (tmp_path / "out/nights/n1/jobs/first.json").read_bytes()
    said(Night(night.folder))
    assert (night.state, night.exit_code) == ("ended", 0)
    assert (tmp_path / "out/nights/n1/jobs/first.json").read_bytes() == first, "not run again"
    killed, done = night.attempts("second")
    assert (killed.run_id, killed.exit_code, done.verdict) == (began.run_id, None, "PASS")
    assert (done.run_id == killed.run_id) is (kind == "trials"), "a series goes on, a campaign begins anew"
    assert "second, attempt 1: killed with the night" in markdown(morning_of(night))


def test_the_summary_shows_hostile_text_as_text(tmp_path: Path) -> None:
    night = begin(tmp_path, job("bad", "1"))
    said(night)
    assert write_morning(morning_of(night)) == ""
    told = (night.folder / mornings.MORNING).read_text("utf-8")
    assert "\\<b\\>it\\</b\\>" in told and "<b>" not in told
    assert f"[page](../../runs/{night.attempts('bad')[0].run_id}/report.html)" in told
    short = chat(morning_of(night))
    assert short.splitlines()[0].startswith("FAIL: night lab-a, ") and "bad: <b>it</b> ended with 1" in short
    assert len(mornings.one_paragraph("x" * 5000)) <= mornings.CHAT_CHARACTERS


def full(path: Path, content: bytes, **options: bool) -> None:
    """As a file is written on a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_broken_store_or_a_full_disk_takes_no_verdict_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = begin(tmp_path, job("bad", "1"))
    said(night)
    run = tmp_path / "out/runs" / night.attempts("bad")[0].run_id
    dump(run / "run.json", meta(run.name))
    (tmp_path / "out/runs.sqlite").write_text("no database" * 100)
    morning = morning_of(night)
    assert "Not known: the histories cannot be read" in markdown(morning) and chat(morning).startswith("FAIL")
    monkeypatch.setattr(mornings, "write_atomic", full)
    assert write_morning(morning) == f"{night.folder}: No space left on device"


def ended(night: Night, name: str, *run_ids: str) -> None:
    """Write the attempts at a job down as a night does."""
    attempts = [{"number": n, "run_id": each, "verdict": "PASS"} for n, each in enumerate(run_ids, start=1)]
    dump(night.folder / "jobs" / f"{name}.json", {"attempts": attempts, "ended": True})


def test_what_changed_is_told_by_the_latest_run_of_all_jobs_of_a_plan(tmp_path: Path) -> None:
    night, out = begin(tmp_path, job("one"), job("two")), tmp_path / "out"
    for number, verdict in enumerate(("PASS", "PASS", "FAIL")):
        store_night(out, number, [ran("upload", verdict)], verdict)
    ended(night, "one", "run-001")
    ended(night, "two", "run-002")
    assert "**new regression** upload" in markdown(morning_of(night))
    ended(night, "one", "run-002")
    ended(night, "two", "run-001")
    assert "**new regression** upload" in markdown(morning_of(night))


def test_a_run_without_a_verdict_does_not_tell_the_news_of_yesterday(tmp_path: Path) -> None:
    night, out = begin(tmp_path, job("one")), tmp_path / "out"
    for number, verdict in enumerate(("PASS", "FAIL")):
        store_night(out, number, [ran("upload", verdict)], verdict)
    (out / "runs/killed").mkdir()
    dump(out / "runs/killed/run.json", {**meta("killed"), "started_utc": "2026-11-01T03:00:00.000Z"})
    ended(night, "one", "killed")
    told = markdown(morning_of(night))
    assert "regression" not in told and "Not known: six-gpu on virtual: no run of this night has a verdict" in told
    ended(night, "one", "run-001", "killed")
    assert "**new regression** upload" in markdown(morning_of(night)), "an attempt of tonight"
    ended(night, "one", "gone")
    assert "Not known: one: no run of it is in the store" in markdown(morning_of(night))
    shown = CliRunner().invoke(cli, ["nightly", "show", "--json", "--out", str(out)])
    assert json.loads(shown.output)["unknown"] == ["one: no run of it is in the store"]
    (out / "runs.sqlite").unlink()
    ended(night, "one", "killed")
    assert "Nothing" not in markdown(morning_of(night))


def test_any_command_is_notified_and_its_faults_are_told(tmp_path: Path) -> None:
    assert notify(["tee", str(tmp_path / "told")], "all is well", 10.0) == ""
    assert (tmp_path / "told").read_text() == "all is well"
    assert notify(["false"], "x", 10.0) == "false ended with 1: "
    assert notify(["sleep", "9"], "x", 0.1) == "sleep did not end within 0.1 s"
    assert "cannot be run" in notify(["no-such-program"], "x", 1.0)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (HEAD + job("a") + job("a"), "two jobs are called a"),
        (HEAD + "- {name: a, lab: virtual}\n", "job a: give either campaign or trials"),
        (HEAD + "- {name: a, lab: virtual, trials: default}\n", "job a: give either count or until"),
        (HEAD + "- {name: a, lab: virtual, trials: default, until: often}\n", "nightly.yaml:4"),
        (HEAD + "- {name: a, lab: virtual, campaign: six_gpu, deadline: soon}\n", "is not a duration"),
        (HEAD + "- {name: a, lab: none.yaml, campaign: six_gpu}\n", "job a: "),
        (HEAD + "- {name: a, lab: virtual, campaign: none}\n", "job a: "),
        (HEAD + "- {name: a, lab: virtual, trials: none, count: 1}\n", "no profile is called none"),
        (HEAD + "- {name: ../a, lab: virtual, campaign: six_gpu}\n", "name"),
        (HEAD + "- {name: a, lab: virtual, campaign: six_gpu, shell: yes}\n", "shell"),
        (HEAD + "- {name: a, lab: virtual, campaign: six_gpu, arguments: [--detach]}\n", "--detach is not for"),
        (HEAD + "- {name: a, lab: virtual, campaign: six_gpu, arguments: [--run-id=b]}\n", "--run-id=b is not for"),
        (HEAD.replace("jobs", "notify: {argv: [./no.sh]}\njobs") + job("a"), "no.sh is no program"),
        (HEAD.replace("jobs", "notify: {argv: ['']}\njobs") + job("a"), "is no program"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_runs(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "nightly.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigurationError) as raised:
        Night.begin(tmp_path / "nightly.yaml", tmp_path / "out")
    assert wrong in str(raised.value) and "nightly.yaml" in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_the_example_is_valid() -> None:
    assert load_nightly(paths.ROOT / "examples/nightly.yaml").jobs


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nights, "HIL", FAKE)
    told = f"notify: {{argv: [tee, {tmp_path / 'told'}]}}\n"
    (tmp_path / "nightly.yaml").write_text(HEAD.replace("jobs", told + "jobs") + job("bad", "1"), "utf-8")
    words = ["--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, ["nightly", "run", str(tmp_path / "nightly.yaml"), "--json", *words])
    assert done.exit_code == 1, done.output
    assert (tmp_path / "told").read_text().startswith("FAIL: night lab-a")
    assert [night.exit_code for night in all_nights(tmp_path / "out")] == [1]
    assert CliRunner().invoke(cli, ["nightly", "show", *words]).output.startswith("# FAIL: night lab\\-a"[:13])
    (row,) = json.loads(CliRunner().invoke(cli, ["nightly", "list", "--json", *words]).output)
    assert (row["state"], row["verdict"]) == ("ended", "FAIL")
    assert CliRunner().invoke(cli, ["nightly", "resume", *words]).exit_code == 1, "nothing is left, the code stays"


def test_a_night_that_a_full_disk_stops_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, value: object, *, mode: int = 0o644) -> None:
        full(path, b"") if path.name == "two.json" else dump(path, value)

    monkeypatch.setattr(nights, "HIL", FAKE)
    monkeypatch.setattr(nights, "_write", write)
    told = f"notify: {{argv: [tee, {tmp_path / 'told'}]}}\n"
    (tmp_path / "nightly.yaml").write_text(HEAD.replace("jobs", told + "jobs") + job("one") + job("two"), "utf-8")
    words = ["nightly", "run", str(tmp_path / "nightly.yaml"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, words)
    assert isinstance(done.exception, BenchError) and "No space left" in str(done.exception), "exit code 3"
    first, second, *_ = (tmp_path / "told").read_text().splitlines()
    assert first.startswith("the night stopped: ") and "No space left" in first
    assert second.startswith("NOT RUN (running): night lab-a")


_GOOD = {"name": "a", "kind": "campaign", "id": "r", "words": ["x"], "deadline_s": 10.0, "attempts": 1}
_FACTS = {"name": "lab-a", "started_utc": "2026-11-29T00:00:00Z", "deadline_s": 10.0, "jobs": [_GOOD]}


@pytest.mark.parametrize(
    "change",
    [
        {"started_utc": None},
        {"started_utc": "2026-11-29T00:00:00"},
        {"jobs": []},
        {"jobs": [{**_GOOD, "name": "../a"}]},
        {"jobs": [{**_GOOD, "words": "x"}]},
    ],
)
def test_a_night_that_makes_no_sense_hides_and_stops_no_other(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "out/nights/odd").mkdir(parents=True)
    dump(tmp_path / "out/nights/odd/night.json", {**_FACTS, **change})
    night = begin(tmp_path, job("one"))
    assert [each.id for each in all_nights(tmp_path / "out")] == ["n1"] and len(said(night)) == 2
    with pytest.raises(ConfigurationError, match="makes no sense"):
        Night(tmp_path / "out/nights/odd")
    listed = CliRunner().invoke(cli, ["nightly", "list", "--json", "--out", str(tmp_path / "out")])
    (damaged,) = (row for row in json.loads(listed.output) if row["state"] == "damaged")
    assert damaged["night"] == "odd" and "makes no sense" in damaged["why"], "told, not skipped"


@pytest.mark.parametrize("attempts", ["abc", [{"x": 1}], [{"verdict": "GREAT", "child": {"pid": "1"}}]])
def test_attempts_that_make_no_sense_are_no_pass(tmp_path: Path, attempts: object) -> None:
    (tmp_path / "out/nights/odd/jobs").mkdir(parents=True)
    dump(tmp_path / "out/nights/odd/night.json", _FACTS)
    dump(tmp_path / "out/nights/odd/jobs/a.json", {"attempts": attempts, "ended": True})
    (odd,) = all_nights(tmp_path / "out")
    assert odd.verdict in ("NOT RUN", "INCONCLUSIVE") and odd.exit_code == 3
    assert markdown(morning_of(odd)) and begin(tmp_path, job("one"))


def test_a_program_to_notify_lies_beside_the_nightly_file(tmp_path: Path) -> None:
    (tmp_path / "post.sh").write_text("#!/bin/sh\n", "utf-8")
    (tmp_path / "post.sh").chmod(0o755)
    path = tmp_path / "nightly.yaml"
    path.write_text(HEAD.replace("jobs", "notify: {argv: [./post.sh, -x]}\njobs") + job("a"), "utf-8")
    night = Night.begin(path, tmp_path / "out")
    assert night.notify["argv"] == [str(tmp_path / "post.sh"), "-x"]
    assert (night.folder / "notify.json").stat().st_mode & 0o077 == 0, "there may be a token in it"
    assert "post.sh" not in (night.folder / "night.json").read_text("utf-8")


def test_jobs_run_at_once_but_never_two_at_one_real_board(tmp_path: Path) -> None:
    path = tmp_path / "nightly.yaml"
    jobs = job("a", "meet") + job("b", "meet")
    path.write_text(HEAD.replace("jobs", "workers: 2\njobs") + jobs, "utf-8")
    night = Night.begin(path, tmp_path / "out", night_id="n1")
    said(night)
    assert [night.verdict_of(name) for name in "ab"] == ["PASS", "PASS"]
    path.write_text(path.read_text("utf-8").replace("meet", "alone"), "utf-8")
    night = Night.begin(path, tmp_path / "other", night_id="n1")
    for each in night.facts["jobs"]:
        assert each["holds"] == [], "virtual boards are made for each job"
        each["holds"] = ["rack/orin-1"]
    said(night)
    assert [night.verdict_of(name) for name in "ab"] == ["PASS", "PASS"]


def test_a_job_holds_the_real_boards_of_its_lab(tmp_path: Path) -> None:
    assert nights._real_things(lab_of(tmp_path, REAL)) == ["mixed/b1"]


def test_two_that_go_on_with_a_night_at_once_are_one(tmp_path: Path) -> None:
    night = begin(tmp_path, job("one"))
    with locked(night.folder / "lock"), pytest.raises(ConfigurationError, match="runs already"):
        Night(night.folder).run(print, FAKE)
    assert not night.attempts("one")
