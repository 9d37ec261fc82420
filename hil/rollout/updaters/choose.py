"""Which updater a lab's boards have, and a bundle that somebody else made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.core import kinds
from hil.core.files import sha256_of
from hil.errors import ConfigurationError
from hil.images.artefact import BundleFacts
from hil.lab.model import Lab
from hil.rollout.fleet import Member
from hil.rollout.updaters.kinds import UpdaterKind
from hil.rollout.updaters.protocol import OsAdapter


def adapter_of(lab: Lab, *, version: str = "") -> Callable[[Member], OsAdapter]:
    """Return the adapter that a lab file names under ``os``, for ``Rollout(adapter=...)``.

    ``version``: the bundle's, for a declaration that uses ``{version}``.  ConfigurationError with file and line when
    the declaration is wrong.
    """
    kind: UpdaterKind[Any] = kinds.load(kinds.UPDATERS, lab.os.adapter)
    return kind.adapter(lab.os, lab.file.parent, version)


@dataclass(frozen=True)
class BundleFile(BundleFacts):
    """A bundle that this project did not build."""

    @classmethod
    def of(cls, path: Path, *, version: str, image_sha256: str) -> BundleFile:
        """Measure the file. ConfigurationError when it cannot be read."""
        try:
            return cls(path, version, sha256_of(path), path.stat().st_size, image_sha256)
        except OSError as exc:
            raise ConfigurationError(
                f"bundle {path}: {exc.strerror}", remedy="check the path of the bundle"
            ) from exc
