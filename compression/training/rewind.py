"""Bringing a network back to where its training began."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class StartingPoint:
    """What a network was: all its parameters and buffers, which a checkpoint holds too, so that they stay the same."""

    def __init__(self, model: nn.Module) -> None:
        self._tensors: dict[str, torch.Tensor] = dict(model.state_dict())
        self._start = {name: tensor.clone() for name, tensor in self._tensors.items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Give every parameter and buffer its first value again, bit for bit."""
        for name, tensor in self._tensors.items():
            tensor.copy_(self._start[name])

    def state_dict(self) -> dict[str, Any]:
        """The first values."""
        return dict(self._start)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        for name, tensor in self._start.items():
            tensor.copy_(state_dict[name])
