"""The oracle: zero random units in the full model, slim it, and compare what both compute."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from compression.graph import Graph, slim, zero_units

SMALL = 30_000_000  # parameters up to which the comparison is repeated in fp64
LARGE = 150_000_000  # parameters above which it runs on a batch of one image
SHARES = (0.3, 0.7)  # of the units of every prunable group


@dataclass(frozen=True)
class Equality:
    """``fp32``, ``fp64``: max |masked - slim| over max |masked| (``None``: not measured).

    ``effect``: max |dense - masked| over max |masked|, so that a comparison of two outputs that hear nothing of the
    units shows; ``removed``: units cut.
    """

    fp32: float
    fp64: float | None
    effect: float
    removed: int


@torch.no_grad()
def equality(model: nn.Module, graph: Graph, image: tuple[int, ...], seed: int = 0) -> Equality:
    """Measure how equal masked and slim model are; the model given is changed.

    Args:
        model: a plain network in fp32.
        graph: its graph.
        image: shape of one example.
        seed: of the parameters, the input and the units.

    Raises:
        CompressionError: the slim model does not run or is refused.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = sum(p.numel() for p in model.parameters())
    x = torch.randn(1 if parameters > LARGE else 2, *image, generator=generator)
    enliven(model, x, generator)
    dense = model(x)
    units = random_units(graph, generator)
    zero_units(model, graph, units)
    masked = model(x)
    fp32 = _difference(masked, slim(model, graph, x)(x))
    fp64 = None
    if parameters <= SMALL:
        model, x = model.double(), x.double()
        fp64 = _difference(model(x), slim(model, graph, x)(x))
    return Equality(fp32, fp64, _difference(masked, dense), sum(map(len, units.values())))


def enliven(model: nn.Module, x: torch.Tensor, generator: torch.Generator) -> None:
    """Make every parameter matter: constant ones become random, batch norms take their statistics from ``x``.

    Fresh biases are 0, norms 1, ConvNeXt's layer scales 1e-6, ViT's head 0: a wrong cut there would not be seen.
    """
    model.eval()
    for parameter in model.parameters():
        if bool((parameter == parameter.flatten()[0]).all()):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    model(x)
    model.eval()


def random_units(graph: Graph, generator: torch.Generator) -> dict[str, list[int]]:
    """30 to 70 % of the units of every prunable group, at least one gone and one left."""
    low, high = SHARES
    chosen = {}
    for group in graph.prunable:
        share = low + (high - low) * float(torch.rand((), generator=generator))
        count = min(max(1, round(share * group.units)), group.units - 1)
        chosen[group.id] = torch.randperm(group.units, generator=generator)[:count].sort().values.tolist()
    return chosen


def _difference(expected: torch.Tensor, got: torch.Tensor) -> float:
    return float((expected - got).abs().max() / expected.abs().max())
