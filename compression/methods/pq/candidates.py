"""The ways to store a layer, 8-bit numbers or a book of K blocks of d weights: what each costs and how much it errs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from compression.methods.pq.clusters import Clusters, cluster, learn, means, sample, squared_error
from compression.methods.pq.options import PqOptions
from compression.methods.pq.quantizer import rounded_book
from compression.pack.streams import encode
from compression.quant.steps import Survivors, best_steps
from compression.quant.tables import LayerTables

SCALAR_BITS = 8
EXPONENTS = range(1, 11)
"""Books have 2^1 to 2^10 blocks."""
BLOCKS_A_CENTROID = 4
"""A book has at most a fourth as many blocks as its layer; with more, it hardly saves anything."""
LENGTHS = (1, 2, 4, 8)
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


def lengths(shape: tuple[int, ...], block: str | int) -> list[int]:
    """The lengths that blocks of a weight may have: those of ``block`` that divide its rows along dimension 0."""
    row, kernel = math.prod(shape[1:]), math.prod(shape[2:])
    if isinstance(block, int):
        return [block] if row % block == 0 else [1]
    if block == "kernel" and kernel > 1:
        return [kernel]
    return [length for length in sorted({*LENGTHS, kernel}) if row % length == 0]


def layer_options(
    weight: torch.Tensor, options: PqOptions, seed: int, most: float, roots: Mapping[int, torch.Tensor] | None = None
) -> list[Option]:
    """A layer's options in ascending cost up to ``most`` bits, each with less error than all that are cheaper.

    ``roots``: of the second moments of what blocks of each length meet (:mod:`compression.methods.pq.weighting`).
    """
    scalar = _scalar(weight)
    candidates = [scalar]
    for length in lengths(tuple(weight.shape), options.block):
        count = weight.numel() // length
        for exponent in EXPONENTS:
            centroids = 2**exponent
            full = _cost(count, centroids, length)
            if centroids * BLOCKS_A_CENTROID <= count and full < min(most, scalar.cost):
                root = (roots or {}).get(length)
                candidates.append(_book_option(weight, length, centroids, options.iterations, seed, root))
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


def _book_option(
    weight: torch.Tensor, length: int, centroids: int, iterations: int, seed: int, root: torch.Tensor | None
) -> Option:
    """A book's cost and error; where its layer has many blocks, the error of a random part of them stands for all."""
    blocks = weight.detach().float().reshape(-1, length)
    if len(blocks) > MOST_CODED:
        part = sample(seen_by(blocks, root), centroids, seed)
        learned = learn(part, centroids, seed, iterations)
        plain = sample(blocks, centroids, seed)
        book = seen_by(rounded_book(means(plain, learned.assignments, len(learned.centroids))), root)
        error = squared_error(part, book, learned.assignments) * len(blocks) / len(part)
        return Option(length, centroids, _cost(len(blocks), centroids, length), error)
    clusters = clustered(weight, length, centroids, iterations, seed, root)
    book = seen_by(rounded_book(clusters.centroids), root)
    error = squared_error(seen_by(blocks, root), book, clusters.assignments)
    coded = 8 * len(encode(clusters.assignments.cpu().numpy().astype(np.int32)).data)
    return Option(length, centroids, _cost(len(blocks), centroids, length, coded), error)


def seen_by(blocks: torch.Tensor, root: torch.Tensor | None) -> torch.Tensor:
    """R v of blocks v [B, d]: squared distances of these are what errors count; the blocks themselves without R."""
    return blocks if root is None else blocks @ root


def clustered(
    weight: torch.Tensor, length: int, centroids: int, iterations: int, seed: int, root: torch.Tensor | None = None
) -> Clusters:
    """The clusters of a weight's blocks; where some are exactly 0, the last centroid is 0 and theirs.

    With ``root`` the error is Σ|R (v - c)|², R symmetric [d, d]; centroids are those of the blocks themselves.
    """
    blocks = weight.detach().float().reshape(-1, length)
    live = (blocks != 0).any(1)
    every = bool(live.all())
    if not bool(live.any()):
        return Clusters(
            blocks.new_zeros(1, length), torch.zeros(len(blocks), dtype=torch.int64, device=blocks.device), (0.0,)
        )
    result = cluster(seen_by(blocks[live], root), centroids if every else max(1, centroids - 1), seed, iterations)
    if root is not None:
        # M: whatever S, the least weighted error of a cluster is at the mean of its blocks
        book = means(blocks[live], result.assignments, len(result.centroids))
        result = Clusters(book, result.assignments, result.errors)
    if every:
        return result
    assignments = torch.full((len(blocks),), len(result.centroids), device=blocks.device)
    assignments[live] = result.assignments
    zero = result.centroids.new_zeros(1, length)
    return Clusters(torch.cat([result.centroids, zero]), assignments, result.errors)
