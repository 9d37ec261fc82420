"""The YAML file that declares an OS adapter: strict models, and errors that name file and line.

``docs/os-adapters.md`` explains it; ``rauc.yaml`` beside this module is a worked example.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hil.boards.protocol import Slot
from hil.lab.yamlfile import Strict, fault, load_yaml
from hil.rollout.updaters.jsonpath import parse_path

PLACEHOLDERS = ("bundle", "sha256", "slot", "version")
_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


def placeholders(text: str) -> set[str]:
    """Return the names in braces; a regex's own ``{2,3}`` is none."""
    return set(_PLACEHOLDER.findall(text))


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace every placeholder; KeyError for one that has no value here."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def _word(text: str) -> str:
    if unknown := sorted(placeholders(text) - {*PLACEHOLDERS}):
        allowed = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise ValueError(f"unknown placeholder {{{unknown[0]}}} in {text!r}. Allowed: {allowed}")
    return text


def _regex(text: str) -> str:
    _word(text)
    try:
        re.compile(_PLACEHOLDER.sub("x", text), re.MULTILINE)
    except re.error as exc:
        raise ValueError(f"not a regular expression: {exc} in {text!r}") from exc
    return text


def _one_group(text: str) -> str:
    _regex(text)
    if re.compile(_PLACEHOLDER.sub("x", text), re.MULTILINE).groups != 1:
        raise ValueError(f"needs exactly one group, the value: {text!r}")
    return text


def _path(text: str) -> str:
    parse_path(text)
    return text


Word = Annotated[str, AfterValidator(_word)]
Regex = Annotated[str, AfterValidator(_regex)]
Value = Annotated[str, AfterValidator(_one_group)]
JsonPath = Annotated[str, AfterValidator(_path)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Command(Strict):
    """One command on the board: it is not given to a shell, every word arrives as it stands."""

    run: Annotated[list[Word], Field(min_length=1)]
    timeout_s: Seconds = 30.0
    exit_codes: list[int] = Field(min_length=1, default_factory=lambda: [0])
    expect: Regex = ""  # must be found in stdout or stderr, else the command failed

    @property
    def words(self) -> tuple[str, ...]:
        """Everything in which placeholders may stand."""
        return (*self.run, self.expect)

    @property
    def names_slot(self) -> bool:
        """Whether ``{slot}`` stands in it."""
        return any("slot" in placeholders(word) for word in self.words)


class Reading(Strict):
    """One fact out of what a query printed: a JSON ``field``, a ``pattern`` with one group, or a ``constant``.

    ``values`` translates the OS's words; a yes-or-no fact is yes when the word is among ``yes_when``.
    """

    query: str = ""  # which of the queries; may be left out when there is only one
    field: JsonPath | None = None
    pattern: Value | None = None
    constant: str | None = None
    values: dict[str, str] = Field(default_factory=dict)

    @property
    def words(self) -> tuple[str, ...]:
        """Everything in which placeholders may stand."""
        return tuple(text for text in (self.field, self.pattern) if text is not None)

    @model_validator(mode="after")
    def _one_source(self) -> Reading:
        if sum(source is not None for source in (self.field, self.pattern, self.constant)) != 1:
            raise ValueError("needs exactly one of field, pattern, constant")
        return self


class YesNo(Reading):
    """A reading that is yes or no."""

    yes_when: list[str] = Field(min_length=1, default_factory=lambda: ["true"])


class SlotReadings(Strict):
    """What is known of one slot; ``{slot}`` in a field or pattern is the OS's name of it."""

    bootable: YesNo  # the firmware may try it
    complete: YesNo  # the last write of it ran to its end
    image_sha256: Reading  # of the root image, 64 hex digits
    version: Reading | None = None
    bootname: Reading | None = None  # the boot loader's name of it, which booted and primary may say instead


class Status(Strict):
    """How to ask what is in the slots."""

    queries: Annotated[dict[str, Command], Field(min_length=1)]
    compatible: Reading  # which hardware the OS is for
    booted: Reading  # the running slot
    primary: Reading  # the slot tried first at the next boot
    each_slot: SlotReadings

    @model_validator(mode="after")
    def _known_queries(self) -> Status:
        readings = (self.compatible, self.booted, self.primary, *vars(self.each_slot).values())
        for reading in readings:
            if reading is None or reading.constant is not None:
                continue
            if not reading.query and len(self.queries) > 1:
                raise ValueError(f"with several queries a reading must say which: {', '.join(self.queries)}")
            if reading.query and reading.query not in self.queries:
                message = f"no query {reading.query!r}. There are: {', '.join(self.queries)}"
                raise fault("query", reading.query, message)
        per_slot = {name for name, command in self.queries.items() if command.names_slot}
        for reading in (self.compatible, self.booted, self.primary):
            if reading.constant is None and (reading.query or next(iter(self.queries))) in per_slot:
                raise ValueError("compatible, booted and primary need a query that does not name {slot}")
        return self


class Install(Strict):
    """How to write the slot that is not running. It must not become active."""

    digest: Command = Command(run=["sha256sum", "{bundle}"], timeout_s=120.0, expect="^{sha256}\\b")
    steps: Annotated[list[Command], Field(min_length=1)]
    # A refusal is believed only when one of these causes, which are the bundle's own, is in the output ...
    refused: Annotated[list[Regex], Field(min_length=1)]
    # ... and the exit code is one of these, where the updater has some of its own for it ...
    refused_exit_codes: list[int] = Field(default_factory=list)
    # ... and, where the cause is one of these, the board's clock is right (a dead one gives it for every bundle) ...
    by_clock: list[Regex] = Field(default_factory=list)
    # ... and all of these succeed, which say that the board could install a bundle at all.
    able: list[Command] = Field(default_factory=list)
    reason: Value | None = None  # the updater's own words; the last match counts

    @model_validator(mode="after")
    def _refusals_are_failures(self) -> Install:
        if both := sorted({*self.refused_exit_codes} & {code for s in self.steps for code in s.exit_codes}):
            raise ValueError(f"exit code {both[0]} is a success of a step and a refusal")
        return self


class Verb(Strict):
    """Commands in order; the first that fails ends it."""

    steps: Annotated[list[Command], Field(min_length=1)]


class Health(Strict):
    """Commands that must all succeed, beside the updater's own answer."""

    checks: list[Command] = Field(default_factory=list)


class SlotNames(Strict):
    """What the OS calls its slots."""

    A: str
    B: str

    @model_validator(mode="after")
    def _different(self) -> SlotNames:
        if self.A == self.B:
            raise ValueError(f"both slots are called {self.B!r}")
        return self


class AdapterFile(Strict):
    """A declared adapter."""

    schema_: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]
    slots: SlotNames
    busy: list[Regex] = Field(default_factory=list)  # found in the output of a command that failed: it is asked again
    status: Status
    install: Install
    activate: Verb  # the slot that is not running becomes the one to boot next
    confirm: Verb  # the running slot is kept
    roll_back: Verb | None = None  # left out: the same as activate
    restart: Command | None = Command(run=["reboot"], timeout_s=5.0)  # null: the last step restarts by itself
    configure: Verb | None = None  # gets the document as JSON on stdin
    health: Health = Health()

    @model_validator(mode="after")
    def _placeholders_have_values(self) -> AdapterFile:
        readings = (self.status.compatible, self.status.booted, self.status.primary)
        for text in [word for reading in readings for word in reading.words]:
            _only(text, {"version"}, "{slot} is known only below each_slot")
        each = self.status.each_slot
        for reading in (each.bootable, each.complete, each.image_sha256, each.version, each.bootname):
            for text in reading.words if reading else ():
                _only(text, {"version", "slot"}, "a bundle is known only while installing")
        for command in self._commands_without_bundle():
            for text in command.words:
                _only(text, {"version", "slot"}, "a bundle is known only while installing")
        for text in self.restart.words if self.restart else ():
            _only(text, {"version"}, "a restart is about no slot")
        return self

    def _commands_without_bundle(self) -> Iterator[Command]:
        yield from self.status.queries.values()
        yield from self.health.checks
        yield from self.install.able
        for verb in (self.activate, self.confirm, self.roll_back, self.configure):
            if verb is not None:
                yield from verb.steps

    def slot_name(self, slot: Slot) -> str:
        """Return what the OS calls it."""
        return self.slots.A if slot == "A" else self.slots.B

    @property
    def uses_version(self) -> bool:
        """Whether ``{version}`` stands in a command, so that somebody has to say it."""
        commands = [*self._commands_without_bundle(), self.install.digest, *self.install.steps]
        return any("version" in placeholders(word) for command in commands for word in command.words)


def _only(text: str, allowed: set[str], why: str) -> None:
    if wrong := sorted(placeholders(text) - allowed):
        raise fault("placeholder", text, f"{{{wrong[0]}}} has no value here: {why}")


def load_adapter(path: Path) -> AdapterFile:
    """Read a declaration; ConfigurationError with ``file:line: key: what is wrong`` for every fault."""
    return load_yaml(path, AdapterFile)
