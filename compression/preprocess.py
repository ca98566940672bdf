"""How pictures are converted to a network's input, as stated by a budget, a command line or a model's function.

A preprocessing is a mapping, the same in JSON; every key is optional:

``mean``, ``std``     per channel (or one number for all), for pixels scaled to 0..1
``resize``            the shorter side is first scaled to this many pixels, as ``torchvision.transforms.Resize`` does
``crop``              then a centre square of this many pixels is cut (absent: of the network's input size)
``interpolation``     nearest, bilinear, bicubic (the default) or lanczos
``range``             the pair of values that become black and white in pictures of more than 8 bits a value
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.errors import CompressionError
from compression.reading import is_number, short

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
LARGEST_SIDE = 16_384  # pixels
LARGEST_MEAN = 10.0  # of pixels in 0..1; means of pixels in 0..255 are above
Pair = tuple[float, float]


@dataclass(frozen=True)
class Preprocess:
    """The checked form of a preprocessing; ``None`` takes the data set's value."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    crop: int | None = None
    interpolation: str | None = None
    range: Pair | None = None

    @classmethod
    def read(cls, raw: Mapping[str, Any] | None, what: str = "preprocess") -> Preprocess:
        """Check a mapping and convert it.

        Raises:
            CompressionError: naming the key and its allowed values.
        """
        if raw is None:
            return cls()
        if not isinstance(raw, Mapping):
            raise CompressionError(f"{what} must be an object of names and values, not {short(raw)}")
        readers: dict[str, Callable[[Any, str], Any]] = {
            "mean": _means, "std": _deviations, "resize": _side, "crop": _side, "interpolation": _interpolation,
            "range": _range,
        }  # fmt: skip
        for name in raw:
            if name not in readers:
                raise CompressionError(f"{what}: unknown key {short(name)}; known: {', '.join(readers)}")
        return cls(**{name: readers[name](value, f"{what}.{name}") for name, value in raw.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """The values that are set, as JSON; the data set's own are absent."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @property
    def geometry(self) -> bool:
        """Whether it sets how pictures are scaled and cropped, which applies only to those read from files."""
        return any(value is not None for value in (self.resize, self.crop, self.interpolation, self.range))

    def moments(self, channels: int) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
        """``mean`` and ``std`` with one number for each channel.

        Raises:
            CompressionError: they have another number of channels.
        """
        return _spread(self.mean, channels, "mean"), _spread(self.std, channels, "std")


def merged(*parts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Several preprocessings as one; later values override earlier ones."""
    return {name: value for part in parts if part for name, value in part.items() if value is not None}


def words(preprocess: Mapping[str, Any]) -> str:
    """A preprocessing as it is typed after ``--preprocess``."""
    return " ".join(
        f"{name}={','.join(f'{each:g}' for each in value) if isinstance(value, (list, tuple)) else value}"
        for name, value in preprocess.items()
    )


def _numbers(value: Any) -> tuple[float, ...] | None:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not 0 < len(values) <= 64 or not all(map(is_number, values)):
        return None
    return tuple(float(each) for each in values)


def _means(value: Any, what: str) -> tuple[float, ...]:
    numbers = _numbers(value)
    if numbers is None or any(abs(each) > LARGEST_MEAN for each in numbers):
        raise CompressionError(f"{what} must be a number per channel for pixels scaled to 0..1, not {short(value)}")
    return numbers


def _deviations(value: Any, what: str) -> tuple[float, ...]:
    numbers = _numbers(value)
    if numbers is None or any(not 1e-6 <= each <= LARGEST_MEAN for each in numbers):
        raise CompressionError(f"{what} must be above 0, a number per channel for pixels in 0..1, not {short(value)}")
    return numbers


def _side(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_SIDE:
        raise CompressionError(f"{what} must be a whole number of pixels in 1..{LARGEST_SIDE}, not {short(value)}")
    return value


def _interpolation(value: Any, what: str) -> str:
    if value not in INTERPOLATIONS:
        raise CompressionError(f"{what} must be one of {', '.join(INTERPOLATIONS)}, not {short(value)}")
    return str(value)


def _range(value: Any, what: str) -> Pair:
    numbers = _numbers(value)
    if numbers is None or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise CompressionError(f"{what} must be the values of black and white, the lower first, not {short(value)}")
    return numbers[0], numbers[1]


def _spread(values: tuple[float, ...] | None, channels: int, what: str) -> tuple[float, ...] | None:
    if values is None or len(values) == channels:
        return values
    if len(values) != 1:
        raise CompressionError(f"preprocess.{what} has {len(values)} numbers and the images have {channels} channels")
    return values * channels
