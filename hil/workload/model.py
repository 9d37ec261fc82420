"""The cloud-detection network as one signed file.

``ukis-csmask`` 1.0.0 (DLR, Apache-2.0): a U-Net with an EfficientNet-b4 encoder, four bands, three classes
(background, cloud, cloud shadow).  Input is reflectance, normalised by the mean and standard deviation that come
with it (``mask.py`` of the wheel); output is the class with the highest score.  The wheel blends overlapping tiles;
here tiles do not overlap, on the boards and on the ground alike.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from hil.core.files import replacing
from hil.errors import BenchError

WHEEL = "ukis-csmask==1.0.0"
WHEEL_SHA256 = "898d6efe59b3908ec92aabad3f61a56394ff81d997a2ebe5675732503a18d1f1"
NETWORK = "ukis_csmask/model_4b_l1c.onnx"
CARD = "ukis_csmask/model_4b_l1c.json"
FORMAT = 1
"""Raised when :func:`build` writes something else."""
SCALE = 10_000
"""Scenes hold reflectance x 10 000 as whole numbers."""
CLASSES = ("background", "cloud", "cloud shadow")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build(wheel: Path, target: Path) -> None:
    """Write the model artefact: a zip without compression and without dates, so that it is the same everywhere."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            original = json.loads(archive.read(CARD))
            weights = archive.read(NETWORK)
        data = original["data"]
        card = {
            "input": "input",
            "tile": data["target_size"][0],
            "bands": data["dataset_statistics"]["band_names"],
            "scale": SCALE,
            "mean": data["dataset_statistics"]["img"][0],
            "std": data["dataset_statistics"]["img"][1],
            "classes": list(CLASSES),
            "version": original["model"]["version"],
            "origin": f"{WHEEL} (DLR, Apache-2.0)",
        }
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as exc:
        raise BenchError(f"{wheel}: not the expected package: {exc!r}", remedy="delete it and try again") from exc
    with replacing(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as out:
        for name, content in (("model.json", json.dumps(card, indent=1).encode()), ("model.onnx", weights)):
            out.writestr(zipfile.ZipInfo(name, _EPOCH), content)
