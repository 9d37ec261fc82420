"""Everything a virtual board is made of, built once and cached by content hash: ``ensure_images``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.core.command import Progress, silent
from hil.core.files import sha256_of
from hil.core.locks import locked
from hil.core.paths import cache
from hil.errors import BenchError
from hil.images import rootfs
from hil.images.bundles import BundleSet, OsImage
from hil.images.pki import Pki, ensure_pki
from hil.images.recipes import REFERENCE, Recipe

if TYPE_CHECKING:
    from docker import DockerClient

FACTORY_VERSION = "1.0.0"
UPLOAD_VERSION = "2.0.0"
REPOSITORY = "orbital-hil/board"
ENTRYPOINT = '["/usr/bin/python3","-S","-m","hil.onboard.firmware"]'


@dataclass(frozen=True)
class Images:
    """The hardware image, the factory OS and the bundles of one recipe."""

    hardware_image_id: str  # the container engine's image id
    factory: OsImage  # what both slots hold when a board leaves the factory (1.0.0)
    bundles: BundleSet


def ensure_images(client: DockerClient, progress: Progress = silent, *, recipe: Recipe = REFERENCE) -> Images:
    """Build (or find in the cache) the hardware image, the factory OS and the bundle to upload.

    ``recipe`` says which OS: the reference OS with RAUC unless a lab asks for another.
    Raises BenchError when a package cannot be downloaded or a host tool is missing.
    """
    with build_lock():
        pki = ensure_pki()
        base = rootfs.ensure_base(cache(), progress)
        image_id = _ensure_hardware_image(client, base, progress)
        userland = rootfs.ensure_userland(recipe, base, cache(), progress)
        directory = ensure_os(userland, pki, progress, recipe)
        facts = json.loads((directory / "manifest.json").read_text())
        factory = _image(directory, FACTORY_VERSION, facts)
        upload = _image(directory, UPLOAD_VERSION, facts)
        bundles = BundleSet(upload, userland, pki, progress, recipe)
        _ = bundles.os_v2
        for used in (base, userland, directory, bundles.directory):
            os.utime(used)
        rootfs.forget_old(cache())
    return Images(image_id, factory, bundles)


def ensure_os(base: Path, pki: Pki, progress: Progress, recipe: Recipe = REFERENCE) -> Path:
    """Build (or find) the squashed OS in both versions; its directory."""
    extra = [rootfs.RECIPES / recipe.extra / "rootfs", *recipe.sources] if recipe.extra else []
    key = rootfs.digest(
        [
            base.name,
            *rootfs.SQUASH_OPTIONS,
            FACTORY_VERSION,
            UPLOAD_VERSION,
            rootfs.RECIPES / "reference",
            pki.keyring,
            *rootfs.on_board_sources(),
            *extra,
        ]
    )

    def build(scratch: Path) -> object:
        images = {}
        for version in (FACTORY_VERSION, UPLOAD_VERSION):
            progress(f"{recipe.name} OS {version}: building")
            tree, image = scratch / "tree", scratch / f"os-{version}.squashfs"
            rootfs.os_tree(base, tree, version=version, keyring=pki.keyring, recipe=recipe)
            rootfs.squash(tree, image)
            images[version] = {"sha256": sha256_of(image), "size_bytes": image.stat().st_size}
            shutil.rmtree(tree)
        return {"images": images, **json.loads((base / "manifest.json").read_text())}

    return rootfs.cached(cache() / f"os-{key}", build)


def _image(directory: Path, version: str, facts: dict[str, Any]) -> OsImage:
    return OsImage(directory / f"os-{version}.squashfs", version, **facts["images"][version])


def _ensure_hardware_image(client: DockerClient, base: Path, progress: Progress) -> str:
    from docker.errors import APIError, ImageNotFound

    reference = f"{REPOSITORY}:{rootfs.hardware_key(base)}"
    try:
        return str(client.images.get(reference).id)
    except ImageNotFound:
        pass
    tar, key = rootfs.ensure_hardware_tar(base, cache(), progress)
    progress("hardware image: importing into the container engine")
    changes = [f"ENTRYPOINT {ENTRYPOINT}", "ENV PYTHONPATH=/usr/lib/hil", f"LABEL hil.content={key}"]
    try:
        client.api.import_image_from_file(str(tar), repository=REPOSITORY, tag=key, changes=changes)
        image_id = str(client.images.get(reference).id)
        _forget_old_images(client)
        return image_id
    except APIError as exc:
        raise BenchError(f"the container engine refused the hardware image: {exc}") from exc


def _forget_old_images(client: DockerClient, *, keep: int = 4) -> None:
    """Remove all but the last hardware images; one that a container still uses stays."""
    from docker.errors import APIError

    images = sorted(client.images.list(REPOSITORY), key=lambda image: str(image.attrs["Created"]), reverse=True)
    for image in images[keep:]:
        with suppress(APIError):
            client.images.remove(str(image.id))


@contextmanager
def build_lock() -> Iterator[None]:
    """Hold the lock for one build at a time on this machine; a second one waits, then finds everything done."""
    cache().mkdir(parents=True, exist_ok=True)
    with locked(cache() / "build.lock"):
        yield
