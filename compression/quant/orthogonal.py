"""Quantized matrices that are nearly orthogonal, as recurrence needs them: QORNN (arXiv 2402.04012).

A recurrence h_t = W h_{t-1} + U x_t applies one matrix T times. Where WᵀW = I no signal grows or fades; rounding moves
the singular values away from 1, and T steps raise them to the power T. What is computed here can be trained through:
straight through the rounding, through Björck's rounds as they are.
"""

from __future__ import annotations

import torch
from torch import nn

from compression.quant.laplace import levels_of

ROUNDS = 15
"""Rounds of Björck's iteration: singular values of 0.05 and more reach 1."""


def bjorck(matrix: torch.Tensor, rounds: int = ROUNDS) -> torch.Tensor:
    """The orthogonal matrix nearest to ``matrix``, square, of full rank: the polar factor U Vᵀ of its SVD, iterated.

    A ← A / σ_max, then A ← 1.5 A - 0.5 A Aᵀ A. A small singular value grows by 1.5 a round, so that about
    ln(1 / σ_min) / ln 1.5 + 5 rounds are needed; from near 1 each round doubles the digits.
    """
    result = matrix / torch.linalg.matrix_norm(matrix, ord=2)
    for _ in range(rounds):
        result = 1.5 * result - 0.5 * result @ result.mT @ result
    return result


def step_of(matrix: torch.Tensor, bits: int) -> torch.Tensor:
    """δ = max|W| / (2^(b-1) - 1): the grid of ``bits`` bits, 2 or more, whose ends are the largest entries."""
    return matrix.detach().abs().max() / levels_of(bits)


def rounded(matrix: torch.Tensor, bits: int) -> torch.Tensor:
    """q_b(W) = δ round(W / δ); the gradient passes straight through.

    QORNN's grid of k bits is -2^(k-1)..2^(k-1)-1; this one is symmetric, so that ±max|W| are both on it: matrices whose
    entries are all ±c, such as Hadamard's, are exact at any width. Its 2 bits are ternary.
    """
    step = step_of(matrix, bits)
    return matrix + (step * torch.round(matrix / step) - matrix).detach()


class QuantizedOrthogonal(nn.Module):
    """A parametrization (:func:`torch.nn.utils.parametrize.register_parametrization`): the STE-Björck of QORNN.

    The layer computes with q_b(Björck(A)), and the parameter that is trained is A [n, n].
    """

    def __init__(self, bits: int, rounds: int = ROUNDS) -> None:
        super().__init__()
        self.bits, self.rounds = bits, rounds

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        """The matrix of the layer."""
        return rounded(bjorck(matrix, self.rounds), self.bits)


def penalty(matrix: torch.Tensor) -> torch.Tensor:
    """‖WᵀW - I‖² = Σ (σ_i² - 1)²: 0 for orthogonal matrices only."""
    return (matrix.mT @ matrix - torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)).square().sum()


@torch.no_grad()
def near_orthogonal(matrix: torch.Tensor, bits: int, rounds: int = 100, rate: float = 0.1) -> torch.Tensor:
    """A matrix of ``bits`` bits with a smaller :func:`penalty` than that of ``matrix`` rounded, or that itself.

    Descent of the penalty by straight-through steps W ← W - η Q (QᵀQ - I), Q = q_b(W), with η falling to 0; of all Q
    the one with the least penalty. Its gradient is 4 Q (QᵀQ - I), written out here.
    """
    trained, best, least = matrix.clone(), matrix, torch.inf
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    for index in range(rounds):
        current = rounded(trained, bits)
        excess = current.mT @ current - identity
        value = float(excess.square().sum())
        if value < least:
            best, least = current, value
        trained -= rate * (1 - index / rounds) * (current @ excess)
    return best


def deviation_bound(matrix: torch.Tensor, bits: int) -> float:
    """‖q_b(W) - W‖₂: no singular value of an orthogonal W is moved further by rounding (Weyl). It is n δ/2 at most."""
    return float(torch.linalg.matrix_norm(rounded(matrix, bits) - matrix, ord=2))
