"""Parameters and multiply-accumulates of a model, counted on the meta device: no memory, no arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from compression.graph.inputs import Example, Inputs

LAYERS = (
    "aten.convolution",
    "aten.addmm",
    "aten.mm",
)  # the operators of convolutions and linear layers


def count(make: Callable[[], nn.Module], example: Example, *, device: str = "meta") -> tuple[int, int]:
    """(parameters, MACs of convolutions and linear layers) of the model ``make`` returns, for an ``example`` of one.

    ``device``: ``cpu`` for models whose forward pass reads values; inputs are zeros there.

    Products of two activations (attention) are not counted: they have no weights to compress.
    """
    with torch.random.fork_rng(devices=[]):
        model = make().eval()
    with torch.device(device), torch.no_grad(), FlopCounterMode(display=False) as counter:
        Inputs.read(example).map(lambda x: torch.zeros(x.shape, dtype=x.dtype)).call(model.to(device))
    operations = counter.get_flop_counts().get("Global", {})
    macs = sum(flops // 2 for operation, flops in operations.items() if str(operation) in LAYERS)
    return sum(parameter.numel() for parameter in model.parameters()), macs
