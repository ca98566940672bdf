"""Layer by layer through a network: what flows into a layer is learnt, and its weights are brought onto their grid.

The weights that a method chooses are values of the grid, written into the layer's weight. Its quantizer, which rounds
to the nearest value, leaves them as they are: packing, export and fine-tuning need not know of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from compression.graph import Graph
from compression.graph.copies import deep_copy
from compression.graph.inputs import Example
from compression.posttraining.follow import aligned, output_error
from compression.posttraining.grams import LayerInputs, collect
from compression.posttraining.options import LayerwiseOptions
from compression.posttraining.rows import matrix, weight_of
from compression.quant.allocation import Allocation
from compression.quant.attach import attach_ranges, quantizable_layers
from compression.quant.calibrate import Batches, input_ranges
from compression.quant.fixed_steps import FixedQuantizer, attach
from compression.quant.integers import WEIGHT, quantizer_of
from compression.quant.laplace import levels_of
from compression.quant.tables import layer_weights, survivors

Inputs = Callable[[], Iterable[Example]]
"""Gives the same inputs of the model at every call."""
Limits = tuple[torch.Tensor, torch.Tensor]
"""The lowest and the highest code of each weight."""
Dense = tuple[nn.Module, Mapping[str, LayerInputs]]
"""The dense model, and what flows into its layers."""
_APART = 1_000_003  # between the random numbers of neighbouring seeds; those of a run's layers are next to each other
ALIGNING = 0.01
"""Share of the mean of a Gram matrix's diagonal by which aligned weights are drawn towards the dense ones."""


@dataclass
class LayerProblem:
    """One layer to be brought onto its grid.

    ``weights``: what to come near to, fp64 [groups, N, d]; ``inputs``: what flows into it; ``steps``: Δ of each neuron
    [groups, N]; ``levels``: Q, of codes -Q..Q; ``pruned``: how many weights are to be 0; ``generator``: of this layer
    and the seed of the run, on the CPU. What a method had to change goes into ``notes``. ``mask``: which weights
    survive (bool [groups, N, d]), where that is not the method's to choose. ``lowest``: the least magnitude of a
    survivor's code; with 1 none becomes 0.
    """

    name: str
    weights: torch.Tensor
    inputs: LayerInputs
    steps: torch.Tensor
    levels: int
    pruned: int
    generator: torch.Generator
    notes: list[str]
    mask: torch.Tensor | None = None
    lowest: int = 0

    def nearest(self, values: torch.Tensor) -> torch.Tensor:
        """The nearest values of the grid for survivors, of values [groups, N] or [groups, N, d]."""
        steps = self.steps if values.dim() == 2 else self.steps[..., None]
        low, high = self.limits(values)
        return (values / steps).round().clamp(low, high) * steps

    def limits(self, values: torch.Tensor) -> Limits:
        """The lowest and the highest code of a survivor with this value, elementwise; it never changes its sign."""
        last = torch.full_like(values, self.levels)
        if not self.lowest:
            return -last, last
        first = torch.full_like(values, self.lowest)
        return torch.where(values > 0, first, -last), torch.where(values < 0, -first, last)

    def survivors(self, worth: torch.Tensor) -> torch.Tensor:
        """Which weights survive: all but the ``pruned`` of least magnitude of ``worth``, unless the mask is given."""
        return survivors(worth, self.pruned) if self.mask is None else self.mask


Solve = Callable[[LayerProblem], tuple[torch.Tensor, torch.Tensor]]
"""Gives the values [groups, N, d] and which weights survive (bool, of the same shape)."""


@dataclass(frozen=True)
class LayerOutcome:
    """What became of a layer: Σ|Δ x|² / Σ|W x|² over ``rows`` rows, Δ the difference to the weights that it was to come
    near to, with ``nearest`` rounding on the same grid and with the method (``error``); ``notes``: what was changed.
    """

    nearest: float
    error: float
    rows: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Activations:
    """Layer → the bit-width of its input, and the batches from which ranges are taken."""

    bits: Mapping[str, float]
    batches: Batches


class LayerWalk:
    """Fixed quantizers on all layers of a model (in place), which are then brought onto their grids one by one."""

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        options: LayerwiseOptions,
        plan: Callable[[Dense | None], Allocation],
        inputs: Inputs,
        seed: int = 0,
        activations: Activations | None = None,
        fixed_masks: bool = False,
    ) -> None:
        """Measure what is needed, plan, and attach quantizers.

        Args:
            plan: zeros, bits and steps of every layer; given what flows into the layers where bits depend on it.
            inputs: of the model.
            seed: of random numbers; those of a layer are its own.
            activations: how the inputs of layers are quantized; ``None``: they are not.
            fixed_masks: the smallest magnitudes of each layer are 0, and no method chooses others.

        Raises:
            CompressionError: bounds that cannot be met, or values that are not finite.
        """
        self.model, self.options, self._inputs, self._seed = model, options, inputs, _APART * seed
        self._fixed_masks = fixed_masks
        self._paths, ranges = _paths(model), {}
        self._calls = Counter(node.layer for node in graph.nodes if node.layer)
        if activations is not None:
            unsigned = graph.nonnegative_inputs if options.unsigned else ()
            layers, widths = quantizable_layers(model), activations.bits.__getitem__
            ranges = input_ranges(model, layers, activations.batches, options.calibration, widths, unsigned)
        self._of_dense: dict[str, LayerInputs] = {}
        if options.inputs == "dense" or options.allocation == "output":
            names = {path: name for name, paths in self._paths.items() for path in paths}
            self._of_dense = collect(model, names, inputs(), seed=self._seed)
        self.allocation = plan((model, self._of_dense) if options.allocation == "output" else None)
        self._planned = {layer.name: layer for layer in self.allocation.layers}
        order = [layer.name for layer in graph.layers if layer.name in self._planned]
        self.names = list(dict.fromkeys([*order, *self._planned]))
        self._dense = deep_copy(model).eval()
        attach(model, self.allocation)
        if activations is not None:
            attach_ranges(model, ranges, activations.bits)

    def step(self, index: int, solve: Solve) -> LayerOutcome | None:
        """Bring one layer onto its grid; ``None`` where it is never called as a module: it is rounded to nearest.

        Raises:
            CompressionError: an input that is not finite.
        """
        name, seed = self.names[index], self._seed + index + 1
        if self.options.inputs == "dense":
            inputs = self._of_dense.get(name)
        else:
            paths = self._paths[name]
            once = len(paths) == 1 and self._calls[name] == 1
            beside = self._dense if self.options.inputs == "aligned" else None
            given = self._inputs()
            inputs = collect(self.model, dict.fromkeys(paths, name), given, beside, seed=seed, last=int(once)).get(name)
        return None if inputs is None else self._bring(name, inputs, solve, seed)

    @torch.no_grad()
    def _bring(self, name: str, inputs: LayerInputs, solve: Solve, seed: int) -> LayerOutcome:
        layer, planned = self.model.get_submodule(name), self._planned[name]
        quantizer = quantizer_of(layer)
        assert isinstance(quantizer, FixedQuantizer)
        original = layer.get_parameter(f"parametrizations.{WEIGHT}.original")
        dense = self._dense.get_submodule(name).get_parameter(WEIGHT).detach()
        # Everything as matrices in double precision
        wide = matrix(layer, dense).to(inputs.gram.dtype)
        steps = matrix(layer, quantizer.step_size.expand_as(dense)).to(wide)[..., 0]
        if inputs.cross is not None:
            wide = torch.where(wide == 0, wide, aligned(wide, inputs.gram, inputs.cross, ALIGNING))
        generator = torch.Generator().manual_seed(seed)
        mask = matrix(layer, quantizer.mask) if self._fixed_masks else None
        problem = LayerProblem(
            name, wide, inputs, steps, levels_of(planned.bits), planned.pruned, generator, [], mask, quantizer.lowest
        )
        values, survives = solve(problem)
        # k·Δ in fp32, from which the quantizer's own rounding gives k again
        codes = weight_of(layer, (values / steps[..., None]).round())
        original.copy_(codes.to(torch.float32) * quantizer.step_size)
        quantizer.mask.copy_(weight_of(layer, survives))
        scale = max(output_error(wide, inputs.gram), 1e-300)
        both = (problem.nearest(wide) * survives, values)
        nearest, error = (output_error(wide - each, inputs.gram) / scale for each in both)
        return LayerOutcome(nearest, error, inputs.count, tuple(problem.notes))


def _paths(model: nn.Module) -> dict[str, list[str]]:
    """Name of a weight's first layer → the paths of all modules that compute with it."""
    names = {id(model.get_submodule(name)._parameters.get(WEIGHT)): name for name in layer_weights(model)}
    paths: dict[str, list[str]] = {name: [] for name in names.values()}
    for path, module in model.named_modules():
        weight = module._parameters.get(WEIGHT)
        if weight is not None and id(weight) in names:
            paths[names[id(weight)]].append(path)
    return paths
