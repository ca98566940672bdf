"""A budget file that a visitor brings: read with care, and made the draft of the Budget page."""

from __future__ import annotations

from pathlib import PurePath

from app import state
from app.budget import draft, method_catalog
from app.model import catalog
from app.runs import permissions
from compression.budget import Budget
from compression.errors import CompressionError
from compression.reading import json_object

LARGEST_FILE = 5_000_000


def load(content: bytes) -> None:
    """Take over a budget file: model and data must be offered here, files are never named.

    Raises:
        CompressionError: in one line what is wrong; nothing has changed then.
    """
    take(parse(content))


def drop(content: bytes) -> str:
    """Take over a budget file that a visitor uploads, also out of a bundle; what of it cannot be followed, as a line.

    Raises:
        CompressionError: as :func:`load`, but a weights file that it names is left out and told.
    """
    read = _read(content)
    take(permissions.here(read.replace(weights=None)))
    if read.weights is None:
        return ""
    return (
        f"The file names the weights {PurePath(read.weights).name}; this page starts from those chosen on the Model "
        "page: upload them there to begin where that run began."
    )


def take(read: Budget) -> None:
    """Make a budget that names no file the draft.

    Raises:
        CompressionError: what this page does not offer or cannot show; nothing has changed then.
    """
    checked(read)
    state.put("model", read.model)
    state.put("data", read.data)
    draft.take(read)


def checked(read: Budget) -> Budget:
    """The budget, if this page can show all of it.

    Raises:
        CompressionError: what this page does not offer or cannot show.
    """
    catalog.allow(read.model, read.data)
    method = method_catalog.get(read.method)
    method.check(read)
    if read.sparsity > draft.HIGHEST_SPARSITY:
        raise CompressionError(
            f"sparsity {read.sparsity:g} is above {draft.HIGHEST_SPARSITY:g}, the most this page takes"
        )
    if not draft.FEWEST_EPOCHS <= read.epochs <= draft.MOST_EPOCHS:
        raise CompressionError(
            f"epochs {read.epochs:g}: this page takes {draft.FEWEST_EPOCHS:g} to {draft.MOST_EPOCHS:g}"
        )
    if abs(read.seed) > draft.LARGEST_SEED:
        raise CompressionError(f"seed {read.seed}: this page takes whole numbers up to 2^53 - 1")
    return read


def parse(content: bytes) -> Budget:
    """A budget from the bytes of a file: its own, or the ``config.json`` of a bundle.

    Raises:
        CompressionError: too large, no JSON, unknown fields or impossible values, or it names a weights file.
    """
    read = _read(content)
    if read.weights is not None:
        raise CompressionError(
            "this budget names a weights file; pages use the trained weights of the model, remove the field weights"
        )
    return read


def _read(content: bytes) -> Budget:
    """A budget, whatever weights it names.

    Raises:
        CompressionError: too large, no JSON, unknown fields or impossible values.
    """
    if len(content) > LARGEST_FILE:
        raise CompressionError("this file is too large for a budget; choose one saved on this page")
    try:
        raw = json_object(content, "this file")
    except CompressionError as error:
        raise CompressionError(f"{error}; choose a budget saved on this page") from error
    return Budget.from_dict(raw)
