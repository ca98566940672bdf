"""What a method is: it turns (model, graph, data, budget) into a compressed model and tells what happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from compression.budget import Budget
from compression.points import Point

if TYPE_CHECKING:
    from torch import nn

    from compression.data import DataSet
    from compression.graph import Graph


@dataclass
class Task:
    """What a method works on. The method owns ``model`` (dense, trained, fp32) and may change it in place."""

    model: nn.Module
    graph: Graph
    data: DataSet
    budget: Budget


class Reporter(Protocol):
    """Where a method tells its story; every call becomes events of the run (see :mod:`compression.runs.events`)."""

    def phase(self, name: str, step: int, epoch: float = 0.0) -> None:
        """A stage begins at this step and epoch (GETA: warm-up, projection, joint, cool-down)."""

    def plan(self, total_steps: int, **facts: Any) -> None:
        """How many steps the run will take, so that progress and the time left can be told."""

    def step(self, step: int, epoch: float, **values: float) -> None:
        """Cheap figures of one training step (loss, accuracy of the batch, learning rate); thinned by the receiver."""

    def point(self, point: Point) -> None:
        """A measured point."""

    def decision(self, step: int, **facts: Any) -> None:
        """What was decided about groups at this step, and why: JSON values, few and short, one call a step."""

    def log(self, message: str) -> None:
        """One line for people."""

    def check(self) -> None:
        """Raises :class:`compression.errors.Cancelled` when the user asked the run to stop; call it every step."""

    saved: dict[str, Any] | None
    """What the last checkpoint of an interrupted run kept, until it has been taken over; None in a fresh run."""

    def checkpoint(self, step: int, capture: Callable[[], dict[str, Any]], *, due: bool = False) -> None:
        """Call it after every step: keeps what ``capture`` gives when it is time to (always when ``due``).

        What is kept are tensors, numbers, words, and lists, tuples and mappings of them
        (see :func:`compression.training.resume.captured`). Raises :class:`compression.errors.Paused` after that when
        the user asked the run to pause.
        """


class NullReporter:
    """A :class:`Reporter` that listens to nothing and never interrupts: for a notebook or a script."""

    saved: dict[str, Any] | None = None

    def phase(self, name: str, step: int, epoch: float = 0.0) -> None:
        """See :meth:`Reporter.phase`."""

    def plan(self, total_steps: int, **facts: Any) -> None:
        """See :meth:`Reporter.plan`."""

    def step(self, step: int, epoch: float, **values: float) -> None:
        """See :meth:`Reporter.step`."""

    def point(self, point: Point) -> None:
        """See :meth:`Reporter.point`."""

    def decision(self, step: int, **facts: Any) -> None:
        """See :meth:`Reporter.decision`."""

    def log(self, message: str) -> None:
        """See :meth:`Reporter.log`."""

    def check(self) -> None:
        """See :meth:`Reporter.check`."""

    def checkpoint(self, step: int, capture: Callable[[], dict[str, Any]], *, due: bool = False) -> None:
        """See :meth:`Reporter.checkpoint`."""


@dataclass
class Compressed:
    """What a method hands back: the masked model with its quantizers still attached, at the end of training.

    ``unit_sparsity_asked`` etc. are in the budget; ``facts`` holds JSON values worth keeping in the result.
    """

    model: nn.Module
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Uses:
    """Which parts of a budget a method follows; the rest may be there for other methods.

    ``bits``: ``range`` (every layer finds its own bit-width in ``weight_bits``), ``average`` (``bits`` is shared out)
    or ``equal`` (one whole number for all layers, see :mod:`compression.methods.widths`). ``training`` is False for a
    method that takes no training step.
    """

    bits: str = "range"
    sparsity: bool = True
    activations: bool = False
    training: bool = True


class Method(Protocol):
    """One compression method. A new method is one new module with an object of this shape, listed by
    :func:`compression.methods.all_methods`.
    """

    name: str
    label: str
    summary: str
    structured: bool  # True: removes units; False: zeroes single weights
    uses: Uses

    def check(self, budget: Budget) -> None:
        """Refuse what the method knows to be wrong in ``budget.options`` before a run is started."""
        ...

    def run(self, task: Task, report: Reporter) -> Compressed:
        """Compress ``task.model`` within ``task.budget``."""
        ...


@runtime_checkable
class ChecksTask(Protocol):
    """A method that can also tell, without training, whether a model can give what a budget asks for."""

    def check_task(self, task: Task) -> None:
        """Refuse ``task.budget`` if ``task.model`` or the length of the run cannot give it; changes nothing."""
        ...
