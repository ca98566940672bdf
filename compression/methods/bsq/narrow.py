"""The end of the training of planes: codes with so few planes that the average of bits is no more than asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from compression import devices
from compression.methods.bsq.planes import Requantized
from compression.quant.spending import Problem, choose


@dataclass(frozen=True)
class Narrowing:
    """A layer at ``count`` planes: ``halvings`` drop trailing planes, the others leading ones; Σ(w - ŵ)²/δ²."""

    count: int
    halvings: int
    error: float


def narrowed(codes: torch.Tensor, narrowing: Narrowing) -> Requantized:
    """The codes with so few planes: halved to nearest even, then clamped."""
    exact = devices.exact_dtype(codes.device)
    halved = (codes.to(exact) / 2**narrowing.halvings).round().to(codes.dtype)
    bound = 2**narrowing.count - 1
    return Requantized(halved.clamp(-bound, bound), narrowing.count, narrowing.halvings)


def narrowings(codes: torch.Tensor, count: int, lowest: int) -> list[Narrowing]:
    """For ``lowest`` to ``count`` planes, in this order, which planes to drop for the least squared error (eq. B9)."""
    values, times = codes.abs().unique(return_counts=True)
    values, times = values.cpu(), times.cpu().to(torch.float64)
    best = []
    for fewer in range(lowest, count + 1):
        options = [Narrowing(fewer, halvings, 0.0) for halvings in range(count - fewer + 1)]
        errors = [
            float((times * (narrowed(values, option).codes * 2**option.halvings - values).double().square()).sum())
            for option in options
        ]
        index = int(np.argmin(errors))
        best.append(Narrowing(fewer, options[index].halvings, errors[index]))
    return best


def choose_narrowings(
    options: Mapping[str, Sequence[Narrowing]], sizes: Mapping[str, int], steps: Mapping[str, float], budget: int
) -> dict[str, Narrowing]:
    """One of each layer's :func:`narrowings` with the least total squared error, of at most ``budget`` bits in all.

    ``sizes``: numbers of weights; ``steps``: δ. It is OPQ's allocation (eq. O12) over widths that lose planes.

    Raises:
        CompressionError: the fewest planes need more.
    """
    costs = [sizes[name] * np.array([each.count + 1 for each in row], dtype=np.int64) for name, row in options.items()]
    errors = [steps[name] ** 2 * np.array([each.error for each in row]) for name, row in options.items()]
    picks = choose(Problem(costs, errors, budget)).picks
    return {name: row[pick] for (name, row), pick in zip(options.items(), picks, strict=True)}
