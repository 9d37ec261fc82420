"""The payload on other hardware: the same network read from the same file, executed another way, gives the same."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray

from hil.errors import ConfigurationError
from tests.benchmarks import gpu, gpu_measure, torch_backend
from tests.benchmarks.onnx_file import Graph, Node, in_single_precision, read_graph
from tests.benchmarks.onnx_plan import EXECUTABLE, simplify
from tests.kits import tiny_model

SIZE, BANDS = 16, 4
Array = NDArray[Any]


def _content(body: str, weights: Mapping[str, Array] | None = None, channels: int = 3) -> bytes:
    """An ONNX file with this body, written in ONNX's text format: image [1, 4, 16, 16] to scores."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]>'
        f"random (float[1, {BANDS}, {SIZE}, {SIZE}] image) => (float[1, {channels}, {SIZE}, {SIZE}] scores)"
        f"{{ {body} }}"
    )
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in (weights or {}).items())
    content: bytes = model.SerializeToString()
    return content


def _network(seed: int, pads: tuple[int, int, int, int]) -> bytes:
    """Every operation that the payload's network uses, in the same order, with random weights."""
    top, left, bottom, right = pads
    random = np.random.RandomState(seed)
    shapes = {
        "w1": (8, BANDS, 3, 3),
        "w2": (8, 1, 5, 5),
        "w3": (8, 8, 1, 1),
        "b3": (8,),
        "w4": (8, 8, 1, 1),
        "w5": (6, 12, 3, 3),
        "w6": (3, 6, 1, 1),
        "b6": (3,),
    } | {f"{part}{n}": (8,) for part in ("shift", "mean") for n in (1, 2, 4)}
    weights = {name: random.normal(0, 0.4, shape) for name, shape in shapes.items()}
    weights |= {f"{part}{n}": random.uniform(0.5, 2, 8) for part in ("scale", "var") for n in (1, 2, 4)}
    weights["double"] = np.array([1, 1, 2, 2])
    # Padding as exporters write it: [left, right, top, bottom, 0, ...], taken apart and turned round by constants
    body = f"""
        given = Constant <value = int64[4] {{{left}, {right}, {top}, {bottom}}}> ()
        four = Constant <value = int64[1] {{4}}> ()
        rest = ConstantOfShape <value = int64[1] {{0}}> (four)
        all = Concat <axis = 0> (given, rest)
        by_two = Constant <value = int64[2] {{-1, 2}}> ()
        pairs = Reshape (all, by_two)
        last = Constant <value = int64[1] {{-1}}> ()
        beginning = Constant <value = int64[1] {{-9223372036854775807}}> ()
        rows = Constant <value = int64[1] {{0}}> ()
        turned = Slice (pairs, last, beginning, rows, last)
        columns = Transpose <perm = [1, 0]> (turned)
        amounts = Reshape (columns, last)
        single = Cast <to = 1> (image)
        padded = Pad <mode = "constant"> (single, amounts)
        c1 = Conv <strides = [2, 2], kernel_shape = [3, 3]> (padded, w1)
        n1 = BatchNormalization <epsilon = 0.001> (c1, scale1, shift1, mean1, var1)
        g1 = Sigmoid (n1)
        stem = Mul (n1, g1)
        c2 = Conv <group = 8, pads = [2, 2, 2, 2], kernel_shape = [5, 5]> (stem, w2)
        n2 = BatchNormalization <epsilon = 0.001> (c2, scale2, shift2, mean2, var2)
        g2 = Sigmoid (n2)
        wide = Mul (n2, g2)
        pooled = GlobalAveragePool (wide)
        squeezed = Conv (pooled, w3, b3)
        gate = Sigmoid (squeezed)
        gated = Mul (gate, wide)
        c4 = Conv (gated, w4)
        n4 = BatchNormalization <epsilon = 0.001> (c4, scale4, shift4, mean4, var4)
        block = Add (n4, stem)
        large = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
            (block, , double)
        joined = Concat <axis = 1> (large, image)
        c5 = Conv <pads = [1, 1, 1, 1]> (joined, w5)
        relu = Relu (c5)
        scores = Conv (relu, w6, b6)
    """
    return _content(body, {name: array.astype(np.float32) for name, array in weights.items()})


def _onnxruntime(content: bytes, image: Array) -> Array:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": image})[0])


def _convolution(node: Node, image: Array, weights: Array, bias: Array | None = None) -> Array:
    top, left, bottom, right = node.attributes.get("pads", (0, 0, 0, 0))
    rows, columns = node.attributes.get("strides", (1, 1))
    groups = node.attributes.get("group", 1)
    image = np.pad(image, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(image, weights.shape[2:], axis=(2, 3))
    windows = windows[:, :, ::rows, ::columns]
    parts = [
        np.einsum("nchwij,ocij->nohw", part, own)
        for part, own in zip(np.split(windows, groups, 1), np.split(weights, groups, 0), strict=True)
    ]
    found: Array = np.concatenate(parts, axis=1)
    return found if bias is None else found + bias[:, None, None]


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _numpy(plan: Graph, image: Array) -> Array:
    """Executes a simplified network the slow and obvious way, in float64."""
    values: dict[str, Array] = {name: np.asarray(array, np.float64) for name, array in plan.constants.items()}
    values[plan.input] = image.astype(np.float64)
    for node in plan.nodes:
        x = [values[name] for name in node.inputs if name]
        result: Mapping[str, Any] = {
            "Conv": lambda node=node, x=x: _convolution(node, *x),
            "Silu": lambda x=x: x[0] * _sigmoid(x[0]),
            "Sigmoid": lambda x=x: _sigmoid(x[0]),
            "Relu": lambda x=x: np.maximum(x[0], 0),
            "Mul": lambda x=x: x[0] * x[1],
            "Add": lambda x=x: x[0] + x[1],
            "GlobalAveragePool": lambda x=x: x[0].mean(axis=(2, 3), keepdims=True),
            "Resize": lambda x=x: x[0].repeat(2, axis=2).repeat(2, axis=3),
            "Concat": lambda node=node, x=x: np.concatenate(x, axis=node.attributes["axis"]),
        }
        values[node.output] = result[node.op]()
    return values[plan.output]


@pytest.mark.parametrize(("seed", "pads"), [(1, (1, 1, 1, 1)), (2, (0, 0, 1, 1)), (3, (0, 1, 1, 0))])
def test_the_simplified_network_is_the_network_onnx_runtime_computes(
    seed: int, pads: tuple[int, int, int, int]
) -> None:
    content = _network(seed, pads)
    image = np.random.RandomState(seed).normal(size=(1, BANDS, SIZE, SIZE)).astype(np.float32)
    plan = simplify(read_graph(content))
    np.testing.assert_allclose(_numpy(plan, image), _onnxruntime(content, image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("seed", "pads"), [(1, (1, 1, 1, 1)), (2, (0, 0, 1, 1)), (3, (0, 1, 1, 0))])
def test_pytorch_computes_what_onnx_runtime_computes(seed: int, pads: tuple[int, int, int, int]) -> None:
    torch = pytest.importorskip(
        "torch", reason="PyTorch is no dependency; it comes with machines that have a GPU"
    )
    content = _network(seed, pads)
    image = np.random.RandomState(seed).normal(size=(1, BANDS, SIZE, SIZE)).astype(np.float32)
    network = torch_backend.module(simplify(read_graph(content)), torch.float32)
    with torch.inference_mode():
        found = network(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found, _onnxruntime(content, image), rtol=1e-4, atol=1e-5)


def test_simplifying_leaves_only_what_an_executor_must_provide_and_constants_that_are_used() -> None:
    plan = simplify(read_graph(_network(1, (0, 0, 1, 1))))
    assert {node.op for node in plan.nodes} == EXECUTABLE
    used = {name for node in plan.nodes for name in node.inputs}
    assert set(plan.constants) <= used
    assert plan.nodes[0].attributes["pads"] == (0, 0, 1, 1)


def test_a_network_in_half_precision_is_widened_without_changing_its_weights() -> None:
    stored = np.random.RandomState(5).normal(size=(3, BANDS, 1, 1)).astype(np.float16)
    body = """
        half = Cast <to = 10> (image)
        convolved = Conv (half, w)
        moved = Add (convolved, offset)
        scores = Cast <to = 1> (moved)
    """
    model = onnx.load_from_string(_content(body, {"w": stored}))
    offset = onnx.numpy_helper.from_array(np.array([0.1], dtype=np.float16))
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["offset"], value=offset))
    content = model.SerializeToString()
    image = np.random.RandomState(6).normal(size=(1, BANDS, SIZE, SIZE)).astype(np.float32)
    exact = np.einsum("nchw,oc->nohw", image.astype(np.float64), stored[:, :, 0, 0].astype(np.float64))
    exact += np.float64(np.float16(0.1))
    widened = in_single_precision(content)
    assert np.abs(_onnxruntime(widened, image) - exact).max() < 1e-5
    assert {array.dtype.name for array in read_graph(content).constants.values()} == {"float16"}
    assert {array.dtype.name for array in read_graph(widened).constants.values()} == {"float32"}
    assert all(node.attributes.get("to", 1) == 1 for node in read_graph(widened).nodes)
    assert in_single_precision(widened) == widened


def test_an_operation_that_is_not_covered_is_named() -> None:
    with pytest.raises(ConfigurationError, match="Erf at scores: not covered"):
        simplify(read_graph(_content("scores = Erf (image)", channels=BANDS)))


def test_enlarging_by_interpolation_is_refused_rather_than_done_by_repetition() -> None:
    scales = np.array([1, 1, 2, 2], dtype=np.float32)
    content = _content('scores = Resize <mode = "linear"> (image, , scales)', {"scales": scales}, BANDS)
    with pytest.raises(ConfigurationError, match="only enlarging by repetition"):
        simplify(read_graph(content))


def test_a_sigmoid_that_is_used_twice_is_kept() -> None:
    body = "gate = Sigmoid (image) product = Mul (image, gate) scores = Add (product, gate)"
    plan = simplify(read_graph(_content(body, channels=BANDS)))
    assert [node.op for node in plan.nodes] == ["Sigmoid", "Mul", "Add"]


def test_a_network_with_two_inputs_is_refused() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]>'
        "sum (float[1] a, float[1] b) => (float[1] scores) { scores = Add (a, b) }"
    )
    with pytest.raises(ConfigurationError, match=r"found \['a', 'b'\]"):
        read_graph(model.SerializeToString())


@pytest.mark.parametrize("read", [read_graph, in_single_precision])
def test_a_file_cut_short_is_a_configuration_error(read: Callable[[bytes], object]) -> None:
    with pytest.raises(ConfigurationError, match="not a readable ONNX network"):
        read(_network(1, (0, 0, 1, 1))[:300])


def test_without_the_onnx_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigurationError, match="package onnx is missing"):
        in_single_precision(b"")


def test_agreement_is_counted_per_class() -> None:
    wanted = np.array([[[0, 0, 1, 1, 2, 2]]], dtype=np.uint8)
    found = np.array([[[0, 0, 1, 2, 2, 2]]], dtype=np.uint8)
    seen = gpu_measure.agreement(found, wanted)
    assert (seen.mismatched_pixels, seen.pixels) == (1, 6)
    assert seen.iou_by_class == pytest.approx({"background": 1.0, "cloud": 0.5, "cloud shadow": 2 / 3})


def test_a_flipped_pixel_is_reported_with_how_decided_the_reference_was() -> None:
    scores = np.array([0.0, 1.0, 3.0], dtype=np.float32).reshape(1, 3, 1, 1)
    reference = gpu_measure.Reference(np.full((1, 1, 1), 2, np.uint8), scores, ())
    flipped = np.array([0.0, 3.5, 3.0], dtype=np.float32).reshape(1, 3, 1, 1)
    seen = gpu_measure.score_error(flipped, reference)
    assert (seen.max_abs, seen.largest_flipped_margin) == (2.5, 2.0)
    assert gpu_measure.score_error(scores, reference).largest_flipped_margin == 0.0


def test_a_run_at_full_load_counts_batches_whose_masks_changed() -> None:
    class Failing:
        batch = 2
        runs = 0

        def submit(self, tiles: Array) -> None:
            self.runs += 1

        def collect(self) -> Array:
            return np.full((2, 8, 8), self.runs == 3, dtype=np.uint8)

    nothing = gpu_measure.Reference(np.zeros((3, 8, 8), np.uint8), np.zeros((3, 3, 8, 8), np.float32), ())
    scene = gpu_measure.Scene(np.zeros((3, 4, 8, 8), np.uint16), nothing, nothing)
    tiles, seconds, _, wrong = gpu_measure.stream([Failing()], scene, 0.05)
    assert wrong == 1 and tiles > 6 and seconds >= 0.05


def test_without_a_gpu_the_benchmark_measures_the_cpu_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_measure, "TILE", tiny_model.TILE)
    monkeypatch.setattr(gpu, "_torch_variants", lambda *_, **__: iter(()))
    monkeypatch.setattr(gpu, "GPU_PROVIDERS", ())
    scene = tmp_path / "scene.npy"
    np.save(scene, np.random.RandomState(1).randint(0, 10_001, (4, 16, 24)).astype(np.uint16))
    model, out = tiny_model.write(tmp_path / "tiny.zip"), tmp_path / "gpu.json"
    argv = [
        "--model",
        str(model),
        "--scene",
        str(scene),
        "--out",
        str(out),
        "--each",
        "0.01",
        "--seconds",
        "0.05",
    ]
    assert gpu.main(argv) == 0
    assert "No GPU was used" in capsys.readouterr().out
    document = json.loads(out.read_text())
    assert document["gpu_used"] is False and "No GPU" in document["statement"]
    assert [(row["variant"], row["precision"]) for row in document["speed"]] == [
        ("onnxruntime CPU", "as stored")
    ]
    assert document["speed"][0]["board"]["mismatched_pixels"] == 0
    assert document["sustained"][0]["tiles"] > 0
    assert document["sustained"][0]["joules_per_tile"] is None
