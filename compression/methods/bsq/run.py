"""The run of BSQ: planes are trained under their penalty and re-quantized, then weights at the bits that remain."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from compression.methods.bsq.options import (
    ACTIVATION_BITS,
    BITS,
    FINE_TUNING,
    RATE,
    SPARSIFICATION,
    BsqOptions,
    Limits,
    Plan,
    available_bits,
    planes_by_layer,
)
from compression.methods.bsq.state import BitPlanes, Widths
from compression.methods.bsq.strength import Controller
from compression.quant import quantize
from compression.quant.attach import quantizable_layers
from compression.quant.tables import layer_weights
from compression.training.loop import COMPRESSING, LR_QUANT, base_rate, make_optimizer
from compression.training.preparation import calibration_batches
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Algorithm, Section, Trainer


def run(setup: Setup, report: Reporter, options: BsqOptions) -> Compressed:
    """Compress ``setup.model`` in place: an average of bits of at most that of ``setup.budget``.

    Raises:
        CompressionError: the budget cannot be reached. RunFailed: training diverged.
    """
    model, budget = setup.model, setup.budget
    trainer = Trainer(setup, report, options)
    plan = Plan.from_shares(trainer.total, options.share, options.requantizations)
    trainer.measured.update(plan.due)  # every re-quantization is a point of the curve
    report.plan(trainer.total, stages=plan.starts())
    limits = limits_of(setup)
    widths = attach(setup, report, limits, options)
    trainer.recipe.prepare_model(model)
    torch.manual_seed(budget.seed)
    controller = Controller(options.strength, BITS.value(budget.asks))
    rate = base_rate(budget, COMPRESSING)
    planes = BitPlanes(model, widths, limits, controller, budget.optimizer, rate, budget.weight_decay, plan.last)
    if plan.last:
        _sparsify(trainer, planes, widths, plan)
    else:
        planes.requantize(1.0, 0)
        planes.narrow(available_bits(planes.sizes, BITS.value(budget.asks)))
    _fine_tune(trainer, widths, plan)
    return Compressed(model, {"stages": plan.starts(), **trainer.facts()})


@dataclass
class PlaneTraining(Algorithm):
    """Trains planes in the place of weights, and re-quantizes them when it is due."""

    planes: BitPlanes
    plan: Plan
    optimizer: torch.optim.Optimizer
    base: float
    lr: float
    budget: int
    slopes: list[torch.Tensor | None] = field(default_factory=list)

    def after_backward(self, step: int) -> None:
        """The optimizer of the other parameters does not see the weights: they have no gradient while it steps."""
        self.slopes = [layer.weight.grad for layer in self.planes.layers]
        for layer in self.planes.layers:
            layer.weight.grad = None

    def after_step(self, step: int) -> None:
        """Train the planes and scales; make whole numbers of them when it is due, and meet the budget at the end."""
        for layer, slope in zip(self.planes.layers, self.slopes, strict=True):
            layer.weight.grad = slope
        share = self.optimizer.param_groups[0]["lr"] / self.base
        self.planes.step(share, share * self.lr)
        done = step + 1
        if done not in self.plan.due:
            return
        self.planes.requantize(self.plan.share_after(done), len(self.plan.coming(done)))
        if done == self.plan.last:
            self.planes.narrow(self.budget)

    def report(self, step: int, report: Reporter) -> None:
        """Report each re-quantization: bits of every layer, their average, and the strength from here on."""
        done = step + 1
        if done not in self.plan.due:
            return
        average, strength = self.planes.average, self.planes.controller.strength
        report.decision(done, bits=dict(self.planes.widths.weights), average=average, strength=strength)
        coming = "training at these bits follows" if done == self.plan.last else f"α is {strength:.3g} from here on"
        report.log(f"re-quantized after step {done}: {average:.3f} bits a weight on average; {coming}")


@dataclass(frozen=True)
class FixedWidths(Algorithm):
    """Clipping bounds are trained at whole bit-widths, at the optimizer's share of ``base`` of the rate ``lr``."""

    widths: Widths
    optimizer: torch.optim.Optimizer
    base: float
    lr: float

    def after_step(self, step: int) -> None:
        """Train the clipping bounds."""
        self.widths.fixed.step(self.optimizer.param_groups[0]["lr"] / self.base * self.lr)

    def restore(self) -> None:
        """The averaged clipping bounds get the steps of their bit-widths."""
        self.widths.fixed.hold()


def limits_of(setup: Setup) -> dict[str, Limits]:
    """Layer → the planes that it may have; of layers that share a weight the first.

    Raises:
        CompressionError: bounds that do not fit the layers or the average.
    """
    budget = setup.budget
    sizes = {name: weight.numel() for name, weight in layer_weights(setup.model).items()}
    return planes_by_layer(budget.layers, sizes, BITS.value(budget.asks))


def attach(setup: Setup, report: Reporter, limits: dict[str, Limits], options: BsqOptions) -> Widths:
    """Put quantizers on the model: of weights up to the largest at the most planes, of activations by calibration."""
    model, budget = setup.model, setup.budget
    layers = list(quantizable_layers(model))
    activations = ACTIVATION_BITS.value(budget.asks) is not None
    activation_bits = ACTIVATION_BITS.widths(budget.asks, budget.layers, layers) if activations else None
    inputs = activation_bits or {}
    quantize(
        model,
        calibration=calibration_batches(setup, report) if activations else None,
        calibration_range=options.ranges,
        range_bits=lambda layer: inputs[layer],
        unsigned=setup.graph.nonnegative_inputs if options.unsigned else (),
    )
    return Widths(model, {name: limit.highest + 1 for name, limit in limits.items()}, activation_bits)


def _sparsify(trainer: Trainer, planes: BitPlanes, widths: Widths, plan: Plan) -> None:
    """Planes in the place of weights, up to the last re-quantization; other parameters are trained as ever."""
    budget = trainer.setup.budget
    rate, optimizer = base_rate(budget, COMPRESSING), _optimizer(trainer, widths)
    spent = available_bits(planes.sizes, BITS.value(budget.asks))
    algorithm = PlaneTraining(planes, plan, optimizer, rate, RATE.value(budget.asks) or LR_QUANT, spent)
    parts = {"planes": planes}
    section = Section(SPARSIFICATION, optimizer, 0, plan.last, curve=(0, plan.total), parts=parts)
    planes.requantize(plan.share_after(0), len(plan.due))
    trainer.train(section, algorithm)


def _fine_tune(trainer: Trainer, widths: Widths, plan: Plan) -> None:
    """Weights and bounds at the bits that the planes left."""
    budget = trainer.setup.budget
    rate, optimizer = base_rate(budget, COMPRESSING), _optimizer(trainer, widths)
    algorithm = FixedWidths(widths, optimizer, rate, RATE.value(budget.asks) or LR_QUANT)
    section = Section(FINE_TUNING, optimizer, plan.last, plan.total, curve=(0, plan.total), parts={"widths": widths})
    trainer.train(section, algorithm)


def _optimizer(trainer: Trainer, widths: Widths) -> torch.optim.Optimizer:
    """Over everything but the scalars of quantizers."""
    budget = trainer.setup.budget
    widths.fixed.train(False)
    rate = base_rate(budget, COMPRESSING)
    optimizer = make_optimizer(trainer.setup.model, budget.optimizer, rate, budget.weight_decay)
    widths.fixed.train()
    return optimizer
