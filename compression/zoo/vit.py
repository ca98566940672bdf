"""A tiny vision transformer (Dosovitskiy et al. 2021): pre-norm blocks, fused query-key-value, mean over tokens."""

from __future__ import annotations

import torch
from torch import nn

from compression.errors import CompressionError

PATCH, WIDTH, DEPTH, HEADS, HIDDEN = 4, 96, 4, 4, 384


class Attention(nn.Module):
    """Multi-head self-attention; sizes in ``forward`` follow ``num_heads`` and ``head_dim``: heads can be removed."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.head_dim = width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, tokens, width] to the same shape."""
        batch, tokens, _ = x.shape
        parts = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        weights = torch.softmax(query @ key.transpose(-2, -1) * self.head_dim**-0.5, dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, tokens, self.num_heads * self.head_dim)
        return self.proj(mixed)


class Block(nn.Module):
    """Attention and a two-layer perceptron, each after a layer norm and added to its input."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, tokens, width] to the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches to tokens, a learned position each, blocks, a last norm, the mean over tokens, a linear classifier."""

    def __init__(self, input: tuple[int, ...], classes: int) -> None:
        super().__init__()
        tokens = (input[1] // PATCH) * (input[2] // PATCH)
        self.patch = nn.Conv2d(input[0], WIDTH, PATCH, stride=PATCH)
        self.position = nn.Parameter(torch.zeros(1, tokens, WIDTH))
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS, HIDDEN) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.linear = nn.Linear(WIDTH, classes)
        nn.init.trunc_normal_(self.position, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        return self.linear(self.norm(self.blocks(x)).mean(dim=1))


def vit_tiny(input: tuple[int, ...], classes: int) -> ViT:
    """Patch 4, width 96, four blocks of four heads."""
    if input[1] % PATCH or input[2] % PATCH:
        raise CompressionError(
            f"vit_tiny cuts images into {PATCH}x{PATCH} patches, which do not divide {input[1]}x{input[2]}",
            f"use --input with multiples of {PATCH}",
        )
    return ViT(input, classes)
