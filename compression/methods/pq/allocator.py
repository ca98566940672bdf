"""Which codebook each layer gets: bits of indices *and* books within the budget, least squared error of the weights.

Every layer has the same kinds of options, 8-bit numbers or a book of K blocks of d weights, whose costs and errors go
into the allocation that methods share (:mod:`compression.quant.spending`). The cost of a book is in them: in small
networks it is what decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from compression.asks import check_taking_part
from compression.bounds import check_bits
from compression.errors import CompressionError
from compression.methods.pq.candidates import SCALAR_BITS, Option, clustered, layer_options, lengths, seen_by
from compression.methods.pq.clusters import exactly
from compression.methods.pq.options import PqOptions
from compression.methods.pq.weighting import Roots
from compression.quant.spending import Problem, choose
from compression.quant.tables import check_numbers, layer_weights

MOST_EXTRA = 0.1
"""A book that takes more than this share of the budget beyond its layer's average is not tried: it saves time."""


@dataclass(frozen=True)
class LayerPlan:
    """What one layer gets."""

    name: str
    numel: int
    option: Option

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ``bits`` of a weight, indices and book."""
        option = self.option
        about = {"name": self.name, "numel": self.numel, "bits": option.bits(self.numel), "error": option.error}
        return {**about, "block": option.length, "centroids": option.centroids, "cost": option.cost}


@dataclass(frozen=True)
class Plan:
    """What every layer gets; ``cost`` ≤ ``budget`` in bits, over ``numel`` weights whose Σw² is ``energy``."""

    layers: tuple[LayerPlan, ...]
    budget: int
    exact: bool
    energy: float

    @property
    def numel(self) -> int:
        """N, the number of weights."""
        return sum(layer.numel for layer in self.layers)

    @property
    def cost(self) -> int:
        """Bits of all indices, books and steps."""
        return sum(layer.option.cost for layer in self.layers)

    @property
    def error(self) -> float:
        """Σ(w - ŵ)² over Σw², inputs counted where they count."""
        return sum(layer.option.error for layer in self.layers) / (self.energy or 1.0)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        facts = {"budget": self.budget, "cost": self.cost, "numel": self.numel, "error": self.error}
        return {**facts, "exact": self.exact, "layers": [layer.to_dict() for layer in self.layers]}


def weights_of(model: nn.Module, embeddings: bool) -> dict[str, torch.Tensor]:
    """Layer name → weight of all that is compressed; a weight that two modules share appears once."""
    weights = layer_weights(model)
    if embeddings:
        seen = {id(model.get_submodule(name).weight) for name in weights}
        for name, module in model.named_modules():
            if isinstance(module, nn.Embedding) and id(module.weight) not in seen:
                seen.add(id(module.weight))
                weights[name] = module.weight.detach()
    for name, weight in weights.items():
        check_numbers(name, weight)
    return {name: weight for name, weight in weights.items() if weight.numel()}


def allocate(
    weights: Mapping[str, torch.Tensor],
    bits: float,
    options: PqOptions,
    seed: int = 0,
    layers: Mapping[str, Mapping[str, Any]] | None = None,
    check: Callable[[], None] | None = None,
    roots: Roots | None = None,
) -> Plan:
    """The book of every layer.

    Args:
        weights: layer name → its weight.
        bits: average of all weights, never exceeded by indices, books and steps together.
        layers: for a layer, a range ``weight_bits`` of the average that it may get itself.
        check: called before each layer; may raise to stop.
        roots: what errors count by the inputs of layers (:func:`compression.methods.pq.weighting.input_roots`).

    Raises:
        CompressionError: bounds that no option of a layer meets, or a budget below the cheapest options.
    """
    check_taking_part(layers or {}, list(weights))
    budget = math.floor(bits * sum(weight.numel() for weight in weights.values()) + 1e-6)
    tables: list[list[Option]] = []
    for index, (name, weight) in enumerate(weights.items()):
        if check is not None:
            check()
        bound = (layers or {}).get(name, {}).get("weight_bits")
        most = bits * weight.numel() + MOST_EXTRA * budget
        table = layer_options(weight, options, seed + index, most, (roots or {}).get(name))
        tables.append(_within(table, bound, name, weight.numel()))
    energies = [_energy(weight, (roots or {}).get(name, {})) for name, weight in weights.items()]
    omega = [1 / energy if options.omega == "energy" and energy else 1.0 for energy in energies]
    problem = Problem(
        [np.array([option.cost for option in table], dtype=np.int64) for table in tables],
        [factor * np.array([option.error for option in table]) for factor, table in zip(omega, tables, strict=True)],
        budget,
    )
    choice = choose(problem)
    plans = (
        LayerPlan(name, weight.numel(), table[pick])
        for (name, weight), table, pick in zip(weights.items(), tables, choice.picks, strict=True)
    )
    return Plan(tuple(plans), problem.budget, choice.exact, sum(energies))


def _energy(weight: torch.Tensor, roots: Mapping[int, torch.Tensor]) -> float:
    """Σw², or what its longest blocks count by the inputs."""
    longest = max(roots, default=1)
    return float(exactly(seen_by(weight.float().reshape(-1, longest), roots.get(longest))).square().sum())


def _within(options: list[Option], bound: tuple[float, float] | None, name: str, numel: int) -> list[Option]:
    """The options whose average lies in the layer's own bounds.

    Raises:
        CompressionError: none does; the message names the layer and what there is.
    """
    if bound is None:
        return options
    check_bits(bound, f"layers.{name}.weight_bits")
    allowed = [option for option in options if bound[0] <= option.bits(numel) <= bound[1]]
    if not allowed:
        averages = [option.bits(numel) for option in options]
        raise CompressionError(
            f"layers.{name}.weight_bits: no codebook takes {bound[0]:g} to {bound[1]:g} bits a weight, book counted; "
            f"there are some from {min(averages):.2f} to {max(averages):.2f}"
        )
    return allowed


__all__ = ["SCALAR_BITS", "LayerPlan", "Option", "Plan", "allocate", "clustered", "lengths", "weights_of"]
