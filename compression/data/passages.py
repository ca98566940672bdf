"""A text as a data set: every passage of 64 bytes is an example, the byte after each of them the answer."""

from __future__ import annotations

import platform
from functools import lru_cache

import torch

from compression.data.catalogue import BYTES, SHIPPED_TEXT, WINDOW, picked_file
from compression.data.types import LANGUAGE, PASSAGE, DataSet, Split
from compression.errors import CompressionError

MOST = 32 << 20  # bytes of a file; a token takes eight in memory
SHARES = (0.8, 0.1)  # of train and validation; what remains is test
FEWEST = 20 * WINDOW
NAMES = tuple(repr(chr(number)) if 32 <= number < 127 else f"0x{number:02x}" for number in range(BYTES))


def load_text(name: str) -> DataSet:
    """``text:python-docs`` or ``text:FILE``; the splits are the beginning, the middle and the end of the text.

    Raises:
        CompressionError: there is no such file, or it is too short or too long.
    """
    if name == SHIPPED_TEXT:
        return _loaded(name, f"Python's documentation ({platform.python_version().rpartition('.')[0]})")
    path = picked_file(name)
    size = path.stat().st_size
    if not FEWEST <= size <= MOST:
        raise CompressionError(f"{name} has {size:,} bytes: give a text of {FEWEST:,} to {MOST:,}")
    return _loaded(name, path.name, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _loaded(name: str, label: str, changed: int = 0) -> DataSet:
    text = _documentation() if name == SHIPPED_TEXT else picked_file(name).read_bytes()
    tokens = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    first, second = (round(sum(SHARES[: end + 1]) * len(tokens)) for end in range(2))
    train, validation, test = map(_passages, (tokens[:first], tokens[first:second], tokens[second:]))
    return DataSet(name, label, NAMES, train, validation, test, kind=PASSAGE, task=LANGUAGE)


def _passages(tokens: torch.Tensor) -> Split:
    """Passages side by side, int64 [N, 64], and the same one byte later."""
    count = (len(tokens) - 1) // WINDOW
    return Split(tokens[: count * WINDOW].view(count, WINDOW), tokens[1 : count * WINDOW + 1].view(count, WINDOW))


def _documentation() -> bytes:
    """The help texts that Python itself ships."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics)).encode()
