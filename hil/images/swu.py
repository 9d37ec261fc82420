"""SWUpdate bundles: a cpio archive of ``sw-description``, its CMS signature and the root image.

The description is signed, and it holds the SHA-256 of the image: one signature covers all of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import BinaryIO

from hil.core.files import sha256_of
from hil.errors import HarnessError
from hil.images.pki import Signer, sign

_DESCRIPTION = Template(Path(__file__).with_name("sw-description.in").read_text(encoding="utf-8"))
"""``sw-description`` (libconfig): one image, into slot A or B as the board selects."""
HEADER_BYTES = 110
MAGIC = b"070701"
TRAILER = "TRAILER!!!"


def pack_swu(image: Path, out: Path, *, compatible: str, version: str, signer: Signer, handler: str = "raw") -> None:
    """Make a signed bundle with ``image`` for either slot. BenchError with openssl's words when it refuses.

    ``handler`` is SWUpdate's way of writing the image; one that the board does not have makes a good bundle of a
    format it cannot install.
    """
    description = out.with_name("sw-description")
    facts = {"sha256": sha256_of(image), "compatible": compatible, "version": version, "handler": handler}
    description.write_text(_DESCRIPTION.substitute(facts))
    signature = out.with_name("sw-description.sig")
    sign(description, signature, signer, "-nosmimecap")
    members = [("sw-description", description), ("sw-description.sig", signature), ("rootfs.img", image)]
    with out.open("wb") as archive:
        for number, (name, path) in enumerate(members, start=1):
            with path.open("rb") as content:
                _add(archive, number, name, content, path.stat().st_size)
        _add(archive, 0, TRAILER, None, 0)
        archive.write(bytes(-archive.tell() % 512))
    description.unlink()
    signature.unlink()


def _add(archive: BinaryIO, number: int, name: str, content: BinaryIO | None, size: int) -> None:
    """Append one member in the "new ASCII" format of cpio (magic 070701): headers and contents padded to 4 bytes."""
    mode = 0o100644 if content else 0
    fields = (number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name) + 1, 0)
    archive.write(MAGIC + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0")
    archive.write(bytes(-archive.tell() % 4))
    while content and (chunk := content.read(1 << 20)):
        archive.write(chunk)
    archive.write(bytes(-archive.tell() % 4))


def members(bundle: Path) -> Iterator[tuple[str, int, int]]:
    """Yield (name, offset of its content, size) of every file in a bundle. HarnessError when it is no cpio archive."""
    with bundle.open("rb") as archive:
        while True:
            header = archive.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES or header[:6] != MAGIC:
                raise HarnessError(f"{bundle}: not a bundle: no cpio header at byte {archive.tell()}")
            size, name_size = int(header[54:62], 16), int(header[94:102], 16)
            name = archive.read(name_size).rstrip(b"\0").decode()
            if name == TRAILER:
                return
            start = archive.tell() + -archive.tell() % 4
            yield name, start, size
            archive.seek(start + size + -(start + size) % 4, os.SEEK_SET)
