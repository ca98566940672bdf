"""A budget file that a visitor brings: read with care, and made the draft of the Budget page."""

from __future__ import annotations

import json
from collections.abc import Mapping

from app import catalog
from app import draft
from app import offer
from app import state
from compression.budget import Budget
from compression.errors import CompressionError

LARGEST_FILE = 1_000_000


def load(content: bytes) -> None:
    """Take over a budget file that a visitor uploads: model and data must be offered here, files are never named.

    Raises:
        CompressionError: in one line what is wrong; nothing has changed then.
    """
    read = parse(content)
    catalog.allow(read.model, read.data)
    method = offer.get(read.method)
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
    state.put("model", read.model)
    state.put("data", read.data)
    draft.take(read)


def parse(content: bytes) -> Budget:
    """A budget from the bytes of an uploaded file.

    Raises:
        CompressionError: too large, no JSON, unknown fields or impossible values, or it names a weights file.
    """
    if len(content) > LARGEST_FILE:
        raise CompressionError("this file is too large for a budget; choose one saved on this page")
    try:
        raw = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CompressionError("this file is not valid JSON; choose a budget saved on this page") from error
    if not isinstance(raw, Mapping):
        raise CompressionError("this file holds no budget: it must be one JSON object")
    try:
        read = Budget.from_dict(raw)
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise CompressionError(
            "this file holds a value of the wrong kind; choose a budget saved on this page"
        ) from error
    if read.weights is not None:
        raise CompressionError(
            "this budget names a weights file; pages use the trained weights of the model, remove the field weights"
        )
    return read
