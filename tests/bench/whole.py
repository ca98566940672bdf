"""The run benchmark: a whole GETA run as it is trained here beside the plain fp32 loop of the float network, by turns.

python -m tests.bench.whole [--model resnet20] [--steps 120] [--threads 1] [--write BENCHMARKS.md]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import compression as cx
from compression import zoo
from compression.budget import Budget
from compression.data.types import DataSet, Split
from compression.methods.base import Setup
from compression.methods.geta.algorithm import JointTraining
from compression.methods.geta.options import GetaOptions
from compression.methods.geta.run import attach, optimizer_for
from compression.methods.geta.schedule import Schedule
from compression.quant import kernels
from compression.training.loop import Step
from compression.training.loop import steps as training_steps
from compression.training.setup import Reporter
from compression.training.trainer import Trainer
from tests.bench.graphs import write
from tests.bench.report import machine

TITLE = "Whole runs: GETA as trained here beside the plain fp32 loop"
Take = Callable[[Step], Any]
Side = Callable[[nn.Module, DataSet, Budget], tuple[Take, str]]
BATCH, REACH = 128, 2.0
SCHEDULE = Schedule(warmup=0.02, projection=0.08, projection_periods=4, joint=0.35, pruning_periods=10)
LEGEND = """\
Both sides take every step of one run by turns, on the same augmented batches; what is timed is processor time, without
evaluations, which are the same on both. Plain: fp32, contiguous tensors, SGD with momentum on the labels, no GETA.
GETA: the recipe that the measurement before a run chose, quantizers on all weights, all four stages; `tuned` also
learns from the dense network, whose forward pass is in its time, and averages saliency over 100 steps a choice. `times
as fast`: the sum of the plain steps over the sum of GETA's."""


def main(argv: list[str] | None = None) -> int:
    """Measure both presets, print the section, and put it into a file if asked."""
    arguments = _arguments(argv)
    torch.set_num_threads(arguments.threads)
    rows, recipe = [], ""
    for preset in ("tuned", "paper"):
        theirs, ours, recipe = compare(arguments.model, preset, arguments.steps)
        rows.append((preset, theirs, ours))
    text = section(rows, arguments.model, recipe)
    print(text)
    if arguments.write:
        write(arguments.write, text)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench.whole", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="resnet20", help="a model of the zoo")
    parser.add_argument("--steps", type=int, default=120, metavar="N", help="turns; GETA's four stages share them")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file")
    return parser.parse_args(argv)


def compare(name: str, preset: str, turns: int) -> tuple[list[float], list[float], str]:
    """Milliseconds of each plain and each GETA step of one run, and the recipe that GETA trains by.

    Each side has a process of its own, since the memory that GETA's keeps would speed up the plain one too.
    """
    budget = Budget(
        model=name, data="cifar10", sparsity=0.38, weight_bits=(4, 4), lr=0.05, batch_size=BATCH, epochs=1.0,
        schedule=SCHEDULE, options={"preset": preset},
    )  # fmt: skip
    context, spent, recipe = multiprocessing.get_context("spawn"), ([], []), ""
    pipes, threads = [context.Pipe() for _ in (0, 1)], torch.get_num_threads()
    sides = [
        context.Process(target=carry_out, args=(each, theirs, budget, turns, threads), daemon=True)
        for each, (_, theirs) in zip((plain, geta), pipes, strict=True)
    ]
    for side in sides:
        side.start()
    for ours, _ in pipes:
        recipe = ours.recv() or recipe
    for _ in range(turns):
        for times, (ours, _) in zip(spent, pipes, strict=True):
            ours.send(True)
            times.append(ours.recv())
    for side in sides:
        side.join()
    return (*spent, recipe)


def carry_out(side: Side, orders: Connection, budget: Budget, turns: int, threads: int) -> None:
    """One side in its process: one step for each order, answered by the milliseconds it took."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    shape = zoo.spec(budget.model).input
    data = noise(shape, turns * BATCH)
    take, recipe = side(zoo.build(budget.model), data, budget)
    orders.send(recipe)
    for step in training_steps(data, BATCH, budget.epochs, seed=0):
        orders.recv()
        begin = time.process_time()
        take(step)
        orders.send((time.process_time() - begin) * 1e3)


def noise(shape: tuple[int, ...], count: int) -> DataSet:
    """Random images: what a step costs does not depend on what they show."""
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
    split = Split(images, torch.randint(0, 10, (count,)))
    channels = shape[0]
    return DataSet(
        "noise", "noise", tuple("0123456789"), split, split, split, (0.5,) * channels, (0.3,) * channels, "shift"
    )


def plain(model: nn.Module, data: DataSet, budget: Budget) -> tuple[Take, str]:
    """The usual loop: fp32, contiguous tensors, SGD."""
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)

    def take(step: Step) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(step.x), step.y).backward()
        optimizer.step()

    return take, ""


def geta(model: nn.Module, data: DataSet, budget: Budget) -> tuple[Take, str]:
    """A run just before its first step, made as :mod:`compression.methods.geta.run` makes it."""
    shape = zoo.spec(budget.model).input
    graph = cx.trace(model, torch.zeros(1, *shape))
    task, chosen = Setup(model, graph, data, budget), GetaOptions.read(budget.options, "geta")
    trainer = Trainer(task, Reporter(), chosen)
    attach(task, chosen, Reporter())
    trainer.recipe.prepare_model(model)
    kernels.compile_kernels()
    algorithm = JointTraining(task, optimizer_for(task, chosen, trainer.total), chosen)
    return trainer.steps_of(algorithm.section, algorithm).take, trainer.recipe.why


def section(rows: Sequence[tuple[str, list[float], list[float]]], model: str, recipe: str) -> str:
    """The whole section of BENCHMARKS.md, title included."""
    turns = len(rows[0][1])
    about = [*machine(f"{model}, batch {BATCH}, {turns} turns"), f"- GETA's recipe: {recipe}"]
    ratios = [f"- preset {name}: {sum(a) / sum(b):.2f} times as fast, to reach: {REACH:g}" for name, a, b in rows]
    lines = ["preset | plain step ms | GETA step ms | times as fast", "--- | ---: | ---: | ---:"]
    for name, theirs, ours in rows:
        middle = f"{statistics.median(theirs):.1f} | {statistics.median(ours):.1f}"
        lines.append(f"{name} | {middle} | {sum(theirs) / sum(ours):.2f}")
    table = "\n".join(f"| {line} |" for line in lines)
    return "\n\n".join([f"## {TITLE}", "\n".join([*about, *ratios]), LEGEND, table]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
