"""GETA as a method: its quantizers are attached, and one training run with QASSO removes units and narrows bits."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from compression.asks import ActivationBits, BitRange, QuantizerRate, Sparsity
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject, even_pruning_forecast
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.methods.geta.algorithm import JointTraining
from compression.methods.geta.clipping import fit_clips
from compression.methods.geta.options import CHANNEL, GetaOptions
from compression.methods.geta.preflight import check_reachable
from compression.methods.geta.qasso import QASSO
from compression.methods.geta.schedule import COOL_DOWN, JOINT, PROJECTION, WARM_UP, StageSchedule, fitting
from compression.pruning.choose import unit_bounds
from compression.quant import quantize
from compression.training.loop import COMPRESSING, LR_QUANT, base_rate
from compression.training.preparation import calibration_batches
from compression.training.trainer import Trainer

SPARSITY, WEIGHT_BITS, ACTIVATION_BITS = Sparsity(), BitRange(), ActivationBits()
SCHEDULE, RATE = StageSchedule(), QuantizerRate()


class Geta(Method):
    """Removes whole units and learns bit-widths in one run, starting from a trained dense model."""

    info = Info(
        name="geta",
        label="GETA",
        sentence="**GETA** removes whole channels and learns each layer's bit-width while it trains.",
        family="structured",
        slot=0,
        stages=(
            Stage(WARM_UP, "Warm-up", 0),
            Stage(PROJECTION, "Projection", 1),
            Stage(JOINT, "Joint", 2),
            Stage(COOL_DOWN, "Cool-down", 3),
        ),
        paper="arXiv 2502.16638",
        views=("joint",),
    )
    asks = (SPARSITY, WEIGHT_BITS, ACTIVATION_BITS, SCHEDULE, RATE)
    Config = GetaOptions
    encodings = frozenset({"uniform", "uniform-channel"})

    def check_budget(self, budget: Budget) -> None:
        """Refuse what is wrong in a budget whatever the network.

        Raises:
            CompressionError: naming the ask, the option or the saliency criterion, and what there is.
        """
        super().check_budget(budget)
        activations = ACTIVATION_BITS.value(budget.asks)
        highest = max(WEIGHT_BITS.value(budget.asks)[1], activations[1] if activations else 0)
        SCHEDULE.check_highest(SCHEDULE.value(budget.asks), highest)

    def check(self, setup: Setup) -> None:
        """Refuse a budget that this network or this length of run cannot give.

        Raises:
            CompressionError: naming the field, and the layer or group.
        """
        super().check(setup)
        asks = setup.budget.asks
        check_reachable(setup, SPARSITY.value(asks), SCHEDULE.value(asks), options_of(setup.budget).order)

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """K units spread evenly, bits between the bounds: which units and bits, only the run decides.

        Raises:
            CompressionError: bounds that cannot be met.
        """
        return even_pruning_forecast(
            subject, budget, SPARSITY.value(budget.asks), WEIGHT_BITS, ACTIVATION_BITS,
            channel_steps=options_of(budget).weights == CHANNEL,
        )  # fmt: skip

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Train ``setup.model`` in place within ``setup.budget``.

        Raises:
            CompressionError: the budget cannot be reached (too many units, too few steps, a bound on what is not
            there). RunFailed: training diverged.
        """
        self.check_budget(setup.budget)
        chosen = options_of(setup.budget)
        trainer = Trainer(setup, report, chosen)
        attach(setup, chosen, report)
        trainer.recipe.prepare_model(setup.model)
        optimizer = optimizer_for(setup, trainer.total)
        stages = optimizer.stages.starts()
        report.plan(trainer.total, stages=stages, units=optimizer.units.total, removes=optimizer.target)
        for line in _remarks(setup, optimizer):
            report.log(line)
        algorithm = JointTraining(setup, optimizer, chosen)
        trainer.train(algorithm.section, algorithm)
        return Compressed(
            setup.model, {**optimizer.units.facts(optimizer.removed), "stages": stages, **trainer.facts()}
        )

    def prepare(self, model: nn.Module, budget: Budget, calibration: Iterable[torch.Tensor] | None = None) -> nn.Module:
        """Put learnable quantizers at the schedule's starting bits on ``model``, in place; ``cx.QASSO`` then removes
        units and narrows the bits while it trains.

        Raises:
            CompressionError: activations are to be quantized and there are no calibration batches.
        """
        self.check_budget(budget)
        activations = ACTIVATION_BITS.value(budget.asks) is not None
        if activations and calibration is None:
            raise CompressionError("the budget quantizes activations: pass calibration=, one batch or several")
        per_channel = options_of(budget).weights == CHANNEL
        start_bits = SCHEDULE.value(budget.asks).start_bits
        return quantize(model, start_bits, calibration if activations else None, per_channel=per_channel)


def options_of(budget: Budget) -> GetaOptions:
    """The options of a budget.

    Raises:
        CompressionError: see :meth:`Geta.check_budget`.
    """
    return GetaOptions.read(budget.options, Geta.info.name)


def optimizer_for(setup: Setup, total: int) -> QASSO:
    """The optimizer that a budget asks for, over ``total`` steps; the model carries its quantizers already."""
    budget, chosen = setup.budget, options_of(setup.budget)
    asks = budget.asks
    return QASSO(
        setup.model,
        setup.graph,
        sparsity=SPARSITY.value(asks),
        bits=WEIGHT_BITS.value(asks),
        activation_bits=ACTIVATION_BITS.value(asks),
        schedule=fitting(SCHEDULE.value(asks), total, chosen.order),
        total_steps=total,
        variant=budget.optimizer,
        lr=base_rate(budget, COMPRESSING),
        lr_quant=RATE.value(asks) or LR_QUANT,
        weight_decay=budget.weight_decay,
        group_bounds=unit_bounds(budget.groups),
        layer_bits=budget.layers,
        criteria=chosen.criteria,
        joint_steps=chosen.joint_steps,
        forgetting=chosen.forgetting,
        tied_ranges=chosen.tied_ranges,
        order=chosen.order,
    )


def attach(setup: Setup, chosen: GetaOptions, report: Reporter) -> None:
    """Put the quantizers on the setup's model, with their ranges as the options ask."""
    budget = setup.budget
    start_bits = SCHEDULE.value(budget.asks).start_bits
    batches = None if ACTIVATION_BITS.value(budget.asks) is None else calibration_batches(setup, report)
    per_channel = chosen.weights == CHANNEL
    quantize(setup.model, start_bits, batches, per_channel=per_channel, gradient_scale=chosen.gradient_scale)
    if chosen.clip == "fitted":
        fit_clips(setup.model, lambda layer, _: lowest_bits(budget, layer))


def lowest_bits(budget: Budget, layer: str) -> float:
    """The lowest bit-width that the weights of ``layer`` may end with."""
    limits = WEIGHT_BITS.layer_limits(budget.asks, budget.layers, layer)
    assert limits is not None, "weights are always quantized"
    return limits[0]


def _remarks(setup: Setup, optimizer: QASSO) -> list[str]:
    """What the user should know about how the budget was read."""
    remarks = []
    requested, actual = SCHEDULE.value(setup.budget.asks), optimizer.stages
    periods = (requested.projection_periods, requested.pruning_periods)
    if (actual.projection_periods, actual.pruning_periods) != periods:
        remarks.append(
            f"a short run of {actual.total} steps: {actual.projection_periods} projection and {actual.pruning_periods} "
            f"pruning periods instead of {periods[0]} and {periods[1]}"
        )
    channels = {site.layer: site.quantizer.clip for site in optimizer.bounds.sites if site.quantizer.per_channel}
    if channels:
        count = sum(clip.numel() for clip in channels.values())
        remarks.append(f"{count} output channels of {len(channels)} layers have separate ranges and steps")
    aside = [layer for layer, clip in channels.items() if clip.numel() > len(clip)]
    if aside:
        remarks.append(f"channels of {', '.join(aside)} lie apart in memory: these weights are quantized pass by pass")
    if not optimizer.units.total:
        remarks.append("no unit of this model can be removed: it is only quantized")
    return remarks


METHOD = GETA = Geta()
