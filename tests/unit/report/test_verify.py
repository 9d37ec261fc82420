"""`hil runs verify` and `hil runs sign`: any change to a finished run is found, also one by somebody who knows how."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.cli.app import cli
from hil.core import paths
from hil.core.files import sha256_of
from hil.errors import ConfigurationError
from hil.evidence.attestation import sign, statement_of
from hil.evidence.manifest import MANIFEST, STATEMENT, seal
from hil.evidence.record import EVIDENCE, RESULT
from hil.evidence.store import STORE, RunStore
from hil.report.make import finish_run, seal_log
from hil.report.verify import changes_of
from tests.kits.finished_run import key_pair, make


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A private and a public key."""
    return key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Path:
    directory = make(tmp_path_factory.mktemp("signed"))
    sign(directory, keys[0])
    return directory


@pytest.fixture
def run(signed: Path, tmp_path: Path) -> Path:
    shutil.copytree(signed.parent.parent, tmp_path / "out")
    return tmp_path / "out" / "runs" / "run-1"


def changes(run: Path, key: Path | None = None) -> list[str]:
    return changes_of(run, RunStore(run.parent.parent), key)


def test_a_run_that_nobody_changed_is_as_it_was(run: Path, keys: tuple[Path, Path]) -> None:
    assert changes(run, keys[1]) == []
    checked = subprocess.run(["sha256sum", "-c", "--strict", MANIFEST], cwd=run, capture_output=True, text=True)
    assert checked.returncode == 0 and "report.html: OK" in checked.stdout


def test_a_report_made_again_is_the_same_byte_for_byte_here_and_elsewhere(run: Path, keys: tuple[Path, Path]) -> None:
    made = ("report.html", RESULT, "junit.xml", MANIFEST, EVIDENCE)
    before = {name: (run / name).read_bytes() for name in made}
    elsewhere = shutil.copytree(run, run.parent.parent.parent / "years later" / "runs" / "run-1")
    for directory, out in ((run, run.parent.parent), (elsewhere, None)):
        for name in ("report.html", RESULT, "junit.xml") if out else ():
            (directory / name).unlink()
        finish_run(directory, out)
        assert {name: (directory / name).read_bytes() for name in made} == before
        assert changes_of(directory, key=keys[1]) == []


@settings(max_examples=60)
@given(st.data())
def test_one_changed_byte_anywhere_is_found(signed: Path, keys: tuple[Path, Path], data: st.DataObject) -> None:
    files = sorted(path for path in signed.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    bits = data.draw(st.integers(1, 255))
    try:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :])
        assert changes_of(signed, key=keys[1])
    finally:
        path.write_bytes(whole)


def test_a_manifest_that_cannot_be_written_loses_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(directory: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hil.report.make.seal", full)
    run = make(tmp_path)
    assert RunStore(tmp_path).get("run-1").verdict == "PASS"
    assert "there is no SHA256SUMS: nothing shows what the run's files were" in changes(run)


@pytest.mark.parametrize("column", ["verdict", "reason", "counts", "summary", "fidelity", "lab_sha256", "commit_id"])
def test_a_changed_index_is_found(run: Path, column: str) -> None:
    with closing(sqlite3.connect(run.parent.parent / STORE)) as db, db:
        db.execute(f"UPDATE runs SET {column} = replace(replace({column}, 'a', 'b'), 'P', 'Q') || ' '")
    assert f"the index has another {column}" in changes(run)


@pytest.mark.parametrize(
    "change", ["UPDATE points SET verdict = 'FAIL'", "DELETE FROM points", "UPDATE series SET lab = 'x'"]
)
def test_a_changed_history_is_found(run: Path, change: str) -> None:
    with closing(sqlite3.connect(run.parent.parent / STORE)) as db, db:
        assert db.execute(change).rowcount
    assert changes(run) == ["the index has another history"]


@settings(max_examples=25)
@given(st.data())
def test_a_changed_byte_of_the_index_is_found_or_changes_no_fact(signed: Path, data: st.DataObject) -> None:
    path = signed.parent.parent / STORE
    facts, whole = index_facts(path), path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    try:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :])
        try:
            found = changes(signed)
        except ConfigurationError:
            return  # it is no index any more, and says so
        assert found or index_facts(path) == facts
    finally:
        for file in path.parent.glob(f"{STORE}*"):
            file.unlink()
        path.write_bytes(whole)


def index_facts(path: Path) -> list[object]:
    """What the index says of runs and their histories."""
    with closing(sqlite3.connect(path)) as db:
        joined = "SELECT * FROM points JOIN series ON series.id = points.series ORDER BY series.id"
        return [row for query in ("SELECT * FROM runs", joined) for row in db.execute(query)]


def test_a_file_put_in_or_taken_out_or_replaced_by_a_link_is_found(run: Path) -> None:
    (run / "artefacts" / "more.log").write_text("x")
    (run / "junit.xml").unlink()
    (run / "lab.yaml").rename(run / "lab\n.yaml")
    (run / "lab.yaml").symlink_to("lab\n.yaml")
    found = changes(run)
    assert "artefacts/more.log is not in the manifest: it was put in" in found
    assert "junit.xml is missing" in found and "lab.yaml was changed" in found
    seal(run)
    assert "lab.yaml was changed" in changes(run), "a file keeps its first digest"
    assert "lab\n.yaml" not in " ".join(changes(run)), "sealed under its own name"


def test_the_terminals_log_which_ends_after_the_report_is_taken_in(run: Path, keys: tuple[Path, Path]) -> None:
    (run / "terminal.log").write_text("PASS\n")
    seal(run)
    (run / "terminal.log").write_text("PASS\nreport: report.html\n")
    assert "terminal.log was changed" in changes(run)
    (run / "lab.yaml").write_text("changed too")
    seal_log(run, "terminal.log")
    assert "lab.yaml was changed" in changes(run) and "terminal.log was changed" not in changes(run)
    (run / "terminal.log").write_text("FAIL\n")
    finish_run(run, run.parent.parent)
    assert "terminal.log was changed" in changes(run)


def test_a_link_shows_nothing_of_what_it_leads_to(run: Path) -> None:
    (run / "artefacts" / "more.log").symlink_to("/etc/hostname")
    seal(run)
    assert "artefacts/more.log: no plain file, so nothing shows what it holds" in changes(run)


def test_a_run_of_ours_that_is_named_by_its_path_is_compared_with_the_index(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "reports_out", lambda: run.parent.parent)
    monkeypatch.chdir(run.parent)
    with closing(sqlite3.connect(run.parent.parent / STORE)) as db, db:
        db.execute("UPDATE runs SET verdict = 'FAIL'")
    for word in ("run-1", str(run), "./run-1", f"{run}/"):
        assert "the index has another verdict" in CliRunner().invoke(cli, ["runs", "verify", word]).output


def test_a_forged_run_with_fitting_digests_is_found_by_its_signature(
    run: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    forged = make(tmp_path / "forged", passes=False)
    shutil.copy(run / STATEMENT, forged)
    assert changes(forged) == []
    said = changes(forged, keys[1])
    assert said == ["the run is not the one that was signed: its result or its files differ"]
    other = tmp_path / "other.pem"
    key = Ed25519PrivateKey.generate()
    other.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption()))
    with pytest.raises(ConfigurationError, match="can be read by others"):
        sign(forged, other)
    other.chmod(0o600)
    sign(forged, other)
    assert changes(forged, keys[1]) == [f"{STATEMENT} was not signed with this key"]
    (forged / STATEMENT).unlink()
    assert changes(forged, keys[1]) == [f"there is no {STATEMENT}: the run was not signed"]


def test_the_statement_names_bundle_plan_lab_and_manifest(run: Path) -> None:
    statement = statement_of(run)
    assert statement["subject"] == [{"name": "os-2.0.0.raucb", "digest": {"sha256": "ab" * 32}}]
    predicate = statement["predicate"]
    assert (predicate["result"], predicate["passedTests"], predicate["failedTests"]) == ("PASSED", ["t"], [])
    digests = {each["name"]: each["digest"]["sha256"] for each in predicate["configuration"]}
    assert digests == {name: sha256_of(run / name) for name in ("plan.json", "lab.yaml", MANIFEST)}


def test_a_run_without_a_verdict_on_its_bundle_is_signed_as_what_it_is(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    run = make(tmp_path, verdict="INCONCLUSIVE")
    sign(run, keys[0])
    assert changes(run, keys[1]) == []
    statement = statement_of(run)
    assert statement["predicate"]["result"] == "INCONCLUSIVE" and statement["subject"][0]["name"] == "run-1"
    assert "test-result" not in statement["predicateType"], "nobody takes it for a result of the bundle"


def test_evidence_without_digests_is_called_unverifiable_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path)
    (tmp_path / STORE).unlink()
    (run / RESULT).unlink()
    for name in (MANIFEST, "report.html", "junit.xml"):
        (run / name).unlink()
    lines = [json.loads(line) for line in (run / EVIDENCE).read_text("utf-8").splitlines()]
    kept = [{k: v for k, v in line.items() if k != "prev"} for line in lines if line["kind"] != "run.judged"]
    (run / EVIDENCE).write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
    finish_run(run, tmp_path)
    assert [change for change in changes(run) if "carry no digests" in change]
    assert "unverifiable: evidence without digests" in (run / "report.html").read_text("utf-8")
    assert 'name="unverifiable"' in (run / "junit.xml").read_text("utf-8")
    monkeypatch.setattr(paths, "reports_out", lambda: tmp_path)
    assert "PASS, unverifiable" in CliRunner().invoke(cli, ["runs", "list"]).output
    assert "carries no digests" in CliRunner().invoke(cli, ["runs", "show"]).output
    assert CliRunner().invoke(cli, ["runs", "verify"]).exit_code == 1


def test_the_commands_verify_and_sign(run: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "reports_out", lambda: run.parent.parent)
    (run / STATEMENT).unlink()
    made = CliRunner().invoke(cli, ["runs", "sign", "last", "--key", str(keys[0])])
    assert made.exit_code == 0, made.output
    good = CliRunner().invoke(cli, ["runs", "verify", "last", "--key", str(keys[1])])
    assert (good.exit_code, good.output) == (0, "run-1: as it was recorded and signed\n")
    sent = CliRunner().invoke(cli, ["runs", "verify", str(run), "--json"])
    assert json.loads(sent.output) == [{"run": "run-1", "changes": []}]
    (run / "report.html").write_text("all is well")
    bad = CliRunner().invoke(cli, ["runs", "verify"])
    assert (bad.exit_code, bad.output) == (1, "run-1: NOT as it was recorded\n  report.html was changed\n")
    assert CliRunner().invoke(cli, ["runs", "sign", "--key", str(keys[0])]).exit_code != 0
