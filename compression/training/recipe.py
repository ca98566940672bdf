"""How a training step is computed on this machine: number format and memory layout, chosen by a quick measurement."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from compression import devices
from compression.budget import PRECISIONS
from compression.errors import CompressionError
from compression.graph.copies import deep_copy
from compression.graph.inputs import Example, Inputs, call, first_tensor

GAIN = 1.15  # bf16 must be this much faster before it is preferred to the exact fp32
SMALL = 5_000_000  # multiply-accumulates an image below which fp32 is kept unmeasured: bf16 would gain nothing there
SECONDS = 0.9  # spent on measuring
MALLOC_SETTINGS = {-3: 256 << 20, -1: 512 << 20}  # glibc's M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, bytes
IMAGES, VALUES = 32, 32 * 3 * 64 * 64  # of the example that a measured step uses at most


@dataclass(frozen=True)
class Recipe:
    """How steps are computed: ``precision`` is ``fp32`` or ``bf16`` (autocast; weights stay fp32), ``why`` says why."""

    precision: str = "fp32"
    channels_last: bool = True
    threads: int = 1
    why: str = "fp32: exact, the default"
    device: str = "cpu"

    def autocast(self) -> AbstractContextManager[None]:
        """The context a forward pass runs in; ``device`` is the type of device that it is for."""
        if self.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16)

    def on(self, device: torch.device, model: nn.Module, images: int) -> Recipe:
        """The same for another device, at so many images a step: an interrupted run may go on elsewhere."""
        unsafe = device.type == devices.CPU and _overruns(model, images, torch.get_num_threads())
        return replace(self, device=device.type, channels_last=self.channels_last and not unsafe)

    def prepare(self, x: Any) -> Any:
        """A tensor [B, C, H, W], or those in a tuple or dict, in the memory layout of this recipe; other ranks stay."""
        if not isinstance(x, torch.Tensor):
            return tree_map_only(torch.Tensor, self.prepare, x)
        if x.dim() != 4:
            return x
        return x.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def prepare_model(self, model: nn.Module) -> nn.Module:
        """The same model with its weights of rank 4 in the memory layout of this recipe (in place)."""
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = self.prepare(tensor.data)
        return model


@cache
def keep_memory() -> bool:
    """Let this process keep the memory that a training step frees instead of returning it to the system each time.

    Activations of some megabytes are otherwise mapped anew, page by page, in every step: measured on ResNet-20 at batch
    128, 12,800 page faults and 17 % of the processor time a step. Returns whether the C library has such a setting
    (glibc's ``mallopt``); without it nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in MALLOC_SETTINGS.items())


_CHOSEN: dict[tuple[object, ...], Recipe] = {}


def choose_recipe(model: nn.Module, example: Example, precision: str = "auto") -> Recipe:
    """Choose the precision for training ``model`` on batches like ``example`` ([B, C, H, W] fp32, normalised).

    ``auto`` keeps small models exact; of others it times a few forward and backward steps of copies (about a second,
    once per model and process) and takes bf16 only when it gains clearly, so that the choice repeats on one machine.
    ``fp32`` and ``bf16`` are obeyed. From here on the process keeps freed memory (:func:`keep_memory`).

    Raises:
        CompressionError: ``precision`` is none of ``auto``, ``fp32``, ``bf16``.
    """
    keep_memory()
    device = devices.device_of(model)
    if precision not in PRECISIONS:
        raise CompressionError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    threads = torch.get_num_threads()
    shapes_in = [tuple(tensor.shape) for tensor in Inputs.read(example).tensors]
    batch = shapes_in[0][0]
    if device.type != "cpu":
        return _on_accelerator(model, example, precision, device)
    if _overruns(model, batch, threads):
        chosen = Recipe("fp32" if precision == "auto" else precision, False, threads)
        return replace(chosen, why=f"{chosen.precision}, contiguous: {batch} images a step are an odd number")
    if precision != "auto":
        return Recipe(precision, threads=threads, why=f"{precision}: asked for")
    shapes = tuple((name, tuple(parameter.shape)) for name, parameter in model.named_parameters())
    key = (type(model).__name__, shapes, tuple(shape[1:] for shape in shapes_in), threads)
    if key not in _CHOSEN:
        _CHOSEN[key] = _choose(model, example, threads)
    return _CHOSEN[key]


def _on_accelerator(model: nn.Module, example: Example, precision: str, device: torch.device) -> Recipe:
    """As on the CPU, but not measured: accelerators that compute in bf16 gain by it where there is much to compute."""
    recipe = Recipe(precision, True, torch.get_num_threads(), f"{precision}: asked for", device.type)
    if precision != "auto":
        return recipe
    macs = _macs(model, example)
    size = f"at {macs / 1e6:.1f} million MACs an image"
    if macs < SMALL:
        return replace(recipe, precision="fp32", why=f"fp32, channels_last: {size} small enough to stay exact")
    if device.type == "cuda" and not _computes_in_bf16(device):
        return replace(recipe, precision="fp32", why=f"fp32, channels_last: {device} does not compute in bf16")
    return replace(recipe, precision="bf16", why=f"bf16, channels_last: {size} worth it on {device}")


def _computes_in_bf16(device: torch.device) -> bool:
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported()


def _overruns(model: nn.Module, images: int, threads: int) -> bool:
    """Whether a step in channels_last would write past its memory.

    oneDNN does on processors with AVX-512 (seen with torch 2.14), with several threads, in the backward pass of a
    pointwise convolution of stride 2 from fewer than 16 channels at an odd number of images: the process dies.
    """
    pointwise = (m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1))
    return threads > 1 and images % 2 == 1 and any(max(m.stride) > 1 and m.in_channels < 16 for m in pointwise)


def _choose(model: nn.Module, example: Example, threads: int) -> Recipe:
    macs = _macs(model, example)
    if macs < SMALL:
        why = f"fp32, channels_last: at {macs / 1e6:.1f} million MACs an image small enough to stay exact"
        return Recipe("fp32", True, threads, why)
    values = sum(tensor[0].numel() for tensor in Inputs.read(example).tensors)
    count = max(2, min(IMAGES, VALUES // values))
    return _decide(*_measure(model, _first(example, count)), threads)


def _first(example: Example, count: int) -> Example:
    """The first examples of a batch."""
    return Inputs.read(example).map(lambda tensor: tensor[:count]).example


def _macs(model: nn.Module, example: Example) -> int:
    """Multiply-accumulates of one image's forward pass, on a copy: the model is left as it is."""
    with torch.random.fork_rng(devices=[]), torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(deep_copy(model).eval(), _first(example, 1))
    return counter.get_total_flops() // 2


def _measure(model: nn.Module, example: Example) -> tuple[float, float]:
    """Milliseconds of processor time of the fastest step in fp32 and in bf16, on copies: the model is left as it is.

    The two take turns on one core, so that whatever else the machine does meets both alike; the first turn warms up,
    unless it took half the time there is.
    """
    recipes = (Recipe("fp32"), Recipe("bf16"))
    copies = [recipe.prepare_model(deep_copy(model).train()) for recipe in recipes]
    best, start, turn = [float("inf"), float("inf")], time.perf_counter(), 0
    with torch.random.fork_rng(devices=[]), _one_thread():
        while turn < 2 or (turn < 20 and time.perf_counter() - start < SECONDS):
            taken = [_step(each, example, recipe) for each, recipe in zip(copies, recipes, strict=True)]
            slow = time.perf_counter() - start > SECONDS / 2
            if turn > 0 or slow:
                best = [min(pair) for pair in zip(best, taken, strict=True)]
            turn += 2 if turn == 0 and slow else 1
    return best[0], best[1]


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _step(model: nn.Module, example: Example, recipe: Recipe) -> float:
    """Milliseconds of processor time of one forward and backward pass: what other programs take does not count."""
    begin = time.process_time()
    with recipe.autocast():
        output = call(model, recipe.prepare(example))
    first_tensor(output).float().square().mean().backward()
    return (time.process_time() - begin) * 1000


def _decide(exact: float, half: float, threads: int) -> Recipe:
    times = f"a step of up to {IMAGES} images took {exact:.1f} ms of one core in fp32, {half:.1f} ms in bf16"
    if exact > GAIN * half:
        return Recipe("bf16", True, threads, f"bf16, channels_last: {exact / half:.1f} times as fast here ({times})")
    return Recipe("fp32", True, threads, f"fp32, channels_last: bf16 gains too little here ({times})")
