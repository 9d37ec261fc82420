"""``hil setup``: everything the virtual lab needs, made once.

Host packages, a Docker Engine, images, bundles and the payload, in this order; each step asks first whether it
is done.  A stamp remembers what the last set-up was made from and what it made, so that the next one only
compares and starts nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.core import paths
from hil.core.command import Progress, StepView
from hil.core.files import write_atomic
from hil.core.locks import is_locked, locked
from hil.errors import ConfigurationError, HilError
from hil.host import packages, shared
from hil.host.doctor import this_host
from hil.host.engine import engine
from hil.host.engine.dockerd import EngineFiles, get

if TYPE_CHECKING:
    from docker import DockerClient

INPUTS = ("images", "onboard", "workload", "links/engines/native", "host/packages.toml")
"""What images, bundles, payload and relay are made from, relative to the package."""
LOCK_DEADLINE_S = 900.0
FATAL = ("root", "clock", "kernel-network", "kernel-filesystems", "cgroups", "disk")
"""Checks of ``hil doctor`` that no package can mend: set-up stops before it changes anything."""


@dataclass(frozen=True)
class Built:
    """Files that must be there for the set-up to be complete, and the board image's id in the engine."""

    files: tuple[Path, ...]
    image: str = ""


class Builders:
    """The build functions of other packages, imported when needed; tests put their own here."""

    def images(self, client: DockerClient, progress: Progress) -> Built:
        from hil.images.bundles import BundleKind
        from hil.images.images import ensure_images
        from hil.images.pki import ensure_pki

        images = ensure_images(client, progress)
        bundles = [images.bundles.bundle(kind).path for kind in BundleKind]
        return Built((images.factory.path, ensure_pki().keyring, *bundles), images.hardware_image_id)

    def payload(self, progress: Progress) -> Built:
        from hil.workload.artefacts import ensure_artefacts

        artefacts = ensure_artefacts(progress)
        return Built((artefacts.model.path, artefacts.scene.path, artefacts.golden))

    def relay(self) -> Built:
        from hil.links.engines.relay import compile_preload, compile_relay

        return Built((compile_relay(), compile_preload()))


@dataclass(frozen=True)
class SetupResult:
    """The steps that :func:`setup` took, and its result."""

    did: tuple[str, ...]
    """Names of the steps that had something to do; empty when all was there."""
    seconds: float
    image: str
    """Id of the hardware image in the container engine."""


def setup(view: StepView, builders: Builders | None = None) -> SetupResult:
    """Make what is missing.  Safe to call at any time and by two processes at once.

    ConfigurationError when this host cannot run the virtual lab (one page says what, why and what works);
    BenchError when a download, apt or the container engine fails.
    """
    start = time.monotonic()
    packages_missing = packages.missing()
    builders = builders or Builders()
    if shared.missing():
        with _step(view, "several users", []) as done:
            try:
                with _alone(view):
                    if shared.missing():
                        shared.make()
                done(f"group {paths.GROUP} shares the leases of this machine")
            except (HilError, OSError) as exc:  # one user can do without
                done(f"not set up: {exc}")
    reason = "packages" if packages_missing else stale()
    if not reason:
        return SetupResult((), time.monotonic() - start, _stamp().get("image", ""))
    require_capable_host()
    did: list[str] = []
    inputs = fingerprint()  # first: a source that changes meanwhile makes the next set-up look again
    with _alone(view), ExitStack() as stack:
        if packages_missing:
            with _step(view, "host packages", did) as done:
                done(f"installed {', '.join(packages.install(view.say))}")
        with _step(view, "container engine", did) as done:
            client = stack.enter_context(engine.engine())
            found = engine.find()
            done(f"Docker {found.version} ({'ours' if found.ours else 'yours'})" if found else "")
        with _step(view, "images and bundles", did) as done:
            images = builders.images(client, view.say)
            done(f"board image {images.image.removeprefix('sha256:')[:12]}")
        with _step(view, "payload", did) as done:
            payload = builders.payload(view.say)
            done("model and scene")
        with _step(view, "link box", did) as done:
            relay = builders.relay()
            done("relay compiled")
        files = [*images.files, *payload.files, *relay.files]
        _write_stamp(inputs, images.image, files, found.url if found else "")
    return SetupResult(tuple(did), time.monotonic() - start, images.image)


def fetch_cuda(view: StepView) -> None:
    """Make ONNX Runtime with CUDA ready for container boards with a GPU. BenchError when it cannot be downloaded."""
    from hil.images.images import build_lock
    from hil.images.rootfs import ensure_cuda

    with _step(view, "ONNX Runtime with CUDA", []) as done, build_lock():
        done(str(ensure_cuda(paths.cache(), view.say).parent.name))


def stale() -> str:
    """Return why set-up has something to build, in a few words; empty when nothing.  Starts nothing, reads little."""
    stamp = _stamp()
    if not stamp:
        return "set-up has not run yet"
    if stamp.get("inputs") != fingerprint():
        return "the sources of images or payload changed"
    for path, size in stamp.get("files", {}).items():
        if not Path(path).is_file() or Path(path).stat().st_size != size:
            return f"{path} is missing or not whole"
    if not image_present(stamp.get("image", ""), stamp.get("engine", "")):
        return "the board image is no longer in the container engine"
    return ""


def was_done() -> bool:
    """Return whether a set-up was completed here before, even if it is out of date."""
    return bool(_stamp())


def require_capable_host() -> None:
    """Raise ConfigurationError, with the doctor's words, when something is missing that set-up cannot mend."""
    bad = [c for c in this_host.diagnose() if c.status == "fail" and (c.id in FATAL or c.scope == "all")]
    if not bad:
        return
    lines = [f"  {c.id}: {c.found}\n    why it matters: {c.why}\n    remedy: {c.remedy}" for c in bad]
    without = "nothing" if any(c.scope == "all" for c in bad) else this_host.FAST_ONLY
    raise ConfigurationError(
        "the virtual lab cannot run on this host:\n" + "\n".join(lines),
        remedy=f"mend the above; `hil doctor` shows everything. Until then: {without}",
    )


def fingerprint(root: Path = paths.PACKAGE) -> str:
    """Return the hash of all sources of images and payload (a few hundred kB)."""
    total = hashlib.sha256(f"{sys.version_info[:2]} {os.uname().machine}".encode())
    for name in INPUTS:
        base = root / name
        for path in sorted(base.rglob("*")) if base.is_dir() else [base]:
            if path.is_file() and "__pycache__" not in path.parts:
                total.update(f"\0{path.relative_to(root)}\0".encode())
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def image_present(image: str, url: str) -> bool:
    """Return whether the container engine holds the image; asks its disk when it is ours and not running."""
    files = EngineFiles.default()
    if not image:
        return False
    if url == files.url:
        digest = image.removeprefix("sha256:")
        return any(files.data.glob(f"image/*/imagedb/content/sha256/{digest}"))
    return bool(get(Path(url.removeprefix("unix://")), f"/images/{image}/json", 10.0))


def _stamp_path() -> Path:
    return paths.home() / "setup.json"


def _stamp() -> dict[str, Any]:
    try:
        value = json.loads(_stamp_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_stamp(inputs: str, image: str, files: list[Path], url: str) -> None:
    stamp = {"inputs": inputs, "image": image, "engine": url, "files": {str(f): f.stat().st_size for f in files}}
    write_atomic(_stamp_path(), json.dumps(stamp, indent=1) + "\n")


@contextmanager
def _step(view: StepView, name: str, did: list[str]) -> Iterator[Callable[[str], None]]:
    view.begin(name)
    start = time.monotonic()
    summary = [""]
    yield lambda text: summary.__setitem__(0, text)
    did.append(name)
    view.end(summary[0], time.monotonic() - start)


@contextmanager
def _alone(view: StepView) -> Iterator[None]:
    """Hold the lock for one set-up at a time; a second one waits, then finds everything done."""
    lock = paths.home() / "setup.lock"
    try:
        paths.home().mkdir(parents=True, exist_ok=True)
        lock.touch(0o600)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot write {exc.filename}: {exc.strerror}", remedy="run as root, or set HIL_HOME"
        ) from exc
    if is_locked(lock):
        view.say("another set-up is at work; waiting for it")
    with locked(lock, deadline_s=LOCK_DEADLINE_S, what="another `hil setup` to end"):
        yield


def is_running() -> bool:
    """Return whether a set-up is running on this host (it may have a package guard in place)."""
    return is_locked(paths.home() / "setup.lock")
