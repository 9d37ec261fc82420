"""Detached CMS signatures, checked with the ``openssl`` command: Python's standard library has no signatures."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hil.onboard.node.errors import ApiError

CHECK_S = 60.0
CRL_MARK = b"BEGIN X509 CRL"


def verify(content: Path, signature: bytes, keyring: Path, *, purpose: str = "any", signer: Path | None = None) -> None:
    """Check the signature (CMS, DER) of a file against the certificates in ``keyring``; ApiError 422 with the reason.

    Where the keyring has a revocation list, a revoked certificate is refused.  ``purpose``: of the signer's
    certificate, as openssl names it.  The certificate is written to ``signer``.
    """
    argv = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-content", str(content)]
    argv += ["-CAfile", str(keyring), "-no-CApath", "-no-CAstore", "-purpose", purpose, "-out", "/dev/null"]
    if has_revocation_list(keyring):
        argv.append("-crl_check_all")
    if signer is not None:
        argv += ["-signer", str(signer)]
    _openssl(argv, signature, "the signature")


def has_revocation_list(keyring: Path) -> bool:
    """Return whether there is one beside the certificates; no when the file cannot be read, as openssl will say."""
    try:
        return CRL_MARK in keyring.read_bytes()
    except OSError:
        return False


def subject_names(certificate: Path) -> list[str]:
    """Return the URIs among the subject's alternative names of a certificate (PEM). ApiError 422."""
    argv = ["openssl", "x509", "-in", str(certificate), "-noout", "-ext", "subjectAltName"]
    said = _openssl(argv, b"", "the signer's certificate")
    return [word.removeprefix("URI:").rstrip(",") for word in said.split() if word.startswith("URI:")]


def _openssl(argv: list[str], stdin: bytes, what: str) -> str:
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=CHECK_S)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ApiError(422, f"{what} could not be checked: {exc}") from exc
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ApiError(422, f"{what} is not valid: {lines[-1] if lines else 'openssl refused it'}")
    return done.stdout.decode(errors="replace")
