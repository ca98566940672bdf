"""What a method without training calls before it rounds and after it, as its budget's options say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from compression.forecast import Subject
from compression.graph import Example, Graph, deep_copy
from compression.posttraining.bias import correct_biases, normed_layers
from compression.posttraining.equalize import equalize
from compression.posttraining.expected_inputs import expected_inputs
from compression.posttraining.options import EqualizeOptions
from compression.training.preparation import CALIBRATION_BATCHES, fresh_statistics, plain_batches
from compression.training.setup import Reporter, Setup

CORRECTION_BATCHES = 4
"""Of bias correction, which runs the network once for every layer on each."""


@dataclass
class Prepared:
    """``facts`` for the result of the run; ``dense``: the network before it is rounded, where it is needed again;
    ``means``: what flows into layers on average, where that is known without data (option ``correction``)."""

    facts: dict[str, Any] = field(default_factory=dict)
    dense: nn.Module | None = None
    means: dict[str, torch.Tensor] | None = None


def prepare_model(
    model: nn.Module, graph: Graph, options: EqualizeOptions, batches: Callable[[], Sequence[Example]],
    bits: Mapping[str, int], clip: str = "mse", report: Reporter | None = None,
) -> Prepared:  # fmt: skip
    """Equalize ``model``, in place, before quantizers are attached and before anything is read of its weights.

    Args:
        batches: inputs of the model, called where some are read.
        bits: layer → the bit-width of its weight, which ``awq`` rounds to; ``clip`` says with which step.

    Raises:
        CompressionError: the equalized model computes something else; it is unchanged then.
    """
    prepared = Prepared()
    if options.equalize != "none":
        report = report or Reporter()
        done = equalize(
            model, graph, options.equalize, None if options.equalize == "cle" else batches(),
            alpha=options.smoothing, bits=bits, clip=clip, absorb=options.absorb, check=report.check,
        )  # fmt: skip
        report.log(
            f"equalized ({options.equalize}): {sum(pair.units for pair in done.pairs):,} channels of "
            f"{len(done.pairs)} pairs; the output differs by {done.difference:.1e} of its largest value"
        )
        prepared.facts["equalize"] = done.to_dict()
    if options.bias_correction:
        prepared.dense = deep_copy(model)
        if options.correction == "formula":
            prepared.means = expected_inputs(prepared.dense, graph)
    return prepared


def few_batches(setup: Setup, report: Reporter) -> list[Example]:
    """The training inputs, without augmentation, that a run equalizes with."""
    return list(plain_batches(setup, report, CALIBRATION_BATCHES))


def correct_model(setup: Setup, report: Reporter, prepared: Prepared, *, statistics: bool) -> dict[str, Any]:
    """Correct the biases of the rounded ``setup.model``, in place, if the options say so; returns facts.

    Call it after batch-norm statistics were taken anew (``statistics``): these have absorbed the errors of the layers
    in front of them. Where a corrected layer comes before a batch norm, they are taken once more.
    """
    if prepared.dense is None:
        return {}
    norms = normed_layers(prepared.dense, setup.graph)
    skip, means = norms if statistics else (), prepared.means
    batches = list(plain_batches(setup, report, CORRECTION_BATCHES)) if means is None else []
    corrections = correct_biases(
        setup.model, prepared.dense, setup.graph, batches, skip=skip, means=means, check=report.check
    )
    order = [layer.name for layer in setup.graph.layers]
    places = [order.index(each.layer) for each in corrections]
    if statistics and places and any(order.index(name) > min(places) for name in norms):
        fresh_statistics(setup, report)
    report.log(f"biases of {len(corrections)} layers corrected{'' if means is None else ' by formula'}")
    alone = [] if means is None else [name for name in order if name not in means and name not in skip]
    if alone:
        report.log(f"left alone, since no batch norm is directly in front of them or of their ReLU: {', '.join(alone)}")
    return {"bias_correction": [each.to_dict() for each in corrections]}


def equalized(subject: Subject, options: EqualizeOptions) -> Subject:
    """The subject whose weights a method rounds, as far as that is known without data."""
    if options.equalize != "cle":
        return subject

    def change(model: nn.Module) -> None:
        equalize(model, subject.graph, "cle", absorb=options.absorb)

    return subject.derived(f"cle, absorb {options.absorb}", change)


def unknown_before(options: EqualizeOptions) -> tuple[str, ...]:
    """What an allocation made without data does not know, in sentences."""
    if options.equalize in ("none", "cle"):
        return ()
    return (
        f"equalize {options.equalize} scales channels by what the run reads of the data: steps and errors are those of "
        "the weights before.",
    )
