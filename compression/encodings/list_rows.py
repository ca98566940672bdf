"""Rows of packed files of versions 1 to 3: lists, told apart by their length; read for ever as rows of version 4."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from compression.reading import Name, Whole, cut, short, typed

_Shape = Annotated[list[Whole], Field(max_length=16)]
_Bits = Annotated[Whole, Field(ge=1, le=32)]
_Coding = Literal["ans", "fixed", "bitmap"]
_LISTS: dict[int, TypeAdapter[Any]] = {
    2: TypeAdapter(tuple[Name, Name]),
    3: TypeAdapter(tuple[Name, _Shape, Name]),
    5: TypeAdapter(tuple[Name, _Shape, _Coding, Whole, _Bits]),
    6: TypeAdapter(tuple[Name, _Shape, _Coding, Whole, _Bits, Whole]),
    7: TypeAdapter(tuple[Name, _Shape, _Coding, Whole, _Bits, None, Literal[1]]),
}


def named(name, shape, *rest):  # type: ignore[no-untyped-def]
    """A row of versions 1 to 3 as version 4 writes it."""
    if len(rest) < 2:
        other = {"kind": "raw", "shape": shape, "dtype": rest[0]} if rest else {"kind": "alias", "target": shape}
        return {"name": name, **other}
    coding, size, bits, *more = rest
    row = {"name": name, "shape": shape, "bits": bits, "streams": {"codes": {"coding": coding, "bytes": size}}}
    if len(more) == 1:
        return {**row, "kind": "uniform-channel", "axis": more[0], "numbers": {"step": shape[more[0]]}}
    numbers = {"step": 1, "offset": 1} if more else {"step": 1}
    return {**row, "kind": "offset" if more else "uniform", "numbers": numbers}


def read(row: list[Any]) -> dict[str, Any]:
    """The row of version 4 that a list from a file stands for, once it is checked.

    Raises:
        ValueError, CompressionError: saying what is wrong with it.
    """
    kind = _LISTS.get(len(row))
    if kind is None:
        raise ValueError(f"no tensor has a row of {len(row)} entries")
    typed(kind, row, f"row {short(row[0])}")
    if len(row) == 6 and row[5] >= len(row[1]):
        raise ValueError(f"{cut(row[0])} has {len(row[1])} dimensions, no dimension {row[5]}")
    result: dict[str, Any] = named(*row)
    return result
