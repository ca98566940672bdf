"""A budget on a model in one's own training loop."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compression.budget import Budget
from compression.errors import CompressionError
from compression.export.reader import read_files
from compression.methods.geta.options import CHANNEL
from compression.methods.geta.options import settings as geta_settings
from compression.methods.opq import allocate
from compression.methods.opq import attach
from compression.methods.opq.options import options
from compression.quant import quantize
from compression.reading import json_object


def apply(
    model: nn.Module,
    budget: Budget | Mapping[str, Any] | str | Path,
    *,
    calibration: torch.Tensor | Iterable[Any] | None = None,
) -> nn.Module:
    """Put what a budget asks for on ``model``, in place, ready for a training loop of one's own; returns ``model``.

    OPQ: masks and fixed quantizers from the closed form, with the budget's sparsity and bits; any optimizer then
    fine-tunes what is left. GETA: learnable quantizers at the schedule's starting bits; ``cx.QASSO`` then removes units
    and narrows the bits while it trains.

    Args:
        model: a trained dense model.
        budget: as an object, as parsed JSON, or a file: ``budget.json`` or a whole bundle.
        calibration: one batch or several, needed where the budget quantizes activations.

    Raises:
        CompressionError: impossible budget, a model that carries quantizers already, missing calibration batches.
    """
    asked = _budget(budget)
    if asked.method == "opq":
        found = allocate(model, asked.sparsity, asked.bits, asked.layers or None, **options(asked))
        return attach(model, found)
    if asked.method == "geta":
        if asked.activation_bits is not None and calibration is None:
            raise CompressionError("the budget quantizes activations: pass calibration=, one batch or several")
        batches = calibration if asked.activation_bits is not None else None
        per_channel = geta_settings(asked).weights == CHANNEL
        return quantize(model, asked.schedule.start_bits, batches, per_channel=per_channel)
    raise CompressionError(f"method {asked.method} has no part that goes on a model before a run: start a run with it")


def _budget(given: Budget | Mapping[str, Any] | str | Path) -> Budget:
    if isinstance(given, Budget):
        return given
    if isinstance(given, Mapping):
        return Budget.from_dict(given)
    if Path(given).suffix == ".zip":
        return Budget.from_dict(json_object(read_files(given)["budget.json"], f"budget.json in {given}"))
    return Budget.load(given)
