"""The exponential moving average of a model's weights, which replaces the last ones at the end of training."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class WeightAverage:
    """``a ← β_t a + (1 - β_t) w`` after every step t = 1, 2, …, with ``β_t = min(β, (1 + t) / (10 + t))``.

    The decay rises so that a short run does not end near the weights it began with (TensorFlow's
    ``ExponentialMovingAverage``, argument ``num_updates``). Averaged are all trained parameters and the running
    statistics of batch norms; masks and fixed steps of quantizers are not.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        statistics = [each for norm in norms for each in (norm.running_mean, norm.running_var) if each is not None]
        trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
        self._tensors = [*trained, *statistics]
        self._averages = [tensor.clone() for tensor in self._tensors]

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights into the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._averages, self._tensors, 1 - decay)

    @torch.no_grad()
    def restart(self) -> None:
        """Forget all steps: what the weights stand for has changed."""
        self.steps = 0
        torch._foreach_copy_(self._averages, self._tensors)

    @torch.no_grad()
    def store(self) -> None:
        """Put the average in the place of the weights; what is exactly 0 now (pruned, removed) stays 0."""
        for tensor, average in zip(self._tensors, self._averages, strict=True):
            tensor.copy_(average.masked_fill(tensor == 0, 0.0))

    def state_dict(self) -> dict[str, Any]:
        """The averages so far and how many steps they are of."""
        return {"steps": self.steps, "averages": list(self._averages)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.steps = int(state_dict["steps"])
        for average, stored in zip(self._averages, state_dict["averages"], strict=True):
            average.copy_(stored)
