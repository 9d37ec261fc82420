"""Work for guests: asked for once or again and again, it is done once; and a guest sees its own requests only."""

from __future__ import annotations

import hashlib
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from hil.images.artefact import Artefact
from hil.images.flight_pki import FlightPki, flight_pki
from hil.onboard import guest
from hil.onboard.guest import GaveUp, Service, ask
from hil.onboard.node import guest_work
from hil.onboard.node.client import Peer
from hil.onboard.node.errors import ApiError
from hil.onboard.node.flight import OWN, Credentials, as_client
from hil.onboard.node.guest_work import GuestRequest, GuestWork
from hil.onboard.node.infer import from_npy, to_npy
from hil.onboard.node.jobs import Job, Jobs
from hil.rollout.rollout import Rollout
from tests.kits import tiny_model
from tests.kits.loopback_nodes import Bed, FakeBundle, bed, connector_from
from tests.kits.tiny_model import TILE

SCENE = np.random.RandomState(5).randint(0, 10_001, (4, 3 * TILE, 4 * TILE)).astype(np.uint16)
WANTED = (SCENE[0] > 5000).astype(np.uint8)
KEY = "0" * 32


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> FlightPki:
    return flight_pki(tmp_path_factory.mktemp("flight"))


@pytest.fixture
def boards(tmp_path: Path, pki: FlightPki, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """Two boards that serve under an epoch, with flight security."""
    monkeypatch.setattr("hil.onboard.node.app.cms_check", lambda keyring: lambda path, signature: None)
    monkeypatch.setattr(guest, "AGAIN_S", 0.01)
    monkeypatch.setattr(guest, "PIECE_BYTES", 1000)
    monkeypatch.setattr(guest_work, "PIECE_BYTES", 100)
    monkeypatch.setattr("hil.onboard.node.routes.PIECE_BYTES", 1000)
    with bed(tmp_path / "bed", {"a": 1, "b": 1}, pki) as made:
        rollout = Rollout(made.fleet, FakeBundle.make(tmp_path / "bundle", "1.0.0", 10), adapter=made.adapter)
        network = Artefact.of_file(tiny_model.write(tmp_path / "tiny.zip"), "model", signature=b"signed")
        rollout.distribute(network)
        rollout.configure(made.fleet.config(os_version="1.0.0", model=network.sha256, params={"tile": TILE}))
        yield made


def credentials(pki: FlightPki, name: str) -> Credentials:
    return Credentials(pki.trust, pki.tls("guest", name))


def service(boards: Bed) -> Service:
    return Service("a1", f"{boards['a1'].ip}:{boards['a1'].port}")


def jobs_of(boards: Bed) -> list[str]:
    return [path.stem for path in (boards["a1"].root / "data/jobs").glob("*.json")]


def test_a_guest_gets_the_right_mask_once_and_sees_nothing_else(boards: Bed, pki: FlightPki) -> None:
    mask = ask(service(boards), credentials(pki, "flight-1"), to_npy(SCENE), deadline_s=60, key=KEY)
    assert np.array_equal(from_npy(mask), WANTED)
    assert jobs_of(boards) == ["1"]
    assert not [*(boards["a1"].root / "data").glob("guests/*/*.npy")], "its scene is forgotten"
    for name, path, status in (
        ("flight-1", f"/guest/{KEY}/mask", 410),
        ("other", f"/guest/{KEY}", 404),
        ("flight-1", "/jobs/1/mask", 403),
        ("flight-1", "/health", 403),
    ):
        own = credentials(pki, name)

        def dial(host: str, port: int, timeout_s: float, own: Credentials = own) -> socket.socket:
            return as_client(connector_from("127.0.0.1")(host, port, timeout_s), own, "a1")

        with closing(Peer(service(boards).address, timeout_s=3, connector=dial)) as peer:
            assert peer.request("GET", path)[0] == status, (name, path)


def test_a_guest_that_loses_contact_at_any_request_still_gets_one_result_of_one_job(
    boards: Bed, pki: FlightPki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second exchange is carried out, and its answer is lost."""
    real, lost = Peer._exchange, itertools.count()

    def flaky(self: Peer, *arguments: object) -> tuple[int, bytes]:
        answer = real(self, *arguments)  # type: ignore[arg-type]
        if b"guest" in str(arguments).encode() and next(lost) % 2 == 0:
            self.close()
            raise TimeoutError("the contact is over")
        return answer

    monkeypatch.setattr(Peer, "_exchange", flaky)
    said: list[str] = []
    mask = ask(
        service(boards),
        credentials(pki, "flight-1"),
        to_npy(SCENE),
        deadline_s=60,
        tell=lambda what, **facts: said.append(what),
    )
    assert np.array_equal(from_npy(mask), WANTED)
    assert jobs_of(boards) == ["1"]
    assert said.count("joined") > 5 and said.count("got") == 1


def test_a_guest_gives_up_when_it_is_refused_or_out_of_time(boards: Bed, pki: FlightPki) -> None:
    with pytest.raises(GaveUp, match="size must be 1 to"):
        ask(service(boards), credentials(pki, "flight-1"), bytes(guest_work.LARGEST_SCENE_BYTES + 1), deadline_s=20)
    with pytest.raises(GaveUp, match="failed"):
        ask(service(boards), credentials(pki, "flight-1"), b"no scene", deadline_s=20)
    nobody = Service("a1", f"{boards['a1'].ip}:1")
    with pytest.raises(GaveUp, match="deadline"):
        ask(nobody, credentials(pki, "flight-1"), b"x", deadline_s=0.1)


def test_a_guest_as_a_process_says_what_happens_line_by_line(
    boards: Bed, pki: FlightPki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scene.npy").write_bytes(to_npy(SCENE))
    (tmp_path / OWN).write_bytes(pki.tls("guest", "flight-1").read_bytes())
    (tmp_path / "ca.pem").write_bytes(pki.trust.read_bytes())
    words = ["--board", "a1", "--address", service(boards).address, "--keys", str(tmp_path)]
    words += ["--scene", str(tmp_path / "scene.npy"), "--mask", str(tmp_path / "mask.npy")]
    assert guest.main(words) == 0
    assert np.array_equal(from_npy((tmp_path / "mask.npy").read_bytes()), WANTED)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["what"] for line in lines] == ["joined", "sent", "computed", "got"]
    assert guest.main([*words, "--deadline-s", "0"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["what"] == "gave up"


# --- the requests themselves, without a network


class Desk:
    """Guest work over jobs that the test ends by hand."""

    def __init__(self, root: Path) -> None:
        self.now_s, self.begun, self.refusal = 0.0, list[str](), ""
        self.jobs = Jobs(root / "jobs")
        self._root = root
        self.work = GuestWork(root / "guests", self.jobs, self._begin, clock=lambda: self.now_s)

    def _begin(self, scene: str, path: Path) -> Job:
        if self.refusal:
            raise ApiError(409, self.refusal)
        self.begun.append(scene)
        self.end("running")
        return Job(str(len(self.begun)), scene, 1)

    def end(self, state: str) -> None:
        (self._root / f"jobs/{len(self.begun)}.json").write_text(json.dumps({"state": state, "error": "a reason"}))
        (self._root / f"jobs/{len(self.begun)}.npy").write_bytes(b"mask")

    def asked(self, guest_name: str = "g", key: str = KEY, content: bytes = b"scene") -> GuestRequest:
        digest = hashlib.sha256(content).hexdigest()
        self.work.open(guest_name, key, {"size": len(content), "sha256": digest})
        return self.work.append(guest_name, key, 0, content)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def refused(call: Callable[[], object]) -> int:
    with pytest.raises(ApiError) as refusal:
        call()
    return refusal.value.status


def test_pieces_come_in_order_and_a_wrong_digest_begins_no_job(desk: Desk) -> None:
    desk.work.open("g", KEY, {"size": 4, "sha256": "1" * 64})
    assert refused(lambda: desk.work.append("g", KEY, 2, b"ab")) == 409
    assert refused(lambda: desk.work.append("g", KEY, 0, b"abcde")) == 413
    assert desk.work.append("g", KEY, 0, b"ab").have == 2
    assert refused(lambda: desk.work.append("g", KEY, 0, b"ab")) == 409
    assert desk.work.append("g", KEY, 2, b"cd").state == "failed"
    assert not desk.begun


def test_a_key_is_one_request_whatever_is_asked_under_it(desk: Desk) -> None:
    running = desk.asked()
    again = desk.work.open("g", KEY, {"size": 5, "sha256": running.sha256, "state": "done", "job": "7"})
    assert again == running
    assert refused(lambda: desk.work.open("g", KEY, {"size": 6, "sha256": running.sha256})) == 409
    assert refused(lambda: desk.work.open("g", "1" * 32, {"size": 6, "sha256": "../x"})) == 400


def test_a_job_that_a_restart_cut_off_is_begun_again_and_not_for_ever(desk: Desk) -> None:
    desk.asked()
    for _ in range(guest_work.MOST_RUNS - 1):
        desk.end("cut off")
        assert desk.work.status("g", KEY).state == "running"
    assert len(desk.begun) == guest_work.MOST_RUNS
    desk.end("cut off")
    assert desk.work.status("g", KEY).state == "failed"
    assert len(desk.begun) == guest_work.MOST_RUNS


def test_a_request_waits_while_another_job_runs_and_says_why(desk: Desk) -> None:
    desk.refusal = "job 9 is running"
    assert desk.asked().state == "queued"
    assert desk.work.status("g", KEY).error == "job 9 is running"
    desk.refusal = ""
    assert desk.work.status("g", KEY) == GuestRequest(5, hashlib.sha256(b"scene").hexdigest(), "running", 5, "1", 1)
    desk.end("failed")
    assert desk.work.status("g", KEY).error == "a reason"


def test_a_mask_is_given_until_it_is_taken(desk: Desk) -> None:
    desk.asked()
    assert refused(lambda: desk.work.mask("g", KEY, 0)) == 409
    assert refused(lambda: desk.work.taken("g", KEY)) == 409
    desk.end("done")
    assert desk.work.status("g", KEY).mask_bytes == 4
    assert desk.work.mask("g", KEY, 1) == b"ask"
    assert desk.work.taken("g", KEY).state == desk.work.taken("g", KEY).state == "taken"
    assert refused(lambda: desk.work.mask("g", KEY, 0)) == 410
    assert len(desk.begun) == 1


def test_a_guest_has_so_many_requests_and_the_oldest_that_nobody_asks_for_give_way(desk: Desk) -> None:
    desk.refusal = "busy"
    for number in range(guest_work.MOST_OPEN):
        desk.asked(key=f"{number:032x}")
    assert refused(lambda: desk.asked(key="f" * 32)) == 503
    for number in range(guest_work.MOST_OPEN_AT_ALL - guest_work.MOST_OPEN):
        desk.asked(f"g{number}")
    assert refused(lambda: desk.asked("another")) == 503
    desk.now_s = 4e12
    assert desk.asked(key="f" * 32).state == "queued"
    assert desk.work.status("g", f"{0:032x}").state == "failed"


def test_what_was_taken_is_remembered_for_a_while(desk: Desk) -> None:
    for number in range(guest_work.MOST_TAKEN + 5):
        desk.asked(key=f"{number:032x}")
        desk.end("done")
        desk.work.taken("g", f"{number:032x}")
    assert refused(lambda: desk.work.status("g", f"{0:032x}")) == 404
    assert desk.work.status("g", f"{guest_work.MOST_TAKEN + 4:032x}").state == "taken"


def test_a_damaged_request_is_forgotten(desk: Desk, tmp_path: Path) -> None:
    desk.asked()
    (tmp_path / f"guests/g/{KEY}.json").write_text('{"size": 0}')
    assert refused(lambda: desk.work.status("g", KEY)) == 404
    assert not list(tmp_path.glob("guests/g/*.npy")), "its scene, too"


@pytest.mark.parametrize("content", ["{", "{}", '{"state": "no such state"}'])
def test_a_job_whose_file_is_damaged_is_begun_again(desk: Desk, tmp_path: Path, content: str) -> None:
    desk.asked()
    (tmp_path / "jobs/1.json").write_text(content)
    status = desk.work.status("g", KEY)
    assert (status.state, status.job, status.runs) == ("running", "2", 2)


def test_who_asks_keeps_a_request_and_no_file_is_written_for_that(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_s = desk.now_s = time.time()
    desk.asked()
    desk.end("done")
    desk.work.status("g", KEY)
    desk.refusal = "job 9 is running"
    desk.asked("waits")
    saved: list[Path] = []
    monkeypatch.setattr("hil.onboard.node.guest_work.state.save", lambda path, document: saved.append(path))
    for later_s in (3000.0, 6000.0):
        desk.now_s = begin_s + later_s
        assert desk.work.mask("g", KEY, 0) == b"mask" and desk.work.status("waits", KEY).state == "queued"
    assert not saved
    monkeypatch.undo()
    desk.now_s = begin_s + 9000.0
    desk.asked("another")
    assert desk.work.status("g", KEY).state == "done" and desk.work.status("waits", KEY).state == "queued"
    desk.now_s = begin_s + 9000.0 + guest_work.KEPT_S + 1
    desk.asked("another", "1" * 32)
    assert desk.work.status("g", KEY).state == "failed"


def test_the_mask_of_a_job_that_ended_after_its_request_gave_way_goes_with_it(desk: Desk, tmp_path: Path) -> None:
    desk.asked()
    desk.now_s = time.time() + guest_work.KEPT_S + 1
    for number in range(1, guest_work.MOST_TAKEN + 2):
        desk.asked(key=f"{number:032x}")
        desk.end("done")
        desk.work.taken("g", f"{number:032x}")
        (tmp_path / "jobs/1.npy").write_bytes(b"mask") if number == 1 else None
    desk.asked(key="f" * 32)
    assert not (tmp_path / "jobs/1.npy").exists()
