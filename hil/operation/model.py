"""``operation.yaml``: what is uploaded, to which boards, and the steps with their limits and deadlines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PrivateAttr, StringConstraints, field_validator, model_validator

from hil.core import paths
from hil.core.wait import duration_s
from hil.errors import ConfigurationError
from hil.lab.tenant import QuotaSpec
from hil.lab.yamlfile import Duration, Strict, fault, load_yaml, with_example

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MAX_BYTES = 10**13


class BundleSpec(Strict):
    """The signed OS bundle. Left out: the reference OS 2.0.0, which every bench has."""

    model_config = with_example("""\
file: os-7.1.raucb
version: 7.1.0
image_sha256: 6f668b19b3d73892a187cb8d636bb00dff681ece8e2bbd46bd03b657a32d3ff3
""")
    file: str | None = Field(default=None, min_length=1, description="the bundle, relative to this file")
    version: str | None = Field(
        default=None, min_length=1, max_length=64, description="VERSION_ID of the OS inside; required with file"
    )
    image_sha256: Digest | None = Field(
        default=None, description="of the root image inside, as the updater reports it; required with file"
    )
    size_bytes: int | None = Field(
        default=None, gt=0, le=MAX_BYTES, description="for a check before the bundle is there; left out: it is measured"
    )
    needs: QuotaSpec = Field(
        default=QuotaSpec(), description="what the OS declares that it needs; compared with the quotas of its tenant"
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for key in ("version", "image_sha256"):
            if (self.file is None) != (getattr(self, key) is None):
                there, absent = ("file", key) if self.file is not None else (key, "file")
                raise fault(there, str(getattr(self, there)), f"{there} needs {absent}, too")
        return self


class BoardsSpec(Strict):
    """Which boards of a lab take part, as --on and --split of `hil campaign run`."""

    model_config = with_example("on: [sc-05, sc-06]\nsplit: 3+3\n")
    on: tuple[str, str] | None = Field(
        default=None,
        strict=False,
        description="the two spacecraft, the gateway's first; left out: those of a small lab, or the gateway's and "
        "its neighbour",
    )
    split: str | None = Field(
        default=None, pattern=r"^[1-9]\d?\+[1-9]\d?$", description="boards on each of the two; left out: up to 3+3"
    )


class LimitsSpec(Strict):
    """What the operation must keep to."""

    model_config = with_example("margin: 0.2\njunction_c: 95.0\nleast_charge: 0.4\n")
    margin: float = Field(
        default=0.1, ge=0, lt=1, description="share of everything that is there (bytes, time, heat, power) to keep free"
    )
    efficiency: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="share of a link's rate that is left for files: headers, acknowledgements (assumed)",
    )
    junction_c: float = Field(
        default=99.0, ge=0, le=104.5, description="no hotter while the payload runs; 99: where an Orin slows down"
    )
    least_charge: float | None = Field(
        default=None, ge=0, le=1, description="of the battery; left out: where the lab's bus switches boards off"
    )


class Step(Strict):
    """One step."""

    deadline: Duration


class Upload(Step):
    """From the ground to every board: to the gateway, once over the crosslink, then from board to board."""

    deadline: Duration = Field(default="3m", description="from the operation's begin; waiting for passes counts")


class Verify(Step):
    """Every board has every byte, and its digest."""

    deadline: Duration = Field(default="30s", description="from the end of the upload")


class Install(Step):
    """Signature checked, then the slot that is not running is written, on all boards at once."""

    deadline: Duration = Field(default="2m", description="for each board")


class Activate(Step):
    """Restart into the new slot, one canary first; confirmed after health checks."""

    deadline: Duration = Field(default="3m", description="for the canary and the others together")
    canary: str | None = Field(default=None, description="board that goes first; left out: one that feeds no other")


class Configure(Step):
    """All boards under one epoch, in two phases."""

    deadline: Duration = Field(default="1m", description="from the order until all serve at one moment")


class Run(Strict):
    """The payload on all boards at once."""

    duration: Duration = Field(default="1m", description="how long the payload runs")
    busy: float = Field(
        default=1.0, gt=0, le=1, description="share of the time in which the boards compute; the check reckons with it"
    )


class Collect(Step):
    """What comes back to the ground."""

    deadline: Duration = Field(default="3m", description="from the payload's end; waiting for passes counts")
    size_bytes: int = Field(ge=0, le=MAX_BYTES, description="results of all boards together")


class Steps(Strict):
    """The steps, always in this order. The last ones may be left out, none in between."""

    model_config = with_example("""\
upload: {deadline: 12h}
verify: {}
install: {}
activate: {deadline: 5m}
configure: {}
run: {duration: 10m}
collect: {size_bytes: 50000000, deadline: 6h}
""")
    upload: Upload
    verify: Verify | None = None
    install: Install | None = None
    activate: Activate | None = None
    configure: Configure | None = None
    run: Run | None = None
    collect: Collect | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _section(cls, value: object) -> object:
        if value is None:
            raise ValueError("is empty; write {} for a step with its defaults, or leave it out")
        return value

    @model_validator(mode="after")
    def _no_gap(self) -> Self:
        names, given = list(type(self).model_fields), list(self.names())
        if given != names[: len(given)]:
            missing = next(name for name in names if name not in given)
            raise fault(given[-1], "", f"{given[-1]} needs the steps before it; missing: {missing}")
        return self

    def names(self) -> Iterator[str]:
        """Yield the names of the steps that are done, in order."""
        return (name for name in type(self).model_fields if getattr(self, name) is not None)


class Operation(Strict):
    """One operation on any lab: the file names no address and no link."""

    schema_version: Literal[1] = Field(alias="schema", description="version of this format")
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,31}$", description="lower case letters, digits, hyphens")]
    description: str = Field(default="", max_length=400, description="one line for people")
    bundle: BundleSpec = BundleSpec()
    boards: BoardsSpec = BoardsSpec()
    limits: LimitsSpec = LimitsSpec()
    deadline: Duration | None = Field(
        default=None, description="of the whole operation; left out: the deadlines of its steps one after another"
    )
    steps: Steps
    _file: Path = PrivateAttr(default=Path("operation.yaml"))

    @property
    def file(self) -> Path:
        """Where it was read from; the bundle is beside it."""
        return self._file

    @property
    def bundle_path(self) -> Path | None:
        """Where the bundle is; None for the reference OS."""
        return None if self.bundle.file is None else self._file.parent / self.bundle.file

    @property
    def commanding_s(self) -> float:
        """Seconds that the steps between upload and payload may take, in which the ground must reach the boards."""
        timed = (self.steps.verify, self.steps.install, self.steps.activate, self.steps.configure)
        return sum(duration_s(step.deadline) for step in timed if step is not None)

    @property
    def running_s(self) -> float:
        """Seconds that the payload runs."""
        return duration_s(self.steps.run.duration) if self.steps.run else 0.0

    @property
    def deadline_s(self) -> float:
        """Seconds from the operation's begin to its end, at most."""
        if self.deadline is not None:
            return duration_s(self.deadline)
        collecting_s = duration_s(self.steps.collect.deadline) if self.steps.collect else 0.0
        return duration_s(self.steps.upload.deadline) + self.commanding_s + self.running_s + collecting_s


def operation_file(text: str | Path) -> Path:
    """Return the operation file of that path, or the shipped one of that name (``six_gpu``); paths win."""
    return paths.shipped_file("operations", text)


def load_operation(path: str | Path) -> Operation:
    """Read an operation file, or the shipped one of that name.

    ConfigurationError names file, line, key and what is allowed.
    """
    file = operation_file(path)
    if not file.is_file():
        names = sorted(each.stem for each in paths.shipped("operations").glob("*.yaml"))
        raise ConfigurationError(
            f"{file}: no such file", remedy=f"give an operation file, or a shipped one: {', '.join(names)}"
        )
    operation = load_yaml(file, Operation)
    operation._file = file.resolve()
    return operation
