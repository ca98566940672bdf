"""The study of saliency: every unit of a dense model by four criteria, on a few batches of validation images."""

from __future__ import annotations

from typing import Any

from compression import devices
from compression.errors import CompressionError
from compression.jobs import studies
from compression.runs.folder import RunFolder
from compression.runs.reporter import RunReporter

KIND = "saliency"
IMAGES, BATCH = 64, 16


def request(images: int = IMAGES) -> dict[str, Any]:
    """The study's parameters: how many validation images, and how many points of the path to each."""
    from compression.explain.units import STEPS

    return {"images": images, "steps": STEPS}


def carry_out(folder: RunFolder, events: RunReporter, *, images: int, **fixed: Any) -> dict[str, Any]:
    """Score every unit; ``rows`` of the result hold a group each (see :func:`compression.explain.units.summary`).

    Raises:
        CompressionError: the data are no images of which each has a class.
        Cancelled: the job was asked to stop.
    """
    from compression import tasks
    from compression.data import Batches
    from compression.explain.units import CRITERIA, summary, unit_scores

    subject, graph = studies.opened(folder)
    if not tasks.attributable(folder.budget().data):
        raise CompressionError(
            f"saliency is measured along ways between images of one class each, not on {subject.data.name}"
        )
    device = devices.device_of(subject.model)
    batches = list(Batches(subject.data, "validation", BATCH, augment=False, limit=images, device=device))
    weights = {layer.weight for layer in graph.layers}
    producers = {m.name for g in graph.prunable for m in g.members if m.role == "producer" and m.dim == 0}
    events.plan(len(batches) * len(producers & weights), unit="layers of batches")
    step = 0

    def done() -> None:
        nonlocal step
        step += 1
        events.check()
        events.step(step, 0.0)

    rows = summary(unit_scores(subject.model, graph, batches, done), graph.prunable)
    used = sum(len(x) for x, _ in batches)
    return {"criteria": list(CRITERIA), "images": used, "units": graph.prunable_units, "rows": rows}
