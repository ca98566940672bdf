"""Pictures that travel inside a file: as they are where they are small, else smaller, and as data addresses."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from compression.data.types import DETECTION, PICTURE, SEGMENTATION
from compression.errors import CompressionError
from compression.reading import read_bytes
from compression.runs.layout import RunFiles

ORIGINAL = "original.png"
TRUTHS = {PICTURE: "The original", SEGMENTATION: "The true classes", DETECTION: "The true boxes"}
"""Task → what its original picture is called."""
MOST_BYTES = 220_000
"""Of one picture in a report: five runs and their original stay below 2 MB as base64."""
LARGEST = 1024  # its longer side once it is made smaller, in pixels
_QUALITY = 90
_FORMATS = ("PNG", "JPEG", "WEBP")


def last(folder: RunFiles) -> Path | None:
    """The picture of the last step that left one."""
    if not folder.pictures.is_dir():
        return None
    numbered = [path for path in folder.pictures.glob("*.png") if path.stem.isdecimal()]
    return max(numbered, key=lambda path: int(path.stem), default=None)


def address(path: Path) -> tuple[str, bool]:
    """A picture as a ``data:`` address, and whether it is the whole picture: large ones lose some quality.

    Raises:
        CompressionError: it is missing or no picture.
    """
    content = read_bytes(path, "picture")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            picture.load()
            if len(content) <= MOST_BYTES:
                return _data(content, f"image/{str(picture.format).lower()}"), True
            return _data(_smaller(picture.convert("RGB")), "image/webp"), False
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # as Pillow refuses
        raise CompressionError(f"picture {path.name} of this run is damaged: it cannot be shown") from error


def _smaller(picture: Image.Image) -> bytes:
    """As WebP of at most :data:`MOST_BYTES`, halved until it is."""
    picture.thumbnail((LARGEST, LARGEST))
    while True:
        stream = io.BytesIO()
        picture.save(stream, "WEBP", quality=_QUALITY)
        if stream.tell() <= MOST_BYTES or max(picture.size) < 64:
            return stream.getvalue()
        picture = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)))


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
