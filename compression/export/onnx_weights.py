"""Weights of an ONNX graph as the integers they are: found by value, stored as int2 to int16, dequantized.

Levels that are counted from an offset are no multiples of anything: their codes look them up in a table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from compression.export import onnx_two_bits
from compression.export.onnx_nodes import dequantized, looked_up
from compression.quant import IntegerWeight

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
WEIGHTED = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Transpose": 0}
TOLERANCE = 1e-5  # relative: one rounding to fp32 when a batch norm was folded into the weight
LOOKED_AT = 4
MOST_8_BIT = 127
TABLE = "table"
TYPES = {4: (ir.DataType.INT4, ml_dtypes.int4), 8: (ir.DataType.INT8, np.int8), 16: (ir.DataType.INT16, np.int16)}


@dataclass(frozen=True)
class Placed:
    """One weight in the ONNX file: its layer and bits; ``type`` is int2 to int16, perhaps "table", or fp32.

    ``why`` says why two bits take a wider type than int2.
    """

    layer: str
    bits: int
    type: str
    channels: bool
    why: str = ""

    @property
    def integer(self) -> bool:
        """Whether it is a multiple of its codes, so that runtimes can compute with these."""
        return self.type in ("int2", "int4", "int8", "int16")


@dataclass(frozen=True, eq=False)
class Grid:
    """A float weight as ``codes`` (int32, its shape) times ``scale``: fp32 [], or [n] along ``axis``.

    Where there is a ``table`` (fp32 [2Q + 1]) a code is a place in it, negative ones counted from its end.
    """

    codes: Integers
    scale: Floats
    axis: int | None
    table: Floats | None = None

    @property
    def levels(self) -> int:
        """The largest magnitude among the codes."""
        return int(np.abs(self.codes).max(initial=0))


def place(
    model: ir.Model, integers: Mapping[str, IntegerWeight], arithmetic: Collection[str] = (), *, two_bits: str
) -> tuple[Placed, ...]:
    """Replace every weight that lies on a known grid by integers and the nodes that turn them into floats (in place).

    Layers in ``arithmetic`` compute in integers: their weights take 8 bits at least, which runtimes have kernels for,
    and fill them (codes times a power of two, the step divided by it), because runtimes round biases to multiples of
    step times step. Codes of -1, 0 and 1 take int2 unless ``two_bits`` says what forbids it, or a matrix product reads
    them. A weight is recognized by its values, so that it does not matter whether the exporter transposed it, renamed
    it or folded a batch norm into it (which gives each channel its own scale). What is not found stays in fp32.
    """
    codes = {name: known.codes.numpy() for name, known in integers.items()}
    tables = {name: table_of(known) for name, known in integers.items() if known.offset is not None}
    found: dict[str, Placed] = {}
    for value in _weights(model.graph):
        assert value.const_value is not None
        weight = value.const_value.numpy()
        for name in _candidates(value, codes):
            grid = on_grid(weight, codes[name], tables.get(name))
            if grid is not None:
                found[name] = _placed(model.graph, value, grid, integers[name], name in arithmetic, two_bits)
                break
    floats = {name: Placed(name, known.bits, "fp32", False) for name, known in integers.items()}
    return tuple((floats | found).values())


def _placed(
    graph: ir.Graph, value: ir.Value, grid: Grid, known: IntegerWeight, arithmetic: bool, two_bits: str
) -> Placed:
    """Replace a weight by its codes and the nodes that turn them into floats."""
    product = any(node.op_type == onnx_two_bits.PRODUCT for node, _ in value.uses())
    why = two_bits or (onnx_two_bits.NO_PRODUCTS if product else "")
    if arithmetic:
        why = "integer arithmetic needs 8 bits"
    narrowest = 4 if why or grid.table is not None else 2
    two = grid.levels < 2 and grid.table is None
    grid = filled(grid) if arithmetic and grid.table is None else grid
    width = width_of(grid.levels, narrowest)
    kind, dtype = onnx_two_bits.kind() if width == 2 else TYPES[width]
    codes = ir.Tensor(grid.codes.astype(dtype), dtype=kind)
    if grid.table is None:
        dequantized(graph, value, codes, grid.scale, grid.axis)
    else:
        looked_up(graph, value, codes, grid.table, grid.scale, grid.axis)
    stored = f"int{width}" if grid.table is None else f"int{width} {TABLE}"
    return Placed(known.name, known.bits, stored, grid.axis is not None, why if two and width > 2 else "")


def table_of(known: IntegerWeight) -> Floats:
    """What each code stands for: fp32 [2Q + 1], at place k for code k, negative ones counted from the end."""
    levels = int(known.codes.abs().max()) if known.codes.numel() else 0
    codes = torch.cat([torch.arange(levels + 1), torch.arange(-levels, 0)]).to(torch.int32)
    found: Floats = known.of(codes).numpy()
    return found


def _weights(graph: ir.Graph) -> Iterator[ir.Value]:
    """Initializers that are the weight of a layer."""
    for value in list(graph.initializers.values()):
        uses = [(node.op_type, index) for node, index in value.uses()]
        if uses and all(WEIGHTED.get(kind) == index for kind, index in uses) and len(value.shape or ()) > 1:
            yield value


def _candidates(value: ir.Value, codes: Mapping[str, Integers]) -> list[str]:
    """Layers whose codes might be this weight: the one of its name first."""
    own = str(value.name).removesuffix("weight").removesuffix(".")
    size = value.const_value.size if value.const_value is not None else 0
    return sorted((name for name in codes if codes[name].size == size), key=lambda name: name != own)


def on_grid(weight: Floats, codes: Integers, table: Floats | None = None) -> Grid | None:
    """``weight`` as these codes times a scale, or times one scale for each channel; ``None`` where it is neither.

    With a ``table`` it is what stands in it at the codes' places that is scaled.
    """
    turned = [codes] if codes.shape == weight.shape else []
    if codes.ndim == 2 and codes.T.shape == weight.shape:
        turned.append(codes.T)
    for candidate in turned:
        for axis in (None, 0, 1):
            grid = _fit(weight, candidate, axis, table)
            if grid is not None:
                return grid
    return None


def _fit(weight: Floats, codes: Integers, axis: int | None, table: Floats | None) -> Grid | None:
    """Least squares along everything but ``axis``, accepted only where it gives the weight to within fp32 rounding."""
    if not _plausible(weight, codes):
        return None
    others = tuple(dim for dim in range(codes.ndim) if dim != axis)
    wide = codes.astype(np.float32) if table is None else table[codes]
    below = np.square(wide).sum(axis=others, keepdims=True, dtype=np.float64)
    scale = (wide * weight).sum(axis=others, keepdims=True, dtype=np.float64) / np.where(below > 0, below, 1)
    wide *= scale.astype(np.float32)
    if np.abs(np.subtract(wide, weight, out=wide)).max(initial=0) > TOLERANCE * max(
        np.abs(weight).max(initial=0), 1e-30
    ):
        return None
    signed = codes * np.sign(scale).astype(np.int32)  # the scale of ONNX is positive
    usual = np.median(np.abs(scale[scale != 0])) if np.any(scale) else 1.0
    positive = np.where(scale == 0, usual, np.abs(scale)).astype(np.float32)  # runtimes round biases to multiples of it
    return Grid(signed, positive.reshape(-1) if axis is not None else positive.reshape(()), axis, table)


def _plausible(weight: Floats, codes: Integers) -> bool:
    """A look at one row in a few: where a weight is not zero its code is not either."""
    rows = slice(None, None, max(1, len(codes) // LOOKED_AT))
    return bool(np.all((codes[rows] != 0) | (weight[rows] == 0)))


def filled(grid: Grid) -> Grid:
    """The same weight with codes that reach as far into 8 bits as a power of two takes them."""
    times = 1
    while 0 < grid.levels * times * 2 <= MOST_8_BIT:
        times *= 2
    return Grid(grid.codes * times, (grid.scale / times).astype(np.float32), grid.axis)


def width_of(levels: int, narrowest: int = 4) -> int:
    """The narrowest integer type of ONNX, of so many bits at least, that holds -levels..levels: 2, 4, 8 or 16 bits."""
    return next((width for width in (2, 4, 8) if width >= narrowest and levels < 2 ** (width - 1)), 16)
