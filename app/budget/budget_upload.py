"""A budget file that a visitor brings: checked, then the draft of the Budget page."""

from __future__ import annotations

from pathlib import PurePath

from app import state
from app.budget import draft
from app.model import catalog
from app.runs import permissions
from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.reading import json_object

LARGEST_FILE = 5_000_000


def load(content: bytes) -> str:
    """Take over a budget file, also out of a bundle; returns a line on what of it cannot be followed.

    A weights file that it names is left out: files of this machine are never named.

    Raises:
        CompressionError: in one line what is wrong; nothing has changed then.
    """
    budget = _read(content)
    take(permissions.here(budget.replace(weights=None)))
    if budget.weights is None:
        return ""
    return (
        f"The file names the weights {PurePath(budget.weights).name}; this page starts from those chosen on the Model "
        "page: upload them there to begin where that run began."
    )


def take(budget: Budget) -> None:
    """Make a budget that names no file the draft, and its model and data those of the page.

    Raises:
        CompressionError: what this page does not offer or cannot show; nothing has changed then.
    """
    catalog.allow(budget.model, budget.data)
    check_shown(budget)
    state.put("model", budget.model)
    state.put("data", budget.data)
    draft.put(budget)


def check_shown(budget: Budget) -> Budget:
    """The budget, if the controls of this page can show all of it.

    Raises:
        CompressionError: what its method cannot have, or a value beyond the end of its control.
    """
    method, _ = methods.of_budget(budget)
    for ask in method.asks:
        control, value = ask.control(), ask.value(budget.asks)
        if control is None or value is None:
            continue
        low, high = value if isinstance(value, tuple) else (value, value)
        if low < control.low or high > control.high:
            raise CompressionError(
                f"{ask.field} {low if low < control.low else high:g}: this page takes {control.low:g} to "
                f"{control.high:g}"
            )
    if not draft.FEWEST_EPOCHS <= budget.epochs <= draft.MOST_EPOCHS:
        raise CompressionError(
            f"epochs {budget.epochs:g}: this page takes {draft.FEWEST_EPOCHS:g} to {draft.MOST_EPOCHS:g}"
        )
    if budget.batch_size > draft.LARGEST_BATCH:
        raise CompressionError(f"batch_size {budget.batch_size}: this page takes up to {draft.LARGEST_BATCH}")
    if abs(budget.seed) > draft.LARGEST_SEED:
        raise CompressionError(f"seed {budget.seed}: this page takes whole numbers up to 2^53 - 1")
    return budget


def parse(content: bytes) -> Budget:
    """A budget from the bytes of a file: its own, or the ``config.json`` of a bundle.

    Raises:
        CompressionError: too large, no JSON, unknown fields or impossible values, or it names a weights file.
    """
    budget = _read(content)
    if budget.weights is not None:
        raise CompressionError(
            "this budget names a weights file; pages use the trained weights of the model, remove the field weights"
        )
    return budget


def _read(content: bytes) -> Budget:
    if len(content) > LARGEST_FILE:
        raise CompressionError("this file is too large for a budget; choose one saved on this page")
    try:
        raw = json_object(content, "this file")
    except CompressionError as error:
        raise CompressionError(f"{error}; choose a budget saved on this page") from error
    return Budget.from_dict(raw)
