"""The slim model as ONNX: batch norms folded into plain layers, weights as integers, quantizers as Q/DQ pairs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnxscript import opset21
from torch.export import ExportedProgram

from compression.encodings import OnnxForm
from compression.export import onnx_two_bits
from compression.export.onnx_weights import Placed, onnx_forms, place
from compression.export.program import FAKE_QUANTIZE, NotExpressible
from compression.quant import QuantizedWeight
from compression.quant.attach import INPUT_QUANTIZER

op: Any = opset21  # its annotations are those of tensors, while it builds a graph
OPSET = 21  # the first with 4-bit and 16-bit integers
ZEROS = {
    (False, 8): (128, ir.DataType.UINT8),  # runtimes have more kernels for it than for int8
    (False, 16): (0, ir.DataType.INT16),
    (True, 8): (0, ir.DataType.UINT8),
    (True, 16): (0, ir.DataType.UINT16),
}
"""The zero point of activations: (unsigned, bits of the type) → code and type."""
PROTOBUF_LIMIT = 1_900_000_000


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An ONNX file as ``data``; ``weights`` says how each layer's weight is stored, ``activations`` its quantizer."""

    data: bytes
    weights: tuple[Placed, ...] = ()
    activations: Mapping[str, str] = field(default_factory=dict)
    opset: int = OPSET


def floats(program: ExportedProgram, activations: Mapping[str, Mapping[str, Any]] | None = None) -> OnnxModel:
    """The program as an ONNX file with fp32 weights and a free batch, plain layers, checked by ``onnx.checker``.

    ``activations`` (layer name → ``bits``, ``step``, ``clip`` and perhaps ``exponent`` of the quantizer of its input)
    become Q/DQ pairs; without them quantizers are left out.

    Raises:
        NotExpressible: an operation that ONNX cannot express, named; or a model beyond 2 GB.
    """
    stored: dict[str, str] = {}
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    translate = _left_out if activations is None else _translation(activations, names, stored)
    model = _exported(program, {FAKE_QUANTIZE: translate, torch.ops.aten.bmm.default: _batched_product})
    model.graph.name = "compressed"
    _drop_metadata(model)
    return OnnxModel(finished(model), (), stored)


def integers(exported: OnnxModel, known: Mapping[str, QuantizedWeight], *, arithmetic: bool = False) -> OnnxModel:
    """The file with weights as integers wherever they lie on their grid.

    They take the narrowest type of ONNX, but 8 bits at least where the layer computes in integers: its input is
    quantized, or ``arithmetic`` asks for all layers. Where that type is int2, the file is of opset 25.
    """
    quantized = [name for name, kind in exported.activations.items() if not kind.startswith("fp32")]
    computing = list(known) if arithmetic else quantized
    ways = onnx_forms(known)
    narrow = [name for name, form in ways.items() if _two_bits(form) and name not in computing]
    forbidden = onnx_two_bits.missing() if narrow else "no weight is that narrow"
    if not forbidden:
        model = ir.from_proto(onnx.load_from_string(onnx_two_bits.raised(exported.data)))
        placed = place(model, known, ways, computing, two_bits="")
        if any(weight.type == "int2" for weight in placed):
            return OnnxModel(finished(model), placed, exported.activations, onnx_two_bits.OPSET)
    model = ir.from_proto(onnx.load_from_string(exported.data))
    placed = place(model, known, ways, computing, two_bits=forbidden or onnx_two_bits.NO_PRODUCTS)
    return OnnxModel(finished(model), placed, exported.activations)


def _two_bits(form: OnnxForm | str) -> bool:
    return isinstance(form, OnnxForm) and form.expand is None and form.codes.size > 0 and form.levels <= 1


def finished(model: ir.Model) -> bytes:
    """The bytes of the file, after ``onnx.checker`` has seen it.

    Raises:
        NotExpressible: it is beyond what one ONNX file can hold.
    """
    proto = ir.to_proto(model)
    if proto.ByteSize() > PROTOBUF_LIMIT:
        raise NotExpressible("the model is too large for one ONNX file (2 GB): export with --no-onnx")
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def _exported(program: ExportedProgram, table: dict[Any, Callable[..., Any]]) -> ir.Model:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            exported = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, optimize=True, custom_translation_table=table, verbose=False
            )
    except torch.onnx.OnnxExporterError as error:
        raise NotExpressible(f"ONNX cannot express the model: {_cause(error)}; export with --no-onnx") from error
    finally:
        logger.setLevel(level)
    assert exported is not None
    return exported.model


def _cause(error: BaseException) -> str:
    """The innermost reason, which names the operation."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _batched_product(x: ir.Value, y: ir.Value) -> ir.Value:
    """A matrix repeated for the whole batch costs torch nothing, but a runtime makes the copies: MatMul needs none."""
    source, size = y, y.shape
    while (node := source.producer()) is not None and node.op_type in ("Reshape", "Identity") and source.shape == size:
        assert node.inputs[0] is not None
        source = node.inputs[0]
    repeated = node.inputs[0] if node is not None and node.op_type == "Expand" and source.shape == size else None
    if repeated is not None and repeated.shape is not None and len(repeated.shape) == 2:
        return op.MatMul(x, repeated)
    return op.MatMul(x, y)


def _left_out(
    x: ir.Value, step_size: ir.Value, clip: ir.Value, exponent: ir.Value | None = None, unsigned: bool = False
) -> ir.Value:
    return op.Identity(x)


def _translation(
    activations: Mapping[str, Mapping[str, Any]], names: Mapping[str, str], stored: dict[str, str]
) -> Callable[..., ir.Value]:
    """What a quantizer of activations becomes; ``names`` are the program's inputs by their place in the state.

    ``stored`` is filled with layer name → how it was expressed.
    """

    def translate(
        x: ir.Value, step_size: ir.Value, clip: ir.Value, exponent: ir.Value | None = None, unsigned: bool = False
    ) -> ir.Value:
        layer = names[str(step_size.name)].removesuffix(f".{INPUT_QUANTIZER}.step_size")
        about = activations[layer]
        if exponent is not None:
            stored[layer] = "fp32: a power of the activation is no affine grid"
            return _in_floats(op.Relu(x) if unsigned else x, step_size, clip, exponent)
        bits = about["bits"]
        wide = 8 if bits <= 8 else 16
        zero = op.Constant(value=ir.tensor(*ZEROS[unsigned, wide]))
        producer = x.producer()
        whole = bits == wide and (unsigned or (producer is not None and producer.op_type == "Relu"))
        name = "uint8" if wide == 8 else "uint16" if unsigned else "int16"
        stored[layer] = name + ("" if bits == wide else f", {bits} bit{'s' * (bits > 1)} by clipping")
        least = op.Constant(value_float=0.0) if unsigned else op.Neg(clip)
        clipped = x if whole else op.Clip(x, least, clip)
        return op.DequantizeLinear(op.QuantizeLinear(clipped, step_size, zero), step_size, zero)

    return translate


def _in_floats(x: ir.Value, step: ir.Value, clip: ir.Value, exponent: ir.Value) -> ir.Value:
    magnitude = op.Pow(op.Min(op.Abs(x), clip), exponent)
    return op.Mul(op.Mul(op.Round(op.Div(magnitude, step)), op.Sign(x)), step)


def _drop_metadata(model: ir.Model) -> None:
    """The exporter notes lines of source files with their paths: nothing a model needs."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
