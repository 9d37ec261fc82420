"""Attacks on the way: on what crosses the links, and by who is on the flight network."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace

import pytest

from hil.boards.protocol import Via
from hil.core import netns
from hil.core.wait import SYSTEM_CLOCK
from hil.errors import Blame, HilError
from hil.evidence.model import equals
from hil.lab.addressing import node_address
from hil.onboard.node.answers import PORT
from hil.onboard.node.errors import ApiError
from hil.rollout import transfer
from hil.rollout.node_client import NodeClient
from hil.rollout.policy import RolloutPolicy
from hil.rollout.steps import Context
from hil.testing.attacker import Attacker, HostileSource, Malice, hostile_neighbour

ETH_P_ALL = 3
FOR_EVER_S = 1e6
ATTACK_S = 5.0


@pytest.mark.requirement("UPS-010")
@pytest.mark.step("eavesdropping")
def test_nothing_can_be_read_on_the_crosslink(bench, participants, rollout, small_artefact, crosslink, verify, measure):
    """Every packet on the far end of the crosslink is looked at while a file crosses it."""
    words, seen, found = b"the customer's own words", [0], [0]
    with netns.inside(bench.plumbing.namespace(participants.far)):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    tap.settimeout(0.2)
    done = threading.Event()

    def listen() -> None:
        while not done.is_set():
            try:
                packet = tap.recv(65536)
            except TimeoutError:
                continue
            seen[0] += 1
            found[0] += any(text in packet for text in (words, b"HTTP/1.1", b"/artefacts/"))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        rollout.distribute(small_artefact)
    finally:
        done.set()
        thread.join(5)
        tap.close()
    verify("packets were seen", seen[0] > 1000, limit=equals(True), blame=Blame.BENCH)
    measure("packets", seen[0])
    verify("packets that can be read", found[0], limit=equals(0))


class _Impostor:
    """A member of the fleet that is the hostile source."""

    def __init__(self, guinea_pig, address):
        self.name, self.spacecraft, self._address = "impostor", guinea_pig.spacecraft, address

    def address(self, via=Via.FLIGHT):
        return "", self._address


@pytest.fixture
def fetch(bench, fleet, guinea_pig, recorder, small_artefact, neighbour_credentials):
    """``fetch(malice, deadline)``: the attacked board fetches from a hostile source, and is waited for."""

    def work(malice, deadline_s, given_up, *, ordered=True):
        craft = guinea_pig.spacecraft
        ip = node_address(bench.lab, craft)
        space = bench.plumbing.namespace(craft)
        with HostileSource(space, ip, small_artefact, malice, neighbour_credentials) as source:
            host = source.address.rsplit(":", 1)[0]
            if not ordered:
                with NodeClient(fleet, guinea_pig.name, Via.MANAGEMENT) as client:
                    path = f"/artefacts/{small_artefact.sha256}/pull"
                    client.call("POST", path, {"from": [source.address]})
                    given_up.wait(deadline_s)
                return
            # One port for the whole fleet: the source's, for the address; the board is asked where it listens.
            members = replace(fleet, members=(_Impostor(guinea_pig, host), guinea_pig), gateway="impostor")
            context = Context(members, recorder, RolloutPolicy(transfer_deadline_s=deadline_s), SYSTEM_CLOCK)
            object.__setattr__(members, "node_address", lambda name: source.address)
            transfer.to_board(context, small_artefact, guinea_pig.name, "impostor", given_up)

    return work


@pytest.mark.requirement("UPS-020", "UPS-030")
@pytest.mark.step("slow and frozen")
@pytest.mark.parametrize("malice", [Malice.DRIP, Malice.FREEZE], ids=str)
def test_a_source_that_brings_nothing_is_given_up(
    fetch, malice, protected, parameters, contained, in_background, small_artefact, forget, verify, measure
):
    """Off: no deadline."""
    patience_s, given_up = parameters["patience_s"], threading.Event()
    with contained(str(malice)):
        deadline_s = patience_s if protected else FOR_EVER_S
        begin = time.monotonic()
        thread, out = in_background(lambda: fetch(malice, deadline_s, given_up))
        thread.join(2 * patience_s)
        verify("it was given up", not thread.is_alive(), limit=equals(True))
        measure("seconds until then", round(time.monotonic() - begin, 1))
        given_up.set()
        thread.join(10)
        measure("what was said", str(out[0]) if out else "nothing")
        verify("nobody takes it for done", bool(out) and isinstance(out[0], HilError), limit=equals(True))
    forget(small_artefact.sha256)


@pytest.mark.requirement("UPS-050", "UPS-140")
@pytest.mark.step("lies of a source")
@pytest.mark.parametrize("malice", [Malice.ENDLESS, Malice.LIE], ids=str)
def test_a_source_cannot_lie_about_an_artefact(
    fetch,
    malice,
    protected,
    parameters,
    contained,
    in_background,
    small_artefact,
    forget,
    manifest_at,
    fleet,
    guinea_pig,
    verify,
    measure,
):
    """Off: the order does not say which manifest is meant."""
    patience_s, given_up = parameters["patience_s"], threading.Event()
    with contained(str(malice)):
        thread, _ = in_background(lambda: fetch(malice, patience_s, given_up, ordered=protected))
        thread.join(2 * patience_s)
        known = manifest_at(small_artefact.sha256)
        with NodeClient(fleet, guinea_pig.name, Via.MANAGEMENT) as client:
            status = client.artefact(small_artefact.sha256)
        right = known is None or known["chunk_sha256"] == small_artefact.manifest()["chunk_sha256"]
        verify("the board took no other manifest", right, limit=equals(True))
        have = status.have_bytes if status is not None else 0
        measure("what the board says of it", status.pulling.last_error if status and status.pulling else "nothing")
        verify("bytes beyond those ordered", max(have - small_artefact.size_bytes, 0), limit=equals(0))
        given_up.set()
        thread.join(10)
    forget(small_artefact.sha256)


@pytest.mark.requirement("UPS-130")
@pytest.mark.step("hostile node")
def test_a_hostile_node_gets_nothing_while_the_cluster_is_configured(
    bench, fleet, guinea_pig, rollout, bundles, loot, contained, verify, measure
):
    """It replays an order that was followed, forges, floods, drips, and sends malformed TLS and HTTP."""
    path = f"/artefacts/{'1' * 64}"
    order = ("DELETE", path, b"", fleet.operator.sign(fleet.gateway, "DELETE", path, b"") if fleet.operator else {})
    with NodeClient(fleet, fleet.gateway, Via.MANAGEMENT) as client, client.talking("DELETE", path):
        client._peer.request(*order[:3], headers=order[3])
    targets = {member.name: (member.address(Via.FLIGHT)[1], PORT) for member in fleet}
    version = guinea_pig.identity().os_version
    with contained("hostile node"), hostile_neighbour(bench.plumbing, guinea_pig.spacecraft) as space:
        with Attacker(space, targets, replace(loot, orders=[order])) as attacker:
            epoch = rollout.configure(fleet.config(os_version=version, params={"revision": 1}))
            time.sleep(ATTACK_S)
            rollout.serving_together(epoch)
        measure("attacks", sum(attacker.attempts.values()))
        for member in fleet:
            with NodeClient(fleet, member.name, Via.MANAGEMENT) as client:
                counts = client.call("GET", "/record")["counts"]
            refused = sum(each["count"] for each in counts if each["status"] >= 400)
            measure("requests refused, as the board recorded them", refused, board=member.name)
        verify("attacks that were granted something", len(attacker.let_in), limit=equals(0))


@pytest.mark.requirement("UPS-160")
@pytest.mark.step("keys")
def test_keys_are_renewed_revoked_and_expire_in_operation(
    bench, fleet, guinea_pig, pki, loot, rollout, verify, tmp_path
):
    """A new key for a board; its old one and a stolen one revoked; an expired one is not let in."""
    from contextlib import closing

    from hil.onboard.node.client import Peer
    from hil.onboard.node.flight import Credentials, as_client
    from hil.rollout.flight_keys import give_trust, renew_key

    def served(certificate) -> bool:
        credentials = Credentials(pki.trust, certificate)
        namespace, ip = guinea_pig.address(Via.MANAGEMENT)

        def connect(*_):
            return as_client(netns.connect(namespace, (ip, PORT), timeout_s=3), credentials, guinea_pig.name)

        with closing(Peer(f"{ip}:{PORT}", timeout_s=3, connector=connect)) as peer:
            try:
                return peer.request("GET", "/health")[0] == 200
            except (OSError, ApiError):
                return False

    if bench.operator is None:
        verify("boards have keys", False, limit=equals(True))
        return
    expired = tmp_path / "expired.pem"
    expired.write_bytes(pki.issue("board", "neighbour", days=-1))
    verify("an expired certificate is served", served(expired), limit=equals(False))
    verify("a stolen certificate is served before it is revoked", served(loot.board), limit=equals(True))
    old = pki.tls("board", guinea_pig.name)
    before = tmp_path / "before.pem"
    before.write_bytes(old.read_bytes())
    renew_key(guinea_pig, pki)
    verify(
        "the board answers with its new key",
        rollout.status(management=True)[guinea_pig.name] is not None,
        limit=equals(True),
    )
    pki.revoke([before.read_bytes(), loot.board.read_bytes()])
    give_trust(fleet, pki)
    verify("the stolen certificate is served", served(loot.board), limit=equals(False))
    verify("the board's old certificate is served", served(before), limit=equals(False))
    silent = [name for name, health in rollout.status().items() if health is None]
    verify("boards that answer nobody", len(silent), limit=equals(0))
