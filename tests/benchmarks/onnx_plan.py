"""Prepares a network for execution: the same function of its input in fewer and larger steps.

An exported network keeps padding and normalisation apart from convolution and is full of casts.  :func:`simplify`
drops casts between float types (the precision is the executor's choice), and merges zero padding, batch normalisation
and ``x * sigmoid(x)`` into single steps.  What remains are the operations of :data:`EXECUTABLE`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hil.errors import ConfigurationError
from tests.benchmarks.onnx_file import Graph, Node

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXECUTABLE = frozenset(
    {"Conv", "Silu", "Sigmoid", "Mul", "Add", "Relu", "GlobalAveragePool", "Resize", "Concat"}
)
"""What an executor must provide. ``Silu`` is x * sigmoid(x); ``Conv`` may pad unevenly; ``Resize`` is nearest."""
BATCH_NORM_EPSILON = 1e-5
"""ONNX's default of the attribute ``epsilon``."""


def simplify(graph: Graph) -> Graph:
    """The same network with the operations of :data:`EXECUTABLE` only.

    Constants keep their type, except those of merged normalisations, which become float64.
    ConfigurationError when the network needs an operation, or a variant of one, that is not covered.
    """
    for step in (_drop_casts, _merge_padding, _merge_normalisation, _merge_swish):
        graph = step(graph)
    for node in graph.nodes:
        _check(node, graph.constants)
    used = {name for node in graph.nodes for name in node.inputs}
    return replace(graph, constants={name: graph.constants[name] for name in graph.constants if name in used})


def resize_factors(node: Node, constants: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """(rows, columns) by which a ``Resize`` repeats every pixel. ConfigurationError when it does something else."""
    scales = constants.get(node.inputs[2]) if len(node.inputs) == 3 else None
    ways = [node.attributes.get(key) for key in ("mode", "coordinate_transformation_mode", "nearest_mode")]
    if scales is None or scales.shape != (4,) or ways != ["nearest", "asymmetric", "floor"]:
        raise _not_covered(node, "only enlarging by repetition, by constant factors")
    factors = [int(scale) for scale in scales]
    if factors != [float(scale) for scale in scales] or factors[:2] != [1, 1] or min(factors) < 1:
        raise _not_covered(node, f"factors {scales.tolist()}")
    return factors[2], factors[3]


def _check(node: Node, constants: Mapping[str, NDArray[Any]]) -> None:
    if node.op not in EXECUTABLE:
        raise _not_covered(node)
    if node.op == "Resize":
        resize_factors(node, constants)
    if node.op == "Conv":
        if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
            raise _not_covered(node, "automatic padding")
        if node.inputs[1] not in constants or constants[node.inputs[1]].ndim != 4:
            raise _not_covered(node, "only two-dimensional convolution with constant weights")


def _not_covered(node: Node, why: str = "") -> ConfigurationError:
    return ConfigurationError(
        f"{node.op} at {node.output}: not covered" + (f": {why}" if why else ""),
        remedy="add it to tests/benchmarks/onnx_plan.py, or run the network with ONNX Runtime",
    )


def _drop_casts(graph: Graph) -> Graph:
    """Casts of data between float types; what is computed stays the same, how precisely is the executor's choice."""
    from onnx import TensorProto

    floats = (TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE)
    same: dict[str, str] = {}
    left: list[Node] = []
    for node in graph.nodes:
        node = _renamed(node, same)
        if node.op == "Cast" and node.attributes["to"] in floats:
            same[node.output] = node.inputs[0]
        else:
            left.append(node)
    return replace(graph, nodes=tuple(left), output=same.get(graph.output, graph.output))


def _merge_padding(graph: Graph) -> Graph:
    """Zero padding of height and width before a convolution becomes the convolution's own."""
    pads: dict[str, tuple[str, list[int]]] = {}
    users = _users(graph)
    only_convolutions = {
        name: all(node.op == "Conv" for node in graph.nodes if name in node.inputs) for name in users
    }
    left: list[Node] = []
    for node in graph.nodes:
        if node.op == "Pad" and only_convolutions.get(node.output):
            amount = (
                [int(n) for n in graph.constants[node.inputs[1]]] if node.inputs[1] in graph.constants else []
            )
            fill = graph.constants[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else None
            plain = node.attributes.get("mode", "constant") == "constant" and (fill is None or not fill.any())
            if len(amount) == 8 and not any(amount[:2] + amount[4:6]) and min(amount) >= 0 and plain:
                pads[node.output] = (node.inputs[0], amount[2:4] + amount[6:8])
                continue
        if node.op == "Conv" and node.inputs[0] in pads:
            source, extra = pads[node.inputs[0]]
            own = node.attributes.get("pads", (0, 0, 0, 0))
            node = replace(
                node,
                inputs=(source, *node.inputs[1:]),
                attributes={**node.attributes, "pads": tuple(a + b for a, b in zip(own, extra, strict=True))},
            )
        left.append(node)
    return replace(graph, nodes=tuple(left))


def _merge_normalisation(graph: Graph) -> Graph:
    """Batch normalisation after a convolution: scaled weights and a bias, computed in float64."""
    import numpy as np

    constants = dict(graph.constants)
    users = _users(graph)
    at = {node.output: index for index, node in enumerate(graph.nodes)}
    nodes = list(graph.nodes)
    same: dict[str, str] = {}
    for index, node in enumerate(graph.nodes):
        if node.op != "BatchNormalization":
            continue
        before = nodes[at[node.inputs[0]]] if node.inputs[0] in at else node
        parts = [constants.get(name) for name in (*node.inputs[1:], before.inputs[1])]
        if before.op != "Conv" or users[before.output] != 1 or any(part is None for part in parts):
            raise _not_covered(node, "only after a convolution of its own")
        scale, shift, mean, variance, weights = (np.asarray(part, dtype=np.float64) for part in parts)
        gain = scale / np.sqrt(variance + node.attributes.get("epsilon", BATCH_NORM_EPSILON))
        bias = np.asarray(constants[before.inputs[2]], np.float64) if len(before.inputs) > 2 else np.zeros(1)
        names = (f"{node.output}.weight", f"{node.output}.bias")
        constants[names[0]] = weights * gain[:, None, None, None]
        constants[names[1]] = (bias - mean) * gain + shift
        nodes[at[before.output]] = replace(before, inputs=(before.inputs[0], *names))
        same[node.output] = before.output
        nodes[index] = replace(node, op="")
    left = tuple(_renamed(node, same) for node in nodes if node.op)
    return replace(graph, nodes=left, constants=constants, output=same.get(graph.output, graph.output))


def _merge_swish(graph: Graph) -> Graph:
    """x * sigmoid(x) in one step."""
    users = _users(graph)
    gates = {
        node.output: node.inputs[0]
        for node in graph.nodes
        if node.op == "Sigmoid" and users[node.output] == 1
    }
    left: list[Node] = []
    merged: set[str] = set()
    for node in graph.nodes:
        if node.op == "Mul":
            for source, gate in (node.inputs, node.inputs[::-1]):
                if gates.get(gate) == source:
                    merged.add(gate)
                    node = Node("Silu", (source,), node.output, {})
                    break
        left.append(node)
    return replace(graph, nodes=tuple(node for node in left if node.output not in merged))


def _users(graph: Graph) -> Counter[str]:
    """How often each value is used; the network's output counts as a use."""
    return Counter([graph.output, *(name for node in graph.nodes for name in node.inputs if name)])


def _renamed(node: Node, same: Mapping[str, str]) -> Node:
    return replace(node, inputs=tuple(same.get(name, name) for name in node.inputs))
