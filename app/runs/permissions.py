"""What of a run may be worked on here: code and folders only where the operator named them when starting the app."""

from __future__ import annotations

from pathlib import Path

from app import options
from compression import commands, owncode, zoo
from compression import data as datasets
from compression.budget import Budget
from compression.data.catalogue import of_file
from compression.errors import CompressionError
from compression.runs import names


def here(budget: Budget) -> Budget:
    """A budget that somebody sent, with the model and the folder that this app was started with in the place of names.

    A bundle names files without folders: the operator's file and function of that name are meant, if there is one.

    Raises:
        CompressionError: its model is code that this app was not started with.
    """
    given = options.read()
    model = names.matching(budget.model, given.models) if zoo.is_file(budget.model) else budget.model
    if zoo.is_file(model) and model not in given.models:
        raise CompressionError(
            f"the model of this budget is code of its own ({names.model_name(model)}), and this app was not started "
            f'with one file of that name: start it with ARGS="--model path/to/{names.model_name(model)}"'
        )
    return budget.replace(model=model, data=names.matching(budget.data, options.offered(given)))


def check(budget: Budget) -> None:
    """Refuse to restore, resume or export a run whose code or images this app was not started with.

    What the run ended with may be looked at all the same: its figures are read, nothing of it is executed.

    Raises:
        CompressionError: saying how to start the app with it.
    """
    given = options.read()
    if zoo.is_file(budget.model) and budget.model not in given.models:
        raise CompressionError(
            "the model of this run is code of its own: start the app with "
            f"{commands.app(*commands.option('model', budget.model))} to work on it"
        )
    if of_file(budget.data):
        raise CompressionError(
            f"the {budget.data.partition(':')[0]} of this run is a file of its own, which pages do not open: resume or "
            "export it on the command line"
        )
    if owncode.is_own(budget.data) and budget.data not in given.tasks:
        raise CompressionError(
            "the task of this run is code of its own: start the app with "
            f"{commands.app(*commands.option('task', budget.data))} to work on it"
        )
    if budget.data not in (*datasets.names(), *options.offered(given)):
        raise CompressionError(
            "the images of this run lie in a folder that was not named: start the app with "
            f"{commands.app(*commands.option('data-root', str(Path(budget.data).parent)))} to work on it"
        )
