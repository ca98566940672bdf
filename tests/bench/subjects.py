"""What is measured: the torchvision classifiers, traced here and by Torch-Pruning, each in a child process."""

from __future__ import annotations

import gc
import importlib
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torchvision
from torch import nn

from compression.graph import Graph, trace
from tests.bench.child import ChildFailed, one_line, stream
from tests.bench.oracle import Equality, equality

LIMIT = 60.0  # processor seconds for one run of either side (the first waits for the model to be built, too)
SLOW = 5.0  # a run longer than this is not repeated
CHECK_LIMIT = 600.0  # processor seconds for building a model and comparing it with its slim one

HERE, THERE = "here", "Torch-Pruning"


@dataclass(frozen=True)
class Facts:
    """What a trace found: counts, and frozen units by reason."""

    parameters: int
    nodes: int
    groups: int
    prunable: int
    units: int
    frozen: dict[str, int]


@dataclass
class Row:
    """One model's line: best seconds of each side or why there are none, facts, equality or why there is none."""

    name: str
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    facts: Facts | None = None
    equality: Equality | str = "not measured"
    memory: int = 0  # peak resident bytes of the children

    def take(self, side: str, seconds: float) -> None:
        """Keep the best."""
        self.seconds[side] = min(seconds, self.seconds.get(side, seconds))


def names() -> list[str]:
    """Every classifier of torchvision."""
    return list(torchvision.models.list_models(module=torchvision.models))


def image(name: str) -> tuple[int, int, int]:
    """The shape of one example: 3 x 224 x 224, and 299 where the network needs it."""
    return (3, 299, 299) if name.startswith("inception") else (3, 224, 224)


def build(name: str) -> nn.Module:
    """The network with seeded initial weights, in evaluation mode."""
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.get_model(name, weights=None)
    return model.eval()


def measure(name: str, *, repetitions: int, peer: bool, check: bool) -> Row:
    """Everything about one model; what fails is kept as one line."""
    row = Row(name)
    if _time(row, repetitions, peer) == THERE:
        _time(row, repetitions, False)
    if check and row.facts is not None:
        try:
            for row.equality, memory in stream(_check, name, limit=CHECK_LIMIT):
                row.memory = max(row.memory, memory)
        except (ChildFailed, TimeoutError) as error:
            row.equality = str(error)
    return row


def _time(row: Row, repetitions: int, peer: bool) -> str | None:
    """Fill in seconds, errors and facts; returns the side whose run ended the child before its time, if one did."""
    side = HERE
    try:
        for event, item in stream(_side_by_side, row.name, repetitions, peer, limit=LIMIT):
            if event == "begin":
                side = item
            elif event == "seconds":
                row.take(side, item)
            elif event == "error":
                row.errors[side] = item
            elif event == "facts":
                row.facts = item
            elif event == "memory":
                row.memory = max(row.memory, item)
    except (ChildFailed, TimeoutError) as error:
        row.errors[side] = str(error)
        return side
    return None


def _side_by_side(name: str, repetitions: int, peer: bool) -> Iterator[tuple[str, Any]]:
    """In the child: both sides by turns, each after one run on a tiny network that pays for first uses."""
    runs: dict[str, Callable[[nn.Module, torch.Tensor], Any]] = {HERE: trace}
    if peer:
        runs[THERE] = list_peer_groups
    for run in runs.values():
        run(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval(), torch.randn(1, 3, 8, 8))
    model, example = build(name), torch.randn(1, *image(name))
    for turn in range(repetitions):
        for side in list(runs):
            yield "begin", side
            try:
                seconds, result = _timed(runs[side], model, example)
            except Exception as error:  # a failure is a result
                yield "error", one_line(error)
                del runs[side]
                model = build(name)  # a failed run may have left hooks behind
                continue
            yield "seconds", seconds
            if side == HERE and turn == 0:
                yield "facts", _facts(result)
            if seconds > SLOW:
                del runs[side]
            del result
    yield "memory", _peak_memory()


def _timed(run: Callable[[nn.Module, torch.Tensor], Any], model: nn.Module, example: torch.Tensor) -> tuple[float, Any]:
    gc.collect()
    start = time.process_time()
    result = run(model, example)
    return time.process_time() - start, result


def list_peer_groups(model: nn.Module, example: torch.Tensor) -> list[Any]:
    """Torch-Pruning's dependency graph and all its groups."""
    pruning = importlib.import_module("torch_pruning")
    graph = pruning.DependencyGraph().build_dependency(model, example_inputs=example, verbose=False)
    return list(graph.get_all_groups())


def _facts(graph: Graph) -> Facts:
    frozen: Counter[str] = Counter()
    for group in graph.groups:
        if not group.prunable:
            frozen[group.reason or "no reason given"] += group.units
    return Facts(
        parameters=graph.params,
        nodes=len(graph.nodes),
        groups=len(graph.groups),
        prunable=len(graph.prunable),
        units=sum(group.units for group in graph.groups),
        frozen=dict(frozen.most_common()),
    )


def _check(name: str) -> Iterator[tuple[Equality, int]]:
    model = build(name)
    graph = trace(model, torch.randn(1, *image(name)))
    yield equality(model, graph, image(name)), _peak_memory()


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
