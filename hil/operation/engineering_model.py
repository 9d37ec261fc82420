"""An operator's engineering model: one computer on the ground behind a public API, instead of a bench.

What such a model is and has is in a file of its own.  ``api`` names the adapter: an entry point of the group
``hil.engineering_models``.  It has no links, no passes, no slots and one node; what runs there is a container image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

from pydantic import Field, PrivateAttr, StringConstraints

from hil.core import kinds
from hil.core.wait import duration_s
from hil.errors import ConfigurationError
from hil.lab.yaml_tree import read_tree
from hil.lab.yamlfile import Strict, load_yaml
from hil.operation.arithmetic import Preview, Term, quantity
from hil.operation.model import Operation
from hil.operation.preview import Checked, files_of

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._/:-]{0,127}$")]


class ImageSpec(Strict):
    """The container image that stands on the model where boards have an OS."""

    name: Name = Field(description="as the model's API calls it")
    tar: str | None = Field(
        default=None, min_length=1, description="beside this file, uploaded and loaded; left out: the model has it"
    )


class EngineeringModelSpec(Strict):
    """What every engineering model has in its file; each kind of API adds its own keys."""

    schema_version: Literal[1] = Field(alias="schema", description="version of this format")
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$", description="lower case letters, digits, hyphens")]
    description: str = Field(default="", max_length=400, description="one line for people")
    api: str = Field(description="the adapter: a name of the group hil.engineering_models")
    image: ImageSpec
    call_bytes: int = Field(default=2_000_000_000, gt=0, description="most bytes that one call of the API takes")
    storage_bytes: int | None = Field(default=None, gt=0, description="of the volume; left out: not known")
    uplink_bps: int | None = Field(default=None, gt=0, description="what the way there carries; left out: not known")
    _file: Path = PrivateAttr(default=Path("engineering-model.yaml"))

    @property
    def file(self) -> Path:
        """Where it was read from."""
        return self._file

    @property
    def tar(self) -> Path | None:
        """Where the image's file is; None: the model has the image."""
        return None if self.image.tar is None else self._file.parent / self.image.tar


S = TypeVar("S", bound=EngineeringModelSpec)


class EngineeringModel(Protocol):
    """What an adapter does. Each waits while somebody else has the model, until ``deadline_s`` seconds are over.

    Errors: BenchError when the model does not answer, refuses or stays locked; DeviceError when a job failed there;
    ConfigurationError for what the file has wrong.
    """

    def uplink(self, file: Path, name: str, *, deadline_s: float) -> None:
        """Bring a file into the operation's folder, whole, under a name."""

    def listing(self, *, deadline_s: float) -> dict[str, int]:
        """Return the files of the operation's folder: name to bytes."""

    def images(self, *, deadline_s: float) -> list[str]:
        """Return the container images that the model has."""

    def load_image(self, tar: str, *, deadline_s: float) -> None:
        """Load the container image of the file from a tar of the operation's folder."""

    def job(self, command: str, done: str, *, deadline_s: float) -> None:
        """Run a shell line in the image, in the operation's folder, until the file ``done`` is there."""

    def downlink(self, name: str, target: Path, *, limit: int, deadline_s: float) -> None:
        """Fetch a file of the operation's folder; DeviceError for more than ``limit`` bytes."""

    def clear(self, *, deadline_s: float) -> None:
        """Remove the operation's folder."""


@dataclass(frozen=True)
class EngineeringModelKind(Generic[S]):
    """One API of engineering models."""

    model: type[S]
    """Its file: ``api`` is the name of the entry point."""
    connect: Callable[[S, str, Callable[[str], None]], EngineeringModel]
    """Make the adapter for an operation's folder (a plain name), with what tells waits; touches nothing yet."""


def load_engineering_model(path: Path) -> EngineeringModelSpec:
    """Read the file of an engineering model. ConfigurationError names file, line, key and what is allowed."""
    data = read_tree(path, remedy="check the path of the engineering model's file")[1]
    api = data.get("api") if isinstance(data, dict) else None
    model: type[EngineeringModelSpec] = kind_of(api, path).model if isinstance(api, str) else EngineeringModelSpec
    found = load_yaml(path, model)
    found._file = path.resolve()
    return found


def kind_of(api: str, path: Path) -> EngineeringModelKind[Any]:
    """Return the kind of an API. ConfigurationError names the file that has it, and what there is."""
    try:
        kind: EngineeringModelKind[Any] = kinds.load(kinds.ENGINEERING_MODELS, api)
    except ConfigurationError as exc:
        raise exc.with_context(f"{path}: api: {exc.message}") from exc
    return kind


def connected(spec: EngineeringModelSpec, folder: str, tell: Callable[[str], None]) -> EngineeringModel:
    """Return the adapter of a file's model, for the folder of an operation there; ``tell`` is told of waits."""
    return kind_of(spec.api, spec.file).connect(spec, folder, tell)


def check_model(operation: Operation, spec: EngineeringModelSpec) -> Checked:
    """Compare an operation with an engineering model; nothing is connected.

    ConfigurationError: a bundle or an image that is not there.
    """
    files = files_of(operation, "rauc")
    if spec.tar is not None:
        if not spec.tar.is_file():
            raise ConfigurationError(
                f"{spec.file}: image.tar: there is no file {spec.tar}",
                remedy="correct the path, or leave tar out when the model has the image",
            )
        files["container image"] = spec.tar.stat().st_size
    largest = max(files, key=lambda name: files[name])
    total = float(sum(files.values()))
    upload_s = duration_s(operation.steps.upload.deadline)
    rate, efficiency = spec.uplink_bps, operation.limits.efficiency
    here = f"{spec.file.name}"
    unknown = "not known: an engineering model has its own"
    terms = [
        Term(
            "one call of the uplink",
            float(files[largest]),
            float(spec.call_bytes),
            "B",
            f"{largest}; call_bytes of {here}",
            "no file is cut for it",
        ),
        Term("storage of the model", total, _known(spec.storage_bytes), "B", f"all files; storage_bytes of {here}"),
        Term(
            f"upload: to {spec.name}",
            total,
            None if rate is None else rate / 8 * efficiency * upload_s,
            "B",
            f"uplink_bps of {here}, {efficiency:.0%} of it for files",
            f"in {quantity(upload_s, 's')}",
        ),
        *(Term(name, None, None, unit, unknown) for name, unit in (("heat", "K"), ("power", "W"))),
    ]
    uploaded_s = None if rate is None else total * 8 / rate / efficiency
    who = f"one node of {spec.name} for all boards; no links, no passes, no slots"
    return Checked(
        operation, spec.name, (spec.name,), who, Preview(tuple(terms), operation.limits.margin), files, uploaded_s
    )


def _known(figure: int | None) -> float | None:
    return None if figure is None else float(figure)
