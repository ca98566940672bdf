"""A task: what a network is for, so that training, measuring and every page speak of the right thing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from compression import devices
from compression.data import DataSet
from compression.graph.inputs import Example, call, first_tensor
from compression.tasks.metric import Metric


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on a split: its ``score``, the mean ``loss``, and what else the task counts, JSON values.

    ``is_chance``: whether that is no better than an answer that ignores the input; ``None`` where that has no meaning.
    """

    score: float
    loss: float
    details: dict[str, Any] = field(default_factory=dict)
    is_chance: bool | None = None


class Scorer(ABC):
    """Accumulates what :class:`Evaluation` holds over the batches of a split."""

    @abstractmethod
    def add(self, answer: torch.Tensor, target: Any) -> None:
        """One batch: what the network answers, in fp32, and the truth."""

    @abstractmethod
    def result(self) -> Evaluation:
        """What has been accumulated."""


class Task(ABC):
    """Data with what a network has to do on them: ``data`` have the splits ``train``, ``validation`` and ``test``.

    A task that ships is a subclass in this package. One of one's own needs a ``metric``, :meth:`loss`, and
    :meth:`batch_score` (or :meth:`scorer`); everything else may stay as it is here. Its ``name`` is by default that of
    its class.
    """

    name: ClassVar[str] = ""
    metric: ClassVar[Metric]
    sampled: ClassVar[bool] = True
    """Whether the first examples of a split are a fair sample of it; if not, all of them are measured."""
    evaluation_batch: ClassVar[int] = 250

    def __init_subclass__(cls) -> None:
        cls.name = cls.__dict__.get("name") or cls.__name__.lower()

    def __init__(self, data: DataSet) -> None:
        self.data = data

    def count(self, split: str, limit: int | None = None) -> int:
        """How many examples of a split are measured where no more than ``limit`` need be."""
        size = len(self.data.split(split))
        return size if limit is None or not self.sampled else min(limit, size)

    @torch.no_grad()
    def _evaluated(self, model: nn.Module, x: Example) -> torch.Tensor:
        """The answer in evaluation mode, on the CPU wherever the model is; the model's own mode is restored."""
        training = model.training
        model.eval()
        try:
            return self.answer(model, devices.send(x, devices.device_of(model))).cpu()
        finally:
            model.train(training)

    def _images(self, count: int) -> torch.Tensor:
        """The first validation images before they are normalised, as answers are shown on them."""
        images: torch.Tensor = self.data.validation.take(torch.arange(count))[0]
        return images

    def answer(self, model: nn.Module, x: Example) -> torch.Tensor:
        """What ``model`` says of a batch ``x``: the tensor that losses and scores are computed from."""
        return first_tensor(call(model, x))

    def training_answer(self, model: nn.Module, x: Example, target: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The answer in a training step, and the loss where the network computes it itself.

        By default there is none, and :meth:`loss` computes it of the answer.
        """
        return self.answer(model, x), None

    def answer_shape(self, x: Any, outputs: int) -> tuple[int, ...] | None:
        """The shape that the answer to a batch has, of a model with so many ``outputs`` (classes, channels).

        ``None``: any shape that :meth:`loss` takes.
        """
        return None

    @abstractmethod
    def loss(self, answer: torch.Tensor, target: Any) -> torch.Tensor:
        """What training minimises, a mean over the batch; ``answer`` is fp32."""

    def distillation(self, answer: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """How far an answer is from a teacher's, a mean over the batch: by default the mean squared difference."""
        return F.mse_loss(answer, teacher)

    def batch_score(self, answer: torch.Tensor, target: Any) -> float:
        """The score of one training batch."""
        scorer = self.scorer()
        scorer.add(answer, target)
        return scorer.result().score

    def picture(self, model: nn.Module) -> torch.Tensor | None:
        """What the model's answers look like: uint8 [height, width, channels]; ``None`` where that cannot be shown."""
        return None

    def original(self) -> torch.Tensor | None:
        """What :meth:`picture` would be of a perfect model."""
        return None

    def beside(self, size: int) -> dict[str, Any]:
        """What others reach in a file of ``size`` bytes, or what it means for this task: JSON values."""
        return {}

    def same(self, answer: torch.Tensor, other: torch.Tensor) -> float | None:
        """The share of examples with the same decision in both answers; ``None`` where nothing is decided."""
        return None

    def scorer(self) -> Scorer:
        """An empty accumulator of the score: by default of the mean of :meth:`batch_score` over the examples."""
        return _Means(self)


class _Means(Scorer):
    """Means of a task's loss and of its score by batch, weighted by the examples of each."""

    def __init__(self, task: Task) -> None:
        self.task, self.loss, self.score, self.count = task, 0.0, 0.0, 0

    def add(self, answer: torch.Tensor, target: Any) -> None:
        size = len(first_tensor(target))
        self.loss += float(self.task.loss(answer, target)) * size
        self.score += self.task.batch_score(answer, target) * size
        self.count += size

    def result(self) -> Evaluation:
        return Evaluation(self.score / self.count, self.loss / self.count)
