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


def averaging(model: nn.Module, unused: bool) -> nn.Module:
    """What to call in the place of ``model`` so that a backward pass leaves the gradients averaged over all processes.

    Buffers are those of the first process before every forward pass. Make it once the parameters are final. ``unused``:
    whether some of them get no gradient.
    """
    device = devices.device_of(model)
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=unused)


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
