"""One picture file as uint8 pixels: every format Pillow reads is converted to grey or RGB, or refused by name.

- 8 bits a value: unchanged. Palettes are looked up, CMYK and YCbCr are converted without a colour profile, black and
  white pictures of one bit become 0 and 255.
- transparency: composited on white, as in a viewer.
- more than 8 bits (16 or 32 bit grey, floats): scaled by one range for the whole folder, see :func:`common_range`.
- 16 bit colours (and grey with transparency): their upper byte, which is all that Pillow reads; refused where only
  its lower half is used, since 12-bit values in 16-bit files would become black.
- rotation noted by a camera (EXIF) is applied.
- several pictures in one file (animations, stacks of pages) are refused as ambiguous. The preview
  that phones add to a JPEG (MPO) does not count.
"""

from __future__ import annotations

import math
import stat
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from compression.errors import CompressionError
from compression.preprocess import Pair, Preprocess

MODES = {1: "L", 3: "RGB"}
DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of more than 8 bits a value
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no EPS: Pillow runs Ghostscript for these
ORIENTATION = 0x0112  # EXIF
PHOTOMETRIC, SAMPLE_FORMAT = 262, 339  # tags of TIFF: is 0 white or black; are values unsigned (1) or signed (2)
TURNS = dict(enumerate((
    Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90,
), start=2))  # fmt: skip
WHITE = (255, 255, 255, 255)
PREVIEWED = ("MPO",)  # formats whose further pictures are previews of the first
Floats = NDArray[np.float32]


class Span:
    """The values that become black and white in pictures of more than 8 bits a value, computed for the first of them.

    ``given`` is the range of a preprocessing; ``used`` is the range after the first such picture, ``None`` before.
    """

    def __init__(self, paths: Sequence[Path], given: Pair | None = None) -> None:
        self.paths, self.given = paths, given
        self.used: Pair | None = None

    def __call__(self) -> Pair:
        """(black, white).

        Raises:
            CompressionError: a file cannot be read, or holds values that are not finite.
        """
        if self.used is None:
            self.used = self.given or common_range(self.paths)
        return self.used


def read(path: Path, input: tuple[int, ...], how: Preprocess, span: Span) -> NDArray[np.uint8]:
    """The picture as uint8 [C, H, W], scaled and cut to ``input`` (C, H, W).

    Raises:
        CompressionError: naming the file, which cannot be read or is not one picture.
    """
    channels, height, width = input
    with opened(path) as file:
        if file.mode in DEEP:
            grey = fitted(_upright(file, Image.fromarray(_values(file))), (width, height), how)
            low, high = span()
            scaled = (np.asarray(grey, np.float64) - low) * (255 / (high - low))
            pixels = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
            return np.broadcast_to(pixels, (channels, height, width))
        picture = fitted(_upright(file, _plain(file, MODES[channels])), (width, height), how)
        return np.asarray(picture, np.uint8).reshape(height, width, channels).transpose(2, 0, 1)


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of the picture as it is seen.

    Raises:
        CompressionError: naming the file, which cannot be read or is not one picture.
    """
    with opened(path) as file:
        turned = _upright(file, Image.new("1", file.size))
        return turned.height, turned.width


def common_range(paths: Iterable[Path]) -> Pair:
    """The one range by which all pictures of more than 8 bits a value are scaled (at least one of ``paths`` is such).

    Whole numbers of 16 bits: from 0 to the largest number of as many bits as the largest value needs (4095 for 12-bit
    pictures in 16-bit files, 65535 for full ones), so that the relative brightness of pictures is preserved. With
    negative values, 32-bit numbers or floats: from the lowest to the highest value of all, or 0 to 1 where floats lie
    in it and reach beyond a half.

    Raises:
        CompressionError: a file cannot be read, or holds values that are not finite.
    """
    low, high, floats = math.inf, -math.inf, set()
    for path in paths:
        with opened(path) as file:
            if file.mode in DEEP:
                values = _values(file)
                low, high = min(low, float(values.min())), max(high, float(values.max()))
                floats.add(file.mode == "F")
    if floats == {True} and low >= 0 and 0.5 < high <= 1:
        return 0.0, 1.0
    if floats == {False} and low >= 0 and high < 2**16:
        return 0.0, float(2 ** max(8, int(high).bit_length()) - 1)
    return low, high if high > low else low + 1


def fitted(picture: Image.Image, size: tuple[int, int], how: Preprocess) -> Image.Image:
    """Scaled and centre-cropped to ``size`` (width, height), the shorter side complete by default of ``how``."""
    resample = Image.Resampling[(how.interpolation or "bicubic").upper()]
    if how.resize is None and how.crop is None:
        return ImageOps.fit(picture, size, resample)
    if how.resize is not None:
        scaled = _scaled(picture.size, how.resize)
        if math.prod(scaled) > (Image.MAX_IMAGE_PIXELS or math.inf):
            raise ValueError(f"scaled to a shorter side of {how.resize} it has {scaled[0]} x {scaled[1]} pixels")
        picture = picture.resize(scaled, resample)
    side = (how.crop, how.crop) if how.crop is not None else size
    if side[0] > picture.width or side[1] > picture.height:
        return ImageOps.fit(picture, size, resample)
    left, top = round((picture.width - side[0]) / 2), round((picture.height - side[1]) / 2)
    picture = picture.crop((left, top, left + side[0], top + side[1]))
    return picture if picture.size == size else picture.resize(size, resample)


def _scaled(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """The size with its shorter side ``shorter``, the other rounded down as torchvision does."""
    width, height = size
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def shown(path: Path | str) -> str:
    """A path for a message of one line: unprintable characters are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The one picture in a file; every error of a decoder becomes a refusal in one line."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is no file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders' remarks on what they skip
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as file:
                _check(file)
                yield file
    except CompressionError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        most = f"{(Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million"
        raise CompressionError(f"image {shown(path)} has more than {most} pixels: make it smaller") from error
    except Exception as error:  # a damaged file can make a decoder raise anything
        reason = shown(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        raise CompressionError(f"image {shown(path)} cannot be read ({reason}): replace or remove it") from error


def _check(file: Image.Image) -> None:
    frames = 1 if file.format in PREVIEWED else getattr(file, "n_frames", 1)
    if frames > 1:
        raise ValueError(f"it holds {frames} pictures, an animation or a stack: save the one that is meant by itself")
    if 0 in file.size:
        raise ValueError(f"it has {file.width} x {file.height} pixels")
    tags = getattr(file, "tag_v2", {})
    if file.mode in DEEP and tags.get(PHOTOMETRIC) == 0:
        raise ValueError("it says that 0 is white, in more than 8 bits a value: save it with 0 as black")
    if file.mode == "L" and tags.get(SAMPLE_FORMAT) == (2,):
        raise ValueError("it holds 8-bit values with a sign: save them unsigned")
    parts = getattr(file, "tile", ())  # the decoder's mode names the kind of the stored values
    if file.mode not in DEEP and parts and ";16" in str(parts[0].args) and _highest(file) < 128:
        raise ValueError("its colours use less than 16 of their 16 bits: save it with 8 bits a value")


def _highest(file: Image.Image) -> int:
    """The largest value of a picture of 8 bits, without the alpha channel."""
    colours = [band for name, band in zip(file.getbands(), file.split(), strict=True) if name not in ("A", "a")]
    return max(int(np.asarray(band).max()) for band in colours)


def _values(file: Image.Image) -> Floats:
    """The values of a picture of more than 8 bits, fp32 [H, W]."""
    if "transparency" in file.info:
        raise ValueError("a transparent colour in grey of more than 8 bits is not understood")
    values = np.asarray(file)
    if file.format == "TIFF" and file.mode == "I" and getattr(file, "tag_v2", {}).get(SAMPLE_FORMAT, (1,)) == (1,):
        values = values.view(np.uint32)  # Pillow's mode I has a sign
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are not finite")
    return values


def _plain(file: Image.Image, mode: str) -> Image.Image:
    """A picture of 8 bits a value as grey or RGB, transparency composited on white."""
    if file.has_transparency_data:
        seen = file.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, WHITE), seen).convert(mode)
    return file.convert(mode)


def _upright(file: Image.Image, picture: Image.Image) -> Image.Image:
    """The picture of this file, rotated by its EXIF orientation; unreadable EXIF data are ignored."""
    try:
        turn = TURNS.get(file.getexif().get(ORIENTATION, 1))
    except (SyntaxError, ValueError, KeyError, TypeError, struct.error):
        turn = None
    return picture if turn is None else picture.transpose(turn)
