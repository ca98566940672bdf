"""A budget on a model in one's own training loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compression.budget import Budget
from compression.errors import CompressionError
from compression.export.reader import read_files
from compression.methods.geta.options import CHANNEL
from compression.methods.geta.options import settings as geta_settings
from compression.methods.opq import allocate, attach
from compression.methods.opq.options import options
from compression.quant import quantize
from compression.reading import json_object

Calibration = torch.Tensor | Iterable[Any] | None


def apply(
    model: nn.Module,
    budget: Budget | Mapping[str, Any] | str | Path,
    *,
    calibration: Calibration = None,
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
    if not applies(asked.method):
        raise CompressionError(
            f"method {asked.method} has no part that goes on a model before a run: start a run with it"
        )
    return _PARTS[asked.method](model, asked, calibration)


def applies(method: str) -> bool:
    """Does this method have a part that :func:`apply` can put on a model?"""
    return method in _PARTS


def _opq(model: nn.Module, budget: Budget, calibration: Calibration) -> nn.Module:
    found = allocate(model, budget.sparsity, budget.bits, budget.layers or None, **options(budget))
    return attach(model, found)


def _geta(model: nn.Module, budget: Budget, calibration: Calibration) -> nn.Module:
    if budget.activation_bits is not None and calibration is None:
        raise CompressionError("the budget quantizes activations: pass calibration=, one batch or several")
    batches = calibration if budget.activation_bits is not None else None
    per_channel = geta_settings(budget).weights == CHANNEL
    return quantize(model, budget.schedule.start_bits, batches, per_channel=per_channel)


_PARTS = {"geta": _geta, "opq": _opq}


def _budget(given: Budget | Mapping[str, Any] | str | Path) -> Budget:
    if isinstance(given, Budget):
        return given
    if isinstance(given, Mapping):
        return Budget.from_dict(given)
    if Path(given).suffix == ".zip":
        data = read_files(given, ("budget.json",))["budget.json"]
        return Budget.from_dict(json_object(data, f"bundle {given}: budget.json"))
    return Budget.load(given)
