"""What is open within a number of bit operations: worth most by the gates' margins A - α (eq. S8, S9)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compression.errors import CompressionError
from compression.methods.sbs.operations import Operations
from compression.quant.spending import Problem, choose

FLOOR = 0.01
"""What a gate is worth that its threshold closes, where room is left or where gates compete for it."""
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Offer:
    """What one layer may have: candidates of bits for its weight and for its input, and what they are worth.

    ``numbers``: the layer's, or those of several that share its weight, among all of the network. ``weight_worth`` and
    ``input_worth``: of every gate; the fewest bits are worth 0, and each candidate the sum of the gates up to it. An
    input in floating point has the one candidate 32.
    """

    numbers: tuple[int, ...]
    weights: tuple[int, ...]
    inputs: tuple[int, ...]
    weight_worth: tuple[float, ...]
    input_worth: tuple[float, ...]


def choose_bits(
    offers: Sequence[Offer], macs: Sequence[float], target: float, exact: bool = True
) -> list[tuple[int, int]]:
    """(weight bits, input bits) of every layer, worth most in all, whose bit operations are at most ``target``.

    ``macs``: of every offer. The sum is maximised exactly (:mod:`compression.quant.spending`), or nearly.

    Raises:
        CompressionError: the fewest bits take more.
    """
    least = fewest_operations(offers, macs)
    if least > target * (1 + _ROUNDING):
        raise CompressionError(
            f"bops: with the fewest bits {least:.4g} bit operations remain, above the {target:.4g} asked for: "
            "choose fewer bits, or remove more"
        )
    pairs = [_by_cost(offer) for offer in offers]
    costs, harms = [], []
    for offer, each, options in zip(offers, macs, pairs, strict=True):
        totals = [[0.0, *itertools.accumulate(gates)] for gates in (offer.weight_worth, offer.input_worth)]
        values = np.array([totals[0][w] + totals[1][i] for w, i in options], dtype=np.float64)
        operations = [each * offer.weights[w] * offer.inputs[i] for w, i in options]
        costs.append(np.array([math.ceil(each * (1 - _ROUNDING)) for each in operations], dtype=np.int64))
        harms.append(values.max(initial=0.0) - values)
    room = max(math.floor(target * (1 + _ROUNDING)), sum(int(cost[0]) for cost in costs))
    picks = choose(Problem(costs, harms, room), exact).picks
    chosen = [options[pick] for options, pick in zip(pairs, picks, strict=True)]
    return [(offer.weights[w], offer.inputs[i]) for offer, (w, i) in zip(offers, chosen, strict=True)]


def fewest_operations(offers: Sequence[Offer], macs: Sequence[float]) -> float:
    """Bit operations with the fewest bits everywhere."""
    return sum(each * offer.weights[0] * offer.inputs[0] for offer, each in zip(offers, macs, strict=True))


def _by_cost(offer: Offer) -> list[tuple[int, int]]:
    """Every pair of candidates, by their numbers, cheapest first."""
    pairs = itertools.product(range(len(offer.weights)), range(len(offer.inputs)))
    return sorted(pairs, key=lambda pick: (offer.weights[pick[0]] * offer.inputs[pick[1]], pick))


def close_units(
    operations: Operations,
    offers: Sequence[Offer],
    worth: Sequence[float],
    group_of: Sequence[int],
    highest: Sequence[int],
    target: float,
) -> list[int]:
    """The units that are closed when gates of all kinds are, those first that are worth least for what they save.

    From the whole network at its most bits on, the gate of a layer's last open offset or the next unit of a group is
    closed that is worth least over the log R it saves, until R is at most ``target`` or nothing more can be closed.
    (Which bits go with these units is then chosen by :func:`choose_bits`.) ``worth``: of every unit; ``highest``: how
    many each group may lose.
    """
    weights, inputs = (np.full(len(operations.layers), 32.0) for _ in range(2))
    levels = [[len(offer.weights) - 1, len(offer.inputs) - 1] for offer in offers]
    counts, closed = [0] * len(highest), list[int]()
    queues: list[list[int]] = [[] for _ in highest]
    for unit in sorted(range(len(worth)), key=lambda unit: (worth[unit], unit)):
        queues[group_of[unit]].append(unit)
    at_once = max(1, len(worth) // 200)

    def write(number: int) -> None:
        for layer in offers[number].numbers:
            weights[layer] = offers[number].weights[levels[number][0]]
            inputs[layer] = offers[number].inputs[levels[number][1]]

    for number in range(len(offers)):
        write(number)
    while True:
        # 1. What every layer takes now, and what one more unit of each group saves
        each = operations.macs(counts) * weights * inputs
        total = float(each.sum())
        if total <= target * (1 + _ROUNDING):
            return closed
        saved = operations.slopes(counts, weights, inputs)[2]
        # 2. The least worth for what it saves, of bits and of units
        best: tuple[float, int, int] = (math.inf, -1, -1)
        for number, offer in enumerate(offers):
            share = float(sum(each[layer] for layer in offer.numbers)) / total
            for kind, (bits, own) in enumerate(
                ((offer.weights, offer.weight_worth), (offer.inputs, offer.input_worth))
            ):
                level = levels[number][kind]
                if level and share > 0:
                    less = share * (1 - bits[level - 1] / bits[level])
                    best = min(best, (own[level - 1] / less, kind, number))
        for group, queue in enumerate(queues):
            if counts[group] < highest[group] and saved[group] > 0:
                best = min(best, (worth[queue[counts[group]]] / float(saved[group]), 2, group))
        # 3. Close it
        _, kind, number = best
        if kind < 0:
            return closed
        if kind < 2:
            levels[number][kind] -= 1
            write(number)
        else:
            more = min(at_once, highest[number] - counts[number])
            closed += queues[number][counts[number] : counts[number] + more]
            counts[number] += more
