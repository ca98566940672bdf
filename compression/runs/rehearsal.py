"""Whether a run can reach its end with this network: tried before the first step, so that no training is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph import Graph, deep_copy, slim_report
from compression.graph.copies import meta_copy
from compression.graph.inputs import Example, Inputs, call, first_tensor
from compression.graph.running import in_mode
from compression.pack.restore import restore_slim
from compression.pack.storable import check_storable
from compression.quant import fold, quantize
from compression.quant.attach import quantizable_layers
from compression.quant.attachable import check_layers
from compression.tasks import Task

TRIAL_BITS = 8


def check_answers(model: nn.Module, example: Example, task: Task, outputs: int) -> None:
    """Refuse a network that cannot be trained, measured and saved.

    Args:
        model: the network; not changed.
        example: a batch [B, …] of what it takes; nothing is computed with it unless the model needs values.
        task: what it is for.
        outputs: how many logits (or channels) it must answer for each example, or each of its pixels.

    Raises:
        CompressionError: state that no file holds, answers of another shape than the task's, no gradients, or an input
            that it changes in place.
    """
    check_storable(model.state_dict())
    inputs = Inputs.read(example)
    try:
        _check_passes(_without_values(model), inputs.map(lambda x: x.to("meta")), task, outputs)
    except CompressionError:
        raise
    except Exception:  # forward() looks at values, or creates tensors itself: then for real, on a copy
        with _refused("cannot be trained"):
            _check_passes(deep_copy(model), inputs, task, outputs)


def check_quantizable(model: nn.Module) -> None:
    """Refuse a network whose layers cannot carry quantizers, or compute in another precision than a run stores.

    Raises:
        CompressionError: naming the layer.
    """
    layers = quantizable_layers(model)
    check_layers(layers)
    for name, layer in layers.items():
        if (kind := layer.get_parameter("weight").dtype) is not torch.float32:
            raise CompressionError(f"layer {name!r} computes in {kind}, and a run stores fp32: return model.float()")


def rehearse(model: nn.Module, graph: Graph) -> None:
    """Carry a copy of the untrained network through the end of a run: quantize, fold, slim and store it.

    Raises:
        CompressionError: the reason why it cannot.
    """
    with _refused("cannot be carried through a run"):
        plain, _ = slim_report(fold(quantize(deep_copy(model), TRIAL_BITS)).eval(), graph)
        check_storable(plain.state_dict())
        plain.load_state_dict(plain.state_dict())
        restore_slim(model, graph, {}, plain.state_dict())  # as an export does
        _check_repeats(plain, graph)


@torch.no_grad()
def _check_repeats(model: nn.Module, graph: Graph) -> None:
    """Refuse a network that answers the same input otherwise each time: what is measured of it would say nothing."""
    example = graph.example(2)
    with torch.random.fork_rng(devices=[]):
        first, second = (first_tensor(call(model, example)) for _ in range(2))
    if not torch.allclose(first, second, equal_nan=True):
        raise CompressionError("the model draws random numbers in evaluation: let forward() do so in training only")


def _check_passes(model: nn.Module, inputs: Inputs, task: Task, outputs: int) -> None:
    expected = task.answer_shape(inputs.example, outputs)
    for training in (False, True):
        mode, versions = "training" if training else "evaluation", [x._version for x in inputs.tensors]
        with in_mode(model, training), torch.random.fork_rng(devices=[]), inputs.tensors[0].device:
            output = task.answer(model, inputs.example)
        if expected is not None and output.shape != expected:
            needed = ", ".join(map(str, expected[1:]))
            raise CompressionError(
                f"the model must answer logits [B, {needed}] in {mode}, not {tuple(output.shape)} for B = 2"
            )
        if [x._version for x in inputs.tensors] != versions:
            raise CompressionError("the model changes its input in place: let forward() work on a copy, x = x.clone()")
        if training and not output.requires_grad:
            raise CompressionError("no gradient reaches the model's parameters: they are frozen, or forward() stops it")


def _without_values(model: nn.Module) -> nn.Module:
    """A copy in which no number is computed; whatever forward() keeps stays in it."""
    twin = meta_copy(model)
    for mine, its in zip(twin.parameters(), model.parameters(), strict=True):
        mine.requires_grad_(its.requires_grad)
    return twin


@contextmanager
def _refused(what: str) -> Iterator[None]:
    """Whatever a user's forward raises, in one line."""
    try:
        yield
    except CompressionError:
        raise
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0]
        raise CompressionError(f"the model {what}: {type(error).__name__}: {line}") from error
