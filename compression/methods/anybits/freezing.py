"""Instability freezing: layers whose weights jump between levels train without their fewest bits for a while.

Few bits have wide cells, and a weight near the edge of one jumps to the next level and back from step to step, which
disturbs all other widths, for they share the weight. Retraining-free quantization (Tang et al., arXiv 2401.01543)
therefore takes the fewest bits from the layers where this is worst, and gives them back once it is over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from compression.quant.kernels import SMALLEST
from compression.quant.nested_quantizer import NestedQuantizer

SHARES = (0.5, 0.2)  # of the layers that are frozen: at first, and from half of the run on
SETTLED = 0.5  # the share of the run after which the share of layers stays
FIRST = 0.04  # the share of the run before the first choice: 6 of 150 epochs
EVERY, LATE, RARELY = 2 / 150, 0.72, 15 / 150  # between choices, and from which share of the run on how much longer
EDGE = 0.125  # in steps: a weight so near to the edge of a cell is unstable, which is a quarter of all places


@torch.no_grad()
def instability(weight: torch.Tensor, clip: torch.Tensor, widths: Sequence[int]) -> float:
    """Mean over ``widths`` b of a share of the weights divided by b: of those within ⅛ Δ_b of an edge between cells."""
    magnitude = weight.detach().abs() / clip.detach().clamp(min=SMALLEST)
    total = 0.0
    for bits in widths:
        # Edges are the multiples k Δ_b with k = 1..2^(b-1) - 1; Δ_b = q / 2^(b-1)
        position = magnitude * 2 ** (bits - 1)
        nearest = position.round().clamp(1, max(1, 2 ** (bits - 1) - 1))
        total += float(((position - nearest).abs() < EDGE).float().mean()) / bits
    return total / len(widths)


class Freezing:
    """Which layers train without their fewest bits in a run of ``total`` steps; checkpoints hold them.

    Args:
        quantizers: layer → its quantizer.
        weights: layer → what it quantizes.
        served: layer → its bit-widths, ascending; one with a single width keeps it.
    """

    def __init__(
        self,
        quantizers: Mapping[str, NestedQuantizer],
        weights: Mapping[str, torch.Tensor],
        served: Mapping[str, Sequence[int]],
        total: int,
    ) -> None:
        self._quantizers, self._weights, self._served, self._total = quantizers, weights, served, total
        self.candidates = [name for name in quantizers if len(served[name]) > 1]
        self.frozen: frozenset[str] = frozenset()
        self.choices = 0

    def widths(self, layer: str) -> Sequence[int]:
        """The bit-widths that a layer trains at for the present."""
        return self._served[layer][1:] if layer in self.frozen else self._served[layer]

    def share(self, step: int) -> float:
        """How much of the layers is frozen from ``step`` on: falls by a cosine over the first half of the run."""
        first, last = SHARES
        progress = min(1.0, step / max(1.0, SETTLED * self._total))
        return last + (first - last) * 0.5 * (1 + math.cos(math.pi * progress))

    def due(self, step: int) -> bool:
        """Whether layers are chosen before ``step``: often at first, rarely towards the end."""
        begin = round(FIRST * self._total)
        every = max(1, round((EVERY if step < LATE * self._total else RARELY) * self._total))
        return step >= begin and (step - begin) % every == 0

    def before_step(self, step: int) -> None:
        """Choose the layers of the greatest instability anew if it is time; all others get their fewest bits back."""
        if not self.due(step):
            return
        values = {
            name: instability(self._weights[name], self._quantizers[name].clip, self._served[name])
            for name in self.candidates
        }
        ranked = sorted(self.candidates, key=lambda name: -values[name])
        self.frozen = frozenset(ranked[: int(self.share(step) * len(ranked))])
        self.choices += 1

    def state_dict(self) -> dict[str, Any]:
        """The frozen layers, and how often they were chosen."""
        return {"frozen": sorted(self.frozen), "choices": self.choices}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.frozen, self.choices = frozenset(state_dict["frozen"]), int(state_dict["choices"])
