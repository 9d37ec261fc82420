"""``nightly.yaml``: what runs in a night, for how long at most, and who hears of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hil.core import paths
from hil.errors import ConfigurationError
from hil.evidence.test_plan import load_plan
from hil.lab.model import load_lab
from hil.lab.yamlfile import Duration, Strict, fault, load_yaml
from hil.trials.profile import load_profile
from hil.trials.stopping_rules import Goal

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


OWN = (
    *("--run-id", "--hil-run-id", "-o", "--output", "--hil-out", "--id", "--out", "--lab", "--hil-lab", "--faults"),
    *("--trials", "--until", "--seed", "--detach", "--repeat", "--resume", "--hil-resume"),
)
"""Options of `hil campaign run` and `hil trials run` that a night gives itself, or that would take a job out of it."""


class Notify(Strict):
    """A command that gets the short message on its standard input, e.g. one that posts it to a chat."""

    argv: tuple[str, ...] = Field(min_length=1, strict=False, description="program and arguments; no shell")
    timeout: Duration = Field(default="30s", description="it is ended after so long")


class Job(Strict):
    """A campaign or a series of trials on one lab."""

    name: Name
    lab: str = Field(description="lab file, or the name of a shipped lab")
    campaign: str | None = Field(default=None, description="folder of a plan, or the name of a shipped plan")
    arguments: tuple[str, ...] = Field(
        default=(), strict=False, description="more arguments of `hil campaign run` or `hil trials run`"
    )
    trials: str | None = Field(default=None, description="fault profile: a file, or the name of a shipped one")
    count: int | None = Field(default=None, ge=1, le=100_000, description="of trials: run so many")
    until: str | None = Field(default=None, description="of trials: run until this is shown, R=0.95,C=0.90")
    seed: int | None = Field(default=None, ge=0, description="of trials; left out: another one each night")
    deadline: Duration = Field(default="1h", description="it is ended after so long, and is then INCONCLUSIVE")
    attempts: int = Field(default=2, ge=1, le=5, description="a campaign that is INCONCLUSIVE is repeated, visibly")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.campaign is None) == (self.trials is None):
            raise fault("name", self.name, f"job {self.name}: give either campaign or trials")
        if self.trials is None and (self.count or self.until or self.seed is not None):
            raise fault("name", self.name, f"job {self.name}: count, until and seed are of trials")
        if self.trials is not None and (self.count is None) == (self.until is None):
            raise fault("name", self.name, f"job {self.name}: give either count or until")
        for word in self.arguments:
            if any(word == own or word.startswith(f"{own}=") for own in OWN):
                raise fault("arguments", word, f"job {self.name}: {word} is not for the jobs of a night")
        if self.until is not None:
            try:
                Goal.parse(self.until)
            except ConfigurationError as exc:
                raise fault("until", self.until, exc.message) from exc
        return self


class Nightly(Strict):
    """What runs in a night."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    deadline: Duration = Field(default="10h", description="no job begins or goes on after so long")
    workers: int = Field(
        default=1, ge=1, le=16, description="so many jobs at once; never two that need the same real board"
    )
    notify: Notify | None = None
    jobs: tuple[Job, ...] = Field(min_length=1, max_length=100, strict=False)

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [job.name for job in self.jobs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise fault("jobs", twice[0], f"two jobs are called {twice[0]}")
        return self


def load_nightly(path: Path) -> Nightly:
    """Read a nightly file and everything that it names.  ConfigurationError says file, line, key and what is wrong."""
    plan = load_yaml(path, Nightly)
    for job, words in ((job, argv_of(path, job)) for job in plan.jobs):
        try:
            load_lab(Path(words["--lab"]))
            if job.campaign is not None:
                load_plan(Path(words["plan"]))
            else:
                load_profile(words["--faults"])
        except ConfigurationError as exc:
            raise exc.with_context(f"{path}: job {job.name}: {exc.message}") from exc
    return plan


def argv_of(path: Path, job: Job) -> dict[str, str]:
    """Return the files that a job names: paths are relative to the nightly file, names are those of shipped ones."""
    found = {"--lab": str(_near(path, job.lab, paths.lab_file(job.lab)))}
    if job.campaign is not None:
        found["plan"] = str(_near(path, job.campaign, paths.plan_folder(job.campaign)))
    elif job.trials is not None:
        found["--faults"] = str(_near(path, job.trials, Path(job.trials))) if Path(job.trials).suffix else job.trials
    return found


def words_of(path: Path, plan: Nightly) -> Iterator[tuple[Job, list[str]]]:
    """Yield each job with the arguments of ``hil`` that run it, without the name of the run or the series."""
    for job in plan.jobs:
        files = argv_of(path, job)
        if job.campaign is not None:
            yield job, ["campaign", "run", files["plan"], "--lab", files["--lab"], *job.arguments]
            continue
        goal = ["--until", job.until] if job.until else ["--trials", str(job.count)]
        yield job, ["trials", "run", "--lab", files["--lab"], "--faults", files["--faults"], *goal, *job.arguments]


def _near(path: Path, text: str, otherwise: Path) -> Path:
    beside = path.parent / text
    return beside.resolve() if beside.exists() else otherwise.absolute()
