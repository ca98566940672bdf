"""The thresholds of all layers: their ratios are learned, their common height follows the zeros that are due."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from compression.pruning.weights import WeightLimits, limits
from compression.quant.dead_zone import DeadZoneQuantizer
from compression.quant.tables import LayerTables

EVERY = 10  # steps between measurements of reach and height
FIRST = 0.5  # of the zeros at the beginning


class Thresholds:
    """``quantizers`` and ``weights`` by layer; exactly ``total`` weights are zero in the end, within ``allowed``.

    The logits have an optimizer of their own, Adam, whose state is that of this object.
    """

    def __init__(
        self,
        quantizers: Mapping[str, DeadZoneQuantizer],
        weights: Mapping[str, torch.Tensor],
        tables: LayerTables,
        sparsity: float,
        fixed: Mapping[str, float],
    ) -> None:
        self.quantizers, self.weights, self.fixed = quantizers, weights, fixed
        self.allowed: WeightLimits = limits(tables, sparsity, dict(fixed))
        self.total = self.allowed.clamp(round(sparsity * tables.size))
        self.requested = round(sparsity * tables.size)
        self.optimizer = torch.optim.Adam([quantizer.logit for quantizer in quantizers.values()], lr=1.0)

    @torch.no_grad()
    def learn(self, lr: float) -> None:
        """One step of every θ; gradients are used up."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def raise_to(self, share: float) -> None:
        """Take A anew, and multiply all τ by one factor so that ``share`` of the zeros are there.

        Layers whose sparsity the budget fixes have the threshold that gives it.
        """
        for name, quantizer in self.quantizers.items():
            before = float(quantizer.threshold())
            quantizer.measure(self.weights[name])
            quantizer.set_threshold(before)
        free = [name for name in self.quantizers if name not in self.fixed]
        counts = dict(zip(self.quantizers, self.allowed.floors.tolist(), strict=True))
        for name in self.fixed:
            self._set(name, _smallest(self.weights[name].abs().flatten(), round(share * counts[name])))
        due = round(share * (self.total - sum(counts[name] for name in self.fixed)))
        if free and due > 0:
            heights = {name: float(self.quantizers[name].threshold()) for name in free}
            factor = _smallest(torch.cat([self.weights[name].abs().flatten() / heights[name] for name in free]), due)
            for name in free:
                self._set(name, factor * heights[name])

    def _set(self, name: str, threshold: float) -> None:
        self.quantizers[name].set_threshold(threshold)

    @torch.no_grad()
    def freeze(self) -> None:
        """Exactly ``total`` zeros from now on: the weights of the least abs(w) / τ, within each layer's limits."""
        ratios = []
        for number, (name, quantizer) in enumerate(self.quantizers.items()):
            ratio = (self.weights[name].abs() / quantizer.threshold()).flatten().double()
            order, floor, cap = (
                ratio.argsort(stable=True),
                *(int(e[number]) for e in (self.allowed.floors, self.allowed.caps)),
            )
            ratio[order[:floor]], ratio[order[cap:]] = -1.0, torch.inf
            ratios.append(ratio)
        zeros = torch.zeros(sum(ratio.numel() for ratio in ratios), dtype=torch.bool, device=ratios[0].device)
        zeros[torch.cat(ratios).argsort(stable=True)[: self.total]] = True
        parts = zeros.split([ratio.numel() for ratio in ratios])
        for (name, quantizer), part in zip(self.quantizers.items(), parts, strict=True):
            weight = self.weights[name]
            quantizer.freeze(~part.view_as(weight))
            weight.mul_(quantizer.mask)
        self.keep_survivors()

    @torch.no_grad()
    def keep_survivors(self) -> None:
        """Weights that are not pruned and exactly 0 move to the smallest level."""
        for name, quantizer in self.quantizers.items():
            weight = self.weights[name]
            weight[quantizer.mask & (weight == 0)] = float(quantizer.threshold())

    def facts(self) -> dict[str, Any]:
        """Layer → the share of its weights that are zero, and its threshold."""
        return {
            name: {
                "zeros": 1 - float(quantizer.mask.double().mean()),
                "threshold": float(quantizer.threshold().detach()),
            }
            for name, quantizer in self.quantizers.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """That of the logits' optimizer."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.optimizer.load_state_dict(state_dict)


def _smallest(values: torch.Tensor, count: int) -> float:
    """A number with ``count`` of the values at most it."""
    return float(values.float().kthvalue(count).values) if count > 0 else 0.0
