"""The front: which of several (cost, accuracy) places no other beats in both (Pareto, the smaller cost the better)."""

from __future__ import annotations

from collections.abc import Sequence

Place = tuple[float, float]


def dominated(places: Sequence[Place]) -> list[bool]:
    """For each place: does another one, not equal to it, cost no more and reach at least its accuracy?"""
    return [bool(beaten_by(places, index)) for index in range(len(places))]


def beaten_by(places: Sequence[Place], index: int) -> list[int]:
    """Indices of the places that beat this one, the most accurate first, the cheaper of equally accurate ones first."""
    cost, accuracy = places[index]
    better = [i for i, place in enumerate(places) if place[0] <= cost and place[1] >= accuracy]
    better = [i for i in better if places[i] != places[index]]
    return sorted(better, key=lambda other: (-places[other][1], places[other][0]))


def front(places: Sequence[Place]) -> list[int]:
    """Indices of the unbeaten places from cheap to dear, one of several equal ones."""
    best: list[int] = []
    for index in sorted(range(len(places)), key=lambda i: (places[i][0], -places[i][1])):
        if not best or places[index][1] > places[best[-1]][1]:
            best.append(index)
    return best
