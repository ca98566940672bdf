"""The owners of a tensor's positions while a recording is replayed: factors, one for each set of axes.

A factor is an integer array with the tensor's number of dimensions; a dimension along which the owner does not change
has size 1 in it. A convolution's output [1, C, H, W] has one factor of shape [1, C, 1, 1]; a weight [O, I] has two,
[O, 1] and [1, I]: each element belongs to its output unit and to its input unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from compression.graph.provenance import FIXED, Array, Provenance
from compression.graph.reasons import Code, Why, as_reason

SUMS = frozenset({Code.residual_add, Code.added_together})


@dataclass(frozen=True, eq=False)
class Factor:
    """``atoms``: owner of each position. ``zero``: whether the tensor is 0 wherever the owning unit is zeroed."""

    atoms: Array
    zero: bool = True

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions along which the owner changes."""
        return tuple([d for d, size in enumerate(self.atoms.shape) if size > 1])


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor with the owners of its positions (``factors``).

    ``origin``: name of the parameter from which alone it is computed; ``sources``: ids of the nodes it comes from;
    ``constant``: created in ``forward`` from no parameter and no input; ``nonnegative``: no element is ever below 0.
    """

    shape: tuple[int, ...]
    factors: tuple[Factor, ...] = ()
    origin: str | None = None
    sources: frozenset[str] = frozenset()
    constant: bool = False
    nonnegative: bool = False

    @property
    def weight_like(self) -> bool:
        """Computed from parameters only."""
        return self.origin is not None

    def along(self, dim: int) -> tuple[Factor, ...]:
        """Factors whose owner changes along this dimension."""
        return tuple(factor for factor in self.factors if factor.atoms.shape[dim] > 1)

    def all_atoms(self) -> Array:
        """Every atom of its factors, flat."""
        if not self.factors:
            return np.empty(0, dtype=np.int64)
        return np.concatenate([factor.atoms.ravel() for factor in self.factors])

    def nonzero(self) -> Value:
        """The same owners, but zeroed units no longer give zeros (as behind a sigmoid)."""
        return replace(self, factors=tuple(replace(factor, zero=False) for factor in self.factors))


def collapse(factor: Factor, dims: tuple[int, ...], provenance: Provenance, where: str, why: Why) -> Factor:
    """Let the owner change along ``dims`` only: everything along the other dimensions is tied."""
    extra = tuple(d for d in factor.dims if d not in dims)
    if not extra:
        return factor
    first = factor.atoms
    for d in extra:
        first = first.take([0], axis=d)
    provenance.tie(factor.atoms, first, where, why)
    return replace(factor, atoms=first)


def combine(values: list[Value], shape: tuple[int, ...], provenance: Provenance, where: str, why: Why) -> list[Factor]:
    """Owners of an elementwise result: at every position the operands' owners become one unit.

    An operand of full size along a dimension in which it has no owner freezes the units that it meets there. The result
    is ``zero`` where all operands are (callers that multiply relax this).
    """
    result: list[Factor] = []
    lifted = [[_lift(f, len(value.shape), len(shape)) for f in value.factors] for value in values]
    _keep_heads_whole(values, lifted, len(shape), provenance, where)
    for index, value in enumerate(values):
        sizes = (1,) * (len(shape) - len(value.shape)) + value.shape
        for factor in lifted[index]:
            number = next((i for i, earlier in enumerate(result) if set(earlier.dims) & set(factor.dims)), None)
            if number is None:
                result.append(factor)
                continue
            shared = tuple(set(result[number].dims) & set(factor.dims))
            left = collapse(result[number], shared, provenance, where, why)
            right = collapse(factor, shared, provenance, where, why)
            provenance.tie(left.atoms, right.atoms, where, why)
            result[number] = Factor(np.maximum(left.atoms, right.atoms), left.zero and right.zero)
        _pin(values, lifted, index, sizes, provenance, where, as_reason(why).code in SUMS)
    return [_settled(factor, values, lifted) for factor in result]


def _keep_heads_whole(
    values: list[Value], lifted: list[list[Factor]], ndim: int, provenance: Provenance, where: str
) -> None:
    """A parameter along the width of every head (rotary angles, a norm's scale) makes the whole head the unit."""
    for index, value in enumerate(values):
        for owner in lifted[index] if value.weight_like else ():
            for other, factors in enumerate(lifted):
                for place, factor in enumerate(factors):
                    if values[other].weight_like or not set(owner.dims) < set(factor.dims):
                        continue
                    rest = tuple(d for d in factor.dims if d not in owner.dims)
                    factors[place] = collapse(factor, rest, provenance, where, Code.width_parameter)
                    provenance.freeze(owner.atoms, where, Code.runs_along_heads)
                    lifted[index] = [f for f in lifted[index] if f is not owner]
    for index, value in enumerate(values):
        sizes = (1,) * (ndim - len(value.shape)) + value.shape
        owned = {d for factor in lifted[index] for d in factor.dims}
        for factors in lifted[:index] + lifted[index + 1 :]:
            for place, factor in enumerate(factors):
                rest = tuple(d for d in factor.dims if sizes[d] == 1 or d in owned)
                if rest and rest != factor.dims:  # one side of a box meets an axis without owners
                    factors[place] = collapse(factor, rest, provenance, where, Code.meets_fixed_axis)


def overwritten(alias: Value, old: Value, new: Value | None, provenance: Provenance, where: str) -> Value:
    """The owners of a tensor after another one that shares its storage was overwritten: ``old`` became ``new``.

    Where the new values have owners along the same axes, the two are tied; otherwise all of them are frozen.
    """
    why = Code.written_into_part
    sources = alias.sources | (new.sources if new is not None else frozenset())
    origin, constant = None if sources else alias.origin, alias.constant and (new is None or new.constant)
    after = {factor.dims: factor for factor in new.factors} if new is not None else {}
    if new is not None and len(after) == len(old.factors) and all(f.dims in after for f in old.factors):
        for factor in old.factors:
            provenance.tie(factor.atoms, after[factor.dims].atoms, where, why)
        zero = all(factor.zero for factor in new.factors)
        factors = tuple(replace(f, zero=f.zero and zero) for f in alias.factors)
        return Value(alias.shape, factors, origin, sources, constant)
    for value in (alias, old, new):
        if value is not None:
            provenance.freeze(value.all_atoms(), where, why)
    return Value(alias.shape, (), origin, sources, constant)


def _lift(factor: Factor, ndim: int, ndim_out: int) -> Factor:
    return replace(factor, atoms=factor.atoms.reshape((1,) * (ndim_out - ndim) + factor.atoms.shape))


def _pin(
    values: list[Value], lifted: list[list[Factor]], index: int, sizes: tuple[int, ...],
    provenance: Provenance, where: str, added: bool,
) -> None:  # fmt: skip
    """Freeze the units of other operands that meet ``values[index]`` along an axis of full size without owners."""
    owned = {d for factor in lifted[index] for d in factor.dims}
    for other, factors in enumerate(lifted):
        if other == index:
            continue
        for factor in factors:
            if any(sizes[d] > 1 and d not in owned for d in factor.dims):
                provenance.freeze(factor.atoms, where, _obstacle(values[index], added))


def _obstacle(value: Value, added: bool) -> Code:
    """Why what meets this operand along an axis of full size without owners cannot be cut."""
    if value.sources == {"input"}:
        return Code.added_to_input if added else Code.combined_with_input
    if value.constant:
        return Code.added_to_constant if added else Code.combined_with_constant
    return Code.added_to_fixed_axis if added else Code.combined_with_fixed_axis


def _settled(factor: Factor, values: list[Value], lifted: list[list[Factor]]) -> Factor:
    """A sum is zero in a zeroed unit only if every operand has that unit as an owner."""
    everywhere = all(any(set(f.dims) & set(factor.dims) for f in factors) for factors in lifted)
    return replace(factor, zero=factor.zero and everywhere)


def expand_dims(array: Array, shape: tuple[int, ...], dims: tuple[int, ...]) -> Array:
    """``array`` with the named dimensions at full size."""
    target = tuple(shape[d] if d in dims else size for d, size in enumerate(array.shape))
    return np.broadcast_to(array, target)


def shrink(array: Array) -> Array:
    """Reduce to size 1 every dimension along which nothing changes."""
    for axis, size in enumerate(array.shape):
        if size > 1:
            first = array.take([0], axis=axis)
            if (array == first).all():
                array = first
    return array


def is_fixed(array: Array) -> bool:
    """Whether no position has an owner."""
    return bool((array == FIXED).all())
