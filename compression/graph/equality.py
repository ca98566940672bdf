"""Whether two networks compute the same: first as they are, and where rounding blurs the answer once more in fp64."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from compression.errors import CompressionError

SURELY_EQUAL = 1e-6  # of the output's largest magnitude: up to here fp32 needs no second look
EQUAL_FP64 = 1e-9
EQUAL_FP32 = 1e-5  # where a network does not run in fp64


@torch.no_grad()
def outputs(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """Every tensor the model returns in evaluation mode, in fp64; the model's mode is kept."""
    modes = {module: module.training for module in model.modules()}
    try:
        returned = tree_leaves(model.eval()(*inputs))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return [leaf.double() for leaf in returned if isinstance(leaf, torch.Tensor)]


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
    first: nn.Module, second: nn.Module, inputs: tuple[torch.Tensor, ...], expected: list[torch.Tensor], against: str
) -> float:
    """The largest difference between two networks that must compute the same.

    Args:
        first: one network, in any precision.
        second: the other one.
        inputs: what both are run on.
        expected: the outputs of the first.
        against: the first in words, for the refusal.

    Raises:
        CompressionError: other shapes, or a difference that rounding does not explain.
    """
    got = outputs(second, inputs)
    for left, right in zip(expected, got, strict=True):
        if left.shape != right.shape:
            raise CompressionError(f"the slim model's output has shape {tuple(right.shape)}, not {tuple(left.shape)}")
    if not (seen := _relative(expected, got)) <= SURELY_EQUAL:
        _look_again(first, second, inputs, seen, against)
    return difference(expected, got)


def _look_again(
    first: nn.Module, second: nn.Module, inputs: tuple[torch.Tensor, ...], seen: float, against: str
) -> None:
    """In fp64, where a wrong cut differs as much as before and rounding does not."""
    exact = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    try:
        pair = [outputs(copy.deepcopy(model).double(), exact) for model in (first, second)]
        relative, limit = _relative(*pair), EQUAL_FP64
    except (RuntimeError, TypeError):  # it makes fp32 tensors of its own
        relative, limit = seen, EQUAL_FP32
    if not relative <= limit:
        raise CompressionError(f"the slim model differs from {against} by {relative:.1e} of the output: refused")


def _relative(expected: list[torch.Tensor], got: list[torch.Tensor]) -> float:
    """The largest difference of any output over that output's largest finite magnitude."""
    tiny = torch.finfo(torch.float32).tiny
    return _largest(
        _gap(left, right) / _most(left.nan_to_num(0, 0, 0).abs()).clamp(min=tiny)
        for left, right in zip(expected, got, strict=True)
    )
