"""A coordinate network (Sitzmann et al., arXiv 2006.09661): fitted to one picture, its weights are the picture."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

from compression.errors import CompressionError

WIDTH, HIDDEN = 64, 4
FREQUENCIES, BASE = 16, 1.4  # of the positional encoding (Strümpler et al., arXiv 2112.04267, section 3.1)
OMEGA = 30.0


class Encoding(nn.Module):
    """(p, sin(σ^i π p), cos(σ^i π p)) for i = 0 … 15 and σ = 1.4: [B, d] to [B, 33 d]."""

    frequencies: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        exponents = torch.arange(FREQUENCIES, dtype=torch.float32)
        self.register_buffer("frequencies", math.pi * BASE**exponents, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Every coordinate at every frequency."""
        angles = (x.unsqueeze(2) * self.frequencies).flatten(1)
        return torch.cat([x, torch.sin(angles), torch.cos(angles)], 1)


class Sine(nn.Module):
    """sin(ω₀ x): 0 stays 0, so that a removed unit adds nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        return torch.sin(OMEGA * x)


class Siren(nn.Module):
    """Encoding, four hidden layers of 64 sines, and a linear layer: 16,963 numbers for a colour picture."""

    def __init__(self, coordinates: int, channels: int) -> None:
        super().__init__()
        sizes = [coordinates * (1 + 2 * FREQUENCIES), *[WIDTH] * HIDDEN]
        self.encoding = Encoding()
        self.hidden = nn.Sequential(
            *(nn.Sequential(nn.Linear(before, after), Sine()) for before, after in pairwise(sizes))
        )
        self.linear = nn.Linear(WIDTH, channels)
        self._initialise()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Colours [B, channels] in -1..1 of coordinates [B, 2]."""
        out: torch.Tensor = self.linear(self.hidden(self.encoding(x)))
        return out

    def _initialise(self) -> None:
        """Uniform up to 1/n in the first layer and √(6/n)/ω₀ in the others (section 3.2); biases as torch has them."""
        layers = [module for module in self.modules() if isinstance(module, nn.Linear)]
        for place, layer in enumerate(layers):
            inputs = layer.in_features
            bound = 1 / inputs if place == 0 else math.sqrt(6 / inputs) / OMEGA
            nn.init.uniform_(layer.weight, -bound, bound)


def siren(input: tuple[int, ...], channels: int) -> Siren:
    """The network for ``input`` = (coordinates,).

    Raises:
        CompressionError: another kind of input.
    """
    if len(input) != 1:
        size = "x".join(map(str, input))
        raise CompressionError(f"siren takes the coordinates of a pixel, not inputs of {size}: leave --input out")
    return Siren(input[0], channels)
