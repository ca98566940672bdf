"""``config.json``: what became of every layer and group, in plain values a program can act on."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from compression import __version__, encodings
from compression.data.catalogue import PADDING
from compression.data.types import PASSAGE, TEXT, DataSet
from compression.export.source import Source
from compression.graph.cuts import cuts
from compression.quant import Quantizer, activation_quantizers
from compression.quant.attach import INPUT_QUANTIZER, unsigned_key
from compression.runs.names import model_name, shared
from compression.tasks import Metric

VERSION = 1
TOKENIZER = "all-MiniLM-L6-v2 (word pieces, lower case)"


def config(source: Source) -> dict[str, Any]:
    """The compressed model in numbers, with the ``budget`` that was requested.

    ``layers``: name → ``shape`` and ``dense_shape`` of its weight, ``kept`` rows and columns (null: all of them),
    ``weight`` and ``activation`` quantizers (null: fp32). A weight is described by the encoding that its ``kind``
    names: on a grid it is its code k times ``step``, a number or a list with one for each position along ``axis``;
    where it has an ``offset`` it is ``sign(k) * ((abs(k) - 1/2) * step + offset)``. An activation is
    ``round(clamp(x, -clip, clip) / step) * step``, an ``unsigned`` one has 0 in place of ``-clip``.
    ``groups``: id → ``units``, ``kept``, ``removed``; ``ranks``: layer → rank, of those that are
    two layers now, ``first`` and ``last``; ``multiple``: what counts of units were rounded up to.
    ``measured`` has scores and sizes before and after, ``weights`` what the run started from.
    ``preprocessing`` says how images or sentences are brought to the model's input.
    """
    data = source.data
    return {
        "version": VERSION,
        "run": source.run,
        "budget": shared(source.budget).to_dict(),
        "method": source.budget.method,
        "model": model_name(source.budget.model),
        "input": list(source.input),
        "outputs": source.outputs,
        "data": data.label,
        "classes": list(data.classes),
        "preprocessing": preprocessing(data),
        "layers": layers(source),
        "groups": groups(source),
        "ranks": dict(source.ranks),
        "quantizers": activations(source.model),
        "multiple": source.multiple,
        "rebuilt": bool(source.result.get("rebuilt")),
        "measured": measured(source.result),
        "weights": source.result.get("weights"),
        "versions": {
            "compression-explorer": __version__,
            "torch": torch.__version__.partition("+")[0],
            "python": platform.python_version(),
        },
    }


def measured(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the run measured on the test split, of the dense model (``baseline``) and of this one (``final``)."""
    fields = ("split", "score", "loss", "bytes", "macs", "rel_bops")
    ends = {end: {name: result[end].get(name) for name in fields} for end in ("baseline", "final")}
    return {"metric": Metric.from_result(result).name, **ends}


def preprocessing(data: DataSet) -> dict[str, Any]:
    """How pixels, or sentences, become what the model takes; data of one's own are passed on as they are."""
    if data.size is not None:
        return {"coordinates": "of pixel centres, the longer side from -1 to 1", "size": list(data.size)}
    if data.kind is PASSAGE:
        return {"bytes": data.input[0]}
    if data.kind is TEXT:
        return {"tokenizer": TOKENIZER, "tokens": data.input[0], "padding": PADDING}
    return {"scale": 1 / 255, **data.preprocess} if data.of_images else {"unchanged": True}


def groups(source: Source) -> dict[str, dict[str, Any]]:
    """Group id → how many units it had, which stayed, which were removed; only groups whose units can be removed."""
    result = {}
    for group in source.graph.prunable:
        removed = sorted(source.units.get(group.id, ()))
        result[group.id] = {"units": group.units, "kept": _others(group.units, removed), "removed": removed}
    return result


def layers(source: Source) -> dict[str, dict[str, Any]]:
    """Layer name → its shape, what remains of it, and its quantizers."""
    dropped = cuts(source.graph, source.units)
    inputs = activations(source.model)
    result = {}
    for layer in source.graph.layers:
        lost = {dim: set(positions.tolist()) for dim, positions in dropped.get(layer.weight, ())}
        shape = [size - len(lost.get(dim, ())) for dim, size in enumerate(layer.shape)]
        result[layer.name] = {
            "kind": layer.kind,
            "dense_shape": list(layer.shape),
            "shape": shape,
            "kept": {side: _remaining(layer.shape[dim], lost.get(dim)) for dim, side in enumerate(("rows", "columns"))},
            "weight": _weight(source, layer.name),
            "activation": inputs.get(layer.name),
        }
    return result


def _weight(source: Source, name: str) -> dict[str, Any] | None:
    weight = source.integers.get(name)
    return None if weight is None else encodings.get(weight.kind).describe(weight)


def activations(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Layer name → the quantizer of its input."""
    result = {name: _quantizer(quantizer) for name, quantizer in activation_quantizers(model).items()}
    state = model.state_dict()
    mark = f".{INPUT_QUANTIZER}.step_size"
    for name in state:  # a rebuilt model keeps the numbers of its quantizers, not the modules
        layer = name.removesuffix(mark)
        if name.endswith(mark) and layer not in result:
            step, clip = float(state[name]), float(state[f"{layer}.{INPUT_QUANTIZER}.clip"])
            result[layer] = _activation(clip, step, unsigned_key(layer) in state)
    return result


def _quantizer(quantizer: Quantizer) -> dict[str, Any]:
    step = quantizer.step()
    assert isinstance(step, float)
    about = _activation(quantizer.clip.item(), step, quantizer.is_unsigned) | {"bits": round(quantizer.bits())}
    if quantizer.exponent is not None:
        about["exponent"] = quantizer.exponent.item()
    return about


def _activation(clip: float, step: float, unsigned: bool) -> dict[str, Any]:
    """One quantizer without an exponent."""
    bits = round(math.log2(clip / step + 1) + (0 if unsigned else 1))
    return {"bits": bits, "step": step, "clip": clip, "unsigned": unsigned}


def _remaining(size: int, lost: set[int] | None) -> list[int] | None:
    return None if not lost else _others(size, sorted(lost))


def _others(size: int, lost: Sequence[int]) -> list[int]:
    removed = set(lost)
    return [index for index in range(size) if index not in removed]


def bit_range(layers: Mapping[str, Mapping[str, Any]], side: str) -> tuple[int, int, int] | None:
    """Lowest and highest bit-width of ``weight`` or ``activation``, and of how many layers; ``None`` when in fp32."""
    bits = [layer[side]["bits"] for layer in layers.values() if layer[side] is not None]
    return (min(bits), max(bits), len(bits)) if bits else None
