"""Normalisation: per channel it is harmless, over channels it averages units together."""

from __future__ import annotations

from dataclasses import replace

from compression.graph.rules.registry import Step
from compression.graph.rules.registry import rule
from compression.graph.values import Factor
from compression.graph.values import Value

TOGETHER = "normalised together with its layer"


def _parameters(step: Step, values: list[Value | None], owners: Factor | None) -> None:
    """Scale, shift and running statistics go with the channels they belong to."""
    for value in values:
        if value is None:
            continue
        for factor in value.factors:
            step.atoms.norms.append(factor.atoms.ravel())
            if owners is None:
                step.atoms.freeze(factor.atoms, step.where, "normalises an axis that cannot be cut")
            else:
                step.atoms.tie(owners.atoms.ravel(), factor.atoms.ravel(), step.where, TOGETHER)


@rule("aten.native_batch_norm", "aten._native_batch_norm_legit_no_training", "aten._native_batch_norm_legit",
      "aten.cudnn_batch_norm", "aten._batch_norm_no_update", "aten.batch_norm")  # fmt: skip
def batch_norm(step: Step) -> Value:
    """Per channel: with scale and shift zeroed a channel is 0 whatever its statistics."""
    data, weight, bias, mean, var = step.args[:5]
    owners = next((f for f in data.along(1)), None)
    _parameters(step, [weight, bias, mean, var], owners)
    kept = [replace(f, zero=weight is not None and bias is not None) if 1 in f.dims else f for f in data.factors]
    if owners is None and weight is not None and weight.factors:
        shape = [1] * len(step.shape)
        shape[1] = -1
        kept.append(Factor(weight.factors[0].atoms.reshape(shape)))
    return step.output(*kept)


@rule("aten.native_layer_norm", "aten.layer_norm", "aten.rms_norm", "aten._fused_rms_norm")
def layer_norm(step: Step) -> Value:
    """Averages over the last axes: removing a unit changes the others, so those units freeze."""
    data, over = step.args[0], step.args[1]
    weight = step.arg(2, "weight")
    bias = step.arg(3, "bias") if "layer_norm" in step.op else None
    first = len(data.shape) - len(over)
    owners = [f for f in data.factors if any(d >= first for d in f.dims)]
    for factor in owners:
        step.atoms.freeze(factor.atoms, step.where, f"{_module(step)} averages over these units")
        step.atoms.blur(factor.atoms, step.where, "a norm averages over these units")
    for value in (weight, bias):
        for factor in value.factors if value is not None else ():
            step.atoms.norms.append(factor.atoms.ravel())
            lifted = factor.atoms.reshape((1,) * first + factor.atoms.shape)
            met = next((o for o in owners if set(o.dims) == {d for d, n in enumerate(lifted.shape) if n > 1}), None)
            if met is None:
                step.atoms.freeze(factor.atoms, step.where, "normalises an axis that cannot be cut")
            else:
                step.atoms.tie(met.atoms, lifted, step.where, TOGETHER)
    affine = weight is not None
    return step.output(*(replace(f, zero=affine) if any(d >= first for d in f.dims) else f for f in data.factors))


def _module(step: Step) -> str:
    return "a layer norm" if "layer_norm" in step.op else "an RMS norm"


@rule("aten.native_group_norm", "aten.group_norm")
def group_norm(step: Step) -> Value:
    """One group per channel is per channel (instance norm); wider groups average over their channels."""
    data = step.args[0]
    native = step.op == "aten.native_group_norm"
    weight, bias = (step.args[1], step.args[2]) if native else (step.arg(2, "weight"), step.arg(3, "bias"))
    groups = step.args[6] if native else step.args[1]
    channels = data.shape[1]
    owners = next((f for f in data.along(1)), None)
    _parameters(step, [weight, bias], owners)
    if owners is not None and groups != channels:
        step.atoms.freeze(owners.atoms, step.where, "a group norm averages over these units")
        step.atoms.blur(owners.atoms, step.where, "a norm averages over these units")
    affine = weight is not None and bias is not None
    return step.output(*(replace(f, zero=f.zero and (affine or groups == channels)) for f in data.factors))


@rule("aten._softmax", "aten._safe_softmax", "aten._log_softmax", "aten.softmax", "aten.log_softmax", "aten.cumsum")
def softmax(step: Step) -> Value:
    """Along an owned axis it mixes units; along another it only loses their zeros."""
    data: Value = step.args[0]
    dim = step.args[1] % len(data.shape)
    for factor in data.along(dim):
        step.atoms.freeze(factor.atoms, step.where, "a softmax runs over these units")
    return step.output(*(f for f in data.factors if dim not in f.dims)).nonzero()


@rule("aten.argmax", "aten.argmin", "aten.topk", "aten.sort", "aten.max", "aten.min")
def ranking(step: Step) -> tuple[Value, ...]:
    """Ranking over an owned axis depends on every unit."""
    for value in step.operands:
        step.atoms.freeze(value.all_atoms(), step.where, f"{step.op.split('.')[1]} over these units")
    return tuple(step.output(index=i) for i in range(len(step.shapes)))
