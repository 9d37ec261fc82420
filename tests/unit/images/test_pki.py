"""The development PKI: what a board that trusts its keyring accepts, and what stays from one release to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.images.pki import Pki, Signer, ensure_pki, sign
from hil.onboard.node.errors import ApiError
from hil.onboard.node.store import cms_check


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Made beside that of an earlier release."""
    earlier = tmp_path_factory.mktemp("pki")
    (earlier / "complete").touch()
    (earlier / "ssh_harness_ed25519").write_text("the key that boards know")
    (earlier / "ssh_harness_ed25519.pub").write_text("ssh-ed25519 AAAA")
    (earlier / "hosts").mkdir()
    (earlier / "hosts" / "a1_ed25519").write_text("a board's")
    return ensure_pki(earlier / "2")


def check(pki: Pki, signer: Signer, keyring: Path, scratch: Path) -> None:
    model, signature = scratch / "model", scratch / "model.p7s"
    model.write_bytes(b"weights")
    sign(model, signature, signer)
    cms_check(keyring)(model, signature.read_bytes())


def test_a_signature_under_a_revoked_certificate_is_refused(pki: Pki, tmp_path: Path) -> None:
    check(pki, pki.release, pki.keyring, tmp_path)
    with pytest.raises(ApiError, match="certificate revoked"):
        check(pki, pki.revoked, pki.keyring, tmp_path)
    with pytest.raises(ApiError, match="not valid"):
        check(pki, pki.foreign, pki.keyring, tmp_path)


def test_a_keyring_without_a_revocation_list_asks_for_none(pki: Pki, tmp_path: Path) -> None:
    keyring = tmp_path / "keyring.pem"
    keyring.write_bytes(pki.keyring.read_bytes().partition(b"-----BEGIN X509 CRL")[0])
    check(pki, pki.revoked, keyring, tmp_path)


def test_ssh_keys_that_boards_know_are_taken_over(pki: Pki) -> None:
    assert pki.ssh_key.read_text() == "the key that boards know"
    assert (pki.directory / "hosts" / "a1_ed25519").read_text() == "a board's"
    assert pki.ssh_public_line == "ssh-ed25519 AAAA"
