"""Entropy, written once: of a yes or no, of symbols with known counts, and of integer codes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def binary_entropy(probability: ArrayLike) -> Floats:
    """h(p) = -p log2 p - (1 - p) log2 (1 - p) in bits, elementwise; 0 at the ends."""
    p = np.asarray(probability, dtype=np.float64)
    inside = (p > 0) & (p < 1)
    q = np.where(inside, p, 0.5)
    return np.where(inside, -(q * np.log2(q) + (1 - q) * np.log2(1 - q)), 0.0)


def entropy_bits(counts: NDArray[np.int64]) -> float:
    """The fewest bits for symbols with these counts under a memoryless model: Σ n_i log2 (n / n_i)."""
    present = counts[counts > 0].astype(np.float64)
    return float((present * (np.log2(present.sum()) - np.log2(present))).sum())


def entropy_bytes(codes: torch.Tensor) -> float:
    """Bytes that an ideal entropy coder needs for these integers, given their own frequencies."""
    if codes.numel() == 0:
        return 0.0
    flat = codes.flatten().to(torch.int64)
    if int(flat.max() - flat.min()) < 8 * flat.numel() + 1024:  # counting by place is fast, but takes the whole range
        counts = torch.bincount(flat - flat.min())
    else:  # before steps are bounded there may be 32-bit codes
        counts = torch.unique(flat, return_counts=True)[1]
    return entropy_bits(counts.cpu().numpy()) / 8
