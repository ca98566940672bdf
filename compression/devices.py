"""Devices: chosen once by name; from then on everything is computed where the model is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from compression.errors import CompressionError, RunFailed

if TYPE_CHECKING:
    import torch
    from torch import nn

AUTO, CPU = "auto", "cpu"
NAMES = "auto, cpu, cuda, cuda:N, mps or xpu"
ACCELERATORS = ("cuda", "xpu", "mps")
"""In the order in which ``auto`` looks for them."""
VARIABLE = "COMPRESSION_DEVICE"
"""The environment variable with the name that ``auto`` stands for."""
_NAME = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d{1,3})?")


def check_name(name: str) -> str:
    """The name of a device, checked as far as that goes without looking for it.

    Raises:
        CompressionError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise CompressionError(f"device must be {NAMES}, not {name!r}")
    return name


def choose(name: str = AUTO) -> torch.device:
    """The device of a name; ``auto``: what COMPRESSION_DEVICE says, else the first accelerator there is, else the CPU.

    Raises:
        CompressionError: no such name, or no such device on this machine.
    """
    import torch

    name = _resolved(name)
    kind, _, number = check_name(name).partition(":")
    if kind == AUTO:
        kind = next((each for each in ACCELERATORS if _count(each)), CPU)
    if kind == CPU:
        return torch.device(CPU)
    count = _count(kind)
    if not count:
        raise CompressionError(f"there is no {kind} device on this machine (as torch {torch.__version__} sees it)")
    if int(number or 0) >= count:
        raise CompressionError(f"there is no {name} on this machine: its {kind} devices are 0 to {count - 1}")
    return torch.device(kind, int(number or 0))


def _resolved(name: str) -> str:
    return os.environ.get(VARIABLE) or AUTO if name == AUTO else name


def _count(kind: str) -> int:
    """How many devices of this kind torch sees."""
    import torch

    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = getattr(torch, kind)
    return int(module.device_count()) if module.is_available() else 0


def check_count(name: str, count: int) -> None:
    """Refuse more devices than there are; where the CPU is named, they are processes.

    Raises:
        CompressionError: there is none or there are fewer, or the name is that of a single one.
    """
    name = _resolved(name)
    kind = choose(name).type
    if count == 1 or name == CPU:
        return
    if ":" in name:
        raise CompressionError(f"{name} is one device: name its kind alone for {count}")
    if kind != "cuda" or _count(kind) < count:
        number = _count(kind) if kind == "cuda" else 0
        raise CompressionError(f"{count} GPUs: torch sees {number} here")


def device_of(model: nn.Module) -> torch.device:
    """The device of a model: that of its first parameter or buffer."""
    import torch

    first = next(model.parameters(), next(model.buffers(), None))
    return torch.device(CPU) if first is None else first.device


def label(device: torch.device) -> str:
    """What a result says of a device: ``cpu``, or its name and what hardware it is."""
    import torch

    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def send(values: Any, device: torch.device) -> Any:
    """The tensors of ``values`` (a tensor, or tuples and dicts of them) on a device, without waiting for the copy."""
    import torch
    from torch.utils._pytree import tree_map_only

    def sent(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device == device:
            return tensor
        pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == CPU else tensor
        return pinned.to(device, non_blocking=True)

    return tree_map_only(torch.Tensor, sent, values)


def exact_dtype(device: torch.device) -> torch.dtype:
    """fp64, in which scalars of quantizers are computed; fp32 on MPS, which has no fp64."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def fitting(device: torch.device, batch_size: int = 1) -> Iterator[None]:
    """Name the batch size to try next where the memory of the device does not suffice; 1: it would not help.

    Raises:
        RunFailed: it does not suffice.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        if batch_size > 1:
            way_out = f"with batches of {batch_size}: try --batch-size {batch_size // 2}"
            raise RunFailed(f"out of memory on {device} {way_out}") from error
        raise RunFailed(f"out of memory on {device}: choose another, or a smaller model or input") from error


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        words in str(error) for words in ("out of memory", "can't allocate memory")
    )
