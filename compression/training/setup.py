"""What a method works on, and where it reports what happens on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, SupportsFloat

from compression import devices, tasks
from compression.budget import Budget
from compression.points import Point

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compression.data import DataSet
    from compression.graph import Graph
    from compression.tasks import Task
    from compression.training.wire import Wire


@dataclass(frozen=True)
class Stage:
    """One stage of a run: ``name`` as events have it, ``label`` for people, ``tone`` its slot of the palette."""

    name: str
    label: str
    tone: int


ALLOCATED_STAGES = (
    Stage("allocation", "Allocation", 0),
    Stage("statistics", "Norm statistics", 1),
    Stage("fine-tuning", "Fine-tuning", 3),
)
"""Of methods that allocate on the dense weights and train then (:mod:`compression.training.allocated`)."""
LAYERWISE_STAGES = (
    Stage("calibration", "Calibration", 0),
    Stage("rounding", "Layer by layer", 1),
    Stage("statistics", "Norm statistics", 3),
)
"""Of methods that go through the layers with a few inputs (:mod:`compression.posttraining.run`)."""


@dataclass
class Setup:
    """What a method works on. The method owns ``model`` (dense, trained, fp32) and may change it in place.

    A data set in the place of ``task`` becomes the task that it implies. ``wire``: how gradients reach the other
    processes that train with this one, where they are not sent in fp32.
    """

    model: nn.Module
    graph: Graph
    task: Task
    budget: Budget
    wire: Wire | None = None

    def __post_init__(self) -> None:
        self.task = tasks.task_of(self.task)

    @property
    def data(self) -> DataSet:
        """The data of the task."""
        return self.task.data

    @property
    def device(self) -> torch.device:
        """Where the model is, and therefore where everything is computed."""
        return devices.device_of(self.model)


@dataclass(frozen=True, eq=False)
class Precision:
    """The same nested weights (:mod:`compression.quant.nested_quantizer`) read at ``widths``: layer → bits.

    ``norms``: entries of the state that belong to these widths, running statistics of batch norms.
    """

    widths: Mapping[str, int]
    norms: Mapping[str, torch.Tensor]


@dataclass
class Compressed:
    """What a method returns: the masked model with its quantizers attached, and JSON values to keep in the result.

    ``ranks``: the layers that are two factors now (:mod:`compression.graph.factors`), and the ``graph`` that has them.
    ``precisions``: what else the model can be without training, where its weights are nested.
    """

    model: nn.Module
    facts: dict[str, Any] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    graph: Graph | None = None
    precisions: Sequence[Precision] = ()

    def setup(self, setup: Setup) -> Setup:
        """The setup of the method with the graph that the model has now."""
        return setup if self.graph is None else replace(setup, graph=self.graph)


class Reporter:
    """Where a method reports what happens. A run makes events of it (:mod:`compression.runs.events`); this class itself
    ignores what it is given and never interrupts, which serves a notebook or a script.
    """

    def phase(self, name: str, step: int, epoch: float = 0.0) -> None:
        """A stage begins at this step and epoch (GETA: warm-up, projection, joint, cool-down)."""

    def plan(self, total_steps: int, **facts: Any) -> None:
        """How many steps the run will take, from which progress and the remaining time follow."""

    def step(self, step: int, epoch: float, **values: SupportsFloat) -> None:
        """Cheap figures of one training step (loss, score of the batch, learning rate); thinned by the receiver.

        On an accelerator ``float`` of them may wait for the device.
        """

    def point(self, point: Point) -> None:
        """A measured point."""

    def picture(self, step: int, pixels: torch.Tensor) -> None:
        """What the model's answers look like at a measured point: uint8 [height, width, channels]."""

    def decision(self, step: int, **facts: Any) -> None:
        """What was decided about groups at this step, and why: JSON values, few and short, one call a step.

        Every page knows ``removed``, ``chosen`` and ``until``, see :mod:`compression.runs.events`.
        """

    def log(self, message: str) -> None:
        """One line for people."""

    def check(self) -> None:
        """Raises :class:`compression.errors.Cancelled` when the user asked the run to stop; call it every step."""

    saved: dict[str, Any] | None = None
    """What the last checkpoint of an interrupted run holds, until it is taken over; ``None`` in a fresh run."""

    def checkpoint(self, step: int, capture: Callable[[], dict[str, Any]], *, due: bool = False) -> None:
        """Call it after every step: stores what ``capture`` returns when it is time to (always when ``due``).

        That may be tensors, numbers, strings, and lists, tuples and mappings of them
        (see :func:`compression.training.resume.captured`). Raises :class:`compression.errors.Paused` after that when
        the user asked the run to pause.
        """
