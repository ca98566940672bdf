"""Layer by layer through a network: what flows into a layer is learnt, and its weights are brought onto their grid.

The weights that a method chooses are values of the grid, written into the layer's weight. Its quantizer, which rounds
to the nearest value, leaves them as they are: packing, export and fine-tuning need not know of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compression.graph import Graph
from compression.graph.copies import deep_copy
from compression.graph.inputs import Example
from compression.posttraining.follow import aligned, output_error
from compression.posttraining.grams import LayerInputs, collect
from compression.posttraining.options import LayerwiseOptions
from compression.posttraining.problems import LayerOutcome, LayerProblem, Solve
from compression.posttraining.rows import matrix, weight_of
from compression.quant.allocation import Allocation
from compression.quant.attach import attach_ranges, quantizable_layers
from compression.quant.calibrate import Batches, input_ranges
from compression.quant.fixed_steps import FixedQuantizer, attach
from compression.quant.integers import WEIGHT, quantizer_of
from compression.quant.laplace import levels_of
from compression.quant.tables import layer_weights

Inputs = Callable[[], Iterable[Example]]
"""Gives the same inputs of the model at every call."""
Dense = tuple[nn.Module, Mapping[str, LayerInputs]]
"""The dense model, and what flows into its layers."""
_APART = 1_000_003  # between the random numbers of neighbouring seeds; those of a run's layers are next to each other
ALIGNING = 0.01
"""Share of the mean of a Gram matrix's diagonal by which aligned weights are drawn towards the dense ones."""


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
        self.model, self.options, self.inputs, self._seed = model, options, inputs, _APART * seed
        self._fixed_masks = fixed_masks
        self.paths, ranges = _paths(model), {}
        self._calls = Counter(node.layer for node in graph.nodes if node.layer)
        if activations is not None:
            unsigned = graph.nonnegative_inputs if options.unsigned else ()
            layers, widths = quantizable_layers(model), activations.bits.__getitem__
            ranges = input_ranges(model, layers, activations.batches, options.calibration, widths, unsigned)
        self._of_dense: dict[str, LayerInputs] = {}
        if options.inputs == "dense" or options.allocation == "output":
            names = {path: name for name, paths in self.paths.items() for path in paths}
            self._of_dense = collect(model, names, inputs(), seed=self._seed)
        self.allocation = plan((model, self._of_dense) if options.allocation == "output" else None)
        self._planned = {layer.name: layer for layer in self.allocation.layers}
        order = [layer.name for layer in graph.layers if layer.name in self._planned]
        self.names = list(dict.fromkeys([*order, *self._planned]))
        self.dense = deep_copy(model).eval()
        attach(model, self.allocation)
        if activations is not None:
            attach_ranges(model, ranges, activations.bits)

    def step(self, name: str, solve: Solve) -> LayerOutcome | None:
        """Bring one layer onto its grid; ``None`` where it is never called as a module: it is rounded to nearest.

        Raises:
            CompressionError: an input that is not finite.
        """
        inputs = self.flowing_into([name]).get(name)
        if inputs is None:
            return None
        problem = self.problem(name, inputs)
        values, survives = solve(problem)
        return self.write(problem, values, survives)

    def seed_of(self, name: str) -> int:
        """Of a layer's random numbers."""
        return self._seed + self.names.index(name) + 1

    def flowing_into(self, names: Sequence[str]) -> dict[str, LayerInputs]:
        """What flows into some layers, none of which is brought onto its grid yet; none of those never called.

        Raises:
            CompressionError: an input that is not finite.
        """
        if self.options.inputs == "dense":
            return {name: self._of_dense[name] for name in names if name in self._of_dense}
        paths = {path: name for name in names for path in self.paths[name]}
        once = all(len(self.paths[name]) == 1 and self._calls[name] == 1 for name in names)
        beside = self.dense if self.options.inputs == "aligned" else None
        last = len(names) if once else 0
        return collect(self.model, paths, self.inputs(), beside, seed=self.seed_of(names[0]), last=last)

    @torch.no_grad()
    def problem(self, name: str, inputs: LayerInputs) -> LayerProblem:
        """A layer as matrices in double precision."""
        layer, planned, quantizer = self.model.get_submodule(name), self._planned[name], self._quantizer(name)
        dense = self.dense.get_submodule(name).get_parameter(WEIGHT).detach()
        wide = matrix(layer, dense).to(inputs.gram.dtype)
        steps = matrix(layer, quantizer.step_size.expand_as(dense)).to(wide)[..., 0]
        if inputs.cross is not None:
            wide = torch.where(wide == 0, wide, aligned(wide, inputs.gram, inputs.cross, ALIGNING))
        generator = torch.Generator().manual_seed(self.seed_of(name))
        mask = matrix(layer, quantizer.mask) if self._fixed_masks else None
        return LayerProblem(
            name, wide, inputs, steps, levels_of(planned.bits), planned.pruned, generator, [], mask, quantizer.lowest
        )

    @torch.no_grad()
    def write(self, problem: LayerProblem, values: torch.Tensor, survives: torch.Tensor) -> LayerOutcome:
        """Give a layer the values [groups, N, d] of its grid, and the mask of those that survive."""
        layer, quantizer = self.model.get_submodule(problem.name), self._quantizer(problem.name)
        original = layer.get_parameter(f"parametrizations.{WEIGHT}.original")
        # k·Δ in fp32, from which the quantizer's own rounding gives k again
        codes = weight_of(layer, (values / problem.steps[..., None]).round())
        original.copy_(codes.to(torch.float32) * quantizer.step_size)
        quantizer.mask.copy_(weight_of(layer, survives))
        wide, gram = problem.weights, problem.inputs.gram
        scale = max(output_error(wide, gram), 1e-300)
        both = (problem.nearest(wide) * survives, values)
        nearest, error = (output_error(wide - each, gram) / scale for each in both)
        return LayerOutcome(nearest, error, problem.inputs.count, tuple(problem.notes))

    def _quantizer(self, name: str) -> FixedQuantizer:
        quantizer = quantizer_of(self.model.get_submodule(name))
        assert isinstance(quantizer, FixedQuantizer)
        return quantizer


def _paths(model: nn.Module) -> dict[str, list[str]]:
    """Name of a weight's first layer → the paths of all modules that compute with it."""
    names = {id(model.get_submodule(name)._parameters.get(WEIGHT)): name for name in layer_weights(model)}
    paths: dict[str, list[str]] = {name: [] for name in names.values()}
    for path, module in model.named_modules():
        weight = module._parameters.get(WEIGHT)
        if weight is not None and id(weight) in names:
            paths[names[id(weight)]].append(path)
    return paths
