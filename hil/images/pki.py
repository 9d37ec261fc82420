"""The development PKI: made on this machine at first use, kept under ``hil.core.paths.pki()``, never committed.

A release CA that the OS trusts, a release certificate that signs bundles and artefacts, another certificate that the
CA's revocation list names, a foreign CA that nobody trusts (both for the bundles that must be refused), and SSH keys
for the harness and for every board.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hil.core import paths
from hil.core.locks import locked
from hil.images.packages import run_tool

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

LIFETIME_DAYS = 3650
_NO_USAGE = (
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True)
class HostKey:
    """A board's SSH host key."""

    private: Path
    public_line: str  # "ssh-ed25519 AAAA..."


@dataclass(frozen=True)
class Signer:
    """A certificate and its private key, PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Pki:
    """Paths of the keys; private ones are 0600."""

    directory: Path

    @property
    def keyring(self) -> Path:
        """CA certificate the OS trusts, and its revocation list; /etc/rauc/keyring.pem on the board."""
        return self.directory / "keyring.pem"

    @property
    def release(self) -> Signer:
        """Signs what boards accept."""
        return Signer(self.directory / "release.cert.pem", self.directory / "release.key.pem")

    @property
    def revoked(self) -> Signer:
        """Signs under the CA that the OS trusts, with a certificate that is revoked."""
        return Signer(self.directory / "revoked.cert.pem", self.directory / "revoked.key.pem")

    @property
    def foreign(self) -> Signer:
        """Signs under a CA that no board trusts."""
        return Signer(self.directory / "foreign.cert.pem", self.directory / "foreign.key.pem")

    @property
    def ssh_key(self) -> Path:
        """The harness's own SSH key (OpenSSH format); ``.pub`` beside it."""
        return self.directory / "ssh_harness_ed25519"

    @property
    def ssh_public_line(self) -> str:
        return self.ssh_key.with_suffix(".pub").read_text().strip()

    def host_key(self, board: str) -> HostKey:
        """Return the SSH host key of a board, made at first use."""
        private = self.directory / "hosts" / f"{board}_ed25519"
        public = private.with_suffix(".pub")
        if not public.exists():
            with locked(self.directory / ".lock"):
                if not public.exists():
                    _make_ssh_key(private)
        return HostKey(private, public.read_text().strip())


def ensure_pki(directory: Path | None = None) -> Pki:
    """Make whatever is missing (default: in ``hil.core.paths.pki()``) and return where it is."""
    pki = Pki(directory or paths.pki())
    done = pki.directory / "complete"
    if done.exists():
        return pki
    pki.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(pki.directory / ".lock"):
        if not done.exists():
            _make_chain(pki.directory, "release", pki.keyring, revoked="revoked")
            _make_chain(pki.directory, "foreign", pki.directory / "foreign.ca.pem")
            if not _take_ssh_keys(pki.directory.parent, pki.directory):
                _make_ssh_key(pki.ssh_key)
            done.write_text("")
    return pki


def sign(path: Path, out: Path, signer: Signer, *options: str) -> None:
    """Write the detached CMS signature (DER) of a file to ``out``.  BenchError when openssl refuses."""
    argv = ["openssl", "cms", "-sign", "-binary", "-outform", "DER", "-md", "sha256", *options]
    argv += ["-signer", str(signer.certificate), "-inkey", str(signer.key)]
    run_tool([*argv, "-in", str(path), "-out", str(out)])


def _write_private(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _make_ssh_key(private: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    _write_private(private, key.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, s.NoEncryption()))
    public = key.public_key().public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH)
    private.with_suffix(".pub").write_bytes(public + b"\n")


def _take_ssh_keys(earlier: Path, directory: Path) -> bool:
    """Take over the SSH keys of an earlier release's PKI, which boards know; False when there is none."""
    if not (earlier / "complete").exists():
        return False
    for name in ("ssh_harness_ed25519", "ssh_harness_ed25519.pub"):
        shutil.copy2(earlier / name, directory / name)
    if (earlier / "hosts").is_dir():
        shutil.copytree(earlier / "hosts", directory / "hosts", dirs_exist_ok=True)
    return True


def _make_chain(directory: Path, name: str, ca_file: Path, *, revoked: str = "") -> None:
    """Make a CA (its key is not kept: nothing else will be issued) and one signing certificate under it.

    ``revoked``: the name of a second one, which a revocation list beside the CA's certificate names.
    """
    from cryptography.hazmat.primitives import serialization as s

    ca_key, ca = _issue(f"Orbital HIL {name} CA (development)", None)
    trusted = ca.public_bytes(s.Encoding.PEM)
    for each in filter(None, (name, revoked)):
        key, certificate = _issue(f"Orbital HIL {each} signing (development)", (ca_key, ca))
        (directory / f"{each}.cert.pem").write_bytes(certificate.public_bytes(s.Encoding.PEM))
        encoded = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        _write_private(directory / f"{each}.key.pem", encoded)
        if each == revoked:
            trusted += _revocation_list(ca_key, ca, certificate).public_bytes(s.Encoding.PEM)
    ca_file.write_bytes(trusted)


def _revocation_list(
    ca_key: RSAPrivateKey, ca: x509.Certificate, revoked: x509.Certificate
) -> x509.CertificateRevocationList:
    """Make the list of a CA with one certificate; it holds as long as the CA, for nobody renews it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    entry = x509.RevokedCertificateBuilder().serial_number(revoked.serial_number)
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(ca.not_valid_before_utc)
        .next_update(ca.not_valid_after_utc)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_revoked_certificate(entry.revocation_date(ca.not_valid_before_utc).build())
        .sign(ca_key, hashes.SHA256())
    )


def _issue(
    common_name: str, issuer: tuple[RSAPrivateKey, x509.Certificate] | None
) -> tuple[RSAPrivateKey, x509.Certificate]:
    """Make a key with a certificate: self-signed CA without ``issuer``, else a signing certificate."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[1].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=LIFETIME_DAYS))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=issuer is not None,
                key_cert_sign=issuer is None,
                crl_sign=issuer is None,
                **dict.fromkeys(_NO_USAGE, False),
            ),
            critical=True,
        )
    )
    if issuer:
        # RAUC and `openssl cms` check the S/MIME signing purpose.
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usage, critical=False)
    return key, builder.sign(issuer[0] if issuer else key, hashes.SHA256())
