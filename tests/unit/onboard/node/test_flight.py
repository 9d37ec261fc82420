"""Flight security: who is let in, what a role may ask, orders that are signed and followed once, keys that change."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from hil.boards.protocol import Via
from hil.core import netns
from hil.images.flight_pki import FlightPki, Operator, flight_pki
from hil.onboard.node import flight, server
from hil.onboard.node.answers import Order
from hil.onboard.node.client import Peer
from hil.onboard.node.epoch import Config
from hil.onboard.node.errors import ApiError
from hil.onboard.node.flight import OWN, SIGNATURE, TRUST, Credentials, Gate, as_client
from hil.rollout.node_client import NodeClient, NodeRefused, NodeSilent
from hil.rollout.rollout import Rollout
from hil.testing.attacker import Attacker, loot_of
from tests.kits.loopback_nodes import Bed, FakeBundle, bed, connector_from, eventually


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> FlightPki:
    return flight_pki(tmp_path_factory.mktemp("flight"))


@pytest.fixture(scope="module")
def boards(pki: FlightPki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed"), {"a": 2, "b": 1}, pki) as made:
        yield made


def peer(boards: Bed, board: str, certificate: Path, source: str | None = None) -> Peer:
    """Return a peer that shows a certificate to a board."""
    made = boards[board]
    credentials = Credentials(boards[board].facts / "flight" / TRUST, certificate)
    dial = connector_from(source or "127.0.0.1")
    return Peer(
        f"{made.ip}:{made.port}",
        timeout_s=3,
        connector=lambda host, port, timeout_s: as_client(dial(host, port, timeout_s), credentials, board),
    )


def from_elsewhere(namespace: str, address: tuple[str, int], *, timeout_s: float) -> socket.socket:
    """Connect as a neighbour does: from an address that is neither a board's nor the ground's."""
    return connector_from("127.0.0.66")(*address, timeout_s)


def certificate(pki: FlightPki, scratch: Path, role: str, name: str, *, days: int = 30, signs: bool = False) -> Path:
    path = scratch / f"{role}-{name}.pem"
    path.write_bytes(pki.issue(role, name, days=days, signs=signs))
    return path


def client(boards: Bed, board: str) -> NodeClient:
    return NodeClient(boards.fleet, board, Via.FLIGHT)


def test_a_rollout_with_flight_security_brings_a_cluster_to_serve(pki: FlightPki, tmp_path: Path) -> None:
    with bed(tmp_path / "bed", {"a": 2, "b": 2}, pki) as boards:
        bundle = FakeBundle.make(tmp_path / "v2.raucb", size=900_000)
        rollout = Rollout(boards.fleet, bundle, adapter=boards.adapter)
        report = rollout.run(boards.fleet.config(os_version="2.0.0", image_sha256=bundle.image_sha256))
        assert report.epoch == 1
        again = rollout.configure(boards.fleet.config(os_version="2.0.0"), fresh=True)
        assert again == 2
        with client(boards, "b1") as ground:
            counted = {(c["who"], c["what"], c["status"]) for c in ground.call("GET", "/record")["counts"]}
        assert ("board/a1", "POST /cluster/prepare", 200) in counted
        lines = [json.loads(line) for line in (boards["b1"].root / "data/requests.jsonl").read_text().splitlines()]
        assert ("operator/ground", "POST /artefacts/*/pull", 202) in {(x["who"], x["what"], x["status"]) for x in lines}


def test_nobody_without_a_certificate_of_ours_is_served(boards: Bed, pki: FlightPki, tmp_path: Path) -> None:
    foreign = flight_pki(tmp_path / "other")
    with closing(Peer(f"{boards['a1'].ip}:{boards['a1'].port}", timeout_s=3)) as plain, pytest.raises(OSError):
        plain.request("GET", "/health")
    for bad in (
        certificate(foreign, tmp_path, "operator", "ground"),
        certificate(pki, tmp_path, "operator", "expired", days=-1),
        certificate(pki, tmp_path, "operator", "signer", signs=True),  # not for TLS
    ):
        with closing(peer(boards, "a1", bad)) as stranger, pytest.raises(OSError):
            stranger.request("GET", "/health")
    with client(boards, "a1") as ground:
        refused = [line for line in ground.call("GET", "/record")["last"] if line["status"] == 401]
    assert len(refused) >= 4


@pytest.mark.parametrize(
    ("role", "method", "path", "status"),
    [
        ("tenant", "GET", "/health", 200),
        ("guest", "GET", "/health", 403),
        ("board", "GET", "/health", 200),
        ("tenant", "GET", "/artefacts", 403),
        ("tenant", "POST", "/jobs", 403),
        ("board", "DELETE", f"/artefacts/{'0' * 64}", 403),
        ("board", "PUT", f"/artefacts/{'0' * 64}/manifest", 403),
        ("board", "POST", "/cluster/propose", 403),
        ("board", "POST", f"/artefacts/{'0' * 64}/pull", 403),
        ("operator", "POST", "/cluster/renew", 403),
        ("operator", "POST", f"/artefacts/{'0' * 64}/pull", 403),  # not signed
        ("operator", "GET", "/artefacts", 200),
    ],
)
def test_a_role_may_ask_its_own_things(
    boards: Bed, pki: FlightPki, tmp_path: Path, role: str, method: str, path: str, status: int
) -> None:
    with closing(peer(boards, "a1", certificate(pki, tmp_path, role, "b1"))) as someone:
        assert someone.request(method, path, b"{}" if method != "GET" else b"")[0] == status


def test_a_board_does_not_speak_for_another_one(boards: Bed, pki: FlightPki, tmp_path: Path) -> None:
    request = {"member": "a2", "incarnation": 1, "seq": 1, "stored": [], "fit": [], "holding": None}
    own = certificate(pki, tmp_path, "board", "b1")
    for source in ("b1", "a2"):  # by its certificate it is b1, whatever its address
        with closing(peer(boards, "a1", own, boards[source].ip)) as someone, pytest.raises(ApiError) as refusal:
            someone.json("POST", "/cluster/renew", request)
        assert refusal.value.status == 403


def test_who_answers_for_another_board_is_not_spoken_to(boards: Bed, pki: FlightPki, tmp_path: Path) -> None:
    """The other board's certificate is good, but of another board; an operator's is no board's."""
    made = boards["a2"]
    with socket.create_connection((made.ip, made.port)) as sock, pytest.raises(OSError, match="board/a2 answers"):
        Operator.of(pki).secure(sock, "a1")
    context = Credentials(pki.trust, certificate(pki, tmp_path, "operator", "liar")).server()
    near, far = socket.socketpair()
    far.settimeout(3)
    with near, far:
        import threading

        def serve() -> None:
            with pytest.raises(OSError):
                context.wrap_socket(far, server_side=True).recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(OSError):
            Operator.of(pki).secure(near, "a1")
        near.close()
        thread.join(5)


def order(board: str = "a1", method: str = "DELETE", path: str = f"/artefacts/{'1' * 64}", **more: object) -> Order:
    from hashlib import sha256

    body = b""
    given = {"number": int(time.time() * 1e6), "body_sha256": sha256(body).hexdigest(), **more}
    return Order(board, method, path, **given)  # type: ignore[arg-type]


def test_an_order_is_followed_once_by_the_board_that_it_is_for(boards: Bed, pki: FlightPki) -> None:
    operator = boards.fleet.operator
    assert operator is not None
    path = f"/artefacts/{'1' * 64}"
    good = operator.signed(order())
    with closing(peer(boards, "a1", pki.tls("operator", "ground"))) as ground:
        assert ground.request("DELETE", path, headers=good)[0] == 404, "obeyed: there is no such artefact"
        status, content = ground.request("DELETE", path, headers=good)
        assert status == 409 and json.loads(content)["number"] > 0, "a replay"
        assert ground.request("DELETE", f"/artefacts/{'2' * 64}", headers=operator.signed(order()))[0] == 403
        assert ground.request("DELETE", path, headers=operator.signed(order(board="a2")))[0] == 403
        assert ground.request("DELETE", path, b"x", headers=operator.signed(order()))[0] == 403
        for away in (-2 * flight.ORDER_S, 2 * flight.ORDER_S):
            old = order(number=int((time.time() + away) * 1e6))
            assert ground.request("DELETE", path, headers=operator.signed(old))[0] == 403
        changed = operator.signed(order()) | {SIGNATURE: good[SIGNATURE]}
        assert ground.request("DELETE", path, headers=changed)[0] == 422
        assert ground.request("DELETE", path, headers={**good, SIGNATURE: "?"})[0] == 403


def test_only_an_operators_key_for_orders_signs_orders(boards: Bed, pki: FlightPki, tmp_path: Path) -> None:
    tls = pki.tls("operator", "ground")
    signers = {
        "a board": (certificate(pki, tmp_path, "board", "b1", signs=True), 403),
        "a TLS key": (tls, 422),
        "expired": (certificate(pki, tmp_path, "operator", "old", signs=True, days=-1), 422),
        "foreign": (certificate(flight_pki(tmp_path / "other"), tmp_path, "operator", "x", signs=True), 422),
    }
    with closing(peer(boards, "a1", tls)) as ground:
        for who, (signer, status) in signers.items():
            headers = Operator(pki.trust, tls, signer).signed(order())
            assert ground.request("DELETE", f"/artefacts/{'1' * 64}", headers=headers)[0] == status, who


def test_orders_that_overtake_each_other_get_new_numbers_and_old_ones_stay_refused_after_a_restart(
    boards: Bed, pki: FlightPki
) -> None:
    operator = boards.fleet.operator
    assert operator is not None
    later = operator.signed(order(board="b1", number=int((time.time() + 5) * 1e6)))
    path = f"/artefacts/{'1' * 64}"
    with closing(peer(boards, "b1", pki.tls("operator", "ground"))) as ground:
        assert ground.request("DELETE", path, headers=later)[0] == 404
    boards["b1"].off()
    boards["b1"].on()
    with closing(peer(boards, "b1", pki.tls("operator", "ground"))) as ground:
        assert ground.request("DELETE", path, headers=later)[0] == 409
    with client(boards, "b1") as again, pytest.raises(NodeRefused) as refusal:
        again.call("DELETE", path)  # which numbers it above
    assert refusal.value.status == 404


def test_a_gateway_cannot_bring_a_configuration_that_nobody_ordered(pki: FlightPki, tmp_path: Path) -> None:
    """The gateway is taken over: it has a board's certificate, and orders that it was once given."""
    with bed(tmp_path / "bed", {"a": 2}, pki) as boards:
        rollout = Rollout(boards.fleet, FakeBundle.make(tmp_path / "x", size=10), adapter=boards.adapter)
        first, second = (boards.fleet.config(os_version="1.0.0", params={"tile": tile}) for tile in (64, 128))
        rollout.configure(first)
        node = boards["a1"].node
        assert node is not None
        kept = node.cluster.member.state.committed
        assert kept is not None and kept.order is not None
        rollout.configure(second)
        own = certificate(pki, tmp_path, "board", "a1")
        forged = Config.of(7, {**second.document(), "os_version": "6.6.6"}, kept.order)
        replayed = Config.of(8, json.loads(kept.document), kept.order)
        from dataclasses import asdict

        with closing(peer(boards, "a2", own, boards["a1"].ip)) as gateway:
            for config, why in ((forged, "another configuration"), (replayed, "ordered after this one")):
                with pytest.raises(ApiError, match=why) as refusal:
                    gateway.json("POST", "/cluster/prepare", asdict(config))
                assert refusal.value.status == 403
            with pytest.raises(ApiError, match="carries no order"):
                gateway.json("POST", "/cluster/prepare", asdict(Config.of(9, second.document())))
        assert boards["a2"].node is not None
        assert boards["a2"].node.health().claim.epoch == 2


def test_a_revoked_certificate_ends_its_connections_and_a_new_key_takes_over(pki: FlightPki, tmp_path: Path) -> None:
    pki = flight_pki(tmp_path / "pki")
    with bed(tmp_path / "bed", {"a": 1}, pki) as boards:
        place = boards["a1"].facts / "flight"
        stolen = certificate(pki, tmp_path, "operator", "stolen")
        with closing(peer(boards, "a1", stolen)) as thief, client(boards, "a1") as ground:
            assert thief.request("GET", "/health")[0] == 200
            pki.revoke([stolen.read_bytes()])
            (place / TRUST).write_bytes(pki.trust.read_bytes())
            with pytest.raises(OSError):
                thief.request("GET", "/health")
            assert ground.health().board == "a1"
            (place / OWN).write_bytes(pki.issue("board", "a1"))
            assert ground.health().board == "a1", "with the board's new key"
            (place / OWN).write_bytes(b"half of a fi")
            assert ground.health().board == "a1", "with the key before"


def test_a_certificate_revoked_during_its_handshake_is_not_good_after_it(tmp_path: Path) -> None:
    pki = flight_pki(tmp_path / "pki")
    gate = Gate("a1", Credentials(pki.trust, pki.tls("board", "a1")), tmp_path / "orders.json")
    stolen = pki.tls("operator", "stolen")
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    thief = Credentials(pki.trust, stolen).client().wrap_bio(heard, said)
    near, far = socket.socketpair()
    near.settimeout(5)
    with near, far, ThreadPoolExecutor() as pool:
        admitted = pool.submit(gate.admit, far)
        with pytest.raises(ssl.SSLWantReadError):
            thief.do_handshake()
        near.sendall(said.read())
        heard.write(near.recv(1 << 16))
        while True:
            try:
                thief.do_handshake()
                break
            except ssl.SSLWantReadError:
                heard.write(near.recv(1 << 16))
        pki.revoke([stolen.read_bytes()])
        gate.credentials.refresh()  # as another connection does
        near.sendall(said.read())
        tls, identity, changes = admitted.result(5)
        with tls:
            assert str(identity) == "operator/stolen"
            assert not gate.still(identity, changes)


def test_a_certificate_that_expires_ends_its_connection(pki: FlightPki, tmp_path: Path) -> None:
    now = [time.time()]
    gate = Gate("a1", Credentials(pki.trust, pki.tls("board", "a1")), tmp_path / "orders.json", clock=lambda: now[0])
    identity = flight.Identity("operator", "x", now[0] + 5)
    assert gate.still(identity, gate.credentials.changes)
    now[0] += 6
    assert not gate.still(identity, gate.credentials.changes)


def test_strangers_in_their_handshake_take_no_place_of_those_with_a_certificate(
    boards: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_STRANGERS", 6)
    monkeypatch.setattr(server, "MAX_STRANGERS_PER_PEER", 3)
    made = boards["a2"]
    silent = [socket.create_connection((made.ip, made.port), source_address=("127.0.0.7", 0)) for _ in range(12)]
    try:
        with client(boards, "a2") as ground:
            assert ground.health().board == "a2"
        assert made.node is not None
        assert len(made.node._server._strangers) <= 3
    finally:
        for sock in silent:
            sock.close()


def test_guests_and_one_certificate_can_take_so_many_connections_and_no_more(
    boards: Bed, pki: FlightPki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_GUESTS", 3)
    monkeypatch.setattr(server, "MAX_PER_PEER", 2)
    kept: list[Peer] = []
    try:
        for name in ("one", "two", "three"):
            own = certificate(pki, tmp_path, "tenant", name)
            kept += [peer(boards, "b1", own, f"127.0.9.{len(kept) + n}") for n in range(1, 4)]
        served = []
        for each in kept:
            try:
                served.append(each.request("GET", "/health")[0])
            except OSError:
                served.append(0)
        assert served == [200, 200, 0, 200, 0, 0, 0, 0, 0], "two of one certificate, three of all tenants"
        with client(boards, "b1") as ground:
            assert ground.health().board == "b1"
    finally:
        for each in kept:
            each.close()


@pytest.mark.parametrize(
    "said", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 300]
)
def test_a_handshake_that_drips_or_is_none_ends(boards: Bed, said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "HANDSHAKE_S", 0.3)
    made = boards["a2"]
    begun = time.monotonic()
    with socket.create_connection((made.ip, made.port), timeout=5) as sock, pytest.raises(OSError):
        sock.sendall(said)
        while time.monotonic() < begun + 4:
            sock.sendall(b"\x00")
            time.sleep(0.02)
    assert time.monotonic() - begun < 2


def test_a_board_that_must_have_flight_security_and_has_no_key_serves_nobody(pki: FlightPki, tmp_path: Path) -> None:
    with bed(tmp_path / "bed", {"a": 1}, pki) as boards:
        boards["a1"].off()
        (boards["a1"].facts / "flight" / OWN).unlink()
        with pytest.raises(OSError):
            boards["a1"].on()
        with client(boards, "a1") as ground, pytest.raises(NodeSilent):
            ground.health()


def test_a_request_for_a_certificate_gets_the_name_that_the_ground_gives(pki: FlightPki) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    claims = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://orbital-hil/operator/ground")])
    wanted = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(claims, critical=False)
    made = pki.answer(
        wanted.sign(ec.generate_private_key(ec.SECP256R1()), SHA256()).public_bytes(Encoding.PEM), "board", "a1"
    )
    names = x509.load_pem_x509_certificate(made).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://orbital-hil/board/a1"]


@pytest.mark.parametrize("secured", [True, False], ids=["with", "without"])
def test_a_hostile_neighbour_gets_nothing_while_a_rollout_passes(
    pki: FlightPki, tmp_path: Path, *, secured: bool
) -> None:
    """It has a board's certificate and an old order. Without flight security the same attacks succeed."""
    operator = Operator.of(pki)
    order_of_old = ("DELETE", f"/artefacts/{'1' * 64}", b"", operator.signed(order()))
    loot = replace(loot_of(pki, tmp_path), orders=[order_of_old])
    with bed(tmp_path / "bed", {"a": 1, "b": 1}, pki if secured else None) as boards:
        if secured:
            with closing(peer(boards, "a1", pki.tls("operator", "ground"))) as ground:
                assert ground.request(*order_of_old[:3], headers=order_of_old[3])[0] == 404, "it was followed"
        targets = {name: (board.ip, board.port) for name, board in boards.boards.items()}
        bundle = FakeBundle.make(tmp_path / "v2.raucb", size=900_000)
        rollout = Rollout(boards.fleet, bundle, adapter=boards.adapter)
        with Attacker(netns.HOST, targets, loot, dial=from_elsewhere) as attacker:
            if secured:
                report = rollout.run(boards.fleet.config(os_version="2.0.0", image_sha256=bundle.image_sha256))
                assert report.epoch == 1
            eventually(lambda: len(+attacker.attempts) == 8, "every kind of attack")
        assert attacker.broken == []
        if not secured:
            assert attacker.let_in, "the test can fail"
            return
        assert attacker.let_in == []
        with client(boards, "b1") as ground_at_b1:
            artefacts = ground_at_b1.call("GET", "/artefacts")["artefacts"]
            assert [each["id"] for each in artefacts] == [bundle.sha256]


def test_old_tls_is_refused(boards: Bed, pki: FlightPki) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(pki.trust)
    context.load_cert_chain(pki.tls("operator", "ground"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    made = boards["a1"]
    with socket.create_connection((made.ip, made.port)) as sock, pytest.raises(ssl.SSLError):
        context.wrap_socket(sock)


def test_the_record_is_bounded(tmp_path: Path) -> None:
    from hil.onboard.node import request_record

    record = request_record.RequestRecord(tmp_path / "requests.jsonl")
    for number in range(3000):
        record.note(f"board/b{number}", "127.0.0.1", "DELETE /artefacts/*", 403, "no right " * 99)
    found = record.document()
    assert len(found["counts"]) <= request_record.MOST_KINDS + 1
    assert sum(each["count"] for each in found["counts"]) == 3000
    assert found["unwritten"] > 2000
    assert (tmp_path / "requests.jsonl").stat().st_size < 100_000
    eventually(lambda: record.document()["last"] != [], "the last lines")
