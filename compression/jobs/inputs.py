"""The study of what flows into each layer of a dense network."""

from __future__ import annotations

from typing import Any

from compression import devices
from compression.jobs import studies
from compression.runs.folder import RunFolder
from compression.runs.reporter import RunReporter

KIND = "inputs"
IMAGES, BATCH, BITS = 256, 32, 4


def request(images: int = IMAGES, bits: int = BITS) -> dict[str, Any]:
    """The study's parameters: how many training inputs, and the bit-width at which weights are rounded."""
    return {"images": images, "bits": bits}


def carry_out(folder: RunFolder, events: RunReporter, *, images: int, bits: int) -> dict[str, Any]:
    """A row for each layer: see :func:`compression.explain.layer_inputs.layer_inputs`.

    Raises:
        CompressionError: an input of a layer that is not finite.
        Cancelled: the job was asked to stop.
    """
    from compression.data import Batches
    from compression.explain.layer_inputs import layer_inputs

    subject, graph = studies.opened(folder)
    device = devices.device_of(subject.model)
    batches = Batches(subject.data, "train", BATCH, augment=False, limit=images, device=device)
    events.plan(len(graph.layers), unit="layers")
    step = 0

    def done() -> None:
        nonlocal step
        step += 1
        events.check()
        events.step(step, 0.0)

    rows = layer_inputs(subject.model.eval(), graph, (x for x, _ in batches), bits, done)
    return {"images": min(images, len(subject.data.train)), "bits": bits, "rows": rows}
