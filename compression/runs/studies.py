"""Studies: tables about a dense model, made by background jobs of their own and found again by what they depend on.

A study is a run folder like any other, with the same worker, events and states, but below ``<runs>/studies``; it ends
in a table instead of a smaller model.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from compression.budget import Budget
from compression.preprocess import merged
from compression.runs.check import absolute
from compression.runs.check import check
from compression.runs.folder import DONE
from compression.runs.folder import QUEUED
from compression.runs.folder import RUNNING
from compression.runs.folder import RunFolder
from compression.runs.store import Store
from compression.runs.submit import new_spec

if TYPE_CHECKING:
    from compression.runs.reporter import RunReporter

FOLDER = "studies"
KINDS = {kind: f"compression.runs.{kind}" for kind in ("curve", "sensitivity", "saliency")}
"""Name of a study → the module whose ``carry_out`` makes it."""


def studies(root: str | Path) -> Store:
    """The store of these jobs beside the runs below ``root``."""
    return Store(Path(root) / FOLDER)


def key(kind: str, budget: Budget, **asked: Any) -> str:
    """What a study depends on, as a digest: its kind, the model, its size, the weights' content, data, what is asked.

    Raises:
        CompressionError: there are no trained weights.
    """
    from compression import zoo
    from compression.runs.prepare import find_weights
    from compression.runs.prepare import shape

    found, (input, classes) = find_weights(budget), shape(budget)
    weights = hashlib.sha256(found.file.read_bytes()).hexdigest() if found.file else found.digest
    preprocess = merged(zoo.spec(budget.model).preprocess, budget.preprocess)
    content = [kind, budget.model, input, classes, weights, budget.data, asked, *([preprocess] if preprocess else [])]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def find(wanted: str, root: str | Path) -> RunFolder | None:
    """The study with this :func:`key`: a finished one, else one that waits or goes, else the last.

    Raises:
        CompressionError: the folder cannot be read.
    """
    if not (Path(root) / FOLDER).is_dir():
        return None
    store = studies(root)
    folders = [RunFolder(store.root / info.id) for info in store.list()]
    made = [folder for folder in folders if folder.spec().get("key") == wanted]
    for states in ((DONE,), (RUNNING, QUEUED)):
        for folder in made:
            if folder.state in states:
                return folder
    return made[0] if made else None


def begin(kind: str, budget: Budget, root: str | Path, **asked: Any) -> str:
    """Start (or queue) the study for the model, weights and data of ``budget``; returns its id.

    Raises:
        CompressionError: what in the budget cannot be, as for a run.
    """
    plain = Budget(
        method="ptq", model=budget.model, input=budget.input, classes=budget.classes, weights=budget.weights,
        data=budget.data, preprocess=budget.preprocess,
    )  # fmt: skip
    wanted = absolute(plain)
    identity = check(wanted)
    store = studies(root)
    made = key(kind, wanted, **asked)
    return store.add(new_spec(wanted, store, kind, job=kind, key=made, asked=asked, subject=identity))[0].id


def carry_out(folder: RunFolder, events: RunReporter) -> dict[str, Any]:
    """Make the study in this folder, of whichever kind it is.

    Raises:
        Cancelled: the job was asked to stop.
    """
    spec = folder.spec()
    found: dict[str, Any] = importlib.import_module(KINDS[spec["job"]]).carry_out(folder, events, **spec["asked"])
    return {"job": spec["job"], **found}
