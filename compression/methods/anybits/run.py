"""The run: nested quantizers, training in which every step reads the weights at other widths, then the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from compression.methods.anybits.freezing import Freezing
from compression.methods.anybits.options import ACTIVATION_BITS, SEARCH, TRAINING, WEIGHT_BITS, AnyBitsOptions
from compression.methods.anybits.search import ORIGINAL, search
from compression.quant.attach import attach_ranges, quantizable_layers
from compression.quant.calibrate import input_ranges
from compression.quant.fixed_bits import FixedBits
from compression.quant.kernels import SMALLEST
from compression.quant.nested_quantizer import NestedQuantizer, attach, nested_quantizers
from compression.training.loop import COMPRESSING, LR_QUANT, base_rate, make_optimizer
from compression.training.measure import curve_images
from compression.training.preparation import calibration_batches
from compression.training.resume import Stateful
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Algorithm, Section, Trainer

Widths = dict[str, int]


def run(setup: Setup, report: Reporter, options: AnyBitsOptions) -> Compressed:
    """Train ``setup.model`` in place at all widths, and measure which mixtures of them are best.

    Raises:
        CompressionError: bounds that cannot be. RunFailed: training diverged.
    """
    model, budget = setup.model, setup.budget
    served = {name: served_by(budget.asks, budget.layers, name) for name in quantizable_layers(model)}
    trainer = Trainer(setup, report, options)
    stages = {TRAINING: 0, SEARCH: trainer.total}
    report.plan(trainer.total, stages=stages)
    # 1. Ranges of activations with the dense weights; a quantizer for all widths on every weight
    inputs = _attach(setup, report, served, options)
    trainer.recipe.prepare_model(model)
    torch.manual_seed(budget.seed)
    # 2. Training
    rate = base_rate(budget, COMPRESSING)
    inputs.train(False)
    optimizer = make_optimizer(model, budget.optimizer, rate, budget.weight_decay)
    inputs.train()
    quantizers = nested_quantizers(model)
    weights = {name: model.get_submodule(name).get_parameter(ORIGINAL) for name in quantizers}
    freezing = Freezing(quantizers, weights, served, trainer.total) if options.freeze else None
    algorithm = EveryWidth(quantizers, served, inputs, optimizer, rate, budget.seed, freezing)
    parts: dict[str, Stateful] = {} if freezing is None else {"freezing": freezing}
    trainer.train(Section(TRAINING, optimizer, 0, trainer.total, parts=parts), algorithm)
    if freezing is not None:
        report.log(f"frozen last: {', '.join(sorted(freezing.frozen)) or 'no layer'} ({freezing.choices} choices)")
    # 3. What fewer bits cost, by forward passes only
    report.phase(SEARCH, trainer.total, budget.epochs)
    examples = min(options.search_examples, curve_images(setup.graph))
    precisions, table = search(setup, report, served, examples)
    return Compressed(model, {"stages": stages, "loss_by_width": table, **trainer.facts()}, precisions=precisions)


def served_by(asks: Mapping[str, object], bounds: Mapping[str, Mapping[str, object]], layer: str) -> list[int]:
    """The bit-widths that a layer is to serve, ascending."""
    limits = WEIGHT_BITS.layer_limits(asks, bounds, layer)
    assert limits is not None
    low, high = map(int, limits)
    return list(range(low, high + 1))


def _attach(setup: Setup, report: Reporter, served: Mapping[str, Sequence[int]], options: AnyBitsOptions) -> FixedBits:
    """Quantizers on the weights, and where the budget asks for it on the inputs of layers: their ranges are trained."""
    model, budget = setup.model, setup.budget
    if ACTIVATION_BITS.value(budget.asks) is None:
        attach(model, served)
        return FixedBits(model, {}, None)
    widths = ACTIVATION_BITS.widths(budget.asks, budget.layers, list(served))
    unsigned = setup.graph.nonnegative_inputs if options.unsigned else ()
    batches = calibration_batches(setup, report)
    ranges = input_ranges(
        model, quantizable_layers(model), batches, options.ranges, lambda layer: widths[layer], unsigned
    )
    attach(model, served)
    attach_ranges(model, ranges, widths)
    return FixedBits(model, {}, widths)


@dataclass(frozen=True)
class EveryWidth(Algorithm):
    """One pass a step: all layers at their most bits, all at their fewest, then twice a width drawn for each layer.

    The ends are what all others lie between ("sandwich"); layers at different widths in one pass are what makes
    mixtures work later. Between steps every layer is at its most bits. With ``freezing`` unstable layers leave their
    fewest bits out.
    """

    quantizers: Mapping[str, NestedQuantizer]
    served: Mapping[str, Sequence[int]]
    inputs: FixedBits
    optimizer: torch.optim.Optimizer
    base: float
    seed: int
    freezing: Freezing | None = None

    def before_step(self, step: int) -> None:
        """Read the weights at the widths of this step: they depend on seed, step and what is frozen alone."""
        if self.freezing is not None:
            self.freezing.before_step(step)
        self._read(self.widths(step))

    def widths(self, step: int) -> Widths:
        """Layer → bits in ``step``."""
        turn = step % 4
        served = self.served
        if self.freezing is not None:
            served = {name: self.freezing.widths(name) for name in self.quantizers}
        if turn < 2:
            return {name: (max, min)[turn](served[name]) for name in self.quantizers}
        drawn = np.random.default_rng((self.seed, step)).random(len(self.quantizers))
        shares = zip(self.quantizers, drawn, strict=True)
        return {name: served[name][int(share * len(served[name]))] for name, share in shares}

    def after_step(self, step: int) -> None:
        """Train the ranges of activations, keep those of weights above 0, and go back to the most bits."""
        share = self.optimizer.param_groups[0]["lr"] / self.base
        self.inputs.step(share * LR_QUANT)
        with torch.no_grad():
            for quantizer in self.quantizers.values():
                quantizer.clip.clamp_(min=SMALLEST)
        self._read({name: quantizer.top for name, quantizer in self.quantizers.items()})

    def restore(self) -> None:
        """The averaged ranges of activations get the steps of their bit-widths."""
        self.inputs.hold()

    def _read(self, widths: Mapping[str, int]) -> None:
        for name, width in widths.items():
            self.quantizers[name].width = width
