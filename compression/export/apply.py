"""Apply a budget to a model in the user's own training loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compression import methods
from compression.budget import Budget
from compression.export.reader import read_files
from compression.reading import json_object

Calibration = torch.Tensor | Iterable[Any] | None


def apply(
    model: nn.Module,
    budget: Budget | Mapping[str, Any] | str | Path,
    *,
    calibration: Calibration = None,
) -> nn.Module:
    """Prepare ``model`` in place for the user's own training loop under a budget; returns ``model``.

    The method decides how (:meth:`compression.methods.base.Method.prepare`): learnable quantizers, or masks and fixed
    ones. A method that only runs as a whole refuses.

    Args:
        model: a trained dense model.
        budget: as an object, as parsed JSON, or a file: ``budget.json`` or a whole bundle.
        calibration: one batch or several, needed where the budget quantizes activations.

    Raises:
        CompressionError: impossible budget, a model that already has quantizers, missing calibration batches.
    """
    method, requested = methods.of_budget(_budget(budget))
    return method.prepare(model, requested, calibration)


def _budget(given: Budget | Mapping[str, Any] | str | Path) -> Budget:
    if isinstance(given, Budget):
        return given
    if isinstance(given, Mapping):
        return Budget.from_dict(given)
    if Path(given).suffix == ".zip":
        data = read_files(given, ("budget.json",))["budget.json"]
        return Budget.from_dict(json_object(data, f"bundle {given}: budget.json"))
    return Budget.load(given)
