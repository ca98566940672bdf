"""The run of CoDeQ: thresholds and weights are trained together, then zeros are fixed and the others trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.utils import parametrize

from compression.methods.codeq.options import FINE_TUNING, LEARNING, RATE, SPARSITY, WEIGHT_BITS, CodeqOptions
from compression.methods.codeq.thresholds import EVERY, FIRST, Thresholds
from compression.quant.attachable import all_or_nothing, check_layers
from compression.quant.dead_zone import DeadZoneQuantizer
from compression.quant.fixed_steps import sharing
from compression.quant.integers import WEIGHT
from compression.quant.tables import LayerTables, layer_weights
from compression.training.loop import COMPRESSING, LR_QUANT, base_rate, make_optimizer
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Algorithm, Section, Trainer


def run(setup: Setup, report: Reporter, options: CodeqOptions) -> Compressed:
    """Train ``setup.model`` in place: round(sparsity·N) zeros, equal bits.

    Raises:
        CompressionError: bounds that cannot be met. RunFailed: training diverged.
    """
    model, budget = setup.model, setup.budget
    trainer = Trainer(setup, report, options)
    last = max(1, min(trainer.total - 1, round(options.learning * trainer.total)))
    stages = {LEARNING: 0, FINE_TUNING: last} if last < trainer.total else {LEARNING: 0}
    report.plan(trainer.total, stages=stages)
    # 1. One threshold for all layers, at half of the zeros
    thresholds = attach(setup)
    if thresholds.total != thresholds.requested:
        report.log(f"{thresholds.total} weights will be zero instead of {thresholds.requested}: layers keep a share")
    trainer.recipe.prepare_model(model)
    torch.manual_seed(budget.seed)
    # 2. The optimizer has the weights; thresholds are trained beside it
    logits = [quantizer.logit for quantizer in thresholds.quantizers.values()]
    for logit in logits:
        logit.requires_grad_(False)
    rate = base_rate(budget, COMPRESSING)
    optimizer = make_optimizer(model, budget.optimizer, rate, budget.weight_decay)
    for logit in logits:
        logit.requires_grad_(True)
    lr = RATE.value(budget.asks) or LR_QUANT
    algorithm = Learning(thresholds, optimizer, rate, lr, last)
    phases = {first: stage for stage, first in stages.items()}
    section = Section("training", optimizer, 0, trainer.total, phases=phases, parts={"thresholds": thresholds})
    trainer.train(section, algorithm)
    if not algorithm.fixed:
        thresholds.freeze()
    thresholds.keep_survivors()
    return Compressed(model, {"layers": thresholds.facts(), "stages": stages, **trainer.facts()})


def attach(setup: Setup) -> Thresholds:
    """Give every layer its quantizer, in place.

    Raises:
        CompressionError: a layer cannot carry one, or bounds of layers that are not there.
    """
    model, budget = setup.model, setup.budget
    weights, tables = layer_weights(model), LayerTables.prepare(model)
    widths = WEIGHT_BITS.widths(budget.asks, budget.layers, list(weights))
    fixed = {name: entry["sparsity"] for name, entry in budget.layers.items() if entry.get("sparsity") is not None}
    check_layers({name: model.get_submodule(name) for name in weights})
    sparsity = SPARSITY.value(budget.asks)
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights.values()]).float()
    count = max(1, round(FIRST * sparsity * magnitudes.numel()))
    height = float(magnitudes.kthvalue(count).values)
    quantizers: dict[str, DeadZoneQuantizer] = {}
    with all_or_nothing(model.modules()):
        for name, weight in weights.items():
            quantizers[name] = DeadZoneQuantizer(weight, height, widths[name])
            for module in sharing(model, name):
                parametrize.register_parametrization(module, WEIGHT, quantizers[name], unsafe=True)
    originals = {name: model.get_submodule(name).get_parameter("parametrizations.weight.original") for name in weights}
    return Thresholds(quantizers, originals, tables, sparsity, fixed)


@dataclass
class Learning(Algorithm):
    """Thresholds are trained at the optimizer's share of ``base`` of the rate ``lr`` until step ``last``."""

    thresholds: Thresholds
    optimizer: torch.optim.Optimizer
    base: float
    lr: float
    last: int

    @property
    def fixed(self) -> bool:
        """Whether the zeros are fixed."""
        return all(quantizer.fixed for quantizer in self.thresholds.quantizers.values())

    def before_step(self, step: int) -> None:
        """Raise the thresholds to the zeros that are due, half at first and all after four fifths; then fix them."""
        if step >= self.last:
            if not self.fixed:
                self.thresholds.freeze()
        elif step % EVERY == 0:
            self.thresholds.raise_to(min(1.0, FIRST + (1 - FIRST) * step / max(1.0, 0.8 * self.last)))

    def after_step(self, step: int) -> None:
        """Train the thresholds; weights that are pruned for good stay at zero."""
        if not self.fixed:
            self.thresholds.learn(self.optimizer.param_groups[0]["lr"] / self.base * self.lr)
            return
        for name, quantizer in self.thresholds.quantizers.items():
            with torch.no_grad():
                self.thresholds.weights[name].mul_(quantizer.mask)
