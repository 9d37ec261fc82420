"""The test plan: requirements, risks, criteria and waivers, read strictly from ``plan.yaml``.

The campaign's tests name requirements by id; the plan says what those mean and what a result is worth.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from hil.errors import ConfigurationError
from hil.evidence.risk import RiskScale, named_scale
from hil.lab.yamlfile import Strict, load_yaml

Id = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]*(-[A-Z0-9]+)+$", max_length=32)]
"""E.g. REQ-UPL-01: upper case letters and digits in groups joined by hyphens."""

Text = Annotated[str, StringConstraints(min_length=3, strip_whitespace=True)]


def _day(value: object) -> object:
    """Return the day that ISO 8601 text means; what is none for pydantic to refuse."""
    try:
        return datetime.date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else value
    except ValueError as exc:
        raise ValueError(f"{value!r} is no day; wanted: one like 2026-11-29") from exc


Day = Annotated[datetime.date, BeforeValidator(_day)]

METHOD_NAMES = {"T": "test", "A": "analysis", "R": "review of design", "I": "inspection"}
"""Verification methods of ECSS-E-ST-10-02."""


class Requirement(Strict):
    """One thing that must be shown."""

    id: Id
    text: Text
    method: Literal["T", "A", "R", "I"]
    level: Literal["component", "board", "spacecraft", "system", "mission"]
    fidelity_needed: Literal["virtual", "hardware"]
    when: Annotated[
        Literal["always", "detour", "uninvolved_boards", "orbit"],
        BeforeValidator(lambda word: "uninvolved_boards" if word == "bystanders" else word),  # its older name
    ] = Field(
        default="always",
        description="what a lab must have for this to be shown: a second way between the two spacecraft, boards that "
        "take no part, or links that follow an orbit; without it the requirement is NOT RUN and does not count",
    )
    trace: str = Field(default="", description="where it comes from")
    evidence: str = Field(default="", description="for A, R and I: the document that closes it")
    shown_by: str = Field(default="", description="another plan, whose tests show it; this one's say nothing of it")


class Cell(Strict):
    """A place in the risk matrix, 1 (low) to 5 (high)."""

    likelihood: int = Field(ge=1, le=5)
    severity: int = Field(ge=1, le=5)


class Risk(Strict):
    """A risk, where it stands before the campaign, and where it may go if the campaign shows enough."""

    id: Id
    title: Text
    before: Cell
    after: Cell
    requirements: tuple[Id, ...] = Field(min_length=1, strict=False)
    mitigation: str = ""

    @model_validator(mode="after")
    def _not_worse(self) -> Self:
        if self.after.likelihood > self.before.likelihood or self.after.severity > self.before.severity:
            raise ValueError(f"{self.id}: after is worse than before; a campaign can only lower a risk")
        return self


class Criterion(Strict):
    """One condition of the campaign's PASS: met when all its requirements that this lab can show are PASS or WAIVED."""

    id: Id
    text: Text
    requirements: tuple[Id, ...] = Field(min_length=1, strict=False)


class Parameter(Strict):
    """A number that the plan's tests use; a run may be given another one, and is then no run of the whole plan."""

    value: float = Field(allow_inf_nan=False)
    unit: str = Field(default="", max_length=16)
    text: Text = Field(description="what it is")
    least: float = Field(default=0.0, allow_inf_nan=False)
    most: float = Field(default=1e9, allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if not self.least <= self.value <= self.most:
            raise ValueError(f"value {self.value:g} is not in {self.least:g} to {self.most:g}")
        return self


class Waiver(Strict):
    """A non-conformance record that accepts a failure: named, dated, signed.  Nothing else can do that."""

    id: Id
    requirement: Id
    date: Day
    approved_by: Text
    reason: Text
    disposition: Literal["use-as-is", "rework", "repair", "scrap", "return"] = "use-as-is"
    classification: Literal["minor", "major"] = "minor"
    expires: Day | None = None

    def holds_on(self, day: datetime.date) -> bool:
        """Whether the record is in force on ``day``."""
        return self.date <= day and (self.expires is None or day <= self.expires)


class Waivers(Strict):
    """The whole of ``waivers.yaml``."""

    schema_version: Literal[1] = Field(alias="schema")
    waivers: tuple[Waiver, ...] = Field(strict=False)


class Plan(Strict):
    """The whole of ``plan.yaml``."""

    schema_version: Literal[1] = Field(alias="schema")
    id: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,39}$")]
    title: Text
    purpose: str = ""
    article: str = Field(default="", description="what is under test")
    boards: int | None = Field(default=None, ge=1, description="how many boards take part; left out: any number")
    needs: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="features that every board that takes part must have, e.g. power, console, slots",
    )
    reliability_goal: float = Field(default=0.95, gt=0, lt=1, description="goal of repeated runs")
    confidence: float = Field(default=0.90, gt=0, lt=1, description="confidence of every statistical statement")
    risk_scale: Literal["ecss", "gsfc"] | RiskScale = "ecss"
    requirements: tuple[Requirement, ...] = Field(min_length=1, strict=False)
    risks: tuple[Risk, ...] = Field(default=(), strict=False)
    criteria: tuple[Criterion, ...] = Field(default=(), strict=False)
    waivers: tuple[Waiver, ...] = Field(default=(), strict=False)
    parameters: Mapping[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")], Parameter] = Field(
        default={}, description="numbers that the tests use, by name; `--set NAME=VALUE` gives a run another one"
    )

    @model_validator(mode="after")
    def _references(self) -> Self:
        parts: tuple[tuple[Requirement | Risk | Criterion | Waiver, ...], ...]
        parts = (self.requirements, self.risks, self.criteria, self.waivers)
        ids = [each.id for part in parts for each in part]
        for twice in {i for i in ids if ids.count(i) > 1}:
            raise ValueError(f"{twice} is used twice; ids are unique in a plan")
        known = {r.id for r in self.requirements}
        users = [
            *((f"risks: {r.id}", r.requirements) for r in self.risks),
            *((f"criteria: {c.id}", c.requirements) for c in self.criteria),
            *((f"waivers: {w.id}", (w.requirement,)) for w in self.waivers),
        ]
        for user, named in users:
            if unknown := ", ".join(n for n in named if n not in known):
                raise ValueError(f"{user}: no requirement {unknown}; requirements: {', '.join(sorted(known))}")
        return self

    @property
    def scale(self) -> RiskScale:
        """The risk scale, presets resolved."""
        return named_scale(self.risk_scale) if isinstance(self.risk_scale, str) else self.risk_scale

    def parameters_with(self, changes: Iterable[str]) -> dict[str, float]:
        """Return every parameter's value, some given as ``NAME=VALUE``. ConfigurationError names a wrong one."""
        values = {name: parameter.value for name, parameter in self.parameters.items()}
        for change in changes:
            name, _, text = change.partition("=")
            known = self.parameters.get(name)
            if known is None:
                raise ConfigurationError(
                    f"--set {change}: plan {self.id} has no parameter {name}",
                    remedy=f"parameters: {', '.join(self.parameters) or 'none'}",
                )
            try:
                values[name] = float(text)
            except ValueError:
                values[name] = math.nan
            if not known.least <= values[name] <= known.most:
                raise ConfigurationError(
                    f"--set {change}: {text!r} is no number from {known.least:g} to {known.most:g}",
                    remedy=f"{name} is in {known.unit}: {known.text}" if known.unit else f"{name}: {known.text}",
                )
        return values

    def requirement(self, identifier: str) -> Requirement:
        """Return a requirement by its id; KeyError when there is none."""
        return {requirement.id: requirement for requirement in self.requirements}[identifier]


def load_plan(path: Path) -> Plan:
    """Read ``plan.yaml`` (or the folder that holds it) and the ``waivers.yaml`` beside it, if there is one.

    ConfigurationError names file, line, key and what is allowed.
    """
    path = path / "plan.yaml" if path.is_dir() else path
    plan = load_yaml(path, Plan)
    beside = path.with_name("waivers.yaml")
    if not beside.is_file():
        return plan
    more = load_yaml(beside, Waivers).waivers
    try:
        return Plan.model_validate({**plan.model_dump(by_alias=True), "waivers": (*plan.waivers, *more)})
    except ValueError as exc:
        raise ConfigurationError(f"{beside}: {exc}", remedy=f"compare it with {path}") from exc
