"""Certificates of a bench's flight network: its own CA, whose key stays here, so that keys can be changed and revoked.

A certificate is for TLS or for signing orders, never for both.  What a holder may do is decided by its role
(:mod:`hil.onboard.node.flight`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hil.core.files import write_atomic
from hil.core.locks import locked
from hil.images.pki import SIGNING, certify, pem, revocation_list
from hil.onboard.node.answers import Order
from hil.onboard.node.epoch import Config
from hil.onboard.node.flight import HANDSHAKE_S, ORDER, OWN, SIGNATURE, TRUST, Credentials, Identity, as_client

if TYPE_CHECKING:
    from cryptography import x509

    from hil.images.pki import Key

LIFETIME_DAYS = 365
LEFT_DAYS = 30
"""A certificate with less than so many days left is made anew before it is handed out."""
TLS_USAGES = ("1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1")
"""Extended key usages of a TLS client and of a server."""
GROUND = "ground"
"""Name of the operator that a campaign is."""


@dataclass(frozen=True)
class FlightPki:
    """The CA in a directory of root's; every process of this machine makes what is missing."""

    directory: Path

    @property
    def trust(self) -> Path:
        """Certificate of the CA and its revocation list."""
        return self.directory / TRUST

    def tls(self, role: str, name: str) -> Path:
        """Return certificate and key (PEM) with which somebody takes part, made at first use and near its end."""
        return self._kept(role, name, signs=False)

    def signer(self, role: str, name: str) -> Path:
        """Return certificate and key (PEM) with which somebody signs orders, as :meth:`tls`."""
        return self._kept(role, name, signs=True)

    def issue(self, role: str, name: str, *, signs: bool = False, days: int = LIFETIME_DAYS) -> bytes:
        """Make a new certificate and key (PEM), for TLS, or for signing orders."""
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        return pem(key) + self._certificate(key.public_key(), role, name, [SIGNING] if signs else _usages(role), days)

    def answer(self, request: bytes, role: str, name: str, *, days: int = LIFETIME_DAYS) -> bytes:
        """Return the TLS certificate (PEM) for a certificate request (PEM), whose own claims do not count.

        ValueError when it is none, or is not signed with its key.
        """
        from cryptography import x509

        wanted = x509.load_pem_x509_csr(request)
        if not wanted.is_signature_valid:
            raise ValueError("the certificate request is not signed with its key")
        return self._certificate(wanted.public_key(), role, name, _usages(role), days)

    def revoke(self, certificates: Iterable[bytes]) -> None:
        """Put certificates (PEM, a key beside them does not matter) on the list; what boards have is not changed."""
        from cryptography import x509

        with locked(self.directory / ".lock"):
            serials = {*self._revoked(), *(x509.load_pem_x509_certificate(each).serial_number for each in certificates)}
            write_atomic(self.directory / "revoked.json", json.dumps(sorted(serials)), mode=0o600)
            key, ca = self._ca
            write_atomic(self.trust, self._trusted(key, ca), mode=0o600)

    def _kept(self, role: str, name: str, *, signs: bool) -> Path:
        path = self.directory / role / f"{name}{'.orders' if signs else ''}.pem"
        if not self._good(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked(self.directory / ".lock"):
                if not self._good(path):
                    write_atomic(path, self.issue(role, name, signs=signs), mode=0o600)
        return path

    def _certificate(self, key: object, role: str, name: str, usages: Iterable[str], days: int) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding

        uri = Identity(role, name).uri
        made = certify(f"{role} {name}", key, self._ca, usages=usages, uri=uri, days=days)  # type: ignore[arg-type]
        return made.public_bytes(Encoding.PEM)

    def _good(self, path: Path) -> bool:
        """Return whether a certificate is there, not revoked, and not near its end."""
        from cryptography import x509

        if not path.exists():
            return False
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        left_s = certificate.not_valid_after_utc.timestamp() - time.time()
        return left_s > LEFT_DAYS * 86400 and certificate.serial_number not in self._revoked()

    def _revoked(self) -> list[int]:
        path = self.directory / "revoked.json"
        return list(json.loads(path.read_text())) if path.exists() else []

    def _trusted(self, key: Key, ca: x509.Certificate) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding

        revoked = self._revoked()
        return ca.public_bytes(Encoding.PEM) + revocation_list(key, ca, revoked, number=1 + len(revoked))

    @property
    def _ca(self) -> tuple[Key, x509.Certificate]:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key((self.directory / "ca.key.pem").read_bytes(), None)
        return key, x509.load_pem_x509_certificate(self.trust.read_bytes())  # type: ignore[return-value]

    def make(self) -> None:
        """Make the CA."""
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        ca = certify("Orbital HIL flight CA (development)", key.public_key(), (key, None))
        write_atomic(self.directory / "ca.key.pem", pem(key), mode=0o600)
        write_atomic(self.trust, self._trusted(key, ca), mode=0o600)


def _usages(role: str) -> tuple[str, ...]:
    """Only a board is connected to."""
    return TLS_USAGES if role == "board" else TLS_USAGES[:1]


def flight_pki(disks: Path) -> FlightPki:
    """Return the PKI of the bench that has its disks there, made at first use."""
    pki = FlightPki(disks / "flight")
    if not pki.trust.exists():
        pki.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(pki.directory / ".lock"):
            if not pki.trust.exists():
                pki.make()
    return pki


@dataclass
class Operator:
    """The ground as an operator: it connects with its certificate, and signs its orders.  Thread-safe."""

    trust: Path
    tls: Path
    orders: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _number: int = 0

    @classmethod
    def of(cls, pki: FlightPki, name: str = GROUND) -> Operator:
        """Return the operator of that name, whose certificates are made when they are missing."""
        return cls(pki.trust, pki.tls("operator", name), pki.signer("operator", name))

    @cached_property
    def credentials(self) -> Credentials:
        """What it connects with."""
        return Credentials(self.trust, self.tls)

    def secure(self, sock: socket.socket, board: str, handshake_s: float = HANDSHAKE_S / 2) -> socket.socket:
        """Return the connection as TLS, once ``board`` has shown that it is the one. OSError when it does not."""
        return as_client(sock, self.credentials, board, handshake_s)

    def sign(self, board: str, method: str, path: str, body: bytes) -> dict[str, str]:
        """Return the headers that make a request an order."""
        configuration = ""
        if path == "/cluster/propose":
            configuration = Config.of(0, json.loads(body)["document"]).sha256
        digest = hashlib.sha256(body).hexdigest()
        return self.signed(Order(board, method, path, self._next(), digest, configuration))

    def signed(self, order: Order) -> dict[str, str]:
        """Return the headers of an order as it is."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

        text = order.text.encode()
        key, certificate = self._signer
        options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoCapabilities]
        builder = pkcs7.PKCS7SignatureBuilder().set_data(text).add_signer(certificate, key, SHA256())
        der = builder.sign(Encoding.DER, options)
        return {ORDER: base64.b64encode(text).decode(), SIGNATURE: base64.b64encode(der).decode()}

    def above(self, facts: Mapping[str, object]) -> bool:
        """Number the next order above the one that a refusal names; return whether it names one."""
        number = facts.get("number")
        if type(number) is not int:
            return False
        with self._lock:
            self._number = max(self._number, min(number, int(time.time() * 1e6) + 60_000_000))
        return True

    def _next(self) -> int:
        with self._lock:
            self._number = max(self._number + 1, int(time.time() * 1e6))
            return self._number

    @cached_property
    def _signer(self) -> tuple[Key, x509.Certificate]:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        content = self.orders.read_bytes()
        key = load_pem_private_key(content, None)
        return key, x509.load_pem_x509_certificate(content)  # type: ignore[return-value]


def board_files(pki: FlightPki, board: str) -> dict[str, bytes]:
    """Return the files of a board's flight directory."""
    return {TRUST: pki.trust.read_bytes(), OWN: pki.tls("board", board).read_bytes()}
