"""The models and numbers of a finished run, of which a bundle is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from compression import home, zoo
from compression.budget import Budget
from compression.data import DataSet
from compression.errors import CompressionError
from compression.graph import Example, Graph, Ranks, deep_copy, factored, factored_graph, trace
from compression.pack import integers, unpack
from compression.pack.restore import Units, restore_slim
from compression.quant import QuantizedWeight
from compression.runs.files import sha256
from compression.runs.folder import DONE, RunFolder
from compression.runs.prepare import find_weights, load_task, shape
from compression.runs.read_at import read_at, row_at
from compression.runs.results import result
from compression.tasks import Task


@dataclass(frozen=True, eq=False)
class Source:
    """A finished run: ``model`` is the slim one of plain modules (quantizers of activations attached), in evaluation.

    ``dense`` is the model before compression, ``wide`` the same with the layers factored that the run factored (those
    of ``ranks``), which ``graph`` is of; ``integers`` the packed weights, ``units`` the removed ones; channel counts
    were rounded up to multiples of ``multiple``.
    """

    run: str
    budget: Budget
    result: Mapping[str, Any]
    task: Task
    graph: Graph
    dense: nn.Module
    wide: nn.Module
    ranks: Ranks
    model: nn.Module
    units: Units
    integers: Mapping[str, QuantizedWeight]
    packed: bytes
    outputs: int
    multiple: int = 1

    @property
    def data(self) -> DataSet:
        """The data of the task."""
        return self.task.data

    @property
    def input(self) -> tuple[int, ...]:
        """(channels, height, width) of one image, or (tokens,) of one sentence."""
        return self.graph.input

    @property
    def example(self) -> Example:
        """Two examples of the model's input, as a program is traced with: random numbers."""
        return self.graph.example(2)


def read(folder: RunFolder, *, trained: bool = True, bits: float | None = None) -> Source:
    """Everything a bundle needs, with the slim model restored from the packed file alone.

    A bundle needs only the shape of the dense model: without ``trained`` it has initial weights, and those that the run
    started from may be missing. The data set is needed for the stored example, calibration and comparison. ``bits``: of
    a run whose weights serve several bit-widths, the precision of at most so many bits a weight, in place of the final
    one.

    Raises:
        CompressionError: the run is not done, is a sweep, its files are damaged or of another model, or its data or
            initial weights are missing.
    """
    _refuse_unfinished(folder)
    path, outcome, budget = folder.bundle / "weights.packed", result(folder), folder.budget()
    if bits is not None:
        path, outcome = folder.bundle / str(row_at(outcome, bits)["file"]), read_at(outcome, bits)
    _refuse_changed(outcome, budget, path)
    state, codes = unpack(path), integers(path)
    input, classes = shape(budget)
    task = _task(folder, budget)
    dense = find_weights(budget).model if trained else zoo.build(budget.model, input=input, classes=classes).eval()
    graph = trace(dense, zoo.example(budget.model, input=input))
    units, ranks = removed_units(outcome), dict(outcome.get("ranks") or {})
    wide = factored(deep_copy(dense), ranks) if ranks else dense
    graph = factored_graph(wide, graph, ranks)
    model = restore_slim(wide, graph, units, state)
    packed = path.read_bytes()
    return Source(folder.id, budget, outcome, task, graph, dense, wide, ranks, model, units, codes, packed, classes)


def _task(folder: RunFolder, budget: Budget) -> Task:
    """The run's task with its data.

    Raises:
        CompressionError: it is missing; names the files that exist without it.
    """
    try:
        return load_task(budget)
    except CompressionError as error:
        raise CompressionError(
            f"the data of run {folder.id} are not there: {error}. Put them back to go on; the compressed weights alone "
            f"are in {folder.bundle}, as weights.packed and model.safetensors"
        ) from error


def _refuse_unfinished(folder: RunFolder) -> None:
    children = folder.children()
    if children:
        names = ", ".join(child.id for child in children)
        raise CompressionError(f"{folder.id} is a sweep: export one of its runs ({names})")
    if folder.state != DONE:
        raise CompressionError(
            f"run {folder.id} is {folder.state}: only a run that is done can be exported "
            f"(`{home.PROGRAM} show {folder.id}` tells how it stands)"
        )


def _refuse_changed(outcome: Mapping[str, Any], budget: Budget, path: Path) -> None:
    """Refuse a run whose files were changed since it ended, as far as its result records them."""
    if "budget" in outcome and Budget.from_dict(outcome["budget"]) != budget:
        raise CompressionError(f"spec.json of run {outcome['run']} was edited after the run: put the old one back")
    expected = outcome.get("packed_sha256")
    if expected is not None and path.is_file() and sha256(path) != expected:
        raise CompressionError(f"{path} is not the file that run {outcome['run']} wrote: put the old one back")


def removed_units(outcome: Mapping[str, Any]) -> dict[str, list[int]]:
    """Group id → units that the run removed.

    Raises:
        CompressionError: the result stores their number only.
    """
    counts = {name: count for name, count in outcome.get("removed", {}).items() if count}
    units = outcome.get("units", outcome.get("facts", {}).get("removed_units", {}))
    chosen = {name: list(removed) for name, removed in units.items() if removed}
    if {name: len(removed) for name, removed in chosen.items()} != counts:
        raise CompressionError(f"run {outcome.get('run')} does not say which units it removed: run its budget again")
    return chosen
