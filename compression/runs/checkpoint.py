"""The file from which a run goes on: written beside the last one and put in its place, so that one is always whole."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

from compression.errors import CompressionError
from compression.reading import check_version
from compression.runs.files import disk_full
from compression.runs.paths import create_fresh

VERSION = 1


def write(path: Path, state: dict[str, Any]) -> bool:
    """Keep ``state`` (tensors, numbers, words and collections of them); False when the disk is full.

    The file that was there stays until the new one is on the disk, and stays whole if that fails.

    Raises:
        OSError: the folder cannot be written for another reason.
    """
    import torch

    partial = path.with_name(f"{path.name}.partial")
    try:
        with create_fresh(partial) as file:
            torch.save({"version": VERSION, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        if disk_full(error):
            return False
        raise
    return True


def read(path: Path) -> dict[str, Any] | None:
    """What :func:`write` kept, or None when there is no file. Only data is read, never code.

    Raises:
        CompressionError: a damaged file or one of another version.
    """
    import torch

    if not path.is_file():
        return None
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise CompressionError(f"checkpoint {path} is damaged; delete it, and the run starts again") from error
    if not isinstance(state, dict):
        raise CompressionError(f"{path} is no checkpoint; delete it, and the run starts again")
    check_version(state, VERSION, f"checkpoint {path}")
    return state
