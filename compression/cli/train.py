"""``train``: a dense baseline."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Unpack

from cyclopts import Parameter

from compression import devices, zoo
from compression.budget import OPTIMIZERS, Budget
from compression.cli import options
from compression.cli.output import answer, shape
from compression.cli.progress import progress_bar
from compression.errors import CompressionError
from compression.preprocess import words
from compression.runs.launcher import SPINS
from compression.runs.names import data_name, model_name
from compression.runs.preflight import absolute
from compression.tasks import Metric

CHANCE = "this model is no better than an answer that ignores its input"
Optimizer = Annotated[
    str, Parameter(choices=OPTIMIZERS, help="default: sgd for networks with batch norms, adamw for others")
]


class Training(options.Training, total=False):
    """How the weights are trained."""

    optimizer: Optimizer


def train(
    *, model: options.Model, data: options.Data, epochs: options.Epochs | None = None, seed: options.Seed = 0,
    out: options.WeightsOut = None, input: options.Input = None, classes: options.Classes = None,
    preprocess: options.Preprocess = (), device: options.Device = devices.AUTO, json: options.Json = None,
    **training: Unpack[Training],
) -> None:  # fmt: skip
    """Train and save the weights with their provenance."""
    if out is not None and Path(out).suffix != ".safetensors":
        raise CompressionError(f"--out {out}: the weights are written as safetensors; end the name in .safetensors")
    devices.check_name(device)
    constants = options.assignments(preprocess, "--preprocess", options.numbers_or_text) or None
    epochs = float(zoo.spec(model).epochs) if epochs is None else epochs
    budget = Budget(
        model=model, data=data, epochs=epochs, seed=seed, input=input, classes=classes, preprocess=constants, **training
    )
    zoo.spec(model)
    typed = {
        **{name: training.get(name) for name in Training.__annotations__}, "input": shape(input) if input else None,
        "classes": classes, "preprocess": words(constants) if constants else None,
    }  # fmt: skip
    provenance, path, seconds, metric = _train(absolute(budget), model, training, typed, out, device)
    measured = {split: metric.show(provenance[f"{split}_{metric.name}"]) for split in ("validation", "test")}
    scores = ", ".join(f"{split} {score}" for split, score in measured.items())
    if provenance["is_chance"]:
        sys.stderr.write(f"warning: {CHANCE}: train with more --epochs or another --lr before you compress it\n")
    value = {**provenance, "model": model, "data": data, "seconds": round(seconds, 2), "weights": str(path)}
    answer(value, f"{model} on {provenance['label']}: {scores}, {seconds:.1f} s\nweights: {path}", json)


def _train(
    budget: Budget, model: str, training: Training, typed: dict[str, Any], out: str | None, device: str
) -> tuple[dict[str, Any], Path, float, Metric]:
    """Train the model that was typed so; returns what its file says, the file, the seconds it took, and the metric."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is first imported
    from compression.runs import prepare
    from compression.training.dense import BATCH_SIZE, provenance, train_dense
    from compression.training.trainable import check_trainable
    from compression.zoo import weights

    where = devices.choose(device)
    (input, classes), task = prepare.shape(budget), prepare.load_task(budget)
    network, spec = zoo.build(model, input, classes, seed=budget.seed), zoo.spec(model)
    if model not in zoo.names():
        from compression.runs.rehearsal import check_answers

        check_answers(network, zoo.example(model, 2, input), task, classes)
    if spec.pretrained is not None:
        spec.pretrained(network)
    usual = {name: value for name, value in spec.usual.items() if name in Training.__annotations__}
    training = {**usual, **({} if spec.lr is None else {"lr": spec.lr}), **training}  # type: ignore[typeddict-item]
    batch_size = training.get("batch_size", BATCH_SIZE)
    check_trainable(network, task, model, batch_size)
    with progress_bar() as show, devices.fitting(where, batch_size):

        def on_step(step: int, total: int, loss: float) -> None:
            show(f"step {step} of {total}  loss {loss:.3f}", step / total)

        result = train_dense(network.to(where), task, budget.epochs, budget.seed, on_step=on_step, **training)
    about = provenance(
        result, model=model_name(model), data=data_name(budget.data), label=task.data.label, input=input,
        classes=classes, epochs=budget.epochs, seed=budget.seed, options=typed,
    )  # fmt: skip
    path = weights.save(network, out or weights.default_path(budget.model, budget.data), about)
    return about, path, result.seconds, task.metric
