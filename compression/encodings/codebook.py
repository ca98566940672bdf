"""``codebook``: blocks of consecutive weights, each an index into a book of 8-bit blocks times one fp32 step.

Product quantization of a layer (Stock et al., arXiv 1907.05686, section 3; 8-bit books: Fan et al., arXiv 2004.07320,
section 4.2). The weight is read in the order of its memory, so that a block never crosses a row along dimension 0.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from compression.counting.ledger import WeightBytes
from compression.counting.sizes import Dropped, WeightSize
from compression.encodings.base import Arrays, Encoding, Integers, Layout, Numbers, Row, WeightRow, stream_size
from compression.encodings.onnx_form import Nodes, OnnxForm
from compression.graph.cuts import put_back, without
from compression.quant.integers import values
from compression.reading import Whole

BOOK_BITS = 8
REASON = "indices into a codebook of blocks, which is stored once"


@dataclass(frozen=True, eq=False)
class CodebookWeight:
    """``assignments`` int32 [blocks] are rows of ``book``, int32 [K, d] in -127..127; ``step`` in fp32 precision.

    Block j holds the weights j·d to j·d + d - 1 of the flattened ``shape``.
    """

    name: str
    assignments: torch.Tensor
    book: torch.Tensor
    step: float
    shape: tuple[int, ...]
    kind: ClassVar[str] = "codebook"
    bits: ClassVar[int] = BOOK_BITS

    @property
    def length(self) -> int:
        """d, the weights of a block."""
        return int(self.book.shape[1])

    @property
    def codes(self) -> torch.Tensor:
        """The integers of the single weights, int32 in the weight's shape."""
        return self.book.index_select(0, self.assignments).reshape(self.shape)

    @property
    def zeros(self) -> int:
        """How many weights are 0."""
        return int((self.book == 0).sum(1).index_select(0, self.assignments).sum())

    def weight(self) -> torch.Tensor:
        """The fp32 weight: codes times the step."""
        return values(self.codes.to(torch.float32), torch.tensor(self.step, device=self.book.device))


def codebook(row: Row, codes: Integers, book: Integers, step: Numbers) -> Numbers:
    """An index leads to a block of the book, whose integers are multiples of the step."""
    return (book.reshape(-1, row["length"])[codes].astype("f4") * step + 0.0).reshape(row["shape"])


class CodebookRow(WeightRow):
    """``length``: d, the weights of a block."""

    length: Whole


class Codebook(Encoding[CodebookWeight]):
    """One book and one step for the whole weight: streams ``codes`` (the indices) and ``book``, number ``step``."""

    kind: ClassVar[str] = "codebook"
    row: ClassVar[type] = CodebookRow
    decode = staticmethod(codebook)

    def fields(self, weight: CodebookWeight) -> dict[str, Any]:
        """The length of blocks."""
        return {"length": weight.length}

    def arrays(self, weight: CodebookWeight) -> Arrays:
        """The indices, the book row by row, and the step."""
        codes, book = (
            part.detach().cpu().contiguous().reshape(-1).numpy() for part in (weight.assignments, weight.book)
        )
        return Arrays({"codes": codes, "book": book}, {"step": np.array([weight.step], np.float32)})

    def layout(self, row: Row) -> Layout:
        """An index for each block, whole blocks in the book, one step."""
        elements, length = math.prod(row["shape"]), row["length"]
        if length < 1 or elements % length:
            raise ValueError(f"blocks of {length} do not fill a weight of {elements} numbers")
        if "book" not in row["streams"] or (size := stream_size(row, "book")) % length:
            raise ValueError(f"a book needs whole blocks of {length}")
        return Layout({"codes": elements // length, "book": size}, {"step": 1})

    def verify(self, row: Row, arrays: Arrays) -> None:
        """Indices lie in the book."""
        codes, size = arrays.streams["codes"], arrays.streams["book"].size // row["length"]
        if codes.size and (codes.min() < 0 or codes.max() >= size):
            raise ValueError(f"an index lies beyond a book of {size} blocks")

    def restore(self, layer: str, row: Row, arrays: Arrays) -> CodebookWeight:
        """The book in rows of a block's length."""
        codes, book = (torch.from_numpy(np.array(arrays.streams[name], np.int32)) for name in ("codes", "book"))
        step = float(arrays.numbers["step"][0])
        return CodebookWeight(layer, codes, book.reshape(-1, row["length"]), step, tuple(row["shape"]))

    def account(self, row: Row, streams: Mapping[str, tuple[int, int]]) -> WeightBytes:
        """Index 0 is a block like any other: no byte says where zeros are."""
        return WeightBytes(sum(streams["codes"]), 0, 4, sum(streams["book"]))

    def size(self, weight: CodebookWeight, dropped: Dropped = ()) -> WeightSize:
        """Nominally an index takes ⌈log2 K⌉ bits, a number of the book 8."""
        counted, remaining = super().size(weight, dropped), self.cut(weight, dropped)
        index_bits = remaining.assignments.numel() * max(len(remaining.book) - 1, 0).bit_length()
        return counted._replace(integers=remaining.book.numel() + -(-index_bits // BOOK_BITS))

    def cut(self, weight: CodebookWeight, dropped: Dropped) -> CodebookWeight:
        """Whole blocks go without a trace; where blocks are cut through, each weight becomes a block of its own."""
        return _regrouped(weight, without(weight.codes, dropped)) if dropped else weight

    def put_back(self, weight: CodebookWeight, dropped: Dropped, shape: Sequence[int]) -> CodebookWeight:
        """Blocks of zeros, or single zeros where blocks would be cut through."""
        return _regrouped(weight, put_back(weight.codes, dropped, shape, 0)) if dropped else weight

    def onnx(self, weight: CodebookWeight) -> OnnxForm | str:
        """Blocks gathered from the book, in their order in memory, then dequantized."""
        book = weight.book.cpu().numpy().astype(np.int8)

        def expand(nodes: Nodes, stored: Any) -> Any:
            index = nodes.node("Cast", stored, to=np.int32)
            blocks = nodes.node("Gather", nodes.constant("book", book), index)
            codes = nodes.node("Reshape", blocks, nodes.constant("shape", np.array(weight.shape, np.int64)))
            return nodes.node("DequantizeLinear", codes, nodes.constant("step", np.array(weight.step, np.float32)))

        return OnnxForm(weight.assignments.cpu().numpy(), weight.weight().cpu().numpy(), expand, "codebook", REASON)

    def describe(self, weight: CodebookWeight) -> dict[str, Any]:
        """``centroids`` blocks of ``length`` weights in the book, multiples of ``step``."""
        about = {"step": weight.step, "length": weight.length, "centroids": len(weight.book)}
        return {**super().describe(weight), **about}


def _regrouped(weight: CodebookWeight, codes: torch.Tensor) -> CodebookWeight:
    """The weight with other ``codes``: in blocks of the same length if that takes no more than one further block."""
    shape, length = tuple(codes.shape), weight.length
    for size in (length, 1):
        if math.prod(shape[1:]) % size == 0:
            book, assignments = torch.unique(codes.reshape(-1, size), dim=0, return_inverse=True)
            if len(book) <= len(weight.book) + 1 or size == 1:
                break
    parts = {"assignments": assignments.reshape(-1).to(torch.int32), "book": book.to(torch.int32), "shape": shape}
    return dataclasses.replace(weight, **parts)


ENCODING = Codebook()
