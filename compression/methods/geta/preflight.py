"""What a budget asks for against what the model can give, checked before a run starts."""

from __future__ import annotations

from compression.budget import Budget
from compression.errors import CompressionError
from compression.methods.geta.options import ACTIVATION_BITS, WEIGHT_BITS
from compression.methods.geta.schedule import Schedule, Stages, fitting
from compression.pruning.target import check_target
from compression.quant.attach import quantizable_layers
from compression.training.loop import total_steps
from compression.training.setup import Setup


def check_reachable(setup: Setup, schedule: Schedule, order: str) -> None:
    """Refuse a budget that this model, this data set or this length of run cannot give; ``setup`` does not change.

    Raises:
        CompressionError: too many or too few units, bits for a layer that has none, a stage without enough steps.
    """
    budget, graph = setup.budget, setup.graph
    prunes = check_target(graph, budget, WEIGHT_BITS, ACTIVATION_BITS)
    _check_bits(budget, list(quantizable_layers(setup.model)), schedule.start_bits)
    total = total_steps(setup.data, budget.batch_size, budget.epochs)
    Stages.from_schedule(fitting(schedule, total, order), total, prunes=prunes, order=order)


def _check_bits(budget: Budget, layers: list[str], start_bits: float) -> None:
    if not layers:
        raise CompressionError("the model has no convolution or linear layer to quantize")
    for layer, bounds in budget.layers.items():
        for kind in ("weight_bits", "activation_bits"):
            if bounds.get(kind) is None:
                continue
            if layer not in layers:
                raise CompressionError(f"layers.{layer}.{kind}: no such layer to quantize; layers: {', '.join(layers)}")
            if bounds[kind][1] > start_bits:
                raise CompressionError(
                    f"layers.{layer}.{kind}: {bounds[kind][1]:g} is above schedule.start_bits {start_bits:g}"
                )
