"""The weights in a ``.pt2`` file (an exported program), read without running anything of it.

``torch.export.load`` unpickles and evaluates what such a file holds. Here only two things are read: the JSON that lists
the weights (``data/weights/*_weights_config.json``: name, type, lengths, strides and the entry with the raw numbers)
and those entries. The program itself is left alone, so it yields no graph.
"""

from __future__ import annotations

import math
import re
import zipfile
from pathlib import Path
from typing import Annotated, NotRequired

import torch
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from compression import safezip
from compression.errors import CompressionError
from compression.reading import Flag, Name, Whole, cut, json_object, typed

MOST_CONFIG = 8 << 20  # bytes; a network of 2,000 tensors has 700 KB
MOST_NUMBERS, MOST_DIMENSIONS = 1 << 40, 16
_CONFIG = re.compile(r"[^/]{1,200}/data/weights/[^/]{1,200}_weights_config\.json")
# torch._export.serde.schema.ScalarType
_TYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip


class _Length(TypedDict):
    as_int: Whole


class _Meta(TypedDict):
    dtype: Whole
    sizes: Annotated[list[_Length], Field(max_length=MOST_DIMENSIONS)]
    strides: Annotated[list[_Length], Field(max_length=MOST_DIMENSIONS)]
    storage_offset: NotRequired[_Length]


class _Weight(TypedDict):
    path_name: Name
    use_pickle: Flag
    tensor_meta: _Meta


_WEIGHTS = TypeAdapter(dict[str, _Weight])


def read(path: str | Path, what: str) -> dict[str, torch.Tensor]:
    """The tensors of a program by their names in the module that was exported.

    Raises:
        CompressionError: no archive of this format (torch 2.8 or newer writes it), damaged, or weights stored in a way
            that only unpickling could read.
    """
    listed = safezip.entries(path, what)
    configs = [name for name in listed if _CONFIG.fullmatch(name)]
    if len(configs) != 1:
        raise CompressionError(f"{what} {path} is no exported program that can be read: torch.export.save of torch 2.8 "
                               "or newer writes one")  # fmt: skip
    folder = configs[0].rpartition("/")[0]
    try:
        with zipfile.ZipFile(path) as archive:
            if listed[configs[0]].file_size > MOST_CONFIG:
                raise CompressionError(f"{what} {path}: its list of weights is larger than that of any network")
            config = json_object(archive.read(configs[0]), f"{what} {path}: its list of weights").get("config")
            weights = typed(_WEIGHTS, config, f"{what} {path}: its list of weights")
            return {name: _tensor(archive, folder, name, weight) for name, weight in weights.items()}
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise CompressionError(f"{what} {path} is truncated or damaged: {cut(str(error))}") from error


def _tensor(archive: zipfile.ZipFile, folder: str, name: str, weight: _Weight) -> torch.Tensor:
    meta, shown = weight["tensor_meta"], cut(name)
    shape = [length["as_int"] for length in meta["sizes"]]
    strides = [length["as_int"] for length in meta["strides"]]
    dtype = _TYPES.get(meta["dtype"])
    whole = math.prod(max(1, length) for length in shape)
    if weight["use_pickle"] or dtype is None or whole > MOST_NUMBERS or len(strides) != len(shape):
        raise CompressionError(f"this file: {shown} is stored in a way that cannot be read as plain numbers")
    if meta.get("storage_offset", {"as_int": 0})["as_int"] or not _contiguous(shape, strides):
        raise CompressionError(f"this file: {shown} is a view of other numbers: export a contiguous copy of the model")
    info = archive.getinfo(f"{folder}/{weight['path_name']}")
    if info.file_size != math.prod(shape) * dtype.itemsize:
        raise CompressionError(f"this file: {shown} has a shape that does not fit its bytes")
    content = bytearray(archive.read(info))
    return torch.frombuffer(content, dtype=dtype).reshape(shape) if content else torch.zeros(shape, dtype=dtype)


def _contiguous(shape: list[int], strides: list[int]) -> bool:
    """Whether the last index runs fastest; of lengths of one and of empty tensors the strides do not matter."""
    expected = 1
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length > 1 and stride != expected:
            return 0 in shape
        expected *= length
    return True
