"""The HTTP interface of the node service: one function per address."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from hil.onboard.node.answers import LARGEST_NUMBER, Health
from hil.onboard.node.artefact import Superseded
from hil.onboard.node.cluster import Cluster
from hil.onboard.node.distribute import Distributor, send_following, send_plain
from hil.onboard.node.epoch import Config
from hil.onboard.node.errors import ApiError
from hil.onboard.node.facts import Facts
from hil.onboard.node.guest_work import PIECE_BYTES, GuestWork
from hil.onboard.node.infer import Inference
from hil.onboard.node.jobs import Jobs
from hil.onboard.node.request_record import RequestRecord
from hil.onboard.node.server import Answer, Request, Routes
from hil.onboard.node.store import Store

ARTEFACT = r"/artefacts/([0-9a-f]{64})"
GUEST = r"/guest/([0-9a-f]{32})"
RECEIVE_BYTES = 256 << 10
MANIFEST_BYTES = 16 << 20
UPLOAD_SILENCE_S = 5.0
"""An upload that is silent for so long has lost its path; the ground comes again on a new connection."""


class Node(Protocol):
    """The parts of a node that requests reach."""

    facts: Facts
    store: Store
    distributor: Distributor
    cluster: Cluster
    inference: Inference
    jobs: Jobs
    guests: GuestWork
    record: RequestRecord

    def health(self) -> Health: ...
    def model(self, config: Config) -> tuple[str, Path]: ...
    def warm_up(self) -> None: ...
    def start_job(self, scene: str) -> dict[str, Any]: ...


class Api:
    """Turns requests into calls of the node's parts."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> Routes:
        """Return every address of the service, and which roles may ask it (docs/rollout.md has the table)."""
        return Routes(
            ("GET", "/health", self.health, "operator board tenant"),
            ("GET", "/record", self.record, "operator"),
            ("GET", "/artefacts", self.artefacts, "operator"),
            ("GET", ARTEFACT, self.artefact, "operator board"),
            ("DELETE", ARTEFACT, self.delete, "operator"),
            ("GET", ARTEFACT + "/manifest", self.manifest, "operator board"),
            ("PUT", ARTEFACT + "/manifest", self.announce, "operator"),
            ("PATCH", ARTEFACT, self.receive, "operator"),
            ("GET", ARTEFACT + "/data", self.send, "operator board"),
            ("POST", ARTEFACT + "/pull", self.pull, "operator"),
            ("GET", "/cluster", self.cluster, "operator board"),
            ("POST", "/cluster/propose", self.propose, "operator"),
            ("POST", "/cluster/commit", self.commit, "operator"),
            ("POST", "/cluster/prepare", self.prepare, "board"),
            ("POST", "/cluster/renew", self.renew, "board"),
            ("POST", "/cluster/wake", self.wake, "board"),
            ("POST", "/infer", self.infer, "operator board"),
            ("POST", "/tile", self.tile, "operator board"),
            ("GET", "/weights", self.weights, "operator"),
            ("POST", "/jobs", self.start_job, "operator"),
            ("GET", r"/jobs/(\d{1,9})", self.job, "operator"),
            ("GET", r"/jobs/(\d{1,9})/mask", self.mask, "operator"),
            ("PUT", GUEST, self.guest_opens, "guest"),
            ("PATCH", GUEST, self.guest_sends, "guest"),
            ("GET", GUEST, self.guest_asks, "guest"),
            ("GET", GUEST + "/mask", self.guest_gets, "guest"),
            ("POST", GUEST + "/taken", self.guest_took, "guest"),
        )

    def health(self, request: Request) -> Answer:
        return Answer(document=self._node.health().document())

    def record(self, request: Request) -> Answer:
        return Answer(document=self._node.record.document())

    # --- artefacts ---------------------------------------------------------------------------------------------

    def artefacts(self, request: Request) -> Answer:
        return Answer(document={"artefacts": [a.status() for a in self._node.store.all()]})

    def artefact(self, request: Request) -> Answer:
        artefact_id = request.params[0]
        artefact = self._node.store.find(artefact_id)
        pulling = self._node.distributor.describe(artefact_id)
        if artefact is None:
            if pulling is None:
                raise ApiError(404, "no such artefact here")
            nothing = {"have_bytes": 0, "verified": 0, "complete": False, "installed": False}
            return Answer(document={"id": artefact_id, **nothing, "pulling": pulling})
        return Answer(document={**artefact.status(), "pulling": pulling})

    def delete(self, request: Request) -> Answer:
        self._node.distributor.cancel(request.params[0])
        self._node.store.delete(request.params[0])
        return Answer(document={})

    def manifest(self, request: Request) -> Answer:
        return Answer(document=self._node.store.get(request.params[0]).manifest.document())

    def announce(self, request: Request) -> Answer:
        artefact = self._node.store.put(request.params[0], request.json(MANIFEST_BYTES), request.peer)
        return Answer(document=artefact.status())

    def receive(self, request: Request) -> Answer:
        """Append the body as it arrives."""
        artefact = self._node.store.get(request.params[0])
        offset = request.integer("offset")
        if offset + request.length > artefact.manifest.size:
            raise ApiError(413, f"artefact has only {artefact.manifest.size} bytes")
        peer = self._node.facts.name_of(request.peer)
        token = artefact.begin(offset, peer, by=request.query.get("by", "")[:64])
        request.stream(UPLOAD_SILENCE_S)
        buffer = memoryview(bytearray(RECEIVE_BYTES))
        try:
            while got := request.read_some(buffer):
                artefact.append(token, buffer[:got], peer)
        except Superseded:
            raise ApiError(409, "another upload of this artefact has taken over") from None
        finally:
            artefact.leave(token)
        return Answer(document=artefact.status())

    def send(self, request: Request) -> Answer:
        artefact = self._node.store.get(request.params[0])
        offset = request.integer("offset", 0)
        peer = self._node.facts.name_of(request.peer)
        end = artefact.readable(offset, wait_s=0.0)
        if request.integer("follow", 0):
            return Answer(
                content_type="application/x-hil-frames",
                stream=lambda sock: send_following(sock, artefact, offset, peer),
            )
        if offset > end:
            raise ApiError(416, f"only {end} bytes are here", verified=end)
        return Answer(
            content_type="application/octet-stream",
            length=end - offset,
            stream=lambda sock: send_plain(sock, artefact, offset, end, peer) if end > offset else None,
        )

    def pull(self, request: Request) -> Answer:
        order = request.json()
        self._node.distributor.pull(request.params[0], order.get("from"), order.get("manifest_sha256", ""))
        return Answer(202, {"pulling": self._node.distributor.describe(request.params[0])})

    # --- cluster -----------------------------------------------------------------------------------------------

    def cluster(self, request: Request) -> Answer:
        return Answer(document=self._node.cluster.describe())

    def propose(self, request: Request) -> Answer:
        body = request.json()
        fresh = body.get("fresh", False)
        if not isinstance(fresh, bool):
            raise ApiError(400, "fresh must be true or false")
        return Answer(document=self._node.cluster.propose(body.get("document"), fresh=fresh, order=request.order))

    def commit(self, request: Request) -> Answer:
        number = request.json().get("epoch")
        if type(number) is not int or not 0 <= number <= LARGEST_NUMBER:
            raise ApiError(400, "epoch must be a whole number")
        return Answer(document=self._node.cluster.commit(number))

    def prepare(self, request: Request) -> Answer:
        answer = self._node.cluster.prepare(request.json(), request.peer, _board(request))
        self._node.warm_up()
        return Answer(document=answer)

    def renew(self, request: Request) -> Answer:
        return Answer(document=self._node.cluster.renew(request.json(), request.peer, _board(request)))

    def wake(self, request: Request) -> Answer:
        request.read_all(1024)
        self._node.cluster.wake()
        return Answer(document={})

    # --- inference ---------------------------------------------------------------------------------------------

    def infer(self, request: Request) -> Answer:
        mask, _output, _seconds = self._computed(request)
        return Answer(body=mask, content_type="application/x-npy")

    def tile(self, request: Request) -> Answer:
        """The same with a line of JSON before the mask: digest of the network's raw output, seconds it took."""
        mask, output, seconds = self._computed(request)
        head = json.dumps({"output_sha256": output, "seconds": round(seconds, 6)}).encode()
        return Answer(body=head + b"\n" + mask, content_type="application/octet-stream")

    def _computed(self, request: Request) -> tuple[bytes, str, float]:
        """Compute a tile, whose bytes are read only when this board serves under the epoch that they are for."""
        epoch = request.integer("epoch")
        artefact, path = self._node.model(self._node.cluster.claims(epoch))
        # Read at once: a sender's connection ends after 3 s of a closed window, and a model takes seconds to load.
        tile = request.read_all(self._node.inference.tile_limit(artefact))
        self._node.cluster.claims(epoch)  # the bytes may have taken longer than the claim lasted
        return self._node.inference.infer(artefact, path, tile)

    def weights(self, request: Request) -> Answer:
        """Read the configured model from the disk again, and say what it is now and what it has to be."""
        artefact, path = self._node.model(self._node.cluster.claims(request.integer("epoch")))
        total = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
        return Answer(document={"artefact": artefact, "sha256": total.hexdigest()})

    def start_job(self, request: Request) -> Answer:
        scene = str(request.json().get("scene"))
        return Answer(202, self._node.start_job(scene))

    def job(self, request: Request) -> Answer:
        return Answer(document=self._node.jobs.get(request.params[0]))

    def mask(self, request: Request) -> Answer:
        return Answer(body=self._node.jobs.mask(request.params[0]), content_type="application/x-npy")

    # --- guests of the constellation ---------------------------------------------------------------------------

    def guest_opens(self, request: Request) -> Answer:
        return Answer(document=asdict(self._node.guests.open(_guest(request), request.params[0], request.json())))

    def guest_sends(self, request: Request) -> Answer:
        guest, offset = _guest(request), request.integer("offset")
        piece = request.read_all(PIECE_BYTES)
        return Answer(document=asdict(self._node.guests.append(guest, request.params[0], offset, piece)))

    def guest_asks(self, request: Request) -> Answer:
        return Answer(document=asdict(self._node.guests.status(_guest(request), request.params[0])))

    def guest_gets(self, request: Request) -> Answer:
        piece = self._node.guests.mask(_guest(request), request.params[0], request.integer("offset", 0))
        return Answer(body=piece, content_type="application/octet-stream")

    def guest_took(self, request: Request) -> Answer:
        request.read_all(1024)
        return Answer(document=asdict(self._node.guests.taken(_guest(request), request.params[0])))


def _guest(request: Request) -> str:
    """Return the guest that the certificate names; ApiError 403 without flight security."""
    if request.identity is None:
        raise ApiError(403, "guests are served with flight security only")
    return request.identity.name


def _board(request: Request) -> str | None:
    """Return the board that the certificate names; None without flight security."""
    return request.identity.name if request.identity is not None else None
