"""Which tensors of a recording can never be negative: quantizers of these need no sign."""

from __future__ import annotations

from typing import TypeGuard

from compression.graph.rules.registry import Step
from compression.graph.values import Value

ALWAYS = frozenset("relu relu6 sigmoid hardsigmoid softmax safe_softmax abs square exp".split())
"""Operations that never return a negative number."""
KEEP = frozenset(
    """view unsafe_view reshape permute transpose t expand unsqueeze squeeze select slice split split_with_sizes unbind
    clone detach alias contiguous lift_fresh dropout native_dropout mean sum amax amin max_pool1d
    max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d
    reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d pixel_shuffle pixel_unshuffle channel_shuffle
    gelu silu hardswish mish selu celu leaky_relu tanh sqrt round floor ceil fake_quantize""".split()
)
"""Operations that return no negative number where their first operand has none."""
JOIN = frozenset("add mul div cat stack minimum fmin bmm".split())
"""Operations that return no negative number where no operand has one."""


def never_negative(step: Step) -> bool:
    """Whether the result of an operation has no negative number, whatever the network's input and weights are.

    False where nothing is known: for parameters, inputs, and operations that are not listed here.
    """
    name = step.name.strip("_")
    if name in ALWAYS:
        return True
    if name in KEEP:
        return _has_none(step.args[0])
    if name in JOIN:
        factors = (*step.args, *step.kwargs.values()) if name in ("add", "mul", "div") else ()  # elsewhere: dimensions
        return all(map(_has_none, step.operands)) and all(number >= 0 for number in filter(_number, factors))
    if name in ("clamp", "clamp_min", "hardtanh", "threshold", "constant_pad_nd"):
        return _from_zero(name, step)
    if name == "softplus":
        return bool(step.arg(1, "beta", 1) > 0)
    if name == "to_copy":
        kind = step.kwargs.get("dtype")
        return _has_none(step.args[0]) and (kind is None or kind.is_floating_point)
    if name == "elu":
        return _has_none(step.args[0]) and step.arg(2, "scale", 1) >= 0 and step.arg(3, "input_scale", 1) >= 0
    if name == "pow":
        exponent = step.arg(1, "exponent")
        return (_number(exponent) and exponent % 2 == 0) or _has_none(step.args[0])
    return name in ("maximum", "fmax") and any(_has_none(value) for value in step.operands)


def _from_zero(name: str, step: Step) -> bool:
    """The same for operations with bounds or values in their arguments."""
    if name == "constant_pad_nd":
        return _has_none(step.args[0]) and step.arg(2, "value", 0) >= 0
    if name == "threshold":
        return bool(step.arg(1, "threshold") >= 0 and step.arg(2, "value") >= 0)
    default = -1 if name == "hardtanh" else None
    low = step.arg(1, "min_val" if name == "hardtanh" else "min", default)
    high = step.arg(2, "max_val" if name == "hardtanh" else "max", 1)
    return _number(low) and low >= 0 and (high is None or (_number(high) and high >= 0))


def _has_none(value: object) -> bool:
    return isinstance(value, Value) and value.nonnegative


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float))
