"""``train``: a dense baseline."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Unpack

from cyclopts import Parameter

from compression import devices, zoo
from compression.budget import OPTIMIZERS, Budget
from compression.cli import options
from compression.cli.output import answer
from compression.cli.progress import progress_bar
from compression.errors import CompressionError
from compression.jobs import dense
from compression.runs.launcher import SPINS

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
    trained = _train(budget, training, out, device)
    provenance, metric = trained.provenance, trained.metric
    measured = {split: metric.show(provenance[f"{split}_{metric.name}"]) for split in ("validation", "test")}
    scores = ", ".join(f"{split} {score}" for split, score in measured.items())
    if provenance["is_chance"]:
        sys.stderr.write(f"warning: {CHANCE}: train with more --epochs or another --lr before you compress it\n")
    value = {**provenance, "model": model, "data": data, "seconds": round(trained.seconds, 2)}
    text = f"{model} on {provenance['label']}: {scores}, {trained.seconds:.1f} s\nweights: {trained.path}"
    answer({**value, "weights": str(trained.path)}, text, json)


def _train(budget: Budget, training: Training, out: str | None, device: str) -> dense.Trained:
    """Train with a progress bar."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is first imported
    with progress_bar() as show:

        def on_step(step: int, total: int, loss: float) -> None:
            show(f"step {step} of {total}  loss {loss:.3f}", step / total)

        return dense.train(budget, training, out=out, device=device, on_step=on_step)
