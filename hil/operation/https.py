"""HTTP(S) to a service outside: one request on a fresh connection, bounded in time and size, redirects not followed."""

from __future__ import annotations

import http.client
import ipaddress
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import IO
from urllib.parse import SplitResult, urlsplit

from hil.core import netns
from hil.errors import BenchError, ConfigurationError
from hil.onboard.node.client import DeadlinedSocket
from hil.text import one_line

MOST_BYTES = 4 << 20
"""Of an answer that is not written to a file."""
CONNECT_S = 10.0
BLOCK_BYTES = 1 << 18


class Unanswered(OSError):
    """No usable answer came; says why. Whether the request arrived is not known."""


@dataclass(frozen=True)
class Body:
    """What is sent, in pieces."""

    kind: str  # Content-Type
    length: int
    blocks: Iterator[bytes]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    content: bytes  # empty where it was written to a file
    written: int  # bytes


def endpoint(url: str) -> SplitResult:
    """Take an address apart; ValueError for one that is not https, or http to this machine itself."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("is an address like https://em.example.com")
    if ":" in parts.hostname:
        raise ValueError("has a name or an IPv4 address: IPv6 is not spoken here")
    if parts.username or parts.password:
        raise ValueError("has no log-in in it: give user and password")
    if parts.scheme == "http" and not _here(parts.hostname):
        raise ValueError("is https://: a password does not go over a network in the clear")
    _ = parts.port  # ValueError for one that is no port
    return parts


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def on_this_machine() -> Iterator[None]:
    """Raise BenchError for what a local file's read or write raises: asking the service again does not mend it."""
    try:
        yield
    except OSError as exc:
        raise BenchError(f"on this machine: {exc}") from exc


class Endpoint:
    """One service."""

    def __init__(self, url: str) -> None:
        self._url = endpoint(url)

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Body | None,
        *,
        silence_s: float,
        end: float,
        out: IO[bytes] | None = None,
        limit: int = 0,
    ) -> Answer:
        """Send a request and return the answer; one of HTTP 200 is written to ``out``, ``limit + 1`` bytes at most.

        Unanswered after ``silence_s`` without a byte, at ``end`` (monotonic, s), and for what is no HTTP;
        ConfigurationError for a certificate that is not trusted; BenchError for ``out``.
        """
        try:
            with self._connected(end) as sock:
                with suppress(BrokenPipeError, ConnectionResetError):  # it may refuse a body before it has all of it
                    self._send(sock, method, path, headers, body, silence_s, end)
                reader = DeadlinedSocket(sock, end, silence_s)
                response = http.client.HTTPResponse(reader, method=method)  # type: ignore[arg-type]
                response.begin()
                content, written = b"", 0
                if out is None or response.status != 200:
                    content = response.read(MOST_BYTES + 1)
                    if len(content) > MOST_BYTES:
                        raise Unanswered(f"the answer is longer than {MOST_BYTES} bytes")
                    limit, out = 0, None
                while out and written <= limit and (block := response.read(min(BLOCK_BYTES, limit + 1 - written))):
                    with on_this_machine():
                        out.write(block)
                    written += len(block)
                if written <= limit and response.length:
                    raise Unanswered(f"the answer ended {response.length} bytes too soon")
                return Answer(response.status, content, written)
        except Unanswered:
            raise
        except ssl.SSLCertVerificationError as exc:
            raise ConfigurationError(
                f"{self._url.hostname}: its certificate is not trusted: {one_line(exc.verify_message)}",
                remedy="name the certificates that are in the environment variable SSL_CERT_FILE",
            ) from exc
        except OSError as exc:
            raise Unanswered(f"{type(exc).__name__}: {one_line(str(exc))}") from exc
        except (http.client.HTTPException, ValueError) as exc:
            raise Unanswered(type(exc).__name__) from exc  # its text is the peer's bytes, which may repeat a secret

    def _connected(self, end: float) -> ssl.SSLSocket:
        host = self._url.hostname or ""
        secure = self._url.scheme == "https"
        timeout_s = max(0.001, min(CONNECT_S, end - time.monotonic()))
        sock = netns.connect(netns.HOST, (host, self._url.port or (443 if secure else 80)), timeout_s=timeout_s)
        if not secure:
            return sock  # type: ignore[return-value]
        try:
            return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise

    def _send(
        self,
        sock: ssl.SSLSocket,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Body | None,
        silence_s: float,
        end: float,
    ) -> None:
        lines = [f"{method} {self._url.path.rstrip('/')}{path} HTTP/1.1", f"Host: {self._url.netloc}"]
        lines += ["Connection: close", "Accept: */*", *(f"{name}: {value}" for name, value in headers.items())]
        if body is not None:
            lines += [f"Content-Type: {body.kind}", f"Content-Length: {body.length}"]
        for block in chain(["\r\n".join([*lines, "", ""]).encode()], body.blocks if body else ()):
            left_s = min(silence_s, end - time.monotonic())
            if left_s <= 0:
                raise TimeoutError("the request was not sent in time")
            sock.settimeout(left_s)
            sock.sendall(block)
