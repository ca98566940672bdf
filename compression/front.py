"""The front: the Pareto-optimal ones of several (cost, goodness) places: costs should be small, goodness large."""

from __future__ import annotations

from collections.abc import Sequence

Place = tuple[float, float]


def dominated(places: Sequence[Place]) -> list[bool]:
    """For each place: whether another, different one costs no more and is at least as good."""
    return [bool(beaten_by(places, index)) for index in range(len(places))]


def beaten_by(places: Sequence[Place], index: int) -> list[int]:
    """Indices of the places that dominate this one, the best first, then the cheapest."""
    cost, goodness = places[index]
    better = [i for i, place in enumerate(places) if place[0] <= cost and place[1] >= goodness]
    better = [i for i in better if places[i] != places[index]]
    return sorted(better, key=lambda other: (-places[other][1], places[other][0]))


def front(places: Sequence[Place]) -> list[int]:
    """Indices of the non-dominated places by increasing cost, one of several equal ones."""
    best: list[int] = []
    for index in sorted(range(len(places)), key=lambda i: (places[i][0], -places[i][1])):
        if not best or places[index][1] > places[best[-1]][1]:
            best.append(index)
    return best


def hypervolume(places: Sequence[Place], reference: Place) -> float:
    """The area that the front dominates up to ``reference`` (a cost and a goodness), in units of both multiplied.

    Places that cost more than the reference or are less good add nothing. Zitzler and Thiele 1998, in two dimensions.
    """
    cost, goodness = reference
    inside = [place for place in places if place[0] < cost and place[1] > goodness]
    area, floor = 0.0, goodness
    for index in front(inside):  # from the cheapest: each better one adds a strip above the last, up to the reference
        area += (cost - inside[index][0]) * (inside[index][1] - floor)
        floor = inside[index][1]
    return area
