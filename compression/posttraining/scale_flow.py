"""Where a network's channels may be scaled: the scale of every position of every tensor, followed through a recording.

Every output channel of a layer and every channel of a norm's affine part is an *atom*: its values may be multiplied by
a positive number s if all that read them divide by s. One recorded forward pass is walked call by call with an integer
array for each tensor that says which atom scales each position. Positively homogeneous operations (ReLU, max and mean
pooling, reshapes, products with what is not scaled) pass atoms on, sums link those that meet, a layer's columns and a
batch norm's statistics are linked with what they read. Whatever else reads an atom (GELU, SiLU, softmax, and ReLU6 or
Hardtanh, whose upper bound does not scale) links it with :data:`FIXED`, the atom whose scale is 1: the chain ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch

from compression.graph.flow import name_of, refs
from compression.graph.recording import Call, Recording, Ref

FIXED = 0
Role = Literal["row", "bias", "scale", "shift", "column", "statistics"]
Units = torch.Tensor  # int64, a dimension along which the atom does not change has size 1


@dataclass(frozen=True)
class Slot:
    """One axis of channels of one parameter: atoms ``start`` … ``start + size - 1`` in order.

    Viewed as ``view``, the channels of the tensor ``name`` lie along ``dims``. ``role``: a layer's ``row`` and ``bias``
    and a norm's ``scale`` and ``shift`` produce what they scale; a layer's ``column`` and the ``statistics`` of a batch
    norm (``name`` is its running mean, ``eps`` what it adds to the variance) read it.
    """

    name: str
    role: Role
    view: tuple[int, ...]
    dims: tuple[int, ...]
    start: int
    eps: float = 0.0

    @property
    def size(self) -> int:
        """Number of channels."""
        return math.prod(self.view[d] for d in self.dims)

    @property
    def atoms(self) -> Units:
        """Its atoms, int64 [size]."""
        return torch.arange(self.start, self.start + self.size)


@dataclass
class ScaleFlow:
    """The walk: ``units`` has the atoms of every value id, ``links`` which atoms have one scale.

    ``passed``: operations between producer and reader, with the atoms that went through them; ``misused``: parameters
    that anything but a layer or a norm reads, whose channels therefore stay.
    """

    recording: Recording
    slots: list[Slot] = field(default_factory=list)
    links: list[tuple[Units, Units]] = field(default_factory=list)
    passed: list[tuple[str, Units]] = field(default_factory=list)
    misused: set[str] = field(default_factory=set)
    count: int = 1  # atom 0 is FIXED
    units: dict[int, Units] = field(default_factory=dict)
    turned: dict[int, str] = field(default_factory=dict)  # value id of a transposed matrix -> its parameter
    claimed: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=lambda: {FIXED})  # atoms that were linked with FIXED themselves
    _slots: dict[tuple[str, str, tuple[int, ...]], Slot] = field(default_factory=dict)

    def walk(self) -> ScaleFlow:
        """Follow every call; afterwards what is misused, or returned by the network, is fixed."""
        for call in self.recording.calls:
            self._follow(call)
        for ref in self.recording.outputs:
            self.fix(ref)
        never = {*self.recording.replaced, *self.recording.switched, *self.recording.uncuttable, *self.misused}
        for slot in self.slots:
            if slot.name in never:
                self.link(slot.atoms, torch.tensor(FIXED))
        return self

    def _follow(self, call: Call) -> None:
        operation, self.claimed = name_of(call), set()
        handler = None if call.random else _HANDLERS.get(operation)
        results = handler(self, call) if handler is not None else None
        for ref in refs(call):
            if results is None:
                self.fix(ref)
            if (name := self.parameter(ref)) is not None and ref.id not in self.claimed:
                self.misused.add(name)
        for output, result in zip(call.out, results or (), strict=False):
            if output is not None:
                self.units[output.id] = result
        for write in call.writes:  # other views of what is written in place
            for alias in write.aliases:
                for other in (alias, write.before, write.after):
                    if other is not None:
                        self.fix(other)
                self.units.pop(alias.id, None)

    def units_of(self, ref: Ref) -> Units:
        """The atoms of a tensor, with its number of dimensions."""
        known = self.units.get(ref.id)
        if known is None or self.ended.issuperset(known.unique().tolist()):
            return torch.zeros((1,) * len(ref.shape), dtype=torch.int64)
        return known

    def owned(self, ref: Ref) -> bool:
        """Whether any position of a tensor may be scaled, as far as the walk has come."""
        return ref.id in self.units and bool(self.units_of(ref).any())

    def parameter(self, ref: Ref) -> str | None:
        """The name of the parameter that a tensor is, as it is or transposed."""
        return self.recording.parameters.get(ref.id) or self.turned.get(ref.id)

    def claim(self, ref: object, ndim: int) -> str | None:
        """The parameter of so many dimensions that an operation reads as a layer or a norm; ``None`` for others."""
        name = self.parameter(ref) if isinstance(ref, Ref) and len(ref.shape) == ndim else None
        if name is not None and isinstance(ref, Ref):
            self.claimed.add(ref.id)
        return name

    def link(self, first: Units, second: Units) -> None:
        """At every position the two atoms get one scale."""
        first, second = torch.broadcast_tensors(first, second)
        apart = first != second
        if bool(apart.any()):
            first, second = first[apart], second[apart]
            self.links.append((first, second))
            either = (first == FIXED) | (second == FIXED)
            self.ended.update(torch.maximum(first, second)[either].tolist())

    def fix(self, ref: Ref) -> None:
        """Nothing that scales a position of this tensor may change."""
        if self.owned(ref):
            self.link(self.units[ref.id], torch.tensor(FIXED))

    def slot(self, name: str, role: Role, view: tuple[int, ...], dims: tuple[int, ...], eps: float = 0.0) -> Slot:
        """The slot of some channels of a parameter; the second use of a parameter has the atoms of the first."""
        slot = self._slots.get((name, role, dims))
        if slot is not None and slot.view == view:
            return slot
        if any(name == other and (dims == axes or slot is not None) for other, _, axes in self._slots):
            self.misused.add(name)  # read along one axis as rows and as columns, or in groups of two sizes
        slot = self._slots[name, role, dims] = Slot(name, role, view, dims, self.count, eps)
        self.count += slot.size
        self.slots.append(slot)
        return slot

    def fresh(self, number: int) -> Units:
        """Atoms of positions that are 0, and stay so at any scale."""
        self.count += number
        return torch.arange(self.count - number, self.count)


Result = tuple[Units, ...] | None
Handler = Callable[[ScaleFlow, Call], Result]
_HANDLERS: dict[str, Handler] = {}


def handles(names: str) -> Callable[[Handler], Handler]:
    """Register what follows these operations; it returns ``None`` where the chain ends."""

    def register(handler: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(names.split(), handler))
        return handler

    return register


def along(units: Units, dim: int) -> Units | None:
    """The atoms [size] along one dimension; ``None`` where they change along another one, too."""
    dim %= units.dim()
    return units.flatten() if all(size == 1 for d, size in enumerate(units.shape) if d != dim) else None


def placed(atoms: Units, dim: int, ndim: int) -> Units:
    """Atoms along one dimension of a tensor of ``ndim`` dimensions."""
    return atoms.reshape([-1 if d == dim % ndim else 1 for d in range(ndim)])
