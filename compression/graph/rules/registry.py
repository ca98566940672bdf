"""The table of rules, and what happens to operations that have none."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from compression.graph.provenance import Provenance
from compression.graph.reasons import Code, Reason, Why
from compression.graph.recording import Call
from compression.graph.values import Factor, Value, collapse


@dataclass(frozen=True)
class Step:
    """One operation being replayed: its arguments with tensors as :class:`Value`, and its output shapes.

    ``where``: the id of its node; ``provenance``: collects what it ties and freezes.
    """

    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    where: str
    provenance: Provenance
    call: Call
    operands: list[Value] = field(init=False, repr=False)  # all tensor arguments in order, lists flattened
    _descent: tuple[str | None, frozenset[str], bool] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "operands", _values((*self.args, *self.kwargs.values())))
        object.__setattr__(self, "_descent", _descent(self.operands))

    @property
    def atoms(self) -> Provenance:
        """The name of ``provenance`` for rules written for earlier versions."""
        return self.provenance

    @property
    def name(self) -> str:
        """The operation without its namespace: ``aten.add_`` → ``add_``."""
        return self.op.split(".")[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return self.shapes[0]

    def arg(self, index: int, name: str, default: Any = None) -> Any:
        """A positional-or-keyword argument."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)

    def keep(self, factor: Factor, dims: Iterable[int], why: Why) -> Factor | None:
        """The factor without owners along ``dims``, which this operation reads as a whole.

        The other sides of a box (heads x width) remain owners; units that change along ``dims`` alone are frozen.
        """
        read_axes = set(dims)
        if not set(factor.dims) & read_axes:
            return factor
        rest = tuple(d for d in factor.dims if d not in read_axes)
        if rest:
            return collapse(factor, rest, self.provenance, self.where, why)
        self.provenance.freeze(factor.atoms, self.where, why)
        return None

    def output(self, *factors: Any, index: int = 0, zero: bool | None = None) -> Value:
        """A result with these factors, coming from all operands."""
        owning = tuple(f for f in factors if f.dims)
        if zero is not None:
            owning = tuple(replace(f, zero=zero) for f in owning)
        origin, sources, constant = self._descent
        return Value(self.shapes[index], owning, origin, sources, constant)


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
    values: list[Value] = []
    for argument in arguments:
        if isinstance(argument, Value):
            values.append(argument)
        elif isinstance(argument, (tuple, list)):
            values += _values(argument)
    return values


Rule = Callable[[Step], "Value | tuple[Value, ...]"]
_RULES: dict[str, Rule] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule for one or more operations, named as PyTorch names them (``aten.relu``, ``mylib.myop``).

    A rule gets a :class:`Step` and returns the output's :class:`Value` (a tuple of them for several outputs).
    Registering again replaces. An operation without a rule freezes what reaches it, by name; two lines teach it::

        from compression.graph import combine, register_rule

        @register_rule("mylib.swish_bias")
        def swish_bias(step):
            data, shift = step.args[0], step.args[1]  # tensors come as Value, everything else unchanged
            return step.output(*combine([data, shift], step.shape, step.provenance, step.where, "shifted together"))

    ``step.output(*data.factors)`` alone is the rule of an elementwise operation with f(0) = 0 on one tensor
    (``.nonzero()`` on the result where f(0) is another number); ``step.keep(factor, dims, why)`` drops owners along
    axes that are read as a whole; ``step.provenance.freeze(value.all_atoms(), step.where, why)`` freezes. A reason is
    a text, or a :class:`~compression.graph.Code` of the library.
    """

    def register(function: Rule) -> Rule:
        for op in ops:
            _RULES[op] = function
        return function

    return register


@cache
def _load() -> None:
    for name in ("pointwise", "movement", "slicing", "contraction", "attention", "norms", "reduction", "quantizers"):
        importlib.import_module(f"{__package__}.{name}")


def find(call: Call) -> Rule | None:
    """The rule for a call: by name, by name without the in-place underscore, or the pointwise one by PyTorch's tag."""
    _load()
    name = call.op
    if name in _RULES:
        return _RULES[name]
    if name.endswith("_") and name[:-1] in _RULES:
        return _RULES[name[:-1]]
    return _RULES["pointwise"] if call.pointwise else None


def apply(step: Step) -> tuple[Value, ...]:
    """Replay one operation; an operation without a rule freezes the units that reach it."""
    handler = find(step.call)
    owned = any(value.factors for value in step.operands)
    if step.call.random:
        for value in step.operands:
            step.provenance.freeze(value.all_atoms(), step.where, Code.random_numbers)
    if handler is None or not owned or step.call.random:
        if handler is None and owned and not step.call.random:
            for value in step.operands:
                step.provenance.freeze(value.all_atoms(), step.where, Reason(Code.unknown_operation, {"name": step.op}))
        return tuple(step.output(index=i) for i in range(len(step.shapes)))
    marks = len(step.provenance.consumers), len(step.provenance.norms)
    result = handler(step)
    _mark_producers(step, *marks)
    values = result if isinstance(result, tuple) else (result,)
    return values + tuple(step.output(index=i) for i in range(len(values), len(step.shapes)))


def _mark_producers(step: Step, consumers: int, norms: int) -> None:
    """Mark the parameters that data meets without reading them as columns or normalising with them.

    A parameter with two uses (an embedding that is also the output layer) is a producer: it is zeroed with its unit.
    """
    operands = step.operands
    if not any(value.sources for value in operands):
        return
    marked = (*step.provenance.consumers[consumers:], *step.provenance.norms[norms:])
    read = {int(atoms[0]) for atoms in marked if atoms.size}
    for value in operands:
        for factor in value.factors if value.weight_like else ():
            if int(factor.atoms.flat[0]) not in read:
                step.provenance.producers.append(factor.atoms.ravel())
