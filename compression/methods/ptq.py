"""Round to nearest: post-training quantization without any training step, the plainest of all baselines.

Every weight goes to the nearest of the 2^b - 1 values k·d, |k| <= 2^(b-1) - 1, of its layer's symmetric quantizer, the
first and last layer's like all. Nothing is trained, so that only the beginning and the end are measured: a point in
between would cost more than all the rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from compression.asks import EqualActivationBits, EqualBits
from compression.bounds import HIGHEST_BITS
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Subject
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.options import Real
from compression.posttraining.options import EqualizeOptions, Statistics
from compression.training.options import Ranges

if TYPE_CHECKING:
    from compression.quant.allocation import Allocation

WEIGHT_BITS, ACTIVATION_BITS = EqualBits(), EqualActivationBits()


class PtqOptions(EqualizeOptions):
    """What :class:`Ptq` takes beside its bit-widths."""

    scheme: Literal["uniform", "midrise", "power2", "residual", "ternary", "best"] = Field(
        "uniform",
        title="Values of the weights",
        description="Which values the weights of a layer may take: multiples of a step, 0 among them (uniform); odd "
        "multiples of half a step, one more (midrise); powers of two times a scale (power2, up to 5 bits); sums of b "
        "scales with signs (residual, up to 8 bits); -1, 0 and 1 times a scale (ternary, always 2 bits); or for each "
        "layer that with the least squared error (best).",
    )
    clip: Literal["mse", "percentile", "hqq", "max"] = Field(
        "mse",
        title="Range of the weights",
        description="Where weights saturate: mse takes the step with the least squared error, percentile leaves the "
        "largest weights out, max reaches to the largest weight (of a group: from its least to its largest), hqq "
        "refines the steps of groups so that few weights err much. Schemes other than uniform have mse.",
    )
    clip_percentile: Real = Field(
        99.9,
        ge=50,
        le=100,
        title="Percentile of the range",
        description="Of clip percentile: how many of 100 magnitudes of a layer lie within its range.",
    )
    group: Literal[0, 16, 32, 64, 128, 256] = Field(
        0,
        title="Weights that share a step",
        description="So many neighbouring weights of a row share a step and a zero point, 16 bits and a code; 0: all "
        "weights of a layer share one step. The last group of a row may be shorter.",
    )
    statistics: Statistics = True
    calibration: Ranges = "percentile"

    @model_validator(mode="after")
    def _check_clip(self) -> PtqOptions:
        """Refuse a range for levels that are fitted.

        Raises:
            CompressionError: naming both options.
        """
        if self.scheme != "uniform" and self.clip != "mse":
            raise CompressionError(f"ptq: clip {self.clip} is for scheme uniform, not {self.scheme}: leave clip at mse")
        if self.scheme != "uniform" and self.group:
            raise CompressionError(f"ptq: group {self.group} is for scheme uniform, not {self.scheme}: set one of them")
        if self.clip == "percentile" and self.group:
            raise CompressionError("ptq: clip percentile is for whole layers: groups have mse, hqq or max")
        if self.clip == "hqq" and not self.group:
            raise CompressionError("ptq: clip hqq refines the steps of groups: set group, to 64 for instance")
        return self

    @property
    def clip_of_steps(self) -> str:
        """How other than by the options here a step is taken, to scale channels."""
        return "max" if self.clip == "max" else "mse"


class Ptq(Method):
    """Post-training quantization: nearest rounding of a trained model, in seconds."""

    info = Info(
        name="ptq",
        label="Round to nearest",
        sentence="**Round to nearest** moves every weight to the nearest value of its layer's grid; nothing is removed "
        "or trained, it takes seconds.",
        family="quantization",
        slot=4,
        lesson="rounding",
        stages=(
            Stage("calibration", "Calibration", 0),
            Stage("rounding", "Rounding", 1),
            Stage("statistics", "Norm statistics", 3),
        ),
        trains=False,
    )
    asks = (WEIGHT_BITS, ACTIVATION_BITS)
    Config = PtqOptions
    encodings = frozenset({"uniform", "offset", "levels", "groups"})

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
            model, setup.graph, options, partial(few_batches, setup, report), _widths(setup),
            options.clip_of_steps, report,
        )  # fmt: skip
        planned = _plan(Subject(model, setup.graph), budget, options)
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
        planned = _plan(self.prepared(subject, budget), bounded, options, sampled=True)
        return dataclasses.replace(planned, notes=(*planned.notes, *unknown_before(options)))

    def caveats(self, result: Mapping[str, Any]) -> list[str]:
        """Which layers took which scheme, where the budget has one."""
        layers = result.get("facts", {}).get("allocation", {}).get("layers", ())
        return [*super().caveats(result), *filter(None, [_schemes(layers)])]

    def prepared(self, subject: Subject, budget: Budget) -> Subject:
        """The network equalized, where that takes no data."""
        from compression.posttraining.prepare import equalized

        return equalized(subject, self.options(budget))


def _schemes(layers: Sequence[Mapping[str, Any]]) -> str:
    """Which layers took which scheme, in a sentence; empty where none was chosen."""
    names: dict[str, list[str]] = {}
    for layer in layers:
        if layer.get("scheme") is not None:
            names.setdefault(layer["scheme"], []).append(layer["name"])
    if len(names) == 1:
        return f"Every layer took the scheme {next(iter(names))}."
    parts = [f"{scheme} ({len(own)}: {', '.join(own)})" for scheme, own in names.items()]
    return f"Schemes that layers took: {'; '.join(parts)}." if parts else ""


def _plan(subject: Subject, budget: Budget, options: PtqOptions, sampled: bool = False) -> Allocation:
    """Each layer's bit-width, step and error for the weights as they are; of large layers in groups an estimate."""
    from compression.quant.group_plan import group_rounding
    from compression.quant.nearest import rounding
    from compression.quant.tables import layer_weights

    if options.group:
        weights = layer_weights(subject.model)
        widths = WEIGHT_BITS.widths(budget.asks, budget.layers, list(weights))
        return group_rounding(weights, widths, options.group, options.clip, sampled)
    tables = subject.tables()
    names = [table.name for table in tables.layers]
    widths = WEIGHT_BITS.widths(budget.asks, budget.layers, names)
    return rounding(tables, widths, options.clip, scheme=options.scheme, percentile=options.clip_percentile)


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
