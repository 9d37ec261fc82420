"""The command line: lazy, with exit codes by blame, clean messages, and JSON where it prints data."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import click
import pytest
from click.testing import CliRunner

from hil.boards.power.http_client import HttpStrip
from hil.boards.power.shelly import ShellyGen2
from hil.boards.power.supervisor import PoweredSupervisor
from hil.boards.power.switch import ConfirmedSwitch
from hil.cli import app
from hil.cli.app import COMMANDS, cli, run
from hil.cli.output import Progress, note, print_table
from hil.core import paths
from hil.errors import BenchError, ConfigurationError, DeviceError, HarnessError, HilError
from tests.kits.command_lines import after_hil, fault_of, typed_in
from tests.kits.fake_bench import FakeBoard, fake_bench
from tests.kits.heavy_packages import HEAVY
from tests.kits.power_strips import ShellyGen2Strip


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


@pytest.mark.parametrize("how", ["--debug", "HIL_DEBUG"])
def test_debug_shows_the_traceback_and_keeps_the_exit_code(
    how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if how == "HIL_DEBUG":
        monkeypatch.setenv("HIL_DEBUG", "1")
    arguments = ["--debug"] if how == "--debug" else []
    assert run_raising(BenchError("x"), monkeypatch, *arguments) == 3
    assert "Traceback" in capsys.readouterr().err
    assert run_raising(ConfigurationError("x"), monkeypatch, *arguments) == 2


@pytest.mark.parametrize(
    ("error", "code", "blame"),
    [
        (BenchError("a cable", remedy="plug it"), 3, "bench"),
        (click.UsageError("no such option"), 2, "configuration"),
        (RuntimeError("boom"), 3, "harness"),
    ],
)
def test_with_json_an_error_is_json_on_stdout(
    error: Exception, code: int, blame: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise error

    command = click.Command("x", params=[click.Option(["--json"], is_flag=True)], callback=fail)
    monkeypatch.setattr(app.LazyGroup, "get_command", lambda self, ctx, name: command)
    assert run(["x", "--json"]) == code
    said = capsys.readouterr()
    facts = json.loads(said.out)["error"]
    assert (facts["blame"], facts["exit_code"]) == (blame, code) and said.err == ""
    if blame == "bench":
        assert (facts["message"], facts["remedy"]) == ("a cable", "plug it")


def test_an_error_has_no_control_characters_of_a_board(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_raising(DeviceError("a1 said:\n\x1b]52;c;eA==\x07 it"), monkeypatch)
    shown = capsys.readouterr().err
    assert "\x1b" not in shown and "\x07" not in shown and "a1 said:\n" in shown


def test_versions_and_helps_have_the_usual_spellings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("hil, version ")
    assert run(["help", "board", "power"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("Usage: hil board power") and "--until-booted" in page
    assert run(["help"]) == 0
    assert "Commands:" in capsys.readouterr().out
    assert run(["help", "board", "explode"]) == 2


def test_quiet_leaves_out_progress_and_notes_and_log_levels_are_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        with Progress() as progress:
            progress.say("a step")
        note("a remark")
        logging.getLogger("hil.boards").info("power cut")
        click.echo("result")

    command = click.Command("x", callback=work)
    monkeypatch.setattr(app.LazyGroup, "get_command", lambda self, ctx, name: command)
    assert run(["-q", "x"]) == 0
    assert capsys.readouterr() == ("result\n", "")
    assert run(["-v", "x"]) == 0
    said = capsys.readouterr()
    assert said.out == "result\n" and "a step" in said.err and "INFO    hil.boards: power cut" in said.err
    monkeypatch.setenv("HIL_LOG", "hil.links=DEBUG")
    assert run(["x"]) == 0
    assert "power cut" not in capsys.readouterr().err
    monkeypatch.setenv("HIL_LOG", "loud")
    assert run(["x"]) == 2
    assert "HIL_LOG" in capsys.readouterr().err


def test_the_log_of_a_power_cut_has_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_bench(tmp_path) as bench, ShellyGen2Strip() as strip:
        strip.outlets.switch(0, True)
        host, port = strip.address.split(":")
        outlet = ConfirmedSwitch(ShellyGen2(HttpStrip("Shelly", (host, int(port))), 0))
        board = SimpleNamespace(name="a1", supervisor=PoweredSupervisor("a1", outlet))
        bench.boards["a1"] = cast(FakeBoard, board)
        monkeypatch.setattr("hil.bench.bench.Bench.attach", lambda name: bench)
        assert run(["-vv", "board", "power", "a1", "cut", "--bench", "six"]) == 0
    said = capsys.readouterr()
    assert said.out == "a1: off\n"
    steps = (
        "DEBUG   hil.boards.power.supervisor: board a1: take its power away",
        "DEBUG   hil.boards.power.http_client: Shelly: GET /rpc/Switch.Set?id=0&on=false",
        "DEBUG   hil.boards.power.http_client: Shelly: HTTP 200",
        "DEBUG   hil.boards.power.switch: Shelly, switch 0: reads back 'off'",
        "INFO    hil.boards.power.supervisor: board a1: power cut",
    )
    rest = iter(said.err.splitlines())
    assert all(any(step in line for line in rest) for step in steps), said.err


def test_ctrl_c_is_a_clean_message_and_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
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
        found |= leaves(command, (*path, name)) if isinstance(command, click.Group) else {(*path, name): command}
    return found


INTERACTIVE = {
    ("board", "console"),
    ("board", "logs"),  # bytes of a board
    ("board", "shell"),  # a command's own output
    ("campaign", "attach"),  # pytest's own output
    ("completion",),  # a script
    ("help",),
    ("worker",),  # it works until the series ends
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
def test_every_help_has_an_example_that_can_be_typed(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    found = examples(words)
    assert found or leaves()[words].hidden, "no example"
    for line in found:
        line = re.split(r"  +|[|;>]|&&", line.partition(" -- ")[0])[0]  # what it is for stands behind two spaces
        arguments = shlex.split(line)[1 + len(words) :] + (["--", "true"] if " -- " in " ".join(found) else [])
        command = leaves()[words]
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                monkeypatch.setattr(parameter.type, "exists", False)  # an example's file need not be there
        command.make_context(words[-1], arguments)


@pytest.mark.parametrize("words", [*leaves(), *((name,) for name in COMMANDS), ()], ids=" ".join)
def test_every_command_line_that_a_help_prints_parses(words: tuple[str, ...]) -> None:
    """Those of other commands too, and those in sentences."""
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word) or cli
    text = command.help or ""
    lines = [re.split(r";|  +", line.strip())[0] for line in text.splitlines()]
    typed = [shlex.split(line) for line in lines if line.startswith(("hil ", "sudo -E hil "))]
    faults = [(line, fault_of(after_hil(line) or [], complete=True)) for line in typed]
    texts = [text, command.epilog or "", *(getattr(option, "help", None) or "" for option in command.params)]
    faults += [(line, fault_of(line, complete=False)) for each in texts for line in typed_in(each)]
    assert not [fault for fault in faults if fault[1]]


def test_every_command_line_that_a_message_tells_to_type_parses() -> None:
    faults = []
    for path in sorted((paths.ROOT / "hil").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node] if isinstance(node, ast.Constant) else ()
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in parts)
            for words in typed_in(text):
                fault = fault_of([word for word in words if word != "--debug"], complete=False)
                if fault and not fault.endswith(("requires an argument.", "there is no `hil 1`")):
                    faults.append(f"{path}:{getattr(node, 'lineno', 0)}: {words}: {fault}")
    assert not faults, "\n".join(faults)


def test_every_section_of_the_examples_belongs_to_a_command() -> None:
    text = Path(app.__file__).with_name("examples.txt").read_text("utf-8")
    named = {tuple(words.split()) for words in re.findall(r"(?m)^\[(.+)\]$", text)}
    assert named <= {*leaves(), *((name,) for name in COMMANDS)}


BANNED = {
    "a", "an", "the", "what", "who", "whose", "which", "where", "when", "how", "why", "whatever", "whoever",
    "everything", "all", "every", "this", "these", "that", "links", "runs", "boards", "versions", "power",
}  # fmt: skip
"""No help begins with these words, but with a verb: Show, List, Take."""
RIDDLES = re.compile(r"\b(whatever|whoever|somebody|nobody|what became of|how it feels|tells?|told)\b", re.IGNORECASE)


@pytest.mark.parametrize("words", [*leaves(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_every_help_begins_with_a_verb_and_has_no_riddles(words: tuple[str, ...]) -> None:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    first = (command.help or "").split()[0]
    assert first[0].isupper() and first.lower().strip(",.:;") not in BANNED, command.help
    assert first == "Bring" or not first.endswith(("ing", "ed")), command.help
    texts = [command.help or "", *(getattr(option, "help", None) or "" for option in command.params)]
    assert not (riddle := RIDDLES.search(" ".join(texts))), riddle


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_line_in_the_list_of_commands_is_the_begin_of_the_commands_own_help(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None and command.help is not None
    listed, _, more = COMMANDS[name][1].rstrip(".").partition(";")
    assert " ".join(command.help.split()).startswith(listed), (listed, more)


def test_former_spellings_of_options_still_work_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(paths.ROOT / "lab/orbits/brief-gap.yaml")
    assert run(["orbit", "contacts", file, "--hours", "0.1", "--step-s=20", "--json"]) == 0
    former = capsys.readouterr()
    assert run(["orbit", "contacts", file, "--span", "6m", "--step", "20", "--json"]) == 0
    assert former.out == capsys.readouterr().out
    assert former.err == "note: --hours is now --span 0.1h\nnote: --step-s is now --step 20s\n"


def test_a_mistyped_folder_is_noticed_before_any_work_and_not_made(tmp_path: Path) -> None:
    file = str(paths.ROOT / "lab/orbits/brief-gap.yaml")
    assert run(["orbit", "show", file, "-o", str(tmp_path / "typo/x.svg")]) == 2
    assert not (tmp_path / "typo").exists()


def test_looking_at_leases_makes_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HIL_LEASES", raising=False)
    assert run(["lease", "list"]) == 0
    assert capsys.readouterr().out == "no board is leased\n"
    assert run(["lease", "list", "--store", str(tmp_path / "typo/x.db")]) == 2
    assert "no lease store" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_bench_that_is_not_there_and_an_epoch_that_is_none_are_refused_at_once(
    empty_host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "status", "nosuch"]) == 2
    assert "no bench nosuch" in capsys.readouterr().err
    lab = str(paths.ROOT / "lab/virtual.yaml")
    assert run(["bench", "up", "--lab", lab, "--epoch", "yesterday"]) == 2
    assert "'yesterday' is not a time" in capsys.readouterr().err
    assert run(["bench", "export", "--listen", "999"]) == 2
    assert "999" in capsys.readouterr().err


def test_a_plan_without_runs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of = SimpleNamespace(plan="six-gpu")
    monkeypatch.setattr("hil.evidence.store.list_runs", lambda: [run_of])
    assert run(["runs", "list", "--plan", "zzz"]) == 0
    assert capsys.readouterr().out == "no run of plan zzz; plans with runs: six-gpu\n"


def test_a_narrow_terminal_loses_optional_columns_and_never_cuts_a_cell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    row = ["a1", "virtual", "198.18.1.11", "on\x1b[2J"]
    print_table(["board", "fidelity", "flight", "power"], [row], optional=["fidelity", "power"])
    said = capsys.readouterr()
    lines = re.sub(r"\x1b\[\d*m", "", said.out).splitlines()
    assert [line.split() for line in lines] == [["board", "flight"], ["a1", "198.18.1.11"]]
    assert said.err == "note: this terminal is too narrow for fidelity, power; --json has everything\n"


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


@pytest.mark.parametrize("argv", [["board", "list"], ["link", "show"], ["link", "cut", "x"], ["bench", "down"]])
def test_commands_that_need_a_bench_say_how_to_bring_one_up(
    empty_host: Path, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    said = capsys.readouterr().err
    assert "no bench is up" in said and "hil bench up" in said


def test_several_benches_that_are_up_must_be_told_apart(empty_host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hil.bench.state import hold

    for name in ("one", "two"):
        (empty_host / "run/bench" / name).mkdir(parents=True)
    with hold("one"), hold("two"):
        assert run(["board", "list"]) == 2
    said = capsys.readouterr().err
    assert "one, two" in said and "--bench NAME" in said


@pytest.mark.parametrize(
    ("lab", "code"), [("/elsewhere/lab/virtual.yaml", 2), (str(paths.ROOT / "lab/virtual.yaml"), 3)]
)
def test_a_runs_own_bench_of_another_checkout_is_used_only_by_its_name(
    empty_host: Path, capsys: pytest.CaptureFixture[str], lab: str, code: int
) -> None:
    from hil.bench.state import BenchState, hold, pick, write_state

    write_state(BenchState(name="run7", lab_path=lab, keeper_pid=1, status="up", tied=True))
    with hold("run7"):
        assert pick("run7") == "run7"
        if code == 3:
            assert pick(None) == "run7"
            return
        assert run(["board", "list"]) == code
    said = capsys.readouterr().err
    assert "no bench of your own" in said and "run7 (of /elsewhere/lab/virtual.yaml)" in said and "--bench" in said


def test_a_plain_user_has_the_keeper_of_roots_bench_show_it(empty_host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    def look(bench: str, words: tuple[str, ...]) -> int:
        asked.append((bench, words))
        return 7

    monkeypatch.setattr("hil.bench.rootless_looking.look", look)
    assert run(["board", "list", "--bench", "lab1"]) == 7
    assert asked == [("lab1", ("board", "list"))]
    assert run(["link", "cut", "isl-ab", "--bench", "lab1"]) != 7


def test_bench_status_of_nothing_is_an_empty_list(empty_host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_bench_that_lost_its_keeper_is_called_lost(empty_host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hil.bench.state import BenchState, write_state

    write_state(BenchState(name="old", lab_path="lab/virtual.yaml", keeper_pid=2**22 - 3, status="up", tied=False))
    assert run(["bench", "status"]) == 3
    said = capsys.readouterr()
    assert "lost" in said.out and "hil clean" in said.err


def test_a_bench_that_is_still_coming_up_is_not_called_absent_and_up(
    empty_host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hil.bench.state import BenchState, hold, write_state

    with hold("new"):
        write_state(BenchState(name="new", lab_path="x", keeper_pid=1, status="starting", tied=False))
        assert run(["link", "show", "--bench", "new"]) == 2
    said = capsys.readouterr().err
    assert "bench new is still coming up" in said and "hil bench status" in said


def test_stop_on_without_a_series_is_refused(empty_host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["campaign", "run", "six_gpu", "--stop-on", "fail"]) == 2
    assert "give --repeat N" in capsys.readouterr().err


def test_clean_prints_what_it_removed_as_json(
    empty_host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hil.bench import clean as cleaning
    from hil.bench.leftovers import Leftover

    done = cleaning.Cleaned((Leftover("namespace", "hil.x.box", bool, "x"),), (), ("alive",))
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

    done = cleaning.Cleaned((), ((Leftover("mount", "/x", bool), "busy"),), ())
    monkeypatch.setattr(cleaning, "clean", lambda **options: done)
    assert run(["clean"]) == 3
    assert "could not remove mount /x: busy" in capsys.readouterr().err


def test_the_doctors_exit_code_is_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hil.core.check import Check
    from hil.host.doctor import this_host as doctor

    monkeypatch.setattr(doctor, "diagnose", lambda: [Check("root", "fail", "not root", "why", "remedy", "rest")])
    assert run(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["checks"][0]["id"] == "root"


@pytest.mark.parametrize(
    ("stale", "lacking", "code"), [("", [], 0), ("set-up has not run yet", [], 2), ("", ["rauc"], 2)]
)
def test_setup_check_only_looks(
    stale: str, lacking: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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
        monkeypatch.setattr("hil.cli.campaign.group.prepare", lambda: self.ran.append(["prepare"]))
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
            [sys.executable, "-m", "pytest", "-v", plan, "--hil-lab", lab, "-k", "upload", "-x", "--hil-run-id", "r1"],
        ]

    def test_o_is_the_folder_for_output_as_everywhere_and_not_an_ini_setting_of_pytest(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plan, out = self.plan(tmp_path), str(tmp_path / "x")
        for option in ("-o", "--output", "--hil-out"):
            assert run(["campaign", "run", plan, option, out]) == 0
            assert self.ran.pop()[-2:] == ["--hil-out", out]
        assert run(["campaign", "run", plan, "-o", "log_level=INFO"]) == 2
        assert "--override-ini=log_level=INFO" in capsys.readouterr().err and not self.ran

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

    def test_a_lab_and_a_bench_exclude_each_other(self, tmp_path: Path) -> None:
        assert run(["campaign", "run", self.plan(tmp_path), "--lab", "lab/virtual.yaml", "--bench", "b1"]) == 2
        assert self.ran == []

    def test_without_both_nothing_is_set_up(self, tmp_path: Path) -> None:
        plan = self.plan(tmp_path)
        assert run(["campaign", "run", plan]) == 0
        assert self.ran == [[sys.executable, "-m", "pytest", "-v", plan]]

    def test_a_wrong_lab_file_is_refused_before_anything_is_touched(self, tmp_path: Path) -> None:
        (tmp_path / "lab.yaml").write_text("schema: 1\n")
        assert run(["campaign", "run", self.plan(tmp_path), "--lab", str(tmp_path / "lab.yaml")]) == 2
        assert self.ran == []


def test_a_campaign_brings_an_old_set_up_up_to_date(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hil.bench import bench
    from hil.cli.campaign.group import prepare
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
    from hil.cli.campaign.group import prepare
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
