"""What of a run may be worked on here: code and folders only where the operator named them when starting the app."""

from __future__ import annotations

from pathlib import Path

from app import options
from compression import commands
from compression import data as datasets
from compression.budget import Budget
from compression.errors import CompressionError


def check(budget: Budget) -> None:
    """Refuse to restore, resume or export a run whose code or images this app was not started with.

    What the run ended with may be looked at all the same: its figures are read, nothing of it is executed.

    Raises:
        CompressionError: saying how to start the app with it.
    """
    given = options.read()
    if ".py:" in budget.model and budget.model not in given.models:
        raise CompressionError(
            "the model of this run is code of its own: start the app with "
            f"{commands.app(*commands.option('model', budget.model))} to work on it"
        )
    if budget.data not in (*datasets.names(), *options.data_folders(given.data_root)):
        raise CompressionError(
            "the images of this run lie in a folder that was not named: start the app with "
            f"{commands.app(*commands.option('data-root', str(Path(budget.data).parent)))} to work on it"
        )
