"""Signed bundles, RAUC's and SWUpdate's: the one to upload, and the bad ones that must be refused or survived."""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from hil.core.command import Progress, silent
from hil.core.files import sha256_of, write_atomic
from hil.core.locks import locked
from hil.core.paths import PACKAGE, cache
from hil.images import planted, rootfs
from hil.images.artefact import BundleFacts
from hil.images.packages import run_tool
from hil.images.pki import Pki, Signer, ensure_pki, sign
from hil.images.recipes import REFERENCE, Recipe
from hil.images.signer import signature_place
from hil.images.swu import MAGIC, members, pack_swu

COMPATIBLE = "orbital-ref-orin"
OTHER_COMPATIBLE = "orbital-ref-nano"

# The image inside is compressed already: compressing it again costs seconds and saves nothing.
_PACKING = "-noI -noId -noD -noF -noX -no-xattrs -all-root -quiet -no-progress"

_INIT_PANICS = "#!/usr/bin/busybox sh\n/usr/bin/busybox echo 'init: this OS image cannot start'\nexit 1\n"
_INIT_HANGS = (
    "#!/usr/bin/busybox sh\n/usr/bin/busybox echo 'init: hanging'\nwhile :; do /usr/bin/busybox sleep 3600; done\n"
)
NODE_PROGRAM = PACKAGE / "onboard/node/__main__.py"
_NODE_FAILS = b'raise SystemExit("node: this build is broken on purpose")\n'

OLDER_VERSION = "0.9.0"
_SUFFIX = {"rauc": "raucb", "swupdate": "swu"}


class BundleKind(StrEnum):
    """Which bundle; everything but ``OS_V2`` is there to be refused or survived."""

    OS_V2 = "os-v2"  # the upload: OS 2.0.0
    TAMPERED_PAYLOAD = "tampered-payload"
    TAMPERED_SIGNATURE = "tampered-signature"
    TRUNCATED = "truncated"
    WRONG_KEY = "wrong-key"  # signed under another CA
    REVOKED = "revoked"  # signed under the right CA, with a certificate that it has revoked
    EXPIRED = "expired"  # likewise, with one that has expired
    OLDER = "older"  # good signature; an OS of an earlier version
    WRONG_HARDWARE = "wrong-hardware"  # another `compatible`
    EMPTY = "empty"
    RANDOM = "random"  # no bundle at all: random bytes
    OTHER_FORMAT = "other-format"  # good signature; a format that the board's updater cannot install
    NO_BOOT = "no-boot"  # good signature; init panics
    HANG = "hang"  # good signature; init hangs, the watchdog bites
    UNHEALTHY = "unhealthy"  # boots and answers SSH, but its node service never comes up
    CONFIRMS_EARLY = "confirms-early"  # OS 2.0.0 with a planted bug (hil.images.planted)
    SERVES_ON = "serves-on"  # likewise, like all that follow
    FORGETS_EPOCH = "forgets-epoch"
    TAKES_OLDER = "takes-older"
    BOOTS_OLD = "boots-old"


@dataclass(frozen=True)
class Bundle(BundleFacts):
    """A bundle file on the host; ``image_sha256`` is what Identity.image_sha256 says once it runs."""

    kind: BundleKind
    image_size: int


@dataclass(frozen=True)
class OsImage:
    """A squashfs root image, ready to be written into a slot or into a bundle."""

    path: Path
    version: str
    sha256: str
    size_bytes: int


@dataclass
class BundleSet:
    """The bundles of one OS in the cache (``directory``); each is made when first asked for."""

    upload: OsImage
    base: Path
    pki: Pki
    progress: Progress = silent
    recipe: Recipe = REFERENCE

    @cached_property
    def directory(self) -> Path:
        bugs = [f"{bug.file} {bug.after}" for bug in planted.BUGS.values()]
        texts = (_PACKING, _INIT_PANICS, _INIT_HANGS, _NODE_FAILS, COMPATIBLE)
        signers = (self.pki.release, self.pki.revoked, self.pki.expired, self.pki.foreign)
        certificates = tuple(each.certificate for each in signers)
        key = rootfs.digest([self.upload.sha256, self.base.name, *texts, *bugs, *certificates])
        return cache() / f"bundles-{key}"

    @property
    def os_v2(self) -> Bundle:
        return self.bundle(BundleKind.OS_V2)

    def bundle(self, kind: BundleKind) -> Bundle:
        """Return the bundle of that kind, made now if it is not in the cache (seconds). BenchError if that fails."""
        facts = self.directory / f"{kind.value}.json"
        if not facts.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            with locked(self.directory / ".lock"):
                if not facts.exists():
                    self._make(kind, facts)
        return Bundle(self._path(kind), kind=kind, **json.loads(facts.read_text()))

    def _path(self, kind: BundleKind) -> Path:
        return self.directory / f"{kind.value}.{_SUFFIX[self.recipe.updater]}"

    def _make(self, kind: BundleKind, facts: Path) -> None:
        self.progress(f"bundle: {kind.value}")
        work = rootfs.fresh(self.directory / f"{kind.value}.part")
        content = work / "content"
        content.mkdir()
        image = content / "rootfs.img"
        out = work / "bundle"
        version = self._fill(kind, image, work)
        compatible = OTHER_COMPATIBLE if kind is BundleKind.WRONG_HARDWARE else COMPATIBLE
        signers = {
            BundleKind.WRONG_KEY: self.pki.foreign,
            BundleKind.REVOKED: self.pki.revoked,
            BundleKind.EXPIRED: self.pki.expired,
        }
        signer = signers.get(kind, self.pki.release)
        odd = kind is BundleKind.OTHER_FORMAT
        if self.recipe.updater == "swupdate":
            handler = "of-another-time" if odd else "raw"
            pack_swu(image, out, compatible=compatible, version=version, signer=signer, handler=handler)
        else:
            form = "verity" if odd else "plain"
            pack(content, out, compatible=compatible, version=version, signer=signer, form=form)
        damage(kind, out)
        entry = {
            "version": version,
            "sha256": sha256_of(out),
            "size_bytes": out.stat().st_size,
            "image_sha256": sha256_of(image),
            "image_size": image.stat().st_size,
        }
        out.rename(self._path(kind))
        write_atomic(facts, json.dumps(entry, indent=1) + "\n")
        shutil.rmtree(work)

    def _fill(self, kind: BundleKind, image: Path, work: Path) -> str:
        """Write the root image that goes into the bundle and return its version."""
        tree = work / "tree"
        match kind:
            case BundleKind.OS_V2:
                image.hardlink_to(self.upload.path)
                return self.upload.version
            case BundleKind.UNHEALTHY:
                version = "2.0.1+unhealthy"
                rootfs.os_tree(self.base, tree, version=version, keyring=self.pki.keyring, recipe=self.recipe)
                # its node never runs: no need of numpy
                rootfs.remove_glob(tree, "usr/lib/python3/dist-packages/*")
                rootfs.put(rootfs.place_on_board(tree, NODE_PROGRAM), _NODE_FAILS, 0o644)
            case _ if kind.value in planted.BUGS:
                version = self.upload.version
                rootfs.os_tree(self.base, tree, version=version, keyring=self.pki.keyring, recipe=self.recipe)
                planted.plant(kind.value, tree)
            case _:
                good = kind in (BundleKind.NO_BOOT, BundleKind.HANG)
                version = f"2.0.1+{kind.value}" if good else self.upload.version
                version = OLDER_VERSION if kind is BundleKind.OLDER else version
                init = _INIT_HANGS if kind is BundleKind.HANG else _INIT_PANICS
                rootfs.tiny_tree(self.base, tree, version=version, init=init)
        rootfs.squash(tree, image)
        return version


def last_upload(recipe: Recipe) -> Path | None:
    """Return the bundle to upload that was made or used last on this machine; None: none was yet."""
    name = f"{BundleKind.OS_V2.value}.{_SUFFIX[recipe.updater]}"
    return max(cache().glob(f"bundles-*/{name}"), key=lambda file: file.parent.stat().st_mtime, default=None)


def last_upload_bytes(recipe: Recipe) -> int | None:
    """Return the size of :func:`last_upload`, B; None: there is none."""
    file = last_upload(recipe)
    return None if file is None else file.stat().st_size


def pack(content: Path, out: Path, *, compatible: str, version: str, signer: Signer, form: str = "plain") -> None:
    """Make a RAUC bundle of ``content/rootfs.img``. BenchError with rauc's words when it refuses.

    Boards install the plain format; ``form="verity"`` needs a device-mapper, which container boards lack.
    """
    manifest = (
        f"[update]\ncompatible={compatible}\nversion={version}\n\n"
        f"[bundle]\nformat={form}\n\n[image.rootfs]\nfilename=rootfs.img\n"
    )
    (content / "manifest.raucm").write_text(manifest)
    argv = ["rauc", f"--cert={signer.certificate}", f"--key={signer.key}", f"--mksquashfs-args={_PACKING}"]
    run_tool([*argv, "bundle", str(content), str(out)])


def damage(kind: BundleKind, bundle: Path) -> None:
    """Spoil a good bundle in the way its kind says; nothing for the kinds that are not damaged."""
    size = bundle.stat().st_size
    match kind:
        case BundleKind.TAMPERED_PAYLOAD:
            start, length = _parts(bundle)[0]
            _flip(bundle, start + length // 2)
        case BundleKind.TAMPERED_SIGNATURE:
            start, length = _parts(bundle)[1]
            _flip(bundle, start + length - 64)  # the signature value is the end of the CMS structure
        case BundleKind.TRUNCATED:
            os.truncate(bundle, size * 6 // 10)
        case BundleKind.EMPTY:
            os.truncate(bundle, 0)
        case BundleKind.RANDOM:
            bundle.write_bytes(random.Random(size).randbytes(size))


def _parts(bundle: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (offset, size) of the root image (RAUC: of the payload around it), and of the signature.

    HarnessError when it is no bundle.
    """
    start, size = signature_place(bundle)
    with bundle.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return (0, start), (start, size)
    return next((at, size) for name, at, size in members(bundle) if name == "rootfs.img"), (start, size)


def _flip(file: Path, offset: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(offset)
        (byte,) = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte ^ 0x01]))


def sign_artefact(path: Path, out: Path | None = None) -> Path:
    """Sign any file (an AI model) with the release key: detached CMS in DER, written to ``out`` or ``<path>.p7s``.

    A board verifies it with ``openssl cms -verify -binary -inform DER -content FILE -CAfile
    /etc/rauc/keyring.pem -purpose any``.  BenchError when openssl refuses.
    """
    out = out or path.with_name(f"{path.name}.p7s")
    sign(path, out, ensure_pki().release)
    return out
