"""A run without training: ranges, zeros, bits and steps, then layer by layer, then the norms' statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from compression.posttraining.block_problem import SolveBlock
from compression.posttraining.block_walk import UnitOutcome, bring, units
from compression.posttraining.blocks import residual_blocks
from compression.posttraining.layers import Activations, Dense, LayerWalk
from compression.posttraining.options import LayerwiseOptions
from compression.posttraining.prepare import correct_model, few_batches, prepare_model
from compression.posttraining.problems import Solve
from compression.quant.allocation import Allocation
from compression.training.measure import CURVE_IMAGES, curve_images, report_point
from compression.training.preparation import calibration_batches, few_inputs, fresh_statistics
from compression.training.recipe import Recipe
from compression.training.resume import Stateful, captured, go_on
from compression.training.setup import LAYERWISE_STAGES, Compressed, Reporter, Setup

CALIBRATION, ROUNDING, STATISTICS = (stage.name for stage in LAYERWISE_STAGES)


class _Outcomes(dict[str, dict[str, Any]]):
    """What became of each layer, or block, so far, as JSON values: a part of the checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        return dict(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.update(state_dict)


def compress_layers(
    setup: Setup,
    report: Reporter,
    options: LayerwiseOptions,
    plan: Callable[[Dense | None], Allocation],
    solve: Solve,
    bits: Mapping[str, int],
    activation_bits: Mapping[str, float] | None = None,
    fixed_masks: bool = False,
    solve_block: SolveBlock | None = None,
) -> Compressed:
    """Compress ``setup.model`` in place. An interrupted run goes on after its last layer, with the same result.

    With ``solve_block`` the layers of a residual block are brought onto their grids together, and a run goes on after
    its last block.

    Args:
        plan: zeros, bits and steps of every layer; given what flows into the layers where bits depend on it.
        solve: brings one layer onto its grid.
        bits: layer → the bit-width of its weight where all get the same, for which channels are equalized.
        activation_bits: layer → the bit-width of its input; ``None``: fp32.
        fixed_masks: the smallest magnitudes of each layer are 0, and ``solve`` chooses no others.

    Raises:
        CompressionError: bounds that cannot be met, or inputs of a layer that are not finite.
    """
    model, graph, budget = setup.model, setup.graph, setup.budget
    report.phase(CALIBRATION, 0)
    prepared = prepare_model(model, graph, options, partial(few_batches, setup, report), bits, options.clip, report)
    activations = None
    if activation_bits is not None:
        activations = Activations(activation_bits, calibration_batches(setup, report))
    given = partial(few_inputs, setup, report, options.samples)
    walk = LayerWalk(model, graph, options, plan, given, budget.seed, activations, fixed_masks)
    for note in walk.allocation.notes:
        report.log(note)
    total, layers = len(walk.names) + int(options.statistics), len(walk.names)
    report.plan(total, unit="layers")
    report_point(setup, report, model, step=0, epoch=0.0, phase=CALIBRATION, limit=curve_images(graph))
    report.phase(ROUNDING, 0)
    outcomes, blocks = _Outcomes(), _Outcomes()
    parts: dict[str, Stateful] = {"model": model, "outcomes": outcomes}
    if solve_block is not None:
        parts["blocks"] = blocks
    plans = units(walk, () if solve_block is None else residual_blocks(model, graph))
    if solve_block is not None:
        together = [unit for unit in plans if unit.block]
        report.log(
            f"{sum(len(unit.layers) for unit in together)} of {layers} layers are learned together, in {len(together)} "
            "residual blocks; the others by themselves"
        )
        if together and options.statistics:
            report.log("blocks are learned with the batch norms as they are: without new statistics they may do better")
    done, first = 0, go_on(report, ROUNDING, parts, 0, layers) or 0
    for unit in plans:
        done += len(unit.layers)
        if done <= first:
            continue
        report.check()
        outcome = bring(walk, unit, solve, solve_block, report.check)
        _report(report, done - len(unit.layers), outcome)
        outcomes.update({name: dataclasses.asdict(each) for name, each in outcome.layers.items() if each is not None})
        if outcome.block is not None:
            blocks[unit.block] = dataclasses.asdict(outcome.block)
        report.checkpoint(done, partial(captured, ROUNDING, done, Recipe(), parts))
    facts: dict[str, Any] = {**prepared.facts, "layers": dict(outcomes)}
    if solve_block is not None:
        facts["blocks"] = dict(blocks)
    facts["allocation"] = walk.allocation.to_dict(budget.model, budget.weights)
    last: dict[str, Any] = {"epoch": 0.0, "limit": CURVE_IMAGES}
    if options.statistics:
        report_point(setup, report, model, step=layers, phase=ROUNDING, **last)
        report.phase(STATISTICS, layers)
        facts["statistics"] = dataclasses.asdict(fresh_statistics(setup, report))
    facts |= correct_model(setup, report, prepared, statistics=options.statistics)
    report_point(setup, report, model, step=total, phase=STATISTICS if options.statistics else ROUNDING, **last)
    return Compressed(model, facts)


def _report(report: Reporter, before: int, outcome: UnitOutcome) -> None:
    """Steps and lines of a unit that is done, ``before`` how many layers were done before it."""
    for place, each in enumerate(outcome.layers.values(), start=before + 1):
        if each is not None:
            report.step(place, 0.0, error=each.error, nearest=each.nearest)
    for note in outcome.notes:
        report.log(note)
