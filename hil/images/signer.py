"""Who signed a bundle, as its signature says; whether that is true is for the board to find out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hil.errors import HarnessError
from hil.images.swu import MAGIC, members

LARGEST_SIGNATURE = 1 << 20
"""Bytes; a manifest of a RAUC bundle may be inside of its signature."""


@dataclass(frozen=True)
class SignedBy:
    """The certificate that comes with a signature."""

    subject: str = ""
    sha256: str = ""
    """Its fingerprint: digest of the certificate in DER."""


def signed_by(bundle: Path) -> SignedBy:
    """Return the signer that a RAUC or SWUpdate bundle names; blank for another format or a damaged bundle."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import pkcs7

    try:
        start, size = signature_place(bundle)
        if size > LARGEST_SIGNATURE:
            return SignedBy()
        with bundle.open("rb") as file:
            file.seek(start)
            certificates = pkcs7.load_der_pkcs7_certificates(file.read(size))
    except (OSError, ValueError, KeyError, HarnessError):  # also what cryptography does not support
        return SignedBy()
    issuers = {certificate.issuer for certificate in certificates if certificate.issuer != certificate.subject}
    for certificate in certificates:
        if certificate.subject not in issuers:
            return SignedBy(certificate.subject.rfc4514_string(), certificate.fingerprint(hashes.SHA256()).hex())
    return SignedBy()


def is_plain(bundle: Path) -> bool:
    """Return whether a file is a RAUC bundle of the plain format. HarnessError when it is no bundle.

    Bundles of the other formats have their manifest inside of the signature.
    """
    start, size = signature_place(bundle)
    with bundle.open("rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            return False
        file.seek(start)
        return b"[update]" not in file.read(min(size, LARGEST_SIGNATURE))


def signature_place(bundle: Path) -> tuple[int, int]:
    """Return (offset, size) of a bundle's signature (CMS in DER).

    A SWUpdate bundle is an archive that has it as a file.  A RAUC bundle ends with it and its size as 8 bytes, big
    endian.  HarnessError when it is neither.
    """
    with bundle.open("rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            places = {name: (at, size) for name, at, size in members(bundle)}
            if "sw-description.sig" not in places:
                raise HarnessError(f"{bundle}: it is not signed")
            return places["sw-description.sig"]
        size = file.seek(0, os.SEEK_END) - 8
        if size <= 0:
            raise HarnessError(f"{bundle}: not a bundle ({size + 8} bytes)")
        file.seek(size)
        signature = int.from_bytes(file.read(), "big")
    if not 0 < signature < size:
        raise HarnessError(f"{bundle}: not a bundle (signature of {signature} bytes)")
    return size - signature, signature
