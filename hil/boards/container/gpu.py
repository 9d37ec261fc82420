"""A GPU of this host for container boards, as its CDI description says: device nodes, driver libraries, variables.

``nvidia-ctk cdi generate`` writes the description.  The container engine is not asked to carry it out: Debian 12's
knows no CDI, and any engine would put the driver into the root of the firmware, which the OS on the board does not see.
The container gets the devices, and the files below :data:`hil.onboard.firmware.gpu.PLACE`; its firmware hands both on.
Hooks of the description are not run: what ``ldconfig`` links to a library on this host, it links on the board, too.

Format: https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from hil.errors import ConfigurationError
from hil.onboard.firmware.gpu import PLACE, VARIABLE

_log = logging.getLogger(__name__)

PLACES = ("etc/cdi", "var/run/cdi")
"""Where descriptions are; one in the later directory counts before one of the same device in the earlier."""
NVIDIA = "nvidia.com/gpu"
CUDA = "/opt/cuda"
"""Where the OS of a board with a GPU has what `hil setup --cuda` fetched."""
MOST_BYTES = 4 << 20
REMEDY = "write it anew: `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`"


class _Node(BaseModel):
    path: str
    host_path: str = Field(default="", alias="hostPath")


class _Mount(BaseModel):
    host_path: str = Field(alias="hostPath")
    container_path: str = Field(alias="containerPath")


class _Edits(BaseModel):
    device_nodes: list[_Node] = Field(default=[], alias="deviceNodes")
    mounts: list[_Mount] = []
    env: list[str] = []


class _Device(BaseModel):
    name: str
    edits: _Edits = Field(default=_Edits(), alias="containerEdits")


class _Description(BaseModel):
    kind: str
    devices: list[_Device] = []
    edits: _Edits = Field(default=_Edits(), alias="containerEdits")


@dataclass(frozen=True)
class Gpu:
    """What a board gets for one CDI device, e.g. ``nvidia.com/gpu=0``."""

    name: str
    devices: dict[str, str] = field(default_factory=dict)
    """Device nodes: path on the board to path on this host."""
    files: dict[str, str] = field(default_factory=dict)
    """Files and folders, alike."""
    links: dict[str, str] = field(default_factory=dict)
    """Symbolic links on the board: path to what it names."""
    env: dict[str, str] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """Return what the container is made with, as options of the Docker SDK."""
        from docker.types import Mount

        told = {"devices": [*self.devices], "files": [*self.files], "links": self.links, "env": self.env}
        return {
            "devices": [f"{here}:{there}:rwm" for there, here in self.devices.items()],
            "mounts": [
                Mount(f"{PLACE}{there}", here, type="bind", read_only=True) for there, here in self.files.items()
            ],
            "environment": {VARIABLE: json.dumps(told)},
        }


def described(root: Path = Path("/")) -> dict[str, Path]:
    """Return the CDI devices of a host (``root`` stands for its ``/``) and the file that describes each.

    ConfigurationError when a file is no description.
    """
    return {f"{found.kind}={device.name}": file for file, found in _descriptions(root) for device in found.devices}


def gpu_of(wanted: str, root: Path = Path("/")) -> Gpu | None:
    """Return a board's GPU: ``none``; ``auto`` (all NVIDIA GPUs of this host, None when there is none); or a CDI name.

    A name without a vendor is of an NVIDIA GPU: ``0``.  ConfigurationError when there is no such device, or when its
    description names what is not there; with ``auto`` that is only logged.
    """
    if wanted == "none":
        return None
    if wanted != "auto":
        return _resolved(wanted if "=" in wanted else f"{NVIDIA}={wanted}", root)
    try:
        ours = sorted(name for name in described(root) if name.startswith(f"{NVIDIA}="))
        every = f"{NVIDIA}=all"
        return _resolved(every if every in ours else ours[0], root) if ours else None
    except ConfigurationError as exc:
        _log.warning("boards get no GPU: %s", exc)
        return None


def _resolved(name: str, root: Path) -> Gpu:
    kind, _, device = name.partition("=")
    found = [
        (file, description.edits, each.edits)
        for file, description in _descriptions(root)
        for each in description.devices
        if (description.kind, each.name) == (kind, device)
    ]
    if not found:
        known = ", ".join(sorted(described(root))) or "none"
        where = " and ".join(f"/{place}" for place in PLACES)
        raise ConfigurationError(f"no CDI device {name} in {where}; there: {known}", remedy=REMEDY)
    file, *edits = found[-1]
    gpu = Gpu(name)
    for edit in edits:
        for node in edit.device_nodes:
            gpu.devices[_inside(file, node.path)] = _there(file, node.host_path or node.path, root)
        for mount in edit.mounts:
            gpu.files[_inside(file, mount.container_path)] = _there(file, mount.host_path, root)
        gpu.env.update((name, value) for name, is_set, value in (line.partition("=") for line in edit.env) if is_set)
    gpu.links.update(_links(gpu.files))
    _find_libraries(gpu)
    return gpu


def with_cuda(gpu: Gpu, tree: Path) -> Gpu:
    """Return the GPU with a folder of Python packages that use it: ONNX Runtime and the CUDA libraries."""
    found = Gpu(gpu.name, gpu.devices, {**gpu.files, CUDA: str(tree)}, gpu.links, {**gpu.env, "PYTHONPATH": CUDA})
    folders = sorted({file.parent for file in tree.glob("nvidia/**/*.so*")})
    _find_libraries(found, [f"{CUDA}/{folder.relative_to(tree)}" for folder in folders])
    return found


def _find_libraries(gpu: Gpu, folders: Iterable[str] = ()) -> None:
    """Let the OS find libraries where the description puts them: other distributions have other folders."""
    ours = {str(PurePosixPath(there).parent): None for there in gpu.files if ".so" in PurePosixPath(there).name}
    before = filter(None, gpu.env.get("LD_LIBRARY_PATH", "").split(":"))
    if found := list(dict.fromkeys([*before, *ours, *folders])):
        gpu.env["LD_LIBRARY_PATH"] = ":".join(found)


def _descriptions(root: Path) -> Iterator[tuple[Path, _Description]]:
    for place in PLACES:
        for file in sorted((root / place).glob("*")):
            if file.suffix not in (".json", ".yaml"):
                continue
            try:
                with file.open("rb") as stream:
                    content = stream.read(MOST_BYTES + 1)
                if len(content) > MOST_BYTES:
                    raise ValueError(f"is larger than {MOST_BYTES} bytes")
                loader = json.loads if file.suffix == ".json" else yaml.safe_load
                yield file, _Description.model_validate(loader(content))
            except (OSError, ValueError, ValidationError, yaml.YAMLError, RecursionError) as exc:
                raise ConfigurationError(f"{file}: no CDI description: {str(exc)[:300]}", remedy=REMEDY) from exc


def _inside(file: Path, path: str) -> str:
    """Return a path on the board, which cannot lead out of its root."""
    pure = PurePosixPath(path)
    if not pure.is_absolute() or ".." in pure.parts or len(pure.parts) < 2:
        raise ConfigurationError(f"{file}: {path[:200]!r} is no absolute path in a container", remedy=REMEDY)
    return str(pure)


def _there(file: Path, path: str, root: Path) -> str:
    """Return a path of this host that exists."""
    here = root / path.lstrip("/")
    if not here.exists():
        raise ConfigurationError(f"{file}: names {path[:200]}, which is not there", remedy=REMEDY)
    return str(here)


def _links(files: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (path on the board, file name) of the links that stand beside each library on this host."""
    names: dict[Path, Sequence[Path]] = {}
    for there, here in files.items():
        library = Path(here)
        if ".so" not in library.name or library.is_dir():
            continue
        beside = names.setdefault(library.parent, [link for link in library.parent.glob("*.so*") if link.is_symlink()])
        for link in beside:
            if link.resolve() == library.resolve():
                yield str(PurePosixPath(there).parent / link.name), PurePosixPath(there).name
