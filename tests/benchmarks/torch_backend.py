"""Runs the network with PyTorch, for machines whose ONNX Runtime does not support their GPU.

PyTorch is no dependency of this project: it comes with such machines (a GPU server, JetPack's containers), and
:func:`available` says whether it is there.  The graph of :mod:`.onnx_plan` becomes a ``torch.fx`` module,
channels last, and on a GPU the whole way from reflectance to class mask is recorded once as a CUDA graph.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tests.benchmarks.onnx_file import Graph, Node
from tests.benchmarks.onnx_plan import resize_factors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WARM_UPS = 5


class Precision(StrEnum):
    """How multiplications are done."""

    FP32 = "fp32"  # IEEE single precision, tensor cores not used
    TF32 = "tf32"  # inputs of multiplications rounded to 10 bits of mantissa, sums in single precision
    FP16 = "fp16"  # half precision as the weights are stored, sums in single precision


def available() -> bool:
    """Whether PyTorch is installed (it is not imported)."""
    return importlib.util.find_spec("torch") is not None


def module(plan: Graph, dtype: Any) -> Any:
    """A ``torch.fx.GraphModule`` that computes the plan's output [N, C, H, W] from its input, on the CPU in ``dtype``.

    ``plan`` comes from :func:`tests.benchmarks.onnx_plan.simplify`, whose operations are all this executes.
    """
    import torch

    root = torch.nn.Module()
    graph = torch.fx.Graph()
    values = {plan.input: graph.placeholder("image")}
    for index, (name, array) in enumerate(plan.constants.items()):
        tensor = torch.tensor(array)
        if tensor.is_floating_point():
            tensor = tensor.to(dtype)
        if tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        root.register_buffer(f"constant_{index}", tensor)
        values[name] = graph.get_attr(f"constant_{index}")
    for node in plan.nodes:
        values[node.output] = _step(graph, node, plan, values)
    graph.output(values[plan.output])
    graph.eliminate_dead_code()
    return torch.fx.GraphModule(root, graph).eval()


def _step(graph: Any, node: Node, plan: Graph, values: dict[str, Any]) -> Any:
    import torch
    from torch.nn import functional as nn

    inputs = [values[name] if name else None for name in node.inputs]
    match node.op:
        case "Conv":
            return _convolution(graph, node, inputs)
        case "Silu" | "Sigmoid" | "Relu":
            function = {"Silu": nn.silu, "Sigmoid": torch.sigmoid, "Relu": torch.relu}[node.op]
            return graph.call_function(function, (inputs[0],))
        case "Mul" | "Add":
            return graph.call_function({"Mul": torch.mul, "Add": torch.add}[node.op], tuple(inputs))
        case "GlobalAveragePool":
            return graph.call_function(torch.mean, (inputs[0],), {"dim": (2, 3), "keepdim": True})
        case "Resize":
            factors = tuple(float(n) for n in resize_factors(node, plan.constants))
            return graph.call_function(
                nn.interpolate, (inputs[0],), {"scale_factor": factors, "mode": "nearest"}
            )
        case "Concat":
            return graph.call_function(torch.cat, (inputs,), {"dim": node.attributes["axis"]})
    raise AssertionError(f"{node.op} passed simplify()")


def _convolution(graph: Any, node: Node, inputs: list[Any]) -> Any:
    from torch.nn import functional as nn

    top, left, bottom, right = node.attributes.get("pads", (0, 0, 0, 0))
    image, padding = inputs[0], (top, left)
    if (top, left) != (bottom, right):
        image, padding = graph.call_function(nn.pad, (image, [left, right, top, bottom])), (0, 0)
    options = {
        "stride": tuple(node.attributes.get("strides", (1, 1))),
        "padding": padding,
        "dilation": tuple(node.attributes.get("dilations", (1, 1))),
        "groups": node.attributes.get("group", 1),
    }
    return graph.call_function(nn.conv2d, (image, *inputs[1:]), options)


class TorchRunner:
    """One network on one device for batches of one size; masks are uint8 [N, H, W].

    ``submit`` returns at once on a GPU, ``collect`` waits for the masks; between the two the caller must not submit
    again.  Two runners used in turn overlap copies with computation.  Not for use from several threads.
    """

    backend = "torch"

    def __init__(
        self,
        plan: Graph,
        card: dict[str, Any],
        *,
        precision: Precision,
        batch: int,
        device: str = "cuda",
        compiled: bool = False,
    ) -> None:
        """``card`` is the artefact's ``model.json``; ``compiled`` merges steps (torch.compile, tens of seconds)."""
        import torch

        self.precision, self.batch, self.compiled = precision, batch, compiled
        dtype = torch.float16 if precision is Precision.FP16 else torch.float32
        with _multiplication(precision):
            self._network = module(plan, dtype).to(device)
            self._mean, self._std = (
                torch.tensor(card[key], dtype=torch.float32, device=device).view(1, -1, 1, 1)
                for key in ("mean", "std")
            )
            self._scale, self._dtype = float(card["scale"]), dtype
            self._run = self._masks
            if compiled:
                torch.compiler.reset()  # else the ninth compilation in a process is refused
                self._run = torch.compile(self._masks, dynamic=False, fullgraph=True)
            shape = (batch, len(card["bands"]), card["tile"], card["tile"])
            on_gpu = device != "cpu"
            # uint16 has few operations in PyTorch: its bits travel as int16
            self._host_in = torch.zeros(shape, dtype=torch.int16, pin_memory=on_gpu)
            self._host_out = torch.zeros((batch, *shape[2:]), dtype=torch.uint8, pin_memory=on_gpu)
            self._stream: Any = None
            if on_gpu:
                self._record(shape, device)

    def submit(self, tiles: NDArray[np.uint16]) -> None:
        """Start work on tiles uint16 [batch, bands, H, W] of reflectance x the card's ``scale``."""
        import numpy as np
        import torch

        self._host_in.numpy()[:] = tiles.view(np.int16)
        if self._stream is None:
            with torch.inference_mode(), _multiplication(self.precision):
                self._host_out.copy_(self._run(self._host_in))
            return
        with torch.cuda.stream(self._stream):
            self._device_in.copy_(self._host_in, non_blocking=True)
            self._recorded.replay()
            self._host_out.copy_(self._device_out, non_blocking=True)
            self._done.record(self._stream)

    def collect(self) -> NDArray[np.uint8]:
        """Wait for the masks. The array is reused by the next ``submit``."""
        if self._stream is not None:
            self._done.synchronize()
        masks: NDArray[np.uint8] = self._host_out.numpy()
        return masks

    def device_ms(self, repeats: int) -> float:
        """Milliseconds of GPU time per batch that is already in its memory: mean of ``repeats`` runs back to back."""
        import torch

        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(self._stream):
            self._recorded.replay()
            begin.record(self._stream)
            for _ in range(repeats):
                self._recorded.replay()
            end.record(self._stream)
        end.synchronize()
        return float(begin.elapsed_time(end)) / repeats

    def scores(self, tiles: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Scores float32 [N, classes, H, W], for any number of tiles, computed without the recorded graph."""
        import numpy as np
        import torch

        raw = torch.from_numpy(tiles.view(np.int16)).to(self._mean.device)
        with torch.inference_mode(), _multiplication(self.precision):
            found: NDArray[np.float32] = self._scores(raw).float().cpu().numpy()
        return found

    def gflop(self) -> float:
        """Floating-point operations of one tile, in 1e9; a multiplication with its addition counts as two."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self._scores(self._host_in[:1].to(self._mean.device))
        return float(counter.get_total_flops()) / 1e9

    def _scores(self, raw: Any) -> Any:
        """The arithmetic of ``hil.onboard.node.infer.predict``, in the same order."""
        import torch

        image = (raw.to(torch.int32) & 0xFFFF).to(torch.float32) / self._scale
        image = (image - self._mean) / self._std
        return self._network(image.to(self._dtype).contiguous(memory_format=torch.channels_last))

    def _masks(self, raw: Any) -> Any:
        import torch

        return self._scores(raw).argmax(dim=1).to(torch.uint8)

    def _record(self, shape: tuple[int, ...], device: str) -> None:
        """Record the way from reflectance to masks, after warm-ups in which kernels are chosen and compiled."""
        import torch

        self._stream = torch.cuda.Stream()
        self._device_in = torch.zeros(shape, dtype=torch.int16, device=device)
        self._done = torch.cuda.Event()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                self._run(self._device_in)
            self._stream.synchronize()
            self._recorded = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._recorded, stream=self._stream):
                self._device_out = self._run(self._device_in)


@contextmanager
def _multiplication(precision: Precision) -> Iterator[None]:
    """PyTorch's process-wide switches for single precision, put back afterwards."""
    import torch

    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = precision is Precision.TF32
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=True, deterministic=False, allow_tf32=precision is Precision.TF32
        ):
            yield
    finally:
        matmul.allow_tf32 = before
