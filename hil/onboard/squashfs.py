"""The squashfs image at the start of a slot."""

from __future__ import annotations

import hashlib
import struct
from typing import BinaryIO

MAGIC = b"hsqs"
CHUNK = 1 << 20


def image_size(superblock: bytes) -> int:
    """Return bytes of the squashfs image that begins so (mksquashfs pads to 4 KiB); 0 when it is none."""
    if len(superblock) < 48 or not superblock.startswith(MAGIC):
        return 0
    (used,) = struct.unpack_from("<Q", superblock, 40)
    return int(-(-used // 4096) * 4096)


def image_sha256(slot: BinaryIO) -> str:
    """Return the SHA-256 of the image at the start of a slot; empty when there is none, or not all of it."""
    slot.seek(0)
    left = image_size(slot.read(48))
    slot.seek(0)
    digest = hashlib.sha256()
    whole = left > 0
    while left and (block := slot.read(min(CHUNK, left))):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest() if whole and not left else ""
