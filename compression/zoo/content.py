"""What a file of weights is by its content, so that one whose ending says otherwise is refused in a plain line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from compression.errors import CompressionError

SAFETENSORS, TORCH, ONNX, PROGRAM = "safetensors", "torch", "ONNX", "exported program"
ENDINGS = {".safetensors": SAFETENSORS, ".pt": TORCH, ".pth": TORCH, ".th": TORCH, ".pt2": PROGRAM}
"""Of files whose tensors can be put into a network."""
NETWORKS = {**ENDINGS, ".onnx": ONNX}
"""Of files whose tensors' names and shapes can be read."""
_ARCHIVE, _PICKLE = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_VERSION = b"\x08"  # an ONNX file begins with its field 1, a number
_LENGTH = 8  # bytes before the header of a safetensors file, which say how long that is


def kind(content: bytes) -> str:
    """``safetensors``, ``torch`` (an archive, or the pickle of old versions), ``ONNX``, or nothing for none of them."""
    if content.startswith((_ARCHIVE, _PICKLE)):
        return TORCH
    if content[_LENGTH : _LENGTH + 1] == b"{":
        return SAFETENSORS
    return ONNX if content.startswith(_VERSION) else ""


def check_ending(name: str, content: bytes, endings: Mapping[str, str] = ENDINGS) -> str:
    """The kind that the ending of a file's name says, if its content is of that kind.

    Raises:
        CompressionError: an ending that is not known, or another content than it says.
    """
    ending = PurePath(name).suffix.lower()
    if ending not in endings:
        raise CompressionError(f"this file: weights end in {', '.join(endings)}")
    expected, present = endings[ending], kind(content)
    if present == expected or (expected == PROGRAM and content.startswith(_ARCHIVE)):
        return expected
    right = [other for other, named in endings.items() if named == present]
    if not right:
        raise CompressionError(f"this is no {expected} file, though its name ends in {ending}")
    raise CompressionError(
        f"this is {'an' if present == ONNX else 'a'} {present} file, though its name ends in {ending}: let it "
        f"end in {right[0]} and upload it again"
    )
