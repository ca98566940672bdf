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
from compression.methods.pq.clusters import Clusters, cluster, exactly, learn, sample, squared_error
from compression.methods.pq.options import PqOptions
from compression.methods.pq.quantizer import rounded_book
from compression.pack.streams import encode
from compression.quant.spending import Problem, choose
from compression.quant.steps import Survivors, best_steps
from compression.quant.tables import LayerTables, check_numbers, layer_weights

SCALAR_BITS = 8
EXPONENTS = range(1, 11)
"""Books have 2^1 to 2^10 blocks."""
BLOCKS_A_CENTROID = 4
"""A book has at most a fourth as many blocks as its layer; with more, it hardly saves anything."""
LENGTHS = (1, 2, 4, 8)
MOST_EXTRA = 0.1
"""A book that takes more than this share of the budget beyond its layer's average is not tried: it saves time."""
STEP_BITS, HEADER_BITS = 32, 40
"""Of the fp32 step, and at most of what stands before a stream's integers (range, rounding up to bytes)."""
MOST_CODED = 1 << 15
"""Blocks up to which all of them are clustered for each option, and the indices coded to learn what they take."""


@dataclass(frozen=True)
class Option:
    """One way to store a layer: ``centroids`` blocks of ``length`` weights, or for 0 centroids 8-bit ones of ``step``.

    ``cost`` in bits is never exceeded by what the packed file takes for it; ``error`` is Σ(w - ŵ)² before training.
    """

    length: int
    centroids: int
    cost: int
    error: float
    step: float = 0.0

    def bits(self, numel: int) -> float:
        """Of a weight, indices and book."""
        if not self.centroids:
            return SCALAR_BITS
        index = numel // self.length * math.ceil(math.log2(self.centroids))
        return (index + SCALAR_BITS * self.centroids * self.length) / numel


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
        """Σ(w - ŵ)² over Σw²."""
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
) -> Plan:
    """The book of every layer.

    Args:
        weights: layer name → its weight.
        bits: average of all weights, never exceeded by indices, books and steps together.
        layers: for a layer, a range ``weight_bits`` of the average that it may get itself.
        check: called before each layer; may raise to stop.

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
        tables.append(_within(_options(weight, options, seed + index, most), bound, name, weight.numel()))
    energies = [float(exactly(weight).square().sum()) for weight in weights.values()]
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


def lengths(shape: tuple[int, ...], block: str | int) -> list[int]:
    """The lengths that blocks of a weight may have: those of ``block`` that divide its rows along dimension 0."""
    row, kernel = math.prod(shape[1:]), math.prod(shape[2:])
    if isinstance(block, int):
        return [block] if row % block == 0 else [1]
    if block == "kernel" and kernel > 1:
        return [kernel]
    return [length for length in sorted({*LENGTHS, kernel}) if row % length == 0]


def _options(weight: torch.Tensor, options: PqOptions, seed: int, most: float) -> list[Option]:
    """A layer's options in ascending cost up to ``most`` bits, each with less error than all that are cheaper."""
    scalar = _scalar(weight)
    candidates = [scalar]
    for length in lengths(tuple(weight.shape), options.block):
        count = weight.numel() // length
        for exponent in EXPONENTS:
            centroids = 2**exponent
            full = _cost(count, centroids, length)
            if centroids * BLOCKS_A_CENTROID <= count and full < min(most, scalar.cost):
                candidates.append(_book_option(weight, length, centroids, options.iterations, seed))
    front: list[Option] = []
    for option in sorted(candidates, key=lambda option: (option.cost, option.error)):
        if not front or option.error < front[-1].error:
            front.append(option)
    return front


def _scalar(weight: torch.Tensor) -> Option:
    (table,) = LayerTables.prepare({"weight": weight}).layers
    steps, errors = best_steps(Survivors(table, 0, 0, None), (SCALAR_BITS,))
    cost = SCALAR_BITS * weight.numel() + STEP_BITS + HEADER_BITS
    return Option(1, 0, cost, float(errors[0]), float(steps[0]))


def _cost(count: int, centroids: int, length: int, coded: int | None = None) -> int:
    """Bits of ``count`` indices (at their full length, or ``coded``), of the book, and of the step."""
    full = count * math.ceil(math.log2(centroids)) + HEADER_BITS
    indices = full if coded is None else min(full, coded)
    return indices + SCALAR_BITS * centroids * length + HEADER_BITS + STEP_BITS


def _book_option(weight: torch.Tensor, length: int, centroids: int, iterations: int, seed: int) -> Option:
    """A book's cost and error; where its layer has many blocks, the error of a random part of them stands for all."""
    blocks = weight.detach().float().reshape(-1, length)
    if len(blocks) > MOST_CODED:
        part = sample(blocks, centroids, seed)
        learned = learn(part, centroids, seed, iterations)
        error = squared_error(part, rounded_book(learned.centroids), learned.assignments) * len(blocks) / len(part)
        return Option(length, centroids, _cost(len(blocks), centroids, length), error)
    clusters = clustered(weight, length, centroids, iterations, seed)
    error = squared_error(blocks, rounded_book(clusters.centroids), clusters.assignments)
    coded = 8 * len(encode(clusters.assignments.cpu().numpy().astype(np.int32)).data)
    return Option(length, centroids, _cost(len(blocks), centroids, length, coded), error)


def clustered(weight: torch.Tensor, length: int, centroids: int, iterations: int, seed: int) -> Clusters:
    """The clusters of a weight's blocks; where some are exactly 0, the last centroid is 0 and theirs."""
    blocks = weight.detach().float().reshape(-1, length)
    live = (blocks != 0).any(1)
    if bool(live.all()):
        return cluster(blocks, centroids, seed, iterations)
    result = cluster(blocks[live], max(1, centroids - 1), seed, iterations)
    assignments = torch.full((len(blocks),), len(result.centroids), device=blocks.device)
    assignments[live] = result.assignments
    zero = result.centroids.new_zeros(1, length)
    return Clusters(torch.cat([result.centroids, zero]), assignments, result.errors)


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


__all__ = ["LayerPlan", "Option", "Plan", "allocate", "clustered", "lengths", "weights_of"]
