"""MiniLM (Wang et al. 2020): a BERT encoder of six layers, the mean over the tokens, a linear classifier.

Its trained weights are those of all-MiniLM-L6-v2, from an optional package (requirements-text.txt); ``train`` starts
from them. A classifier of single short sentences omits positions beyond the first 40, the second segment (the first
one's embedding is added to the positions), and BERT's pooler. Embeddings are looked up, not multiplied: methods that
quantize layers leave them in fp32, where they count as leftovers (11.7 of 22.4 million parameters); codebooks do not.
"""

from __future__ import annotations

import torch
from torch import nn

from compression.data.catalogue import PADDING, SENTENCE
from compression.errors import CompressionError

VOCABULARY, WIDTH, DEPTH, HEADS, HIDDEN = 30_522, 384, 6, 12, 1536
EPSILON, DEVIATION = 1e-12, 0.02
FAR_BELOW = -1e4  # added to a score, makes its softmax zero; representable in half precision


class Attention(nn.Module):
    """Multi-head self-attention; sizes in ``forward`` follow ``num_heads`` and ``head_dim``: heads can be removed."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = HEADS
        self.head_dim = WIDTH // HEADS
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
        """[B, T, width] to the same shape; ``ignored`` [B, 1, 1, T] is added to the scores."""
        query, key, value = (self._heads(part(x)) for part in (self.query, self.key, self.value))
        weights = torch.softmax(query @ key.transpose(-2, -1) * self.head_dim**-0.5 + ignored, dim=-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        return x.reshape(batch, tokens, self.num_heads, self.head_dim).transpose(1, 2)


class Block(nn.Module):
    """Attention and a two-layer perceptron, each added to its input and then normalised (BERT's order)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.norm1 = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))
        self.norm2 = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, x: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
        """[B, T, width] to the same shape."""
        x = self.norm1(x + self.attention(x, ignored))
        return self.norm2(x + self.mlp(x))


class MiniLM(nn.Module):
    """Word and position embeddings, blocks, the mean over the tokens that are no padding, a linear classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH, padding_idx=PADDING)
        self.positions = nn.Parameter(torch.empty(SENTENCE, WIDTH))
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.linear = nn.Linear(WIDTH, classes)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=DEVIATION)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids int64 [B, T] to the mean of the encoder's outputs over the tokens, [B, width]."""
        there = (ids != PADDING).to(self.positions.dtype)
        ignored = (1 - there)[:, None, None, :] * FAR_BELOW
        x = self.norm(self.words(ids) + self.positions)
        for block in self.blocks:
            x = block(x, ignored)
        return (x * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids int64 [B, T] to logits [B, classes]."""
        return self.linear(self.embed(ids))


def minilm(input: tuple[int, ...], classes: int) -> MiniLM:
    """The network with initial weights; :func:`pretrained` loads those of all-MiniLM-L6-v2."""
    if tuple(input) != (SENTENCE,):
        raise CompressionError(
            f"minilm takes sentences of {SENTENCE} tokens, not inputs of {'x'.join(map(str, input))}: leave --input out"
        )
    return MiniLM(classes)


def pretrained(model: nn.Module) -> None:
    """Load the published weights into the encoder, in place; the classifier keeps its own.

    Raises:
        CompressionError: the package with them is not installed.
    """
    from safetensors.torch import load_file

    from compression.data.text import package_folder

    given = load_file(package_folder() / "model.safetensors")
    state = {"words.weight": given["embeddings.word_embeddings.weight"]}
    segment = given["embeddings.token_type_embeddings.weight"][0]
    state["positions"] = given["embeddings.position_embeddings.weight"][:SENTENCE] + segment
    state |= _both("norm", given, "embeddings.LayerNorm")
    for index in range(DEPTH):
        for own, theirs in PARTS.items():
            state |= _both(f"blocks.{index}.{own}", given, f"encoder.layer.{index}.{theirs}")
    own_head = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("linear.")}
    model.load_state_dict(state | own_head)


PARTS = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "mlp.0": "intermediate.dense",
    "mlp.2": "output.dense",
    "norm2": "output.LayerNorm",
}
"""Part of a block → its name in the published file."""


def _both(own: str, given: dict[str, torch.Tensor], theirs: str) -> dict[str, torch.Tensor]:
    return {f"{own}.{end}": given[f"{theirs}.{end}"] for end in ("weight", "bias")}
