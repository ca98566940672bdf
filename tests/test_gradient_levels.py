"""Levels for gradients and stochastic rounding: all values tried out, scipy, enumeration, numpy's bits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from compression.quant.gradient_levels import best_levels, even_levels, middle_level, symmetric_pair, two_means
from compression.quant.stochastic import (
    pack_codes,
    packed_bytes,
    round_stochastically,
    round_to_nearest,
    unpack_codes,
    values_of,
    variances,
)

Floats = NDArray[np.float64]


def drawn(rows: int, count: int, seed: int = 0) -> torch.Tensor:
    """Blocks of skewed, heavy-tailed values in which some occur more than once."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, count, generator=generator, dtype=torch.float64)
    values = values * torch.rand(rows, count, generator=generator, dtype=torch.float64).exp().square() + 0.3
    values[:, : count // 5] = 0.0
    return values


def error(values: Floats, levels: Floats) -> float:
    """Σ E (q(v) - v)² from the probabilities of both neighbours, with numpy."""
    total = 0.0
    for v in values:
        k = min(int(np.searchsorted(levels, v, side="right")) - 1, len(levels) - 2)
        low, high = levels[k], levels[k + 1]
        up = (v - low) / (high - low) if high > low else 0.0
        total += up * (high - v) ** 2 + (1 - up) * (v - low) ** 2
    return total


@pytest.mark.parametrize("bits", [2, 3])
def test_each_level_is_the_best_of_all_values_between_its_neighbours(bits: int) -> None:
    for block in drawn(6, 50):
        levels = best_levels(block[None], bits, sweeps=40)[0].numpy()
        assert len(levels) == 2**bits
        assert (levels[0], levels[-1]) == (float(block.min()), float(block.max()))
        least = error(block.numpy(), levels)
        for k in range(1, len(levels) - 1):
            between = [v for v in block.tolist() if levels[k - 1] <= v <= levels[k + 1]]
            tried = [error(block.numpy(), np.array([*levels[:k], v, *levels[k + 1 :]])) for v in between]
            assert least == pytest.approx(min(tried))
            # ORQ's condition: as many values at or above the level as Σ (v - l_{k-1}) / (l_{k+1} - l_{k-1}), at a jump
            inside = np.array(between)
            share = (inside - levels[k - 1]).sum() / (levels[k + 1] - levels[k - 1])
            assert (inside > levels[k]).sum() <= share <= (inside >= levels[k]).sum()


def test_four_levels_are_nearly_the_best_of_all_fours_and_sweeps_never_add_error() -> None:
    for block in drawn(5, 36, seed=1):
        values = np.sort(block.numpy())
        pairs = itertools.combinations(np.unique(values[1:-1]), 2)
        least = min(error(values, np.array([values[0], *pair, values[-1]])) for pair in pairs)
        swept = [error(values, best_levels(block[None], 2, sweeps)[0].numpy()) for sweeps in range(6)]
        assert all(after <= before * (1 + 1e-12) for before, after in itertools.pairwise(swept))
        assert least * (1 - 1e-12) <= swept[-1] <= 1.05 * least


def test_without_sweeps_the_split_that_saves_least_is_left_out() -> None:
    """The middle level, one in each half, and of these two the better one."""

    def best(values: Floats, low: float, high: float) -> float:
        inside = values[(values >= low) & (values <= high)]
        return float(min(inside, key=lambda v: error(inside, np.array([low, v, high]))))

    for block in drawn(12, 45, seed=5):
        values = np.sort(block.numpy())
        low, high = values[[0, -1]].tolist()
        middle = best(values, low, high)
        fours = [[low, best(values, low, middle), middle, high], [low, middle, best(values, middle, high), high]]
        least = min(error(values, np.array(four)) for four in fours)
        assert error(values, best_levels(block[None], 2, sweeps=0)[0].numpy()) == pytest.approx(least)


def test_the_middle_level_is_the_best_of_all_values() -> None:
    for block in drawn(8, 45, seed=4):
        values, level = np.sort(block.numpy()), float(middle_level(block[None]))
        ends = values[0], values[-1]
        least = min(error(values, np.array([ends[0], value, ends[1]])) for value in values)
        assert level in values
        assert error(values, np.array([ends[0], level, ends[1]])) == pytest.approx(least)


def test_two_levels_are_the_ends_and_equal_values_need_no_more() -> None:
    blocks = drawn(3, 40)
    ends = torch.stack([blocks.amin(1), blocks.amax(1)], dim=1)
    assert torch.equal(best_levels(blocks, 1), ends)
    assert torch.equal(even_levels(blocks, 1), ends)
    same = torch.full((2, 30), 0.7)
    for levels in (best_levels(same, 3), even_levels(same, 3), two_means(same)):
        assert torch.equal(values_of(round_stochastically(same, levels), levels), same)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_error_is_below_that_of_even_levels(bits: int) -> None:
    blocks = drawn(8, 2048, seed=2)
    best, even = (variances(blocks, way(blocks, bits)).sum(1) for way in (best_levels, even_levels))
    assert (best < 0.8 * even).all()


def test_variances_are_those_of_both_neighbours() -> None:
    blocks = drawn(4, 60)
    for levels in (best_levels(blocks, 3), even_levels(blocks, 2)):
        for block, own, computed in zip(blocks, levels, variances(blocks, levels).sum(1), strict=True):
            assert float(computed) == pytest.approx(error(block.numpy(), own.numpy()))


def test_stochastic_rounding_is_right_on_average_and_rounding_to_nearest_is_not() -> None:
    blocks, draws = drawn(2, 300), 4000
    levels, generator = best_levels(blocks, 2), torch.Generator().manual_seed(1)
    mean = torch.stack([values_of(round_stochastically(blocks, levels, generator), levels) for _ in range(draws)]).mean(
        0
    )
    deviation = (variances(blocks, levels) / draws).sqrt()
    assert ((mean - blocks).abs() <= 5 * deviation + 1e-12).all()
    z = ((mean - blocks) / deviation)[deviation > 0]
    assert float(z.square().mean()) == pytest.approx(1, abs=0.2), "the variance is that of the formula"
    nearest = values_of(round_to_nearest(blocks, levels), levels)
    assert torch.equal((nearest - blocks).abs(), (blocks[:, :, None] - levels[:, None, :]).abs().amin(dim=2))
    assert ((nearest - blocks).abs() > 5 * deviation).any()


def test_values_that_are_not_finite_are_not_hidden() -> None:
    blocks = drawn(3, 64).float()
    blocks[0, 5], blocks[1, 6] = torch.nan, -torch.inf
    for levels in (best_levels(blocks, 3), two_means(blocks)):
        assert levels[:2].isnan().all()
        assert levels[2].isfinite().all()


def test_bingrad_b_has_the_best_two_means() -> None:
    for block in drawn(6, 41):
        values = np.sort(block.numpy())
        splits = [(values[:i], values[i:]) for i in range(1, len(values))]
        least = min(sum(((part - part.mean()) ** 2).sum() for part in split) for split in splits)
        levels = two_means(block[None])
        rounded = values_of(round_to_nearest(block[None], levels), levels)[0]
        assert float((rounded - block).square().sum()) == pytest.approx(least), "its threshold is the middle of both"
        assert float(rounded.sum()) == pytest.approx(float(block.sum()))


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_bingrad_pb_is_where_clipping_and_rounding_balance(scale: float) -> None:
    """With a large outlier the slope jumps over 0 at a value."""
    blocks = drawn(6, 41)
    blocks[:, -1] = scale
    blocks[-1] = torch.tensor([1.0, -1.0]).double()[torch.arange(41) % 2]
    for block in blocks:
        magnitudes = block.abs().numpy()

        def both(b: float, a: Floats = magnitudes) -> float:
            return float(np.where(a <= b, b * b - a * a, (a - b) ** 2).sum())

        best = minimize_scalar(both, bounds=(0, magnitudes.max() * 1.1), method="bounded", options={"xatol": 1e-10})
        low, high = symmetric_pair(block[None])[0].tolist()
        assert low == -high
        assert high == pytest.approx(best.x, abs=1e-6)
        assert both(high) <= best.fun * (1 + 1e-9)


def test_the_pair_of_a_normal_density() -> None:
    """b·n = Σ_{|v|>b} |v| of |N(0, 1)|: b = 2 φ(b), 0.6489."""
    normal = torch.randn(1, 400_000, generator=torch.Generator().manual_seed(0))
    assert float(symmetric_pair(normal)[0, 1]) == pytest.approx(0.648863, abs=0.003)


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_have_no_gaps_between_them(bits: int) -> None:
    codes = torch.randint(0, 2**bits, (1003,), dtype=torch.uint8, generator=torch.Generator().manual_seed(bits))
    packed = pack_codes(codes, bits)
    digits = np.unpackbits(codes.numpy()[:, None], axis=1, bitorder="little")[:, :bits]
    expected = np.packbits(digits.ravel(), bitorder="little")
    assert packed[: len(expected)].tolist() == expected.tolist()
    assert len(packed) == packed_bytes(1003, bits) == 126 * bits
    assert torch.equal(unpack_codes(packed, bits, 1003), codes)
