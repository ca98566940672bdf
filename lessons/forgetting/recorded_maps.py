"""What two models look at: recorded maps of a run of the gallery (``maps.py`` computes ``maps.npz``)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.explain import METHODS, spearman
from compression.plots import tiles

WAYS = {name: method.label for name, method in METHODS.items() if not method.heavy}


@lru_cache(maxsize=1)
def arrays() -> dict[str, NDArray[Any]]:
    """The recorded arrays, as ``maps.py`` describes them."""
    with np.load(Path(__file__).with_name("maps.npz")) as archive:
        return {name: archive[name] for name in archive.files}


@lru_cache(maxsize=len(WAYS))
def infos(way: str) -> tuple[tiles.TileInfo, ...]:
    """Every recorded image with its maps by this method, drawn on one colour scale for both models."""
    stored, signed = arrays(), METHODS[way].signed
    result = []
    for index, image in enumerate(stored["images"]):
        dense, small = (each.astype(np.float32) for each in stored[way][index])
        names = [str(stored["classes"][answer]) for answer in stored["answers"][index]]
        alike = spearman(dense, small)
        result.append(tiles.tile_info(int(image), stored["pixels"][index], (dense, small), signed, names, alike))
    return tuple(result)


def differing() -> tuple[int, int]:
    """On how many test images the two models differ, and how many were compared."""
    differ, total = arrays()["differing"]
    return int(differ), int(total)
