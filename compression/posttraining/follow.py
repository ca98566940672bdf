"""Path following: the weights of a neuron are rounded one after the other, and each makes good for those before it.

With columns x_t of inputs and the Gram matrix G_ts = <x_t, x_s>, the error made so far is u = Σ_{s<t} (w_s - q_s) x_s.
Weight t becomes q_t = T(z_t), where z_t = w_t + <v_t, u> / <v_t, x_t>:

- v_t = x_t: GPFQ and SPFQ (Zhang, Zhou, Saab, arXiv 2201.11113 and 2309.10975; Gram form derived here);
- v_t = the part of x_t that is orthogonal to all later columns: GPTQ (Frantar et al., arXiv 2210.17323), usually
  written with the Cholesky factor of the inverse of G. The later weights can still make good for the rest.

Both are z_t = w_t + Σ_{s<t} F_ts (w_s - q_s) with a strictly lower triangular F, which is all that differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

Direction = Literal["plain", "orthogonal"]
Rounding = Callable[[torch.Tensor, int], torch.Tensor]
"""Maps the values z_t of all neurons [groups, N] at position t to values of the grid."""

BLOCK = 128
MOST_TRIES = 12


def damped(gram: torch.Tensor, damping: float) -> torch.Tensor:
    """G + λI, with λ the share ``damping`` of the mean of the diagonal (1 where all of it is 0): [groups, d, d]."""
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    mean = diagonal.mean(-1)
    more = damping * torch.where(mean > 0, mean, torch.ones_like(mean))
    return gram + torch.diag_embed(more[:, None].expand_as(diagonal))


def factor(gram: torch.Tensor, damping: float) -> tuple[torch.Tensor, float]:
    """The upper triangular R with R Rᵀ = G + λI, and the damping that made it possible: tenfold until it is.

    A Gram matrix of fewer rows than it has columns, or of inputs that depend on each other, is singular.
    """
    for _ in range(MOST_TRIES):
        lower, failed = torch.linalg.cholesky_ex(damped(gram, damping).flip(-1, -2))
        if not bool(failed.any()):
            return lower.flip(-1, -2), damping
        damping = max(10 * damping, 1e-8)
    raise ArithmeticError("a Gram matrix that is not finite")


def feedback(gram: torch.Tensor, direction: Direction, damping: float = 0.0) -> tuple[torch.Tensor, float]:
    """F of the module's equation [groups, d, d], strictly lower triangular, and the damping that was needed.

    Where an input is always 0 its row of F is 0: the weight is rounded as it is.
    """
    if direction == "plain":
        squares = gram.diagonal(dim1=-2, dim2=-1)[..., None]
        # <x_t, x_s> / <x_t, x_t>
        return torch.where(squares > 0, gram / squares, 0.0).tril(-1), damping
    # In the coordinates of R's rows, x_t has entries from t on, those later are spanned by the later columns:
    # what is orthogonal to them is the entry at t alone, so <v_t, x_s> = R_tt R_st and <v_t, x_t> = R_tt².
    upper, damping = factor(gram, damping)
    return (upper / upper.diagonal(dim1=-2, dim2=-1)[..., None, :]).mT.tril(-1), damping


def follow(weights: torch.Tensor, back: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    """Round all neurons of a layer along the same path.

    Args:
        weights: [groups, N, d], in the order of the path.
        back: F of :func:`feedback` [groups, d, d].
        rounding: T, for the values of one position.

    Returns:
        the values of the grid [groups, N, d].
    """
    d = weights.shape[-1]
    targets, result = weights.clone(), torch.empty_like(weights)
    for begin in range(0, d, BLOCK):
        end = min(begin + BLOCK, d)
        own = back[:, begin:end, begin:end].mT.contiguous()  # [groups, s, t] within the block
        errors = torch.zeros_like(targets[..., begin:end])
        for t in range(end - begin):
            # z_t: the weight, and what the positions before it in this block leave to make good for
            z = targets[..., begin + t] + (errors[..., :t] @ own[:, :t, t, None])[..., 0]
            result[..., begin + t] = rounding(z, begin + t)
            errors[..., t] = weights[..., begin + t] - result[..., begin + t]
        # What the block leaves to all later positions at once
        targets[..., end:] += errors @ back[:, end:, begin:end].mT
    return result


def aligned(weights: torch.Tensor, gram: torch.Tensor, cross: torch.Tensor, damping: float) -> torch.Tensor:
    """The weights w̃ = (G + λI)⁻¹ (C + λI) w that give with the inputs x̃ what ``weights`` give with the dense network's.

    ``cross``: C = Σ x̃ xᵀ. Least squares, drawn towards the weights themselves by λ: [groups, N, d].
    """
    more = damped(gram, damping)
    lower, failed = torch.linalg.cholesky_ex(more)
    if bool(failed.any()):
        return weights
    return torch.cholesky_solve((cross + (more - gram)) @ weights.mT, lower).mT


def neuron_errors(difference: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Σ over rows x of (Δ x)² = diag(Δ G Δᵀ), for Δ [groups, N, d]: [groups, N]."""
    return ((difference @ gram) * difference).sum(-1)


def output_error(difference: torch.Tensor, gram: torch.Tensor) -> float:
    """Σ over rows and neurons, tr(Δ G Δᵀ)."""
    return float(neuron_errors(difference, gram).sum())
