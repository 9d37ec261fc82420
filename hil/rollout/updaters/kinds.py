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

from hil.core import kinds
from hil.images.recipes import REFERENCE, SWUPDATE, Recipe
from hil.lab.model import OsSpec
from hil.lab.yamlfile import with_example

if TYPE_CHECKING:
    from hil.boards.protocol import Board
    from hil.lab.model import Lab
    from hil.rollout.updaters.protocol import OsAdapter

S = TypeVar("S", bound=OsSpec)


@dataclass(frozen=True)
class UpdaterKind(Generic[S]):
    """One updater."""

    model: type[S]
    """The section ``os`` of the lab file.  The docs are made from it."""
    adapter: Callable[[S, Path, str], Callable[[Board], OsAdapter]]
    """Make the factory of adapters from the section, the lab file's directory and the version of the bundle."""
    recipe: Recipe = REFERENCE
    """The OS that container boards run, which has this updater."""
    check: Callable[[S, Path], None] = lambda _spec, _directory: None
    """Raise ConfigurationError for a fault of a file that the section names; for ``hil lab validate``."""


def adapter_of(lab: Lab, *, version: str = "") -> Callable[[Board], OsAdapter]:
    """Return the adapter that a lab file names under ``os``, for ``Rollout(adapter=...)``.

    ``version``: the bundle's, for a declaration that uses ``{version}``.  ConfigurationError with file and line when
    the declaration is wrong.
    """
    kind: UpdaterKind[Any] = kinds.load(kinds.UPDATERS, lab.os.adapter)
    return kind.adapter(lab.os, lab.file.parent, version)


_ADAPTER = "the updater in the OS under test"


class RaucSpec(OsSpec):
    """RAUC 1.8 or later."""

    model_config = with_example("adapter: rauc\n")
    adapter: Literal["rauc"] = Field(default="rauc", description=_ADAPTER)
    slot_class: str = Field(
        default="rootfs",
        pattern=r"^[A-Za-z0-9_-]+$",
        description="class of the two root slots in the board's `system.conf`: `rootfs` for `[slot.rootfs.0]`",
    )


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


def _rauc(slot_class: str) -> Callable[[Board], OsAdapter]:
    from hil.rollout.updaters.declaration import SlotNames, load_adapter
    from hil.rollout.updaters.declared import RAUC, over_flight_as

    names = SlotNames(A=f"{slot_class}.0", B=f"{slot_class}.1")
    return over_flight_as(load_adapter(RAUC).model_copy(update={"slots": names}))


def _declared(file: Path, version: str) -> Callable[[Board], OsAdapter]:
    from hil.rollout.updaters.declared import over_flight

    return over_flight(file, version=version)


def _check_declaration(spec: DeclaredSpec, directory: Path) -> None:
    from hil.rollout.updaters.declaration import load_adapter

    load_adapter(directory / spec.file)


_HERE = Path(__file__).parent
RAUC = UpdaterKind(RaucSpec, lambda spec, _directory, _version: _rauc(spec.slot_class))
SWUPDATE_KIND = UpdaterKind(
    SwupdateSpec, lambda _spec, _directory, version: _declared(_HERE / "swupdate.yaml", version), recipe=SWUPDATE
)
DECLARED = UpdaterKind(
    DeclaredSpec, lambda spec, directory, version: _declared(directory / spec.file, version), check=_check_declaration
)
