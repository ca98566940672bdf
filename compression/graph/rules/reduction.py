"""Reductions and spatial operations: what stays per channel keeps its owner."""

from __future__ import annotations

from compression.graph.provenance import Array
from compression.graph.reasons import Code, Reason
from compression.graph.rules.registry import Step, rule
from compression.graph.values import Factor, Value

AVERAGES = ("mean", "var", "std", "var_mean")


@rule("aten.mean", "aten.sum", "aten.amax", "aten.amin", "aten.var", "aten.std", "aten.linalg_vector_norm", "aten.prod",
      "aten.var_mean", "aten.logsumexp")  # fmt: skip
def reduce(step: Step) -> Value | tuple[Value, ...]:
    """Reducing over space keeps owners; reducing over an owned axis reads every unit.

    Zeros do not change a sum or a vector norm; a mean or a variance counts them; all others need every unit.
    """
    data: Value = step.args[0]
    ndim = len(data.shape)
    over = step.arg(2 if step.op == "aten.linalg_vector_norm" else 1, "dim")
    dims = range(ndim) if not over else [d % ndim for d in ([over] if isinstance(over, int) else over)]
    name = step.name
    factors = []
    for factor in data.factors:
        if not set(factor.dims) & set(dims):
            factors.append(Factor(_reduced(factor.atoms, dims, len(step.shape)), factor.zero))
            continue
        why = reduced_by(name)
        if set(factor.dims) - set(dims):
            rest = step.keep(factor, dims, why)
            assert rest is not None
            factors.append(Factor(_reduced(rest.atoms, dims, len(step.shape)), factor.zero))
            continue
        if name in AVERAGES:
            step.provenance.average(factor.atoms, step.where, why)
        elif not _ignores_zeros(step):
            step.provenance.freeze(factor.atoms, step.where, why)
        elif not factor.zero:
            step.provenance.blur(factor.atoms, step.where, why)
        elif data.weight_like:
            step.provenance.require((factor.atoms,), True, step.where, Code.summed_not_zeroed)
    if name == "logsumexp":
        factors = [Factor(factor.atoms, False) for factor in factors]
    values = tuple(step.output(*factors, index=i) for i in range(len(step.shapes)))
    return values if len(values) > 1 else values[0]


def _ignores_zeros(step: Step) -> bool:
    """Whether zeros among what is reduced make no difference."""
    if step.op == "aten.linalg_vector_norm":
        return bool(step.arg(1, "ord", 2) > 0)
    return step.op == "aten.sum"


def reduced_by(name: str) -> Reason:
    """The reason of an operation that reads all units at once, by its name."""
    return Reason(Code.mean) if name in AVERAGES else Reason(Code.reduced, {"name": name})


def _reduced(atoms: Array, dims: object, ndim: int) -> Array:
    """Drop the reduced dimensions unless the result keeps them at size 1."""
    if atoms.ndim == ndim:
        return atoms
    return atoms.squeeze(tuple(dims))  # type: ignore[arg-type]


@rule("aten.max", "aten.min")
def extreme(step: Step) -> Value | tuple[Value, ...]:
    """The largest along one axis (with its index), or of all."""
    data: Value = step.args[0]
    if len(step.shapes) == 1:
        step.provenance.freeze(data.all_atoms(), step.where, reduced_by(step.name))
        return step.output()
    dim = step.arg(1, "dim") % len(data.shape)
    rest = [step.keep(factor, [dim], reduced_by(step.name)) for factor in data.factors]
    factors = [Factor(_reduced(f.atoms, [dim], len(step.shape)), f.zero) for f in rest if f is not None]
    return step.output(*factors), step.output(*factors, index=1).nonzero()


@rule("aten.max_pool2d_with_indices", "aten.max_pool2d", "aten.avg_pool2d", "aten._adaptive_avg_pool2d",
      "aten.adaptive_avg_pool2d", "aten.adaptive_max_pool2d", "aten.max_pool1d", "aten.avg_pool1d", "aten.avg_pool3d",
      "aten.max_pool3d_with_indices", "aten.upsample_nearest2d", "aten.upsample_bilinear2d", "aten.upsample_bicubic2d",
      "aten._upsample_bilinear2d_aa", "aten.upsample_nearest1d", "aten.upsample_linear1d", "aten.upsample_nearest3d",
      "aten.upsample_trilinear3d", "aten.reflection_pad2d", "aten.replication_pad2d", "aten.reflection_pad1d",
      "aten.grid_sampler_2d", "aten._adaptive_avg_pool3d", "aten.adaptive_avg_pool1d", "aten.adaptive_max_pool3d",
      "aten._upsample_nearest_exact1d", "aten._upsample_nearest_exact2d", "aten._upsample_nearest_exact3d",
      "aten._upsample_bicubic2d_aa", "aten.reflection_pad3d", "aten.replication_pad1d", "aten.replication_pad3d",
      "aten.max_unpool2d", "aten.fractional_max_pool2d")  # fmt: skip
def spatial(step: Step) -> Value:
    """Works on the trailing axes of [N, C, …] or [C, …]: owners of channels stay, owners along space are pinned."""
    data: Value = step.args[0]
    space = range(len(data.shape) - next(int(c) for c in step.op if c in "123"), len(data.shape))
    outside = [step.keep(factor, space, Code.spatial_pool) for factor in data.factors]
    factors = [factor for factor in outside if factor is not None]
    for other in step.operands[1:]:
        step.provenance.freeze(other.all_atoms(), step.where, Reason(Code.used_as_positions, {"name": step.op}))
    return step.output(*factors)
