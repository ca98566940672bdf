"""Thresholds that are trained, and the gates that follow from them: g = 1[A > α] (eq. S3, S6, S7)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

TRAVEL = 1.0
"""How far a threshold moves in a whole search whose slope is always the root mean square of all."""
LARGEST = 3.0  # magnitude of a threshold: metrics are about 1
MEMORY = 0.9  # of momentum, and of the mean square


def slope_of_gate(distance: torch.Tensor) -> torch.Tensor:
    """dg/dA, and with the other sign dg/dα: the derivative of the sigmoid at A - α (eq. S7)."""
    soft = torch.sigmoid(distance)
    return soft * (1 - soft)


class Scale:
    """The mean square of the slopes of all thresholds so far: one measure for all kinds of gates.

    What a gate is worth to the loss can then be compared with what any other is.
    """

    def __init__(self, device: torch.device) -> None:
        self.square = torch.zeros((), device=device)
        self._observed = torch.zeros((), device=device)  # the share of the average that has been seen

    def rms(self, gradient: torch.Tensor) -> torch.Tensor:
        """Take these slopes into account; returns the root of the mean square."""
        self.square = MEMORY * self.square + (1 - MEMORY) * gradient.square().mean()
        self._observed = MEMORY * self._observed + (1 - MEMORY)
        return (self.square / self._observed).sqrt().clamp(min=1e-20)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What has been seen."""
        return {"square": self.square, "observed": self._observed}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.square = state["square"].to(self.square, copy=True)
        self._observed = state["observed"].to(self._observed, copy=True)


class Gates:
    """Thresholds of one kind (of weights, of inputs, or of units), and the metrics that gates compare with them.

    ``metrics``: A of every gate; ``owner``: gate → its threshold, where several gates share one (units of a group).
    Thresholds take steps of gradient descent with momentum, in units of ``scale``; ``steps``: how many there will be.
    """

    def __init__(self, metrics: torch.Tensor, owner: torch.Tensor, thresholds: int, steps: int, scale: Scale) -> None:
        self.metrics, self.owner, self.scale = metrics, owner, scale
        self.thresholds = metrics.new_zeros(thresholds)
        self._momentum = metrics.new_zeros(thresholds)
        self._rate = TRAVEL / max(1, steps)

    @property
    def margins(self) -> torch.Tensor:
        """A - α of every gate, which is open where this is above 0."""
        return self.metrics - self.thresholds[self.owner]

    @torch.no_grad()
    def learn(self, slopes: torch.Tensor) -> None:
        """One step of the thresholds; ``slopes``: dL/dg of every gate, and the price of its bit operations.

        Gates that share a threshold add up.
        """
        if not len(slopes):
            return
        each = -slope_of_gate(self.margins) * slopes.to(self.metrics)
        gradient = torch.zeros_like(self.thresholds).index_add_(0, self.owner, each)
        self._momentum = MEMORY * self._momentum + (1 - MEMORY) * gradient / self.scale.rms(gradient)
        self.thresholds = (self.thresholds - self._rate * self._momentum).clamp(-LARGEST, LARGEST)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Thresholds, metrics, and the momentum."""
        return {"thresholds": self.thresholds, "metrics": self.metrics, "momentum": self._momentum}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.thresholds, self.metrics, self._momentum = (
            state[name].to(self.metrics, copy=True) for name in ("thresholds", "metrics", "momentum")
        )
