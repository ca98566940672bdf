"""Round to nearest: post-training quantization without any training step, the plainest of all baselines.

Every weight goes to the nearest of the 2^b - 1 values k·d, |k| <= 2^(b-1) - 1, of its layer's symmetric quantizer, the
first and last layer's like all. Nothing is trained, so that only the beginning and the end are measured: a point in
between would cost more than all the rounding.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from compression.asks import EqualActivationBits, EqualBits
from compression.bounds import HIGHEST_BITS
from compression.budget import Budget
from compression.forecast import Subject
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.posttraining.options import EqualizeOptions, Statistics
from compression.training.options import Ranges

if TYPE_CHECKING:
    from compression.quant.allocation import Allocation
    from compression.quant.tables import LayerTables

WEIGHT_BITS, ACTIVATION_BITS = EqualBits(), EqualActivationBits()


class PtqOptions(EqualizeOptions):
    """What :class:`Ptq` takes beside its bit-widths."""

    clip: Literal["mse", "max"] = Field(
        "mse",
        description="Where weights saturate: mse takes the step with the least squared error, max reaches to the "
        "largest weight.",
    )
    statistics: Statistics = True
    calibration: Ranges = "percentile"


class Ptq(Method):
    """Post-training quantization: nearest rounding of a trained model, in seconds."""

    info = Info(
        name="ptq",
        label="Round to nearest",
        sentence="**Round to nearest** moves every weight to the nearest value of its layer's grid; nothing is removed "
        "or trained, it takes seconds.",
        family="quantization",
        slot=4,
        stages=(
            Stage("calibration", "Calibration", 0),
            Stage("rounding", "Rounding", 1),
            Stage("statistics", "Norm statistics", 3),
        ),
        trains=False,
    )
    asks = (WEIGHT_BITS, ACTIVATION_BITS)
    Config = PtqOptions

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Quantize ``setup.model`` in place: ``bits`` for every layer, activations too if the budget has bits for them.

        Raises:
            CompressionError: an unknown option, bounds of a layer that is not there, weights that are not finite.
        """
        from compression.posttraining.prepare import correct_model, few_batches, prepare_model
        from compression.training.measure import CURVE_IMAGES, curve_images, report_point
        from compression.training.preparation import fresh_statistics

        setup = self.bounded_setup(setup)
        model, budget = setup.model, setup.budget
        options: PtqOptions = self.options(budget)
        prepared = prepare_model(
            model, setup.graph, options, partial(few_batches, setup, report), _widths(setup), options.clip, report
        )
        planned = _plan(Subject(model, setup.graph).tables(), budget, options)
        total = len(planned.layers) + int(options.statistics)
        report.plan(total, unit="layers")
        report.phase("calibration", 0)
        _attach(setup, report, options)
        limit = curve_images(setup.graph)
        report_point(setup, report, model, step=0, epoch=0.0, phase="calibration", limit=limit)
        report.phase("rounding", 0)
        _round(setup, report, planned)
        facts: dict[str, Any] = prepared.facts
        if options.statistics:
            report.phase("statistics", len(planned.layers))
            facts["statistics"] = dataclasses.asdict(fresh_statistics(setup, report))
        facts |= correct_model(setup, report, prepared, statistics=options.statistics)
        last = "statistics" if options.statistics else "rounding"
        report_point(setup, report, model, step=total, epoch=0.0, phase=last, limit=CURVE_IMAGES)
        return Compressed(model, {"allocation": planned.to_dict(budget.model, budget.weights), **facts})

    def allocation(self, subject: Subject, budget: Budget) -> Allocation:
        """Each layer's bit-width, step and exact squared error.

        Raises:
            CompressionError: an unknown option, or bounds of a layer that is not there.
        """
        from compression.posttraining.prepare import unknown_before

        options, bounded = self.options(budget), self.bounded(budget, subject.graph)
        planned = _plan(self.prepared(subject, budget).tables(), bounded, options)
        return dataclasses.replace(planned, notes=(*planned.notes, *unknown_before(options)))

    def prepared(self, subject: Subject, budget: Budget) -> Subject:
        """The network equalized, where that takes no data."""
        from compression.posttraining.prepare import equalized

        return equalized(subject, self.options(budget))


def _plan(tables: LayerTables, budget: Budget, options: PtqOptions) -> Allocation:
    """Each layer's bit-width, step and error for the weights as they are."""
    from compression.quant.nearest import rounding

    names = [table.name for table in tables.layers]
    return rounding(tables, WEIGHT_BITS.widths(budget.asks, budget.layers, names), options.clip)


def _widths(setup: Setup) -> dict[str, int]:
    """Layer → the bit-width of its weight."""
    from compression.quant.tables import layer_weights

    return WEIGHT_BITS.widths(setup.budget.asks, setup.budget.layers, list(layer_weights(setup.model)))


def _attach(setup: Setup, report: Reporter, options: PtqOptions) -> None:
    """Quantizers on all weights, at first with so many bits that nothing changes; on activations if they have bits."""
    from compression.quant import activation_quantizers, quantize
    from compression.quant.attach import quantizable_layers
    from compression.training.preparation import calibration_batches

    budget = setup.budget
    if ACTIVATION_BITS.value(budget.asks) is None:
        quantize(setup.model, HIGHEST_BITS)
        return
    widths = ACTIVATION_BITS.widths(budget.asks, budget.layers, list(quantizable_layers(setup.model)))
    batches = calibration_batches(setup, report)
    quantize(
        setup.model,
        HIGHEST_BITS,
        batches,
        calibration_range=options.calibration,
        range_bits=lambda layer: widths[layer],
        unsigned=setup.graph.nonnegative_inputs if options.unsigned else (),
    )
    for name, quantizer in activation_quantizers(setup.model).items():
        quantizer.set_bits(widths[name])


def _round(setup: Setup, report: Reporter, planned: Allocation) -> None:
    """Lower one layer after the other to its bit-width."""
    from compression.quant.nearest import set_range

    for done, layer in enumerate(planned.layers, start=1):
        report.check()
        set_range(setup.model, layer)
        report.step(done, 0.0, error=layer.error)


METHOD = PTQ = Ptq()
