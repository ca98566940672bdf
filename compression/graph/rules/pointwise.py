"""Elementwise operations: owners of the operands meet position by position."""

from __future__ import annotations

from dataclasses import replace

from compression.graph.reasons import Code
from compression.graph.rules.registry import Step, rule
from compression.graph.values import Factor, Value, combine

# f(0) = 0: a zeroed unit stays zero behind these (whatever their other arguments, which are checked where they matter)
KEEP_ZERO = frozenset(
    """relu relu6 gelu silu mish hardswish tanh leaky_relu elu celu selu hardtanh softshrink hardshrink abs neg sqrt
    sign
    sgn round floor ceil trunc sin asin sinh asinh atan atanh erf expm1 log1p square dropout clone detach alias
    _to_copy contiguous lift_fresh native_dropout nan_to_num real positive prelu _prelu_kernel
    threshold rrelu maximum minimum fmax fmin frac deg2rad fake_quantize""".split()
)

LOGARITHMS = frozenset({"log", "log2", "log10"})
SINGULAR = LOGARITHMS | {"reciprocal", "rsqrt", "logit", "digamma", "lgamma", "polygamma"}


@rule(*(f"aten.{name}" for name in sorted(KEEP_ZERO)), "compression.fake_quantize", "pointwise")
def pointwise(step: Step) -> Value:
    """One tensor or several, elementwise, any function."""
    values = [v for v in step.operands if v.shape]
    if len(values) == 1:
        factors: list[Factor] = list(values[0].factors)
    else:
        factors = combine(values, step.shape, step.provenance, step.where, Code.combined_elementwise)
    name = step.name.rstrip("_")
    if name in ("remainder", "fmod", "floor_divide"):
        _divided(step)
    powers = (
        name in LOGARITHMS and values[0].weight_like
    )  # exp(t log |w|), as quantizers write |w| ** t, is zero at zero
    if name in SINGULAR and not powers:
        _singular(step, values[0], Code.not_a_number)
    if "prelu" in name or name == "fake_quantize":  # slope, step and bound may be one number for all, or one a channel
        factors = [zero_of_any(factor, [step.args[0]], len(step.shape)) for factor in factors]
    out = step.output(*factors)
    return out if name in KEEP_ZERO and _through_zero(name, step) else out.nonzero()


def _through_zero(name: str, step: Step) -> bool:
    """f(0) = 0 also with these arguments."""
    if name == "hardtanh":
        return bool(step.arg(1, "min_val", -1) <= 0 <= step.arg(2, "max_val", 1))
    if name == "threshold":
        return bool(step.arg(1, "threshold") < 0 or step.arg(2, "value") == 0)
    if name in ("maximum", "minimum", "fmax", "fmin"):
        return all(value.shape for value in step.operands)  # a single number may win against zero
    return True


@rule("aten.zeros_like", "aten.empty_like", "aten.zero")
def blank(step: Step) -> Value:
    """A tensor of zeros, or without values yet, that has the size of another one."""
    return step.output(*step.args[0].factors, zero=True)


@rule("aten.ones_like", "aten.full_like", "aten.rand_like", "aten.randn_like", "aten.fill", "aten.bernoulli")
def filled(step: Step) -> Value:
    """A tensor of other values that has the size of another one."""
    out = step.output(*step.args[0].factors)
    value = step.arg(1, "value", 1) if "fill" in step.op else step.arg(1, "fill_value", 1)
    return step.output(*out.factors, zero=True) if isinstance(value, (int, float)) and value == 0 else out.nonzero()


@rule("aten.new_zeros", "aten.new_ones", "aten.new_empty", "aten.new_full", "aten.new_empty_strided")
def new_tensor(step: Step) -> Value:
    """A tensor created in ``forward`` with the type of another one and an independent size."""
    return Value(step.shape, constant=True)


@rule("aten.is_same_size", "aten.sym_size", "aten._assert_tensor_metadata", "aten._assert_async")
def metadata(step: Step) -> Value:
    """Queries of a tensor's size or type, and assertions about it."""
    return Value(step.shape, constant=True)


@rule("aten.add", "aten.sub", "aten.rsub")
def add(step: Step) -> Value:
    """A sum ties its operands: the residual add."""
    values = [v for v in step.operands if v.shape]
    why = Code.residual_add if sum(bool(v.sources) for v in values) > 1 else Code.added_together
    factors = combine(values, step.shape, step.provenance, step.where, why)
    scalars = [a for a in step.args if isinstance(a, (int, float)) and a != 0]
    shifted = bool(scalars) or any(not v.shape for v in step.operands)
    out = step.output(*factors)
    return out.nonzero() if shifted else out


@rule("aten.mul", "aten.div", "aten.pow", "aten.clamp", "aten.clamp_min", "aten.clamp_max")
def scale(step: Step) -> Value:
    """A product is zero where one factor is; a quotient or power where its base is."""
    values = [v for v in step.operands if v.shape]
    factors = combine(values, step.shape, step.provenance, step.where, Code.elementwise_product)
    name = step.name.rstrip("_")
    if name == "mul":
        scaled = [zero_of_any(factor, values, len(step.shape)) for factor in factors]
    else:
        base = values[:1] if isinstance(step.args[0], Value) else []
        if name == "div":
            _divided(step)
        scaled = [zero_of_any(factor, base, len(step.shape)) for factor in factors]
        exponent = step.arg(1, "exponent") if name == "pow" else None
        if isinstance(exponent, (int, float)) and exponent < 0:
            _singular(step, step.args[0], Code.not_a_number)
        if not _zero_stays(name, step):
            scaled = [replace(factor, zero=False) for factor in scaled]
    return step.output(*scaled)


def _divided(step: Step) -> None:
    """A divisor that is zeroed with its unit gives no number there; a quantizer's step is never zero."""
    divisor = step.args[1]
    if isinstance(divisor, Value) and divisor.origin not in step.provenance.quantizer_parameters:
        _singular(step, divisor, Code.divided_by_zeroed)


def _singular(step: Step, value: Value, why: Code) -> None:
    """An operation that is no number at zero, on a value whose zeroed units are zero."""
    for factor in value.factors:
        if factor.zero and value.weight_like:
            step.provenance.require((factor.atoms,), False, step.where, why)
        elif factor.zero:
            step.provenance.freeze(factor.atoms, step.where, Code.not_a_number)


def zero_of_any(factor: Factor, values: list[Value], ndim: int) -> Factor:
    zero = any(
        f.zero and {d + ndim - len(v.shape) for d in f.dims} & set(factor.dims) for v in values for f in v.factors
    )
    return replace(factor, zero=zero)


def _zero_stays(name: str, step: Step) -> bool:
    if name == "pow":
        exponent = step.arg(1, "exponent")
        return isinstance(exponent, (int, float)) and exponent > 0
    if name.startswith("clamp"):
        low = step.arg(1, "min") if name != "clamp_max" else None
        high = step.arg(2, "max") if name == "clamp" else step.arg(1, "max") if name == "clamp_max" else None
        return all(not isinstance(v, Value) for v in (low, high)) and (low or 0) <= 0 <= (high or 0)
    return True


@rule("aten.where", "aten.masked_fill")
def choose(step: Step) -> Value:
    """Takes from one operand or another; zero only where both are."""
    values = [v for v in step.operands if v.shape]
    factors = combine(values, step.shape, step.provenance, step.where, Code.combined_elementwise)
    if "masked_fill" in step.op:
        fill = step.arg(2, "value")
        branches = [step.args[0], 0 if isinstance(fill, (int, float)) and fill == 0 else None]
    else:
        branches = list(step.args[1:3])
    return step.output(*(replace(f, zero=all(_zero_in(f, b, len(step.shape)) for b in branches)) for f in factors))


def _zero_in(factor: Factor, branch: Value | float | None, ndim: int) -> bool:
    """Whether one of the two choices is zero in the factor's zeroed units."""
    if isinstance(branch, Value):
        return zero_of_any(factor, [branch], ndim).zero
    return branch == 0


@rule("aten.copy_")
def copy(step: Step) -> Value:
    """Writing into another tensor: the target's owners meet the source's; what is written into constants is pinned."""
    target, source = step.args[0], step.args[1]
    if target.factors or not source.factors:
        return step.output(*combine([target, source], step.shape, step.provenance, step.where, Code.written_in_place))
    step.provenance.freeze(source.all_atoms(), step.where, Code.written_into_fixed)
    return step.output()
