"""The files of an explanation job in a run's folder: ``explain/result.json`` with the scores, ``maps.safetensors``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from compression import safeheader
from compression.errors import CompressionError
from compression.explain.comparison import Comparison
from compression.reading import check_version, cut, read_bytes, read_object, typed
from compression.runs.files import sha256, write_json
from compression.runs.folder import RunFolder
from compression.runs.paths import create_fresh, make_folder

VERSION = 1
DENSE, SMALL = "dense", "small"

MOST_MAPS = 1 << 30
Maps = NDArray[np.float32]
_COMPARISON = TypeAdapter(Comparison)


@dataclass(frozen=True, eq=False)
class Shown:
    """Maps [K, H, W] of ``images`` (places in the test split), by (method, ``dense`` or ``small``)."""

    images: tuple[int, ...]
    maps: Mapping[tuple[str, str], Maps]

    def maps_of(self, method: str, images: list[int]) -> tuple[Maps, Maps] | None:
        """The maps of both models for these images, where all of them are stored."""
        if (method, DENSE) not in self.maps or not set(images) <= set(self.images):
            return None
        places = [self.images.index(image) for image in images]
        return self.maps[method, DENSE][places], self.maps[method, SMALL][places]


def folder_of(run: RunFolder) -> Path:
    """Where the explanations of a run are stored."""
    return run.path / "explain"


def result_path(run: RunFolder) -> Path:
    """The scores; written last, so that the maps exist wherever it does."""
    return folder_of(run) / "result.json"


def save(run: RunFolder, comparison: Comparison, shown: Shown) -> None:
    """Write both files, each whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    from safetensors.numpy import save as packed

    folder = folder_of(run)
    make_folder(folder)
    arrays = {f"{method}.{model}": np.ascontiguousarray(maps) for (method, model), maps in shown.maps.items()}
    data = packed({**arrays, "images": np.array(shown.images, dtype=np.int64)})
    temporary = folder / f".maps.{os.getpid()}.tmp"
    with create_fresh(temporary) as stream:
        stream.write(data)
    temporary.replace(folder / "maps.safetensors")
    about = {"version": VERSION, "run": run.id, "packed_sha256": _packed(run)}
    write_json(result_path(run), {**about, **dataclasses.asdict(comparison)})


def _packed(run: RunFolder) -> str | None:
    """The digest of the weights that are explained."""
    path = run.bundle / "weights.packed"
    return sha256(path) if path.is_file() else None


def comparison(run: RunFolder) -> Comparison | None:
    """The scores of the last job that finished; ``None`` when none has, or when the run's weights have changed.

    Raises:
        CompressionError: the file is damaged or of another version.
    """
    path = result_path(run)
    if not path.is_file():
        return None
    raw = read_object(path, "explanation")
    check_version(raw, VERSION, f"explanation {path}")
    if raw.get("packed_sha256", packed := _packed(run)) != packed:
        return None
    try:
        return typed(_COMPARISON, raw, f"explanation {path}")
    except CompressionError as error:
        raise CompressionError(f"{error}: delete it, and measure again") from error


def shown(run: RunFolder) -> Shown | None:
    """The maps of the last job that finished.

    Raises:
        CompressionError: the file is missing or damaged.
    """
    if not result_path(run).is_file():
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder_of(run) / "maps.safetensors"
    what = f"maps {path}"
    try:
        data = read_bytes(path, "maps", MOST_MAPS)
        safeheader.check(data, len(data), what)
        arrays = load(data)
    except (CompressionError, SafetensorError) as error:
        raise CompressionError(f"{what} cannot be read ({error}): measure again") from error
    images = arrays.pop("images", None)
    if images is None or images.dtype != np.int64 or images.ndim != 1:
        raise CompressionError(f"{what} do not say of which images they are: measure again")
    for name, maps in arrays.items():
        if "." not in name or maps.ndim != 3 or len(maps) != len(images) or maps.dtype != np.float32:
            raise CompressionError(f"{what}: {cut(name)} is no map of the {len(images)} images: measure again")
    pairs = {_method_and_model(name): maps for name, maps in arrays.items()}
    for method, _ in pairs:
        if {model for name, model in pairs if name == method} != {DENSE, SMALL}:
            raise CompressionError(f"{what} hold {cut(method)} of one model only: measure again")
    return Shown(tuple(images.tolist()), pairs)


def _method_and_model(name: str) -> tuple[str, str]:
    method, _, model = name.rpartition(".")
    return method, model
