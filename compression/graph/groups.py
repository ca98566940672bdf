"""From resolved atoms to groups: units with the same slots form one group, named after its first producer."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array

from compression.graph.provenance import Array, Note, Provenance
from compression.graph.reasons import Code, Reason
from compression.graph.types import Group, Member, Tie


@dataclass
class _Tables:
    """Per-atom facts: unit, slot, role (0 producer, 1 norm, 2 consumer, 3 quantizer), remark numbers (-1: none)."""

    units: Array
    slot: Array
    role: Array
    frozen: Array
    blurred: Array
    carried: NDArray[np.bool_]
    starts: Array  # of the slots


ROLES = ("producer", "norm", "consumer", "quantizer")
CONSUMER = 2


def find_groups(
    provenance: Provenance, sizes: Mapping[str, tuple[int, ...]], layer_weights: set[str]
) -> tuple[Group, ...]:
    """Every group of the network, prunable or frozen, in forward order (GETA, paper section 4.1).

    Args:
        atoms: the bookkeeping of a replayed trace.
        sizes: shape of every parameter and buffer.
        layer_weights: names of the conv and linear weights; a frozen set of slices without any of them is no group.
    """
    if not provenance.count:
        return ()
    tables = _tables(provenance)
    return _named(provenance, tables, sizes, _families(provenance, tables, layer_weights))


def _families(provenance: Provenance, tables: _Tables, layer_weights: set[str]) -> list[Array]:
    """Units with the same slots, equally often, and the same remarks: a list of int64 [units, atoms of a unit]."""
    order, starts = _by_unit(tables.units)
    is_layer = np.array([slot.name in layer_weights for slot in provenance.slots])

    def any_of(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.logical_or.reduceat(flags[order], starts)

    frozen, blurred = tables.frozen[order][starts], tables.blurred[order][starts]
    selected = any_of(tables.carried) & any_of(tables.role < CONSUMER)
    selected &= any_of(is_layer[tables.slot]) | (frozen < 0)
    # equal multisets of slots have equal sums of random 64-bit numbers; unequal ones practically never
    marks = np.random.default_rng(0).integers(1, 2**63, size=len(provenance.slots) + 3, dtype=np.int64)
    sums = np.add.reduceat(marks[tables.slot[order]], starts)
    lengths = np.diff(np.r_[starts, len(order)])
    remarks = _reason_numbers(provenance.frozen, frozen), _reason_numbers(provenance.blurred, blurred)
    keys = sums + sum(mark * part for mark, part in zip(marks[-3:], (lengths, *remarks), strict=True))
    by_key = np.flatnonzero(selected)
    by_key = by_key[np.argsort(keys[by_key], kind="stable")]
    borders = np.flatnonzero(np.diff(keys[by_key])) + 1
    alike = np.split(by_key, borders) if len(by_key) else []
    return [order[starts[units][:, None] + np.arange(lengths[units[0]])] for units in alike]


def _by_unit(units: Array) -> tuple[Array, Array]:
    """The atoms unit by unit, each unit's in order (a counting sort), and where each unit begins."""
    count = len(units)
    places = (np.ones(count, dtype=np.int8), (units, np.arange(count)))
    rows = coo_array(places, shape=(int(units.max()) + 1, count)).tocsr()
    return rows.indices.astype(np.int64), rows.indptr[:-1].astype(np.int64)


def _tables(provenance: Provenance) -> _Tables:
    units = provenance.resolve()
    slot = np.repeat(np.arange(len(provenance.slots)), [s.size for s in provenance.slots])
    role = np.zeros(provenance.count, dtype=np.int64)
    for marked, value in ((provenance.norms, 1), (provenance.consumers, 2), (provenance.producers, 0)):
        role[_joined(marked)] = value
    for entry in provenance.slots if provenance.quantizer_parameters else ():
        if entry.name in provenance.quantizer_parameters:
            role[entry.start : entry.start + entry.size] = ROLES.index("quantizer")
    zeroed = (role < CONSUMER) & ~np.array([entry.buffer for entry in provenance.slots], dtype=np.bool_)[slot]
    for requirement in provenance.requirements:
        remark = provenance.blur if requirement.zeroed else provenance.freeze
        remark(requirement.broken(zeroed), requirement.where, requirement.why)
    carried = np.zeros(provenance.count, dtype=np.bool_)
    carried[_joined([atoms for _, atoms in provenance.carried])] = True
    starts = np.array([s.start for s in provenance.slots], dtype=np.int64)
    return _Tables(
        units, slot, role, _first(provenance.frozen, units), _first(provenance.blurred, units), carried, starts
    )


def _joined(parts: list[Array]) -> Array:
    """All atoms of several arrays, without the positions that no unit owns."""
    atoms = np.concatenate([np.empty(0, dtype=np.int64), *parts])
    return atoms[atoms >= 0]


def _first(notes: list[Note], units: Array) -> Array:
    """For every atom the number of the first remark on its unit, -1 without any."""
    per_unit = np.full(int(units.max()) + 1, -1, dtype=np.int64)
    for number in range(len(notes) - 1, -1, -1):
        per_unit[units[notes[number].atoms]] = number
    return per_unit[units]


def _reason_numbers(notes: list[Note], numbers: Array) -> Array:
    """Remarks for the same reason get the same number; -1 stays -1."""
    numbered = {why: i for i, why in enumerate(dict.fromkeys(note.why for note in notes))}
    return np.array([*(numbered[note.why] for note in notes), -1], dtype=np.int64)[numbers]


def _named(
    provenance: Provenance, tables: _Tables, sizes: Mapping[str, tuple[int, ...]], families: list[Array]
) -> tuple[Group, ...]:
    families = sorted(families, key=lambda family: int(family[0].min()))
    family_of = _family_of(provenance, families)
    nodes, ties = _nodes(provenance, family_of, len(families)), _ties(provenance, family_of, len(families))
    groups: list[Group] = []
    used: dict[str, int] = defaultdict(int)
    for number, family in enumerate(families):
        members = _members(provenance, tables, sizes, family)
        first = next(m for m in members if m.role in ("producer", "norm"))
        base = first.name.rsplit(".", 1)[0] if "." in first.name else first.name
        used[base] += 1
        name = base if used[base] == 1 else f"{base}#{used[base]}"
        frozen, blurred = int(tables.frozen[family[0][0]]), int(tables.blurred[family[0][0]])
        note = provenance.frozen[frozen] if frozen >= 0 else provenance.blurred[blurred] if blurred >= 0 else None
        free = note is None or (frozen < 0 and provenance.inexact)
        cause = note.why if note is not None else Reason(Code.single_unit) if len(family) == 1 else None
        if not any(member.zeroed for member in members):
            free, cause = False, cause or Reason(Code.no_parameter)
        groups.append(
            Group(
                id=name,
                units=len(family),
                prunable=free and len(family) > 1,
                cause=cause,
                place=note.where if note is not None else "",
                exact=blurred < 0,
                ties=tuple(ties[number]),
                members=members,
                nodes=tuple(dict.fromkeys(nodes[number])),
            )
        )
    return tuple(groups)


def _members(
    provenance: Provenance, tables: _Tables, sizes: Mapping[str, tuple[int, ...]], family: Array
) -> tuple[Member, ...]:
    """One member per slot: family is int64 [units, atoms per unit], each row sorted, alike rows aligned by slot."""
    slots = tables.slot[family[0]]  # in order, because the atoms of a unit are
    borders = [0, *(np.flatnonzero(np.diff(slots)) + 1).tolist(), len(slots)]
    places = np.ascontiguousarray((family - tables.starts[slots]).T)
    roles = tables.role[family[0]].tolist()
    members = []
    for begin, end in itertools.pairwise(borders):
        slot = provenance.slots[slots[begin]]
        positions = torch.from_numpy(np.ascontiguousarray(places[begin:end].T))
        numel = math.prod(sizes[slot.name]) // slot.size * (end - begin)
        members.append(Member(slot.name, slot.dim, ROLES[roles[begin]], numel, positions, slot.buffer))
    return tuple(members)


def _nodes(provenance: Provenance, family_of: Array, count: int) -> list[list[str]]:
    """For every family the nodes whose output carries its units."""
    nodes: list[list[str]] = [[] for _ in range(count)]
    for number, family in _meetings(family_of, [atoms for _, atoms in provenance.carried]):
        nodes[family].append(provenance.carried[number][0])
    return nodes


def _ties(provenance: Provenance, family_of: Array, count: int) -> list[dict[Tie, None]]:
    """For every family what ties its units, in forward order, each reason once."""
    by_family: list[dict[Tie, None]] = [{} for _ in range(count)]
    named = [tie for tie in provenance.ties if tie[2]]
    for number, family in _meetings(family_of, [first for first, _, _, _ in named]):
        by_family[family][Tie(named[number][2], named[number][3])] = None
    return by_family


def _meetings(family_of: Array, parts: list[Array]) -> list[tuple[int, int]]:
    """Which array contains atoms of which family: pairs of their numbers, in order, each once."""
    flat = np.concatenate([np.empty(0, dtype=np.int64), *parts])
    ends = np.cumsum([len(atoms) for atoms in parts])
    family = np.append(family_of, -1)[flat]  # FIXED falls on the last place
    new = np.zeros(len(flat) + 1, dtype=np.bool_)  # a run of one family in one array counts once
    new[1:-1] = family[1:] != family[:-1]
    new[[0, *ends]] = True
    places = np.flatnonzero(new[:-1] & (family >= 0))
    part = np.searchsorted(ends, places, side="right")
    count = int(family.max(initial=0)) + 1
    pairs = np.unique(part * count + family[places]).tolist()
    return [divmod(pair, count) for pair in pairs]


def _family_of(provenance: Provenance, families: list[Array]) -> Array:
    """The number of the family every atom belongs to, -1 for none."""
    numbers = np.full(provenance.count, -1, dtype=np.int64)
    for number, family in enumerate(families):
        numbers[family.ravel()] = number
    return numbers
