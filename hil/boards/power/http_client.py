"""HTTP to a power strip: one request, one deadline over all of it, and every way it can go wrong told apart."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPResponse, RemoteDisconnected
from typing import Any, Literal, Self
from urllib.parse import quote, quote_plus, urlencode
from urllib.request import (
    AbstractDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    Request,
    parse_http_list,
    parse_keqv_list,
)

from hil.boards.power.kinds import Surroundings, resolve_secret
from hil.boards.power.switch import NoAnswerError
from hil.core import netns
from hil.errors import BenchError
from hil.lab.power import StripSpec, split_address
from hil.onboard.node.client import read_answer
from hil.onboard.node.errors import ApiError

_log = logging.getLogger(__name__)

MAX_ANSWER = 64 * 1024
"""Bytes; the longest honest answer of a strip is a few hundred."""

Scheme = Literal["basic", "digest", "query"]


@dataclass(frozen=True)
class Credentials:
    """What a strip asks for. ``query``: as ``user=`` and ``password=`` in the address (Tasmota)."""

    user: str
    password: str = field(repr=False)
    scheme: Scheme


@dataclass(frozen=True)
class HttpStrip:
    """A strip that is told things by GET and answers in JSON."""

    name: str  # with its address, e.g. "Shelly 192.0.2.10"
    address: tuple[str, int]
    namespace: str = netns.HOST
    timeout_s: float = 3.0  # for a whole request, from connecting to the last byte
    credentials: Credentials | None = None

    def get(self, path: str) -> dict[str, Any]:
        """GET ``path`` (with its query) and read the JSON object that comes back.

        NoAnswerError when the request may have arrived and nothing usable came back; BenchError when the strip was
        not reached, refused, redirected, failed, or is something else.  Never sent twice, except that a digest
        challenge is answered.
        """
        end = time.monotonic() + self.timeout_s
        target, login = self._with_login(path)
        _log.debug("%s: GET %s", self.name, path)
        answer, body = self._request(target, login, end)
        for again in (False, True):
            challenge = answer.headers.get("WWW-Authenticate", "")
            if answer.status != 401 or not self.credentials or not challenge.lower().startswith("digest"):
                break
            if again and "stale=true" not in challenge.lower().replace('"', "").replace(" ", ""):
                break  # the password is wrong; with a stale nonce it is right, and the strip offers a fresh one
            answer, body = self._request(path, digest_header(challenge, self.credentials, path), end)
        said = self.said(body.decode("utf-8", "replace").strip())
        _log.debug("%s: HTTP %d %s", self.name, answer.status, said)
        self._judge(answer, said)
        if len(body) > MAX_ANSWER:
            raise BenchError(f"{self.name}: answered with more than {MAX_ANSWER} bytes; no strip does that")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise BenchError(
                f"{self.name}: answered {said}, which is not a JSON object",
                remedy="is this the address of the strip, and the kind the lab file says?",
            )
        return document

    def _with_login(self, path: str) -> tuple[str, str]:
        """Return (path to send, Authorization header)."""
        if not self.credentials or self.credentials.scheme == "digest":
            return path, ""
        if self.credentials.scheme == "basic":
            pair = f"{self.credentials.user}:{self.credentials.password}".encode()
            return path, "Basic " + base64.b64encode(pair).decode()
        login = urlencode({"user": self.credentials.user, "password": self.credentials.password})
        return f"{path}{'&' if '?' in path else '?'}{login}", ""

    def _request(self, target: str, authorization: str, end: float) -> tuple[HTTPResponse, bytes]:
        try:
            sock = netns.connect(self.namespace, self.address, timeout_s=max(0.001, end - time.monotonic()))
        except OSError as exc:
            raise BenchError(
                f"{self.name}: cannot connect: {exc.strerror or exc or 'timed out'}",
                remedy="is the strip powered and in this network, and is its address in the lab file right?",
            ) from exc
        host, port = self.address
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}{f':{port}' if port != 80 else ''}"]
        lines += ["Connection: close", "Accept: */*"]
        if authorization:
            lines.append(f"Authorization: {authorization}")
        try:
            sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
            return read_answer(sock, "GET", silence_s=self.timeout_s, end=end, limit=MAX_ANSWER)
        except TimeoutError as exc:
            raise NoAnswerError(
                f"{self.name}: took the request and did not answer within {self.timeout_s:g} s",
                remedy="its firmware hangs: power-cycle the strip itself, or update its firmware",
            ) from exc
        except (RemoteDisconnected, ConnectionError) as exc:
            raise NoAnswerError(
                f"{self.name}: closed the connection instead of answering",
                remedy="it restarts or is overloaded: give it some seconds, and poll it from one program only",
            ) from exc
        except (ApiError, OSError) as exc:
            raise NoAnswerError(
                f"{self.name}: broken answer: {exc}", remedy="is this the address of the strip?"
            ) from exc
        finally:
            sock.close()

    def said(self, text: str) -> str:
        """Quote what the strip said, short; a device that echoes the request does not get the password into a log."""
        if self.credentials and (secret := self.credentials.password):
            for form in {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}:
                text = text.replace(form, "***")
        return repr(text[:200])

    def _judge(self, answer: HTTPResponse, said: str) -> None:
        """Raise BenchError unless the status is 200."""
        status = answer.status
        if status == 200:
            return
        if 300 <= status < 400:
            what = f"redirects to {self.said(answer.headers.get('Location', 'nowhere'))}; not followed"
            remedy = "a log-in portal or another device sits at this address: correct the address in the lab file"
        elif status in (401, 403):
            what = f"refused the log-in (HTTP {status})"
            remedy = "set password in the lab file to env:NAME or file:PATH with the strip's password"
        elif status >= 500:
            what = f"failed with HTTP {status}: {said}"
            remedy = "the strip itself has an error: restart it, then look at its own log"
        else:
            what = f"answered HTTP {status}: {said}"
            remedy = "does the strip have this outlet, and is it the kind that the lab file says?"
        raise BenchError(f"{self.name}: {what}", remedy=remedy)


class HttpOutlet:
    """What the drivers of such strips have in common: one outlet, by its number and in its maker's word for it."""

    maker = "strip"
    word = "relay"
    scheme: Scheme = "basic"

    def __init__(self, strip: HttpStrip, number: int) -> None:
        self._strip = strip
        self._number = number

    @classmethod
    def of(cls, spec: StripSpec, here: Surroundings) -> Self:
        """Return the driver of a lab file's section, which may have ``user`` and ``password`` (env:NAME or file:PATH).

        ConfigurationError when the password cannot be read.
        """
        user, password = getattr(spec, "user", "admin"), getattr(spec, "password", None)
        strip = HttpStrip(
            f"{cls.maker} {spec.address}",
            split_address(spec.address, 80),
            here.namespace,
            timeout_s=spec.request_timeout_s,
            credentials=Credentials(user, resolve_secret(password), cls.scheme) if password else None,
        )
        return cls(strip, spec.outlet)

    @property
    def name(self) -> str:
        return f"{self._strip.name}, {self.word} {self._number}"


class _Digest(AbstractDigestAuthHandler):
    """The standard library's digest, with SHA-256 too: it has MD5 and SHA-1 only."""

    def get_algorithm_impls(self, algorithm: str) -> tuple[Callable[[str], str], Callable[[str, str], str]]:
        if algorithm.upper() not in ("MD5", "SHA-256"):
            raise BenchError(f"the strip asks for digest algorithm {algorithm}; MD5 and SHA-256 are known")

        def digest(text: str) -> str:
            return hashlib.new(algorithm.replace("-", "").lower(), text.encode()).hexdigest()

        return digest, lambda secret, text: digest(f"{secret}:{text}")


def digest_header(challenge: str, login: Credentials, path: str) -> str:
    """Return the Authorization header that answers a digest challenge to a GET (RFC 7616, qop ``auth``).

    BenchError when it asks for an algorithm other than MD5 and SHA-256 or for another qop, or is no challenge.
    """
    url = f"http://strip{path}"
    passwords = HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url, login.user, login.password)
    try:
        fields = parse_keqv_list(parse_http_list(challenge.partition(" ")[2]))
        answer = _Digest(passwords).get_authorization(Request(url), fields)
    except (ValueError, LookupError, OSError):  # the last: a qop other than auth
        answer = None
    if answer is None:
        raise BenchError(f"the strip asks for a log-in that cannot be read: {challenge[:200]!r}")
    return f"Digest {answer}"
