"""Union-find over atoms, one per position of every parameter dimension: ties and remarks, resolved once at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from compression.graph.reasons import Code, Reason, Why, as_reason

Array = NDArray[np.int64]

FIXED = -1  # a position that no unit owns: padding, a constant, an axis of the data


@dataclass(frozen=True)
class Slot:
    """One dimension of one parameter or buffer: atoms ``start … start + size - 1`` are its positions."""

    name: str
    dim: int
    start: int
    size: int
    buffer: bool


@dataclass
class Note:
    """A remark on some atoms: the node (``where``) and the reason."""

    atoms: Array
    where: str
    why: Reason


@dataclass
class Requirement:
    """At every position one of ``sides`` must be zeroed with its unit, or (not ``zeroed``) none of them."""

    sides: tuple[Array, ...]
    zeroed: bool
    where: str
    why: Reason

    def broken(self, zero: NDArray[np.bool_]) -> Array:
        """The atoms where it does not hold; ``zero`` says for every atom whether it is zeroed with its unit."""
        holds = np.logical_or.reduce([zero[side] for side in self.sides]) == self.zeroed
        return np.concatenate([side[~holds] for side in self.sides])


@dataclass
class Provenance:
    """What a trace collects: slots, ties between atoms, and remarks on them (frozen, inexact, roles).

    ``inexact``: whether units may be removed although that changes the others (see :meth:`average`).
    """

    inexact: bool = False
    slots: list[Slot] = field(default_factory=list)
    ties: list[tuple[Array, Array, str, Reason]] = field(default_factory=list)
    frozen: list[Note] = field(default_factory=list)
    blurred: list[Note] = field(default_factory=list)
    requirements: list[Requirement] = field(default_factory=list)
    rectangles: list[Array] = field(default_factory=list)
    consumers: list[Array] = field(default_factory=list)
    producers: list[Array] = field(default_factory=list)
    norms: list[Array] = field(default_factory=list)
    carried: list[tuple[str, Array]] = field(default_factory=list)  # node id, atoms of its output
    quantizer_parameters: frozenset[str] = frozenset()  # names of quantizers' own parameters
    count: int = 0

    def slot(self, name: str, dim: int, size: int, buffer: bool) -> Array:
        """Fresh atoms for one dimension of a parameter: int64 [size]."""
        self.slots.append(Slot(name, dim, self.count, size, buffer))
        self.count += size
        return np.arange(self.count - size, self.count, dtype=np.int64)

    def tie(self, left: Array, right: Array, where: str, why: Why) -> None:
        """Position by position, the atoms in ``left`` and ``right`` are removed together; a FIXED partner freezes."""
        if left.shape != right.shape:
            left, right = np.broadcast_arrays(left, right)
        left, right = left.ravel(), right.ravel()
        apart = left != right
        if left.size and (left.min() == FIXED or right.min() == FIXED):
            fixed = (left == FIXED) != (right == FIXED)
            if fixed.any():
                self.freeze(np.maximum(left, right)[fixed], where, Code.combined_with_unowned)
            apart &= ~fixed
        if left.size and apart.all():
            self.ties.append((left, right, where, as_reason(why)))
        elif apart.any():
            self.ties.append((left[apart], right[apart], where, as_reason(why)))

    def freeze(self, atoms: Array, where: str, why: Why) -> None:
        """Forbid removing these atoms, for this reason."""
        atoms = _real(atoms)
        if atoms.size:
            self.frozen.append(Note(atoms, where, as_reason(why)))

    def blur(self, atoms: Array, where: str, why: Why) -> None:
        """Removing these changes the output although they are zero."""
        atoms = _real(atoms)
        if atoms.size:
            self.blurred.append(Note(atoms, where, as_reason(why)))

    def average(self, atoms: Array, where: str, why: Why) -> None:
        """Removing these changes the outputs of the others, as behind a norm over them: frozen unless ``inexact``."""
        if not self.inexact:
            self.freeze(atoms, where, why)
        self.blur(atoms, where, why)

    def require(self, sides: tuple[Array, ...], zeroed: bool, where: str, why: Why) -> None:
        """Blur these positions of parameters where no side turns out to be zeroed with its unit.

        Not ``zeroed``: freeze them where one turns out to be.
        """
        flat = [side.ravel() for side in np.broadcast_arrays(*sides)]
        real = np.logical_and.reduce([side != FIXED for side in flat])
        self.requirements.append(Requirement(tuple(side[real] for side in flat), zeroed, where, as_reason(why)))

    def resolve(self) -> Array:
        """The unit of every atom: int64 [count]. Open rectangles are closed along their longest side first."""
        units = self._components()
        for _ in range(len(self.rectangles) + 1):
            tied = False
            for rectangle in self.rectangles:
                tied |= self._close(rectangle, units)
            if not tied:
                break
            units = self._components()
        return units

    def _components(self) -> Array:
        """The unit of every atom, numbered in the order of their first atoms."""
        atoms = np.arange(self.count, dtype=np.int64)
        slots = _Slots(self.slots, atoms)
        loose = slots.joined(self.ties)
        first = slots.first(atoms)
        if loose:
            left = first[np.concatenate([tie[0] for tie in loose])]
            right = first[np.concatenate([tie[1] for tie in loose])]
            first = _linked(left, right, self.count)[first]
        return (np.cumsum(first == atoms) - 1)[first]

    def _close(self, rectangle: Array, units: Array) -> bool:
        """Tie whole slices along one side of a split axis, so that it stays a box; returns whether it added a tie."""
        if (rectangle == FIXED).any():
            self.freeze(rectangle, "", Code.padded_axis_split)
            return False
        named = units[rectangle]
        sides = [axis for axis, size in enumerate(rectangle.shape) if size > 1]
        slabs = {axis: np.moveaxis(named, axis, 0).reshape(rectangle.shape[axis], -1) for axis in sides}
        if len(sides) < 2 or any((slab == slab[:, :1]).all() for slab in slabs.values()):
            return False
        longest = max(sides, key=lambda axis: rectangle.shape[axis])
        slab = np.moveaxis(rectangle, longest, 0).reshape(rectangle.shape[longest], -1)
        self.tie(slab, slab[:, :1], "", Code.equal_blocks)
        return True


class _Slots:
    """Slots tied as wholes, position by position: most ties are of that kind, and need no search through atoms."""

    def __init__(self, slots: list[Slot], atoms: Array) -> None:
        self.slots = slots
        self.atoms = atoms
        self._at = {slot.start: number for number, slot in enumerate(slots)}
        self._parent = list(range(len(slots)))

    def joined(self, ties: list[tuple[Array, Array, str, Reason]]) -> list[tuple[Array, Array]]:
        """Apply the ties between whole slots; returns the others."""
        loose = []
        first_slot: dict[bytes, int] = {}
        for left, right, _, _ in ties:
            one, two = self._whole(left), self._whole(right)
            if one is None:
                left, right, one, two = right, left, two, None
            if one is None:
                loose.append((left, right))
                continue
            if two is None:  # slots tied to the same loose atoms are tied to each other
                two = first_slot.setdefault(right.tobytes(), one)
                if two == one:
                    loose.append((left, right))
            low, high = sorted((self._root(one), self._root(two)))
            self._parent[high] = low
        return loose

    def first(self, atoms: Array) -> Array:
        """For every atom the one at its place in the first slot joined with its own."""
        moves = [self.slots[self._root(number)].start - slot.start for number, slot in enumerate(self.slots)]
        return atoms + np.repeat(np.array(moves, dtype=np.int64), [slot.size for slot in self.slots])

    def _whole(self, some: Array) -> int | None:
        """The slot whose atoms these are, all of them and in order."""
        number = self._at.get(int(some[0]))
        if number is None or self.slots[number].size != some.size:
            return None
        start = self.slots[number].start
        return number if (some == self.atoms[start : start + some.size]).all() else None

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = number = self._parent[self._parent[number]]
        return number


def _linked(left: Array, right: Array, count: int) -> Array:
    """For each of ``count`` atoms the first one that these links lead to: itself where there are none."""
    linked = np.zeros(count, dtype=np.bool_)
    linked[left] = linked[right] = True
    nodes = np.flatnonzero(linked)
    place = np.cumsum(linked) - 1
    links = coo_array((np.ones(len(left)), (place[left], place[right])), shape=(len(nodes), len(nodes)))
    number, labels = connected_components(links, directed=False)
    lowest = np.empty(number, dtype=np.int64)
    lowest[labels[::-1]] = nodes[::-1]  # the last one written is the lowest
    first = np.arange(count, dtype=np.int64)
    first[nodes] = lowest[labels]
    return first


def _real(atoms: Array) -> Array:
    return atoms.ravel()[atoms.ravel() != FIXED]
