"""The study of sensitivity: validation accuracy with one layer or group at a time quantized or pruned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compression.budget import Budget
from compression.jobs import studies
from compression.runs.folder import RunFolder
from compression.runs.reporter import RunReporter

KIND = "sensitivity"
IMAGES = 500  # of the validation split, for every trial


def asked(structured: bool, images: int = IMAGES) -> dict[str, Any]:
    """What is asked for: units of groups (``structured``) or single weights of layers, on how many images, the grid."""
    from compression.explain.layer_sensitivity import BITS, SHARES

    return {"structured": structured, "images": images, "bits": list(BITS), "shares": list(SHARES)}


def key(budget: Budget, structured: bool, images: int = IMAGES) -> str:
    """What the scan depends on, as a digest: see :func:`compression.jobs.studies.key`."""
    return studies.key(KIND, budget, **asked(structured, images))


def carry_out(folder: RunFolder, events: RunReporter, *, structured: bool, images: int, **grid: Any) -> dict[str, Any]:
    """Measure every trial; the result's ``rows`` hold one each: what was done, ``accuracy``, ``loss``, ``gone``.

    Raises:
        Cancelled: the job was asked to stop.
    """
    from compression import zoo
    from compression.explain.layer_sensitivity import Bench, trials
    from compression.graph import trace
    from compression.runs.prepare import load
    from compression.training.dense import evaluate

    subject = load(folder.budget(), folder.spec().get("subject"))
    graph = trace(subject.model, zoo.example(folder.budget().model, input=subject.input))
    wanted = trials(subject.model, graph, structured)
    events.plan(len(wanted), unit="trials")
    dense = evaluate(subject.model, subject.data, "validation", limit=images)
    bench, rows = Bench(subject.model, graph), []
    for number, trial in enumerate(wanted, start=1):
        events.check()
        with bench.during(trial) as gone:
            told = evaluate(subject.model, subject.data, "validation", limit=images)
        measured = {"accuracy": told.accuracy, "loss": told.loss, "gone": gone}
        rows.append({"kind": trial.kind, "name": trial.name, "value": trial.value, "size": trial.size, **measured})
        events.step(number, 0.0, accuracy=told.accuracy, loss=told.loss)
    used = min(images, len(subject.data.validation))
    return {"structured": structured, "dense": dense.accuracy, "images": used, "rows": rows}


def measure(budget: Budget, root: str | Path, structured: bool, images: int = IMAGES) -> str:
    """Start (or queue) the scan of the model, weights and data of ``budget``; returns its id.

    Raises:
        CompressionError: what in the budget cannot be, as for a run.
    """
    return studies.begin(KIND, budget, root, **asked(structured, images))
