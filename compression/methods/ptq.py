"""Round to nearest: post-training quantization without any training step, the plainest of all baselines.

Every weight goes to the nearest of the 2^b - 1 values k·d, |k| <= 2^(b-1) - 1, of its layer's symmetric quantizer, the
first and last layer's like all. Nothing is trained, so that only the beginning and the end are measured: a point in
between would cost more than all the rounding.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from compression.budget import Budget
from compression.methods.base import Compressed, Reporter, Task, Uses
from compression.methods.options import Option, resolved
from compression.methods.widths import activation_widths, bits_in_words, weight_widths
from compression.quant import activation_quantizers, quantize
from compression.quant.allocation import Allocation
from compression.quant.attach import quantizable_layers
from compression.quant.nearest import rounding, set_range
from compression.quant.tables import LayerTables
from compression.training.measure import CURVE_IMAGES, curve_images, measure
from compression.training.stage import fresh_statistics, plain_batches

CALIBRATION_BATCHES = 8
START_BITS = 16
OPTIONS = (
    Option(
        "clip",
        "mse",
        "Where weights saturate: mse takes the step with the least squared error, max reaches to the largest weight.",
        choices=("mse", "max"),
    ),
    Option(
        "statistics",
        True,
        "Recompute the running statistics of batch norms after rounding, on as many training batches as settle them "
        "(at most 100); no label is used.",
        choices=(True, False),
    ),
    Option(
        "calibration",
        "percentile",
        "Range of activations: the 99.9th percentile of magnitudes on 8 training batches, or the largest one.",
        choices=("percentile", "max"),
    ),
)


class Ptq:
    """Post-training quantization: nearest rounding of a trained model, in seconds."""

    name = "ptq"
    label = "Round to nearest"
    summary = "Rounds every weight of the trained model to the nearest of its layer's values; nothing is trained."
    structured = False
    uses = Uses(bits="equal", sparsity=False, activations=True, training=False)
    options = OPTIONS

    def check(self, budget: Budget) -> None:
        """Refuse unknown options and impossible values.

        Raises:
            CompressionError: naming the option and what it may be.
        """
        resolved(budget, OPTIONS, self.name)

    def run(self, task: Task, report: Reporter) -> Compressed:
        """Quantize ``task.model`` in place: ``bits`` for every layer, activations too if the budget has bits for them.

        Raises:
            CompressionError: an unknown option, bounds of a layer that is not there, weights that are not finite.
        """
        model, budget = task.model, task.budget
        chosen = resolved(budget, OPTIONS, self.name)
        planned = plan(LayerTables.prepare(model), budget)
        total = len(planned.layers) + int(chosen["statistics"])
        report.plan(total, unit="layers")
        _tell(budget, report)
        report.phase("calibration", 0)
        _attach(task, report, chosen["calibration"])
        report.point(measure(task, model, step=0, epoch=0.0, phase="calibration", limit=curve_images(task.graph)))
        report.phase("rounding", 0)
        _round(task, report, planned)
        facts: dict[str, Any] = {}
        if chosen["statistics"]:
            report.phase("statistics", len(planned.layers))
            facts["statistics"] = dataclasses.asdict(fresh_statistics(task, report))
        last = "statistics" if chosen["statistics"] else "rounding"
        report.point(measure(task, model, step=total, epoch=0.0, phase=last, limit=CURVE_IMAGES))
        return Compressed(model, {"allocation": planned.to_dict(budget.model, budget.weights), **facts})


def plan(tables: LayerTables, budget: Budget) -> Allocation:
    """Each layer's bit-width, step and exact squared error, from the trained weights alone.

    Raises:
        CompressionError: an unknown option, or bounds of a layer that is not there.
    """
    clip = resolved(budget, OPTIONS, Ptq.name)["clip"]
    widths = weight_widths(budget, [table.name for table in tables.layers], structured=False)
    return rounding(tables, widths, clip)


def _attach(task: Task, report: Reporter, calibration: str) -> None:
    """Quantizers on every weight, at first with so many bits that nothing changes, and on activations as asked for."""
    widths = activation_widths(task.budget, list(quantizable_layers(task.model)))
    batches = None if widths is None else list(itertools.islice(plain_batches(task, report), CALIBRATION_BATCHES))
    quantize(task.model, START_BITS, batches, calibration_range="max" if calibration == "max" else "percentile")
    for name, quantizer in activation_quantizers(task.model).items():
        quantizer.set_bits((widths or {})[name])


def _round(task: Task, report: Reporter, planned: Allocation) -> None:
    """Lower one layer after the other to its bit-width."""
    for done, layer in enumerate(planned.layers, start=1):
        report.check()
        set_range(task.model, layer)
        report.step(done, 0.0, error=layer.error)


def _tell(budget: Budget, report: Reporter) -> None:
    report.log(bits_in_words(budget, structured=False))
    unused = [name for name, value in unused_fields(budget).items() if value]
    if unused:
        report.log(f"rounding to nearest prunes nothing: {', '.join(unused)} of this budget is not used")


def unused_fields(budget: Budget) -> Mapping[str, bool]:
    """What a budget may ask of other methods and this one does not follow."""
    return {
        "sparsity": budget.sparsity > 0,
        "groups": bool(budget.groups),
        "layers.sparsity": any("sparsity" in bounds for bounds in budget.layers.values()),
    }


METHOD = PTQ = Ptq()
