"""What a file of weights is by its content, so that one whose ending says otherwise is refused in a plain line."""

from __future__ import annotations

from pathlib import PurePath

from compression.errors import CompressionError

SAFETENSORS, TORCH = "safetensors", "torch"
ENDINGS = {".safetensors": SAFETENSORS, ".pt": TORCH, ".pth": TORCH, ".th": TORCH}
_ARCHIVE, _PICKLE = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_LENGTH = 8  # bytes before the header of a safetensors file, which say how long that is


def kind(content: bytes) -> str:
    """``safetensors``, ``torch`` (an archive, or the pickle of old versions), or nothing for neither."""
    if content.startswith((_ARCHIVE, _PICKLE)):
        return TORCH
    return SAFETENSORS if content[_LENGTH : _LENGTH + 1] == b"{" else ""


def check_ending(name: str, content: bytes) -> str:
    """The kind that the ending of a file's name says, if its content is of that kind.

    Raises:
        CompressionError: an ending that is not known, or another content than it says.
    """
    ending = PurePath(name).suffix.lower()
    if ending not in ENDINGS:
        raise CompressionError(f"this file: weights end in {', '.join(ENDINGS)}")
    expected, present = ENDINGS[ending], kind(content)
    if present == expected:
        return expected
    if not present:
        raise CompressionError(f"this is no {expected} file, though its name ends in {ending}")
    right = next(other for other, named in ENDINGS.items() if named == present)
    raise CompressionError(
        f"this is a {present} file, though its name ends in {ending}: let it end in {right} and upload it again"
    )
