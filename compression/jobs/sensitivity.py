"""The study of sensitivity: the validation score with one layer or group at a time quantized or pruned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compression import devices
from compression.budget import Budget
from compression.jobs import studies
from compression.runs.folder import RunFolder
from compression.runs.reporter import RunReporter

KIND = "sensitivity"
IMAGES = 500  # of the validation split, for every trial


def request(structured: bool, images: int = IMAGES) -> dict[str, Any]:
    """The study's parameters: units of groups (``structured``) or weights of layers, images, the grid."""
    from compression.explain.layer_sensitivity import BITS, SHARES

    return {"structured": structured, "images": images, "bits": list(BITS), "shares": list(SHARES)}


def key(budget: Budget, structured: bool, images: int = IMAGES) -> str:
    """The digest of everything the scan depends on: see :func:`compression.jobs.studies.key`."""
    return studies.key(KIND, budget, **request(structured, images))


def carry_out(folder: RunFolder, events: RunReporter, *, structured: bool, images: int, **grid: Any) -> dict[str, Any]:
    """Measure every trial; the result's ``rows`` hold one each: what was done, ``score``, ``loss``, ``gone``.

    Raises:
        Cancelled: the job was asked to stop.
    """
    from compression.explain.layer_sensitivity import Bench, trials
    from compression.training.dense import evaluate

    subject, graph = studies.opened(folder)
    planned = trials(subject.model, graph, structured)
    events.plan(len(planned), unit="trials")
    metric = subject.task.metric
    dense = evaluate(subject.model, subject.task, "validation", limit=images)
    bench, rows = Bench(subject.model, graph), []
    for number, trial in enumerate(planned, start=1):
        events.check()
        with bench.during(trial) as removed:
            result = evaluate(subject.model, subject.task, "validation", limit=images)
        measured = {**metric.named(result.score), "loss": result.loss, "gone": removed}
        rows.append({"kind": trial.kind, "name": trial.name, "value": trial.value, "size": trial.size, **measured})
        events.step(number, 0.0, score=result.score, loss=result.loss)
    used = subject.task.count("validation", images)
    scan = {"structured": structured, "dense": dense.score, "metric": metric.to_dict()}
    return {**scan, "images": used, "rows": rows}


def measure(
    budget: Budget, root: str | Path, structured: bool, images: int = IMAGES, device: str = devices.AUTO
) -> str:
    """Start (or queue) the scan of the model, weights and data of ``budget``; returns its id.

    Raises:
        CompressionError: the budget is refused, as for a run, or there is no such device.
    """
    return studies.begin(KIND, budget, root, device, **request(structured, images))
