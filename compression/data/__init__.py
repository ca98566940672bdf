"""Data sets by name or folder, their fixed splits, and seeded batches of normalised, augmented tensors.

Importing this package does not import torch: pages can list the data sets before anything heavy is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from compression.data.catalogue import DataInfo, info, infos, kind, names, task
from compression.data.types import EXAMPLE, IMAGE, PASSAGE, PIXEL, TEXT, DataSet, Kind, Split

if TYPE_CHECKING:
    from compression.data.batches import Batches, normalise
    from compression.data.loading import count_classes, fit_check, load

__all__ = [
    "EXAMPLE", "IMAGE", "PASSAGE", "PIXEL", "TEXT", "Batches", "DataInfo", "DataSet", "Kind", "Split", "count_classes",
    "fit_check", "info", "infos", "kind", "load", "names", "normalise", "task",
]  # fmt: skip

_LATE = {
    "Batches": "batches",
    "normalise": "batches",
    "load": "loading",
    "count_classes": "loading",
    "fit_check": "loading",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use."""
    if name in _LATE:
        return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
