"""Layers that may get factors: their weights and inputs as matrices, and a table of MACs and error over the rank.

All errors are relative to a layer's own output, tr(Δ G Δᵀ) / tr(W G Wᵀ) (eq. C1 of ``docs/derivations/cc.md``); with
G = I they are those of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compression.graph import Example, Graph, call, factorable
from compression.posttraining.follow import output_error
from compression.posttraining.grams import collect, watching
from compression.posttraining.low_rank import Factorization, factorize, largest_saving, rank_saving
from compression.posttraining.rows import matrix

MOST_RANKS = 32
"""Ranks that are offered for one layer: more would hardly change the choice."""
ROWS = 64
"""Of each input so many patches of a convolution are looked at."""
WHOLE = 0
"""In the place of a rank: the layer is not factored."""


@dataclass(frozen=True, eq=False)
class RankCurve:
    """A layer without its removed rows and columns, at some ranks in ascending cost, the last one ``WHOLE``.

    ``costs`` in MACs, ``errors`` relative to the dense layer; ``rows``, ``columns``: those of W that remain.
    """

    ranks: tuple[int, ...]
    costs: NDArray[np.int64]
    errors: NDArray[np.float64]
    factorization: Factorization
    rows: torch.Tensor
    columns: torch.Tensor

    def approximation(self, rank: int) -> torch.Tensor:
        """The matrix of this rank, of the rows and columns that remain."""
        first, last = self.factorization.factors(rank)
        return last @ first

    def factors(self, rank: int, n: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
        """[rank, d] and [n, rank], exactly 0 where rows and columns are removed."""
        first, last = self.factorization.balanced_factors(rank)
        wide, tall = first.new_zeros(rank, d), last.new_zeros(n, rank)
        wide[:, self.columns], tall[self.rows] = first, last
        return wide, tall


@dataclass(frozen=True, eq=False)
class LayerMatrix:
    """A layer as W [n, d] with G [d, d] of its inputs, fp64 on the CPU.

    ``kernel``: columns of each input channel; ``positions``: how often W is used for one example; ``energy``:
    tr(W G Wᵀ).
    """

    name: str
    weight: torch.Tensor
    gram: torch.Tensor
    kernel: int
    positions: int
    energy: float

    def channel_errors(self) -> torch.Tensor:
        """What the output loses without each input channel, relative to it: [d / kernel]."""
        weight = self.weight.unflatten(1, (-1, self.kernel))  # [n, channels, kernel]
        blocks = self.gram.unflatten(1, (-1, self.kernel)).unflatten(0, (-1, self.kernel))
        own = blocks.diagonal(dim1=0, dim2=2)  # of each channel its own block of G: [kernel, kernel, channels]
        return torch.einsum("nck,klc,ncl->c", weight, own, weight).clamp_min(0) / (self.energy or 1.0)

    def row_errors(self) -> torch.Tensor:
        """What the output loses without each of its own channels, relative to it: [n]."""
        return ((self.weight @ self.gram) * self.weight).sum(1).clamp_min(0) / (self.energy or 1.0)

    def error(self, rows: torch.Tensor, columns: torch.Tensor, matrix: torch.Tensor | None = None) -> float:
        """What the ``rows`` that remain lose without the other columns, and with ``matrix`` in the place of theirs."""
        change = self.weight[rows].clone()
        change[:, columns] -= change[:, columns] if matrix is None else matrix
        return output_error(change[None], self.gram[None]) / (self.energy or 1.0)

    def curve(self, rows: torch.Tensor, columns: torch.Tensor, saved: float | None) -> RankCurve | None:
        """The ranks that cost less than the layer, and the whole layer, without some rows and columns (eq. C4).

        ``saved``: the share of the layer's own MACs that its rank has to save, 0: it stays whole; ``None``: free.
        No curve where no rank saves that share of what remains of the layer.
        """
        weight, gram = self.weight[rows][:, columns], self.gram[columns][:, columns]
        n, d = weight.shape
        most = largest_saving(n, d)
        ranks = [*dict.fromkeys(np.linspace(1, most, min(most, MOST_RANKS)).round().astype(int).tolist()), WHOLE]
        if saved is not None:
            fixed = rank_saving(n, d, saved) if saved else WHOLE
            if saved and fixed < 1:
                return None
            ranks = [fixed]
        result = factorize(weight, gram, whitened=True)
        share = output_error(weight[None], gram[None]) / (self.energy or 1.0)
        costs = [self.positions * (n * d if rank == WHOLE else rank * (n + d)) for rank in ranks]
        errors = [0.0 if rank == WHOLE else share * float(result.outputs[rank]) for rank in ranks]
        return RankCurve(tuple(ranks), np.array(costs, np.int64), np.array(errors), result, rows, columns)


def layer_matrices(
    model: nn.Module, graph: Graph, inputs: Iterable[Example], harm: str, seed: int, check: Callable[[], None]
) -> dict[str, LayerMatrix]:
    """The layers of a network that may get factors and that are called as modules, in forward order.

    Raises:
        CompressionError: an input of a layer that is not finite.
    """
    names = factorable(model, graph)

    def checked() -> Iterable[Example]:
        for x in inputs:
            check()
            yield x

    grams: Mapping[str, torch.Tensor]
    if harm == "output":
        sums = collect(model, {name: name for name in names}, checked(), seed=seed, most=ROWS)
        grams = {name: each.gram[0].cpu().double() for name, each in sums.items()}
    else:
        reached: set[str] = set()
        with torch.no_grad(), watching(model, names, lambda name, *_: reached.add(name)):
            call(model, next(iter(checked())))
        modules = {name: model.get_submodule(name) for name in reached}
        sizes = {name: module.get_parameter("weight")[0].numel() for name, module in modules.items()}
        grams = {name: torch.eye(size, dtype=torch.float64) for name, size in sizes.items()}
    macs = {layer.name: layer.macs for layer in graph.layers}
    return {name: _matrix(model, name, grams[name], macs[name]) for name in names if name in grams}


def _matrix(model: nn.Module, name: str, gram: torch.Tensor, macs: int) -> LayerMatrix:
    layer = model.get_submodule(name)
    weight = layer.get_parameter("weight").detach()
    values = matrix(layer, weight)[0].cpu().double()
    kernel = weight[0, 0].numel()
    return LayerMatrix(name, values, gram, kernel, macs // values.numel(), output_error(values[None], gram[None]))
