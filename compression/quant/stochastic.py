"""Stochastic rounding: each value becomes one of its two neighbouring levels, at random, and is right on average.

Values come in blocks, [B, n], each with levels of its own, [B, K] ascending. Which levels are best for this rounding is
:mod:`.gradient_levels`. Codes are packed into bytes, so that what is counted is what is sent.
"""

from __future__ import annotations

import torch

BYTE = 8


def neighbours(blocks: torch.Tensor, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The code k of the level at or below each value, int64 [B, n], and the levels l_k and l_{k+1} around it.

    Values beyond the ends are taken to lie between the two last levels.
    """
    below = torch.searchsorted(levels, blocks, right=True).sub_(1).clamp_(0, levels.shape[1] - 2)
    return below, levels.gather(1, below), levels.gather(1, below + 1)


def round_stochastically(
    blocks: torch.Tensor, levels: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Codes, uint8 [B, n]: v in [l_k, l_{k+1}] becomes l_{k+1} with probability (v - l_k) / (l_{k+1} - l_k).

    So E q(v) = v for every v between the first and the last level: the rounding of ORQ (arXiv 2002.11082, random
    rounding between neighbours). ``levels`` of one value only (a width of 0) leave it as it is.
    """
    below, low, high = neighbours(blocks, levels)
    draws = torch.rand(blocks.shape, generator=generator, device=blocks.device, dtype=blocks.dtype)
    # u < p as u (l_{k+1} - l_k) < v - l_k: no division by a width of 0
    return (below + (draws * (high - low) < blocks - low)).to(torch.uint8)


def round_to_nearest(blocks: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Codes of the nearest levels, uint8 [B, n]: less error of each value, and the same one every time."""
    below, low, high = neighbours(blocks, levels)
    return (below + (high - blocks < blocks - low)).to(torch.uint8)


def variances(blocks: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """E (q(v) - v)² = (l_{k+1} - v)(v - l_k) of each value under :func:`round_stochastically`, [B, n]."""
    _, low, high = neighbours(blocks, levels)
    return (high - blocks) * (blocks - low)


def values_of(codes: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """What codes [B, n] stand for."""
    return levels.gather(1, codes.long())


def packed_bytes(count: int, bits: int) -> int:
    """The bytes of ``count`` codes of ``bits`` each: whole groups of eight codes."""
    return -(-count // BYTE) * bits


def pack_codes(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes below 2^bits, uint8 [n], without gaps in uint8 [:func:`packed_bytes`]; the low bit of a code first."""
    places = torch.arange(bits, device=codes.device, dtype=torch.uint8)
    padded = torch.nn.functional.pad(codes, (0, -len(codes) % BYTE))
    return _joined((padded[:, None] >> places & 1).reshape(-1, BYTE))


def unpack_codes(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """The first ``count`` codes that :func:`pack_codes` packed, uint8 [count]."""
    places = torch.arange(BYTE, device=packed.device, dtype=torch.uint8)
    return _joined((packed[:, None] >> places & 1).reshape(-1, bits))[:count]


def _joined(digits: torch.Tensor) -> torch.Tensor:
    """The numbers whose binary digits stand in the rows, low ones first: uint8 [rows, up to 8] to uint8 [rows]."""
    places = torch.arange(digits.shape[1], device=digits.device, dtype=torch.uint8)
    return (digits << places).sum(dim=1, dtype=torch.uint8)
