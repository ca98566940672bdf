"""Training a dense model: what ``train`` does at once on the command line, and a page as a background job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compression import devices, zoo
from compression.budget import Budget
from compression.jobs import studies
from compression.preprocess import words
from compression.runs.folder import RunFolder
from compression.runs.names import data_name, model_name
from compression.runs.preflight import absolute
from compression.runs.reporter import RunReporter
from compression.runs.submit import check_devices, new_spec

if TYPE_CHECKING:
    from compression.tasks import Metric

KIND = "train"
OPTIONS = ("batch_size", "lr", "weight_decay", "precision", "optimizer")
"""Fields of a budget that say how weights are trained; those not given are the model's usual ones."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The ``provenance`` that the file ``path`` holds, the ``seconds`` it took, and what it was measured by."""

    provenance: dict[str, Any]
    path: Path
    seconds: float
    metric: Metric


def train(
    budget: Budget,
    given: Mapping[str, Any],
    *,
    out: str | None = None,
    device: str = devices.AUTO,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Trained:
    """Train the model of a budget from its initial (or published) weights and save it where runs search for it.

    ``given``: those of :data:`OPTIONS` that were named; ``out``: another file for the weights; ``on_step``: see
    :func:`compression.training.dense.train_dense`.

    Raises:
        CompressionError: unknown model or data, data that do not fit, or a network that cannot be trained.
        RunFailed: the loss or the model is no longer finite.
    """
    from compression.runs import prepare
    from compression.training.dense import BATCH_SIZE, provenance, train_dense
    from compression.training.trainable import check_trainable
    from compression.zoo import weights

    where, model, place = devices.choose(device), budget.model, absolute(budget)
    (input, classes), task = prepare.shape(place), prepare.load_task(place)
    network, spec = zoo.build(model, input, classes, seed=budget.seed), zoo.spec(model)
    if model not in zoo.names():
        from compression.runs.rehearsal import check_answers

        check_answers(network, zoo.example(model, 2, input), task, classes)
    if spec.pretrained is not None:
        spec.pretrained(network)
    usual = {name: value for name, value in spec.usual.items() if name in OPTIONS}
    training = {**usual, **({} if spec.lr is None else {"lr": spec.lr}), **given}
    batch_size = training.get("batch_size", BATCH_SIZE)
    check_trainable(network, task, model, batch_size)
    with devices.fitting(where, batch_size):
        result = train_dense(network.to(where), task, budget.epochs, budget.seed, on_step=on_step, **training)
    about = provenance(
        result, model=model_name(model), data=data_name(place.data), label=task.data.label, input=input,
        classes=classes, epochs=budget.epochs, seed=budget.seed, options=_typed(budget, given),
    )  # fmt: skip
    path = weights.save(network, out or weights.default_path(place.model, place.data), about)
    return Trained(about, path, result.seconds, task.metric)


def _typed(budget: Budget, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the command that trains this once more."""
    return {
        **{name: given.get(name) for name in OPTIONS},
        "input": "x".join(map(str, budget.input)) if budget.input else None,
        "classes": budget.classes,
        "preprocess": words(budget.preprocess) if budget.preprocess else None,
    }


def key(budget: Budget) -> str:
    """The digest of everything that the weights depend on: model, size, data, epochs, seed, files of one's own."""
    content = [KIND, budget.epochs, budget.seed, *studies.subject_key(absolute(budget))]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def find(budget: Budget, root: str | Path) -> RunFolder | None:
    """The last job that trains, or trained, this; ``None``: there was none.

    Raises:
        CompressionError: the folder of the jobs cannot be read.
    """
    matching = studies.matching(key(budget), root)
    return matching[0] if matching else None


def begin(budget: Budget, root: str | Path, device: str = devices.AUTO) -> str:
    """Start (or queue) the training of the model of ``budget`` for its epochs, from its seed; returns the job's id.

    Raises:
        CompressionError: unknown model or data, data that do not fit, or no such device.
    """
    from compression.runs.prepare import load_task

    check_devices(device)
    fields = budget.model_dump(include={"model", "input", "classes", "data", "preprocess", "epochs", "seed"})
    plain = absolute(Budget(**fields))
    load_task(plain)
    store = studies.studies(root)
    return store.add(new_spec(plain, store, KIND, device, job=KIND, key=key(plain), asked={}))[0].id


def carry_out(folder: RunFolder, events: RunReporter) -> dict[str, Any]:
    """Train, and report every step; the result is the provenance of the weights.

    Raises:
        Cancelled: the job was asked to stop; nothing is written then.
    """
    budget = folder.budget()
    planned = False

    def on_step(step: int, total: int, loss: float) -> None:
        nonlocal planned
        events.check()
        if not planned:
            events.plan(total)
            planned = True
        events.step(step, budget.epochs * step / total, loss=loss)

    trained = train(budget, {}, device=str(folder.spec().get("device", devices.AUTO)), on_step=on_step)
    return {"weights": trained.path.name, "seconds": trained.seconds, "provenance": trained.provenance}
