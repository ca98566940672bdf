"""From a budget to what a method works on: the trained dense model, its graph, the data, and the baseline point."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from compression import commands
from compression import data
from compression import graph as tracing
from compression import zoo
from compression.budget import Budget
from compression.data import DataSet
from compression.errors import CompressionError
from compression.graph import Graph
from compression.measure import sizes
from compression.methods.base import Task
from compression.points import Point
from compression.train import Evaluation
from compression.train import evaluate
from compression.zoo import weights as weight_files


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained dense model with the data it is compressed on; ``weights`` is the file its parameters came from."""

    model: nn.Module
    data: DataSet
    input: tuple[int, ...]
    classes: int
    weights: Path


@dataclass(frozen=True, eq=False)
class Prepared:
    """A subject, traced and measured; ``confusion`` is the baseline's on the test split (rows: true class)."""

    subject: Subject
    graph: Graph
    baseline: Point
    ledger: dict[str, Any]
    confusion: list[list[int]]

    def task(self, budget: Budget) -> Task:
        """A task with a fresh copy of the dense model, which the method may change."""
        return Task(copy.deepcopy(self.subject.model), self.graph, self.subject.data, budget)


class Workbench:
    """Keeps what was prepared last, so that the runs of a sweep share data, trace and baseline."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._prepared: Prepared | None = None

    def prepare(self, budget: Budget) -> Prepared:
        """Load, trace and measure, or hand out what the last budget with the same subject was given."""
        key = (budget.model, budget.data, budget.input, budget.classes, budget.weights)
        if self._prepared is None or key != self._key:
            self._key, self._prepared = key, prepare(budget)
        return self._prepared


def load(budget: Budget) -> Subject:
    """The model and data that a budget names, checked against each other.

    Raises:
        CompressionError: unknown model or data, data that do not fit, missing or wrong-shaped weights.
    """
    input, classes = shape(budget)
    dataset = data.load(budget.data, input=input)
    data.fit_check(dataset, input, classes)
    path = find_weights(budget, input, classes)
    model = zoo.build(budget.model, input=input, classes=classes)
    weight_files.load(model, path)
    return Subject(model.eval(), dataset, input, classes, path)


def shape(budget: Budget) -> tuple[tuple[int, ...], int]:
    """The input (channels, height, width) and class count: the budget's, else the model's own."""
    spec = zoo.spec(budget.model)
    return budget.input or spec.input, budget.classes or spec.classes


def find_weights(budget: Budget, input: tuple[int, ...], classes: int) -> Path:
    """The file with the trained weights: the one named, else the one shipped or made by ``train``.

    Raises:
        CompressionError: there is none; the message holds the ``train`` line to type.
    """
    if budget.weights is not None:
        path = Path(budget.weights).expanduser()
        if not path.is_file():
            raise CompressionError(f"weights file {budget.weights} does not exist")
        return path
    found = weight_files.find(budget.model, budget.data, input, classes)
    if found is None:
        raise CompressionError(
            f"no trained weights for {budget.model} on {budget.data}; train them first: {train_line(budget)}"
        )
    return found


def train_line(budget: Budget) -> str:
    """The command that trains the dense model which this budget starts from."""
    size = None if budget.input is None else "x".join(map(str, budget.input))
    options = {"model": budget.model, "data": budget.data, "input": size, "classes": budget.classes}
    options |= {"epochs": zoo.spec(budget.model).epochs, "seed": 0}
    return commands.line("train", python=commands.interpreter(), options=options)


def prepare(budget: Budget) -> Prepared:
    """Load, trace and measure on the test split; the baseline's bytes are those of its fp32 file."""
    subject = load(budget)
    graph = tracing.trace(subject.model, zoo.example(budget.model, input=subject.input))
    told = evaluate(subject.model, subject.data, "test")
    ledger = fp32_ledger(subject.model)
    baseline = file_point(subject.model, graph, told, ledger["total"], step=0, epoch=0.0, phase="baseline")
    return Prepared(subject, graph, baseline, ledger, told.confusion)


def file_point(
    model: nn.Module, graph: Graph, told: Evaluation, total: int, *, step: int, epoch: float, phase: str
) -> Point:
    """A test point whose bytes are those of a file: what ``model`` counts, and how well the file's content does."""
    measured = {"split": "test", "accuracy": told.accuracy, "loss": told.loss, "bytes": total, "bytes_kind": "packed"}
    return Point.from_dict({**sizes(model, graph), **measured, "step": step, "epoch": epoch, "phase": phase})


def fp32_ledger(model: nn.Module) -> dict[str, Any]:
    """The size of the dense model as a safetensors file, in bytes: weights, everything else in it, and the header."""
    from safetensors.torch import save

    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    total = len(save(state))
    named = {name for name, parameter in model.named_parameters() if parameter.dim() > 1}
    size = {name: tensor.numel() * tensor.element_size() for name, tensor in state.items()}
    values = sum(count for name, count in size.items() if name in named)
    leftovers = sum(size.values()) - values
    return {
        "values": values,
        "positions": 0,
        "scales": 0,
        "leftovers": leftovers,
        "container": total - values - leftovers,
        "total": total,
    }
