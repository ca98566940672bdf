"""Training with quantization noise: only a random share of each layer's weights is quantized in a step.

The others pass unchanged and get exact gradients, which keeps the error of the straight-through estimator small
(Stock et al., arXiv 2004.07320, section 3.2; here a block is a single weight).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from compression import devices
from compression.quant.fixed_steps import FixedQuantizer
from compression.quant.integers import quantizer_of


class QuantizationNoise:
    """Hooks on the weight quantizers of a model, which act while it trains and gradients are recorded only.

    ``share`` of the weights is quantized in a step; masks come from a generator with this ``seed``, whose state is the
    state of this object. Pruned weights are always quantized, to 0, so that no gradient moves them.
    """

    def __init__(self, model: nn.Module, share: float, seed: int) -> None:
        self.share = share
        self._generator = torch.Generator().manual_seed(seed)
        self._masks: dict[nn.Module, torch.Tensor] = {}
        self._weights: dict[nn.Module, torch.Tensor] = {}
        for module in model.modules():
            quantizer = quantizer_of(module)
            if isinstance(quantizer, nn.Module):
                self._weights[quantizer] = module.get_parameter("parametrizations.weight.original")
        self._hooks = [quantizer.register_forward_hook(self._mix) for quantizer in self._weights]

    def draw(self) -> None:
        """Choose anew which weights are quantized; call it before every step."""
        for quantizer, weight in self._weights.items():
            mask = devices.send(torch.rand(weight.shape, generator=self._generator) < self.share, weight.device)
            self._masks[quantizer] = mask | ~quantizer.mask if isinstance(quantizer, FixedQuantizer) else mask

    def remove(self) -> None:
        """Take the hooks away."""
        for hook in self._hooks:
            hook.remove()

    def _mix(self, quantizer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        if not (quantizer.training and torch.is_grad_enabled()):
            return output
        return torch.where(self._masks[quantizer], output, inputs[0])

    def state_dict(self) -> dict[str, Any]:
        """Where the generator is."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self._generator.set_state(state_dict["generator"])
