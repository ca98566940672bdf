"""Ranges of activations, measured on a few batches: the inputs a layer receives decide its clipping bound."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import nn

from compression.bounds import HIGHEST_BITS
from compression.errors import CompressionError
from compression.graph.inputs import call
from compression.graph.running import in_mode
from compression.quant.clipping import best_clip
from compression.quant.normal_steps import MOST_BITS, input_clip

Batches = torch.Tensor | Iterable[Any]
"""One batch, or several; of a batch that is a tuple or list, the first element is the model's input.

A model's input is a tensor, a tuple of its arguments, or a dict of its keyword arguments."""
CalibrationRange = Literal["max", "percentile", "fitted", "normal"]
"""How a range is taken from the magnitudes observed: the largest of them with a margin, their 99.9th percentile, the
bound at which rounding them to the layer's bit-width has the least squared error, or where it would have for normal
numbers behind a ReLU with their mean square (``fitted`` where an input has a sign or more than 8 bits)."""


class InputRange(NamedTuple):
    """``bound``: the clipping bound of a layer's input; ``unsigned``: its quantizer needs no sign."""

    bound: float
    unsigned: bool


MARGIN = 1.05
"""Factor over the largest magnitude observed, for batches that were not observed."""
PERCENTILE = 0.999
_SAMPLE = 1 << 16


def input_ranges(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    batches: Batches,
    calibration_range: CalibrationRange,
    bits: Callable[[str], float] = lambda _: HIGHEST_BITS,
    unsigned: Collection[str] = (),
) -> dict[str, InputRange]:
    """Return layer name → clipping bound of its input over all batches, with the model in evaluation mode.

    ``layers`` may be the quantizers of inputs themselves, which receive what is observed. ``bits``: the bit-width of a
    layer's input, which ranges are ``fitted`` to. ``unsigned``: layers whose input needs no sign; one that receives a
    negative number all the same keeps it. A layer that is never called as a module (such as the projection
    inside ``nn.MultiheadAttention``) has no entry.

    Raises:
        CompressionError: no batches, values that are not finite, or an unknown kind of range.
    """
    known = get_args(CalibrationRange)
    if calibration_range not in known:
        raise CompressionError(
            f"calibration_range must be {', '.join(known[:-1])} or {known[-1]}, not {calibration_range!r}"
        )
    seen: dict[str, list[torch.Tensor]] = {}
    negative: set[str] = set()
    handles = [
        module.register_forward_pre_hook(_observer(seen, negative, name, calibration_range), with_kwargs=True)
        for name, module in layers.items()
    ]
    try:
        with torch.no_grad(), in_mode(model):
            count = 0
            for x in model_inputs(batches):
                call(model, x)
                count += 1
    finally:
        for handle in handles:
            handle.remove()
    if not count:
        raise CompressionError("activation ranges need at least one calibration batch")
    ranges = {}
    for name, parts in seen.items():
        without_sign = name in unsigned and name not in negative
        bound = _bound(parts, calibration_range, bits(name), without_sign)
        ranges[name] = InputRange(bound if bound > 0 else 1.0, without_sign)
    return ranges


def model_inputs(batches: Batches) -> Iterator[Any]:
    """What the model is called with, batch by batch."""
    for batch in [batches] if isinstance(batches, (torch.Tensor, dict)) else batches:
        yield batch[0] if isinstance(batch, (tuple, list)) else batch


def _observer(
    seen: dict[str, list[torch.Tensor]], negative: set[str], name: str, kind: CalibrationRange
) -> Callable[..., None]:
    def observe(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        value = (args[0] if args else kwargs["input"]).detach().float().flatten()
        if value.numel() and value.min() < 0:
            negative.add(name)
        magnitude = value.abs()
        sample = magnitude[:: max(1, len(magnitude) // _SAMPLE)].clone()
        if kind == "max":
            sample = magnitude.max()[None]
        elif kind == "percentile":
            sample = torch.quantile(sample, PERCENTILE)[None]
        if not sample.max() < float("inf"):
            raise CompressionError(f"layer {name!r} receives values that are not finite; check the model and the data")
        seen.setdefault(name, []).append(sample)

    return observe


def _bound(parts: Sequence[torch.Tensor], kind: CalibrationRange, bits: float, unsigned: bool) -> float:
    if kind == "normal" and unsigned and bits in range(1, MOST_BITS + 1):
        return input_clip(parts, int(bits))
    seen = torch.cat([*parts])
    if kind in ("fitted", "normal"):
        return best_clip(seen, bits, unsigned)
    return float(seen.max()) * (MARGIN if kind == "max" else 1.0)
