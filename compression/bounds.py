"""The allowed values of a budget's fields, and one refusal for each kind of value.

Every check raises a :class:`CompressionError` that names the field (``what``), its allowed values, and the value.
"""

from __future__ import annotations

import math
from typing import Any

from compression.errors import CompressionError
from compression.reading import is_number, short

LOWEST_BITS, HIGHEST_BITS = 2, 16
FEWEST_BITS = 1  # of a grid without zero, which only some methods have; LOWEST_BITS holds for all others
LOWEST_CODED_BITS = 0.5  # of an average: entropy coding spends less than the width of an integer
MOST_EPOCHS, MOST_BATCH, MOST_CLASSES, MOST_PIXELS = 1e6, 1_000_000, 100_000, 1 << 28
HIGHEST_RATE, HIGHEST_DECAY, MOST_PERIODS = 1e3, 1e2, 10_000


def check_share(value: Any, what: str) -> None:
    """Refuse a sparsity outside [0, 1)."""
    if not is_number(value) or not 0 <= value < 1:
        raise CompressionError(f"{what} must be in [0, 1), not {short(value)}")


def check_unit_bounds(value: Any, what: str) -> None:
    """Refuse what is no pair [lo, hi] of shares."""
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(map(is_number, value)):
        raise CompressionError(f"{what} must be a pair [lo, hi], not {short(value)}")
    if not 0 <= value[0] <= value[1] <= 1:
        raise CompressionError(f"{what} must satisfy 0 <= lo <= hi <= 1, not {value!r}")


def check_bits(value: Any, what: str, lowest: float = LOWEST_BITS, highest: float = HIGHEST_BITS) -> None:
    """Refuse a bit range that is reversed or exceeds ``lowest``..``highest``."""
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(is_number(v) for v in value):
        raise CompressionError(f"{what} must be a pair LO:HI of bit-widths, not {short(value)}")
    low, high = value
    if not lowest <= low <= highest or not lowest <= high <= highest:
        raise CompressionError(f"{what} must lie in {lowest:g}..{highest:g}, not {low:g}:{high:g}")
    if low > high:
        raise CompressionError(f"{what}: the lower bound {low:g} is above the upper bound {high:g}")
    if math.ceil(low) > math.floor(high):
        raise CompressionError(f"{what}: no whole bit-width lies in {low:g}:{high:g}")


def check_number(value: Any, what: str) -> None:
    """Refuse what is no finite number."""
    if not is_number(value):
        raise CompressionError(f"{what} must be a finite number, not {short(value)}")


def check_positive(value: float, what: str, most: float) -> None:
    """Refuse a value outside (0, ``most``]."""
    if not 0 < value <= most:
        raise CompressionError(f"{what} must be above 0 and at most {most:,g}, not {value!r}")


def check_within(value: float, what: str, least: float, most: float) -> None:
    """Refuse a number outside ``least`` to ``most``."""
    if not least <= value <= most:
        raise CompressionError(f"{what} must lie in {least:g}..{most:g}, not {value!r}")


def check_classes(value: Any, what: str) -> None:
    """Refuse a value that is not a class count, or one whose last layer exceeds any memory."""
    if not isinstance(value, int) or isinstance(value, bool) or not 2 <= value <= MOST_CLASSES:
        raise CompressionError(
            f"{what} must be a whole number of at least 2 and at most {MOST_CLASSES:,}, not {short(value)}"
        )


def check_input(value: Any, what: str) -> None:
    """Refuse a value that is not (channels, height, width), or an image of which a batch exceeds any memory."""
    sizes = value if isinstance(value, (tuple, list)) else ()
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes)
    if len(sizes) != 3 or not whole:
        raise CompressionError(f"{what} must be channels x height x width, such as 3x32x32, not {short(value)}")
    if math.prod(sizes) > MOST_PIXELS:
        raise CompressionError(f"{what} must have at most {MOST_PIXELS:,} values, not {short(value)}")


def check_one_of(value: str, what: str, allowed: tuple[str, ...]) -> None:
    """Refuse a word that is not among those ``allowed``."""
    if value not in allowed:
        raise CompressionError(f"{what} must be one of {', '.join(allowed)}, not {short(value)}")
