"""How strong the penalty on bit planes is: α as published, or such that the average falls evenly to what is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PUBLISHED = 1e5
"""Σ of the learning rates of 350 published epochs (about 1e4) over 1 - momentum: how far α = 1 pulls in all."""
STRONGEST = 1e4
ROUNDS = 60
MARGIN = 1.25
"""By how much weights may grow meanwhile: numbers just above a power of two would else take next to no strength."""
LARGEST_GAIN = 8.0


@dataclass(frozen=True)
class LayerCodes:
    """What the strength is chosen by: how often each magnitude 0, 1, … occurs among a layer's ``size`` codes."""

    counts: NDArray[np.int64]
    planes: int
    lowest: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(self.counts.sum())

    def planes_after(self, amount: float) -> int:
        """How many planes remain when the penalty alone has pulled each by ``amount`` (eq. B8)."""
        codes = np.flatnonzero(self.counts)
        bits = (codes[:, None] >> np.arange(self.planes)) & 1
        lengths = np.sqrt(bits.T @ self.counts[codes])
        factors = np.clip(1 - amount / np.maximum(lengths, 1e-4), 0, None)
        largest = np.rint(MARGIN * ((bits * factors) @ 2.0 ** np.arange(self.planes)).max())
        return max(self.lowest, min(self.planes, int(largest).bit_length()))


def pull(strength: float, share: float, planes: int, size: int, total: int) -> float:
    """How far a plane is pulled in ``share`` of the stage: α n_l N_l / N times the published sum of rates (eq. B5)."""
    return strength * PUBLISHED * share * planes * size / total


def choose_strength(layers: Sequence[LayerCodes], average: float, share: float) -> float:
    """The least α for which the penalty alone would bring the average of bits to ``average`` in ``share`` of the stage.

    Bisection of a step function; the strongest where no α does.
    """
    total = sum(layer.size for layer in layers)

    def bits(strength: float) -> float:
        spent = (
            layer.size * (1 + layer.planes_after(pull(strength, share, layer.planes, layer.size, total)))
            for layer in layers
        )
        return sum(spent) / total

    return _least(lambda strength: bits(strength) <= average)


def _least(enough: Callable[[float], bool]) -> float:
    """The least strength for which ``enough`` is true, by bisection of its logarithm."""
    low, high = 1e-9, STRONGEST
    for _ in range(ROUNDS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass
class Controller:
    """Chooses α for the time up to the next re-quantization, from how the last ones went.

    ``fixed``: α of a budget, 0 where it is chosen; ``average``: the bits at which it is 0. ``planned`` is the average
    below which it does not pull. ``gain`` is how much stronger than for the penalty alone it has to be, as the loss
    works against it: doubled for each bit by which the average stayed above what was planned.
    """

    fixed: float
    average: float
    strength: float = 0.0
    gain: float = 1.0
    planned: float | None = None

    def update(self, layers: Sequence[LayerCodes], present: float, share: float, remaining: int) -> None:
        """``present``: average of bits now; ``remaining`` re-quantizations come, the next in ``share`` of the stage."""
        if self.planned is not None:
            self.gain = min(LARGEST_GAIN, self.gain * 2.0 ** min(1.0, max(0.0, present - self.planned)))
        if self.fixed or present <= self.average or remaining == 0:
            self.strength, self.planned = self.fixed, None
            return
        self.planned = present - (present - self.average) / remaining
        self.strength = self.gain * choose_strength(layers, self.planned, share)

    def state_dict(self) -> dict[str, float | None]:
        """What a checkpoint holds."""
        return {"strength": self.strength, "gain": self.gain, "planned": self.planned}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Take over what :meth:`state_dict` gave."""
        strength, gain, self.planned = state["strength"], state["gain"], state["planned"]
        assert strength is not None and gain is not None
        self.strength, self.gain = strength, gain
