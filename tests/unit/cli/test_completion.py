"""Tab: commands, options, and the names of what is up; light, because somebody waits for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from hil.bench.state import bench_dir, write_state
from hil.cli.app import COMMANDS, cli, run
from hil.core import paths
from hil.leases.leases import Leases
from tests.kits.fake_bench import bench_state, pretend_up
from tests.kits.heavy_packages import HEAVY


@pytest.fixture
def two_benches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HIL_RUN", str(tmp_path))
    monkeypatch.delenv("HIL_BENCH", raising=False)
    with pretend_up("six"), pretend_up("other"):
        write_state(bench_state("left"))  # its keeper is gone
        yield


def completed(*words: str) -> list[str]:
    """What is offered for the last word, as any shell is told."""
    shell = ShellComplete(cli, {}, "hil", "_HIL_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_commands_and_options_are_completed() -> None:
    assert completed("") == list(COMMANDS)
    assert completed("be") == ["bench"]
    assert completed("bench", "") == ["down", "export", "log", "reset", "status", "up", "watch"]
    assert completed("bench", "export", "--l") == ["--listen"]
    assert completed("completion", "") == ["bash", "zsh", "fish"]


def test_names_are_those_of_benches_that_are_up(two_benches: None) -> None:
    assert completed("bench", "watch", "") == completed("bench", "down", "") == ["other", "six"]
    assert completed("bench", "export", "s") == ["six"]
    assert completed("board", "list", "--bench", "") == ["other", "six"]
    assert completed("board", "console", "a") == ["a1", "a2"]
    assert completed("board", "power", "b1", "c") == ["cut"]
    assert completed("board", "power", "sc") == ["sc-a", "sc-b"]
    assert completed("link", "cut", "") == ["ground", "isl-ab"]
    assert completed("link", "calibrate", "ground", "i") == ["isl-ab"]


def test_names_are_those_of_the_bench_that_is_meant(two_benches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed("board", "console", "--bench", "left", "") == []
    assert completed("board", "console", "--bench", "six", "b") == ["b1"]
    monkeypatch.setenv("HIL_BENCH", "left")
    assert completed("link", "cut", "") == []


def test_a_bench_that_goes_down_this_moment_completes_to_nothing(two_benches: None) -> None:
    for name in ("six", "other"):
        (bench_dir(name) / "links.json").write_text("{")
        (bench_dir(name) / "bench.json").unlink()
    assert completed("link", "cut", "") == completed("board", "console", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_script_and_its_answers(
    two_benches: None, shell: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["completion", shell]) == 0
    assert f"_HIL_COMPLETE={shell}_complete" in capfd.readouterr().out
    environment = {**os.environ, "_HIL_COMPLETE": f"{shell}_complete", "COMP_WORDS": "hil board console a"}
    environment["COMP_CWORD"] = "a" if shell == "fish" else "3"
    done = subprocess.run(
        [sys.executable, "-m", "hil.cli"], env=environment, cwd=paths.ROOT, capture_output=True, text=True
    )
    assert "a1" in done.stdout and "a2" in done.stdout and "b1" not in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_itself_completes_a_board(two_benches: None, tmp_path: Path) -> None:
    command = tmp_path / "hil"
    command.write_text(f'#!/bin/sh\ncd {paths.ROOT} && exec {sys.executable} -m hil.cli "$@"\n')
    command.chmod(0o755)
    script = f"""
        eval "$({command} completion bash)"
        COMP_WORDS=(hil board shell a) COMP_CWORD=3
        _hil_completion {command} a shell
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["a1", "a2"], done.stderr


@pytest.mark.parametrize("words", ["hil ", "hil board console a", "hil link cut i", "hil bench watch "])
def test_nothing_that_costs_is_imported_for_a_tab(two_benches: None, words: str) -> None:
    code = (
        "import sys; sys.argv = ['hil']\n"
        "from hil.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    cword = str(len(words.split(" ")) - 1)
    environment = {**os.environ, "_HIL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": cword}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=paths.ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == "[]", done.stderr
    assert done.stdout.strip()


def test_runs_leases_modes_and_spacecraft_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_REPORTS", str(tmp_path / "out"))
    monkeypatch.setenv("HIL_LEASES", str(tmp_path / "leases.db"))
    monkeypatch.delenv("HIL_LEASE", raising=False)
    assert completed("runs", "show", "") == ["last"]
    for run_id in ("20260301-demo-1", "20260302-demo-2"):
        (tmp_path / "out/runs" / run_id).mkdir(parents=True)
    assert completed("runs", "open", "") == ["last", "20260302-demo-2", "20260301-demo-1"]
    assert completed("runs", "report", "20260301") == ["20260301-demo-1"]
    assert completed("lease", "free", "") == []
    assert not (tmp_path / "leases.db").exists(), "Tab makes no store"
    entry = Leases().reserve(["six/a2", "six/a1"], holder="anna", purpose="new fan")
    assert completed("lease", "free", "") == [str(entry.id), "six/a1", "six/a2"]
    with monkeypatch.context() as away:
        away.setenv("HIL_STORE", "postgresql://hil@/hil?host=/nowhere")
        away.delenv("HIL_LEASES")
        assert completed("lease", "free", "") == []
    assert completed("board", "mode", "a1", "MODE_5") == ["MODE_50W"]
    on = ("campaign", "run", "testplans/six_gpu", "--lab", str(paths.ROOT / "lab/virtual.yaml"), "--on")
    assert completed(*on, "") == ["sc-a", "sc-b"]
    assert completed(*on, "sc-b,") == ["sc-b,sc-a"]
