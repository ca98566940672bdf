"""Can a network be compressed and trained at all? Told before a run is started, by a step on two images of its data."""

from __future__ import annotations

import math

import torch
from torch import nn

from compression import devices
from compression.data import Batches
from compression.errors import CompressionError
from compression.graph import Graph
from compression.graph.copies import deep_copy
from compression.tasks import Task
from compression.training.loop import answer_and_loss
from compression.training.recipe import Recipe

FEW = 2  # images of the step that is tried: more would only cost more


def check_compressible(model: nn.Module, graph: Graph, name: str) -> None:
    """Refuse a network without weights to compress, or with weights that are not finite.

    Raises:
        CompressionError: naming the layer or parameter.
    """
    if not graph.layers:
        raise CompressionError(f"{name} has no convolution and no linear layer with weights: nothing can be compressed")
    for layer in graph.layers:
        if 0 in layer.shape:
            size = "x".join(map(str, layer.shape))
            raise CompressionError(f"{name}: the weight of layer {layer.name} is empty ({size}): remove the layer")
    _check_numbers(model, name)


def check_prunable(model: nn.Module, graph: Graph, name: str) -> None:
    """Refuse to remove units of a network whose function does not let some of their parameters be trained.

    Raises:
        CompressionError: naming the parameter.
    """
    parameters = dict(model.named_parameters())
    for group in graph.prunable:
        for member in group.members:
            parameter = parameters.get(member.name)
            if parameter is not None and not parameter.requires_grad:
                raise CompressionError(
                    f"{name}: {member.name} is not trained (requires_grad is False) but is part of group {group.id}, "
                    "of which units are to be removed: let it be trained, or choose a method that removes none"
                )


def check_trainable(model: nn.Module, task: Task, name: str, batch_size: int) -> None:
    """Take one training step's forward and backward pass on a copy, with at most two images.

    Raises:
        CompressionError: no parameter is trained, or why the step fails (a batch norm and batches of one image).
    """
    if not any(parameter.requires_grad and parameter.numel() for parameter in model.parameters()):
        raise CompressionError(f"{name} has no parameters to train")
    _check_numbers(model, name)
    tried = deep_copy(model).train()
    try:
        few = Batches(task.data, "train", min(batch_size, FEW), augment=False, device=devices.device_of(tried))
        x, y = few.batch(0, 0)
        with torch.random.fork_rng(devices=[]):
            answer, loss = answer_and_loss(task, tried, x, y, Recipe())
            loss().backward()
            score = task.batch_score(answer.detach(), y)
    except CompressionError:
        raise
    except Exception as error:  # of a network's or a task's own code
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        advice = ": use a larger batch size" if batch_size == 1 else ""
        size = min(batch_size, FEW)
        raise CompressionError(f"{name} cannot be trained on batches of {size}: {line}{advice}") from error
    _check_score(task, score)


def _check_score(task: Task, score: object) -> None:
    """Refuse the score of a batch that is no number.

    Raises:
        CompressionError: naming the metric.
    """
    number = score.item() if isinstance(score, torch.Tensor) and score.numel() == 1 else score
    if not isinstance(number, (int, float)) or not math.isfinite(number):
        raise CompressionError(
            f"the {task.metric.label} of a batch of {task.name} must be a finite number, not {score!r}"
        )


def _check_numbers(model: nn.Module, name: str) -> None:
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CompressionError(f"{name}: {key} holds NaN or infinite numbers: train the network again")
