"""Several processes train one model: each takes a part of every batch, and their gradients are averaged.

All of them begin with the same seed, take the same steps and decide the same, so that they hold the same weights
throughout; the first one measures, reports and stores. Without a process group of ``torch.distributed`` there is one.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from compression import devices
from compression.errors import RunFailed
from compression.tasks import Task
from compression.training.wire import Wire, averaged

T = TypeVar("T")


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def part() -> tuple[int, int]:
    """Which examples of each batch this process takes: its number, and of how many."""
    return rank(), size()


def shared(value: T) -> T:
    """The value that the first process has, for all of them; every process calls this."""
    if size() == 1:
        return value
    values: list[Any] = [value]
    distributed.broadcast_object_list(values, src=0)
    result: T = values[0]
    return result


class _Answers(nn.Module):
    """The step of a task on a model, as one module: what a task does with its model is its own."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.task, self.model = task, model

    def forward(self, x: Any, target: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.task.training_answer(self.model, x, target)


def averaging(task: Task, model: nn.Module, wire: Wire | None = None) -> nn.Module:
    """``model``, or what stands for it in :func:`training_answer` where several processes train.

    A backward pass leaves the gradients averaged over all of them then. Buffers are those of the first process before
    every forward pass. Make it once the parameters are final. With a ``wire`` gradients are rounded on their way.
    """
    if size() == 1:
        return model
    device = devices.device_of(model)
    ids = [device.index] if device.type == "cuda" else None
    # Which parameters get a gradient is not known: blocks may be skipped, in some steps only
    together = DistributedDataParallel(_Answers(task, model), device_ids=ids, find_unused_parameters=True)
    if wire is not None:
        together.register_comm_hook(wire, averaged)
    return together


def training_answer(task: Task, model: nn.Module, x: Any, target: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The task's :meth:`Task.training_answer`, on a model or on what :func:`averaging` gave."""
    if isinstance(model, DistributedDataParallel):
        result: tuple[torch.Tensor, torch.Tensor | None] = model(x, target)
        return result
    return task.training_answer(model, x, target)


@torch.no_grad()
def take_first(model: nn.Module) -> None:
    """Give the model of every process the parameters and buffers of the first one's: what each measured by itself
    differs where norms saw their own part of the batches.
    """
    if size() > 1:
        for tensor in (*model.parameters(), *model.buffers()):
            distributed.broadcast(tensor, src=0)


@torch.no_grad()
def check_same(model: nn.Module) -> None:
    """Make sure that all processes hold the same weights.

    Raises:
        RunFailed: they do not.
    """
    if size() == 1:
        return
    exact = devices.exact_dtype(devices.device_of(model))
    own = torch.stack([parameter.sum(dtype=exact) for parameter in model.parameters()])
    first = own.clone()
    distributed.broadcast(first, src=0)
    differ = torch.tensor(float(not torch.equal(own, first)), device=own.device)
    distributed.all_reduce(differ)
    if float(differ) > 0:
        raise RunFailed("the processes of this run hold different weights: please report this")
