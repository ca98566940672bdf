"""Which layer Grad-CAM looks at: the last map of the network that still has places, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from compression import devices

SMALLEST = 2  # pixels each way that a map needs to say where


@dataclass(frozen=True)
class CamLayer:
    """``name`` of the module and the (height, width) of its map; or no name, and the ``reason``."""

    name: str
    size: tuple[int, int] = (0, 0)
    reason: str = ""


@dataclass
class _Record:
    """What a pass through the network showed, in the order in which modules finish."""

    maps: list[tuple[str, tuple[int, int]]] = field(default_factory=list)  # outputs [B, C, H, W]
    last_convolution: int = -1  # its place among the maps
    tokens_at: int = -1  # how many maps there were when a linear layer last worked on rows of tokens

    def see(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.Linear) and inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].dim() == 3:
            self.tokens_at = len(self.maps)
        if not isinstance(output, torch.Tensor) or output.dim() != 4 or min(output.shape[2:]) < SMALLEST:
            return
        if isinstance(module, nn.Conv2d):
            self.last_convolution = len(self.maps)
        self.maps.append((name, (int(output.shape[2]), int(output.shape[3]))))


def cam_layer(model: nn.Module, input: tuple[int, ...]) -> CamLayer:
    """The module after the last convolution whose map is as fine as the convolution's: a residual stage with its sum.

    A network that continues with rows of tokens (a transformer) has none: after attention a token no longer represents
    its place.

    Args:
        model: any classifier in evaluation mode; nothing of it is changed.
        input: (channels, height, width) of one image.
    """
    record = _Record()
    hooks = [
        module.register_forward_hook(lambda m, i, o, name=name: record.see(name, m, i, o))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
            model(torch.zeros(1, *input, dtype=dtype, device=devices.device_of(model)))
    finally:
        for hook in hooks:
            hook.remove()
    return _chosen(record)


def _chosen(record: _Record) -> CamLayer:
    if record.last_convolution < 0:
        return CamLayer("", reason="the network has no convolution whose output still has places")
    size = record.maps[record.last_convolution][1]
    place = max(i for i, (_, each) in enumerate(record.maps) if each == size and i >= record.last_convolution)
    if record.tokens_at > place:
        first = record.maps[record.last_convolution][0]
        return CamLayer(
            "",
            reason=f"after its only convolutions (the last is `{first}`) this network works on rows of tokens, and "
            "after attention a token no longer stands for its place in the image",
        )
    return CamLayer(record.maps[place][0], size)
