"""Names, shapes and types of a packed file's tensors, from its header alone: nothing is decoded."""

from __future__ import annotations

import zlib

from compression.errors import CompressionError
from compression.pack.header import parse
from compression.pack.rows import ALIAS

Outline = dict[str, tuple[tuple[int, ...], str]]


def outline(data: bytes) -> Outline:
    """Tensor name → shape and name of its type (quantized weights are ``float32``), of the bytes of a packed file.

    Raises:
        CompressionError: the file is none of ours, is truncated or damaged, or its header says something impossible.
    """
    try:
        header, _ = parse(data)
    except (ValueError, zlib.error, CompressionError) as error:
        raise CompressionError(f"weights.packed is no sound packed file: {error}") from error
    result: Outline = {}
    for row in header["tensors"]:
        if row["kind"] == ALIAS:
            result[row["name"]] = result[row["target"]]
        else:
            result[row["name"]] = (tuple(row["shape"]), row.get("dtype", "float32"))
    return result
