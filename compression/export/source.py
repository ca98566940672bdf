"""The models and numbers of a finished run, of which a bundle is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compression import zoo
from compression.budget import Budget
from compression.data import DataSet
from compression.errors import CompressionError
from compression.graph import Graph, parameter_map, slim_report, trace, zero_units, zeroed_units
from compression.pack import integers, unpack
from compression.quant import IntegerWeight, attach_input_quantizers, fold
from compression.quant.attach import INPUT_QUANTIZER
from compression.runs.files import sha256
from compression.runs.folder import DONE, RunFolder
from compression.runs.prepare import find_weights, load_data, shape
from compression.runs.results import result

Units = Mapping[str, Sequence[int]]
SMALL_NOISE = 0.01


@dataclass(frozen=True, eq=False)
class Source:
    """A finished run: ``model`` is the slim one of plain modules (quantizers of activations attached), in evaluation.

    ``dense`` is the model before compression, ``integers`` the packed weights, ``units`` the removed ones; channel
    counts were rounded up to multiples of ``multiple``.
    """

    run: str
    budget: Budget
    result: Mapping[str, Any]
    data: DataSet
    graph: Graph
    dense: nn.Module
    model: nn.Module
    units: Units
    integers: Mapping[str, IntegerWeight]
    packed: bytes
    outputs: int
    multiple: int = 1

    @property
    def input(self) -> tuple[int, ...]:
        """(channels, height, width) of one image, or (tokens,) of one sentence."""
        return self.graph.input

    @property
    def dtype(self) -> torch.dtype:
        """The type of the model's input: fp32 pixels, or int64 token ids."""
        return torch.int64 if self.graph.vocabulary else torch.float32


def read(folder: RunFolder, *, trained: bool = True) -> Source:
    """Everything a bundle needs, with the slim model restored from the packed file and nothing else.

    A bundle asks for the shape of the dense model only: without ``trained`` it has its initial weights, and those that
    the run began with may be gone by now. The data set is needed: for the stored example, to calibrate and to compare.

    Raises:
        CompressionError: the run is not done, is a sweep, its files are damaged or those of another model, or what it
            began with is gone.
    """
    _refuse_unfinished(folder)
    path, told, budget = folder.bundle / "weights.packed", result(folder), folder.budget()
    _refuse_changed(told, budget, path)
    state, codes = unpack(path), integers(path)
    input, classes = shape(budget)
    data = _data(folder, budget)
    dense = find_weights(budget).model if trained else zoo.build(budget.model, input=input, classes=classes).eval()
    graph = trace(dense, zoo.example(budget.model, input=input))
    units = removed_units(told)
    model = restored(dense, graph, units, state)
    return Source(folder.id, budget, told, data, graph, dense, model, units, codes, path.read_bytes(), classes)


def _data(folder: RunFolder, budget: Budget) -> DataSet:
    """The run's data set.

    Raises:
        CompressionError: it is missing; names the files that exist without it.
    """
    try:
        data = load_data(budget)
    except CompressionError as error:
        raise CompressionError(
            f"the data of run {folder.id} are not there: {error}. Put them back to go on; the compressed weights alone "
            f"are in {folder.bundle}, as weights.packed and model.safetensors"
        ) from error
    return data


def _refuse_unfinished(folder: RunFolder) -> None:
    children = folder.children()
    if children:
        names = ", ".join(child.id for child in children)
        raise CompressionError(f"{folder.id} is a sweep: export one of its runs ({names})")
    if folder.state != DONE:
        raise CompressionError(
            f"run {folder.id} is {folder.state}: only a run that is done can be exported "
            f"(`python -m compression show {folder.id}` tells how it stands)"
        )


def _refuse_changed(outcome: Mapping[str, Any], budget: Budget, path: Path) -> None:
    """Refuse a run whose files were changed since it ended, as far as its result records them."""
    if "budget" in outcome and Budget.from_dict(outcome["budget"]) != budget:
        raise CompressionError(f"spec.json of run {outcome['run']} was edited after the run: put the old one back")
    expected = outcome.get("packed_sha256")
    if expected is not None and path.is_file() and sha256(path) != expected:
        raise CompressionError(f"{path} is not the file that run {outcome['run']} wrote: put the old one back")


def removed_units(told: Mapping[str, Any]) -> dict[str, list[int]]:
    """Group id → units that the run removed.

    Raises:
        CompressionError: the result does not say which, only how many.
    """
    counts = {name: count for name, count in told.get("removed", {}).items() if count}
    units = told.get("units", told.get("facts", {}).get("removed_units", {}))
    chosen = {name: list(found) for name, found in units.items() if found}
    if {name: len(found) for name, found in chosen.items()} != counts:
        raise CompressionError(f"run {told.get('run')} does not say which units it removed: run its budget again")
    return chosen


def restored(dense: nn.Module, graph: Graph, units: Units, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """The slim model with the weights of ``state``: plain modules, or a graph of plain operations as the run made it.

    Raises:
        CompressionError: the state is that of another model.
    """
    masked = fold(dense).eval()  # parametrizations of its own are values in the state
    mark = f".{INPUT_QUANTIZER}.step_size"
    quantized = [name.removesuffix(mark) for name in state if name.endswith(mark)]
    if quantized:
        attach_input_quantizers(masked, quantized)
    zero_units(masked, graph, units)
    _keep_others(masked, graph, units)
    slim, _ = slim_report(masked, graph)
    try:
        slim.load_state_dict(dict(state))
    except RuntimeError as error:
        line = str(error).strip().splitlines()[-1].strip()
        raise CompressionError(f"the packed weights are those of another model: {line}") from error
    return slim.eval()


@torch.no_grad()
def _keep_others(masked: nn.Module, graph: Graph, units: Units) -> None:
    """A unit that happens to be zero in the dense model, and was not removed, must not be cut now."""
    tensors = parameter_map(masked)
    for name, zero in zeroed_units(masked, graph).items():
        alive = sorted(set(zero) - set(units.get(name, ())))
        for member in graph.group(name).zeroed_members if alive else ():
            tensor = tensors[member.name]
            where = member.positions[alive].flatten().to(tensor.device)
            tensor.index_fill_(member.dim, where, SMALL_NOISE)
