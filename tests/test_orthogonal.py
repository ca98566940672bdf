"""Quantized orthogonal matrices: the polar factor of the SVD, finite differences, Weyl's bound, Hadamard's matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.quant.orthogonal import (
    QuantizedOrthogonal,
    bjorck,
    deviation_bound,
    near_orthogonal,
    penalty,
    rounded,
    step_of,
)


def drawn(size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_singular_values(values: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix of these singular values, and its polar factor U Vᵀ."""
    u, _, v = np.linalg.svd(drawn(len(values)).numpy())
    return torch.from_numpy(u * values @ v), torch.from_numpy(u @ v)


@pytest.mark.parametrize("least", [0.9, 0.3, 0.05, 0.002])
def test_bjorck_ends_at_the_polar_factor(least: float) -> None:
    matrix, polar = with_singular_values([3.0, 2.0, 1.7, 1.1, 3 * least])
    rounds = math.ceil(math.log(1 / least) / math.log(1.5)) + 5
    torch.testing.assert_close(bjorck(matrix, rounds), polar, rtol=0, atol=1e-6)
    torch.testing.assert_close(bjorck(matrix, rounds + 3), polar, rtol=0, atol=1e-12)
    early = torch.linalg.svdvals(bjorck(matrix, max(1, rounds - 9)))
    if least < 0.01:
        assert early[-1] < 0.5, "a small singular value takes its rounds"


def test_what_is_orthogonal_stays() -> None:
    _, polar = with_singular_values([1.0] * 6)
    torch.testing.assert_close(bjorck(polar), polar, rtol=0, atol=1e-12)
    assert float(penalty(polar)) < 1e-20


def test_gradients_pass_through_the_rounds() -> None:
    matrix, _ = with_singular_values([1.4, 1.1, 0.9, 0.6])
    assert torch.autograd.gradcheck(lambda a: bjorck(a, 6), matrix.requires_grad_())


@pytest.mark.parametrize("bits", range(2, 9))
def test_rounding_is_that_of_numpy_and_passes_the_gradient(bits: int) -> None:
    matrix = drawn(7).requires_grad_()
    top = 2 ** (bits - 1) - 1
    step = np.abs(matrix.detach().numpy()).max() / top
    result = rounded(matrix, bits)
    np.testing.assert_allclose(result.detach().numpy(), np.rint(matrix.detach().numpy() / step) * step, atol=1e-12)
    assert float(step_of(matrix, bits)) == pytest.approx(step)
    upstream = drawn(7, 1)
    result.backward(upstream)
    assert torch.equal(matrix.grad, upstream)
    hadamard = torch.from_numpy(scipy.linalg.hadamard(16) / 4.0)
    torch.testing.assert_close(rounded(hadamard, bits), hadamard, rtol=0, atol=1e-15)
    if bits == 2:
        assert len(np.unique(np.rint(result.detach().numpy() / step))) <= 3


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_singular_values_stay_within_the_bound(bits: int) -> None:
    for seed in range(3):
        whole = bjorck(drawn(24, seed), 60)
        singular = np.linalg.svd(rounded(whole, bits).numpy(), compute_uv=False)
        bound = deviation_bound(whole, bits)
        assert np.abs(singular - 1).max() <= bound * (1 + 1e-9)
        assert bound <= 24 * float(step_of(whole, bits)) / 2


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_a_matrix_that_is_trained_for_its_bits_is_nearer_to_orthogonal(bits: int) -> None:
    whole = bjorck(drawn(24), 60)
    trained = near_orthogonal(whole, bits)
    singular = [np.linalg.svd(each.numpy(), compute_uv=False) for each in (rounded(whole, bits), trained)]
    nearest, moved = (((each**2 - 1) ** 2).sum() for each in singular)
    assert float(penalty(trained)) == pytest.approx(moved)
    assert moved < 0.8 * nearest
    codes = trained / step_of(trained, bits)
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-9)
    assert codes.abs().max().round() == 2 ** (bits - 1) - 1


def test_a_layer_learns_a_rotation_in_few_bits() -> None:
    """Björck, then the quantizer, in the graph: the gradient reaches the parameter, and the layer stays on its grid."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 4, bias=False).double()
    parametrize.register_parametrization(layer, "weight", QuantizedOrthogonal(4, rounds=30))
    original = layer.parametrizations.weight.original
    torch.testing.assert_close(layer.weight, rounded(bjorck(original, 30), 4))
    target = torch.from_numpy(scipy.linalg.hadamard(4) / 2.0)  # exact at any width
    with torch.no_grad():  # no path leads from rotations to reflections
        original[0] *= (torch.linalg.det(original) * torch.linalg.det(target)).sign()
    optimizer, losses = torch.optim.SGD(layer.parameters(), lr=0.2), []
    for _ in range(80):
        optimizer.zero_grad()
        loss = (layer.weight - target).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 < losses[0]
