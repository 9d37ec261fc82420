"""The parts of the Jetson driver that need no board: what one look means, who may type, what the bench fills in."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from hil.bench.equipment import boards_of
from hil.bench.plumbing import Plumbing
from hil.boards.console.log_console import ConsoleLine, LogConsole
from hil.boards.console.mute import MuteFlag
from hil.boards.jetson import board as jetson_board
from hil.boards.jetson.board import TEGRASTATS, JetsonBoard, JetsonFacts
from hil.boards.jetson.inspection import inspect, parse_report
from hil.boards.jetson.kind import JetsonBoardSpec
from hil.boards.jetson.remote_files import BoardFiles
from hil.boards.power.command import CommandSpec
from hil.boards.power.supervisor import PoweredSupervisor
from hil.boards.protocol import Board, Completed, Fidelity, PowerState, Via
from hil.boards.ssh.login import Target
from hil.core import netns, paths
from hil.errors import BenchError, ConfigurationError, DeviceError
from hil.evidence.sink import NullSink
from hil.images.pki import Pki, ensure_pki
from hil.lab.model import load_lab
from hil.lab.power import SupervisorSpec
from hil.lab.real_board import BudgetSpec
from hil.onboard.firmware.handoff import compatible
from hil.testing.fakes import FakeClock
from tests.kits.jetson_files import AGX_JP6, LocalRemote, ScriptedRemote, plant
from tests.kits.real_board_lab import HOST_KEY, REAL, lab_of

DATA = paths.ROOT / "tests/data/jetson"
BOOT_ID = "8f4ef6a4-5ea9-4ea7-a7ee-b4d1c3c9fa11"
DIGEST = "ab" * 32


def said(**changes: str) -> str:
    """What a stock L4T 36 on an AGX Orin prints, with changes by part."""
    parts = {
        "model": "NVIDIA Jetson AGX Orin Developer Kit\n",
        "serial-number": "1421623012345\n",
        "compatible": "nvidia,p3737-0000+p3701-0005\nnvidia,p3701-0005\nnvidia,tegra234\n",
        "boot-id": f"{BOOT_ID}\n",
        "release": (DATA / "nv_tegra_release").read_text(),
        "boot-control": "",
        "os": "22.04\n",
        "image": "",
        "confirmed": "",
        "reason": "MAINSWRST\n",
        "level": "L1\n",
        "slots": (DATA / "nvbootctrl_rootfs.txt").read_text(),
    } | changes
    return "".join(f"\n@@hil:{name}\n{text}" for name, text in parts.items())


# -- one look


def test_stock_l4t_says_who_it_is_but_not_which_image_it_runs() -> None:
    seen = parse_report(said())
    assert (seen.identity.os_version, seen.identity.image_sha256) == ("22.04", "")
    assert (seen.who.part, seen.who.l4t[:3]) == ("p3701-0005", "36.")
    assert (seen.proof.boot_id, seen.proof.reset_reason, seen.proof.slot) == (BOOT_ID, "MAINSWRST", "A")


def test_an_os_that_knows_its_image_and_its_confirmation_is_believed() -> None:
    seen = parse_report(said(image=f'{{"image_sha256": "{DIGEST}"}}\n', confirmed="0\n", os="2.0.0\n"))
    assert seen.identity.image_sha256 == DIGEST
    running, other = seen.boot.slots
    assert not running.good  # its tries are all there, but it says that nobody confirmed it
    assert other.good


@pytest.mark.parametrize("image", ["", "{}", "null", "[" * 200_000])
def test_an_os_whose_word_of_its_image_cannot_be_read_runs_an_unknown_one(image: str) -> None:
    assert parse_report(said(image=image)).identity.image_sha256 == ""


@pytest.mark.parametrize(
    ("part", "words"),
    [("model", "is this a Jetson"), ("boot-id", "prove a reboot"), ("slots", "nvbootctrl did not name")],
)
def test_a_look_without_what_matters_is_an_error(part: str, words: str) -> None:
    with pytest.raises(DeviceError) as caught:
        parse_report(said(**{part: ""}))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "mangled", ["", "\n@@hil:", "\n@@hil:model", "@@hil:model\nx", "\n@@hil:model\nx\n@@hil:boot-id\ny"]
)
def test_half_an_answer_is_an_error_with_the_boards_name(mangled: str) -> None:
    remote = ScriptedRemote({})
    remote.run = lambda *a, **k: Completed((), 0, mangled, "")  # type: ignore[method-assign]  # one answer to anything
    with pytest.raises(DeviceError, match=r"^b1: "):
        inspect(remote, board="b1")


@pytest.mark.parametrize("module", ["p3701-0004", "p3767-0000"])
def test_a_stand_in_has_the_device_tree_of_the_module_in_the_lab_file(module: str) -> None:
    seen = parse_report(said(compatible="\n".join(compatible(module))))
    assert seen.who.part == module
    assert seen.who.is_orin


# -- the quiet file


def test_a_word_about_the_console_is_heard_once_and_only_when_new(tmp_path: Path) -> None:
    log = tmp_path / "b1.console.log"
    followed = LogConsole("/dev/null", log)
    followed.silence()
    owner = MuteFlag(log)
    assert owner.changed() is None  # said before the port was opened
    time.sleep(0.01)  # a clock that the file system's time stamps can tell apart
    followed.release()
    assert owner.changed() is True
    assert owner.changed() is None
    time.sleep(0.01)
    followed.silence()
    assert owner.changed() is False


def test_a_bench_that_has_gone_is_told(tmp_path: Path) -> None:
    gone = LogConsole("/dev/null", tmp_path / "gone/b1.console.log")
    with pytest.raises(BenchError, match="console"):
        gone.silence()


# -- power


class Story:
    """A supervisor that writes down what happens to its board, in order."""

    def __init__(self, state: PowerState = PowerState.ON) -> None:
        self.events: list[str] = []
        self.power = state
        self.verbs = PoweredSupervisor(
            "b1",
            cast(Any, self),
            shut_down=self._shut_down,
            shutdown_s=42.0,
            min_off_s=0.0,
            before_restart=lambda: self.events.append("restart"),
        )

    name = "strip"

    def _shut_down(self, deadline_s: float) -> bool:
        self.events.append(f"shut down within {deadline_s:g} s")
        return True

    def state(self) -> PowerState:
        return self.power

    def on(self) -> None:
        self.events.append("on")
        self.power = PowerState.ON

    def off(self) -> None:
        self.events.append("off")
        self.power = PowerState.OFF


@pytest.mark.parametrize(("verb", "then"), [("cut", ["off"]), ("reset", ["off", "restart", "on"])])
def test_the_console_is_silent_before_power_goes(verb: str, then: list[str]) -> None:
    story = Story()
    getattr(story.verbs, verb)()
    assert story.events == ["restart", *then]


def test_switching_on_a_board_that_is_on_keeps_its_console_open() -> None:
    story = Story(PowerState.ON)
    story.verbs.on()
    assert story.events == []


def test_an_orderly_shutdown_gets_the_lab_files_budget_unless_told_otherwise() -> None:
    story = Story()
    story.verbs.off()
    story.power = PowerState.ON
    story.verbs.off(deadline_s=7.0)
    assert [word for word in story.events if word.startswith("shut")] == [
        "shut down within 42 s",
        "shut down within 7 s",
    ]
    assert story.events[1:3] == ["restart", "off"]


# -- composition


def facts(tmp_path: Path, state: str) -> JetsonFacts:
    """A board whose strip is a command that says ``state``."""
    power = CommandSpec(
        kind="command", turn_on=("true",), turn_off=("true",), state=("echo", state), state_on="^on$", state_off="^off$"
    )
    return JetsonFacts(
        name="b1",
        spacecraft="sc-b",
        module="p3701-0005",
        serial="",
        # nobody listens on discard
        targets={Via.MANAGEMENT: Target("b1", netns.HOST, "127.0.0.1", None, HOST_KEY, port=9)},
        console=ConsoleLine("", "/dev/null", tmp_path / "b1.console.log"),
        supervisor=SupervisorSpec(power=power),
    )


def test_the_driver_is_a_board(tmp_path: Path) -> None:
    board: Board = JetsonBoard(facts(tmp_path, "off"))
    assert board.fidelity is Fidelity.HARDWARE
    assert board.supervisor.state() is PowerState.OFF


def test_slots_of_a_board_that_never_told_them_are_an_error_not_a_guess(tmp_path: Path) -> None:
    for state, words in (("off", "is off"), ("on", "does not answer")):
        with pytest.raises(BenchError, match=words):
            JetsonBoard(facts(tmp_path, state)).boot.state()


@pytest.mark.parametrize(
    ("state", "deadline_s", "waited_s"),
    [("on", None, 20.0), ("on", 3.0, 20.0), ("on", 30.0, 30.0), ("off", 3.0, 3.0), ("off", None, 20.0)],
)
def test_a_board_with_power_is_given_the_lab_files_budget_at_least(
    tmp_path: Path, state: str, deadline_s: float | None, waited_s: float
) -> None:
    clock = FakeClock()
    given = replace(facts(tmp_path, state), budgets=BudgetSpec(boot_s=20.0))
    given.console.log.write_text("L4TLauncher: Attempting Direct Boot\n")
    with pytest.raises(DeviceError) as caught:
        JetsonBoard(given, clock=clock).wait_booted(deadline_s=deadline_s)
    assert waited_s <= clock.now < waited_s + 1.0
    assert "Attempting Direct Boot" in caught.value.message


def test_the_tutorials_lab_file_entry_is_a_valid_one() -> None:
    text = (paths.ROOT / "docs/jetson.md").read_text()
    block = text.split("```yaml\n", 1)[1].split("```", 1)[0].replace("ssh-ed25519 AAAA...", HOST_KEY)
    (entry,) = yaml.safe_load(block)
    board = JetsonBoardSpec.model_validate(entry)
    assert board.fidelity == "hardware"
    assert board.jetson.flight and board.jetson.ssh and board.jetson.ssh.jump
    assert board.jetson.budgets == BudgetSpec()


# -- sensors


class Session(LocalRemote):
    """A session that breaks while ``broken``; ``tegrastats`` answers."""

    broken = False

    def run(self, argv: Sequence[str], **given: Any) -> Completed:
        if self.broken:
            raise DeviceError("the connection broke") from OSError("gone")
        if tuple(argv) == TEGRASTATS:
            return Completed((), 0, (DATA.parent / "tegrastats_samples.txt").read_text().split("\n")[0], "")
        return super().run(argv, **given)


@pytest.fixture
def board_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the files of the board are."""
    monkeypatch.setattr(jetson_board, "BoardFiles", partial(BoardFiles, root=str(tmp_path / "board")))
    return tmp_path / "board"


def test_a_session_that_breaks_once_does_not_turn_the_sensors_of_sysfs_off(tmp_path: Path, board_files: Path) -> None:
    plant(board_files, AGX_JP6)
    board, shell = JetsonBoard(facts(tmp_path, "on")), Session()
    assert "throttle_state" in board.sensors_over(shell)
    shell.broken = True
    with pytest.raises(DeviceError, match="connection broke"):
        board.sensors_over(shell)
    shell.broken = False
    assert "throttle_state" in board.sensors_over(shell)


@pytest.mark.usefixtures("board_files")
def test_a_board_without_sensors_in_sysfs_is_read_by_tegrastats_from_then_on(tmp_path: Path) -> None:
    board, shell = JetsonBoard(facts(tmp_path, "on")), Session()
    assert "tj_c" in board.sensors_over(shell)
    calls = shell.calls
    board.sensors_over(shell)
    assert shell.calls == calls


# -- recovery


def test_a_board_without_a_usb_cable_cannot_enter_recovery(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"recovery\.usb_path|no USB port"):
        JetsonBoard(facts(tmp_path, "on")).enter_recovery()


def test_another_module_on_the_port_is_refused_before_anything_is_reset(tmp_path: Path) -> None:
    device = {"idVendor": "0955", "idProduct": "7523", "product": "APX", "devnum": "7", "serial": ""}
    plant(tmp_path / "usb", {f"/1-4/{name}": f"{text}\n" for name, text in device.items()})
    board = JetsonBoard(replace(facts(tmp_path, "on"), usb_path="1-4"))
    with pytest.raises(ConfigurationError) as caught:  # reached its SSH port, it would be a DeviceError
        board.enter_recovery(sysfs=tmp_path / "usb")
    assert "p3701-0005" in caught.value.message
    assert "1-4" in caught.value.message


# -- what the bench fills in


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("pki"))


def facts_on(plumbing: Plumbing, name: str, pki: Pki, tmp_path: Path) -> JetsonFacts:
    """What the driver is made from, in a process that uses the bench."""
    consoles = {b.name: ConsoleLine("", "/dev/pts/9", tmp_path / "log") for b in plumbing.lab.boards}
    board = boards_of(plumbing, cast(Any, None), "", consoles, pki, NullSink())[name]
    assert isinstance(board, JetsonBoard)
    return board.facts


def test_a_stand_in_is_reached_through_the_strip_the_line_and_the_port_of_its_bench(pki: Pki, tmp_path: Path) -> None:
    plumbing = Plumbing("trial", load_lab(paths.ROOT / "lab/mixed.yaml"))
    found = facts_on(plumbing, "b2", pki, tmp_path)
    assert found.fidelity is Fidelity.VIRTUAL
    management = found.targets[Via.MANAGEMENT]
    assert found.supervisor_namespace == management.namespace == "hil.trial.mgmt"
    assert management.host_key == pki.host_key("b2").public_line
    assert found.serial == "virt-mixed-b2"
    assert Via.FLIGHT in found.targets


def test_a_real_board_is_reached_as_its_lab_file_says(pki: Pki, tmp_path: Path) -> None:
    plumbing = Plumbing("trial", lab_of(tmp_path, REAL))
    found = facts_on(plumbing, "b1", pki, tmp_path)
    assert found.fidelity is Fidelity.HARDWARE
    assert found.targets.keys() == {Via.MANAGEMENT}
    way = found.targets[Via.MANAGEMENT]
    assert (way.namespace, way.address, way.port) == (netns.HOST, "192.0.2.11", 22)
    assert (way.user, way.host_key, found.serial) == ("nvidia", HOST_KEY, "1421623012345")
    assert way.key == Path("~/.ssh/lab").expanduser()
    assert found.budgets.boot_s == 180.0


def test_the_looks_script_runs_in_any_posix_shell() -> None:
    shells = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
    assert shells
    for shell in shells:
        argv = (shell, "sh") if shell == "busybox" else (shell,)
        # This machine is no Jetson, and that is what it must be told.
        with pytest.raises(DeviceError, match=r"is this a Jetson|has no /proc/device-tree"):
            inspect(LocalRemote(argv), board="b1")
