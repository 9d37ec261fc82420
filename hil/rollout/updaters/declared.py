"""An OS adapter that is declared in YAML: the owner of an OS plugs its updater in without writing Python.

The file (:mod:`hil.rollout.updaters.declaration`) says which commands to run, what they must print, and where the facts
are in what they print.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, get_args

from hil.boards.protocol import Completed, Shell, Slot, Via
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import ConfigurationError, DeviceError, HilError
from hil.rollout.fleet import Member
from hil.rollout.updaters.jsonpath import as_word, find, parse_path
from hil.rollout.updaters.protocol import HealthReport, InstalledSlot, InstallFailed, OsStatus, RefusedBundle
from hil.rollout.updaters.shell import ShellAdapter

if TYPE_CHECKING:
    from hil.rollout.updaters.declaration import AdapterFile, Command, Reading, Verb

SLOTS: tuple[Slot, ...] = get_args(Slot)
_DIGEST = re.compile(r"[0-9a-f]{64}")


def declared_over_flight(file: AdapterFile, *, version: str = "") -> Callable[[Member], DeclaredAdapter]:
    """Return a factory for ``Rollout(adapter=...)``: SSH from the ground over the flight network.

    ``version`` of the bundle is what ``{version}`` stands for.
    """
    return lambda member: DeclaredAdapter(
        file, member.name, lambda: member.board.shell(Via.FLIGHT), version=version
    )


class DeclaredAdapter(ShellAdapter):
    """An ``OsAdapter`` as a file describes it. ConfigurationError when it needs a version."""

    def __init__(
        self,
        file: AdapterFile,
        board: str,
        shell: Callable[[], Shell],
        *,
        version: str = "",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if file.uses_version and not version:
            raise ConfigurationError(
                f"adapter {file.name!r} uses {{version}}, and nobody said which version is installed",
                remedy="pass the bundle's version where the adapter is made",
            )
        self._file = file
        super().__init__(board, shell, busy=self._busy, clock=clock)
        self._values = {"version": version}
        self._busy_words = [re.compile(pattern, re.MULTILINE) for pattern in file.busy]

    def status(self) -> OsStatus:
        declared = self._file.status
        answers = _Answers(self._file, self._board, self._values, self._checked)
        booted = self._slot(answers.word(declared.booted), "booted")
        first = answers.word(declared.primary)
        primary = None if first is None else self._slot(first, "primary")
        slots = []
        for slot in SLOTS:
            each = declared.each_slot
            digest = answers.word(each.image_sha256, slot)
            slots.append(
                InstalledSlot(
                    slot=slot,
                    state="booted" if slot == booted else "active" if slot == primary else "inactive",
                    bootable=answers.word(each.bootable, slot) in each.bootable.yes_when,
                    image_sha256=digest if digest and _DIGEST.fullmatch(digest) else None,
                    version=answers.word(each.version, slot) if each.version else None,
                    complete=answers.word(each.complete, slot) in each.complete.yes_when,
                )
            )
        return OsStatus(answers.word(declared.compatible) or "", booted, primary, tuple(slots))

    def install(self, path_on_board: str, *, sha256: str, timeout_s: float = 120.0) -> OsStatus:
        """Return the digest command, then the steps. A step's own ``timeout_s`` counts, not the argument."""
        declared = self._file.install
        values = {**self._values, "bundle": path_on_board, "sha256": sha256, "slot": self._other_name()}
        if why := self._fails(declared.digest, values)[1]:
            raise RefusedBundle(
                f"{self._board}: bundle {path_on_board} is not the one with digest {sha256[:16]}…: {why}",
                reason="digest mismatch",
                remedy="distribute the bundle again",
            )
        for command in declared.steps:
            done, why = self._fails(command, values)
            if not why:
                continue
            output = done.stdout + "\n" + done.stderr
            reasons = re.findall(declared.reason, output, re.MULTILINE) if declared.reason else []
            reason = (reasons[-1] if reasons else output).strip()[-400:] or why
            refused = done.returncode in declared.refused_exit_codes
            if refused or any(re.search(pattern, output, re.MULTILINE) for pattern in declared.refused):
                raise RefusedBundle(
                    f"{self._board}: {self._file.name} refused the bundle: {reason}", reason=reason
                )
            raise InstallFailed(
                f"{self._board}: {self._file.name} failed to install ({why}): {reason}",
                last_error=reason,
                remedy="install again; the running slot was not touched",
            )
        return self.status()

    def activate(self) -> None:
        self._switch(self._file.activate, self._other_name())

    def confirm(self) -> None:
        self._steps(self._file.confirm.steps, {**self._values, "slot": self._booted_name()})

    def configure(self, document: dict[str, Any]) -> None:
        """The document as JSON on the stdin of every step; nothing when the file declares no steps."""
        if self._file.configure is not None:
            values = {**self._values, "slot": self._booted_name()}
            self._steps(self._file.configure.steps, values, stdin=json.dumps(document).encode())

    def health(self) -> HealthReport:
        """Return whether the updater answers and every declared check passes, over SSH."""
        try:
            boot_id = self._shell.boot_id()
            status = self.status()
            values = {**self._values, "slot": self._file.slot_name(status.booted)}
            checks = [(command, self._fails(command, values)[1]) for command in self._file.health.checks]
        except HilError as exc:
            return HealthReport(False, (exc.message,), {})
        problems = tuple(f"`{' '.join(command.run)}` {why}" for command, why in checks if why)
        facts = {"boot_id": boot_id, "slot": status.booted, "primary": status.primary}
        return HealthReport(not problems, problems, facts)

    def roll_back(self) -> None:
        """Back to the slot that is not running; DeviceError when it is not bootable."""
        other = self._slot_to_go_back_to()
        self._switch(self._file.roll_back or self._file.activate, self._file.slot_name(other.slot))

    def _other_name(self) -> str:
        return self._file.slot_name(self.status().other.slot)

    def _booted_name(self) -> str:
        return self._file.slot_name(self.status().booted)

    def _slot(self, word: str | None, what: str) -> Slot:
        if word in ("A", self._file.slots.A):
            return "A"
        if word in ("B", self._file.slots.B):
            return "B"
        known = f"{self._file.slots.A!r} or {self._file.slots.B!r}"
        raise DeviceError(
            f"{self._board}: adapter {self._file.name!r} reads {word!r} as the {what} slot, which should be {known}",
            remedy="correct the reading, or translate its words with `values`",
        )

    def _switch(self, verb: Verb, slot: str) -> None:
        """Make a slot the one to boot next, and restart; without ``restart`` the last step does that."""
        values = {**self._values, "slot": slot}
        restart = self._file.restart
        before, last = (verb.steps, restart) if restart else (verb.steps[:-1], verb.steps[-1])
        self._steps(before, values)
        self._shell.restart(_argv(last, values), timeout_s=last.timeout_s)

    def _steps(self, steps: Sequence[Command], values: Mapping[str, str], *, stdin: bytes = b"") -> None:
        for command in steps:
            self._checked(command, values, stdin=stdin)

    def _checked(self, command: Command, values: Mapping[str, str], *, stdin: bytes = b"") -> Completed:
        done, why = self._fails(command, values, stdin=stdin)
        if why:
            tail = (done.stderr or done.stdout).strip()[-400:]
            raise DeviceError(f"{self._board}: `{' '.join(done.argv)}` {why}: {tail}")
        return done

    def _fails(
        self, command: Command, values: Mapping[str, str], *, stdin: bytes = b""
    ) -> tuple[Completed, str]:
        """Run it; (what came, why it counts as failed or nothing)."""
        from hil.rollout.updaters.declaration import fill

        argv = _argv(command, values)
        done = self._shell.run(argv, timeout_s=command.timeout_s, check=False, stdin=stdin)
        if done.returncode not in command.exit_codes:
            return done, f"ended with {done.returncode}"
        wanted = fill(command.expect, {key: re.escape(value) for key, value in values.items()})
        if not re.search(wanted, f"{done.stdout}\n{done.stderr}", re.MULTILINE):
            return done, f"did not print what matches {wanted!r}"
        return done, ""

    def _busy(self, done: Completed) -> bool:
        output = done.stdout + "\n" + done.stderr
        return done.returncode != 0 and any(pattern.search(output) for pattern in self._busy_words)


def _argv(command: Command, values: Mapping[str, str]) -> list[str]:
    from hil.rollout.updaters.declaration import fill

    return [fill(word, values) for word in command.run]


class _Ask(Protocol):
    def __call__(self, command: Command, values: Mapping[str, str]) -> Completed: ...


class _Answers:
    """What the queries printed, and the facts in it.  A query that names ``{slot}`` is asked once for each slot."""

    def __init__(self, file: AdapterFile, board: str, values: Mapping[str, str], ask: _Ask) -> None:
        self._file = file
        self._board = board
        self._values = values
        self._printed: dict[tuple[str, Slot | None], str] = {}
        for name, command in file.status.queries.items():
            for slot in SLOTS if command.names_slot else (None,):
                self._printed[name, slot] = ask(command, self._about(slot)).stdout

    def word(self, reading: Reading, slot: Slot | None = None) -> str | None:
        """Return the fact, translated; None when it is not there. DeviceError when what should be JSON is none."""
        from hil.rollout.updaters.declaration import fill

        if reading.constant is not None:
            return reading.constant
        queries = self._file.status.queries
        name = reading.query or next(iter(queries))
        text = self._printed[name, slot if queries[name].names_slot else None]
        values = self._about(slot)
        if reading.field is not None:
            found = self._in_json(text, fill(reading.field, values), name)
        else:
            pattern = fill(reading.pattern or "", {key: re.escape(value) for key, value in values.items()})
            match = re.search(pattern, text, re.MULTILINE)
            found = match[1] if match else None
        return found if found is None else reading.values.get(found, found)

    def _about(self, slot: Slot | None) -> dict[str, str]:
        return {**self._values, **({"slot": self._file.slot_name(slot)} if slot else {})}

    def _in_json(self, text: str, path: str, query: str) -> str | None:
        try:
            found = find(json.loads(text), parse_path(path))
        except ValueError as exc:
            what = f"{self._board}: the answer to query {query!r} of adapter {self._file.name!r}"
            raise DeviceError(f"{what} is not JSON: {exc} in {text[:200]!r}") from exc
        return as_word(found[0]) if found else None
