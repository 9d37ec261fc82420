"""Who may talk to a node: mutual TLS, roles by certificate, signed orders.

A certificate names its holder by a URI as SPIFFE has them, ``spiffe://orbital-hil/ROLE/NAME``.  What a role may ask is
in :meth:`hil.onboard.node.routes.Api.routes`.  A request that changes a cluster is an *order* besides: it carries a CMS
signature over what is ordered, of which board, and a number that no order before it had.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.onboard.node import state
from hil.onboard.node.answers import ContractError, Order, Signed, json_object, read
from hil.onboard.node.client import Connect
from hil.onboard.node.epoch import Config
from hil.onboard.node.errors import ApiError
from hil.onboard.node.signature import subject_names, verify

TRUST, OWN = "ca.pem", "identity.pem"
"""Files of a board: the CA's certificate with its revocation list; its own certificate with the private key."""
DOMAIN = "orbital-hil"
ROLES = ("operator", "tenant", "guest", "board")
HANDSHAKE_S = 3.0
"""A whole handshake may last so long for the node, and half as long for who connects."""
ORDER_S = 600.0
"""An order is so old at most, and so far ahead of the board's clock."""
ORDER, SIGNATURE = "Hil-Order", "Hil-Signature"
"""Headers of a signed request, both in base64."""
CHECKS_AT_ONCE = 2
"""Signatures that are checked at the same time; each is a process."""
REMEMBERED = 64
_NAME = re.compile(rf"spiffe://{DOMAIN}/({'|'.join(ROLES)})/([A-Za-z0-9][A-Za-z0-9._-]{{0,63}})")


@dataclass(frozen=True)
class Identity:
    """Whom a certificate names, and until when (s since 1970)."""

    role: str
    name: str
    until_s: float = field(default=float("inf"), compare=False)

    @property
    def uri(self) -> str:
        return f"spiffe://{DOMAIN}/{self}"

    def __str__(self) -> str:
        return f"{self.role}/{self.name}"

    @classmethod
    def among(cls, uris: Iterable[str], until_s: float = float("inf")) -> Identity:
        """Return whom the URIs of a certificate name; ApiError 403 when that is nobody, or more than one."""
        found = [match for uri in uris if (match := _NAME.fullmatch(uri))]
        if len(found) != 1:
            raise ApiError(403, f"the certificate names nobody of {DOMAIN}")
        return cls(found[0][1], found[0][2], until_s)

    @classmethod
    def of(cls, sock: socket.socket) -> Identity:
        """Return who is at the other end of a TLS connection; ApiError 403."""
        certificate: Mapping[str, Any] = (sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None) or {}
        uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
        return cls.among(uris, ssl.cert_time_to_seconds(certificate["notAfter"]) if uris else 0.0)


class Credentials:
    """Certificates for TLS, read again when their files change.  Thread-safe."""

    def __init__(self, trust: Path, own: Path) -> None:
        """``trust``: certificate of the CA and its revocation list; ``own``: certificate and private key (PEM).

        OSError when they cannot be read.
        """
        self.trust, self._own = trust, own
        self._lock = threading.Lock()
        self._stamp: object = None
        self.changes = 0
        """How often they were read; who connected before the last time has to connect again."""
        self._server, self._client = self._read()

    def server(self) -> ssl.SSLContext:
        """Return what a listening side uses."""
        self.refresh()
        return self._server

    def client(self) -> ssl.SSLContext:
        """Return what a connecting side uses; the name of the other one is checked by :func:`as_client`."""
        self.refresh()
        return self._client

    def refresh(self) -> int:
        """Read the files when they changed, and return how often that was; damaged ones leave everything as it is."""
        with self._lock:
            try:
                if self._stamped() != self._stamp:
                    self._server, self._client = self._read()
            except OSError as exc:
                print(f"node service: certificates: {exc}; the old ones stay in use", file=sys.stderr, flush=True)
            return self.changes

    def _stamped(self) -> object:
        found = [path.stat() for path in (self.trust, self._own)]
        return [(each.st_ino, each.st_mtime_ns, each.st_size) for each in found]

    def _read(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        self._stamp = self._stamped()
        contexts = []
        for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
            context = ssl.SSLContext(protocol)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.check_hostname = False
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
            context.load_verify_locations(self.trust)
            context.load_cert_chain(self._own)
            contexts.append(context)
        contexts[0].num_tickets = 0  # a connection lasts; and nothing arrives on one that only sends
        self.changes += 1
        return contexts[0], contexts[1]


def as_client(
    sock: socket.socket, credentials: Credentials, board: str, handshake_s: float = HANDSHAKE_S / 2
) -> ssl.SSLSocket:
    """Return the connection as TLS once ``board`` has shown its certificate; ``sock`` is closed when it does not.

    OSError also when somebody else answers there.  An empty ``board`` is any.
    """
    try:
        sock.settimeout(handshake_s)
        tls = credentials.client().wrap_socket(sock)
    except BaseException:
        sock.close()
        raise
    try:
        found = Identity.of(tls)
        if found.role != "board" or found.name != (board or found.name):
            raise ApiError(403, f"{found} answers for board {board}")
    except ApiError as exc:
        tls.close()
        raise ssl.SSLCertVerificationError(exc.message) from exc
    return tls


def secured(connector: Connect, credentials: Credentials, name_of: Callable[[str], str]) -> Connect:
    """Return ``connector`` with TLS; ``name_of`` says which board has an address, or gives the address back."""

    def connect(host: str, port: int, timeout_s: float) -> socket.socket:
        name = name_of(host)
        return as_client(connector(host, port, timeout_s), credentials, "" if name == host else name)

    return connect


@dataclass(frozen=True)
class _Numbers:
    """The number of the last order by signer, as on disk."""

    last: dict[str, int] = field(default_factory=dict)


class Gate:
    """What a node lets in, for whom, and which orders it has followed already."""

    def __init__(
        self, board: str, credentials: Credentials, numbers: Path, *, clock: Callable[[], float] = time.time
    ) -> None:
        """``numbers``: file of the last order's number, by signer.  ``clock``: seconds since 1970."""
        self._board = board
        self.credentials = credentials
        self._file = numbers
        self._clock = clock
        self._lock = threading.Lock()
        self._checking = threading.BoundedSemaphore(CHECKS_AT_ONCE)
        self._good: OrderedDict[str, Identity] = OrderedDict()
        self._named: tuple[bytes, Identity] = (b"", Identity("", ""))
        """The last signer's certificate, and whom it names: most orders are of one signer."""
        try:
            self._last = read(_Numbers, state.load(numbers), numbers.name).last
        except ContractError as exc:
            state.set_aside(numbers, exc)
            self._last = {}  # an old order is refused by its age all the same

    def admit(self, sock: socket.socket) -> tuple[ssl.SSLSocket, Identity, int]:
        """Return an accepted connection as TLS, whose it is, and the ``changes`` that its certificate was checked with.

        OSError or ApiError without a good certificate.
        """
        sock.settimeout(HANDSHAKE_S)
        changes = self.credentials.refresh()  # before the handshake: what is revoked during it counts
        tls = self.credentials.server().wrap_socket(sock, server_side=True)
        try:
            return tls, Identity.of(tls), changes
        except ApiError:
            tls.close()
            raise

    def still(self, identity: Identity, changes: int) -> bool:
        """Return whether a certificate that was good at the handshake is so now; ``changes`` as of :meth:`admit`."""
        return self.credentials.refresh() == changes and self._clock() < identity.until_s

    def obey(self, method: str, path: str, body: bytes, headers: Mapping[str, str], roles: frozenset[str]) -> Signed:
        """Return the order that a request carries, once, when one of these roles has signed exactly it.

        ApiError 403 when it is none, is another one, or is too old; 422 when its signature is not valid; 409 with the
        ``number`` that it has to exceed when it is no new one.
        """
        signed = _signed(headers)
        order = _order(signed)
        asked = (self._board, method, path, hashlib.sha256(body).hexdigest())
        if (order.board, order.method, order.path, order.body_sha256) != asked:
            raise ApiError(403, f"the order is for {order.method} {order.path[:80]} of {order.board[:40]}")
        if abs(order.number / 1e6 - self._clock()) > ORDER_S:
            raise ApiError(403, f"the order is more than {ORDER_S:g} s old, or from the future")
        signer = self._signer(signed, roles)
        with self._lock:
            last = self._last.get(str(signer), 0)
            if order.number <= last:
                raise ApiError(409, "an order of that number or a later one was followed already", number=last)
            state.save(self._file, {"last": {**self._last, str(signer): order.number}})
            self._last[str(signer)] = order.number
        return signed

    def check_configuration(self, config: Config, stored: Iterable[Config]) -> None:
        """ApiError 403 or 422 unless an operator ordered this document of its gateway, and none after it.

        ``stored``: the configurations that are here, of which none may have been ordered later.
        """
        if config.order is None:
            raise ApiError(403, "the configuration carries no order")
        order = _order(config.order)
        if (order.board, order.method, order.path) != (config.content.gateway, "POST", "/cluster/propose"):
            raise ApiError(403, f"the order is no proposal to {config.content.gateway}")
        if order.configuration != config.sha256:
            raise ApiError(403, "the order is for another configuration")
        for known in stored:
            if known.order is not None and known.sha256 != config.sha256 and order.number <= _order(known.order).number:
                raise ApiError(403, f"another configuration was ordered after this one (epoch {known.epoch})")
        self._signer(config.order, frozenset({"operator"}))

    def _signer(self, signed: Signed, roles: frozenset[str]) -> Identity:
        """Return who signed; ApiError 422 when the signature is not valid, 403 when the signer has another role."""
        key = hashlib.sha256(f"{signed.order}\0{signed.signature}\0{self.credentials.refresh()}".encode()).hexdigest()
        with self._lock:
            found = self._good.get(key)
        if found is None:
            with self._checking, tempfile.TemporaryDirectory(prefix="hil-order-") as scratch:
                content, signer = Path(scratch) / "order", Path(scratch) / "signer.pem"
                content.write_text(signed.order)
                der = _decoded(signed.signature)
                verify(content, der, self.credentials.trust, purpose="smimesign", signer=signer)
                certificate = signer.read_bytes()
                named = self._named if self._named[0] == certificate else None
                found = named[1] if named else Identity.among(subject_names(signer))
                self._named = certificate, found
            with self._lock:
                self._good[key] = found
                if len(self._good) > REMEMBERED:
                    self._good.popitem(last=False)
        if found.role not in roles:
            raise ApiError(403, f"{found} has no right to order that")
        return found


def _signed(headers: Mapping[str, str]) -> Signed:
    order, signature = headers.get(ORDER), headers.get(SIGNATURE)
    if not order or not signature:
        raise ApiError(403, f"this changes a cluster: it has to be signed ({ORDER}, {SIGNATURE})")
    return Signed(_decoded(order).decode(errors="replace"), signature)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(403, "an order and its signature are in base64") from None


def _order(signed: Signed) -> Order:
    try:
        return read(Order, json_object(signed.order.encode(), "the order"), "the order")
    except (ContractError, UnicodeEncodeError) as exc:
        raise ApiError(403, f"not an order: {exc}") from exc
