"""Which updater a lab's boards have, and a bundle that somebody else made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hil.errors import ConfigurationError
from hil.lab.model import Lab
from hil.rollout.fleet import Member
from hil.rollout.updaters.protocol import OsAdapter


def adapter_of(lab: Lab, lab_path: Path, *, version: str = "") -> Callable[[Member], OsAdapter]:
    """The adapter that a lab file names under ``os``, for ``Rollout(adapter=...)``.

    ``version``: the bundle's, for a declaration that uses ``{version}``.  ConfigurationError with file and line when
    the declaration is wrong.
    """
    if lab.os.adapter == "declared" and lab.os.file:
        from hil.rollout.updaters.declaration import load_adapter
        from hil.rollout.updaters.declared import declared_over_flight

        return declared_over_flight(load_adapter(lab_path.parent / lab.os.file), version=version)
    if lab.os.adapter == "swupdate":
        from hil.rollout.updaters.swupdate import swupdate_over_flight

        return swupdate_over_flight
    from hil.rollout.updaters.rauc import rauc_over_flight

    return rauc_over_flight


@dataclass(frozen=True)
class BundleFile:
    """A bundle that this project did not build (``hil.rollout.updaters.protocol.BundleFacts``)."""

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
