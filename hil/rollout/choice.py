"""Which updater a lab's boards have, and a bundle that somebody else made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hil.errors import ConfigurationError
from hil.rollout.adapter import OsAdapter
from hil.rollout.fleet import Member

if TYPE_CHECKING:
    from hil.twin.recipes import Recipe

AdapterName = Literal["rauc", "swupdate", "declared"]


@dataclass(frozen=True)
class OsChoice:
    """What a lab file says under ``os``. ``file``: the declaration, for the adapter ``declared`` and no other.

    ConfigurationError when the two do not fit.
    """

    adapter: AdapterName = "rauc"
    file: Path | None = None

    def __post_init__(self) -> None:
        if (self.adapter == "declared") != (self.file is not None):
            raise ConfigurationError(
                f"os: adapter {self.adapter!r} {'needs a' if self.file is None else 'takes no'} file",
                remedy="write `os: {adapter: declared, file: lab/os/adapters/NAME.yaml}`",
            )

    @property
    def recipe(self) -> Recipe:
        """The OS that container boards run: the one that has this updater."""
        from hil.twin.recipes import REFERENCE, SWUPDATE

        return SWUPDATE if self.adapter == "swupdate" else REFERENCE

    def factory(self, *, version: str = "") -> Callable[[Member], OsAdapter]:
        """For ``Rollout(adapter=...)``.  ``version``: the bundle's, for a declaration that uses ``{version}``.

        ConfigurationError with file and line when the declaration is wrong.
        """
        if self.file is not None:
            from hil.rollout.declared import declared_over_flight
            from hil.rollout.declared_file import load_adapter

            return declared_over_flight(load_adapter(self.file), version=version)
        if self.adapter == "swupdate":
            from hil.rollout.swupdate import swupdate_over_flight

            return swupdate_over_flight
        from hil.rollout.rauc import rauc_over_flight

        return rauc_over_flight


@dataclass(frozen=True)
class BundleFile:
    """A bundle that this project did not build (``hil.rollout.adapter.BundleFacts``)."""

    path: Path
    version: str  # VERSION_ID in the OS's /etc/os-release
    image_sha256: str  # of the root image inside, as the updater and the running OS report it
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, path: Path, *, version: str, image_sha256: str) -> BundleFile:
        """Measure the file. ConfigurationError when it cannot be read."""
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(path, version, image_sha256, digest, path.stat().st_size)
        except OSError as exc:
            raise ConfigurationError(
                f"bundle {path}: {exc.strerror}", remedy="check the path of the bundle"
            ) from exc
