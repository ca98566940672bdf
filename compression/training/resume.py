"""Going on where an interrupted run stopped: what a checkpoint holds, so that the rest is the same bit for bit.

A resumed method does its deterministic preparations again (trace, ranges, allocation) and then lets each training stage
take over what was stored: stages that were over are skipped, the one that was interrupted goes on after its last step::

    first = go_on(report, "fine-tuning", parts, 0, last)      # None: this stage was over
    for step in steps(..., start=first):
        ...
        report.checkpoint(done, lambda: captured("fine-tuning", done, recipe, parts))
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from compression import devices
from compression.errors import CompressionError
from compression.reading import short
from compression.training.loop import check_finite
from compression.training.recipe import Recipe
from compression.training.setup import Reporter

_RESTART = "delete checkpoint.pt in the run's folder, and the run starts again"


class Stateful(Protocol):
    """A model, an optimizer, a learning-rate schedule: whatever gives its state and takes it back."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and words; not a copy."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take over what :meth:`state_dict` gave."""


def captured(stage: str, step: int, recipe: Recipe, parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """What a checkpoint after ``step`` steps of the run holds, in the middle or at the end of ``stage``.

    Raises:
        RunFailed: a parameter is no longer finite: the last checkpoint, from which one can go on, is not replaced.
    """
    for part in parts.values():
        if isinstance(part, nn.Module):
            check_finite(part)
    return {
        "stage": stage,
        "step": step,
        "recipe": dataclasses.asdict(recipe),
        "random": _random_states(_device_of(parts)),
        "parts": {name: _on_cpu(part.state_dict()) for name, part in parts.items()},
    }


def go_on(report: Reporter, stage: str, parts: Mapping[str, Stateful], first: int, last: int) -> int | None:
    """The step (from 0) at which ``stage`` goes on: ``first`` in a fresh run, None when the stage was over already.

    In the stage that was interrupted, which takes the steps from ``first`` to ``last`` (not included), ``parts`` and
    the random generators get back what the checkpoint holds.

    Raises:
        CompressionError: the checkpoint does not fit this stage or these parts.
    """
    saved = report.saved
    if saved is None:
        return first
    if saved["stage"] != stage:
        return None
    step = int(saved["step"])
    if not first <= step <= last:
        raise CompressionError(f"the checkpoint is of step {step}, {stage} takes steps {first} to {last}; {_RESTART}")
    for name, part in parts.items():
        with _fitting(name):
            part.load_state_dict(saved["parts"][name])
    with _fitting("random"):
        _set_random_states(saved["random"], _device_of(parts))
    report.saved = None
    report.log(f"goes on after step {step}, where the last checkpoint was written")
    return step


def saved_recipe(report: Reporter) -> Recipe | None:
    """How the steps of the interrupted run were computed: measuring again could choose otherwise.

    Raises:
        CompressionError: the checkpoint does not hold it.
    """
    if report.saved is None:
        return None
    with _fitting("recipe"):
        return Recipe(**report.saved["recipe"])


def check_taken_over(report: Reporter) -> None:
    """Refuse the outcome of a method none of whose stages took the checkpoint over: it would be an untrained model.

    Raises:
        CompressionError: the checkpoint names a stage that this run does not have.
    """
    if report.saved is not None:
        stage = short(report.saved["stage"])
        raise CompressionError(f"the checkpoint is of stage {stage}, none of this run; {_RESTART}")


@contextlib.contextmanager
def _fitting(part: str) -> Iterator[None]:
    """Name the part of a checkpoint that does not fit what it is loaded into."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[-1].strip()
        problem = f"{type(error).__name__}: {reason}"
        raise CompressionError(f"the checkpoint's {part!r} does not fit this run ({problem}); {_RESTART}") from error


def _on_cpu(state: Any) -> Any:
    """The same state with its tensors on the CPU: it may be loaded on another device."""
    if isinstance(state, torch.Tensor):
        return state.cpu()
    if isinstance(state, (list, tuple)):
        return type(state)(map(_on_cpu, state))
    if not isinstance(state, dict):
        return state
    moved = state.copy()  # with the attributes of a module's state dict
    moved.update((name, _on_cpu(value)) for name, value in state.items())
    return moved


def _device_of(parts: Mapping[str, Stateful]) -> torch.device:
    """Where the model among the parts is."""
    models = (part for part in parts.values() if isinstance(part, nn.Module))
    return devices.device_of(next(models, nn.Identity()))


def _random_states(device: torch.device) -> dict[str, Any]:
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss),
        **({} if device.type == devices.CPU else {device.type: _module(device).get_rng_state(*_numbered(device))}),
    }


def _module(device: torch.device) -> Any:
    return torch.get_device_module(device)


def _numbered(device: torch.device) -> tuple[torch.device, ...]:
    """The device, where there may be several of its type."""
    return () if device.type == "mps" else (device,)


def _set_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["torch"])
    if device.type in states:
        _module(device).set_rng_state(states[device.type], *_numbered(device))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
