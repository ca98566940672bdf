"""Accuracy without any training: OPQ's allocation over a grid of budgets, measured by a background job of its own.

A job is a run folder like any other, with the same worker, events and states, but below ``<runs>/curves``: it ends in a
table instead of a smaller model. One that was made from the same weights, data and grid is found again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from compression.budget import Budget
from compression.runs.check import absolute
from compression.runs.check import check
from compression.runs.folder import DONE
from compression.runs.folder import QUEUED
from compression.runs.folder import RUNNING
from compression.runs.folder import RunFolder
from compression.runs.reporter import RunReporter
from compression.runs.store import Store
from compression.runs.submit import new_spec

JOB = "curve"
FOLDER = "curves"
SPARSITIES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
BITS = (2.0, 3.0, 4.0, 6.0, 8.0)
IMAGES = 1000  # of the validation split, for every budget
STATISTICS = 16  # batches on which batch norms are refitted: enough for an average, and a sixth of what a run takes


def curves(root: str | Path) -> Store:
    """The store of these jobs beside the runs below ``root``."""
    return Store(Path(root) / FOLDER)


def grid() -> list[tuple[float, float]]:
    """Every (sparsity, average bits) that is measured, in the order of measuring."""
    return [(sparsity, bits) for bits in BITS for sparsity in SPARSITIES]


def key(budget: Budget) -> str:
    """What the table depends on, as a digest: model, its size, the weights' content, data, bounds, options, grid.

    Raises:
        CompressionError: there are no trained weights.
    """
    from compression.runs.prepare import find_weights
    from compression.runs.prepare import shape

    input, classes = shape(budget)
    weights = hashlib.sha256(find_weights(budget, input, classes).read_bytes()).hexdigest()
    plain = _measured(budget).to_dict()
    content = [
        budget.model,
        input,
        classes,
        weights,
        budget.data,
        plain["layers"],
        plain["options"],
        grid(),
        IMAGES,
        STATISTICS,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _measured(budget: Budget) -> Budget:
    """What of a budget counts: the subject, and for OPQ the layers' bounds on weights and the method's options."""
    layers = {
        layer: kept
        for layer, bound in budget.layers.items()
        if (kept := {name: value for name, value in bound.items() if name != "activation_bits"})
    }
    subject = Budget(
        method="opq", model=budget.model, input=budget.input, classes=budget.classes, weights=budget.weights,
        data=budget.data,
    )  # fmt: skip
    return subject.replace(layers=layers, options=budget.options) if budget.method == "opq" else subject


def find(wanted: str, root: str | Path) -> RunFolder | None:
    """The job with this :func:`key`: a finished one, else one that waits or goes, else the last.

    Raises:
        CompressionError: the folder cannot be read.
    """
    store = curves(root)
    folders = [RunFolder(store.root / info.id) for info in store.list()]
    made = [folder for folder in folders if folder.spec().get("key") == wanted]
    for states in ((DONE,), (RUNNING, QUEUED)):
        for folder in made:
            if folder.state in states:
                return folder
    return made[0] if made else None


def measure_curve(budget: Budget, root: str | Path) -> str:
    """Start (or queue) the job for the model, weights, data and bounds of ``budget``; returns its id.

    Raises:
        CompressionError: what in the budget cannot be, as for a run.
    """
    asked = absolute(_measured(budget))
    check(asked)
    store = curves(root)
    return store.add(new_spec(asked, store, JOB, job=JOB, key=key(asked)))[0].id


def carry_out_curve(folder: RunFolder, events: RunReporter) -> dict[str, Any]:
    """Measure every budget of the grid on validation images; the result's ``rows`` are those of ``untrained``.

    ``dense`` is the accuracy of the dense model on the same images.

    Raises:
        Cancelled: the job was asked to stop.
    """
    from compression.runs.prepare import load
    from compression.untrained import dense_accuracy
    from compression.untrained import measure_untrained

    budget = folder.budget()
    subject = load(budget)
    asked = grid()
    events.plan(len(asked), unit="budgets")
    dense = dense_accuracy(subject.model, subject.data, "validation", IMAGES)
    rows = []
    found = measure_untrained(
        subject.model, subject.data, budget, asked, limit=IMAGES, statistics=STATISTICS, check=events.check
    )
    for number, row in enumerate(found, start=1):
        rows.append(dataclasses.asdict(row))
        events.step(number, 0.0, accuracy=row.accuracy, loss=row.loss)
    return {"job": JOB, "dense": dense, "rows": rows, "images": min(IMAGES, len(subject.data.validation))}
