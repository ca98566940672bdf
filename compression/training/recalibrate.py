"""Batch-norm statistics after compression: the old ones no longer fit, and refitting them is most of the recovery."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from compression.graph.inputs import Example, call, first_tensor
from compression.graph.running import in_mode

SETTLED = 0.03
"""Standard error at which statistics count as settled: of a mean in standard deviations, of a variance as a share.

Measured on ResNet-20 rounded to 3 and 4 bits: from 256 inputs (5 %) on the accuracy is that of 6,400 (1 %)."""
FEWEST_BATCHES, FEWEST_INPUTS = 4, 256  # before the error is looked at: too few batches estimate it badly


@dataclass(frozen=True)
class Statistics:
    """What statistics were taken from: ``norms``, ``batches`` and ``inputs``; ``error`` as in :data:`SETTLED`."""

    norms: int = 0
    batches: int = 0
    inputs: int = 0
    error: float = 0.0

    def __str__(self) -> str:
        how = f", standard error {100 * self.error:.1f} %" if self.batches > 1 else ""
        return f"statistics of {self.norms} batch norms taken anew from {self.inputs:,} inputs{how}"


@torch.no_grad()
def recompute_statistics(model: nn.Module, batches: Iterable[Example]) -> int:
    """Replace every batch norm's running mean and variance by their average over ``batches`` (normalised inputs).

    Everything else stays in evaluation mode meanwhile; modes and momenta are restored. Returns the number of norms,
    and reads no batch when there is none.
    """
    with _averaging(model) as norms:
        for x in batches if norms else ():
            call(model, x)
    return len(norms)


@torch.no_grad()
def settle_statistics(
    model: nn.Module,
    batches: Iterable[Example],
    tolerance: float = SETTLED,
    watch: Callable[[Statistics], None] = lambda _: None,
) -> Statistics:
    """As :func:`recompute_statistics`, but only over as many batches as settle the averages.

    It stops when the standard error of no norm's means and variances (root mean square over its channels, estimated
    from how batches differ) is above ``tolerance``. ``watch`` is called after each batch.
    """
    taken = Statistics()
    with _averaging(model) as norms:
        spread = _Spread(norms)
        for x in batches if norms else ():
            call(model, x)
            spread.add()
            taken = Statistics(len(norms), taken.batches + 1, taken.inputs + len(first_tensor(x)), spread.error())
            watch(taken)
            enough = taken.batches >= FEWEST_BATCHES and taken.inputs >= FEWEST_INPUTS
            if enough and taken.error <= tolerance:
                break
    return taken


@contextmanager
def _averaging(model: nn.Module) -> Iterator[list[_BatchNorm]]:
    """The norms that keep statistics, set to average them over all inputs that the model is given meanwhile."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        yield norms
        return
    momenta = {norm: norm.momentum for norm in norms}
    try:
        with in_mode(model):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain average of all batches
                norm.training = True
            yield norms
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum


class _Spread:
    """How much the batches' means and variances differ, from the running averages after each (Welford's sums)."""

    def __init__(self, norms: list[_BatchNorm]) -> None:
        self.norms, self.count = norms, 0
        self.before = [torch.zeros_like(values) for values in self._now()]
        self.squares = [torch.zeros_like(values) for values in self.before]

    def _now(self) -> list[torch.Tensor]:
        """Running mean and variance of each norm, fp64 [2, channels]."""
        state = [(norm.running_mean, norm.running_var) for norm in self.norms]
        return [torch.stack([mean, var]).cpu().double() for mean, var in state if mean is not None and var is not None]

    def add(self) -> None:
        """One more batch went through: M2 += (x_k - avg_(k-1)) (x_k - avg_k) = k (k - 1) (avg_k - avg_(k-1))^2."""
        self.count, now = self.count + 1, self._now()
        if self.count > 1:
            for squares, before, after in zip(self.squares, self.before, now, strict=True):
                squares += self.count * (self.count - 1) * (after - before) ** 2
        self.before = now

    def error(self) -> float:
        """The largest standard error of a norm's averages; infinite after one batch."""
        if self.count < 2:
            return float("inf")
        worst = 0.0
        for norm, squares, (_, variance) in zip(self.norms, self.squares, self.before, strict=True):
            scale = torch.stack([(variance + norm.eps).sqrt(), variance + norm.eps])
            relative = (squares / (self.count * (self.count - 1))).sqrt() / scale
            worst = max(worst, float(relative.square().mean(1).sqrt().max()))
        return worst
