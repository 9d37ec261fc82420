"""Power modes by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import cast

import pytest

from hil.boards.jetson.power_modes import CONF, NvpModel, Selected, choose_mode, parse_conf, parse_query
from hil.boards.protocol import Board, Completed, Identity, Shell
from hil.errors import ConfigurationError, DeviceError
from hil.onboard.tools.nvpmodel import run as twin
from tests.kits.checkout import ROOT
from tests.kits.jetson_files import Answer, ScriptedRemote, said

NANO = (ROOT / "tests/data/jetson/nvpmodel_orin_nano.conf").read_text()
TWIN = (ROOT / "hil/images/os/reference/rootfs/etc/nvpmodel.conf").read_text()
PROMPT = (
    "NVPM WARN: Golden image context is already created\n"
    "NVPM WARN: Reboot required for changing to this power mode: 2\n"
    "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:\n"
)


class FakeNvpModel:
    """The tool: a mode, and what ``-m`` does."""

    def __init__(self, current: int, *, on_set: str = "", applies: bool = True, dies: bool = False) -> None:
        self.mode = current
        self.names = {0: "15W", 1: "25W", 2: "MAXN_SUPER"}
        self.on_set, self.applies, self.dies = on_set, applies, dies
        answers: dict[str, Answer] = {"nvpmodel -q": self._query}
        answers.update({f"nvpmodel -m {n}": self._set for n in self.names})
        self.remote = ScriptedRemote(answers, {CONF: NANO.encode()})

    def _query(self, argv: Sequence[str], stdin: bytes) -> Completed:
        return said(f"NV Power Mode: {self.names[self.mode]}\n{self.mode}\n")

    def _set(self, argv: Sequence[str], stdin: bytes) -> Completed:
        if self.dies and stdin == b"YES\n":
            raise DeviceError("the connection broke")
        if self.applies:
            self.mode = int(argv[2])
        return said(self.on_set, 0)

    @property
    def orders(self) -> list[tuple[str, bytes]]:
        return [call for call in self.remote.said if " -m " in call[0]]


def test_a_mode_that_the_kernel_refuses_is_the_boards_fault_in_nvpmodels_words() -> None:
    case = json.loads((ROOT / "tests/data/cases/62-nvpmodel-write-failed.json").read_text())
    answers: dict[str, Answer] = {"nvpmodel -q": said(case["query"]), "nvpmodel -m 0": said(case["select"], 255)}
    with pytest.raises(DeviceError, match=r"Error writing 2 to .*fbp_pg_mask"):
        NvpModel(ScriptedRemote(answers, {CONF: case["conf"].encode()})).select(case["wanted"])


def test_modes_and_default_come_from_the_boards_own_file() -> None:
    modes = parse_conf(NANO)
    assert modes.ids == {"15W": 0, "25W": 1, "MAXN_SUPER": 2}
    assert modes.default == "25W"
    assert parse_conf(TWIN).default == "MODE_30W"


def test_a_mode_is_found_by_its_name_in_any_case_and_without_its_prefix() -> None:
    modes = parse_conf(TWIN)
    assert [modes.find(name) for name in ("MODE_50W", "50W", "maxn")] == ["MODE_50W", "MODE_50W", "MAXN"]
    with pytest.raises(ConfigurationError, match="no power mode '7W'") as caught:
        modes.find("7W")
    assert "MODE_15W" in caught.value.remedy
    with pytest.raises(ConfigurationError):
        modes.find("0")


@pytest.mark.parametrize("text", ["", "# < POWER_MODEL ID=0 NAME=A >", "< POWER_MODEL ID=0 NAME=A >\n" * 2])
def test_a_file_without_modes_or_with_one_twice_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match=CONF):
        parse_conf(text)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN_SUPER\n2\n", "MAXN_SUPER"),
        ("NVPM VERB: Config file: /etc/nvpmodel.conf\nNVPM VERB: Current mode: NV Power Mode: 40W\n4\n", "40W"),
        ("NV Power Mode: MODE_30W\n2", "MODE_30W"),
    ],
)
def test_the_current_mode_is_read_plain_and_verbose(text: str, mode: str) -> None:
    assert parse_query(text) == mode


@pytest.mark.parametrize(
    "text", ["", "NV Power Mode: \n", "NV Power Mode: 15W", "NVPM ERROR: no\nNV Power Mode: A\n0\n"]
)
def test_an_answer_without_a_mode_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="did not say its mode"):
        parse_query(text)


def test_the_container_boards_tool_is_read_as_well(tmp_path: Path) -> None:
    assert parse_query(twin(["-q"], TWIN, tmp_path / "state") + "\n") == "MODE_30W"
    assert parse_query(twin(["-q", "--verbose"], TWIN, tmp_path / "state") + "\n") == "MODE_30W"


def test_a_mode_is_set_by_its_number_on_this_board_and_read_back() -> None:
    tool = FakeNvpModel(0)
    assert NvpModel(tool.remote).select("maxn_super") == Selected("MAXN_SUPER", True, False)
    assert tool.orders == [("nvpmodel -m 2", b"NO\n")]


def test_the_mode_it_is_in_is_not_set_again() -> None:
    tool = FakeNvpModel(1)
    assert NvpModel(tool.remote).select("25W") == Selected("25W", False, False)
    assert tool.orders == []


def test_a_change_that_needs_a_reboot_is_not_made_unless_that_is_allowed() -> None:
    tool = FakeNvpModel(0, on_set=PROMPT, applies=False)
    assert NvpModel(tool.remote).select("MAXN_SUPER") == Selected("MAXN_SUPER", False, True)
    assert NvpModel(tool.remote).select("MAXN_SUPER", reboot=True) == Selected("MAXN_SUPER", True, True)
    assert [answer for _, answer in tool.orders] == [b"NO\n", b"YES\n"]


def test_the_connection_may_die_in_a_reboot_that_was_allowed_and_only_then() -> None:
    tool = FakeNvpModel(0, dies=True)
    assert NvpModel(tool.remote).select("25W", reboot=True).reboot_pending


def test_nvpm_error_is_a_failure_whatever_the_exit_code() -> None:
    tool = FakeNvpModel(0, on_set="NVPM ERROR: failed to set power mode!\n")
    with pytest.raises(DeviceError, match="a1: power mode 25W: nvpmodel said 'NVPM ERROR"):
        NvpModel(tool.remote, board="a1").select("25W")


def test_a_mode_that_did_not_take_is_a_failure() -> None:
    tool = FakeNvpModel(0, applies=False)
    with pytest.raises(DeviceError, match="a1: power mode 25W was set, but the board is in 15W"):
        NvpModel(tool.remote, board="a1").select("25W")


class Rebooting:
    """A board whose mode takes a reboot; its next boot is in ``wakes_in``."""

    name = "a1"
    boot_budget_s = 5.0

    def __init__(self, wakes_in: int) -> None:
        self.tool = FakeNvpModel(0, on_set=PROMPT, applies=False)
        self.wakes_in, self.boots, self.asked = wakes_in, 1, 0

    def shell(self) -> AbstractContextManager[Shell]:
        return nullcontext(self.tool.remote)

    def identity(self) -> Identity:
        self.asked += 1
        if self.asked == 3:  # one look too early, then it is down, then it is back
            raise DeviceError("nobody answers")
        if self.asked == 4:
            self.boots, self.tool.mode = 2, self.wakes_in
        return Identity("Orin", "1", f"boot-{self.boots}", "A", "1.0.0", "")


def test_a_mode_that_takes_a_reboot_is_read_back_from_the_next_boot() -> None:
    board = cast(Board, Rebooting(2))
    assert choose_mode(board, "MAXN_SUPER") == Selected("MAXN_SUPER", False, True)
    board = cast(Board, Rebooting(2))
    assert choose_mode(board, "MAXN_SUPER", reboot=True) == Selected("MAXN_SUPER", True, False, rebooted=True)
    with pytest.raises(DeviceError, match="rebooted for power mode MAXN_SUPER and is in 15W"):
        choose_mode(cast(Board, Rebooting(0)), "MAXN_SUPER", reboot=True)


def test_a_board_that_never_reboots_is_told_from_one_that_did() -> None:
    board = Rebooting(2)
    board.asked = 10
    with pytest.raises(DeviceError, match="for a1 to reboot"):
        choose_mode(cast(Board, board), "MAXN_SUPER", reboot=True, deadline_s=0.2)


def test_a_flood_of_blanks_is_read_in_one_pass() -> None:
    """Patterns that went back over line ends took minutes for 1/100 of this."""
    for flood in ("\n" * 200_000, " " * 200_000, "NV Power Mode: x" + "\n" * 200_000):
        with pytest.raises(DeviceError):
            parse_conf(flood)
        with pytest.raises(DeviceError):
            parse_query(flood)
