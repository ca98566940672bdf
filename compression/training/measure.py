"""Measuring a model in the middle of its compression: its score on a split, and what its present state would cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import nn

from compression import encodings
from compression.counting import sizes as counting
from compression.errors import RunFailed
from compression.graph import Graph
from compression.points import Point
from compression.quant import activation_quantizers, integer_weights, weight_quantizers
from compression.training.dense import evaluate
from compression.training.loop import check_finite, check_score

if TYPE_CHECKING:
    from compression.training.setup import Reporter, Setup

CURVE_IMAGES, FEWEST_IMAGES, CURVE_MACS = 1000, 100, 5e10


def measure(
    setup: Setup, model: nn.Module, *, step: int, epoch: float, phase: str, split: str = "validation",
    limit: int | None = None,
) -> Point:  # fmt: skip
    """Evaluate ``model`` in its present state and count what it would take: zero units cut out, codes entropy-coded.

    Args:
        setup: the graph and data the model belongs to.
        model: the masked model, quantizers attached or not; its mode (train/eval) does not change.
        step, epoch, phase: where in the run this is.
        split: ``validation`` for everything that may choose, ``test`` for final points only.
        limit: use only the first so many images.

    Raises:
        RunFailed: the model is no longer finite, or its loss is not.
    """
    check_finite(model)
    result = evaluate(model, setup.task, split, limit=limit)
    if not math.isfinite(result.loss):
        raise RunFailed(f"training diverged (the {split} loss is not finite): choose a smaller learning rate")
    check_score(setup.task, result.score, split)
    state: dict[str, Any] = sizes(model, setup.graph)
    metric = setup.task.metric.name
    where: dict[str, Any] = {"step": step, "epoch": epoch, "phase": phase, "split": split}
    return Point(**where, score=result.score, metric=metric, loss=result.loss, **state)


def report_point(setup: Setup, report: Reporter, model: nn.Module, **where: Any) -> None:
    """Report what :func:`measure` says, and what the model's answers look like, where the task can show it.

    Raises:
        RunFailed: see :func:`measure`.
    """
    point = measure(setup, model, **where)
    report.point(point)
    picture = setup.task.picture(model)
    if picture is not None:
        report.picture(point.step, picture)


def curve_images(graph: Graph) -> int:
    """How many validation images a point on the way takes: 1,000, fewer where one image takes much arithmetic.

    The points of a run would otherwise take longer than its training; the last one counts more.
    """
    return max(FEWEST_IMAGES, min(CURVE_IMAGES, int(CURVE_MACS / max(graph.macs, 1))))


def bit_widths(model: nn.Module) -> dict[str, dict[str, float | None]]:
    """Layer → its weight and activation bit-width now; only layers that carry a quantizer."""
    weights = {name: float(quantizer.bits()) for name, quantizer in weight_quantizers(model).items()}
    activations = {name: float(quantizer.bits()) for name, quantizer in activation_quantizers(model).items()}
    names = dict.fromkeys([*weights, *activations])
    return {name: {"weight": weights.get(name), "activation": activations.get(name)} for name in names}


def sizes(model: nn.Module, graph: Graph) -> dict[str, Any]:
    """The size fields of a point for the model's present state."""
    return counting.sizes(model, graph, bit_widths(model), integer_weights(model), encodings.size_of)
