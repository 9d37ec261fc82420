"""An ONNX file as plain nodes and arrays, and the same file in single precision.

The runtime of a board reads the file by itself; this is for hardware that the runtime of this environment does not
support (:mod:`tests.benchmarks.torch_backend`), and for a reference in single precision.  Needs the ``onnx`` package,
which comes with the extra ``gpu`` and is imported at the first call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import AttributeProto, ModelProto, NodeProto

_ARITHMETIC = ("Constant", "ConstantOfShape", "Cast", "Add", "Sub", "Mul")
_SHAPES = ("Shape", "Reshape", "Transpose", "Concat", "Gather", "Slice")
EVALUATED = frozenset(_ARITHMETIC + _SHAPES)
"""Operations that are evaluated where they depend on constants only: how exporters compute shapes and padding."""


@dataclass(frozen=True)
class Node:
    """One operation with one output. ``inputs`` may hold "" for an optional input that is left out."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Graph:
    """A network with one input and one output; nodes are in an order in which they can be run."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]
    input: str
    output: str


def read_graph(content: bytes) -> Graph:
    """The graph of an ``.onnx`` file; what depends on constants only is evaluated, and a constant itself.

    ConfigurationError when the file is none, or has several inputs or outputs.
    """
    model = _model(content)  # before the import: its error says what to install
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    constants |= _evaluated(model, constants)
    nodes = [node for node in model.graph.node if not set(node.output) <= constants.keys()]
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    outputs = [value.name for value in model.graph.output]
    several = [f"{node.op_type} at {node.output[0]}" for node in nodes if len(node.output) != 1]
    if len(inputs) != 1 or len(outputs) != 1 or several:
        raise ConfigurationError(
            f"not an ONNX network with one input and one output: found {inputs}, {outputs} and operations with several "
            f"outputs: {several}",
            remedy="run it with ONNX Runtime",
        )
    return Graph(tuple(map(_node, nodes)), constants, inputs[0], outputs[0])


def in_single_precision(content: bytes) -> bytes:
    """The same ``.onnx`` file with every half-precision number, and every cast to half precision, in single precision.

    The payload's network stores its weights as 16-bit floats, and ONNX Runtime rounds them a second time when it
    merges normalisation into them.  This one has the same weights and rounds to 32 bits throughout: the reference for
    hardware that computes in single precision.  ConfigurationError when the file is not a network.
    """
    model = _model(content)  # before the import: its error says what to install
    import numpy as np
    from onnx import TensorProto, numpy_helper

    del model.graph.value_info[:]  # declared types of intermediate values: optional, and no longer true
    attributes = [(node.op_type, attribute) for node in model.graph.node for attribute in node.attribute]
    for tensor in [*model.graph.initializer, *(found.t for _, found in attributes if found.HasField("t"))]:
        if tensor.data_type == TensorProto.FLOAT16:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for op, attribute in attributes:
        if (op, attribute.name, attribute.i) == ("Cast", "to", TensorProto.FLOAT16):
            attribute.i = TensorProto.FLOAT
    changed: bytes = model.SerializeToString()
    return changed


def _model(content: bytes) -> ModelProto:
    try:
        import onnx
    except ImportError as exc:
        raise ConfigurationError(
            "the network cannot be read: the Python package onnx is missing", remedy="pip install onnx"
        ) from exc
    try:
        onnx.checker.check_model(content)
    except (ValueError, onnx.checker.ValidationError) as exc:
        raise ConfigurationError(f"not a readable ONNX network: {exc}", remedy="run `hil setup`") from exc
    return onnx.load_from_string(content)


def _evaluated(model: ModelProto, constants: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    known = set(constants)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type in EVALUATED and all(name in known for name in node.input if name):
            nodes.append(node)
            known.update(node.output)
    names = [name for node in nodes for name in node.output]
    function = helper.make_function("", "constants", list(constants), names, nodes, list(model.opset_import))
    values = ReferenceEvaluator(function).run(names, dict(constants), attributes={})
    return dict(zip(names, values, strict=True))


def _node(node: NodeProto) -> Node:
    attributes = {attribute.name: _attribute(attribute) for attribute in node.attribute}
    return Node(node.op_type, tuple(node.input), node.output[0], attributes)


def _attribute(attribute: AttributeProto) -> Any:
    from onnx import helper

    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    return tuple(value) if isinstance(value, list) else value
