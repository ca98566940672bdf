"""``train``: a dense baseline."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from compression.budget import OPTIMIZERS, PRECISIONS, Budget
from compression.cli.options import Commands, add_json, add_preprocess, check_target, sizes
from compression.cli.output import answer, percent
from compression.errors import CompressionError
from compression.preprocess import words
from compression.runs.launcher import SPINS
from compression.runs.names import data_name, model_name
from compression.runs.preflight import absolute

_PASSED = ("batch_size", "optimizer", "lr", "weight_decay", "precision")


CHANCE = "this model is no better than always answering the largest class"


def add(commands: Commands[Any]) -> None:
    """Register the command."""
    parser = commands.add_parser("train", help="train a dense model, kept where `run` looks for it")
    parser.add_argument(
        "--model", required=True, help="a model of the zoo, torchvision:NAME or path/to/file.py:function"
    )
    parser.add_argument(
        "--data",
        required=True,
        help="a data set by name, or a folder of images in class folders (of a known name: ./NAME)",
    )
    parser.add_argument("--epochs", type=float, default=10.0, help="default: %(default)g")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", metavar="FILE", help="where to write the weights (.safetensors)")
    parser.add_argument("--input", type=sizes, metavar="CxHxW")
    parser.add_argument("--classes", type=int, metavar="N")
    add_preprocess(parser)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument(
        "--optimizer", choices=OPTIMIZERS, help="default: sgd for networks with batch norms, adamw for others"
    )
    parser.add_argument("--lr", type=float)
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--precision", choices=PRECISIONS)
    add_json(parser)
    parser.set_defaults(command=train)


def train(asked: argparse.Namespace) -> int:
    """Train and save the weights with their provenance."""
    options = {name: getattr(asked, name) for name in _PASSED if getattr(asked, name) is not None}
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is first imported
    budget = _check(asked, options)
    from compression import zoo
    from compression.runs.prepare import load_data, shape

    (input, classes), dataset = shape(budget), load_data(budget)
    model = zoo.build(asked.model, input, classes, seed=asked.seed)
    spec = zoo.spec(asked.model)
    if asked.model not in zoo.names():
        from compression.runs.rehearsal import check_classifier

        check_classifier(model, zoo.example(asked.model, 2, input)[0], classes)
    if spec.pretrained is not None:
        spec.pretrained(model)
    if spec.lr is not None:
        options.setdefault("lr", spec.lr)

    from compression.training.dense import BATCH_SIZE, provenance, train_dense
    from compression.training.trainable import check_trainable
    from compression.zoo import weights

    check_trainable(model, dataset, asked.model, options.get("batch_size", BATCH_SIZE))
    bar = Bar()
    found = train_dense(model, dataset, asked.epochs, asked.seed, on_step=bar.step, **options)
    bar.close()
    told = provenance(
        found, model=model_name(asked.model), data=data_name(asked.data), label=dataset.label, input=input,
        classes=classes, epochs=asked.epochs, seed=asked.seed, options=_typed(asked),
    )  # fmt: skip
    path = weights.save(model, asked.out or weights.default_path(budget.model, budget.data), told)
    scores = f"validation {percent(found.validation.accuracy)}, test {percent(found.test.accuracy)}"
    text = f"{asked.model} on {dataset.label}: {scores}, {found.seconds:.1f} s\nweights: {path}"
    if told["is_chance"]:
        sys.stderr.write(f"warning: {CHANCE}: train with more --epochs or another --lr before you compress it\n")
    named = {"model": asked.model, "data": asked.data}
    answer({**told, **named, "seconds": round(found.seconds, 2), "weights": str(path)}, text, asked.json)
    return 0


def _typed(asked: argparse.Namespace) -> dict[str, Any]:
    """The options beyond model, data, epochs and seed, for the provenance."""
    given = {name: getattr(asked, name) for name in (*_PASSED, "input", "classes")}
    texts = {name: "x".join(map(str, value)) if name == "input" and value else value for name, value in given.items()}
    return {**texts, "preprocess": words(dict(asked.preprocess)) if asked.preprocess else None}


def _check(asked: argparse.Namespace, options: dict[str, Any]) -> Budget:
    """Refuse impossible values, names and targets before anything heavy is loaded; what is asked for as a budget."""
    from compression import zoo

    check_target(asked.json, "--json")
    check_target(asked.out, "--out")
    if asked.out is not None and Path(asked.out).suffix != ".safetensors":
        raise CompressionError(
            f"--out {asked.out}: the weights are written as safetensors; end the name in .safetensors"
        )
    preprocess = dict(asked.preprocess) if asked.preprocess else None
    shape = {"input": asked.input, "classes": asked.classes, "preprocess": preprocess}
    budget = Budget(model=asked.model, data=asked.data, epochs=asked.epochs, seed=asked.seed, **shape, **options)
    zoo.spec(asked.model)
    return absolute(budget)


class Bar:
    """A line on the terminal while training goes; nothing in a pipe."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()

    def step(self, step: int, total: int, loss: float) -> None:
        """Called after every step."""
        if self._on and (step % 10 == 0 or step == total):
            done = round(24 * step / total)
            sys.stderr.write(
                f"\r\x1b[K[{'#' * done:-<24}] {step / total:4.0%}  step {step} of {total}  loss {loss:.3f}"
            )
            sys.stderr.flush()

    def close(self) -> None:
        """Leave an empty line behind."""
        if self._on:
            sys.stderr.write("\r\x1b[K")
