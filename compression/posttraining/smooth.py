"""Scales from the activations of a few inputs: SmoothQuant's formula and AWQ's search.

Xiao et al., arXiv 2211.10438; Lin et al., arXiv 2306.00978.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from compression.graph import Example, call
from compression.posttraining.grams import watching
from compression.posttraining.pairs import Pair, Part, Tensors
from compression.quant.attach import quantizable_layers
from compression.quant.laplace import levels_of
from compression.quant.nearest import rounding
from compression.quant.tables import LayerTables

SMALLEST = 1e-5
GRID = tuple(round(0.05 * i, 2) for i in range(20))
"""The exponents that AWQ tries."""
BITS = 8


def readers(model: nn.Module, pair: Pair) -> list[tuple[Part, str]]:
    """The columns of a pair that belong to convolution and linear layers, with the layer's name."""
    layers = {f"{name}.weight": name for name in quantizable_layers(model)}
    return [(part, layers[part.name]) for part in pair.columns if part.name in layers]


def input_channels(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Magnitudes of what a layer reads, its channels first: [channels, values]."""
    dim = -1 if isinstance(layer, nn.Linear) else x.dim() - len(layer.kernel_size) - 1  # type: ignore[arg-type]
    return x.detach().abs().movedim(dim, 0).flatten(1)


def _statistic(model: nn.Module, pairs: Sequence[Pair], batches: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Layer → the largest magnitude of each of its input channels: fp64 [channels]."""
    largest: dict[str, torch.Tensor] = {}

    def see(name: str, layer: nn.Module, x: torch.Tensor) -> None:
        values = input_channels(layer, x).amax(1).cpu().double()
        largest[name] = torch.maximum(largest[name], values) if name in largest else values

    names = dict.fromkeys(name for pair in pairs for _, name in readers(model, pair))
    for x in batches:
        with watching(model, names, see):
            call(model, x)
    return largest


def smooth_scales(
    model: nn.Module, pairs: Sequence[Pair], tensors: Tensors, batches: Sequence[Example], alpha: float
) -> None:
    """Multiply readers by s = max|x|^α / max|w|^(1-α) and divide producers by it, in place (SmoothQuant, section 4).

    The maxima are taken over all readers of a unit, which share its scale; units that nothing reads, or whose input was
    0 throughout, stay.
    """
    largest = _statistic(model, pairs, batches)
    for pair in pairs:
        inputs = torch.zeros(pair.units, dtype=torch.float64)
        weights = torch.zeros(pair.units, dtype=torch.float64)
        for part, name in readers(model, pair):
            if name in largest:
                inputs = torch.maximum(inputs, part.largest(largest[name], pair.units))
            channels = part.per_channel(tensors[part.name].detach().view(part.slot.view))
            weights = torch.maximum(weights, part.largest(channels, pair.units))
        scales = inputs.clamp(min=SMALLEST) ** alpha / weights.clamp(min=SMALLEST) ** (1 - alpha)
        pair.scale(tensors, torch.where((inputs > 0) & (weights > 0), 1 / scales.clamp(min=SMALLEST), 1.0))


def activation_aware_scales(
    model: nn.Module,
    pairs: Sequence[Pair],
    tensors: Tensors,
    batches: Sequence[Example],
    bits: Mapping[str, int],
    clip: str,
    check: Callable[[], None] = lambda: None,
) -> list[float | None]:
    """Multiply readers by the best s = mean|x|^α of a grid and divide producers by it, in place (AWQ, section 3.2).

    s is divided by √(max s · min s). Best is the least squared error of the readers' outputs on the first batch once
    their weights are rounded at their bit-width; α = 0, which changes nothing, is among the candidates. Returns α for
    each pair, ``None`` where nothing of it could be measured.
    """
    exponents = []
    for pair in pairs:
        check()
        exponents.append(_search(model, pair, tensors, batches, bits, clip))
    return exponents


def _search(
    model: nn.Module, pair: Pair, tensors: Tensors, batches: Sequence[Example], bits: Mapping[str, int], clip: str
) -> float | None:
    measured = readers(model, pair)
    seen: dict[str, list[torch.Tensor]] = {}
    names = dict.fromkeys(name for _, name in measured)
    with watching(model, names, lambda name, _, x: seen.setdefault(name, []).append(x)):
        call(model, batches[0])
    measured = [(part, name) for part, name in measured if name in seen]
    if not measured:
        return None
    means = torch.zeros(pair.units, dtype=torch.float64)
    for part, name in measured:
        channels = torch.cat([input_channels(model.get_submodule(name), x) for x in seen[name]], 1).mean(1)
        means = torch.maximum(means, part.largest(channels.cpu(), pair.units))
    errors = []
    for alpha in GRID:
        scales = normalised(means, alpha)
        errors.append(
            sum(
                output_error(model.get_submodule(name), part, scales, seen[name], bits.get(name, BITS), clip)
                for part, name in measured
            )
        )
    alpha = GRID[int(np.argmin(errors))]
    pair.scale(tensors, 1 / normalised(means, alpha))
    return alpha


def normalised(means: torch.Tensor, alpha: float) -> torch.Tensor:
    """mean|x|^α over √(max · min) of itself; means of 0 count as :data:`SMALLEST`."""
    scales = means.clamp(min=SMALLEST) ** alpha
    return scales / (scales.max() * scales.min()).sqrt()


def output_error(
    layer: nn.Module, part: Part, scales: torch.Tensor, inputs: Sequence[torch.Tensor], bits: int, clip: str
) -> float:
    """Σ (y - ŷ)² of a layer whose weight is multiplied by ``scales``, rounded, and divided by them again."""
    weight: Any = layer.weight
    changed = weight.detach().clone()
    part.multiply(changed, scales)
    planned = rounding(LayerTables.prepare({"weight": changed}), {"weight": bits}, clip).layers[0]
    levels = levels_of(bits)
    changed = (changed / planned.step).round_().clamp_(-levels, levels).mul_(planned.step)
    part.multiply(changed, 1 / scales)
    return sum(
        float((functional_call(layer, {"weight": changed - weight.detach(), **_no_bias(layer)}, (x,))).square().sum())
        for x in inputs
    )


def _no_bias(layer: nn.Module) -> dict[str, torch.Tensor]:
    bias: Any = getattr(layer, "bias", None)
    return {} if bias is None else {"bias": torch.zeros_like(bias)}
