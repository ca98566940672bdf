"""What a budget asks for against what the model can give, told before a run starts."""

from __future__ import annotations

from compression.budget import Budget
from compression.errors import CompressionError
from compression.methods.base import Task
from compression.methods.geta.schedule import Stages, fitting
from compression.pruning.choose import Limits, target_units
from compression.quant.attach import quantizable_layers
from compression.training.loop import total_steps


def check_task(task: Task) -> None:
    """Refuse a budget that this model, this data set or this length of run cannot give; ``task`` is left as it is.

    Raises:
        CompressionError: too many or too few units, bits for a layer that has none, a stage without enough steps.
    """
    budget, graph = task.budget, task.graph
    bounds = {name: tuple(each["sparsity"]) for name, each in budget.groups.items() if "sparsity" in each}
    target = target_units(budget.sparsity, graph.prunable_units)
    Limits.of(graph.prunable, bounds).check(target)
    _check_bits(budget, list(quantizable_layers(task.model)))
    total = total_steps(task.data, budget.batch_size, budget.epochs)
    Stages.of(fitting(budget.schedule, total), total, prunes=target > 0)


def _check_bits(budget: Budget, layers: list[str]) -> None:
    if not layers:
        raise CompressionError("the model has no convolution or linear layer to quantize")
    for layer, bounds in budget.layers.items():
        for kind in ("weight_bits", "activation_bits"):
            if bounds.get(kind) is None:
                continue
            if layer not in layers:
                raise CompressionError(f"layers.{layer}.{kind}: no such layer to quantize; layers: {', '.join(layers)}")
            if bounds[kind][1] > budget.schedule.start_bits:
                raise CompressionError(
                    f"layers.{layer}.{kind}: {bounds[kind][1]:g} is above schedule.start_bits "
                    f"{budget.schedule.start_bits:g}"
                )
            if kind == "activation_bits" and budget.activation_bits is None:
                raise CompressionError(
                    f"layers.{layer}.activation_bits: set activation_bits too, so that activations are quantized"
                )
