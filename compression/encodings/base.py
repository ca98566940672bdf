"""The contract of an encoding: everything there is to know about how one kind of quantized weight is stored.

A kind is one module of this folder with a row type, a decode function and a subclass of :class:`Encoding`, of which
``ENCODING`` is an instance; nothing else in the program names it. Its weights are values with that ``kind``
(:class:`compression.quant.integers.QuantizedWeight`), which a quantizer's ``encode`` returns.

A weight is stored as named **streams** of integers, each coded losslessly by the container, and named **numbers** in
fp32. Its row in the header says how many there are of each, so that whatever only counts or skips a weight need not
know its kind; the kind's decode function makes the weight of them, and its source is copied into the loader that
bundles carry. How further kinds fit:

levels                :mod:`.levels`: stream ``codes``, signed, numbers ``level`` [K]
table + indices       stream ``codes`` (indices), numbers ``table`` [K]; K is the row's count of ``table``; index 0 is
                      a value like any other, so ``account`` puts all bytes under values
book of blocks        :mod:`.codebook`: streams ``codes`` (``size`` [blocks]) and ``book`` (``size`` [K·d]), one step
bit planes            streams ``plane0`` … of -1 and 1, numbers ``scale`` [planes]; the weight is Σ scale_i · plane_i,
                      added plane by plane, so that every decoder rounds alike
groups                :mod:`.groups`: streams ``codes``, ``sizes`` (``size`` [groups of a row]) and ``steps`` (fp16)
low-rank factors      streams ``left`` [m·r] and ``right`` [r·n] (each with its ``size``), numbers ``scale`` [r]; the
                      weight is Σ scale_j · (left_j ⊗ right_j), added rank by rank; ``cut`` drops rows of one factor
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, NotRequired, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from compression.counting.entropy import entropy_bytes
from compression.counting.ledger import WeightBytes
from compression.counting.sizes import Dropped, WeightSize
from compression.encodings.onnx_form import OnnxForm
from compression.errors import CompressionError
from compression.quant.integers import QuantizedWeight
from compression.reading import Name, Whole, cut, typed

W = TypeVar("W", bound=QuantizedWeight)
Row = Mapping[str, Any]
Integers = NDArray[np.int32]
Numbers = NDArray[np.float32]

Shape = Annotated[list[Whole], Field(max_length=16)]
_Bits = Annotated[Whole, Field(ge=1, le=32)]


class StreamRow(TypedDict):
    """A stream of integers in the file; ``size`` is how many, where that is not the weight's number of elements."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    coding: Literal["ans", "fixed", "bitmap"]
    bytes: Whole
    size: NotRequired[Whole]


class WeightRow(TypedDict):
    """The row of a quantized weight; kinds add fields. ``numbers`` says how many fp32 numbers each name has."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    name: Name
    kind: Name
    shape: Shape
    bits: _Bits
    streams: Annotated[dict[Name, StreamRow], Field(max_length=64)]
    numbers: Annotated[dict[Name, Whole], Field(max_length=64)]


class Arrays(NamedTuple):
    """What is stored of a weight, by name: flat int32 ``streams`` and flat fp32 ``numbers``."""

    streams: dict[str, Integers]
    numbers: dict[str, Numbers]


class Layout(NamedTuple):
    """How many integers and fp32 numbers a row's fields call for, by name."""

    streams: dict[str, int]
    numbers: dict[str, int]


class Encoding(ABC, Generic[W]):
    """One kind of encoding: everything that depends on the kind of a weight is one of these methods.

    ``row`` is the type of its rows, ``decode`` a module-level function of numpy alone, named like the kind or like one
    that it shares the function with: it takes the row and every stream (int32) and number array (fp32) by name, all
    flat, and returns the weight, fp32 in its shape. Its source must stand by itself: the loader in bundles is put
    together from it.
    """

    kind: ClassVar[str]
    row: ClassVar[type] = WeightRow
    decode: ClassVar[Callable[..., Numbers]]

    # stored

    @abstractmethod
    def fields(self, weight: W) -> dict[str, Any]:
        """What the row says beside the fields of every :class:`WeightRow`."""

    @abstractmethod
    def arrays(self, weight: W) -> Arrays:
        """What is stored of the weight, in the order of the file."""

    @abstractmethod
    def layout(self, row: Row) -> Layout:
        """The arrays that a row calls for.

        Raises:
            ValueError: a field of the row is impossible.
        """

    @abstractmethod
    def restore(self, layer: str, row: Row, arrays: Arrays) -> W:
        """The weight of ``layer`` from what a file holds of it: the inverse of :meth:`arrays` and :meth:`fields`."""

    def check(self, row: Row) -> None:
        """Refuse a row that does not describe such a weight, before anything it claims is believed.

        Raises:
            ValueError, CompressionError: saying what is wrong.
        """
        name = f"row {cut(str(row.get('name')))}"
        typed(self._adapter, row, name)
        present = Layout({stream: stream_size(row, stream) for stream in row["streams"]}, dict(row["numbers"]))
        needed = self.layout(row)
        if present != needed:
            raise ValueError(f"{name} has other streams or numbers than a {self.kind} weight of its shape")

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.row)

    def verify(self, row: Row, arrays: Arrays) -> None:
        """Refuse arrays from a file that decode to nothing, as indices beyond a table; by default all decode.

        Raises:
            ValueError: saying what is wrong.
        """

    # counted

    def account(self, row: Row, streams: Mapping[str, tuple[int, int]]) -> WeightBytes:
        """The weight's part of the ledger; ``streams``: name → bytes of its values and of the positions of its zeros.

        The default is right wherever integer 0 stands for a weight of 0.
        """
        values, positions = (sum(part) for part in zip((0, 0), *streams.values(), strict=True))
        return WeightBytes(values, positions, 4 * sum(row["numbers"].values()))

    def size(self, weight: W, dropped: Dropped = ()) -> WeightSize:
        """The estimate while training: the weight without the ``dropped`` positions, its streams at their entropy."""
        remaining = self.cut(weight, dropped)
        streams, numbers = self.arrays(remaining)
        elements = math.prod(remaining.shape)
        return WeightSize(
            coded=sum(entropy_bytes(torch.from_numpy(codes)) for codes in streams.values()),
            integers=sum(codes.size for codes in streams.values()),
            numbers=sum(array.size for array in numbers.values()),
            elements=elements,
            nonzero=elements - remaining.zeros,
        )

    # cut

    @abstractmethod
    def cut(self, weight: W, dropped: Dropped) -> W:
        """The weight without these positions, and without the numbers that only they used."""

    def put_back(self, weight: W, dropped: Dropped, shape: Sequence[int]) -> W:
        """The weight in the ``shape`` it had before :meth:`cut` removed these positions, zeros in their place.

        Raises:
            CompressionError: the encoding has no zeros to put there.
        """
        raise CompressionError(
            f"layer {weight.name}: {self.kind} weights cannot get channels of zeros back: export without a multiple"
        )

    # exported

    def onnx(self, weight: W) -> OnnxForm | str:
        """How ONNX holds the weight, or in a clause why it stays in fp32."""
        return f"ONNX has no form for {self.kind} weights"

    def describe(self, weight: W) -> dict[str, Any]:
        """What ``config.json`` says of the weight, in plain values."""
        return {"kind": self.kind, "bits": weight.bits, "weights": math.prod(weight.shape), "zeros": weight.zeros}


def stream_size(row: Row, stream: str) -> int:
    """How many integers a stream of a row holds."""
    return int(row["streams"][stream].get("size", math.prod(row["shape"])))
