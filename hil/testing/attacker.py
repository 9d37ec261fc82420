"""A hostile node on a flight network: it replays, forges, floods, drips, and sends malformed TLS and HTTP.

It may have what a neighbour that was taken over has: the certificate of a board, and orders that it once saw.  Whatever
it does, :attr:`Attacker.let_in` must stay empty: every answer that grants something it has no right to.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType

from hil.bench.plumbing import Plumbing, netlink
from hil.core import netns
from hil.images.artefact import CHUNK_BYTES, Artefact
from hil.images.flight_pki import FlightPki, flight_pki
from hil.lab.addressing import flight_network, node_address
from hil.onboard.node.answers import Order
from hil.onboard.node.client import read_answer
from hil.onboard.node.epoch import Config
from hil.onboard.node.errors import ApiError
from hil.onboard.node.flight import ORDER, SIGNATURE, Credentials
from hil.rollout.fleet import Dial

ANSWER_S = 3.0
DRIP_S = 0.3
FLOOD = 48
"""Connections opened at once, each left alone."""
EXCESS = 64 << 20
"""Bytes that an endless source announces on top."""
HOST_NUMBER = 99
"""Last number of the attacker's address; boards' begin at 11."""
ID = "e" * 64
COMMANDS: Sequence[tuple[str, str, bytes]] = (
    ("DELETE", f"/artefacts/{ID}", b""),
    ("POST", f"/artefacts/{ID}/pull", b'{"from":["127.0.0.1:1"]}'),
    ("PUT", f"/artefacts/{ID}/manifest", b"{}"),
    ("PATCH", f"/artefacts/{ID}?offset=0", b"x"),
    ("POST", "/cluster/propose", b'{"document":{},"fresh":true}'),
    ("POST", "/cluster/commit", b'{"epoch":1}'),
    ("POST", "/jobs", b'{"scene":"x"}'),
    ("GET", "/record", b""),
)
"""Requests that nobody but an operator may make."""


@dataclass(frozen=True)
class Loot:
    """What the attacker has: a board's certificate with its key (PEM file), the CA's certificate, and old orders."""

    trust: Path
    board: Path
    foreign: Path
    """A certificate of another CA that names an operator."""
    orders: Sequence[tuple[str, str, bytes, Mapping[str, str]]] = ()
    """Method, path, body and headers of orders that were followed once."""


@dataclass
class Attacker:
    """``with Attacker(namespace, targets, loot) as attacker: ...``: attacks until the block ends, with all it has."""

    namespace: str
    targets: Mapping[str, tuple[str, int]]
    """Address and port of each node service, by board."""
    loot: Loot
    seed: int = 1
    dial: Dial = netns.connect
    attempts: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    """Attempts by kind of which at least one connection was taken: what never gets there shows nothing."""
    let_in: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """What failed in the attacker itself."""

    def __enter__(self) -> Attacker:
        self._stop, self._reached = threading.Event(), threading.local()
        kinds: Sequence[Callable[[random.Random, str], None]] = (
            self._plain,
            self._bad_tls,
            self._foreign,
            self._as_board,
            self._replay,
            self._forge,
            self._flood,
            self._drip,
        )
        self._threads = [
            threading.Thread(
                target=self._attack, args=(kind, self.seed + n), name=f"attack{kind.__name__}", daemon=True
            )
            for n, kind in enumerate(kinds)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * ANSWER_S)

    def _attack(self, kind: Callable[[random.Random, str], None], seed: int) -> None:
        dice = random.Random(seed)
        while not self._stop.is_set():
            self._reached.yes = False
            self.attempts[kind.__name__.strip("_")] += 1
            try:
                kind(dice, dice.choice(sorted(self.targets)))
            except (OSError, ApiError):
                pass  # refused, as it should be
            except Exception as exc:
                self.broken.append(f"{kind.__name__}: {exc!r}")
            self.reached[kind.__name__.strip("_")] += self._reached.yes
            self._stop.wait(0.002)

    # --- ways to connect -----------------------------------------------------------------------------------------

    def _dial(self, board: str) -> socket.socket:
        sock = self.dial(self.namespace, self.targets[board], timeout_s=1.0)
        sock.settimeout(ANSWER_S)
        self._reached.yes = True
        return sock

    def _tls(self, board: str, own: Path | None, highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = highest
        if own is not None:
            context.load_cert_chain(own)
        sock = self._dial(board)
        try:
            return context.wrap_socket(sock)
        except BaseException:
            sock.close()
            raise

    def _ask(
        self, sock: socket.socket, what: str, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> None:
        """Send a request; an answer that grants it is noted."""
        head = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        sock.sendall("\r\n".join([*head, "", ""]).encode() + body)
        response, content = read_answer(sock, method, silence_s=ANSWER_S, end=time.monotonic() + ANSWER_S)
        if response.status < 400:
            self.let_in.append(f"{what}: {method} {path}: {response.status} {content[:80]!r}")

    # --- attacks -------------------------------------------------------------------------------------------------

    def _plain(self, dice: random.Random, board: str) -> None:
        """HTTP without TLS: commands, and nonsense."""
        with self._dial(board) as sock:
            if dice.random() < 0.3:
                sock.sendall(dice.randbytes(dice.randrange(1, 2000)))
                return
            method, path, body = dice.choice([*COMMANDS, ("GET", "/health", b"")])
            self._ask(sock, "without TLS", method, path, body, {})

    def _bad_tls(self, dice: random.Random, board: str) -> None:
        """A client hello with some bytes changed, cut off, or in many records."""
        outgoing = ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with suppress(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x").do_handshake()
        hello = bytearray(outgoing.read())
        for _ in range(dice.randrange(1, 6)):
            hello[dice.randrange(len(hello))] = dice.randrange(256)
        said = bytes(hello[: dice.choice((len(hello), dice.randrange(1, len(hello))))])
        with self._dial(board) as sock:
            sock.sendall(said * dice.choice((1, 1, 3)))
            sock.settimeout(0.5)
            sock.recv(100)

    def _foreign(self, dice: random.Random, board: str) -> None:
        """Good TLS with no certificate, or one of another CA, or an old version."""
        own = dice.choice((None, self.loot.foreign))
        highest = dice.choice((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
        with self._tls(board, own, highest) as sock:
            method, path, body = dice.choice([*COMMANDS, ("GET", "/health", b"")])
            self._ask(sock, "with a foreign certificate", method, path, body, {})

    def _as_board(self, dice: random.Random, board: str) -> None:
        """As a neighbour: what only an operator may ask, what only another board may say, and malformed HTTP."""
        with self._tls(board, self.loot.board) as sock:
            way = dice.random()
            if way < 0.4:
                method, path, body = dice.choice(COMMANDS)
                self._ask(sock, "as a board", method, path, body, {})
            elif way < 0.6:
                request = {
                    "member": board,
                    "incarnation": 2**40,
                    "seq": 2**40,
                    "stored": [],
                    "fit": [],
                    "holding": None,
                }
                self._ask(sock, "as another board", "POST", "/cluster/renew", json.dumps(request).encode(), {})
            else:
                length = dice.choice(("-1", "1e9", "9" * 40, str(1 << 40), "5"))
                method, path = dice.choice(("GET", "POST", "X" * 3000)), dice.choice(("health", "%00", "a" * 60_000))
                lines = [
                    f"{method} /{path} HTTP/1.1",
                    f"Content-Length: {length}",
                    *([f"{'x' * 400}: {'y' * 900}"] * dice.randrange(60)),
                ]
                sock.sendall("\r\n".join(lines).encode() + dice.choice((b"", b"\r\n\r\n", b"\r\n\r\n\xff\xff")))
                sock.settimeout(0.5)
                sock.recv(100)

    def _replay(self, dice: random.Random, board: str) -> None:
        """An order that was followed once, to any board, over each way in."""
        if not self.loot.orders:
            return
        method, path, body, headers = dice.choice(self.loot.orders)
        with self._tls(board, dice.choice((self.loot.board, self.loot.foreign))) as sock:
            self._ask(sock, "a replay", method, path, body, headers)

    def _forge(self, dice: random.Random, board: str) -> None:
        """Orders and configurations that nobody gave."""
        with self._tls(board, self.loot.board) as sock:
            if dice.random() < 0.5:
                order = Order(board, "DELETE", f"/artefacts/{ID}", int(time.time() * 1e6), "0" * 64)
                old = dice.choice([headers[SIGNATURE] for *_, headers in self.loot.orders] or ["AAAA"])
                signature = dice.choice((old, base64.b64encode(dice.randbytes(900)).decode()))
                headers = {ORDER: base64.b64encode(order.text.encode()).decode(), SIGNATURE: signature}
                self._ask(sock, "a forged order", "DELETE", f"/artefacts/{ID}", b"", headers)
            else:
                members = {name: f"{ip}:{port}" for name, (ip, port) in self.targets.items()}
                document = {"gateway": dice.choice(sorted(members)), "members": members, "os_version": "6.6.6"}
                config = json.dumps(asdict(Config.of(dice.randrange(1, 1000), document))).encode()
                self._ask(sock, "a forged configuration", "POST", "/cluster/prepare", config, {})

    def _flood(self, dice: random.Random, board: str) -> None:
        """Many connections at once that say nothing, half of a handshake, or much."""
        opened: list[socket.socket] = []
        try:
            for _ in range(FLOOD):
                with suppress(OSError):
                    sock = self._dial(board)
                    opened.append(sock)
                    sock.settimeout(0.2)
                    sock.sendall(dice.choice((b"", b"\x16\x03\x01\x02\x00\x01", dice.randbytes(16_000))))
            self._stop.wait(0.5)
        finally:
            for sock in opened:
                sock.close()

    def _drip(self, dice: random.Random, board: str) -> None:
        """A byte now and then: of a handshake, and of a request with a good certificate."""
        if dice.random() < 0.5:
            sock: socket.socket = self._dial(board)
        else:
            sock = self._tls(board, self.loot.board)
        with sock:
            for byte in b"\x16\x03\x01\x05\x00" + b"GET /health HTTP/1.1\r\nX-Y: " + b"z" * 99:
                sock.sendall(bytes([byte]))
                if self._stop.wait(DRIP_S):
                    return


class Malice(StrEnum):
    """What a hostile source does when a board fetches an artefact from it."""

    DRIP = "drip"
    """It goes on for ever, a byte now and then."""
    FREEZE = "freeze"
    """It says for ever that there is nothing new."""
    ENDLESS = "endless"
    """It announces far more than there is, and sends that."""
    LIE = "lie"
    """It announces other chunks under the right name, and sends those."""


class HostileSource:
    """``with HostileSource(...) as source: ...``: a node that boards may be told to fetch from, at its ``address``."""

    def __init__(
        self, namespace: str, ip: str, artefact: Artefact, malice: Malice, credentials: Credentials | None
    ) -> None:
        """``credentials``: a board's; None: boards have no flight security."""
        self._malice, self._credentials = malice, credentials
        honest = artefact.manifest()
        size = artefact.size_bytes + (EXCESS if malice is Malice.ENDLESS else 0)
        if malice in (Malice.ENDLESS, Malice.LIE):
            chunk = bytes(CHUNK_BYTES)
            ends = [min(CHUNK_BYTES, size - at) for at in range(0, size, CHUNK_BYTES)]
            known = {length: hashlib.sha256(chunk[:length]).hexdigest() for length in set(ends)}
            honest = {**honest, "size": size, "chunk_sha256": [known[length] for length in ends]}
        self._manifest, self._size = json.dumps(honest).encode(), size
        with netns.inside(namespace):
            self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((ip, 0))
        self._listener.listen()
        self.address = f"{ip}:{self._listener.getsockname()[1]}"
        self._stop = threading.Event()
        self.asked = 0
        """How often a board asked for the bytes."""

    def __enter__(self) -> HostileSource:
        threading.Thread(target=self._accept, name="hostile-source", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), name="hostile-source", daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError):
            sock.settimeout(ANSWER_S)
            if self._credentials is not None:
                sock = self._credentials.server().wrap_socket(sock, server_side=True)
            with sock:
                said = b""
                while b"\r\n\r\n" not in said and (part := sock.recv(4096)):
                    said += part
                if b"/manifest " in said:
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self._manifest)}\r\nConnection: close\r\n\r\n"
                    sock.sendall(head.encode() + self._manifest)
                    return
                self.asked += 1
                sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                self._stream(sock)

    def _stream(self, sock: socket.socket) -> None:
        sent = 0
        while not self._stop.is_set():
            if self._malice in (Malice.ENDLESS, Malice.LIE):
                sock.sendall(struct.pack("!I", CHUNK_BYTES) + bytes(CHUNK_BYTES))
                continue
            sock.sendall(struct.pack("!I", 0))
            if self._malice is Malice.DRIP and sent % 4 == 0:
                sock.sendall(struct.pack("!I", 1) + b"x")
            sent += 1
            self._stop.wait(0.2)


def loot_of(pki: FlightPki, scratch: Path, board: str = "neighbour") -> Loot:
    """Return what an attacker has who took over a board of this PKI; the files are put into ``scratch``."""
    stolen, foreign = scratch / "stolen.pem", scratch / "foreign.pem"
    stolen.write_bytes(pki.issue("board", board))
    foreign.write_bytes(flight_pki(scratch / "foreign").issue("operator", "ground"))
    return Loot(pki.trust, stolen, foreign)


@contextmanager
def hostile_neighbour(plumbing: Plumbing, craft: str) -> Iterator[str]:
    """Join a node to a spacecraft's flight network; the network namespace that it is.  BenchError."""
    space = plumbing.namespace("hostile")
    network = flight_network(plumbing.lab, craft).rsplit(".", 1)[0]
    netns.create(space)
    try:
        with netlink(plumbing.namespace(craft)) as ip, netns.opened(space) as descriptor:
            ip.link("add", ifname="x-hostile", kind="veth", peer={"ifname": "mgbe0", "net_ns_fd": descriptor})
            switch, near = (ip.link_lookup(ifname=name)[0] for name in ("sw0", "x-hostile"))
            ip.link("set", index=near, master=switch, state="up")
        with netlink(space) as ip:
            nic = ip.link_lookup(ifname="mgbe0")[0]
            ip.addr("add", index=nic, address=f"{network}.{HOST_NUMBER}", prefixlen=24)
            ip.link("set", index=nic, state="up")
            ip.route("add", dst="198.18.0.0/15", gateway=node_address(plumbing.lab, craft))
        yield space
    finally:
        netns.delete(space)
