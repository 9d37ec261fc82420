"""SWUpdate as an OS adapter: ``swupdate`` itself, and the board's ``swupdate-slots`` for its A/B side.

SWUpdate keeps no account of slots; what an OS needs beside it is in ``hil/onboard/updaters/swupdate_slots.py``, and
``docs/os-adapters.md`` says what an OS of your own must answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from hil.boards.protocol import Completed, Shell, Slot, Via
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import DeviceError
from hil.rollout.fleet import Member
from hil.rollout.updaters.protocol import InstalledSlot, InstallFailed, OsStatus, RefusedBundle
from hil.rollout.updaters.shell import ShellAdapter

TOOL = "swupdate-slots"
REFUSED, BUSY = 2, 75
"""Exit codes of ``swupdate-slots install``: nothing was touched; another installation runs."""
_ERROR = re.compile(r"^\[ERROR\] : SWUPDATE failed \[\d\] (?:ERROR : )?(.+?)\s*$", re.MULTILINE)
_EMPTY_WORDS = ("SWUpdate *failed* !", "Image invalid or corrupted. Not installing ...")


def swupdate_over_flight(member: Member) -> SwupdateAdapter:
    """Return the adapter an operator would have: SSH from the ground over the flight network."""
    return SwupdateAdapter(member.name, lambda: member.board.shell(Via.FLIGHT))


class SwupdateAdapter(ShellAdapter):
    """SWUpdate 2022.12 or later with signed images, and ``swupdate-slots`` on the board."""

    def __init__(self, board: str, shell: Callable[[], Shell], *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(board, shell, busy=_busy, clock=clock)

    def status(self) -> OsStatus:
        return parse_status(self._shell.run([TOOL, "status"], timeout_s=20.0).stdout, self._board)

    def install(self, path_on_board: str, *, sha256: str, timeout_s: float = 120.0) -> OsStatus:
        """Digest, then a dry run that checks signature, hardware and image, then the slot that is not running."""
        self._shell.check_digest(path_on_board, sha256, timeout_s=timeout_s)
        done = self._shell.run([TOOL, "install", path_on_board], timeout_s=timeout_s, check=False)
        if done.returncode == 0:
            return self.status()
        reason = first_error(done)
        if done.returncode == REFUSED:
            raise RefusedBundle(f"{self._board}: SWUpdate refused the bundle: {reason}", reason=reason)
        raise InstallFailed(
            f"{self._board}: SWUpdate failed to install: {reason}",
            last_error=reason,
            remedy="install again; the running slot was not touched",
        )

    def activate(self) -> None:
        self._shell.run([TOOL, "mark-active", "other"])
        self._shell.restart()

    def confirm(self) -> None:
        self._shell.run([TOOL, "mark-good"])

    def roll_back(self) -> None:
        """Back to the slot that is not running; DeviceError when it is not bootable."""
        self._shell.run([TOOL, "mark-active", self._slot_to_go_back_to().slot])
        self._shell.restart()


def parse_status(text: str, board: str) -> OsStatus:
    """From ``swupdate-slots status``; DeviceError when it is not that."""
    try:
        document = json.loads(text)
        booted, primary = _slot(document["booted"]), _slot(document["primary"])
        slots = tuple(
            InstalledSlot(
                slot=_slot(name),
                state="booted" if name == booted else "active" if name == primary else "inactive",
                bootable=bool(facts["bootable"]),
                image_sha256=facts["image_sha256"],
                version=facts["version"],
                complete=bool(facts["complete"]),
            )
            for name, facts in document["slots"].items()
        )
        return OsStatus(str(document["compatible"]), booted, primary, slots)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise DeviceError(f"{board}: cannot read the status of {TOOL}: {exc!r} in {text[:200]!r}") from exc


def first_error(done: Completed) -> str:
    """SWUpdate's own words for what went wrong first; what follows are consequences."""
    found = [words for words in _ERROR.findall(done.stderr) if words not in _EMPTY_WORDS]
    return found[0] if found else (done.stderr or done.stdout).strip()[-400:] or "no reason given"


def _busy(done: Completed) -> bool:
    return done.returncode == BUSY


def _slot(value: Any) -> Slot:
    if value == "A":
        return "A"
    if value == "B":
        return "B"
    raise ValueError(f"{value!r} is no slot")
