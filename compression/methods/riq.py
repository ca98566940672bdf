"""RIQ: rotation-invariant quantization, in which one number for the whole network decides every layer's step.

The step of a layer is in proportion to its norm (:mod:`compression.posttraining.norm_steps` has the formula and why):
an allocation of OPQ with ω = energy whose cost is coded bits. What is asked for is an average of *coded* bits, or how
far the outputs may deviate; nothing is trained.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from compression.asks import CodedBits, check_taking_part
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.options import Integer, Real
from compression.posttraining.options import Statistics
from compression.training.options import QuantizationOptions

if TYPE_CHECKING:
    from compression.posttraining.norm_steps import NormLayer
    from compression.quant.allocation import Allocation

BITS = CodedBits()
ENOUGH, NAMED = 0.97, 4  # of the bits, below which it is said why not more are spent; layers named in a note


class RiqOptions(QuantizationOptions):
    """What :class:`Riq` takes beside its bits."""

    target: Literal["bits", "deviation"] = Field(
        "bits",
        title="Aim of the steps",
        description="What the steps are as fine as: the average coded bits allow (bits), or the outputs need in order "
        "not to deviate more than deviation says (deviation), whatever bits that takes: the bits asked for are not "
        "read then.",
    )
    deviation: Real = Field(
        0.005,
        ge=1e-7,
        le=1,
        title="Deviation of the outputs allowed",
        description="With target deviation: 1 - the mean cosine between the outputs of the dense and of the quantized "
        "network may be so much, on at most 1,000 validation inputs; no label is used.",
    )
    floor: Real = Field(
        0.01,
        ge=0,
        le=1,
        title="Least deviation of a layer",
        description="ε: a layer is not coded so finely that 1 - the cosine between its weights and the quantized ones "
        "falls below ε². At 0.01 a weight takes about 6.4 bits at most; 0 lets bits rise as far as asked.",
    )
    smallest: Integer = Field(
        512,
        ge=0,
        le=1_000_000_000,
        title="Layers too small to be coded finely",
        description="Layers of fewer weights keep 8 bits, or the next that their bounds allow, and the step with the "
        "least squared error: their tables of counts would cost more than coding them saves.",
    )
    statistics: Statistics = True


class Riq(Method):
    """Rotation-invariant quantization: steps in proportion to norms, as fine as the coded size or the outputs allow."""

    info = Info(
        name="riq",
        label="RIQ",
        sentence="**RIQ** gives every layer a step in proportion to its norm, as fine as the bits allow that "
        "entropy-coded weights take; nothing is removed or trained.",
        family="quantization",
        slot=8,
        lesson="norms",
        stages=(
            Stage("search", "Search", 0),
            Stage("rounding", "Rounding", 1),
            Stage("statistics", "Norm statistics", 3),
        ),
        paper="arXiv 2303.03106",
        trains=False,
    )
    asks = (BITS,)
    Config = RiqOptions

    def check(self, setup: Setup) -> None:
        """Refuse bounds of layers that are not there, and weights that are no numbers.

        Raises:
            CompressionError: naming the layer.
        """
        from compression.quant.tables import check_numbers, layer_weights

        super().check(setup)
        weights = layer_weights(setup.model)
        check_taking_part(setup.budget.layers, list(weights))
        for name, weight in weights.items():
            check_numbers(name, weight)

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Quantize ``setup.model`` in place: within the budget's coded bits, or at the coarsest steps of a deviation.

        Raises:
            CompressionError: an unknown option, bounds of a layer that is not there, or a target out of reach.
        """
        from compression.quant.fixed_steps import attach
        from compression.training.measure import CURVE_IMAGES, curve_images, report_point
        from compression.training.preparation import fresh_statistics

        model, options = setup.model, self.options(setup.budget)
        layers = self._layers(Subject(model, setup.graph), setup.budget)
        few, total = curve_images(setup.graph), len(layers) + int(options.statistics)
        report.plan(total, unit="layers")
        report.phase("search", 0)
        search = _by_deviation if options.target == "deviation" else _by_size
        allocation, refit, facts = search(layers, setup, report, options)
        for note in allocation.notes:
            report.log(note)
        report.phase("rounding", 0)
        attach(model, allocation)
        for done, layer in enumerate(allocation.layers, start=1):
            report.step(done, 0.0, error=layer.error)
        if refit:
            report_point(setup, report, model, step=len(layers), epoch=0.0, phase="rounding", limit=few)
            report.phase("statistics", len(layers))
            facts["statistics"] = dataclasses.asdict(fresh_statistics(setup, report))
        last = "statistics" if refit else "rounding"
        report_point(setup, report, model, step=total, epoch=0.0, phase=last, limit=CURVE_IMAGES)
        return Compressed(model, {"allocation": allocation.to_dict(setup.budget.model, setup.budget.weights), **facts})

    def allocation(self, subject: Subject, budget: Budget) -> Allocation:
        """Each layer's step, width and coded bytes, of a target of bits.

        Raises:
            CompressionError: an unknown option, bounds of a layer that is not there, fewer bits than the layers take at
                least, or a target of deviation.
        """
        from compression.posttraining.norm_steps import number_for_size

        if self.options(budget).target == "deviation":
            raise CompressionError(
                "riq: target deviation is measured on data, in a run: there is no allocation before it (target bits: "
                "there is)"
            )
        layers, bits = self._layers(subject, budget), BITS.value(budget.asks)
        return _allocation(layers, number_for_size(layers, _size(layers, bits)), bits)

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """What the allocation comes to; a target of deviation is unknown before the run."""
        if self.options(budget).target == "deviation":
            return Forecast.unknown("How fine the steps must be for this deviation is measured on data, in the run.")
        return super().forecast(subject, budget)

    def describe(self, budget: Budget) -> str:
        """The bits, or in their place how far outputs may deviate where that is the target."""
        options: RiqOptions = self.options(budget)
        described, words = super().describe(budget), BITS.words(BITS.value(budget.asks))
        if options.target == "bits":
            return described
        return described.replace(words, f"outputs that deviate by at most {options.deviation:g}", 1)

    def caveats(self, result: Mapping[str, Any]) -> list[str]:
        """That widths and coded bits are two things, with the numbers of this run."""
        widths = [each["weight"] for each in result.get("final", {}).get("bits", {}).values()]
        coded = result.get("facts", {}).get("coded_bits")
        other = (
            "Bits were asked for as the packed file codes them; no other file has that size: ONNX stores integers of "
            "2, 4, 8 or 16 bits."
        )
        if coded is None or not widths:
            return [*super().caveats(result), other]
        return [
            *super().caveats(result),
            other,
            f"Its values take {coded:.2f} bits a weight in the packed file, as integers {_between(widths)} wide: BOPs "
            "and nominal bytes count the widths, the packed file the coded length.",
        ]

    def _layers(self, subject: Subject, budget: Budget) -> tuple[NormLayer, ...]:
        from compression.posttraining.norm_steps import norm_layers
        from compression.quant.tables import layer_weights

        options, budget = self.options(budget), self.bounded(budget, subject.graph)
        tables = subject.tables()
        check_taking_part(budget.layers, [table.name for table in tables.layers])
        return norm_layers(tables, layer_weights(subject.model), budget.layers, options.floor, options.smallest)


def _by_size(
    layers: Sequence[NormLayer], setup: Setup, report: Reporter, options: RiqOptions
) -> tuple[Allocation, bool, dict[str, Any]]:
    """The allocation of a target of bits; whether norms are refitted; and what there is to say of it."""
    from compression.posttraining.norm_steps import number_for_size

    bits = BITS.value(setup.budget.asks)
    k = number_for_size(layers, _size(layers, bits), report.check)
    allocation = _allocation(layers, k, bits)
    return allocation, options.statistics, _facts(layers, k, allocation)


def _by_deviation(
    layers: Sequence[NormLayer], setup: Setup, report: Reporter, options: RiqOptions
) -> tuple[Allocation, bool, dict[str, Any]]:
    """The same of a target of deviation, every k measured with norms refitted if the run will refit them.

    Where refitted norms alone deviate too much, as statistics of augmented images may, they are not refitted.
    """
    from compression.posttraining.deviation import Outputs, number_for_deviation, rounded
    from compression.training.measure import curve_images
    from compression.training.preparation import plain_batches
    from compression.training.recalibrate import settle_statistics

    outputs = Outputs(setup.model, setup.task, curve_images(setup.graph), report.check)
    reached: dict[float, float] = {}

    def search(refit: bool) -> float:
        def measured(k: float) -> float:
            with rounded(setup.model, layers, k):
                if refit:
                    settle_statistics(setup.model, plain_batches(setup, report))
                reached[k] = outputs.deviation(setup.model)
            report.log(f"k = {k:.4g}: the outputs deviate by {reached[k]:.3g}")
            return reached[k]

        return number_for_deviation(layers, measured, options.deviation)

    refit = options.statistics
    try:
        k = search(refit)
    except CompressionError as error:
        if not refit:
            raise
        report.log(f"{error}; tried again with the norms' statistics as they are")
        k, refit = search(False), False
    allocation = _allocation(layers, k, None)
    facts = {"deviation": reached[k], "inputs": outputs.limit}
    return allocation, refit, {**_facts(layers, k, allocation), **facts}


def _facts(layers: Sequence[NormLayer], k: float, allocation: Allocation) -> dict[str, Any]:
    from compression.posttraining.norm_steps import coded_bits

    distortions = {layer.table.name: layer.distortion(k) for layer in layers}
    return {"k": k, "coded_bits": coded_bits(allocation), "distortions": distortions}


def _size(layers: Sequence[NormLayer], bits: float) -> int:
    """Whole bytes of so many bits a weight."""
    return math.floor(bits * sum(layer.table.size for layer in layers) / 8)


def _allocation(layers: Sequence[NormLayer], k: float, bits: float | None) -> Allocation:
    """The allocation at k, with what is to be said of it; ``bits`` were asked for, or ``None``."""
    from compression.posttraining.norm_steps import allocate, coded_bits

    allocation = allocate(layers, k)
    coded, widths = coded_bits(allocation), [layer.bits for layer in allocation.layers]
    notes = [
        f"{coded:.3f} coded bits a weight on average (k = {k:.4g}), as integers {_between(widths)} wide: BOPs count "
        "the widths, bytes the coded length."
    ]
    if bits is not None and coded < ENOUGH * bits:
        notes.append(
            f"Steps cannot be finer within the floor, 16 bits and the bounds of layers: {coded:.2f} of {bits:g} coded "
            "bits are spent."
        )
    if zeros := [plan.name for layer, plan in zip(layers, allocation.layers, strict=True) if layer.distortion(k) == 1]:
        shown = ", ".join(zeros[:NAMED]) + (" …" if len(zeros) > NAMED else "")
        notes.append(f"Every weight rounds to 0 in {len(zeros)} of {len(layers)} layers: {shown}.")
    return dataclasses.replace(allocation, notes=tuple(notes))


def _between(widths: Sequence[float]) -> str:
    low, high = min(widths), max(widths)
    return f"{low:g} bits" if low == high else f"{low:g} to {high:g} bits"


METHOD = RIQ = Riq()
