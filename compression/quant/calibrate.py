"""Ranges of activations from a few batches: what each layer really receives decides its clipping bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import nn

from compression.errors import CompressionError

Calibration = Literal["max", "percentile"]

MARGIN = 1.05
"""Head room over the largest value seen, for batches not seen."""
PERCENTILE = 0.999
_SAMPLE = 1 << 16


def input_ranges(
    model: nn.Module, layers: Mapping[str, nn.Module], batches: torch.Tensor | Iterable[Any], calibration: Calibration
) -> dict[str, float]:
    """Layer name → clipping bound of its input, over all batches, with the model in evaluation mode.

    A layer that is never called as a module (such as the projection inside ``nn.MultiheadAttention``) is left out.

    Raises:
        CompressionError: no batches, values that are not finite, or an unknown kind of calibration.
    """
    if calibration not in ("max", "percentile"):
        raise CompressionError(f"calibration must be max or percentile, not {calibration!r}")
    seen: dict[str, float] = {}
    handles = [
        module.register_forward_pre_hook(_observer(seen, name, calibration), with_kwargs=True)
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
    margin = MARGIN if calibration == "max" else 1.0
    return {name: (bound * margin if bound > 0 else 1.0) for name, bound in seen.items()}


def _as_batches(batches: torch.Tensor | Iterable[Any]) -> Iterable[Any]:
    return [batches] if isinstance(batches, torch.Tensor) else batches


def _run(model: nn.Module, batch: Any) -> int:
    model(batch[0] if isinstance(batch, (tuple, list)) else batch)
    return 1


def _observer(seen: dict[str, float], name: str, calibration: Calibration) -> Callable[..., None]:
    def observe(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        magnitude = (args[0] if args else kwargs["input"]).detach().float().abs().flatten()
        bound = float(magnitude.max() if calibration == "max" else _percentile(magnitude))
        if not bound < float("inf"):
            raise CompressionError(f"layer {name!r} receives values that are not finite; check the model and the data")
        seen[name] = max(seen.get(name, 0.0), bound)

    return observe


def _percentile(magnitude: torch.Tensor) -> torch.Tensor:
    stride = max(1, len(magnitude) // _SAMPLE)
    return torch.quantile(magnitude[::stride], PERCENTILE)
