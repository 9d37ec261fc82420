"""The development PKI: made on this machine at first use, kept under ``hil.core.paths.pki()``, never committed.

A release CA that the OS trusts, a release certificate that signs bundles and artefacts, another certificate that the
CA's revocation list names and one that has expired, a foreign CA that nobody trusts (all for the bundles that must be
refused), and SSH keys for the harness and for every board.  The flight network's is in :mod:`hil.images.flight_pki`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hil.core import paths
from hil.core.locks import locked
from hil.images.packages import run_tool

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    Key = RSAPrivateKey | EllipticCurvePrivateKey

LIFETIME_DAYS = 3650
EXPIRED_DAYS = -2
"""When the certificate that has expired did so, in days from when it is made."""
SIGNING = "1.3.6.1.5.5.7.3.4"
"""Extended key usage "e-mail protection": RAUC and `openssl cms` check the S/MIME signing purpose."""
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
    def expired(self) -> Signer:
        """Signs under the CA that the OS trusts, with a certificate that has expired."""
        return Signer(self.directory / "expired.cert.pem", self.directory / "expired.key.pem")

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
            _make_chain(pki.directory, "release", pki.keyring, bad=True)
            _make_chain(pki.directory, "foreign", pki.directory / "foreign.ca.pem")
            if not any(_take_ssh_keys(each, pki.directory) for each in _earlier(pki.directory)):
                _make_ssh_key(pki.ssh_key)
            done.write_text("")
    return pki


def sign(path: Path, out: Path, signer: Signer, *options: str) -> None:
    """Write the detached CMS signature (DER) of a file to ``out``.  BenchError when openssl refuses."""
    argv = ["openssl", "cms", "-sign", "-binary", "-outform", "DER", "-md", "sha256", *options]
    argv += ["-signer", str(signer.certificate), "-inkey", str(signer.key)]
    run_tool([*argv, "-in", str(path), "-out", str(out)])


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _make_ssh_key(private: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    write_private(private, key.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, s.NoEncryption()))
    public = key.public_key().public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH)
    private.with_suffix(".pub").write_bytes(public + b"\n")


def _earlier(directory: Path) -> list[Path]:
    """Return where earlier releases had their PKI, the newest first: in numbered directories beside, or above."""
    beside = [each for each in directory.parent.glob("[0-9]") if each.name < directory.name]
    return [*sorted(beside, reverse=True), directory.parent]


def _take_ssh_keys(earlier: Path, directory: Path) -> bool:
    """Take over the SSH keys of an earlier release's PKI, which boards know; False when there is none."""
    if not (earlier / "complete").exists():
        return False
    for name in ("ssh_harness_ed25519", "ssh_harness_ed25519.pub"):
        shutil.copy2(earlier / name, directory / name)
    if (earlier / "hosts").is_dir():
        shutil.copytree(earlier / "hosts", directory / "hosts", dirs_exist_ok=True)
    return True


def _make_chain(directory: Path, name: str, ca_file: Path, *, bad: bool = False) -> None:
    """Make a CA (its key is not kept: nothing else will be issued) and one signing certificate under it.

    ``bad``: two more, one that a revocation list beside the CA's certificate names, and one that has expired.
    """
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import rsa

    ca_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ca = certify(f"Orbital HIL {name} CA (development)", ca_key.public_key(), (ca_key, None))
    trusted = ca.public_bytes(s.Encoding.PEM)
    for each in (name, "revoked", "expired") if bad else (name,):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        days = EXPIRED_DAYS if each == "expired" else LIFETIME_DAYS
        title = f"Orbital HIL {each} signing (development)"
        certificate = certify(title, key.public_key(), (ca_key, ca), usages=[SIGNING], days=days)
        (directory / f"{each}.cert.pem").write_bytes(certificate.public_bytes(s.Encoding.PEM))
        write_private(directory / f"{each}.key.pem", pem(key))
        if each == "revoked":
            trusted += revocation_list(ca_key, ca, [certificate.serial_number])
    ca_file.write_bytes(trusted)


def pem(key: Key) -> bytes:
    """Return a private key in PEM (PKCS 8)."""
    from cryptography.hazmat.primitives import serialization as s

    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())


def revocation_list(ca_key: Key, ca: x509.Certificate, serials: Iterable[int], number: int = 1) -> bytes:
    """Make the list of a CA (PEM); it holds as long as the CA, for boards may be out of reach when it would end."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject)
    builder = builder.last_update(ca.not_valid_before_utc).next_update(ca.not_valid_after_utc)
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(entry.revocation_date(ca.not_valid_before_utc).build())
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def certify(
    title: str,
    key: CertificatePublicKeyTypes,
    issuer: tuple[Key, x509.Certificate | None],
    *,
    usages: Iterable[str] = (),
    uri: str = "",
    days: int = LIFETIME_DAYS,
) -> x509.Certificate:
    """Make a certificate for a public key: the one of a CA when its ``issuer`` has none yet, else for signatures.

    ``usages``: extended ones as OIDs; ``uri``: the subject's alternative name; ``days`` from now, negative: it has
    expired.
    """
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    issuer_key, ca = issuer
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    begin = ca.not_valid_before_utc if ca else now - datetime.timedelta(days=1 - 2 * EXPIRED_DAYS)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(ca.subject if ca else name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=ca is not None,
                key_cert_sign=ca is None,
                crl_sign=ca is None,
                **dict.fromkeys(_NO_USAGE, False),
            ),
            critical=True,
        )
    )
    if extended := [x509.ObjectIdentifier(usage) for usage in usages]:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if uri:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
