"""GETA's run: its quantizers are attached, and one training with QASSO removes units and narrows bits."""

from __future__ import annotations

import math
from collections.abc import Collection

from torch import nn

from compression.asks import BitRange
from compression.budget import Budget
from compression.methods.geta.algorithm import JointTraining
from compression.methods.geta.options import (
    ACTIVATION_BITS,
    CHANNEL,
    RATE,
    SCHEDULE,
    WEIGHT_BITS,
    GetaOptions,
)
from compression.methods.geta.qasso import QASSO
from compression.methods.geta.schedule import fitting
from compression.pruning.choose import unit_bounds
from compression.pruning.target import unit_target
from compression.quant import quantize
from compression.quant.attach import quantizable_layers
from compression.quant.calibrate import Batches
from compression.quant.clipping import fit_clips
from compression.training.loop import COMPRESSING, LR_QUANT, base_rate
from compression.training.preparation import calibration_batches
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Trainer


def run(setup: Setup, report: Reporter, chosen: GetaOptions) -> Compressed:
    """Train ``setup.model`` in place within ``setup.budget``.

    Raises:
        CompressionError: the budget cannot be reached. RunFailed: training diverged.
    """
    trainer = Trainer(setup, report, chosen)
    attach(setup, chosen, report)
    trainer.recipe.prepare_model(setup.model)
    optimizer = optimizer_for(setup, chosen, trainer.total)
    stages = optimizer.stages.starts()
    report.plan(trainer.total, stages=stages, units=optimizer.units.total, removes=optimizer.target.units)
    for line in _remarks(setup, optimizer):
        report.log(line)
    algorithm = JointTraining(setup, optimizer, chosen, lambda: calibration_batches(setup, report))
    trainer.train(algorithm.section, algorithm)
    return Compressed(setup.model, {**optimizer.units.facts(optimizer.removed), "stages": stages, **trainer.facts()})


def optimizer_for(setup: Setup, chosen: GetaOptions, total: int) -> QASSO:
    """The optimizer that a budget asks for, over ``total`` steps; the model carries its quantizers already."""
    budget, asks = setup.budget, setup.budget.asks
    return QASSO(
        setup.model,
        setup.graph,
        target=unit_target(setup.graph, budget, WEIGHT_BITS, ACTIVATION_BITS),
        rise=chosen.rise,
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
        tied_ranges=chosen.tied_ranges or chosen.free_threshold,
        order=chosen.order,
        bit_rule=chosen.bit_rule,
        mean_bits=chosen.mean_bits,
    )


def attach(setup: Setup, chosen: GetaOptions, report: Reporter) -> None:
    """Put the quantizers on the setup's model, with their ranges as the options ask."""
    budget = setup.budget
    batches = None if ACTIVATION_BITS.value(budget.asks) is None else calibration_batches(setup, report)
    attach_learnable(setup.model, budget, chosen, batches, setup.graph.nonnegative_inputs)
    if chosen.clip == "fitted":
        fit_clips(setup.model, lambda layer, _: lowest_bits(budget, layer, WEIGHT_BITS))


def attach_learnable(
    model: nn.Module,
    budget: Budget,
    chosen: GetaOptions,
    calibration: Batches | None,
    nonnegative: Collection[str],
) -> nn.Module:
    """Learnable quantizers at the schedule's starting bits, in place; of inputs where there are batches.

    ``nonnegative``: layers whose input is never below 0.
    """
    return quantize(
        model,
        SCHEDULE.value(budget.asks).start_bits,
        calibration,
        calibration_range=chosen.ranges,
        range_bits=lambda layer: lowest_bits(budget, layer, ACTIVATION_BITS),
        exponent=ternary_layers(model, budget) if chosen.free_threshold else False,
        per_channel=chosen.weights == CHANNEL,
        gradient_scale=chosen.gradient_scale,
        unsigned=nonnegative if chosen.unsigned else (),
    )


def ternary_layers(model: nn.Module, budget: Budget) -> set[str]:
    """The layers whose weights may end at two bits."""
    return {layer for layer in quantizable_layers(model) if math.ceil(lowest_bits(budget, layer, WEIGHT_BITS)) == 2}


def lowest_bits(budget: Budget, layer: str, ask: BitRange) -> float:
    """The lowest bit-width that the weights or the input of ``layer`` may end with."""
    limits = ask.layer_limits(budget.asks, budget.layers, layer)
    assert limits is not None, "asked only where there is a quantizer"
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
