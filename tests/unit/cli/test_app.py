"""The command line: lazy, with exit codes by blame, clean messages, and JSON where it prints data."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hil.cli import app
from hil.cli.app import COMMANDS, cli, run
from hil.core import paths
from hil.errors import BenchError, ConfigurationError, DeviceError, HarnessError, HilError
from tests.kits.heavy_packages import HEAVY


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_help_imports_nothing_that_costs() -> None:
    code = (
        "import sys; sys.argv = ['hil', '--help']\n"
        "from hil.cli import main\n"
        "assert main() == 0\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_a_help_and_nothing_heavy_is_imported_for_it(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_every_subcommand_has_a_help_with_its_first_line_in_the_groups_list() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None and command.name == name
        assert command.help, name
        if isinstance(command, click.Group):
            assert "Examples:" in command.help, name
            assert all(sub.help for sub in command.commands.values())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x", remedy="do y"), 2),
        (BenchError("x", remedy="do y"), 3),
        (DeviceError("x", remedy="do y"), 1),
        (HarnessError("x", remedy="do y"), 3),
    ],
)
def test_an_error_has_the_exit_code_of_its_blame_and_prints_the_remedy(
    error: HilError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_raising(error, monkeypatch) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert f"error ({error.blame.value}): x" in said.err and "remedy: do y" in said.err
    assert "Traceback" not in said.err


def run_raising(error: BaseException, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    def fail(**_: object) -> None:
        raise error

    command = click.Command("version", callback=fail)
    monkeypatch.setattr(app.LazyGroup, "get_command", lambda self, ctx, name: command)
    return run([*arguments, "version"])


def test_an_unexpected_error_is_the_harnesses_fault_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_raising(RuntimeError("boom"), monkeypatch) == 3
    said = capsys.readouterr().err
    assert "RuntimeError: boom" in said and "--debug" in said and "Traceback" not in said


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchError):
        run_raising(BenchError("x"), monkeypatch, "--debug")


def test_ctrl_c_is_a_clean_message_and_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_raising(KeyboardInterrupt(), monkeypatch) == 130
    assert capsys.readouterr().err.lstrip().startswith("hil: interrupted")


def test_sigterm_unwinds_like_ctrl_c_so_that_everything_goes_off() -> None:
    code = (
        "import os, signal, click\n"
        "from hil.cli import app\n"
        "def wait():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM); signal.pause()\n"
        "    finally:\n"
        "        print('switched off')\n"
        "app.LazyGroup.get_command = lambda self, ctx, name: click.Command('x', callback=wait)\n"
        "raise SystemExit(app.run(['x']))"
    )
    done = python(code)
    assert done.stdout == "switched off\n"
    assert done.returncode == 128 + signal.SIGTERM and "SIGTERM" in done.stderr


def leaves(group: click.Group = cli, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Every command that does something, by its words."""
    context = click.Context(group)
    found: dict[tuple[str, ...], click.Command] = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found |= (
            leaves(command, (*path, name)) if isinstance(command, click.Group) else {(*path, name): command}
        )
    return found


INTERACTIVE = {
    ("board", "console"),  # bytes of a board
    ("board", "shell"),  # a command's own output
    ("bench", "export"),  # a server
    ("campaign", "run"),  # pytest; `hil runs show --json` has its result
    ("completion",),
    ("fault", "inject"),  # a script
    ("lab", "reference"),  # --format
    ("orbit", "convert"),  # a file in a format of its own
    ("orbit", "show"),  # a picture
}


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_whatever_prints_data_prints_json_on_request(words: tuple[str, ...]) -> None:
    options = {option for parameter in leaves()[words].params for option in parameter.opts}
    assert ("--json" in options) is (words not in INTERACTIVE)


def examples(words: tuple[str, ...]) -> list[str]:
    """Lines of its help that begin with the command itself."""
    text = leaves()[words].help or ""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith(" ".join(("hil", *words)))]


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_every_help_has_an_example_that_can_be_typed(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = examples(words)
    if words != ("lab", "reference"):
        assert found, "no example"
    for line in found:
        line = re.split(r"  +|[|;>]|&&", line.partition(" -- ")[0])[
            0
        ]  # what it is for stands behind two spaces
        arguments = shlex.split(line)[1 + len(words) :] + (
            ["--", "true"] if " -- " in " ".join(found) else []
        )
        command = leaves()[words]
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                monkeypatch.setattr(parameter.type, "exists", False)  # an example's file need not be there
        command.make_context(words[-1], arguments)


def test_what_was_probably_meant_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bord"]) == 2
    assert "Did you mean 'board'?" in capsys.readouterr().err
    assert run(["xyzzy"]) == 2
    assert "No such command 'xyzzy'." in capsys.readouterr().err


def test_wrong_usage_is_a_configuration_error() -> None:
    assert run(["nonsense"]) == 2
    assert run(["lab", "show"]) == 2
    assert run(["board", "power", "a1", "explode"]) == 2


def test_version_is_json_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version", "--json"]) == 0
    assert {"hil", "python", "kernel", "home"} <= set(json.loads(capsys.readouterr().out))


def test_lab_validate_names_every_wrong_file_and_still_checks_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("schema: 1\nname: x\n")
    good = str(paths.ROOT / "lab/virtual.yaml")
    assert run(["lab", "validate", str(wrong), good, str(tmp_path / "absent.yaml")]) == 2
    said = capsys.readouterr()
    assert f"{good}: valid: 2 spacecraft, 6 boards" in said.out
    assert f"{wrong}:1: " in said.err and "absent.yaml: no such file" in said.err


def test_lab_show_prints_the_lab_with_its_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(paths.ROOT / "lab/virtual.yaml")
    assert run(["lab", "show", file]) == 0
    page = capsys.readouterr().out
    assert "14.386 ms" in page and "198.18.1.11" in page and "gateway" in page
    assert run(["lab", "show", file, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["addresses"]["a1"]["flight"] == "198.18.1.11"


@pytest.fixture
def empty_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HIL_RUN", str(tmp_path / "run"))
    monkeypatch.delenv("HIL_BENCH", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "argv", [["board", "list"], ["link", "show"], ["link", "cut", "x"], ["bench", "down"]]
)
def test_commands_that_need_a_bench_say_how_to_bring_one_up(
    empty_host: Path, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    said = capsys.readouterr().err
    assert "no bench is up" in said and "hil bench up" in said


def test_several_benches_that_are_up_must_be_told_apart(
    empty_host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hil.bench.state import hold

    for name in ("one", "two"):
        (empty_host / "run/bench" / name).mkdir(parents=True)
    with hold("one"), hold("two"):
        assert run(["board", "list"]) == 2
    said = capsys.readouterr().err
    assert "one, two" in said and "--bench NAME" in said


def test_bench_status_of_nothing_is_an_empty_list(
    empty_host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_bench_that_lost_its_keeper_is_called_lost(
    empty_host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hil.bench.state import BenchState, write_state

    write_state(
        BenchState(name="old", lab_path="lab/virtual.yaml", keeper_pid=2**22 - 3, status="up", tied=False)
    )
    assert run(["bench", "status"]) == 3
    said = capsys.readouterr()
    assert "lost" in said.out and "hil clean" in said.err


def test_clean_prints_what_it_removed_as_json(
    empty_host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hil.bench import clean as cleaning
    from hil.bench.leftovers import Leftover

    done = cleaning.Cleaned((Leftover("namespace", "hil.x.box", "x"),), (), ("alive",))
    monkeypatch.setattr(cleaning, "clean", lambda **options: done)
    assert run(["clean", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["removed"][0]["name"] == "hil.x.box" and document["live"] == ["alive"]
    assert run(["clean"]) == 0
    page = capsys.readouterr().out
    assert "removed namespace hil.x.box of bench x" in page and "alive" in page


def test_what_could_not_be_cleaned_is_exit_code_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hil.bench import clean as cleaning
    from hil.bench.leftovers import Leftover

    done = cleaning.Cleaned((), ((Leftover("mount", "/x"), "busy"),), ())
    monkeypatch.setattr(cleaning, "clean", lambda **options: done)
    assert run(["clean"]) == 3
    assert "could not remove mount /x: busy" in capsys.readouterr().err


def test_the_doctors_exit_code_is_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hil.core.check import Check
    from hil.host.doctor import this_host as doctor

    monkeypatch.setattr(
        doctor, "diagnose", lambda: [Check("root", "fail", "not root", "why", "remedy", "rest")]
    )
    assert run(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["checks"][0]["id"] == "root"


@pytest.mark.parametrize(
    ("stale", "lacking", "code"), [("", [], 0), ("set-up has not run yet", [], 2), ("", ["rauc"], 2)]
)
def test_setup_check_only_looks(
    stale: str,
    lacking: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from hil.host import packages, setup

    monkeypatch.setattr(packages, "missing", lambda: [p for p in packages.PACKAGES if p.name in lacking])
    monkeypatch.setattr(setup, "stale", lambda: stale)
    monkeypatch.setattr(setup, "setup", lambda *a: pytest.fail("it did more than look"))
    assert run(["setup", "--check"]) == code
    assert capsys.readouterr().out.startswith("set-up: ")


class TestCampaign:
    @pytest.fixture(autouse=True)
    def no_exec(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        self.ran: list[list[str]] = []
        monkeypatch.setattr(os, "execv", lambda program, argv: self.ran.append(argv))
        monkeypatch.setattr("hil.cli.campaign.prepare", lambda: self.ran.append(["prepare"]))
        return self.ran

    def plan(self, tmp_path: Path) -> str:
        (tmp_path / "plan.yaml").touch()
        return str(tmp_path)

    def test_it_is_the_same_pytest_run_with_all_further_arguments(self, tmp_path: Path) -> None:
        lab = str(paths.ROOT / "lab/virtual.yaml")
        plan = self.plan(tmp_path)
        assert run(["campaign", "run", plan, "--lab", lab, "-k", "upload", "-x", "--run-id=r1"]) == 0
        assert self.ran == [
            ["prepare"],
            [
                sys.executable,
                "-m",
                "pytest",
                "-v",
                plan,
                "--hil-lab",
                lab,
                "-k",
                "upload",
                "-x",
                "--run-id=r1",
            ],
        ]

    def test_the_choice_of_boards_and_of_the_moment_is_passed_on(self, tmp_path: Path) -> None:
        lab, plan = str(paths.ROOT / "lab/virtual.yaml"), self.plan(tmp_path)
        chosen = ["--on", "sc-b,sc-a", "--split", "2+2", "--epoch", "2026-03-21T05:14:00Z", "--no-clean"]
        assert run(["campaign", "run", plan, "--lab", lab, *chosen]) == 0
        prefixed = [word.replace("--", "--hil-") for word in chosen]
        assert self.ran[-1] == [sys.executable, "-m", "pytest", "-v", plan, "--hil-lab", lab, *prefixed]

    def test_boards_that_are_not_there_are_refused_before_anything_is_touched(self, tmp_path: Path) -> None:
        lab = str(paths.ROOT / "lab/virtual.yaml")
        assert run(["campaign", "run", self.plan(tmp_path), "--lab", lab, "--split", "4+2"]) == 2
        assert self.ran == []

    def test_on_a_bench_that_is_up_nothing_is_set_up(self, tmp_path: Path) -> None:
        plan = self.plan(tmp_path)
        assert run(["campaign", "run", plan, "--bench", "b1"]) == 0
        assert self.ran == [[sys.executable, "-m", "pytest", "-v", plan, "--hil-bench", "b1"]]

    def test_a_folder_without_a_plan_is_refused_before_anything_is_touched(self, tmp_path: Path) -> None:
        assert run(["campaign", "run", str(tmp_path), "--lab", "x"]) == 2
        assert self.ran == []

    @pytest.mark.parametrize("extra", [[], ["--lab", "lab/virtual.yaml", "--bench", "b1"]])
    def test_exactly_one_of_lab_and_bench_is_needed(self, tmp_path: Path, extra: list[str]) -> None:
        assert run(["campaign", "run", self.plan(tmp_path), *extra]) == 2
        assert self.ran == []

    def test_a_wrong_lab_file_is_refused_before_anything_is_touched(self, tmp_path: Path) -> None:
        (tmp_path / "lab.yaml").write_text("schema: 1\n")
        assert run(["campaign", "run", self.plan(tmp_path), "--lab", str(tmp_path / "lab.yaml")]) == 2
        assert self.ran == []


def test_a_campaign_brings_an_old_set_up_up_to_date(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hil.bench import bench
    from hil.cli.campaign import prepare
    from hil.host import packages, setup

    reason = ""
    done: list[str] = []
    monkeypatch.setattr(bench, "require_root", lambda: None)
    monkeypatch.setattr(packages, "missing", list)
    monkeypatch.setattr(setup, "stale", lambda: reason)
    monkeypatch.setattr(setup, "was_done", lambda: True)
    monkeypatch.setattr(setup, "setup", lambda view: done.append("set up"))
    prepare()
    assert done == []
    reason = "the sources changed"
    prepare()
    assert done == ["set up"] and "the sources changed" in capsys.readouterr().err


@pytest.mark.parametrize("lacking", [[], ["rauc"]])
def test_a_campaign_never_sets_up_a_host_for_the_first_time_unasked(
    lacking: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hil.bench import bench
    from hil.cli.campaign import prepare
    from hil.host import packages, setup

    monkeypatch.setattr(bench, "require_root", lambda: None)
    monkeypatch.setattr(packages, "missing", lambda: [p for p in packages.PACKAGES if p.name in lacking])
    monkeypatch.setattr(setup, "stale", lambda: "" if lacking else "set-up has not run yet")
    monkeypatch.setattr(setup, "was_done", lambda: bool(lacking))
    monkeypatch.setattr(setup, "setup", lambda view: pytest.fail("it was set up"))
    with pytest.raises(ConfigurationError, match="set-up is not complete"):
        prepare()


def test_a_run_whose_directory_was_deleted_stays_in_the_list_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hil.core.paths.reports_out", lambda: tmp_path)
    run_directory = tmp_path / "runs" / "20261123T082448Z-demo-9447"
    run_directory.mkdir(parents=True)
    meta = {"plan": "demo", "lab": "virtual", "started_utc": "2026-11-23T08:24:50Z", "process": {}}
    (run_directory / "run.json").write_text(json.dumps(meta))
    assert run(["runs", "list"]) == 0 and " crashed " in capsys.readouterr().out
    (run_directory / "run.json").unlink()
    run_directory.rmdir()
    assert run(["runs", "list"]) == 0 and " deleted " in capsys.readouterr().out
    assert run(["runs", "open", "9447", "--print"]) == 2
    assert "its directory was deleted" in capsys.readouterr().err
