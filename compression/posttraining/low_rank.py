"""A matrix of lower rank in place of a layer's: what two factors leave of its weights and of its outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compression.posttraining.follow import neuron_errors

Floats = NDArray[np.float64]
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Factorization:
    """A layer W [n, d] at every rank 0, 1, … R = min(n, d).

    ``singular``: the singular values σ of W, or of W G^½ where whitened, largest first [R]; ``directions``: their left
    vectors [n, R]. ``weights`` and ``outputs``: the squared error of the weights and tr(Δ G Δᵀ), relative to those of
    W, over the rank [R + 1].
    """

    weight: torch.Tensor
    directions: torch.Tensor
    singular: Floats
    weights: Floats
    outputs: Floats

    @property
    def energy(self) -> Floats:
        """The share of each component, σ² / Σ σ² [R]."""
        return self.singular**2 / ((self.singular**2).sum() or 1.0)

    def factors(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer that runs first [rank, d] and the one behind it [n, rank]; their product is W at that rank."""
        basis = self.directions[:, :rank]
        return basis.mT @ self.weight, basis

    def balanced_factors(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with the components' lengths shared by both factors, √‖U_jᵀ W‖ each: one step suits all of them."""
        first, last = self.factors(rank)
        lengths = first.norm(dim=1).sqrt()
        lengths = torch.where(lengths > 0, lengths, 1.0)
        return first / lengths[:, None], last * lengths


def factorize(weight: torch.Tensor, gram: torch.Tensor, whitened: bool) -> Factorization:
    """The best W_r for a weight [n, d], fp64: in the weights, or ``whitened`` in the outputs by the Gram matrix [d, d].

    The truncated SVD is best in the Frobenius norm (Eckart and Young 1936). With W G^½ = U Σ Vᵀ the best in
    tr(Δ G Δᵀ) is (U_r Σ_r V_rᵀ) G^-½, which equals U_r U_rᵀ W: no inverse is needed, G may be singular (eq. C2 of
    ``docs/derivations/cc.md``).
    """
    u, singular = _left_singular(weight, gram) if whitened else torch.linalg.svd(weight, full_matrices=False)[:2]
    # Rows U_jᵀ W are the components; the directions U_j are orthonormal, so that the errors of dropped ones add up
    components = u.mT @ weight
    rest = weight - u @ components
    return Factorization(
        weight,
        u,
        singular.numpy(),
        _dropped(components.square().sum(-1), float(rest.square().sum())),
        _dropped(neuron_errors(components, gram), float(neuron_errors(rest, gram).sum())),
    )


def break_even(outputs: int, inputs: int) -> float:
    """The rank r with r (n + d) = n d, where the factors have as many weights as the layer: below it they save."""
    return outputs * inputs / (outputs + inputs)


def largest_saving(outputs: int, inputs: int) -> int:
    """The largest whole rank below :func:`break_even`."""
    return math.ceil(break_even(outputs, inputs)) - 1


def rank_saving(outputs: int, inputs: int, saved: float) -> int:
    """The largest rank r with r (n + d) ≤ (1 - saved) n d; 0: no factors save that share of the layer.

    It is not misled by binary fractions: of a 20 x 20 layer rank 1 saves 0.9, though 1 - 0.9 is below 0.1.
    """
    return math.floor((1 - saved) * break_even(outputs, inputs) + _ROUNDING)


def _left_singular(weight: torch.Tensor, gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """U and Σ of W G^½: of W G Wᵀ = U Σ² Uᵀ where that is the smaller matrix."""
    n, d = weight.shape
    if n > d:
        u, singular, _ = torch.linalg.svd(weight @ _root(gram), full_matrices=False)
        return u, singular
    squares, vectors = torch.linalg.eigh(weight @ gram @ weight.mT)
    return vectors.flip(-1), squares.flip(-1).clamp_min(0).sqrt()


def _root(gram: torch.Tensor) -> torch.Tensor:
    """A factor S with S Sᵀ = G: from G = V Λ Vᵀ, V Λ^½ (the symmetric root up to a rotation: same U, same σ)."""
    strengths, vectors = torch.linalg.eigh(gram)
    root: torch.Tensor = vectors * strengths.clamp_min(0).sqrt()
    return root


def _dropped(energies: torch.Tensor, rest: float) -> Floats:
    """What components from each rank on come to, relative to all of them: [R] to [R + 1]."""
    remaining = torch.cat([energies.flip(0).cumsum(0).flip(0), energies.new_zeros(1)]) + rest
    shares: Floats = (remaining / (float(remaining[0]) or 1.0)).numpy()
    return shares
