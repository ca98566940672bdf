"""Pairs of producers and readers whose channels can be scaled without a change of what the network computes.

A pair is legal where all that produces a channel and all that reads it is known, and everything in between is
positively homogeneous in it (:mod:`compression.posttraining.scale_flow`). Members of a residual sum are one pair: they
are scaled together or not at all. A batch norm ends one pair and begins another: its running statistics take in any
scale of the layer before it, its weight and bias are scaled in the place of that layer, so that nothing is folded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import nn

from compression import devices
from compression.errors import CompressionError
from compression.graph import Graph, Inputs
from compression.graph.live import live_calls
from compression.graph.names import is_quantizer_name
from compression.graph.record import record
from compression.posttraining import scale_layers, scale_operations  # noqa: F401 - register what they follow
from compression.posttraining.scale_flow import FIXED, ScaleFlow, Slot

Tensors = Mapping[str, torch.Tensor]
PRODUCERS, READERS = ("row", "scale"), ("column", "statistics")
VARIANCE = "running_var"


@dataclass(frozen=True, eq=False)
class Part:
    """The channels of one parameter that belong to a pair: ``positions`` in its slot and the ``units`` there [k]."""

    slot: Slot
    positions: torch.Tensor
    units: torch.Tensor

    @property
    def name(self) -> str:
        """The parameter."""
        return self.slot.name

    def factors(self, scales: torch.Tensor) -> torch.Tensor:
        """The scale of every channel of the slot, 1 for those of other pairs: fp64, broadcasts to ``slot.view``."""
        factors = torch.ones(self.slot.size, dtype=torch.float64)
        factors[self.positions] = scales[self.units]
        return factors.reshape([n if d in self.slot.dims else 1 for d, n in enumerate(self.slot.view)])

    def multiply(self, tensor: torch.Tensor, scales: torch.Tensor) -> None:
        """Multiply the channels of a parameter by the scales of their units (fp64 [units]), in place."""
        view, exact = tensor.view(self.slot.view), devices.exact_dtype(tensor.device)
        view.copy_(view.to(exact) * self.factors(scales).to(tensor.device, exact))

    def per_channel(self, tensor: torch.Tensor) -> torch.Tensor:
        """Largest magnitude of each channel: fp64 [slot.size]; kernel axes may be reduced to 1 already."""
        view = tensor.reshape(*self.slot.view[: tensor.dim()]) if tensor.shape == self.slot.view else tensor
        others = [d for d in range(view.dim()) if d not in self.slot.dims]
        return (view.abs().amax(others) if others else view.abs()).flatten().cpu().double()

    def largest(self, channels: torch.Tensor, units: int) -> torch.Tensor:
        """The largest of some values of the slot's channels [size], of each unit: fp64 [units], 0 where there is
        none."""
        result = torch.zeros(units, dtype=torch.float64)
        values = channels.double()[self.positions]
        return result.scatter_reduce(0, self.units, values, "amax", include_self=True)


@dataclass(frozen=True, eq=False)
class Pair:
    """Units that are scaled independently of each other: ``parts`` of the parameters that carry them.

    ``passed``: the operations between producers and readers.
    """

    units: int
    parts: tuple[Part, ...]
    passed: frozenset[str]

    def having(self, *roles: str) -> tuple[Part, ...]:
        """The parts of some roles."""
        return tuple(part for part in self.parts if part.slot.role in roles)

    @property
    def producers(self) -> tuple[Part, ...]:
        """Rows of layers and affine parts of norms."""
        return self.having(*PRODUCERS)

    @property
    def columns(self) -> tuple[Part, ...]:
        """Columns of layers that read the units."""
        return self.having("column")

    @property
    def tensors(self) -> list[str]:
        """Names of all parameters and buffers that a scale changes."""
        statistics = self.having("statistics")
        further = [other for part in statistics for other in (variance_of(part.name), weight_of(part.name))]
        return list(dict.fromkeys([*(part.name for part in self.parts), *further]))

    def scale(self, tensors: Tensors, scales: torch.Tensor) -> None:
        """Multiply what produces the units by ``scales`` (fp64 [units]) and divide what reads them, in place."""
        inverse = 1 / scales
        for part in self.having("row", "bias", "scale", "shift"):
            part.multiply(tensors[part.name], scales)
        for part in self.columns:
            part.multiply(tensors[part.name], inverse)
        for part in self.having("statistics"):
            _scale_statistics(part, tensors, scales)


def _scale_statistics(part: Part, tensors: Tensors, scales: torch.Tensor) -> None:
    """Those of a batch norm whose input is multiplied by s: mean·s and var·s², and since eps does not grow along,
    weight·√(s²·var + eps) / (s·√(var + eps)); so statistics that are taken anew fit as well."""
    mean, var, weight = (tensors[name] for name in (part.name, variance_of(part.name), weight_of(part.name)))
    factors, before = part.factors(scales), var.cpu().double()
    after = before * factors**2
    correction = ((after + part.slot.eps) / (before + part.slot.eps)).sqrt() / factors
    mean.copy_(mean.cpu().double() * factors)
    var.copy_(after)
    weight.copy_(weight.cpu().double() * correction)


def variance_of(mean: str) -> str:
    """The running variance of a batch norm, by the name of its running mean."""
    return f"{mean.removesuffix('running_mean')}{VARIANCE}"


def weight_of(mean: str) -> str:
    """The weight of a batch norm, by the name of its running mean."""
    return f"{mean.removesuffix('running_mean')}weight"


def find_pairs(model: nn.Module, graph: Graph) -> tuple[Pair, ...]:
    """Every legal pair of a dense network, in the order in which its producers run; the model is not changed.

    Raises:
        CompressionError: the model carries quantizers already, or does not run on the graph's example.
    """
    if any(is_quantizer_name(f"{name}.") for name, _ in model.named_modules()):
        raise CompressionError("channels are equalized before quantizers are attached: give the dense model")
    recording = record(model, Inputs.read(graph.example(1)))
    recording.calls = live_calls(recording)
    flow = ScaleFlow(recording).walk()
    return _grouped(flow, _components(flow))


def _components(flow: ScaleFlow) -> np.ndarray:
    """For every atom the number of those that have its scale."""
    empty = torch.zeros(0, dtype=torch.int64)
    first = torch.cat([empty, *(link[0].flatten() for link in flow.links)]).numpy()
    second = torch.cat([empty, *(link[1].flatten() for link in flow.links)]).numpy()
    links = coo_array((np.ones(len(first)), (first, second)), shape=(flow.count, flow.count))
    labels: np.ndarray = connected_components(links, directed=False)[1]
    return labels


def _grouped(flow: ScaleFlow, labels: np.ndarray) -> tuple[Pair, ...]:
    """Units with the same slots and the same operations in between are one pair."""
    slots_of: dict[int, list[int]] = defaultdict(list)
    for number, slot in enumerate(flow.slots):
        for unit in np.unique(labels[slot.start : slot.start + slot.size]).tolist():
            slots_of[unit].append(number)
    passed: dict[int, set[str]] = defaultdict(set)
    for name, units in flow.passed:
        for unit in np.unique(labels[np.unique(units.numpy())]).tolist():
            passed[unit].add(name)
    alike: dict[tuple[tuple[int, ...], frozenset[str]], list[int]] = defaultdict(list)
    for unit, numbers in slots_of.items():
        roles = {flow.slots[number].role for number in numbers}
        if unit != labels[FIXED] and roles & set(PRODUCERS) and roles & set(READERS):
            alike[tuple(numbers), frozenset(passed[unit])].append(unit)
    pairs = [
        _pair([flow.slots[number] for number in numbers], units, labels, names)
        for (numbers, names), units in alike.items()
    ]
    return tuple(sorted(pairs, key=lambda pair: min(part.slot.start for part in pair.producers)))


def _pair(slots: Sequence[Slot], units: Sequence[int], labels: np.ndarray, passed: frozenset[str]) -> Pair:
    place = np.full(int(labels.max()) + 1, -1, dtype=np.int64)
    place[list(units)] = np.arange(len(units))
    parts = []
    for slot in slots:
        own = torch.from_numpy(place[labels[slot.start : slot.start + slot.size]])
        positions = (own >= 0).nonzero().flatten()
        parts.append(Part(slot, positions, own[positions]))
    return Pair(len(units), tuple(parts), passed)


def kernel_maxima(weight: torch.Tensor, view: tuple[int, ...]) -> torch.Tensor:
    """Largest magnitude over the kernel: fp64 on the CPU, ``view`` of a convolution's weight with kernel axes of size 1
    (a matrix as it is)."""
    magnitudes = weight.detach().view(view).abs().cpu().double()
    kernel = list(range(3, magnitudes.dim()))
    return magnitudes.amax(kernel, keepdim=True) if kernel and magnitudes.numel() else magnitudes
