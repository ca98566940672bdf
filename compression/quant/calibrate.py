"""Ranges of activations, measured on a few batches: the inputs a layer receives decide its clipping bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import nn

from compression.errors import CompressionError

Batches = torch.Tensor | Iterable[Any]
"""One batch, or several; of a batch that is a tuple or list, the first element is the model's input."""
CalibrationRange = Literal["max", "percentile"]
"""How a range is taken from the magnitudes observed."""

MARGIN = 1.05
"""Factor over the largest magnitude observed, for batches that were not observed."""
PERCENTILE = 0.999
_SAMPLE = 1 << 16


def input_ranges(
    model: nn.Module, layers: Mapping[str, nn.Module], batches: Batches, calibration_range: CalibrationRange
) -> dict[str, float]:
    """Return layer name → clipping bound of its input over all batches, with the model in evaluation mode.

    A layer that is never called as a module (such as the projection inside ``nn.MultiheadAttention``) has no entry.

    Raises:
        CompressionError: no batches, values that are not finite, or an unknown kind of range.
    """
    if calibration_range not in ("max", "percentile"):
        raise CompressionError(f"calibration_range must be max or percentile, not {calibration_range!r}")
    bounds: dict[str, float] = {}
    handles = [
        module.register_forward_pre_hook(_observer(bounds, name, calibration_range), with_kwargs=True)
        for name, module in layers.items()
    ]
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            count = sum(_run(model, batch) for batch in _as_batches(batches))
    finally:
        for handle in handles:
            handle.remove()
        for module, was_training in training.items():
            module.training = was_training
    if not count:
        raise CompressionError("activation ranges need at least one calibration batch")
    margin = MARGIN if calibration_range == "max" else 1.0
    return {name: (bound * margin if bound > 0 else 1.0) for name, bound in bounds.items()}


def _as_batches(batches: Batches) -> Iterable[Any]:
    return [batches] if isinstance(batches, torch.Tensor) else batches


def _run(model: nn.Module, batch: Any) -> int:
    model(batch[0] if isinstance(batch, (tuple, list)) else batch)
    return 1


def _observer(bounds: dict[str, float], name: str, calibration_range: CalibrationRange) -> Callable[..., None]:
    def observe(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        magnitude = (args[0] if args else kwargs["input"]).detach().float().abs().flatten()
        bound = float(magnitude.max() if calibration_range == "max" else _percentile(magnitude))
        if not bound < float("inf"):
            raise CompressionError(f"layer {name!r} receives values that are not finite; check the model and the data")
        bounds[name] = max(bounds.get(name, 0.0), bound)

    return observe


def _percentile(magnitude: torch.Tensor) -> torch.Tensor:
    stride = max(1, len(magnitude) // _SAMPLE)
    return torch.quantile(magnitude[::stride], PERCENTILE)
