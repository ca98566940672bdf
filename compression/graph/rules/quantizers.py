"""PyTorch's fake quantizers: zero stays zero; a step per channel is tied to its channel."""

from __future__ import annotations

from dataclasses import replace

from compression.graph.reasons import Code
from compression.graph.rules.pointwise import zero_of_any
from compression.graph.rules.registry import Step, rule
from compression.graph.values import Factor, Value, combine


@rule("aten.fake_quantize_per_tensor_affine", "aten.fake_quantize_per_tensor_affine_cachemask",
      "aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
      "aten._fake_quantize_learnable_per_tensor_affine",
      "aten.fake_quantize_per_channel_affine", "aten.fake_quantize_per_channel_affine_cachemask",
      "aten._fake_quantize_learnable_per_channel_affine")  # fmt: skip
def fake_quantize(step: Step) -> tuple[Value, ...]:
    """Elementwise, with one step for all or one a channel."""
    data: Value = step.args[0]
    axis = step.args[3] if "per_channel" in step.op else None
    return _quantized(step, [v for v in step.args[1:3] if isinstance(v, Value)], axis, data)


@rule("aten._fused_moving_avg_obs_fq_helper")
def observed(step: Step) -> tuple[Value, ...]:
    """The same with an observer, as ``prepare_qat`` puts in: while it is on, columns of a weight decide its range."""
    data: Value = step.args[0]
    if data.weight_like and _is_on(step):
        step.provenance.freeze(data.all_atoms(), step.where, Code.observer_on)
    per_row = bool(step.arg(11, "per_row_fake_quant", False))
    return _quantized(step, list(step.args[3:7]), step.args[10] if per_row else None, data)


def _is_on(step: Step) -> bool:
    """Whether the observer's switch, a buffer of one number, is on."""
    switch = step.call.constants.get(step.call.args[1].id)
    return switch is None or bool(switch.any())


def _quantized(step: Step, parameters: list[Value], axis: int | None, data: Value) -> tuple[Value, ...]:
    factors = list(data.factors)
    if axis is not None:
        axis %= len(data.shape)
        shape = tuple(size if d == axis else 1 for d, size in enumerate(data.shape))
        steps = [_along(value, axis, shape) for value in parameters if value.shape == shape[axis : axis + 1]]
        factors = combine([data, *steps], data.shape, step.provenance, step.where, Code.quantized_per_channel)
        factors = [zero_of_any(factor, [data], len(data.shape)) for factor in factors]
    return tuple(step.output(*factors, index=i) for i in range(len(step.shapes)))


def _along(value: Value, axis: int, shape: tuple[int, ...]) -> Value:
    return replace(value, shape=shape, factors=tuple(Factor(f.atoms.reshape(shape), f.zero) for f in value.factors))
