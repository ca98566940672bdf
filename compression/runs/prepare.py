"""From a budget to what a method works on: the trained dense model, its graph, the data, and the baseline point."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from compression import commands, data, devices, owncode, tasks, zoo
from compression import graph as tracing
from compression.budget import Budget
from compression.data import DataSet
from compression.errors import CompressionError
from compression.graph import Graph
from compression.methods.base import Setup
from compression.points import Point
from compression.preprocess import merged
from compression.preprocess import words as preprocess_words
from compression.tasks import Evaluation, Metric, Task
from compression.training.dense import evaluate
from compression.training.measure import sizes
from compression.training.wire import Wire
from compression.zoo.origin import Weighted, weighted
from compression.zoo.weights import digest as weights_digest
from compression.zoo.weights import unshared


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained dense model with what it is compressed on; ``weights`` says where its parameters came from."""

    model: nn.Module
    task: Task
    input: tuple[int, ...]
    classes: int
    weights: str

    @property
    def data(self) -> DataSet:
        """The data of its task."""
        return self.task.data

    def on(self, device: torch.device) -> TrainedModel:
        """The same on a device; on another than the CPU a copy."""
        if device == devices.device_of(self.model):
            return self
        return replace(self, model=tracing.deep_copy(self.model).to(device))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a spec keeps of it, so that a run never continues with another: see :func:`check_same`."""
        about = {"weights": self.weights, "digest": weights_digest(self.model), "preprocess": self.data.preprocess}
        return {**about, "metric": self.task.metric.to_dict()}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A subject, traced and measured; ``details`` are what its task counts on the test split.

    ``digest`` changes with its weights, its data, or the user's file that builds it. ``device`` is where it was
    measured and where the method works; the subject itself stays on the CPU.
    """

    subject: TrainedModel
    graph: Graph
    baseline: Point
    ledger: dict[str, Any]
    details: dict[str, Any]
    digest: str
    device: torch.device

    def setup(self, budget: Budget, wire: Wire | None = None) -> Setup:
        """A setup with a fresh copy of the dense model on the device, which the method may change."""
        model = tracing.deep_copy(self.subject.model).to(self.device)
        return Setup(model, self.graph, self.subject.task, budget, wire)

    def prove_cuts(self, budget: Budget) -> None:
        """Try once, before any training, that units can be removed from this network.

        Raises:
            CompressionError: they cannot; the groups are named.
        """
        whole = [name for name, bounds in budget.groups.items() if bounds.get("sparsity", (0, 1))[1] == 0]
        tracing.prove(self.subject.model, self.graph, without=whole)


class Workbench:
    """Keeps what was prepared last, so that the runs of a sweep share data, trace and baseline."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._prepared: Prepared | None = None

    def prepare(
        self, budget: Budget, identity: Mapping[str, Any] | None = None, device: torch.device | None = None
    ) -> Prepared:
        """Load, trace and measure, or return the last result where the subject is the same.

        ``identity``: what the run's spec keeps of its subject; ``device``: by default the CPU.

        Raises:
            CompressionError: see :func:`load`.
        """
        preprocess = json.dumps(budget.preprocess, sort_keys=True)
        device = device or torch.device(devices.CPU)
        key = (budget.model, budget.data, budget.input, budget.classes, budget.weights, preprocess, device)
        if self._prepared is None or key != self._key:
            self._key, self._prepared = key, prepare(budget, device)
        check_same(self._prepared.subject, identity)
        return self._prepared


def load(budget: Budget, identity: Mapping[str, Any] | None = None) -> TrainedModel:
    """The model and data that a budget names, checked against each other, and against the ``identity`` in a spec.

    Raises:
        CompressionError: unknown model or data, data that do not fit, missing or wrong-shaped weights, or another
            subject than the spec's.
    """
    task = load_task(budget)
    input, classes = shape(budget)
    trained = find_weights(budget)
    subject = TrainedModel(trained.model, task, input, classes, trained.name)
    check_same(subject, identity)
    return subject


def load_task(budget: Budget) -> Task:
    """The task that a budget names, its data brought to the model's input as the budget or the model's function says.

    Raises:
        CompressionError: unknown model or data, or data that do not fit. Whether a task of one's own fits is seen when
            the network is tried on it.
    """
    (input, classes), spec = shape(budget), zoo.spec(budget.model)
    task = tasks.load(budget.data, input=input, preprocess=merged(spec.preprocess, budget.preprocess))
    if spec.example is not None and input != spec.input:
        size = "x".join(map(str, spec.input))
        raise CompressionError(f"{budget.model} says itself what it takes ({size}): leave --input out")
    if not owncode.is_own(budget.data):
        if spec.task == zoo.ANY:
            raise CompressionError(
                f"{budget.model} must map images [B, C, H, W] to logits [B, classes], [B, classes, H, W] for "
                "segmentation or [B, cells, 4 + classes] for detection; other answers need a task of your own (--task)"
            )
        data.fit_check(task.data, input, classes, spec.task)
    return task


def check_same(subject: TrainedModel, identity: Mapping[str, Any] | None) -> None:
    """Refuse a subject that is another than when the run was requested; specs of older versions do not say.

    Raises:
        CompressionError: naming what changed.
    """
    if not identity:
        return
    then, now = identity.get("digest"), subject.identity["digest"]
    if then != now:
        raise CompressionError(
            f"the weights ({subject.weights}) are not those that this was started with (SHA-256 {now[:12]} now, "
            f"{str(then)[:12]} then): put those back, or start it anew"
        )
    if identity.get("preprocess") != subject.identity["preprocess"]:
        raise CompressionError(
            f"images are preprocessed otherwise than when this was started ({json.dumps(subject.data.preprocess)} now, "
            f"{json.dumps(identity.get('preprocess'))} then): start it anew"
        )


def shape(budget: Budget) -> tuple[tuple[int, ...], int]:
    """The input (channels, height, width) and class count: the budget's, else the model's own."""
    spec = zoo.spec(budget.model)
    return budget.input or spec.input, budget.classes or spec.classes


def find_weights(budget: Budget) -> Weighted:
    """The model with its trained weights: those named, else shipped or made by ``train``, else its own function's.

    Raises:
        CompressionError: there are none; the message holds the ``train`` line to type.
    """
    trained = weighted(budget.model, *shape(budget), budget.weights, (budget.data,))
    if trained is None:
        own = zoo.spec(budget.model).family == "file"
        why = " (its function returns initial ones, or others at each call)" if own else ""
        raise CompressionError(
            f"no trained weights for {budget.model}{why} on {budget.data}; train them first: {train_line(budget)}"
        )
    return trained


def train_line(budget: Budget) -> str:
    """The command that trains the dense model which this budget starts from."""
    size = None if budget.input is None else "x".join(map(str, budget.input))
    preprocess = preprocess_words(budget.preprocess) if budget.preprocess else None
    options = {"model": budget.model, "data": budget.data, "input": size, "classes": budget.classes}
    options |= {"preprocess": preprocess, "epochs": zoo.spec(budget.model).epochs, "seed": 0}
    return commands.line("train", python=commands.interpreter(), options=options)


def prepare(budget: Budget, device: torch.device) -> Prepared:
    """Load, trace and measure on the test split; the baseline's bytes are those of its fp32 file."""
    subject = load(budget)
    graph = tracing.trace(subject.model, zoo.example(budget.model, input=subject.input))
    evaluation = evaluate(subject.on(device).model, subject.task, "test")
    ledger = fp32_ledger(subject.model)
    at: dict[str, Any] = {"step": 0, "epoch": 0.0, "phase": "baseline"}
    baseline = file_point(subject.model, graph, subject.task.metric, evaluation, ledger["total"], **at)
    digest = subject_digest(subject, budget.model, budget.data)
    return Prepared(subject, graph, baseline, ledger, evaluation.details, digest, device)


def subject_digest(subject: TrainedModel, model: str, source: str = "") -> str:
    """The SHA-256 of what a run of ``model`` on the data ``source`` begins with: weights, data, files of one's own."""
    total, data = hashlib.sha256(weights_digest(subject.model).encode()), subject.data
    total.update(repr((data.mean, data.std, data.augment, data.classes, data.preprocess)).encode())
    for own in filter(owncode.is_own, (model, source)):
        total.update(owncode.divided(own)[0].read_bytes())
    for name in ("train", "validation", "test"):
        data.split(name).digest(total, name)
    return total.hexdigest()


def file_point(
    model: nn.Module,
    graph: Graph,
    metric: Metric,
    evaluation: Evaluation,
    total: int,
    *,
    step: int,
    epoch: float,
    phase: str,
) -> Point:
    """A test point whose bytes are those of a file: what ``model`` counts, and how well the file's content does."""
    figures = {"loss": evaluation.loss, "bytes": total, "bytes_kind": "packed", "metric": metric.name}
    figures |= metric.named(evaluation.score)
    return Point.from_dict(
        {**sizes(model, graph), **figures, "split": "test", "step": step, "epoch": epoch, "phase": phase}
    )


def fp32_ledger(model: nn.Module) -> dict[str, Any]:
    """The size of the dense model as a safetensors file, in bytes: weights, everything else in it, and the header.

    A tensor of several names is in it once.
    """
    from safetensors.torch import save

    once = {id(tensor): name for name, tensor in reversed(model.state_dict(keep_vars=True).items())}
    state = unshared({name: model.state_dict()[name] for name in reversed(once.values())})
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
