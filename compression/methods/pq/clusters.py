"""k-means of blocks of weights (Lloyd 1982), as product quantization needs it: deterministic, no cluster empty.

Sources: Stock et al., arXiv 1907.05686, section 3.2 (EM on blocks); Fan et al., arXiv 2004.07320, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from compression import devices

AT_ONCE = 1 << 22
"""Distances that are computed at a time."""
SETTLED = 2e-3
"""Clusters are settled once a round lowers the error by less than this share of it."""
POINTS, FEWEST_POINTS = 32, 1 << 15
"""Books are learned on at most so many blocks for each centroid, or on that many in all where this is more."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """``centroids`` fp32 [K, d], ``assignments`` int64 [blocks] of each block to one of them.

    A centroid is the mean of its blocks. ``errors``: Σ‖v - c‖² of the blocks learned on, after each round.
    """

    centroids: torch.Tensor
    assignments: torch.Tensor
    errors: tuple[float, ...]


@torch.no_grad()
def cluster(
    blocks: torch.Tensor, count: int, seed: int, iterations: int = 20, check: Callable[[], None] | None = None
) -> Clusters:
    """At most ``count`` centroids for ``blocks`` fp32 [B, d], in at most ``iterations`` rounds from random blocks.

    Where there are no more distinct blocks than that, these are the centroids. Many blocks are represented by a random
    part of them while the centroids are learned. ``check`` is called before each round.
    """
    learned = learn(sample(blocks, count, seed), count, seed, iterations, check)
    nearest, distances = assign(blocks, learned.centroids, exact=True)
    fill_empty(nearest, distances, len(learned.centroids))
    return Clusters(means(blocks, nearest, len(learned.centroids)), nearest, learned.errors)


def sample(blocks: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """The blocks in a random order: as many as ``count`` centroids are learned on."""
    order = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(seed)).to(blocks.device)
    return blocks[order[: max(POINTS * count, FEWEST_POINTS)]]


@torch.no_grad()
def learn(
    blocks: torch.Tensor, count: int, seed: int, iterations: int = 20, check: Callable[[], None] | None = None
) -> Clusters:
    """The clusters of these blocks, all of which are learned on; see :func:`cluster`."""
    centroids = _first(blocks, count, torch.Generator().manual_seed(seed))
    errors: list[float] = []
    for _ in range(iterations):
        if check is not None:
            check()
        # E: each block to its nearest centroid; empty clusters take the farthest block of the most populated one
        nearest, distances = assign(blocks, centroids)
        fill_empty(nearest, distances, len(centroids))
        # M: each centroid to the mean of its blocks
        centroids = means(blocks, nearest, len(centroids))
        errors.append(squared_error(blocks, centroids, nearest))
        if len(errors) > 1 and errors[-2] - errors[-1] <= SETTLED * errors[-1]:
            break
    return Clusters(centroids, nearest, tuple(errors))


def _first(blocks: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """``count`` different blocks, or all different ones if there are fewer (k-means++, Arthur and Vassilvitskii 2007).

    The first is block 0 of the random order; each further one is drawn with a probability that is proportional to its
    squared distance from those before it.
    """
    draws = torch.rand(count, dtype=torch.float64, generator=generator)
    draws = draws.to(device=blocks.device, dtype=devices.exact_dtype(blocks.device))
    chosen, distances = [blocks[0]], (blocks - blocks[0]).square().sum(1)
    for draw in draws[1:]:
        below = exactly(distances).cumsum(0)
        place = torch.searchsorted(below, draw * below[-1], right=True).clamp(max=len(blocks) - 1)
        chosen.append(blocks[place])
        distances = torch.minimum(distances, (blocks - blocks[place]).square().sum(1))
    return torch.unique(torch.stack(chosen), dim=0) if not bool(distances.any()) else torch.stack(chosen)


def assign(blocks: torch.Tensor, centroids: torch.Tensor, exact: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest centroid of each block (int64 [B]) and its squared distance (fp32 [B]).

    Candidates are found by ‖c‖² - 2 v·c, which rounds; with ``exact`` the nearest two are compared by ‖v - c‖², and of
    equal ones that of the lowest index is taken.
    """
    norms = centroids.square().sum(1)
    nearest = torch.empty(len(blocks), dtype=torch.int64, device=blocks.device)
    for part, out in zip(blocks.split(_rows(centroids)), nearest.split(_rows(centroids)), strict=True):
        scores = torch.addmm(norms, part, centroids.T, alpha=-2)
        if exact and len(centroids) > 1:
            first = scores.argmin(1, keepdim=True)
            second = scores.scatter_(1, first, torch.inf).argmin(1, keepdim=True)
            pair = torch.cat([first, second], 1).sort(1).values
            distances = (part.unsqueeze(1) - centroids[pair]).square().sum(2)
            out.copy_(pair.gather(1, distances.argmin(1, keepdim=True)).squeeze(1))
        else:
            out.copy_(scores.min(1).indices)
    return nearest, (blocks - centroids[nearest]).square().sum(1)


def _rows(centroids: torch.Tensor) -> int:
    return max(1, AT_ONCE // len(centroids))


def means(blocks: torch.Tensor, assignments: torch.Tensor, count: int) -> torch.Tensor:
    """The mean of each cluster's blocks, summed in fp64 where there is that: fp32 [count, d]; 0 for an empty one."""
    wide = exactly(blocks)
    sums = wide.new_zeros(count, blocks.shape[1]).index_add_(0, assignments, wide)
    sizes = torch.bincount(assignments, minlength=count).clamp(min=1)
    return (sums / sizes.unsqueeze(1)).to(blocks.dtype)


def squared_error(blocks: torch.Tensor, centroids: torch.Tensor, assignments: torch.Tensor) -> float:
    """Σ‖v - c‖² over all blocks."""
    return float(exactly(blocks - centroids.index_select(0, assignments)).square().sum())


def exactly(tensor: torch.Tensor) -> torch.Tensor:
    """In the widest floating point of its device, for sums."""
    return tensor.to(devices.exact_dtype(tensor.device))


def fill_empty(assignments: torch.Tensor, distances: torch.Tensor, count: int) -> None:
    """Give each empty cluster the farthest block of the most populated one that is spread at all, in place.

    That block is then at distance 0, so that the error falls. Where every cluster is one point, some stay empty.
    """
    sizes = torch.bincount(assignments, minlength=count)
    spread = torch.zeros(count, dtype=distances.dtype, device=distances.device).index_add_(0, assignments, distances)
    for empty in torch.nonzero(sizes == 0).flatten().tolist():
        largest = int(torch.where(spread > 0, sizes, 0).argmax())
        if spread[largest] <= 0:
            return
        members = torch.nonzero(assignments == largest).flatten()
        farthest = members[distances[members].argmax()]
        assignments[farthest], distances[farthest] = empty, 0
        sizes[largest] -= 1
        sizes[empty] += 1
        spread[largest] = distances[members].sum()
