"""The rule for d of one group, called with numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from compression.methods.geta.joint import ETA, LayerTerms
from compression.methods.geta.joint import step_sizes as of_groups


class LayerTerm(NamedTuple):
    r_dot_h: float
    lowest: float
    highest: float
    preferred: float | None = None

    @property
    def target(self) -> float:
        return self.highest if self.preferred is None else min(max(self.preferred, self.lowest), self.highest)


def step_sizes(
    gamma: float, layers: Sequence[LayerTerm], h_squared: float, alpha: float, eta: float | None = ETA
) -> tuple[float, list[float]]:
    rows = [(r, lowest, highest, highest if own is None else own) for r, lowest, highest, own in layers]
    columns = torch.tensor(rows, dtype=torch.float64).unbind(1)
    terms = LayerTerms(torch.zeros(len(rows), dtype=torch.int64), *columns)
    rate, size = (torch.tensor([number], dtype=torch.float64) for number in (gamma, h_squared))
    gammas, steps = of_groups(rate, terms, size, alpha, eta)
    return float(gammas), steps.tolist()
