"""RAUC as the first OS adapter: its own command line, over a shell of the board."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Literal, get_args

from hil.boards.protocol import Completed, Shell, Slot, Via
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import DeviceError
from hil.rollout.fleet import Member
from hil.rollout.updaters.protocol import InstalledSlot, InstallFailed, OsStatus, RefusedBundle
from hil.rollout.updaters.shell import ShellAdapter

STATUS_ARGV = ("rauc", "status", "--detailed", "--output-format=json")
SLOTS: tuple[Slot, ...] = get_args(Slot)
STATES: tuple[Literal["booted", "active", "inactive"], ...] = ("booted", "active", "inactive")
REFUSALS = (
    "signature verification failed",
    "Compatible mismatch",
    "Invalid bundle format",
    "Failed mounting bundle",
    "Bundle format",
    "Failed to load bundle",
    "bundle size",
    "Verify error",
)
"""What RAUC says when it refuses a bundle before it opens a slot for writing."""
NOT_NOW = ("already processing", "could not connect", "error creating proxy", "error connecting")
"""Said, in either case, while the service starts or is busy with what a lost connection left running."""
_LAST_ERROR = re.compile(r"^\s*LastError:\s*(.+?)\s*$", re.MULTILINE)


def rauc_over_flight(member: Member) -> RaucAdapter:
    """Return the adapter an operator would have: SSH from the ground over the flight network."""
    return RaucAdapter(member.name, lambda: member.board.shell(Via.FLIGHT))


class RaucAdapter(ShellAdapter):
    """RAUC 1.8 or later with ``activate-installed=false``."""

    def __init__(self, board: str, shell: Callable[[], Shell], *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(board, shell, busy=_busy, clock=clock)

    def status(self) -> OsStatus:
        done = self._shell.run(STATUS_ARGV, timeout_s=20.0)
        return parse_status(done.stdout, self._board)

    def install(self, path_on_board: str, *, sha256: str, timeout_s: float = 120.0) -> OsStatus:
        """Digest of the file, then ``rauc install``, which checks signature and hardware before it opens a slot."""
        self._shell.check_digest(path_on_board, sha256, timeout_s=timeout_s)
        done = self._shell.run(["rauc", "install", path_on_board], timeout_s=timeout_s, check=False)
        if done.returncode != 0:
            raise self._refusal(done)
        return self.status()

    def _refusal(self, done: Completed) -> DeviceError:
        output = done.stdout + "\n" + done.stderr
        found = _LAST_ERROR.findall(output)
        reason = found[-1] if found else output.strip()[-400:]
        if any(words in reason for words in REFUSALS):
            return RefusedBundle(f"{self._board}: RAUC refused the bundle: {reason}", reason=reason)
        return InstallFailed(
            f"{self._board}: RAUC failed to install: {reason}",
            last_error=reason,
            remedy="install again; the running slot was not touched",
        )

    def activate(self) -> None:
        self._shell.run(["rauc", "status", "mark-active", "other"])
        self._shell.restart()

    def confirm(self) -> None:
        self._shell.run(["rauc", "status", "mark-good"])

    def roll_back(self) -> None:
        """Back to the slot that is not running; DeviceError when the updater does not hold it for bootable."""
        self._slot_to_go_back_to()
        self._shell.run(["rauc", "status", "mark-active", "other"])
        self._shell.restart()


def _busy(done: Completed) -> bool:
    said = done.stderr.lower()
    return done.returncode != 0 and any(words in said for words in NOT_NOW)


def parse_status(text: str, board: str) -> OsStatus:
    """From ``rauc status --detailed --output-format=json``; DeviceError when it is not that."""
    try:
        document = json.loads(text)
        slots = [slot for entry in document["slots"] for slot in _slots(entry)]
        booted = _slot_name(document["booted"])
        primary = next(
            (
                s["bootname"]
                for entry in document["slots"]
                for n, s in entry.items()
                if n == document["boot_primary"]
            ),
            None,
        )
        if booted is None:
            raise ValueError(f"booted is {document['booted']!r}")
        return OsStatus(str(document["compatible"]), booted, _slot_name(primary), tuple(slots))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise DeviceError(f"{board}: cannot read RAUC's status: {exc!r} in {text[:200]!r}") from exc


def _slot_name(value: Any) -> Slot | None:
    return next((name for name in SLOTS if name == value), None)


def _slots(entry: dict[str, Any]) -> list[InstalledSlot]:
    out = []
    for facts in entry.values():
        name = _slot_name(facts.get("bootname"))
        state = next((s for s in STATES if s == facts["state"]), None)
        if name is None or state is None:
            continue
        status = facts.get("slot_status") or {}
        out.append(
            InstalledSlot(
                slot=name,
                state=state,
                bootable=facts.get("boot_status") == "good",
                image_sha256=(status.get("checksum") or {}).get("sha256"),
                version=(status.get("bundle") or {}).get("version"),
                complete=status.get("status") == "ok",
            )
        )
    return out
