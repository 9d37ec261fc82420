"""Power modes of a Jetson: ``nvpmodel``, by name.

The numbers differ between modules and JetPack versions (0 is MAXN on an AGX and 15W on a Nano), so a number never
leaves this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hil.boards.capabilities import BootBudgets
from hil.boards.linux_board import wait_rebooted
from hil.boards.protocol import Board, Shell
from hil.errors import ConfigurationError, DeviceError

CONF = "/etc/nvpmodel.conf"
BOOT_S = 60.0
"""A reboot of a board whose lab file does not say how long one may take: a container board."""
_MODEL = re.compile(r"^[ \t]*<[ \t]*POWER_MODEL[ \t]+ID=(\d{1,3})[ \t]+NAME=([^\s>]+)[ \t]*>", re.MULTILINE)
_DEFAULT = re.compile(r"^[ \t]*+<?[ \t]*+PM_CONFIG:?[ \t]+DEFAULT=([^\s>]+)", re.MULTILINE)
_QUERY = re.compile(r"NV Power Mode: (\S{1,64})[ \t\r]*\n[ \t]*(\d{1,3})[ \t\r]*(?:\n|\Z)")
_ERROR = "NVPM ERROR"
NVPMODEL_S = 30.0
_REBOOT = re.compile(r"reboot", re.IGNORECASE)
_CONFIRM = re.compile(r"\bYES\b")


@dataclass(frozen=True)
class PowerModes:
    """What ``/etc/nvpmodel.conf`` offers on this board."""

    ids: Mapping[str, int]  # by name
    default: str  # empty when the file names none

    def find(self, wanted: str) -> str:
        """Return the board's own name of a mode; ``50w`` finds ``MODE_50W``. ConfigurationError lists what there is."""
        if wanted in self.ids:
            return wanted
        alike = [name for name in self.ids if _plain(name) == _plain(wanted)]
        if len(alike) == 1:
            return alike[0]
        raise ConfigurationError(
            f"no power mode {wanted!r} on this board", remedy=f"modes: {', '.join(self.ids) or 'none'}"
        )


def _plain(name: str) -> str:
    return name.casefold().removeprefix("mode_")


@dataclass(frozen=True)
class Selected:
    """What became of an order."""

    mode: str
    changed: bool
    reboot_pending: bool
    """The board reboots now (``reboot=True``), or would have to and was not allowed to."""
    rebooted: bool = False


def parse_conf(text: str) -> PowerModes:
    """Return modes of ``/etc/nvpmodel.conf``. DeviceError when it has none or two of one name."""
    text = re.sub(r"#.*", "", text)
    rows = [(name, int(number)) for number, name in _MODEL.findall(text)]
    ids = dict(rows)
    if not ids or len(ids) != len(rows):
        raise DeviceError(f"{CONF} has {'no power modes' if not ids else 'two power modes of one name'}")
    default = _DEFAULT.search(text)
    number = int(default[1]) if default and default[1].isdecimal() else None
    return PowerModes(ids, next((name for name, known in rows if known == number), ""))


def parse_query(text: str) -> str:
    """Name of the current mode in the output of ``nvpmodel -q``, also a verbose one. DeviceError when it has none."""
    names = _QUERY.findall(text)
    if not names or _ERROR in text:
        raise DeviceError(f"nvpmodel did not say its mode; it said {text.strip()[-300:]!r}")
    name: str = names[-1][0]
    return name


def choose_mode(board: Board, wanted: str, *, reboot: bool = False, deadline_s: float | None = None) -> Selected:
    """Switch a board to a mode by name; with ``reboot``, through the reboot that some changes need.

    The reboot is proved by the boot id, and the mode read back after it; it may take ``deadline_s``, or what the
    lab file allows the board to boot.  Raises what :meth:`NvpModel.select` raises.
    """
    boot_id = board.identity().boot_id if reboot else ""
    with board.shell() as shell:
        selected = NvpModel(shell, board=board.name).select(wanted, reboot=reboot)
    if not (reboot and selected.reboot_pending):
        return selected
    budget_s = deadline_s or (board.boot_budget_s if isinstance(board, BootBudgets) else BOOT_S)
    wait_rebooted(board, boot_id, deadline_s=budget_s)
    with board.shell() as shell:
        now = NvpModel(shell, board=board.name).current()
    if now != selected.mode:
        raise DeviceError(f"{board.name}: it rebooted for power mode {selected.mode} and is in {now}")
    return replace(selected, reboot_pending=False, rebooted=True)


class NvpModel:
    """Asks and sets the power mode."""

    def __init__(self, remote: Shell, *, board: str = "board") -> None:
        self._remote = remote
        self._board = board

    def modes(self) -> PowerModes:
        return parse_conf(self._remote.read(CONF).decode("utf-8", "replace"))

    def current(self) -> str:
        """Return the board's name of the mode it is in. DeviceError when it does not say."""
        done = self._remote.run(["nvpmodel", "-q"], timeout_s=NVPMODEL_S, check=False)
        try:
            return parse_query(done.stdout)
        except DeviceError as exc:
            said = done.stderr.strip()[-200:]
            raise DeviceError(f"{self._board}: {exc.message}; stderr {said!r}") from exc

    def select(self, wanted: str, *, reboot: bool = False) -> Selected:
        """Switch to a mode by name and read it back.

        Some changes need a reboot, for which ``nvpmodel`` asks on its stdin.  With ``reboot`` it is told YES and the
        board goes down (wait for a new boot id, then compare :meth:`current`); without, it is told NO and nothing
        changes.  ConfigurationError for an unknown name, DeviceError when the order did not take.
        """
        modes = self.modes()
        name = modes.find(wanted)
        if self.current() == name:
            return Selected(name, changed=False, reboot_pending=False)
        answer = b"YES\n" if reboot else b"NO\n"
        argv = ["nvpmodel", "-m", str(modes.ids[name])]
        try:
            done = self._remote.run(argv, timeout_s=NVPMODEL_S, stdin=answer, check=False)
        except DeviceError:
            if not reboot:
                raise
            # The reboot that was allowed takes the connection with it; whether it happened is the boot id's to say.
            return Selected(name, changed=True, reboot_pending=True)
        said = done.stdout + done.stderr
        if _ERROR in said:
            raise DeviceError(
                f"{self._board}: power mode {name}: nvpmodel said {said.strip()[-300:]!r}",
                remedy="is another power mode change waiting for a reboot?",
            )
        if _REBOOT.search(said) and _CONFIRM.search(said):
            return Selected(name, changed=reboot, reboot_pending=True)
        if (now := self.current()) != name:
            raise DeviceError(f"{self._board}: power mode {name} was set, but the board is in {now}")
        return Selected(name, changed=True, reboot_pending=False)
