"""The steps of an operation on an engineering model: the same file, one node, a container image instead of a slot.

The bundle goes up and is verified there, byte for byte; it stays a file.  Installed and activated is the container
image of the model's file: an engineering model has no slots, so nothing is shown about the updater of the OS.
"""

from __future__ import annotations

import io
import json
import secrets
import shlex
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hil.onboard.node
import hil.workload
from hil.core.files import sha256_of
from hil.core.wait import duration_s
from hil.errors import BenchError, ConfigurationError, DeviceError
from hil.images.artefact import Artefact
from hil.images.bundles import last_upload
from hil.images.recipes import recipe_of
from hil.onboard.node.answers import ContractError, json_object
from hil.operation.engineering_model import EngineeringModel, EngineeringModelSpec, connected
from hil.operation.model import Operation
from hil.text import one_line
from hil.workload.artefacts import PayloadArtefacts
from hil.workload.pod import CONFIGURATION

PROGRAM = "payload.zip"
ANSWER_BYTES = 1 << 20
START_S = 120.0
"""A pod may take so long to start beside what it does; our choice."""
NODE = Path(hil.onboard.node.__file__).parent
WORKLOAD = Path(hil.workload.__file__).parent
_EPOCH = (1980, 1, 1, 0, 0, 0)


class OnModel:
    """An operation on one engineering model; its files are in a folder of their own there."""

    def __init__(
        self,
        operation: Operation,
        spec: EngineeringModelSpec,
        payload: PayloadArtefacts | None,
        tell: Callable[[str], None],
        *,
        folder: str = "",
    ) -> None:
        """``payload``: for operations with the step run."""
        self.operation, self.spec, self.payload = operation, spec, payload
        self.model: EngineeringModel = connected(spec, folder or f"hil-{operation.name}-{secrets.token_hex(4)}", tell)
        self.files = {artefact.name: artefact for artefact in self._files()}
        self._loaded = False

    def _files(self) -> list[Artefact]:
        file = self.operation.bundle_path or last_upload(recipe_of("rauc"))
        if file is None:
            raise ConfigurationError(
                "the reference OS has not been built on this machine yet", remedy="run `hil setup`"
            )
        files = [Artefact.of_file(file, "os")]
        if self.spec.tar is not None:
            files.append(Artefact.of_file(self.spec.tar, "image"))
        if self.payload is not None:
            files += [self.payload.model, self.payload.scene]
        for name, times in Counter([PROGRAM, CONFIGURATION, *(each.name for each in files)]).items():
            if times > 1:
                raise ConfigurationError(
                    f"{self.operation.file}: two files would be {name} on {self.spec.name}",
                    remedy="rename the bundle, or the file of the container image",
                )
        return files

    def upload(self) -> None:
        """Bring all files up, and the program that works on them there."""
        deadline_s = duration_s(self.operation.steps.upload.deadline)
        for name, artefact in self.files.items():
            self.model.uplink(artefact.path, name, deadline_s=deadline_s)
        self._write(PROGRAM, payload_program(), deadline_s)

    def sizes(self, deadline_s: float) -> dict[str, int]:
        """Return the bytes of each of our files as the model lists them; 0: not there."""
        there = self.model.listing(deadline_s=deadline_s)
        return {name: there.get(name, 0) for name in self.files}

    def digests(self, deadline_s: float) -> dict[str, str]:
        """Return the sha256 of each of our files, computed on the model; empty: not there."""
        found = self._job("digests", *self.files, deadline_s=deadline_s).get("files")
        facts = found if isinstance(found, dict) else {}
        return {name: _text(facts.get(name), "sha256") for name in self.files}

    def install(self, deadline_s: float) -> bool:
        """Load the container image, once, where its file came along; whether the model has it."""
        if self.spec.tar is not None and not self._loaded:
            self.model.load_image(self.spec.tar.name, deadline_s=deadline_s)
            self._loaded = True
        return any(_is(self.spec.image.name, name) for name in self.model.images(deadline_s=deadline_s))

    def activate(self, deadline_s: float) -> dict[str, Any]:
        """Run the image once; what it says that it has."""
        return self._job("hello", deadline_s=deadline_s)

    def configure(self, deadline_s: float) -> bool:
        """Bring the configuration up and have the network loaded as it says; whether the model took it."""
        bundle = next(iter(self.files.values()))
        document: dict[str, Any] = {"operation": self.operation.name, "bundle_sha256": bundle.sha256}
        if self.payload is None:
            raise ConfigurationError(f"{self.operation.file}: steps: a model is configured for a payload: add run")
        document |= {"model": self.payload.model.name, "model_sha256": self.payload.model.sha256}
        self._write(CONFIGURATION, json.dumps(document).encode(), deadline_s)
        answer = self._job("configure", deadline_s=deadline_s)
        return {key: answer.get(key) for key in document} == document

    def run(self) -> dict[str, Any]:
        """Run the payload for its time; tiles, seconds, and how many answers differ from earlier ones."""
        seconds = self.operation.running_s
        return self._job("stream", *self._model_and_scene(), str(seconds), deadline_s=seconds + START_S)

    def collect(self, target: Path) -> dict[str, Any]:
        """Have the mask computed, and fetch it to ``target``; what it was computed on. BenchError for other bytes."""
        collect = self.operation.steps.collect
        assert collect is not None
        deadline_s = duration_s(collect.deadline)
        answer = self._job("mask", *self._model_and_scene(), target.name, deadline_s=deadline_s)
        self.model.downlink(target.name, target, limit=collect.size_bytes, deadline_s=deadline_s)
        if (found := sha256_of(target)) != (wanted := _text(answer, "sha256")):
            raise BenchError(f"{self.spec.name}: {target.name} came down with sha256 {found}, not {wanted}")
        return answer

    def _model_and_scene(self) -> tuple[str, str]:
        assert self.payload is not None
        return self.payload.model.name, self.payload.scene.name

    def _write(self, name: str, content: bytes, deadline_s: float) -> None:
        with tempfile.TemporaryDirectory(prefix="hil-model-") as scratch:
            (file := Path(scratch) / name).write_bytes(content)
            self.model.uplink(file, name, deadline_s=deadline_s)

    def _job(self, verb: str, *arguments: str, deadline_s: float) -> dict[str, Any]:
        """Run a job of :mod:`hil.workload.pod` there, and return its answer; DeviceError for an error in it."""
        answer = f"{verb}-{secrets.token_hex(4)}.json"
        self.model.job(shlex.join(["python3", PROGRAM, answer, verb, *arguments]), answer, deadline_s=deadline_s)
        with tempfile.TemporaryDirectory(prefix="hil-model-") as scratch:
            file = Path(scratch) / answer
            self.model.downlink(answer, file, limit=ANSWER_BYTES, deadline_s=deadline_s)
            try:
                document = json_object(file.read_bytes())
            except ContractError as exc:
                raise DeviceError(f"{self.spec.name}: job {verb}: {exc}") from exc
        if "error" in document:
            raise DeviceError(f"{self.spec.name}: job {verb}: {one_line(str(document['error']), 400)}")
        return document

    def clear(self) -> None:
        """Remove what was brought there. BenchError when it stays."""
        self.model.clear(deadline_s=START_S)


def number(answer: dict[str, Any], key: str) -> float:
    """Return a figure of an answer; DeviceError when it is none."""
    figure = answer.get(key)
    if isinstance(figure, bool) or not isinstance(figure, int | float) or not 0 <= figure < 1e15:
        raise DeviceError(f"the engineering model says that {key} is {one_line(repr(figure), 80)}, which is no figure")
    return figure


def payload_program() -> bytes:
    """Return the program for the model: a zip that Python runs, the boards' own code for the network in it."""
    files = {f"hil/onboard/node/{name}.py": NODE / f"{name}.py" for name in ("errors", "infer")}
    files["hil/workload/pod.py"] = WORKLOAD / "pod.py"
    empty = ["hil", "hil/onboard", "hil/onboard/node", "hil/workload"]
    texts = {f"{folder}/__init__.py": "" for folder in empty}
    texts |= {name: file.read_text("utf-8") for name, file in files.items()}
    texts["__main__.py"] = "import sys\nfrom hil.workload.pod import main\nsys.exit(main(*sys.argv[1:]))\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(texts):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), texts[name])
    return out.getvalue()


def _is(wanted: str, image: str) -> bool:
    """Return whether an image is the wanted one; registries are left out, and tags where one of both has none."""
    (name, _, tag), (its_name, _, its_tag) = (each.split("/")[-1].partition(":") for each in (wanted, image))
    return name == its_name and (tag == its_tag or not tag or not its_tag)


def _text(facts: object, key: str) -> str:
    return str(facts.get(key, ""))[:64] if isinstance(facts, dict) else ""
