"""``--json`` of commands that make a file, serve, or run pytest; and one form of an error everywhere."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.cli.app import run
from hil.core import paths
from hil.evidence.record import Recorder
from tests.kits import checkout
from tests.kits.orbits import ORBITS

PLAN = checkout.DATA / "cases" / "01-ion-loopback.ionrc"


@pytest.mark.parametrize(
    ("words", "form", "begin"),
    [(["show", str(ORBITS / "brief-gap.yaml")], "svg", "<svg"), (["convert", str(PLAN), "--to", "hdtn"], "hdtn", "{")],
)
def test_a_file_that_is_made_is_in_the_document_or_named_in_it(
    words: list[str], form: str, begin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["orbit", *words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["format"], document["file"]) == (form, None)
    assert document["text"].startswith(begin)
    file = tmp_path / "out"
    assert run(["orbit", *words, "--json", "-o", str(file)]) == 0
    assert json.loads(capsys.readouterr().out) == {"format": form, "file": str(file), "text": None}
    assert file.read_text().rstrip("\n") == document["text"].rstrip("\n")


def test_a_lab_file_that_is_not_valid_has_the_error_of_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("schema: 1\nname: x\n")
    assert run(["lab", "show", str(file), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    good = str(paths.ROOT / "lab/virtual.yaml")
    assert run(["lab", "validate", str(file), good, "--json"]) == 2
    wrong, right = json.loads(capsys.readouterr().out)
    assert wrong == {"file": str(file), "valid": False, "error": error}
    assert error["blame"] == "configuration" and error["exit_code"] == 2
    assert right["valid"] is True and "error" not in right


def test_the_exporter_says_where_it_serves(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @contextmanager
    def serving(*_: object, **__: object) -> Iterator[int]:
        yield 9999

    def end(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hil.monitor.exporter.serving", serving)
    monkeypatch.setattr("hil.monitor.exporter.BenchCollector", lambda *_: None)
    monkeypatch.setattr("hil.monitor.watch_loop.BenchFollower", lambda *_, **__: nullcontext(SimpleNamespace(health=0)))
    monkeypatch.setattr("hil.monitor.watch_loop.Sampler", lambda *_, **__: nullcontext(SimpleNamespace(fresh=0)))
    monkeypatch.setattr("hil.cli.bench.group.time", SimpleNamespace(sleep=end))
    assert run(["bench", "export", "six", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"bench": "six", "url": "http://127.0.0.1:9999/metrics"}


class Pytest:
    """A pytest process that has ended; with ``out`` it has made a run there."""

    pid = 4_000_111

    def __init__(self, code: int, out: Path | None = None) -> None:
        self.code, self.out = code, out
        self.returncode: int | None = None

    def __call__(self, argv: list[str], *, stdout: int) -> Pytest:
        assert stdout != 1  # pytest's own output does not mix with the document
        if self.out:
            meta = {"plan": "p", "lab": "virtual", "process": {"pid": self.pid, "start_ticks": 1, "boot_id": "x"}}
            Recorder.create(self.out / "runs" / "r2", meta).close()
        return self

    def wait(self) -> None:
        self.returncode = self.code


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "plan.yaml").touch()
    monkeypatch.setattr(paths, "reports_out", lambda: tmp_path / "out")
    same_pid = {"plan": "p", "lab": "virtual", "process": {"pid": Pytest.pid, "start_ticks": 0, "boot_id": "y"}}
    Recorder.create(tmp_path / "out" / "runs" / "r1", same_pid).close()
    return ["campaign", "run", str(tmp_path), "--bench", "b1", "--json"]


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_campaign_ends_with_its_own_run_as_a_document(
    campaign: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Pytest(1, tmp_path / "out"))
    assert run(campaign) == 1
    assert document(capsys)["run_id"] == "r2"


def test_a_campaign_that_makes_no_run_ends_with_an_error(
    campaign: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Pytest(4))
    assert run(campaign) == 4
    error = document(capsys)["error"]
    assert (error["blame"], error["exit_code"]) == ("configuration", 4)
