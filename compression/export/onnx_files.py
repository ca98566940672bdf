"""Everything about ONNX in a bundle: the files, how they compare with torch, and how long they take."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import onnxruntime
from torch.export import ExportedProgram

from compression.counting.cost import cost
from compression.data import Batches
from compression.export import latency as clock
from compression.export.config import activations
from compression.export.findings import WIDER
from compression.export.onnx_check import Reference, compare, reference
from compression.export.onnx_int8 import calibrated
from compression.export.onnx_model import OnnxModel, floats, integers
from compression.export.program import traced, uses_quantizers
from compression.export.rounding import EIGHT, changes, rounded, rounded_units
from compression.export.source import Source
from compression.graph import Example

CALIBRATION_BATCHES, CALIBRATION_IMAGES = 4, 32
SMALLER = {
    "model.fp32.onnx": "slim, fp32",
    "model.onnx": "slim, integer weights",
    "model.int8.onnx": "slim, 8-bit arithmetic",
}
Say = Callable[[str, float], None]


def onnx_files(
    source: Source, program: ExportedProgram, say: Say, *, latency: bool
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The three files, and what was measured: ``{"onnx": …, "int8": …, "latency": …}``.

    ``model.onnx`` is the run's model as it is, ``model.int8.onnx`` computes in 8-bit integers with ranges calibrated
    here where the run learned none, ``model.fp32.onnx`` is the slim network in floats, without quantizers.

    Raises:
        NotExpressible: an operation that ONNX cannot express, or ONNX Runtime cannot run.
    """
    say("writing ONNX", 0.3)
    raw = floats(program, activations(source.model))
    faithful = integers(raw, source.integers)
    eight, added = calibrated(integers(raw, source.integers, arithmetic=True), _images(source))
    say("comparing ONNX Runtime with torch", 0.6)
    expected = reference(source.model, source.task, cost(source.graph, source.units).macs)
    measured: dict[str, Any] = {"onnx": _report(faithful, expected), "int8": _report(eight, expected)}
    measured["int8"]["calibrated"] = added
    measured["int8"]["calibration_images"] = CALIBRATION_BATCHES * CALIBRATION_IMAGES
    plain = floats(program) if uses_quantizers(program) else raw
    files = {"model.onnx": faithful.data, "model.fp32.onnx": plain.data, "model.int8.onnx": eight.data}
    if latency:
        say("measuring latency", 0.75)
        computing = {placed.layer for placed in eight.weights if placed.integer}
        measured["latency"] = _latency(source, files, computing)
    return files, measured


def _images(source: Source) -> list[Example]:
    batches = Batches(source.data, "train", CALIBRATION_IMAGES, seed=source.budget.seed, augment=False)
    return [images for images, _ in itertools.islice(batches, CALIBRATION_BATCHES)]


def _report(model: OnnxModel, expected: Reference) -> dict[str, Any]:
    """How the weights are stored, what is not on an integer grid, and how the file compares with torch."""
    kinds = [placed.type for placed in model.weights]
    return {
        **compare(model.data, expected).to_dict(expected.task.metric),
        "bytes": len(model.data),
        "opset": model.opset,
        "runtime": onnxruntime.__version__,
        "weights": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "layers": {placed.layer: placed.type for placed in model.weights},
        "wider": {placed.layer: placed.why for placed in model.weights if placed.why},
        "reasons": {placed.layer: placed.reason for placed in model.weights if placed.reason},
        "activations": dict(model.activations),
    }


def _latency(source: Source, files: Mapping[str, bytes], computing: Collection[str]) -> dict[str, Any]:
    variants = variant_files(source, files)
    times = clock.measure(variants, dict(zip(variants, _bops(source, computing), strict=False)))
    return {
        "variants": [dataclasses.asdict(time) for time in times],
        "processor": dataclasses.asdict(clock.processor()),
    }


def variant_files(source: Source, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Name → ONNX file of what is timed: dense, the three of the bundle, and rounded up where that changes anything."""
    variants = {"dense, fp32": floats(traced(source.dense, source.example)).data}
    variants |= {SMALLER[name]: files[name] for name in SMALLER}
    if source.multiple == 1 and changes(source, EIGHT):
        wider = rounded(source, EIGHT)
        program = traced(wider.model, source.example)
        raw = floats(program, activations(wider.model))
        plain = floats(program) if uses_quantizers(program) else raw
        eight, _ = calibrated(integers(raw, wider.integers, arithmetic=True), _images(source))
        variants |= zip(WIDER, (plain.data, eight.data), strict=True)
    return variants


def _bops(source: Source, computing: Collection[str]) -> tuple[float, ...]:
    """Bit operations for one image of each variant; these layers compute in 8 bits where arithmetic is in integers."""
    weights = {name: float(known.bits) for name, known in source.integers.items()}
    inputs: Mapping[str, Any] = activations(source.model)
    learned = {name: (bits, inputs[name]["bits"] if name in inputs else None) for name, bits in weights.items()}
    eight = {name: (bits, 8.0) if name in computing else learned[name] for name, bits in weights.items()}
    counted = (cost(source.graph.origin), cost(source.graph, source.units))
    return (
        counted[0].bops,
        counted[1].bops,
        cost(source.graph, source.units, learned).bops,
        cost(source.graph, source.units, eight).bops,
        cost(source.graph, rounded_units(source, EIGHT)).bops,
        cost(source.graph, rounded_units(source, EIGHT), eight).bops,
    )
