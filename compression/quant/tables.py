"""What the allocation needs of a model, prepared once: each layer's magnitudes in order, and their prefix sums."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.parameter import is_lazy

from compression import devices
from compression.errors import CompressionError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LAYER_TYPES = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class LayerTable:
    """One layer's magnitudes, ascending (fp32 [n]), and the sums of the first k of them and of their squares.

    ``first`` and ``second``: fp64 [n + 1], from 0 on. ``counts``, where set, are such sums of how much each magnitude
    counts in them (``None``: 1 each). Where channels matter, ``weight`` holds the magnitudes as they lie in the layer,
    whose output channels are its positions along ``axis``.
    """

    name: str
    magnitudes: NDArray[np.float32]
    first: Floats
    second: Floats
    counts: Floats | None = None
    weight: torch.Tensor | None = None
    axis: int = 0

    def mass(self, index: Ints) -> Floats:
        """How much the ``index`` smallest magnitudes count together."""
        return np.asarray(index if self.counts is None else self.counts[index], dtype=np.float64)

    @property
    def size(self) -> int:
        """Number of weights."""
        return len(self.magnitudes)

    @property
    def scale(self) -> float:
        """τ, the maximum-likelihood Laplace scale: the mean magnitude."""
        return float(self.first[-1]) / self.size

    @property
    def zeros(self) -> int:
        """How many weights are exactly 0, and so pruned already."""
        return int(np.searchsorted(self.magnitudes, np.float32(0), side="right"))

    def threshold(self, pruned: int) -> float:
        """The largest magnitude among the ``pruned`` smallest (0 when none is pruned)."""
        return float(self.magnitudes[pruned - 1]) if pruned else 0.0


@dataclass(frozen=True)
class LayerTables:
    """The tables of all layers that take part. About five times the memory of the weights."""

    layers: tuple[LayerTable, ...]

    @property
    def size(self) -> int:
        """N, the number of weights."""
        return sum(layer.size for layer in self.layers)

    @classmethod
    def prepare(
        cls, model: nn.Module | Mapping[str, torch.Tensor], skip: Collection[str] = (), channels: bool = False
    ) -> LayerTables:
        """Read the weights of every convolution and linear layer not named in ``skip``, and sort them.

        ``channels`` keeps what an allocation with ``codebook="channel"`` needs: once more the memory of the weights.

        Raises:
            CompressionError: a skipped layer does not exist, a weight is NaN or infinite, or no weight remains.
        """
        weights = layer_weights(model) if isinstance(model, nn.Module) else dict(model)
        if isinstance(skip, str) or not all(isinstance(name, str) for name in skip):
            raise CompressionError(f"skip must be a list of names, not {skip!r}")
        skipped = set(skip)
        unknown = sorted(skipped - set(weights))
        if unknown:
            raise CompressionError(f"skip: no layer {unknown[0]!r}; layers: {', '.join(weights)}")
        axes = output_axes(model) if isinstance(model, nn.Module) else {}
        layers = [
            _table(name, weight, axes.get(name, 0) if channels else None)
            for name, weight in weights.items()
            if name not in skipped and weight.numel()
        ]
        if not layers:
            raise CompressionError("there is no convolution or linear weight to compress")
        return cls(tuple(layers))


def layer_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Layer name → weight of every convolution and linear layer; a shared weight appears once, under its first name.

    Raises:
        CompressionError: a weight that has no values to read, by the layer's name.
    """
    weights: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, LAYER_TYPES) and id(module.weight) not in seen and module.weight is not None:
            if is_lazy(module.weight) or module.weight.is_meta:
                raise CompressionError(f"layer {name}: its weight has no values yet: run the model once, or load some")
            seen.add(id(module.weight))
            weights[name] = module.weight.detach()
    return weights


def output_axes(model: nn.Module) -> dict[str, int]:
    """Layer name → the dimension of its weight along which its output channels lie: 0, transposed convolutions' 1."""
    return {name: int(isinstance(module, TRANSPOSED)) for name, module in model.named_modules()}


def check_numbers(name: str, weight: torch.Tensor) -> None:
    """Refuse a layer whose weights are not all finite.

    Raises:
        CompressionError: naming the layer.
    """
    if not bool(torch.isfinite(weight).all()):
        raise CompressionError(f"layer {name}: the weights hold NaN or infinite values, nothing can be allocated")


def _table(name: str, weight: torch.Tensor, axis: int | None) -> LayerTable:
    """Sorted and summed where the weight is; the result is read on the CPU, where few entries of it are looked up."""
    check_numbers(name, weight)
    whole = weight.detach().to(torch.float32).abs()
    ascending = _ascending(whole.flatten())
    wide = (ascending if devices.exact_dtype(whole.device) == torch.float64 else ascending.cpu()).double()
    sums = prefix_sums(wide), prefix_sums(wide.square_())
    channels = (None, 0) if axis is None else (whole.cpu(), axis)
    return LayerTable(name, ascending.cpu().numpy(), *sums, None, *channels)


def _ascending(values: torch.Tensor) -> torch.Tensor:
    """The values in order; on the CPU by NumPy, which sorts floats several times faster there."""
    if values.device.type == devices.CPU:
        return torch.from_numpy(np.sort(values.numpy()))
    return values.sort().values


def prefix_sums(values: torch.Tensor) -> Floats:
    """0, and the sums of the first 1, 2, … n values (fp64 [n]): fp64 [n + 1]."""
    sums = torch.zeros(len(values) + 1, dtype=torch.float64, device=values.device)
    torch.cumsum(values, 0, out=sums[1:])
    return sums.cpu().numpy()


def survivors(weight: torch.Tensor, pruned: int) -> torch.Tensor:
    """The mask of a layer: True where a weight survives when the ``pruned`` smallest magnitudes go.

    Bool tensor of the weight's shape; of equal magnitudes those with the lower index go first, so the count is exact.
    """
    magnitudes = weight.detach().abs().flatten()
    mask = torch.ones_like(magnitudes, dtype=torch.bool)
    if pruned > 0:
        bar = magnitudes.kthvalue(pruned).values
        mask[magnitudes < bar] = False
        ties = torch.nonzero(magnitudes == bar).flatten()
        mask[ties[: pruned - int((~mask).sum())]] = False
    return mask.view(weight.shape)
