"""An OS adapter that is declared in YAML: the owner of an OS plugs its updater in without writing Python.

The file (:mod:`hil.rollout.updaters.declaration`) says which commands to run, what they must print, and where the facts
are in what they print.  RAUC and SWUpdate are such files beside this module.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hil.boards.protocol import Board, Completed, Shell, Slot, Via
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import ConfigurationError, DeviceError, HilError
from hil.onboard.boot_control import SLOTS
from hil.rollout.updaters.declaration import AdapterFile, Command, Reading, Verb, fill, load_adapter
from hil.rollout.updaters.jsonpath import as_word, find, parse_path
from hil.rollout.updaters.protocol import HealthReport, InstalledSlot, InstallFailed, OsStatus, RefusedBundle
from hil.rollout.updaters.shell import RECONNECT_S, UpdaterShell

RAUC = Path(__file__).with_name("rauc.yaml")
SWUPDATE = Path(__file__).with_name("swupdate.yaml")
_DIGEST = re.compile(r"[0-9a-f]{64}")
CLOCK_OFF_S = 86_400.0
"""A board whose clock is further from this host's than this finds every certificate too old or too young."""


def over_flight(path: Path, *, version: str = "") -> Callable[[Board], DeclaredAdapter]:
    """Return a factory for ``Rollout(adapter=...)`` from a declaration: SSH from the ground over the flight network.

    ``version`` of the bundle is what ``{version}`` stands for.  ConfigurationError when the file is wrong.
    """
    return over_flight_as(load_adapter(path), version=version)


def over_flight_as(file: AdapterFile, *, version: str = "") -> Callable[[Board], DeclaredAdapter]:
    """Return the same from a declaration that was read already."""
    return lambda member: DeclaredAdapter(file, member.name, lambda: member.shell(Via.FLIGHT), version=version)


class DeclaredAdapter:
    """An ``OsAdapter`` as a file describes it. ConfigurationError when it needs a version.

    ``shell`` opens a shell; it is opened when needed, kept, and opened again when the board has restarted.
    """

    def __init__(
        self,
        file: AdapterFile,
        board: str,
        shell: Callable[[], Shell],
        *,
        version: str = "",
        clock: Clock = SYSTEM_CLOCK,
        time_s: Callable[[], float] = time.time,
    ) -> None:
        if file.uses_version and not version:
            raise ConfigurationError(
                f"adapter {file.name!r} uses {{version}}, and nobody said which version is installed",
                remedy="pass the bundle's version where the adapter is made",
            )
        self._file = file
        self._board = board
        self._shell = UpdaterShell(board, shell, busy=self._busy, clock=clock)
        self._values = {"version": version}
        self._time_s = time_s

    def prepare(self) -> None:
        self._shell.connected()

    def close(self) -> None:
        self._shell.close()

    def status(self) -> OsStatus:
        """Ask all queries, and read the facts in what they print; one that names ``{slot}`` is asked for each slot."""
        queries, each = self._file.status.queries, self._file.status.each_slot
        printed: dict[tuple[str, Slot | None], str] = {}
        for name, command in queries.items():
            for slot in SLOTS if command.names_slot else (None,):
                printed[name, slot] = self._checked(command, self._about(slot)).stdout

        def word(reading: Reading, slot: Slot | None = None) -> str | None:
            name = reading.query or next(iter(queries))
            text = printed[name, slot if queries[name].names_slot else None]
            return self._read(reading, text, self._about(slot), name)

        names = {slot: {slot, self._file.slot_name(slot)} for slot in SLOTS}
        if each.bootname is not None:
            for slot in SLOTS:
                names[slot].add(word(each.bootname, slot) or slot)
        booted = self._slot(word(self._file.status.booted), "booted", names)
        first = word(self._file.status.primary)
        primary = None if first is None else self._slot(first, "primary", names)
        slots = []
        for slot in SLOTS:
            digest = word(each.image_sha256, slot)
            slots.append(
                InstalledSlot(
                    slot=slot,
                    state="booted" if slot == booted else "active" if slot == primary else "inactive",
                    bootable=word(each.bootable, slot) in each.bootable.yes_when,
                    image_sha256=digest if digest and _DIGEST.fullmatch(digest) else None,
                    version=word(each.version, slot) if each.version else None,
                    complete=word(each.complete, slot) in each.complete.yes_when,
                )
            )
        return OsStatus(word(self._file.status.compatible) or "", booted, primary, tuple(slots))

    def _read(self, reading: Reading, text: str, values: Mapping[str, str], query: str) -> str | None:
        """Return a fact, translated; None when it is not there. DeviceError when what should be JSON is none."""
        if reading.constant is not None:
            return reading.constant
        if reading.field is None:
            match = re.search(_pattern(reading.pattern or "", values), text, re.MULTILINE)
            found = match[1] if match else None
        else:
            try:
                there = find(json.loads(text), parse_path(fill(reading.field, values)))
                found = as_word(there[0]) if there else None
            except (ValueError, RecursionError) as exc:
                what = f"{self._board}: the answer to query {query!r} of adapter {self._file.name!r}"
                raise DeviceError(f"{what} is not JSON: {exc} in {text[:200]!r}") from exc
        return found if found is None else reading.values.get(found, found)

    def install(self, path_on_board: str, *, sha256: str, timeout_s: float = 120.0) -> OsStatus:
        """Compare the digest, then run the steps. A step's own ``timeout_s`` counts before the argument."""
        declared = self._file.install
        before = self.status()
        values = {**self._about(before.other.slot), "bundle": path_on_board, "sha256": sha256}
        self._compare_digest(declared.digest, values)
        for command in declared.steps:
            done, why = self._fails(command, values, timeout_s=timeout_s, reconnect_s=0.0)  # never begun twice unseen
            if not why:
                continue
            output = done.stdout + "\n" + done.stderr
            reasons = re.findall(declared.reason, output, re.MULTILINE) if declared.reason else []
            reason = (reasons[-1] if reasons else output).strip()[-400:] or why
            doubt = self._doubt(done, output, before)
            if not doubt:
                raise RefusedBundle(f"{self._board}: {self._file.name} refused the bundle: {reason}", reason=reason)
            raise InstallFailed(
                f"{self._board}: {self._file.name} failed to install ({why}): {reason}; no refusal, for {doubt}",
                last_error=reason,
                remedy="mend the board, then install again; the running slot was not touched",
            )
        return self.status()

    def _compare_digest(self, command: Command, values: Mapping[str, str]) -> None:
        """Raise RefusedBundle when the board printed another digest, InstallFailed when it printed none."""
        done, why = self._fails(command, values)
        if not why:
            return
        what = f"bundle {values['bundle']}"
        if done.returncode in command.exit_codes and re.search(r"\b[0-9A-Fa-f]{64}\b", done.stdout + done.stderr):
            raise RefusedBundle(
                f"{self._board}: {what} is not the one with digest {values['sha256'][:16]}…: {why}",
                reason="digest mismatch",
                remedy="distribute the bundle again",
            )
        tail = (done.stderr or done.stdout).strip()[-400:]
        raise InstallFailed(
            f"{self._board}: the digest of {what} is not known: `{' '.join(done.argv)}` {why}: {tail}",
            last_error=tail or why,
            remedy="say in the adapter (install.digest) how this OS prints a SHA-256",
        )

    def _doubt(self, done: Completed, output: str, before: OsStatus) -> str:
        """Return why a failed step is no refusal of the bundle; empty when it is one.

        A board that can install nothing says no to every bundle, so words alone prove nothing.
        """
        declared = self._file.install
        if declared.refused_exit_codes and done.returncode not in declared.refused_exit_codes:
            return f"exit code {done.returncode} is not one of a refusal"
        if not any(re.search(cause, output, re.MULTILINE) for cause in declared.refused):
            return "this is not known as a fault of a bundle"
        if any(re.search(cause, output, re.MULTILINE) for cause in declared.by_clock) and (
            wrong := self._clock_wrong()
        ):
            return wrong
        try:
            values = self._about(before.booted)
            for command, why in ((command, self._fails(command, values)[1]) for command in declared.able):
                if why:
                    return f"this board can install no bundle at all: `{' '.join(command.run)}` {why}"
            after = self.status()
        except HilError as exc:
            return f"the updater does not answer afterwards: {exc.message}"
        return "" if after == before else f"the slots were touched: {_changed(before, after)}"

    def _clock_wrong(self) -> str:
        """Return how far the board's clock is from this host's, in words; empty when it is right."""
        done = self._shell.run(["date", "-u", "+%s"], check=False)
        digits = done.stdout.strip()
        if done.returncode != 0 or not digits.isdecimal() or len(digits) > 18:
            return "the board does not tell its clock, and a wrong clock gives this for every bundle"
        there_s, here_s = int(digits), self._time_s()
        if abs(there_s - here_s) <= CLOCK_OFF_S:
            return ""
        off = f"{abs(there_s - here_s) / 86_400:,.0f} days {'behind' if there_s < here_s else 'ahead'}"
        return f"the board's clock is {off}, and a wrong clock gives this for every bundle"

    def activate(self) -> None:
        verb = self._file.activate
        self._switch(verb, self._about_other(verb.steps))

    def roll_back(self) -> None:
        """Back to the slot that is not running; DeviceError when it is not bootable."""
        other = self.status().other
        if not other.bootable:
            raise DeviceError(
                f"{self._board}: slot {other.slot} is not bootable, there is nothing to go back to",
                remedy="install an OS into it",
            )
        self._switch(self._file.roll_back or self._file.activate, self._about(other.slot))

    def confirm(self) -> None:
        self._on_running_slot(self._file.confirm)

    def configure(self, document: dict[str, Any]) -> None:
        """The document as JSON on the stdin of every step; nothing when the file declares no steps."""
        if self._file.configure is not None:
            self._on_running_slot(self._file.configure, stdin=json.dumps(document).encode())

    def health(self) -> HealthReport:
        """Return whether the updater answers and every check passes, with boot id and last reset; all over SSH."""
        try:
            boot_id = self._shell.boot_id()
            status = self.status()
            values = self._about(status.booted)
            checks = [(command, self._fails(command, values)[1]) for command in self._file.health.checks]
        except HilError as exc:
            return HealthReport(False, (exc.message,), {})
        problems = tuple(f"`{' '.join(command.run)}` {why}" for command, why in checks if why)
        facts = {"boot_id": boot_id, "slot": status.booted, "primary": status.primary}
        return HealthReport(not problems, problems, {**facts, "last_reset": self._shell.last_reset()})

    def _about(self, slot: Slot | None) -> dict[str, str]:
        """Return the values of the placeholders in commands about a slot."""
        return {**self._values, **({"slot": self._file.slot_name(slot)} if slot else {})}

    def _about_other(self, steps: Sequence[Command]) -> dict[str, str]:
        """Likewise about the slot that is not running; the updater is asked which it is only where it is named."""
        return self._about(self.status().other.slot if any(step.names_slot for step in steps) else None)

    def _slot(self, word: str | None, what: str, names: Mapping[Slot, Collection[str]]) -> Slot:
        """Return the one slot that is called ``word``; DeviceError when none or both are."""
        called = [slot for slot in SLOTS if word in names[slot]]
        if len(called) == 1:
            return called[0]
        known = f"{self._file.slots.A!r} or {self._file.slots.B!r}"
        raise DeviceError(
            f"{self._board}: adapter {self._file.name!r} reads {word!r} as the {what} slot, which should be {known}",
            remedy="correct the reading, or translate its words with `values`",
        )

    def _switch(self, verb: Verb, values: Mapping[str, str]) -> None:
        """Make a slot the one to boot next, and restart; without ``restart`` the last step does that."""
        steps = [*verb.steps, *([self._file.restart] if self._file.restart else [])]
        for command in steps[:-1]:
            self._checked(command, values)
        self._shell.restart([fill(word, values) for word in steps[-1].run], timeout_s=steps[-1].timeout_s)

    def _on_running_slot(self, verb: Verb, *, stdin: bytes = b"") -> None:
        named = any(step.names_slot for step in verb.steps)
        values = self._about(self.status().booted if named else None)
        for command in verb.steps:
            self._checked(command, values, stdin=stdin)

    def _checked(self, command: Command, values: Mapping[str, str], *, stdin: bytes = b"") -> Completed:
        done, why = self._fails(command, values, stdin=stdin)
        if why:
            tail = (done.stderr or done.stdout).strip()[-400:]
            raise DeviceError(f"{self._board}: `{' '.join(done.argv)}` {why}: {tail}")
        return done

    def _fails(
        self,
        command: Command,
        values: Mapping[str, str],
        *,
        stdin: bytes = b"",
        timeout_s: float | None = None,
        reconnect_s: float = RECONNECT_S,
    ) -> tuple[Completed, str]:
        """Run it; (what came, why it counts as failed or nothing). ``timeout_s`` where it has none of its own."""
        if timeout_s is None or "timeout_s" in command.model_fields_set:
            timeout_s = command.timeout_s
        argv = [fill(word, values) for word in command.run]
        done = self._shell.run(argv, timeout_s=timeout_s, check=False, stdin=stdin, reconnect_s=reconnect_s)
        if done.returncode not in command.exit_codes:
            return done, f"ended with {done.returncode}"
        wanted = _pattern(command.expect, values)
        if not re.search(wanted, f"{done.stdout}\n{done.stderr}", re.MULTILINE):
            return done, f"did not print what matches {wanted!r}"
        return done, ""

    def _busy(self, done: Completed) -> bool:
        output = done.stdout + "\n" + done.stderr
        return done.returncode != 0 and any(re.search(p, output, re.MULTILINE) for p in self._file.busy)


def _pattern(text: str, values: Mapping[str, str]) -> str:
    """Return the regular expression with every placeholder's value in it, taken literally."""
    return fill(text, {key: re.escape(value) for key, value in values.items()})


def _changed(before: OsStatus, after: OsStatus) -> str:
    """Return what of the updater's view is another, in words."""
    parts: list[tuple[str, object, object]] = [
        *((f"slot {slot.slot}", slot, after.slot(slot.slot)) for slot in before.slots),
        ("the running slot", before.booted, after.booted),
        ("the slot to boot next", before.primary, after.primary),
    ]
    return "; ".join(f"{name} was {was}, is {now}" for name, was, now in parts if was != now)
