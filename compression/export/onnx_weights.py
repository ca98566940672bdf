"""Weights of an ONNX graph as the integers they are: recognized by value, stored as int2 to int16, dequantized.

What is no multiple of its codes is expanded from them by nodes that its encoding writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from compression import encodings
from compression.encodings import OnnxForm
from compression.export import onnx_two_bits
from compression.export.onnx_nodes import dequantized, expanded
from compression.quant import QuantizedWeight

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
WEIGHTED = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Transpose": 0, "Gather": 0}
TOLERANCE = 1e-5  # relative: one rounding to fp32 when a batch norm was folded into the weight
LOOKED_AT = 4
MOST_8_BIT = 127
EIGHT_BITS = "integer arithmetic needs 8 bits"
TYPES = {4: (ir.DataType.INT4, ml_dtypes.int4), 8: (ir.DataType.INT8, np.int8), 16: (ir.DataType.INT16, np.int16)}


@dataclass(frozen=True)
class Placed:
    """One weight in the ONNX file: its layer and bits; ``type`` is int2 to int16, perhaps "table" or so, or fp32.

    ``why`` says why two bits take a wider type than int2, ``reason`` why the weight is in fp32, or what expands it.
    """

    layer: str
    bits: int
    type: str
    channels: bool
    why: str = ""
    reason: str = ""

    @property
    def integer(self) -> bool:
        """Whether it is a multiple of its codes, so that runtimes can compute with these."""
        return self.type in ("int2", "int4", "int8", "int16")


@dataclass(frozen=True, eq=False)
class Codes:
    """A float weight as ``codes`` (int32, its shape) times ``scale``: fp32 [], or [n] along ``axis``.

    Where codes are expanded, what they are expanded to is scaled; ``turned`` says that it is transposed first.
    """

    codes: Integers
    scale: Floats
    axis: int | None
    turned: bool = False

    @property
    def levels(self) -> int:
        """The largest magnitude among the codes."""
        return int(np.abs(self.codes).max(initial=0))

    def factor(self) -> Floats | None:
        """The scale in a shape that broadcasts to the weight; ``None`` where it changes nothing."""
        if self.axis is None:
            return None if abs(float(self.scale) - 1) <= TOLERANCE else self.scale
        return self.scale.reshape([-1 if dim == self.axis else 1 for dim in range(self.codes.ndim)])


def onnx_forms(weights: Mapping[str, QuantizedWeight]) -> dict[str, OnnxForm | str]:
    """Layer → how ONNX holds its weight, or why it stays in fp32: what its encoding says."""
    return {name: encodings.get(weight.kind).onnx(weight) for name, weight in weights.items()}


def place(
    model: ir.Model,
    weights: Mapping[str, QuantizedWeight],
    forms: Mapping[str, OnnxForm | str],
    arithmetic: Collection[str] = (),
    *,
    two_bits: str,
) -> tuple[Placed, ...]:
    """Replace every weight that lies on a known grid by integers and the nodes that turn them into floats (in place).

    Layers in ``arithmetic`` compute in integers: their weights take 8 bits at least, which runtimes have kernels for,
    and fill them (codes times a power of two, the step divided by it), because runtimes round biases to multiples of
    step times step. Codes of -1, 0 and 1 take int2 unless ``two_bits`` says what forbids it, or a matrix product reads
    them. A weight is recognized by its values, so that it does not matter whether the exporter transposed it, renamed
    it or folded a batch norm into it (which gives each channel its own scale). What is not recognized stays in fp32.
    """
    known = {name: form for name, form in forms.items() if isinstance(form, OnnxForm)}
    placed: dict[str, Placed] = {}
    for value in _weights(model.graph):
        assert value.const_value is not None
        weight = value.const_value.numpy()
        for name in _candidates(value, known):
            grid = on_grid(weight, known[name])
            if grid is not None:
                why = EIGHT_BITS if name in arithmetic else two_bits
                placed[name] = _placed(model.graph, value, grid, known[name], weights[name], why)
                break
    floats = {
        name: Placed(name, weight.bits, "fp32", False, reason=form if isinstance(form := forms[name], str) else "")
        for name, weight in weights.items()
    }
    return tuple((floats | placed).values())


def _placed(graph: ir.Graph, value: ir.Value, grid: Codes, form: OnnxForm, weight: QuantizedWeight, why: str) -> Placed:
    """Replace a weight by its codes and the nodes that turn them into floats; ``why`` forbids int2."""
    if form.expand is not None:
        stored, width = _stored(form.codes, narrowest=4)
        expanded(graph, value, stored, form.expand, grid.turned, grid.factor())
        return Placed(weight.name, weight.bits, f"int{width} {form.suffix}", grid.axis is not None, reason=form.reason)
    two = grid.levels < 2
    if why == EIGHT_BITS:
        grid = filled(grid)
    elif not why and any(node.op_type == onnx_two_bits.PRODUCT for node, _ in value.uses()):
        why = onnx_two_bits.NO_PRODUCTS
    stored, width = _stored(grid.codes, narrowest=4 if why else 2)
    dequantized(graph, value, stored, grid.scale, grid.axis)
    return Placed(weight.name, weight.bits, f"int{width}", grid.axis is not None, why if two and width > 2 else "")


def _stored(codes: Integers, narrowest: int) -> tuple[ir.Tensor, int]:
    """Codes in the narrowest type of ONNX that holds them, and its bits."""
    width = width_of(max(int(codes.max(initial=0)), -1 - int(codes.min(initial=0))), narrowest)
    kind, dtype = onnx_two_bits.kind() if width == 2 else TYPES[width]
    return ir.Tensor(codes.astype(dtype), dtype=kind), width


def _weights(graph: ir.Graph) -> Iterator[ir.Value]:
    """Initializers that are the weight of a layer."""
    for value in list(graph.initializers.values()):
        uses = [(node.op_type, index) for node, index in value.uses()]
        if uses and all(WEIGHTED.get(kind) == index for kind, index in uses) and len(value.shape or ()) > 1:
            yield value


def _candidates(value: ir.Value, forms: Mapping[str, OnnxForm]) -> list[str]:
    """Layers whose codes might be this weight: the one of its name first."""
    own = str(value.name).removesuffix("weight").removesuffix(".")
    size = value.const_value.size if value.const_value is not None else 0
    return sorted((name for name in forms if forms[name].reference.size == size), key=lambda name: name != own)


def on_grid(weight: Floats, form: OnnxForm) -> Codes | None:
    """``weight`` as what a form's codes stand for times a scale, or one for each channel; ``None`` where it is neither.

    For multiples of their codes scales are positive, as in ONNX, and codes take the signs.
    """
    for turned in (False, True):
        reference = form.reference.T if turned else form.reference
        if reference.shape != weight.shape or (turned and weight.ndim != 2) or not _plausible(weight, reference):
            continue
        for axis in (None, 0, 1):
            scale = _fit(weight, reference, axis)
            if scale is not None:
                flat = scale.reshape(-1) if axis is not None else scale.reshape(())
                return (
                    Codes(reference, flat, axis, turned)
                    if form.expand is not None
                    else _positive(reference, scale, axis)
                )
    return None


def _fit(weight: Floats, reference: Floats | Integers, axis: int | None) -> Floats | None:
    """Least squares along everything but ``axis``, accepted only where it gives the weight to within fp32 rounding."""
    others = tuple(dim for dim in range(weight.ndim) if dim != axis)
    wide = reference.astype(np.float32)
    below = np.square(wide).sum(axis=others, keepdims=True, dtype=np.float64)
    scale = (wide * weight).sum(axis=others, keepdims=True, dtype=np.float64) / np.where(below > 0, below, 1)
    wide *= scale.astype(np.float32)
    most = TOLERANCE * max(np.abs(weight).max(initial=0), 1e-30)
    if np.abs(np.subtract(wide, weight, out=wide)).max(initial=0) > most:
        return None
    fitted: Floats = scale.astype(np.float32)
    return fitted


def _positive(codes: Integers, scale: Floats, axis: int | None) -> Codes:
    """Codes with the signs of their scales; a scale of 0 becomes a usual one, as runtimes round biases to multiples."""
    signed = codes * np.sign(scale).astype(np.int32)
    usual = np.median(np.abs(scale[scale != 0])) if np.any(scale) else 1.0
    positive = np.where(scale == 0, usual, np.abs(scale)).astype(np.float32)
    return Codes(signed, positive.reshape(-1) if axis is not None else positive.reshape(()), axis)


def _plausible(weight: Floats, reference: Floats | Integers) -> bool:
    """A look at one row in a few: where a weight is not zero, what its code stands for is not either."""
    rows = slice(None, None, max(1, len(reference) // LOOKED_AT))
    return bool(np.all((reference[rows] != 0) | (weight[rows] == 0)))


def filled(grid: Codes) -> Codes:
    """The same weight with codes that reach as far into 8 bits as a power of two takes them."""
    times = 1
    while 0 < grid.levels * times * 2 <= MOST_8_BIT:
        times *= 2
    return Codes(grid.codes * times, (grid.scale / times).astype(np.float32), grid.axis)


def width_of(levels: int, narrowest: int = 4) -> int:
    """The narrowest integer type of ONNX, of so many bits at least, that holds -levels - 1..levels: 2, 4, 8 or 16."""
    return next((width for width in (2, 4, 8) if width >= narrowest and levels < 2 ** (width - 1)), 16)
