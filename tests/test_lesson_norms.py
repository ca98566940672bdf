"""One number for all layers, lesson 14: codes counted by hand, every combination tried, the theory of fine steps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch

from compression.quant.tables import LayerTable, LayerTables
from lessons.maths import norms
from lessons.norms import lesson


def _layers(sizes: tuple[int, ...], scales: tuple[float, ...]) -> list[LayerTable]:
    generator = torch.Generator().manual_seed(0)
    drawn = {
        f"{i}": scale * torch.randn(size, generator=generator)
        for i, (size, scale) in enumerate(zip(sizes, scales, strict=True))
    }
    return list(LayerTables.prepare(drawn).layers)


def test_coded_bits_are_the_entropy_of_codes_with_their_signs() -> None:
    values = np.repeat([0.0, 0.3, -0.3, 1.1, -1.1, 2.0, -2.0], [5, 3, 3, 2, 2, 1, 1])  # as many of either sign
    (table,) = LayerTables.prepare({"w": torch.tensor(values)}).layers
    for step in (0.2, 0.5, 1.0, 3.0):
        codes = np.rint(values.astype(np.float32).astype(np.float64) / step)
        entropy = scipy.stats.entropy(np.unique(codes, return_counts=True)[1], base=2)
        bits, error = norms.coded(table, step)
        assert bits == pytest.approx(len(values) * entropy)
        assert error == pytest.approx(((values - step * codes) ** 2).sum(), rel=1e-5)


def test_the_number_spends_what_there_is() -> None:
    tables = _layers((600, 2400), (1.0, 0.3))
    for average in (1.5, 3.0):
        k, way = norms.by_norm(tables, average * 3000)
        assert way.steps == pytest.approx([float(np.linalg.norm(t.magnitudes)) / k for t in tables], rel=1e-5)
        assert 0.97 * average < way.average((600, 2400)) <= average


def test_the_allocation_is_the_best_of_all_combinations() -> None:
    tables = _layers((600, 900), (1.0, 0.2))
    curves = norms.curves(tables)
    for omega, average in itertools.product(([1.0, 1.0], [1.0, 20.0]), (2.0, 3.5)):
        budget = average * 1500
        chosen = norms.at(tables, curves.cheapest(budget, np.array(omega)))
        assert np.ceil(chosen.bits).sum() <= budget
        best = min(
            omega[0] * curves.errors[0][i] + omega[1] * curves.errors[1][j]
            for i, j in itertools.product(*map(range, map(len, curves.steps)))
            if curves.bits[0][i] + curves.bits[1][j] <= budget
        )
        assert (omega * chosen.errors).sum() == pytest.approx(best, rel=1e-9)


def test_relative_errors_give_steps_by_norm_and_plain_ones_equal_steps() -> None:
    # Many weights of one shape: the theory of fine steps holds
    sizes = (20_000, 5_000, 80_000)
    tables = _layers(sizes, (1.0, 0.1, 0.4))
    curves, budget = norms.curves(tables), 6.0 * sum(sizes)
    _, by_norm = norms.by_norm(tables, budget)
    relative = np.array(curves.cheapest(budget, 1 / norms.norms(tables) ** 2))
    plain = np.array(curves.cheapest(budget, np.ones(3)))
    grid = 2 ** (4.5 / norms.FINENESS)  # the optimum is flat: four steps of the grid change next to nothing
    assert (np.maximum(relative / by_norm.steps, by_norm.steps / relative) < grid).all()
    assert plain.max() / plain.min() < grid
    bits = by_norm.bits / sizes
    assert bits[1] - bits[0] == pytest.approx(1, abs=0.02), "a quarter of the weights: one bit more"
    assert bits[0] - bits[2] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("average", [2.0, 3.0, 5.0])
def test_on_the_trained_network_either_way_wins_by_its_own_measure(average: float) -> None:
    _, ways = lesson.solved(average)
    lengths, budget = norms.norms(lesson.layers()), average * sum(layer.size for layer in lesson.layers())
    errors = {name: (float((way.errors / lengths**2).sum()), float(way.errors.sum())) for name, way in ways.items()}
    assert errors[lesson.ENERGY][0] <= errors["norm"][0] * 1.001 < errors[lesson.EQUAL][0]
    assert errors[lesson.EQUAL][1] < errors["norm"][1]
    for way in ways.values():
        assert budget * 0.99 < way.bits.sum() <= budget
    assert np.median(ways[lesson.ENERGY].steps / ways["norm"].steps) == pytest.approx(1, abs=0.1)
