"""What two models look at, for lesson 10: recorded maps of a run of the gallery (``assets/lessons/maps.py``)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.figures import tiles
from app.learn.lessons import texts
from compression.explain import METHODS, spearman

FILE = "maps.npz"
WAYS = {name: method.label for name, method in METHODS.items() if not method.heavy}


@lru_cache(maxsize=1)
def kept() -> dict[str, NDArray[Any]]:
    """What was recorded, as ``assets/lessons/maps.py`` describes it."""
    with np.load(texts.FOLDER / FILE) as found:
        return {name: found[name] for name in found.files}


@lru_cache(maxsize=len(WAYS))
def infos(way: str) -> tuple[tiles.TileInfo, ...]:
    """Every recorded image with its maps by this method, drawn on one colour scale for both models."""
    found, signed = kept(), METHODS[way].signed
    made = []
    for place, image in enumerate(found["images"]):
        dense, small = (each.astype(np.float32) for each in found[way][place])
        names = [str(found["classes"][answer]) for answer in found["answers"][place]]
        alike = spearman(dense, small)
        made.append(tiles.tile_info(int(image), found["pixels"][place], (dense, small), signed, names, alike))
    return tuple(made)


def differing() -> tuple[int, int]:
    """On how many test images the two models differ, and how many were looked at."""
    count, of = kept()["differing"]
    return int(count), int(of)
