"""The table of rules, and what happens to operations that have none."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from compression.graph.provenance import Atoms
from compression.graph.recording import Call
from compression.graph.values import Factor, Value, collapse


@dataclass(frozen=True)
class Step:
    """One operation being replayed: its arguments with tensors as :class:`Value`, its output shapes, and the
    bookkeeping.
    """

    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    where: str
    atoms: Atoms
    call: Call
    operands: list[Value] = field(init=False, repr=False)  # all tensor arguments in order, lists flattened
    _descent: tuple[str | None, frozenset[str], bool] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "operands", _values((*self.args, *self.kwargs.values())))
        object.__setattr__(self, "_descent", _descent(self.operands))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return self.shapes[0]

    def arg(self, index: int, name: str, default: Any = None) -> Any:
        """A positional-or-keyword argument."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)

    def keep(self, factor: Factor, dims: Iterable[int], why: str) -> Factor | None:
        """The factor without an owner along ``dims``, which this operation reads as a whole.

        What is left of a box (heads x width) are its other sides; an owner along ``dims`` alone freezes.
        """
        given_up = set(dims)
        if not set(factor.dims) & given_up:
            return factor
        rest = tuple(d for d in factor.dims if d not in given_up)
        if rest:
            return collapse(factor, rest, self.atoms, self.where, why)
        self.atoms.freeze(factor.atoms, self.where, why)
        return None

    def output(self, *factors: Any, index: int = 0, zero: bool | None = None) -> Value:
        """A result with these factors, coming from all operands."""
        kept = tuple(f for f in factors if f.dims)
        if zero is not None:
            kept = tuple(replace(f, zero=zero) for f in kept)
        origin, sources, constant = self._descent
        return Value(self.shapes[index], kept, origin, sources, constant)


def _descent(operands: list[Value]) -> tuple[str | None, frozenset[str], bool]:
    """Origin, sources and constancy of whatever is computed from these operands."""
    constant = all(v.constant for v in operands)
    origin = None
    if operands and all(v.origin is not None or v.constant for v in operands):
        named = [v for v in operands if v.origin]
        origin = max(named, key=lambda v: math.prod(v.shape)).origin if named else None
    sources = [v.sources for v in operands if v.sources]
    return origin, sources[0] if len(sources) == 1 else frozenset().union(*sources), constant


def _values(arguments: Iterable[Any]) -> list[Value]:
    found: list[Value] = []
    for argument in arguments:
        if isinstance(argument, Value):
            found.append(argument)
        elif isinstance(argument, (tuple, list)):
            found += _values(argument)
    return found


Rule = Callable[[Step], "Value | tuple[Value, ...]"]
_RULES: dict[str, Rule] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule for one or more operations, named as PyTorch names them (``aten.relu``, ``mylib.myop``).

    A rule gets a :class:`Step` and returns the output's :class:`Value` (a tuple of them for several outputs).
    Registering again replaces. An operation without a rule freezes what reaches it, by name; two lines teach it::

        from compression.graph import combine, register_rule

        @register_rule("mylib.swish_bias")
        def swish_bias(step):
            data, shift = step.args[0], step.args[1]  # tensors come as Value, everything else as it was given
            return step.output(*combine([data, shift], step.shape, step.atoms, step.where, "shifted together"))

    ``step.output(*data.factors)`` alone is the rule of an elementwise operation with f(0) = 0 on one tensor
    (``.nonzero()`` on the result where f(0) is another number); ``step.keep(factor, dims, why)`` gives up owners along
    axes that are read as a whole; ``step.atoms.freeze(value.all_atoms(), step.where, why)`` freezes, with the reason.
    """

    def register(function: Rule) -> Rule:
        for op in ops:
            _RULES[op] = function
        return function

    return register


@cache
def _load() -> None:
    for name in ("pointwise", "movement", "slicing", "contraction", "attention", "norms", "reduction", "quantizers"):
        importlib.import_module(f"compression.graph.rules.{name}")


def find(call: Call) -> Rule | None:
    """The rule for a call: by name, by name without the in-place underscore, or the pointwise one by PyTorch's own
    tag.
    """
    _load()
    name = call.op
    if name in _RULES:
        return _RULES[name]
    if name.endswith("_") and name[:-1] in _RULES:
        return _RULES[name[:-1]]
    return _RULES["pointwise"] if call.pointwise else None


def apply(step: Step) -> tuple[Value, ...]:
    """Replay one operation. One that nobody knows freezes what reaches it, with its name as the reason."""
    found = find(step.call)
    owned = any(value.factors for value in step.operands)
    if step.call.random:
        for value in step.operands:
            step.atoms.freeze(value.all_atoms(), step.where, "random numbers are drawn along these units")
    if found is None or not owned or step.call.random:
        if found is None and owned and not step.call.random:
            for value in step.operands:
                step.atoms.freeze(value.all_atoms(), step.where, f"op {step.op} is not understood")
        return tuple(step.output(index=i) for i in range(len(step.shapes)))
    marks = len(step.atoms.consumers), len(step.atoms.norms)
    result = found(step)
    _mark_producers(step, *marks)
    values = result if isinstance(result, tuple) else (result,)
    return values + tuple(step.output(index=i) for i in range(len(values), len(step.shapes)))


def _mark_producers(step: Step, consumers: int, norms: int) -> None:
    """What data meets of a parameter, and does not read or normalise with, produces units.

    A parameter with two uses (an embedding that is also the output layer) stays a producer: it is zeroed with its unit.
    """
    operands = step.operands
    if not any(value.sources for value in operands):
        return
    read = {int(atoms[0]) for atoms in (*step.atoms.consumers[consumers:], *step.atoms.norms[norms:]) if atoms.size}
    for value in operands:
        for factor in value.factors if value.weight_like else ():
            if int(factor.atoms.flat[0]) not in read:
                step.atoms.producers.append(factor.atoms.ravel())
