"""Names and shapes of the weights in an ONNX file, read from its bytes within bounds; their values are skipped.

An ONNX file is one protocol buffer (``onnx.proto``), whose fields follow each other as (number and wire type, value).
The onnx package parses it as a whole: a small file of empty nodes becomes gigabytes. Here only what is needed is
visited: ``ModelProto.graph``, of it ``node`` and ``initializer``, and of these names, lengths and where the values lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compression.errors import CompressionError
from compression.reading import read_bytes

MOST_BYTES = 2 << 30  # of a protocol buffer
MOST_PARTS, MOST_NAME, MOST_DIMENSIONS = 200_000, 1024, 16
LARGEST = 1 << 40
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _IR_VERSION, _EXTERNAL = 7, 1, 1
_NODE, _INITIALIZER = 1, 5
_INPUT, _NODE_NAME, _OPERATOR = 1, 3, 4
_DIMS, _TENSOR_NAME, _LOCATION = 1, 8, 14
_LAYERS = {"Conv": ("weight", "bias"), "Gemm": ("weight", "bias"), "ConvTranspose": ("weight", "bias")}

View = memoryview


class _Damaged(ValueError):
    """The bytes are no protocol buffer of this kind."""


@dataclass(frozen=True)
class _Node:
    name: str
    operator: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class OnnxTensors:
    """``shapes``: module path and parameter → shape. ``external``: how many have their values in another file."""

    shapes: dict[str, tuple[int, ...]]
    external: int


def read(path: str | Path, what: str) -> OnnxTensors:
    """The initializers of a file's main graph, named as the modules that they came from where the file tells.

    PyTorch's older exporter renames weights into which it folded a batch norm (``onnx::Conv_193``); the name of their
    node (``/layer1/layer1.0/conv1/Conv``) still says where they were. A matrix that is only ever the right factor of a
    MatMul is a linear layer's, transposed.

    Raises:
        CompressionError: no readable ONNX file, or one of more nodes and tensors than any network has.
    """
    content = read_bytes(path, what, MOST_BYTES)
    if not content:
        raise CompressionError(f"{what} {path} is empty")
    try:
        nodes, tensors, external = _graph(memoryview(content))
    except _Damaged as error:
        raise CompressionError(f"{what} {path} is no ONNX file, or damaged: {error}") from error
    return OnnxTensors(_named(nodes, tensors), external)


def _graph(view: View) -> tuple[list[_Node], dict[str, tuple[int, ...]], int]:
    graph: View | None = None
    version = 0
    for number, value in _fields(view):
        if number == _GRAPH and isinstance(value, memoryview):
            graph = value
        elif number == _IR_VERSION and isinstance(value, int):
            version = value
    if graph is None or not version:
        raise _Damaged("it holds no graph")
    nodes: list[_Node] = []
    tensors: dict[str, tuple[int, ...]] = {}
    external = 0
    for place, (number, value) in enumerate(_fields(graph)):
        if place >= MOST_PARTS:
            raise _Damaged(f"more than the {MOST_PARTS:,} parts that are read of a graph")
        if number == _NODE and isinstance(value, memoryview):
            nodes.append(_node(value))
        elif number == _INITIALIZER and isinstance(value, memoryview):
            name, shape, elsewhere = _tensor(value)
            tensors[name] = shape
            external += elsewhere
    return nodes, tensors, external


def _node(view: View) -> _Node:
    name, operator, inputs = "", "", []
    for number, value in _fields(view):
        if number == _INPUT:
            inputs.append(_text(value))
        elif number == _NODE_NAME:
            name = _text(value)
        elif number == _OPERATOR:
            operator = _text(value)
        if len(inputs) > MOST_NAME:
            raise _Damaged("a node of more than a thousand inputs")
    return _Node(name, operator, tuple(inputs))


def _tensor(view: View) -> tuple[str, tuple[int, ...], bool]:
    name, shape, elsewhere = "", [], False
    for number, value in _fields(view):
        if number == _DIMS:  # one by one, or packed
            shape += [value] if isinstance(value, int) else list(_varints(value))
        elif number == _TENSOR_NAME:
            name = _text(value)
        elif number == _LOCATION:
            elsewhere = value == _EXTERNAL
        if len(shape) > MOST_DIMENSIONS:
            raise _Damaged("a tensor of more than 16 dimensions")
    total = 1
    for length in shape:
        total *= max(1, length)
        if total > LARGEST:
            raise _Damaged("a tensor of an impossible shape")
    return name, tuple(shape), elsewhere


def _fields(view: View) -> Iterator[tuple[int, int | View]]:
    """(number, value) of each field of a message: a varint, or the bytes of what has a length."""
    place = 0
    while place < len(view):
        key, place = _varint(view, place)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, place = _varint(view, place)
            yield number, value
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if wire == _BYTES:
            length, place = _varint(view, place)
        if length is None or not number or place + length > len(view):
            raise _Damaged("it ends within a field")
        yield number, view[place : place + length]
        place += length


def _varint(view: View, place: int) -> tuple[int, int]:
    """(value, place after it): seven bits a byte, the lowest first; the highest bit says that more follow."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(view):
            raise _Damaged("it ends within a number")
        byte = view[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise _Damaged("a number of more than 64 bits")


def _varints(view: View) -> Iterator[int]:
    if len(view) > 10 * MOST_DIMENSIONS:
        raise _Damaged("a tensor of more than 16 dimensions")
    place = 0
    while place < len(view):
        value, place = _varint(view, place)
        yield value


def _text(value: int | View) -> str:
    if isinstance(value, int) or len(value) > MOST_NAME:
        raise _Damaged("a name that is none")
    return bytes(value).decode("utf-8", "replace")


def _named(nodes: Sequence[_Node], tensors: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The tensors by the names that they have in the modules, as far as the nodes tell."""
    used: dict[str, list[tuple[_Node, int]]] = {}
    for node in nodes:
        for place, name in enumerate(node.inputs):
            if name in tensors:
                used.setdefault(name, []).append((node, place))
    result: dict[str, tuple[int, ...]] = {}
    for name, shape in tensors.items():
        module, shown = _module(used.get(name, [])), shape
        if "::" in name or "/" in name or not name:  # invented by an exporter
            name, shown = (module[0], shape[::-1] if module[1] else shape) if module else (name, shape)
        key, count = name, 1
        while key in result:
            count += 1
            key = f"{name} {count}"
        result[key] = shown
    return result


def _module(uses: Sequence[tuple[_Node, int]]) -> tuple[str, bool] | None:
    """(module path and parameter, is it transposed) of a tensor by the layer that uses it; ``None``: unknown."""
    for node, place in uses:
        scope = _path(node.name)
        parameters = _LAYERS.get(node.operator, ())
        if scope and 1 <= place <= len(parameters):
            return f"{scope}.{parameters[place - 1]}", False
        if scope and node.operator == "MatMul" and place == 1:
            return f"{scope}.weight", True
    return None


def _path(name: str) -> str:
    """``/layer1/layer1.0/conv1/Conv`` → ``layer1.0.conv1``: each scope may repeat the one before it."""
    scopes = [scope for scope in name.split("/")[:-1] if scope]
    path, before = "", ""
    for scope in scopes:
        head = path.removesuffix(before).removesuffix(".") if before and scope.startswith(f"{before}.") else path
        path, before = f"{head}.{scope}" if head else scope, scope
    return path
