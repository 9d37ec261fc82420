"""Who signed a bundle, read from its signature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from hil.images.pki import Pki, ensure_pki, sign
from hil.images.signer import SignedBy, signed_by
from hil.images.swu import pack_swu


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("pki"))


def _rauc(folder: Path, pki: Pki) -> Path:
    payload, signature, out = folder / "payload", folder / "payload.sig", folder / "x.raucb"
    payload.write_bytes(b"hsqs" + bytes(5000))
    sign(payload, signature, pki.release)
    content = signature.read_bytes()
    out.write_bytes(payload.read_bytes() + content + len(content).to_bytes(8, "big"))
    return out


def _swu(folder: Path, pki: Pki) -> Path:
    (folder / "rootfs.img").write_bytes(bytes(5000))
    pack_swu(folder / "rootfs.img", folder / "x.swu", compatible="c", version="2.0.0", signer=pki.release)
    return folder / "x.swu"


@pytest.mark.parametrize("bundle", [_rauc, _swu])
def test_the_signer_is_the_subject_and_the_fingerprint_of_the_certificate(
    pki: Pki, tmp_path: Path, bundle: Callable[[Path, Pki], Path]
) -> None:
    certificate = x509.load_pem_x509_certificate(pki.release.certificate.read_bytes())
    assert signed_by(bundle(tmp_path, pki)) == SignedBy(
        "CN=Orbital HIL release signing (development)", certificate.fingerprint(hashes.SHA256()).hex()
    )


@pytest.mark.parametrize("content", [b"", b"short", bytes(100), b"\xff" * 100, b"070701" + bytes(200)])
def test_what_is_no_bundle_has_no_signer(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert signed_by(tmp_path / "x") == SignedBy()
    assert signed_by(tmp_path / "none") == SignedBy()
