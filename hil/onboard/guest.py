"""A guest of the constellation: asks a board for the mask of its scene, through hand-overs and gaps of contact.

It runs where the guest is (``python3 -m hil.onboard.guest``), with nothing but the standard library.  Each line that
it prints is a JSON object: ``mono_s`` (CLOCK_MONOTONIC), ``what``, and facts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hil.onboard.files import write_durably
from hil.onboard.node.answers import ContractError, json_object, read
from hil.onboard.node.client import Connect, Peer, connect
from hil.onboard.node.errors import ApiError
from hil.onboard.node.flight import OWN, TRUST, Credentials, as_client
from hil.onboard.node.guest_work import PIECE_BYTES, GuestRequest

ANSWER_S = 15.0
"""A piece takes so long at 140 kbit/s.  A lost contact is noticed sooner, by TCP itself
(:data:`hil.onboard.node.client.TCP_USER_TIMEOUT_MS`), and a refused connection at once."""
AGAIN_S = 0.2
LONGEST_WAIT_S = 86_400.0

Tell = Callable[..., None]
T = TypeVar("T")


class GaveUp(Exception):
    """The board refused, or nothing came of it in time."""


@dataclass(frozen=True)
class Service:
    """The board that serves the guest."""

    board: str
    address: str
    """``ip:port`` of its node service."""


def ask(
    service: Service,
    credentials: Credentials,
    scene: bytes,
    *,
    deadline_s: float,
    tell: Tell = lambda what, **facts: None,
    connector: Connect = connect,
    key: str = "",
) -> bytes:
    """Return the mask (``.npy``) of a scene (``.npy``), asked for until it is here. GaveUp, with the reason."""

    def dial(host: str, port: int, timeout_s: float) -> socket.socket:
        sock = as_client(connector(host, port, timeout_s), credentials, service.board)
        tell("joined", board=service.board)
        return sock

    path = f"/guest/{key or secrets.token_hex(16)}"
    with closing(Peer(service.address, timeout_s=ANSWER_S, connector=dial)) as peer:
        return _Asking(peer, path, time.monotonic() + deadline_s, tell).mask(scene)


class _Asking:
    """One request on its way."""

    def __init__(self, peer: Peer, path: str, end_s: float, tell: Tell) -> None:
        self._peer, self._path, self._end_s, self._tell = peer, path, end_s, tell
        self._silent = False

    def mask(self, scene: bytes) -> bytes:
        document = {"size": len(scene), "sha256": hashlib.sha256(scene).hexdigest()}
        request = self._again(lambda: self._json("PUT", "", document))
        while request.state == "receiving":
            sent = self._again(partial(self._send, scene, request.have))
            request = sent or self._again(lambda: self._json("GET", ""))
        self._tell("sent", bytes=len(scene))
        while request.state in ("queued", "running"):
            self._pause(f"the request is {request.state}: {request.error}")
            request = self._again(lambda: self._json("GET", ""))
        if request.state != "done":
            raise GaveUp(f"the request is {request.state}: {request.error}")
        self._tell("computed", job=request.job, runs=request.runs)
        content = b""
        while len(content) < request.mask_bytes:
            content += self._again(partial(self._piece, len(content)))
        self._again(lambda: self._json("POST", "/taken"))
        self._tell("got", bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        return content

    def _again(self, call: Callable[[], T]) -> T:
        """Return what a call gives, repeated while there is no contact; GaveUp at the deadline, or when refused."""
        while True:
            if time.monotonic() >= self._end_s:
                raise GaveUp("the deadline has passed")
            try:
                found = call()
            except OSError as exc:
                if not self._silent:
                    self._tell("silence", why=str(exc)[:200])
                self._silent = True
                self._pause(f"no contact: {exc}")
                continue
            except ContractError as exc:
                raise GaveUp(str(exc)) from exc
            except ApiError as exc:
                if exc.status != 503:
                    raise GaveUp(f"HTTP {exc.status}: {exc.message}") from exc
                self._pause(exc.message)
                continue
            self._silent = False
            return found

    def _pause(self, why: str) -> None:
        if time.monotonic() >= self._end_s:
            raise GaveUp(f"the deadline has passed: {why}")
        time.sleep(AGAIN_S)

    def _json(self, method: str, path: str, document: Any = None) -> GuestRequest:
        return _request(self._peer.json(method, self._path + path, document))

    def _send(self, scene: bytes, offset: int) -> GuestRequest | None:
        """Send a piece; None when it was no longer wanted: an earlier try arrived, and its answer did not."""
        piece = scene[offset : offset + PIECE_BYTES]
        status, content = self._peer.request("PATCH", f"{self._path}?offset={offset}", piece)
        if status == 409:
            return None
        if status != 200:
            raise ApiError(status, content[:200].decode(errors="replace"))
        return _request(json_object(content))

    def _piece(self, offset: int) -> bytes:
        status, content = self._peer.request("GET", f"{self._path}/mask?offset={offset}")
        if status != 200 or not content:
            raise ApiError(status if status != 200 else 502, content[:200].decode(errors="replace"))
        return content


def _request(document: object) -> GuestRequest:
    return read(GuestRequest, document, "the answer")


def main(arguments: list[str]) -> int:
    """Ask as the command line says; 0 with a mask, 1 without."""
    parser = argparse.ArgumentParser(prog="python3 -m hil.onboard.guest", description="Ask a board for a mask.")
    parser.add_argument("--board", required=True, help="name of the board that serves the guest")
    parser.add_argument("--address", required=True, metavar="IP:PORT", help="its node service")
    parser.add_argument("--keys", required=True, type=Path, help=f"folder with {TRUST} and {OWN}")
    parser.add_argument("--scene", required=True, type=Path, help=".npy, uint16 [bands, H, W]")
    parser.add_argument("--mask", required=True, type=Path, help="where to write the .npy")
    parser.add_argument("--deadline-s", type=float, default=1800.0, help="give up after so long")
    wanted = parser.parse_args(arguments)

    def tell(what: str, **facts: object) -> None:
        print(json.dumps({"mono_s": round(time.monotonic(), 6), "what": what, **facts}), flush=True)

    try:
        mask = ask(
            Service(wanted.board, wanted.address),
            Credentials(wanted.keys / TRUST, wanted.keys / OWN),
            wanted.scene.read_bytes(),
            deadline_s=min(wanted.deadline_s, LONGEST_WAIT_S),
            tell=tell,
        )
        write_durably(wanted.mask, mask)
    except (GaveUp, OSError) as exc:
        tell("gave up", why=str(exc)[:200])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
