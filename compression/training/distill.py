"""Knowledge distillation: the compressed network learns the dense one's answers along with the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from compression import devices
from compression.graph.copies import deep_copy
from compression.graph.inputs import Example
from compression.training.features import Outputs, feature_layers, feature_loss
from compression.training.recipe import Recipe

if TYPE_CHECKING:
    from compression.tasks import Task
    from compression.training.options import TrainingOptions
    from compression.training.setup import Setup

Goal = Callable[[torch.Tensor, Any, Callable[[], torch.Tensor]], torch.Tensor]
"""What training minimises: (answer fp32, batch of inputs, what gives the task's loss) → scalar."""


class Teacher:
    """A frozen copy of a trained network, in evaluation mode, that answers batches without keeping a graph."""

    def __init__(self, task: Task, model: nn.Module, recipe: Recipe) -> None:
        self.task, self.recipe = task, recipe
        self.model = recipe.prepare_model(deep_copy(model)).eval().requires_grad_(False)

    def __call__(self, x: Any) -> torch.Tensor:
        """Its answer, fp32."""
        with torch.no_grad(), self.recipe.autocast():
            return self.task.answer(self.model, self.recipe.prepare(x)).float()

    def goal(self, weight: float, temperature: float) -> Distillation:
        """The training loss that mixes this teacher's answers with the labels."""
        return Distillation(self, weight, temperature)


class Distillation:
    """A :data:`Goal`: what a teacher answers, what its features are, and the labels.

    ``weight`` and ``temperature`` are those of :func:`distillation_loss`; ``features`` times the distance of the
    features (:func:`.features.feature_loss`) is added. With ``rises`` both weights are multiplied by :attr:`progress`,
    the share of the run that is over. With features, hooks are on the student until :meth:`close`.
    """

    def __init__(
        self,
        teacher: Teacher,
        weight: float,
        temperature: float,
        features: float = 0.0,
        rises: bool = False,
        student: nn.Module | None = None,
        layers: dict[str, int] | None = None,
    ) -> None:
        self.teacher, self.temperature, self.rises = teacher, temperature, rises
        self.weight, self.features = weight, features
        self.layers = layers or {}
        self.progress = 0.0
        self._own = None if student is None else Outputs(student, list(self.layers))
        self._target = Outputs(teacher.model, list(self.layers), recorded=True)

    def __call__(self, answer: torch.Tensor, x: Any, hard: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The loss of one batch; ``hard`` gives the task's own."""
        share = self.progress if self.rises else 1.0
        weight, task = self.weight * share, self.teacher.task
        loss = distillation_loss(task, answer, self.teacher(x), hard, weight, self.temperature)
        if self._own is None:
            return loss
        return loss + self.features * share * feature_loss(self._own.take(), self._target.take(), self.layers)

    def close(self) -> None:
        """Take the hooks away."""
        if self._own is not None:
            self._own.remove()


def distillation(setup: Setup, recipe: Recipe, options: TrainingOptions) -> Distillation | None:
    """What a run learns from its dense network, or ``None`` where the options leave it out.

    Raises:
        CompressionError: features are to be compared, and this network has none.
    """
    if options.distill == 0 and options.distill_features == 0:
        return None
    teacher, rises = Teacher(setup.task, setup.model, recipe), options.distill_rise == "rising"
    if options.distill_features == 0:
        return Distillation(teacher, options.distill, options.temperature, rises=rises)
    layers = feature_layers(teacher.model, _example(setup), setup.budget.model)
    chosen = options.distill, options.temperature, options.distill_features, rises
    return Distillation(teacher, *chosen, student=setup.model, layers=layers)


def check_features(setup: Setup) -> None:
    """Refuse to compare features of a network that has none; ``setup`` does not change.

    Raises:
        CompressionError: naming the network.
    """
    feature_layers(deep_copy(setup.model).eval(), _example(setup), setup.budget.model)


def _example(setup: Setup) -> Example:
    example: Example = devices.send(setup.graph.example(2), setup.device)
    return example


def distillation_loss(
    task: Task,
    answer: torch.Tensor,
    teacher: torch.Tensor,
    hard: Callable[[], torch.Tensor],
    weight: float,
    temperature: float,
) -> torch.Tensor:
    """``(1 - weight)`` times the task's loss + ``weight`` times how far the answer is from the teacher's."""
    soft = task.distillation(answer, teacher, temperature)
    # Without the truth there is nothing to compute of it
    return (1 - weight) * hard() + weight * soft if weight < 1 else soft
