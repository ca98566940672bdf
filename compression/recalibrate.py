"""Batch-norm statistics after compression: the old ones no longer fit, and refitting them is most of the recovery."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def recompute_statistics(model: nn.Module, batches: Iterable[torch.Tensor]) -> int:
    """Replace every batch norm's running mean and variance by their average over ``batches`` (normalised inputs).

    Everything else stays in evaluation mode meanwhile; modes and momenta are restored. Returns the number of norms,
    and reads no batch when there is none.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return 0
    modes = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average of all batches
        norm.training = True
    try:
        for x in batches:
            model(x)
    finally:
        for module, training in modes.items():
            module.training = training
        for norm, momentum in momenta.items():
            norm.momentum = momentum
    return len(norms)
