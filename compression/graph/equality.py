"""Whether two networks compute the same: first as they are, and where rounding blurs the answer once more in fp64."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from compression.errors import CompressionError
from compression.graph import user_frame
from compression.graph.copies import deep_copy
from compression.graph.inputs import Example, Inputs
from compression.graph.running import DoesNotRun, evaluating, repeatable

SURELY_EQUAL = 1e-6  # of the output's largest magnitude: up to this value fp32 needs no check in fp64
EQUAL_FP64 = 1e-9
EQUAL_FP32 = 1e-5  # where a network does not run in fp64


@torch.no_grad()
def outputs(model: nn.Module, inputs: Example | Inputs, name: str = "the model") -> list[torch.Tensor]:
    """Every tensor the model returns in evaluation mode, in fp64 (complex numbers as pairs).

    A copy is run, always from the same random seed, so that what a forward pass writes or draws is no part of the
    answer. ``name`` stands for the model in the refusal.

    Raises:
        DoesNotRun: the model does not run on these inputs, whatever it raises.
    """
    twin = evaluating(deep_copy(model))
    try:
        with repeatable(model):
            returned = tree_leaves(Inputs.read(inputs).map(torch.clone).call(twin))
    except Exception as error:
        where = user_frame.running_module(error, twin)
        place = f", in its module {where}" if where else ""
        raise DoesNotRun(f"{name} does not run: {user_frame.first_line(error).rstrip('.')}{place}") from error
    return [_as_double(leaf) for leaf in returned if isinstance(leaf, torch.Tensor)]


def _as_double(tensor: torch.Tensor) -> torch.Tensor:
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return real.cpu().double()  # on the CPU: not every device has fp64


def difference(expected: list[torch.Tensor], got: list[torch.Tensor]) -> float:
    """The largest absolute difference of outputs of the same shapes; equal infinities differ by 0, a NaN gives NaN."""
    return _largest(_gap(left, right) for left, right in zip(expected, got, strict=True))


def _gap(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return _most(torch.where(left == right, 0.0, (left - right).abs()))


def _most(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.max() if tensor.numel() else tensor.new_zeros(())


def _largest(values: Iterable[torch.Tensor]) -> float:
    return float(_most(torch.stack([torch.zeros(()), *(value.cpu() for value in values)])))


def check_equal(
    first: nn.Module, second: nn.Module, inputs: Example | Inputs, expected: list[torch.Tensor], against: str
) -> float:
    """The largest difference between two networks that must compute the same.

    Args:
        first: one network, in any precision.
        second: the other one.
        inputs: what both are run on.
        expected: the outputs of the first.
        against: the first in words, for the refusal.

    Raises:
        CompressionError: the second does not run, returns other shapes, or a difference that rounding does not explain;
            or the first does not even repeat itself.
    """
    result = outputs(second, inputs, "the slim model")
    if [x.shape for x in expected] != [x.shape for x in result]:
        shapes = " and ".join(", ".join(str(tuple(x.shape)) for x in side) for side in (result, expected))
        raise CompressionError(f"the slim model's output has shape {shapes.replace(' and ', ', not ')}")
    if not (relative := _relative(expected, result)) <= SURELY_EQUAL:
        _check_in_fp64(first, second, inputs, relative, against)
    return difference(expected, result)


def _check_in_fp64(
    first: nn.Module, second: nn.Module, inputs: Example | Inputs, relative_fp32: float, against: str
) -> None:
    """Compare again in fp64: the difference of a wrong cut remains, that of rounding does not."""
    exact = Inputs.read(inputs).double()
    try:
        pair = [outputs(deep_copy(model).double(), exact) for model in (first, second)]
        relative, limit = _relative(*pair), EQUAL_FP64
    except DoesNotRun:  # it creates fp32 tensors itself
        relative, limit = relative_fp32, EQUAL_FP32
    if relative <= limit:
        return
    first_run, second_run = (outputs(first, inputs) for _ in range(2))
    if any(bool(x.isnan().any()) for x in first_run):
        raise CompressionError(f"{against} returns NaN on these inputs, with which nothing can be compared: refused")
    if not _relative(first_run, second_run) <= SURELY_EQUAL:
        raise CompressionError(
            "the model does not repeat itself: it returns another output each time it runs on the same inputs, so no "
            "cut can be checked; let it draw its random numbers from torch, or none in evaluation mode"
        )
    raise CompressionError(f"the slim model differs from {against} by {relative:.1e} of the output: refused")


def _relative(expected: list[torch.Tensor], got: list[torch.Tensor]) -> float:
    """The largest difference of any output over that output's largest finite magnitude."""
    tiny = torch.finfo(torch.float32).tiny
    return _largest(
        _gap(left, right) / _most(left.nan_to_num(0, 0, 0).abs()).clamp(min=tiny)
        for left, right in zip(expected, got, strict=True)
    )
