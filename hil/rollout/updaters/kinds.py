"""A kind of updater: everything the testbed must know to roll an operating system out with one more updater.

The object is an entry point of the group ``hil.updaters``; the entry point's name is the ``adapter`` of the section
``os`` of a lab file.  The built-in kinds are such entry points too (pyproject.toml).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import Field

from hil.images.recipes import REFERENCE, SWUPDATE, Recipe
from hil.lab.operating_system import OsSpec
from hil.lab.yamlfile import with_example

if TYPE_CHECKING:
    from hil.rollout.fleet import Member
    from hil.rollout.updaters.protocol import OsAdapter

S = TypeVar("S", bound=OsSpec)


def no_files(_spec: Any, _directory: Path) -> None:
    """Find nothing wrong: the section names no files."""


@dataclass(frozen=True)
class UpdaterKind(Generic[S]):
    """One updater."""

    model: type[S]
    """The section ``os`` of the lab file.  The docs are made from it."""
    adapter: Callable[[S, Path, str], Callable[[Member], OsAdapter]]
    """Make the factory of adapters from the section, the lab file's directory and the version of the bundle."""
    recipe: Recipe = REFERENCE
    """The OS that container boards run, which has this updater."""
    check: Callable[[S, Path], None] = no_files
    """Raise ConfigurationError for a fault of a file that the section names; for ``hil lab validate``."""


_ADAPTER = "the updater in the OS under test"


class RaucSpec(OsSpec):
    """RAUC 1.8 or later: nothing else to say."""

    model_config = with_example("adapter: rauc\n")
    adapter: Literal["rauc"] = Field(default="rauc", description=_ADAPTER)


class SwupdateSpec(OsSpec):
    """SWUpdate 2022.12 or later with signed images, and an OS that answers `swupdate-slots`."""

    model_config = with_example("adapter: swupdate\n")
    adapter: Literal["swupdate"] = Field(description=_ADAPTER)


class DeclaredSpec(OsSpec):
    """An updater of your own, described in a file (docs/os-adapters.md)."""

    model_config = with_example("""\
adapter: declared
file: adapters/skyos.yaml
""")
    adapter: Literal["declared"] = Field(description=_ADAPTER)
    file: str = Field(description="its declaration (YAML), relative to this lab file")


def _rauc(_spec: RaucSpec, _directory: Path, _version: str) -> Callable[[Member], OsAdapter]:
    from hil.rollout.updaters.rauc import rauc_over_flight

    return rauc_over_flight


def _swupdate(_spec: SwupdateSpec, _directory: Path, _version: str) -> Callable[[Member], OsAdapter]:
    from hil.rollout.updaters.swupdate import swupdate_over_flight

    return swupdate_over_flight


def _declared(spec: DeclaredSpec, directory: Path, version: str) -> Callable[[Member], OsAdapter]:
    from hil.rollout.updaters.declaration import load_adapter
    from hil.rollout.updaters.declared import declared_over_flight

    return declared_over_flight(load_adapter(directory / spec.file), version=version)


def _check_declaration(spec: DeclaredSpec, directory: Path) -> None:
    from hil.rollout.updaters.declaration import load_adapter

    load_adapter(directory / spec.file)


RAUC = UpdaterKind(RaucSpec, _rauc)
SWUPDATE_KIND = UpdaterKind(SwupdateSpec, _swupdate, recipe=SWUPDATE)
DECLARED = UpdaterKind(DeclaredSpec, _declared, check=_check_declaration)
