"""A picture that is in no data set before both models: brought to the size and look of their data, and their answers.

A drawing becomes what MNIST's digits are: ink scaled to fit 20 of 28 pixels, its centre of mass at 14, 14 (LeCun,
Bottou, Bengio and Haffner 1998, section III.A). A picture becomes the square in its middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from compression.data import DataSet, normalise
from compression.errors import CompressionError
from compression.explain.models import SPLIT, Pair

INK = 20 / 28  # of a side
REACH = 4  # pixels that a picture is moved by, to find one on which the models differ
MOST_PIXELS = 50_000_000
DARK, LIGHT = 64, 128  # edges of pictures on dark and on light ground, of 255
LOOKED_AT = 200

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class OwnAnswers:
    """Probabilities of all classes by both models, fp32 [classes] each."""

    dense: tuple[float, ...]
    small: tuple[float, ...]

    @property
    def classes(self) -> tuple[int, int]:
        """What the dense and the small model answer."""
        return int(np.argmax(self.dense)), int(np.argmax(self.small))


def from_drawing(ink: Pixels, input: tuple[int, ...]) -> Pixels:
    """White ink on black [h, w] as the models' data are: uint8 [C, H, W].

    Raises:
        CompressionError: nothing is drawn.
    """
    channels, height, width = input
    rows, columns = np.nonzero(ink.max(1) > 0)[0], np.nonzero(ink.max(0) > 0)[0]
    if not len(rows):
        raise CompressionError("nothing is drawn yet")
    box = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = INK * min(height, width) / max(box.size)
    wide, high = (max(1, round(scale * side)) for side in box.size)
    # one side after the other: in which order Pillow scales both depends on its version (the twin: components/ink.js)
    across = box.resize((wide, box.height), Image.Resampling.LANCZOS)
    small = np.asarray(across.resize((wide, high), Image.Resampling.LANCZOS), dtype=np.float64)
    # the centre of mass goes to the middle, as far as all ink stays inside; that of MNIST's digits is at 14 of 0 to 27
    down = _start(small.sum(1), height)
    right = _start(small.sum(0), width)
    canvas = np.zeros((height, width), dtype=np.uint8)
    canvas[down : down + small.shape[0], right : right + small.shape[1]] = small.round()
    return np.repeat(canvas[None], channels, 0)


def _start(mass: NDArray[np.float64], room: int) -> int:
    centre = float((mass * np.arange(len(mass))).sum() / mass.sum()) if mass.sum() else (len(mass) - 1) / 2
    return int(np.clip(round(room / 2 - centre), 0, room - len(mass)))


def from_picture(picture: Image.Image, data: DataSet, input: tuple[int, ...]) -> Pixels:
    """The square in the middle of a picture at the models' size, uint8 [C, H, W].

    Where the data are grey pictures on dark ground (digits on black), a picture on light ground (a digit on paper) is
    turned into its negative, from black paper to white ink.

    Raises:
        CompressionError: a picture of more than 50 million pixels, or one that cannot be decoded.
    """
    channels, height, width = input
    if math.prod(picture.size) > MOST_PIXELS:
        raise CompressionError(f"pictures of more than {MOST_PIXELS // 10**6} million pixels are not read")
    try:
        upright = ImageOps.exif_transpose(picture).convert("RGB" if channels == 3 else "L")
    except (OSError, ValueError, SyntaxError) as error:  # as Pillow says that a file is damaged
        raise CompressionError("this file is no picture that can be read") from error
    fitted = np.asarray(ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS))
    pixels = fitted[None] if channels != 3 else fitted.transpose(2, 0, 1)
    if channels == 1 and _edge(pixels) > LIGHT and _on_dark_ground(data):
        negative = ImageOps.autocontrast(Image.fromarray(255 - fitted), cutoff=(1, 0))
        pixels = np.array(negative)[None]
    return np.ascontiguousarray(pixels)


def _on_dark_ground(data: DataSet) -> bool:
    images = data.split(SPLIT).take(torch.arange(min(LOOKED_AT, len(data.split(SPLIT)))))[0].numpy()
    return float(np.mean([_edge(image) for image in images])) < DARK


def _edge(pixels: Pixels) -> float:
    """The mean brightness of the outermost pixels of [C, H, W]."""
    sides = (pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1])
    return float(np.concatenate([side.ravel() for side in sides]).mean())


def as_input(pixels: Pixels, pair: Pair) -> torch.Tensor:
    """Pixels [C, H, W] as the models take them: normalised fp32 [1, C, H, W] where they are."""
    return normalise(torch.from_numpy(pixels)[None].to(pair.device), pair.data)


@torch.no_grad()
def answers(pixels: Pixels, pair: Pair) -> OwnAnswers:
    """What both models answer to one picture."""
    image = as_input(pixels, pair)
    dense, small = (model(image)[0].softmax(0).tolist() for model in (pair.dense, pair.small))
    return OwnAnswers(tuple(dense), tuple(small))


@torch.no_grad()
def flipped(pixels: Pixels, pair: Pair, reach: int = REACH) -> tuple[Pixels, tuple[int, int]] | None:
    """The picture moved least, by at most ``reach`` pixels in either direction, so that the models differ on it.

    Returns it with (pixels down, pixels to the right); ``None`` where they answer alike everywhere.
    """
    span = range(-reach, reach + 1)
    moves = sorted(((down, right) for down in span for right in span), key=lambda move: (math.hypot(*move), move))
    moved = [_moved(pixels, *move) for move in moves]
    batch = normalise(torch.from_numpy(np.stack(moved)).to(pair.device), pair.data)
    differ = (pair.dense(batch).argmax(1) != pair.small(batch).argmax(1)).tolist()
    first = next((index for index, different in enumerate(differ) if different), None)
    return None if first is None else (moved[first], moves[first])


def _moved(pixels: Pixels, down: int, right: int) -> Pixels:
    """Moved, with the edge's own colour where nothing was."""
    height, width = pixels.shape[1:]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return np.ascontiguousarray(pixels[:, rows][:, :, columns])
