"""Atoms, one per position of every parameter dimension: what ties, freezes and blurs them, resolved once at the end."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

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
    """A remark on some atoms: where it was made, and why."""

    atoms: Array
    where: str
    why: str


@dataclass
class Atoms:
    """The bookkeeping of a trace: slots, ties between atoms, and remarks (frozen, inexact, roles).

    ``inexact``: whether units may go although the others notice (see :meth:`average`).
    """

    inexact: bool = False
    slots: list[Slot] = field(default_factory=list)
    ties: list[tuple[Array, Array, str, str]] = field(default_factory=list)
    frozen: list[Note] = field(default_factory=list)
    blurred: list[Note] = field(default_factory=list)
    rectangles: list[Array] = field(default_factory=list)
    consumers: list[Array] = field(default_factory=list)
    producers: list[Array] = field(default_factory=list)
    norms: list[Array] = field(default_factory=list)
    carried: list[tuple[str, Array]] = field(default_factory=list)  # node id, atoms of its output
    own: frozenset[str] = frozenset()  # names of quantizers' own parameters
    count: int = 0

    def slot(self, name: str, dim: int, size: int, buffer: bool) -> Array:
        """Fresh atoms for one dimension of a parameter: int64 [size]."""
        self.slots.append(Slot(name, dim, self.count, size, buffer))
        self.count += size
        return np.arange(self.count - size, self.count, dtype=np.int64)

    def tie(self, left: Array, right: Array, where: str, why: str) -> None:
        """Position by position, what ``left`` and ``right`` name must go together; a FIXED partner freezes."""
        left, right = np.broadcast_arrays(left, right)
        left, right = left.ravel(), right.ravel()
        fixed = (left == FIXED) != (right == FIXED)
        if fixed.any():
            self.freeze(np.maximum(left, right)[fixed], where, "combined with positions that no unit owns")
        both = (left != FIXED) & (right != FIXED) & (left != right)
        if both.any():
            self.ties.append((left[both], right[both], where, why))

    def freeze(self, atoms: Array, where: str, why: str) -> None:
        """These may not be removed, for this reason."""
        atoms = _real(atoms)
        if atoms.size:
            self.frozen.append(Note(atoms, where, why))

    def blur(self, atoms: Array, where: str, why: str) -> None:
        """Removing these changes the output although they are zero."""
        atoms = _real(atoms)
        if atoms.size:
            self.blurred.append(Note(atoms, where, why))

    def average(self, atoms: Array, where: str, why: str) -> None:
        """Removing these changes what the others give, as behind a norm over them: frozen unless asked for."""
        if not self.inexact:
            self.freeze(atoms, where, why)
        self.blur(atoms, where, why)

    def resolve(self) -> Array:
        """The unit of every atom: int64 [count]. Rectangles left open are closed along their longest side first."""
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
        if not self.ties:
            return np.arange(self.count, dtype=np.int64)
        left = np.concatenate([tie[0] for tie in self.ties])
        right = np.concatenate([tie[1] for tie in self.ties])
        links = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(self.count, self.count))
        return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)

    def _close(self, rectangle: Array, units: Array) -> bool:
        """An axis split into several stays a box only if whole slices along one side go together."""
        if (rectangle == FIXED).any():
            self.freeze(rectangle, "", "an axis with padded positions is split")
            return False
        named = units[rectangle]
        sides = [axis for axis, size in enumerate(rectangle.shape) if size > 1]
        slabs = {axis: np.moveaxis(named, axis, 0).reshape(rectangle.shape[axis], -1) for axis in sides}
        if len(sides) < 2 or any((slab == slab[:, :1]).all() for slab in slabs.values()):
            return False
        longest = max(sides, key=lambda axis: rectangle.shape[axis])
        slab = np.moveaxis(rectangle, longest, 0).reshape(rectangle.shape[longest], -1)
        self.tie(slab, slab[:, :1], "", "parts of an axis that is split into equal blocks")
        return True


def _real(atoms: Array) -> Array:
    return atoms.ravel()[atoms.ravel() != FIXED]
