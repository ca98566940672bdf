"""Single weights that are held at zero while the others are trained, more of them after every round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.pruning.weights import SCOPES, requested_counts
from compression.quant.tables import LayerTables, survivors


class WeightMasks:
    """The masks of layers: those of a round hold those of the one before it, whatever training does in between.

    A weight that is masked is exactly 0 after :meth:`hold`, so that of the smallest magnitudes it is always one.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        """Nothing is masked; ``layers``: names of the layers that take part, quantizers attached or not."""
        self.parameters = {name: _raw_weight(model.get_submodule(name)) for name in layers}
        self.weights = {name: weight.detach() for name, weight in self.parameters.items()}
        self._factors = {name: torch.ones_like(weight) for name, weight in self.weights.items()}

    @property
    def masked(self) -> dict[str, int]:
        """Layer → how many of its weights are masked."""
        return {name: int((factor == 0).sum()) for name, factor in self._factors.items()}

    def prune(
        self, done: int, rounds: int, sparsity: float, bounds: Mapping[str, Mapping[str, Any]], scope: str
    ) -> tuple[str, ...]:
        """Mask the smallest weights, so that ⌊done·K / rounds⌋ are masked; ``bounds`` and ``scope`` as in a budget.

        Returns notes on where the sparsity cannot be reached exactly.

        Raises:
            CompressionError: a sparsity of a layer outside [0, 1), or weights that are not finite.
        """
        tables = LayerTables.prepare(self.weights)
        omega = np.ones(len(tables.layers))
        counts, notes = requested_counts(tables, sparsity, bounds, SCOPES[scope], omega, (done, rounds))
        for table, count in zip(tables.layers, counts.tolist(), strict=True):
            self._factors[table.name].copy_(survivors(self.weights[table.name], count))
        self.hold()
        return notes

    @torch.no_grad()
    def hold(self) -> None:
        """Set every masked weight to zero: momentum and decay must not bring it back."""
        torch._foreach_mul_(list(self.weights.values()), list(self._factors.values()))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Layer → bool, True where a weight survives."""
        return {name: factor.bool() for name, factor in self._factors.items()}

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` gave; the model's own state is loaded apart from it."""
        for name, factor in self._factors.items():
            factor.copy_(state_dict[name])


def _raw_weight(module: nn.Module) -> nn.Parameter:
    """The weight beneath a quantizer, or the weight."""
    quantized = parametrize.is_parametrized(module, "weight")
    return module.get_parameter("parametrizations.weight.original" if quantized else "weight")
