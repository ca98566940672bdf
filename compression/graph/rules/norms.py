"""Normalisation: per channel it is harmless, over channels it averages units together.

An average over units freezes them; ``trace(…, inexact=True)`` allows removing them and marks their groups inexact.
"""

from __future__ import annotations

from dataclasses import replace

from compression.graph.provenance import Array
from compression.graph.reasons import Code, Reason
from compression.graph.rules.registry import Step, rule
from compression.graph.values import Factor, Value


def _parameters(step: Step, values: list[Value | None], owners: Factor | None) -> None:
    """Tie scale, shift and running statistics to the channels they belong to."""
    for value in values:
        if value is None:
            continue
        for factor in value.factors:
            step.provenance.norms.append(factor.atoms.ravel())
            if owners is None:
                step.provenance.freeze(factor.atoms, step.where, Code.normalises_fixed_axis)
            else:
                step.provenance.tie(owners.atoms.ravel(), factor.atoms.ravel(), step.where, Code.normalised_with_layer)


@rule("aten.native_batch_norm", "aten._native_batch_norm_legit_no_training", "aten._native_batch_norm_legit",
      "aten.cudnn_batch_norm", "aten._batch_norm_no_update", "aten.batch_norm")  # fmt: skip
def batch_norm(step: Step) -> Value:
    """Per channel: with scale and shift zeroed a channel is 0 whatever its statistics."""
    data, weight, bias = step.args[:3]
    own_statistics = _uses_own_statistics(step)
    mean, var = (None, None) if own_statistics else step.args[3:5]
    owners = next((f for f in data.along(1)), None)
    if owners is not None and owners.dims != (1,):
        owners = step.keep(owners, [d for d in owners.dims if d != 1], Code.normalised_with_layer)
    _parameters(step, [weight, bias, mean, var], owners)
    affine = _zeroed(weight) and (bias is None or _zeroed(bias))
    factors = []
    for factor in data.factors:
        if 1 in factor.dims:
            zero = affine or (own_statistics and weight is None and bias is None and factor.zero)
            factors.append(replace(owners if owners is not None else factor, zero=zero))
        elif own_statistics:
            step.provenance.freeze(factor.atoms, step.where, Reason(Code.norm_averages, {"norm": "a norm"}))
        else:
            factors.append(replace(factor, zero=False))
    if owners is None and weight is not None and weight.factors:
        shape = [1] * len(step.shape)
        shape[1] = -1
        factors.append(Factor(weight.factors[0].atoms.reshape(shape)))
    return step.output(*factors)


def _uses_own_statistics(step: Step) -> bool:
    """Whether mean and variance are those of the data, as in an instance norm."""
    if step.op == "aten._native_batch_norm_legit" and isinstance(step.args[3], bool):
        return step.args[3]
    place = {"aten.native_batch_norm": 5, "aten._native_batch_norm_legit": 5, "aten.batch_norm": 5,
             "aten.cudnn_batch_norm": 5}.get(step.op)  # fmt: skip
    return place is not None and bool(step.args[place])


def _zeroed(value: Value | None) -> bool:
    """Whether a scale or shift is zero in every zeroed unit."""
    return value is not None and bool(value.factors) and all(factor.zero for factor in value.factors)


@rule("aten.native_layer_norm", "aten.layer_norm", "aten.rms_norm", "aten._fused_rms_norm")
def layer_norm(step: Step) -> Value:
    """Averages over the last axes: removing a unit changes the others, so those units freeze."""
    data, over = step.args[0], step.args[1]
    weight = step.arg(2, "weight")
    bias = step.arg(3, "bias") if "layer_norm" in step.op else None
    first = len(data.shape) - len(over)
    inside = range(first, len(data.shape))
    boxes = [f for f in data.factors if set(f.dims) & set(inside) and set(f.dims) - set(inside)]
    owners = [f for f in data.factors if set(f.dims) & set(inside) and f not in boxes]
    heads = [step.keep(f, inside, Reason(Code.norm_along_heads, {"norm": _module(step)})) for f in boxes]
    for factor in owners:
        step.provenance.average(factor.atoms, step.where, Reason(Code.norm_averages, {"norm": _module(step)}))
    for value in (weight, bias):
        for factor in value.factors if value is not None else ():
            step.provenance.norms.append(factor.atoms.ravel())
            lifted = factor.atoms.reshape((1,) * first + factor.atoms.shape)
            owner = next((o for o in owners if set(o.dims) == {d for d, n in enumerate(lifted.shape) if n > 1}), None)
            if owner is None:
                step.provenance.freeze(factor.atoms, step.where, Code.normalises_fixed_axis)
            else:
                step.provenance.tie(owner.atoms, lifted, step.where, Code.normalised_with_layer)
    affine = _zeroed(weight) and (bias is None or _zeroed(bias))
    factors = [replace(f, zero=affine) for f in owners]
    factors += [replace(f, zero=f.zero and bias is None) for f in heads if f is not None]
    factors += [replace(f, zero=f.zero and bias is None) for f in data.factors if not set(f.dims) & set(inside)]
    return step.output(*factors)


def _module(step: Step) -> str:
    return "a layer norm" if "layer_norm" in step.op else "an RMS norm"


@rule("aten.native_group_norm", "aten.group_norm")
def group_norm(step: Step) -> Value:
    """One group per channel is an instance norm; a wider group is removed as a whole, which changes no other group."""
    data = step.args[0]
    native = step.op == "aten.native_group_norm"
    weight, bias = (step.args[1], step.args[2]) if native else (step.arg(2, "weight"), step.arg(3, "bias"))
    groups = step.args[6] if native else step.args[1]
    channels = data.shape[1]
    owners = next((f for f in data.along(1)), None)
    if owners is not None and owners.dims != (1,):
        owners = step.keep(owners, [d for d in owners.dims if d != 1], Code.normalised_with_layer)
    _parameters(step, [weight, bias], owners)
    whole = groups == channels or owners is None or _whole_groups(step, owners.atoms.reshape(groups, -1))
    affine = _zeroed(weight) and (bias is None or _zeroed(bias))
    plain = weight is None and bias is None
    factors = []
    for factor in data.factors:
        if 1 in factor.dims:
            factors.append(replace(owners or factor, zero=affine or (plain and factor.zero and whole)))
        else:
            step.provenance.freeze(factor.atoms, step.where, Reason(Code.norm_averages, {"norm": "a group norm"}))
    return step.output(*factors)


def _whole_groups(step: Step, channels: Array) -> bool:
    """Tie channels [groups, channels per group] so that whole normalisation groups are removed; True if possible.

    With ``inexact``, or with a single group, the same places in every group are tied instead.
    """
    if len(channels) > 1 and not step.provenance.inexact:
        step.provenance.tie(channels, channels[:, :1], step.where, Code.one_norm_group)
        return True
    step.provenance.tie(channels, channels[:1], step.where, Code.every_norm_group)
    step.provenance.average(channels, step.where, Reason(Code.norm_averages, {"norm": "a group norm"}))
    return False


@rule("aten._softmax", "aten._safe_softmax", "aten._log_softmax", "aten.softmax", "aten.log_softmax", "aten.cumsum")
def softmax(step: Step) -> Value:
    """Along an owned axis it mixes units; along another it only loses their zeros."""
    data: Value = step.args[0]
    dim = step.args[1] % len(data.shape)
    why = Code.running_sum if "cum" in step.op else Code.softmax
    factors = [step.keep(factor, [dim], why) for factor in data.factors]
    out = step.output(*(factor for factor in factors if factor is not None))
    return out if "cum" in step.op else out.nonzero()


@rule("aten.argmax", "aten.argmin", "aten.topk", "aten.sort")
def ranking(step: Step) -> tuple[Value, ...]:
    """Ranking over an owned axis depends on every unit."""
    for value in step.operands:
        step.provenance.freeze(value.all_atoms(), step.where, Reason(Code.reduced, {"name": step.name}))
    return tuple(step.output(index=i) for i in range(len(step.shapes)))


@rule("aten._weight_norm_interface", "aten._weight_norm")
def weight_norm(step: Step) -> Value:
    """Divides by the length of what would be zeroed: every unit it touches freezes."""
    for value in step.operands:
        step.provenance.freeze(value.all_atoms(), step.where, Code.weight_norm)
    return step.output(*step.args[0].factors).nonzero()
