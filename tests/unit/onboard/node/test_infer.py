"""Tiles and jobs: the right pixels, from every board, whatever happens to one of them."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.boards.protocol import Via
from hil.core.wait import SYSTEM_CLOCK
from hil.errors import DeviceError
from hil.images.artefact import Artefact
from hil.onboard.node.answers import Claim
from hil.onboard.node.client import Peer
from hil.onboard.node.errors import ApiError
from hil.onboard.node.infer import Inference, from_npy, load, predict, to_npy
from hil.rollout.cluster_job import start_job
from hil.rollout.node_client import NodeClient
from hil.rollout.rollout import Rollout
from hil.testing.fakes import FakeClock
from tests.kits import tiny_model
from tests.kits.loopback_nodes import Bed, FakeBundle, bed, eventually
from tests.kits.tiny_model import TILE

SCENE = np.random.RandomState(3).randint(0, 10_001, (4, 3 * TILE, 4 * TILE)).astype(np.uint16)
WANTED = (SCENE[0] > 5000).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write(tmp_path_factory.mktemp("model") / "tiny.zip")


def test_a_tile_gets_the_class_with_the_highest_score(model: Path) -> None:
    tile = SCENE[:, :TILE, :TILE]
    assert np.array_equal(predict(load(model), tile), WANTED[:TILE, :TILE])


def test_the_digest_of_the_raw_output_shows_what_the_mask_does_not(model: Path, tmp_path: Path) -> None:
    inference, tile = Inference(), SCENE[:, :TILE, :TILE]
    mask, output, seconds = inference.infer("tiny", model, to_npy(tile))
    assert np.array_equal(from_npy(mask), WANTED[:TILE, :TILE])
    assert inference.infer("tiny", model, to_npy(tile))[1] == output
    assert seconds > 0
    brighter = tile + np.uint16(1)  # by a ten-thousandth: no pixel changes its class
    assert np.array_equal(predict(load(model), brighter), WANTED[:TILE, :TILE])
    assert inference.infer("tiny", model, to_npy(brighter))[1] != output


@pytest.mark.parametrize(
    "tile", [SCENE[:, :TILE, : TILE - 1], SCENE[:3, :TILE, :TILE], SCENE[:, :TILE, :TILE].astype(np.float32)]
)
def test_a_tile_of_the_wrong_shape_or_type_is_refused(model: Path, tile: Any) -> None:
    with pytest.raises(ApiError, match="tile must be"):
        predict(load(model), tile)


def npy(head: str, data: bytes = b"x" * 64) -> bytes:
    """A ``.npy`` file with a head of the test's own."""
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data


HOSTILE = [
    b"",
    b"not numpy",
    to_npy(np.zeros(3))[:-5],
    to_npy(np.zeros(3)) + b"more",
    npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,)}"),
    npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-64,)}"),
    npy("{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000000,)}"),
    npy("{'descr': '|O', 'fortran_order': False, 'shape': (8,)}"),
    npy("{'descr': 7, 'fortran_order': [], 'shape': 'x'}"),
    npy("(" * 9000),
    npy("{"),
    b"\x93NUMPY\x09\x09" + bytes(64),
]


@pytest.mark.parametrize("content", HOSTILE)
def test_what_is_not_an_array_is_refused(content: bytes) -> None:
    with pytest.raises(ApiError, match="npy"):
        from_npy(content)


def test_what_is_not_a_model_is_refused_and_remembered(tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK nothing")
    inference = Inference()
    with pytest.raises(ApiError, match="not a model"):
        inference.prepare("x", broken)
    assert inference.error and inference.loaded is None


@pytest.fixture
def cluster(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Bed, str]]:
    """Four boards under one epoch with the tiny model, and a scene at the gateway."""
    monkeypatch.setattr("hil.onboard.node.app.cms_check", lambda keyring: lambda path, signature: None)
    with bed(tmp_path, {"a": 2, "b": 2}) as boards:
        bundle = FakeBundle.make(tmp_path / "bundle", "1.0.0", 10)
        rollout = Rollout(boards.fleet, bundle, adapter=boards.adapter)
        network = Artefact.of_file(model, "model", signature=b"signed")
        rollout.distribute(network)
        scene = tmp_path / "scene.npy"
        scene.write_bytes(to_npy(SCENE))
        artefact = Artefact.of_file(scene, "scene")
        rollout.upload(artefact)
        params = {"tile": TILE}
        rollout.configure(boards.fleet.config(os_version="1.0.0", model=network.sha256, params=params))
        yield boards, artefact.sha256


def finished(boards: Bed, job: str) -> dict[str, Any]:
    with NodeClient(boards.fleet, "a1", Via.FLIGHT) as client:
        eventually(lambda: client.call("GET", f"/jobs/{job}")["state"] != "running", "the job to end", 60)
        return client.call("GET", f"/jobs/{job}")


def start(boards: Bed, scene: str) -> str:
    with NodeClient(boards.fleet, "a1", Via.FLIGHT) as client:
        return str(client.call("POST", "/jobs", {"scene": scene})["id"])


def mask_of(boards: Bed, job: str) -> Any:
    with NodeClient(boards.fleet, "a1", Via.FLIGHT) as client:
        return from_npy(client.raw("GET", f"/jobs/{job}/mask")[1])


def test_a_job_uses_every_board_and_assembles_the_right_mask(cluster: tuple[Bed, str]) -> None:
    boards, scene = cluster
    job = start(boards, scene)
    document = finished(boards, job)
    assert document["state"] == "done", document
    assert all(work["tiles"] > 0 for work in document["boards"].values())
    assert sum(work["tiles"] for work in document["boards"].values()) == 12
    assert all(work["bytes_in"] > 4 * TILE * TILE * 2 * work["tiles"] for work in document["boards"].values())
    assert np.array_equal(mask_of(boards, job), WANTED)


def test_tiles_of_a_board_that_dies_are_done_by_the_others_and_counted(cluster: tuple[Bed, str]) -> None:
    boards, scene = cluster
    boards["b2"].off()
    job = start(boards, scene)
    document = finished(boards, job)
    assert document["state"] == "done", document
    assert document["boards"]["b2"]["tiles"] == 0
    assert document["boards"]["b2"]["failures"] > 0
    assert document["retried"] > 0
    assert np.array_equal(mask_of(boards, job), WANTED)


def test_a_board_that_cannot_be_reached_leaves_its_first_tile_to_the_others_at_once(
    cluster: tuple[Bed, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    boards, scene = cluster
    boards["b2"].off()
    for limit in ("LAPSES", "MAX_FAILURES"):  # it neither keeps the tile for a while nor is left out
        monkeypatch.setattr(f"hil.onboard.node.jobs.{limit}", 1_000_000)
    assert finished(boards, start(boards, scene))["state"] == "done"


def test_tiles_of_a_board_that_answers_nonsense_are_done_by_the_others(
    cluster: tuple[Bed, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    boards, scene = cluster
    node = boards["b2"].node
    assert node is not None
    answers = itertools.cycle([*HOSTILE, to_npy(np.zeros((TILE, TILE))), to_npy(np.zeros((1, 1), np.uint8))])
    monkeypatch.setattr(node.inference, "infer", lambda *_: (next(answers), "", 0.0))
    job = start(boards, scene)
    document = finished(boards, job)
    assert document["state"] == "done", document
    assert document["boards"]["b2"]["tiles"] == 0 < document["boards"]["b2"]["failures"]
    assert np.array_equal(mask_of(boards, job), WANTED)


def test_a_board_that_refuses_its_first_tiles_still_takes_part(
    cluster: tuple[Bed, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose lease lapses for a moment does."""
    boards, scene = cluster
    node = boards["a1"].node
    assert node is not None
    real, refusals = node.inference.infer, [ApiError(409, "epoch 1 is not served")] * 3

    def lapsing(artefact: str, path: Path, tile: bytes) -> tuple[bytes, str, float]:
        if refusals:
            raise refusals.pop()
        return real(artefact, path, tile)

    monkeypatch.setattr(node.inference, "infer", lapsing)
    document = finished(boards, start(boards, scene))
    assert document["state"] == "done", document
    assert (document["boards"]["a1"]["failures"], document["retried"]) == (3, 3)
    assert all(work["tiles"] > 0 for work in document["boards"].values())


def test_a_tile_under_another_epoch_is_refused(cluster: tuple[Bed, str]) -> None:
    boards, _ = cluster
    peer = Peer(f"{boards['a2'].ip}:{boards['a2'].port}", timeout_s=5)
    tile = to_npy(SCENE[:, :TILE, :TILE])
    assert peer.request("POST", "/infer?epoch=2", tile)[0] == 409
    status, mask = peer.request("POST", "/infer?epoch=1", tile)
    assert status == 200 and np.array_equal(from_npy(mask), WANTED[:TILE, :TILE])
    peer.close()


def test_a_body_longer_than_a_tile_of_the_loaded_network_is_refused_before_it_is_read(cluster: tuple[Bed, str]) -> None:
    boards, _ = cluster
    peer = Peer(f"{boards['a2'].ip}:{boards['a2'].port}", timeout_s=5)
    assert peer.request("POST", "/infer?epoch=1", to_npy(SCENE[:, :TILE, :TILE]))[0] == 200  # it is loaded now
    assert peer.request("POST", "/infer?epoch=1", bytes(8 * TILE * TILE + 1025))[0] == 413
    peer.close()


def test_jobs_start_at_the_gateway_with_a_scene_that_is_there(cluster: tuple[Bed, str]) -> None:
    boards, scene = cluster
    for board, wanted, status in (("a2", scene, 409), ("a1", "0" * 64, 404)):
        peer = Peer(f"{boards[board].ip}:{boards[board].port}", timeout_s=5)
        with pytest.raises(ApiError) as refusal:
            peer.json("POST", "/jobs", {"scene": wanted})
        assert refusal.value.status == status
        peer.close()


def test_two_jobs_at_once_are_refused(cluster: tuple[Bed, str], monkeypatch: pytest.MonkeyPatch) -> None:
    boards, scene = cluster
    hold = threading.Event()
    real = Inference.infer

    def slow(self: Inference, artefact: str, path: Path, tile: bytes) -> tuple[bytes, str, float]:
        hold.wait(20)
        return real(self, artefact, path, tile)

    monkeypatch.setattr(Inference, "infer", slow)
    job = start(boards, scene)
    try:
        with pytest.raises(Exception, match="is running"):
            start(boards, scene)
    finally:
        hold.set()
    assert finished(boards, job)["state"] == "done"


def test_a_job_is_begun_once_a_gateway_whose_lease_has_lapsed_claims_again(
    cluster: tuple[Bed, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    boards, scene = cluster
    gateway, shown = boards["a1"].node, list[Claim]()
    assert gateway is not None
    real = gateway.cluster.claim

    def claim() -> Claim:
        shown.append(Claim(serving=False) if len(shown) < 3 else real())
        return shown[-1]

    monkeypatch.setattr(gateway.cluster, "claim", claim)
    with NodeClient(boards.fleet, "a1", Via.FLIGHT) as client:
        job = start_job(client, scene, SYSTEM_CLOCK)
    assert finished(boards, job)["state"] == "done"


def test_a_job_that_the_gateway_may_not_take_says_so_at_the_deadline(cluster: tuple[Bed, str]) -> None:
    boards, scene = cluster
    reason = r"a2 did not take the job within 10 s: .*jobs start at the gateway"
    with NodeClient(boards.fleet, "a2", Via.FLIGHT) as client, pytest.raises(DeviceError, match=reason):
        start_job(client, scene, FakeClock())


@pytest.mark.parametrize(("lapse", "state"), [(2, "done"), (1_000_000, "failed")])
def test_a_job_waits_out_a_short_lapse_of_the_gateways_lease(
    cluster: tuple[Bed, str], monkeypatch: pytest.MonkeyPatch, lapse: int, state: str
) -> None:
    boards, scene = cluster
    gateway, asked = boards["a1"].node, Counter[str]()
    assert gateway is not None
    path = gateway.store.installed(scene)
    assert path is not None
    monkeypatch.setattr("hil.onboard.node.jobs.RETRY_PAUSE_S", 0.01)

    def still_claims() -> bool:
        asked[threading.current_thread().name] += 1
        return asked[threading.current_thread().name] > lapse

    job = gateway.jobs.start(scene, path, gateway.cluster.claims(1), still_claims)
    document = finished(boards, job.id)
    assert document["state"] == state, document
    assert all((work["tiles"] > 0) == (state == "done") for work in document["boards"].values())
    assert state == "done" or "the gateway does not claim epoch 1" in document["error"]


GPU_RUNTIME = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "OtherExecutionProvider", "CPUExecutionProvider"]
CUDA = ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"})


class GpuRuntime:
    """ONNX Runtime for GPUs, as far as its libraries load: ``asked`` has the providers of each session."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.asked: list[list[Any]] = []
        self.refused: set[str] = set()
        """Providers for which it raises, as 1.31 does."""
        self.silent: set[str] = set()
        """Providers that it leaves out without a word."""
        self.capi = root / "capi"
        self.capi.mkdir()
        monkeypatch.setattr("onnxruntime.__file__", str(root / "__init__.py"))
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: GPU_RUNTIME)
        monkeypatch.setattr("onnxruntime.InferenceSession", self.session)

    def session(self, weights: bytes, options: object, providers: list[Any], enable_fallback: int = 1) -> GpuRuntime:
        assert not enable_fallback  # it would forget the options
        self.asked.append(providers)
        self.names = [name if isinstance(name, str) else name[0] for name in providers]
        if self.refused & {*self.names}:
            raise RuntimeError("Please install TensorRT libraries")
        return self

    def get_providers(self) -> list[str]:
        return [name for name in self.names if name not in self.silent]


@pytest.fixture
def gpu_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> GpuRuntime:
    return GpuRuntime(monkeypatch, tmp_path)


def test_a_network_runs_on_the_first_provider_that_the_board_has(model: Path, gpu_runtime: GpuRuntime) -> None:
    found = load(model)
    assert (found.provider, found.providers, found.left_out) == ("TensorRT", ("TensorRT", "CUDA", "CPU"), "")
    assert gpu_runtime.asked == [[GPU_RUNTIME[0], CUDA, GPU_RUNTIME[3]]]


def test_tensorrt_is_left_out_where_its_library_does_not_load(
    model: Path, gpu_runtime: GpuRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = gpu_runtime.capi / "libonnxruntime_providers_tensorrt.so"
    library.write_bytes(
        b"\x7fELF libcudart.so.12\0libnvrtc.so.12\0no libnvinfer.so.\0libnvinfer.so.10\0libnvonnxparser.so.10\0"
    )
    found = load(model)
    assert gpu_runtime.asked == [[CUDA, GPU_RUNTIME[3]]]
    assert found.providers == ("CUDA", "CPU")
    assert found.left_out.startswith("TensorRT: libnvinfer.so.10: cannot open shared object file")
    opened: list[str] = []
    monkeypatch.setattr("hil.onboard.node.infer.ctypes.CDLL", opened.append)
    assert load(model).provider == "TensorRT"
    assert opened == ["libnvinfer.so.10", "libnvonnxparser.so.10"]


def test_a_provider_that_does_not_start_gives_way_to_the_next_with_its_options(
    model: Path, gpu_runtime: GpuRuntime
) -> None:
    gpu_runtime.refused = {GPU_RUNTIME[0]}
    found = load(model)
    assert gpu_runtime.asked[1:] == [[CUDA, GPU_RUNTIME[3]]]
    assert (found.provider, found.left_out) == ("CUDA", "TensorRT: Please install TensorRT libraries")


def test_a_provider_that_the_runtime_left_out_is_named(model: Path, gpu_runtime: GpuRuntime) -> None:
    gpu_runtime.silent = {GPU_RUNTIME[0], GPU_RUNTIME[1]}
    found = load(model)
    assert found.providers == ("CPU",)
    assert found.left_out == "TensorRT: its libraries do not load; CUDA: its libraries do not load"


def test_a_job_says_what_each_boards_network_ran_on(cluster: tuple[Bed, str]) -> None:
    boards, scene = cluster
    with NodeClient(boards.fleet, "a1", Via.FLIGHT) as client:
        job = client.call("POST", "/jobs", {"scene": scene})["id"]
        assert {board["provider"] for board in finished(boards, job)["boards"].values()} == {"CPU"}
        health = client.health()
        assert (health.model_provider, health.model_providers, health.model_left_out) == ("CPU", ("CPU",), "")
