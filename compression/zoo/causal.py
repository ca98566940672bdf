"""A tiny causal transformer in the manner of Llama (Touvron et al., arXiv 2302.13971): the next byte of a text.

Rotary positions (Su et al., arXiv 2104.09864), root-mean-square norms, gated perceptrons, and grouped queries (Ainslie
et al., arXiv 2305.13245): two queries share a key and a value, and are removed together with them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from compression.errors import CompressionError

WIDTH, DEPTH, HIDDEN = 64, 4, 192
KEYS, GROUP, HEAD = 4, 2, 8  # heads of keys, queries for each of them, and their width
BASE = 10_000.0  # of the rotary frequencies


class Attention(nn.Module):
    """Causal self-attention with grouped queries; ``forward`` takes the number of heads from its layers."""

    mask: torch.Tensor
    sine: torch.Tensor
    cosine: torch.Tensor

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, KEYS * GROUP * HEAD, bias=False)
        self.key = nn.Linear(WIDTH, KEYS * HEAD, bias=False)
        self.value = nn.Linear(WIDTH, KEYS * HEAD, bias=False)
        self.out = nn.Linear(KEYS * GROUP * HEAD, WIDTH, bias=False)
        later = torch.full((tokens, tokens), float("-inf")).triu(1)
        angles = torch.arange(tokens).unsqueeze(1) * BASE ** -(torch.arange(0, HEAD, 2) / HEAD)
        for name, value in (("mask", later), ("sine", angles.sin()), ("cosine", angles.cos())):
            self.register_buffer(name, value, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, width] to the same shape."""
        batch, tokens, _ = x.shape
        query = self._turned(self.query(x).reshape(batch, tokens, -1, GROUP, HEAD).permute(0, 2, 3, 1, 4))
        key = self._turned(self.key(x).reshape(batch, tokens, -1, 1, HEAD).permute(0, 2, 3, 1, 4))
        value = self.value(x).reshape(batch, tokens, -1, 1, HEAD).permute(0, 2, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) * HEAD**-0.5 + self.mask[:tokens, :tokens]
        mixed = torch.softmax(scores, -1) @ value
        out: torch.Tensor = self.out(mixed.permute(0, 3, 1, 2, 4).reshape(batch, tokens, -1))
        return out

    def _turned(self, x: torch.Tensor) -> torch.Tensor:
        """Pairs of numbers of every head turned by an angle that grows with the position."""
        sine, cosine = self.sine[: x.shape[-2]], self.cosine[: x.shape[-2]]
        first, second = x.chunk(2, -1)
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)


class Block(nn.Module):
    """Attention and a gated perceptron, each after a norm and added to its input."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.RMSNorm(WIDTH), Attention(tokens)
        self.norm2 = nn.RMSNorm(WIDTH)
        self.gate, self.up = nn.Linear(WIDTH, HIDDEN, bias=False), nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, width] to the same shape."""
        x = x + self.attention(self.norm1(x))
        after = self.norm2(x)
        out: torch.Tensor = x + self.down(F.silu(self.gate(after)) * self.up(after))
        return out


class Causal(nn.Module):
    """An embedding of bytes, blocks, a last norm, and a linear layer to the logits of the next byte."""

    def __init__(self, tokens: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.blocks = nn.Sequential(*(Block(tokens) for _ in range(DEPTH)))
        self.norm, self.linear = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.05)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Token ids int64 [B, T] to logits [B, T, vocabulary] of the token after each."""
        out: torch.Tensor = self.linear(self.norm(self.blocks(self.embedding(x))))
        return out


def causal_tiny(input: tuple[int, ...], classes: int) -> Causal:
    """Width 64, four blocks of four keys with two queries each; ``input`` = (tokens,), ``classes``: the vocabulary.

    Raises:
        CompressionError: another kind of input.
    """
    if len(input) != 1:
        size = "x".join(map(str, input))
        raise CompressionError(f"causal_tiny takes the tokens of a text, not inputs of {size}: leave --input out")
    return Causal(input[0], classes)
