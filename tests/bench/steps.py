"""The step benchmark: GETA's training step beside the plain SGD step of the same float network, by turns, one thread.

python -m tests.bench.steps [--model resnet20] [--batch 64] [--steps 160] [--device cpu] [--write BENCHMARKS.md]

On an accelerator what is timed is the wall clock, waiting for the device before and after each part.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import compression as cx
from compression import devices, zoo
from compression.methods.geta.qasso import QASSO
from compression.methods.geta.schedule import Schedule, Stages
from compression.quant import kernels
from tests.bench.graphs import write
from tests.bench.report import machine

CPU = torch.device("cpu")
TITLE = "Training steps: GETA beside plain SGD"
PLAIN, WEIGHTS, EAGER, COMPILED = "plain SGD", "GETA, weights", "GETA, W+A, eager", "GETA, W+A, compiled"
LEVERS, BOTH_LEVERS = "GETA with options, weights", "GETA with options, W+A, compiled"
REACH = {WEIGHTS: 1.05, EAGER: 1.6, COMPILED: 1.25, LEVERS: 1.05, BOTH_LEVERS: 1.25}
OPTIONS: dict[str, Any] = {"forgetting": "uniform", "tied_ranges": True, "order": "prune_first", "rise": "cubic"}
STAGES = ("warm-up", "projection", "joint", "cool-down")
SCHEDULE = Schedule(warmup=0.2, projection=0.2, projection_periods=4, joint=0.4, pruning_periods=4)
LEGEND = """\
Every turn takes one step of each side on the same random batch; what is timed is processor time, so that other programs
count as little as they can. `ratio`: median over all turns of this side's step over the plain step of the same turn;
`optimizer`: median milliseconds of `step()` in each stage; `joint mean`: its mean in the joint stage, choosing and
committing units included; `x plain`: that over the plain optimizer's mean; `share`: that of the mean step there.
`GETA, weights` uses the compiled quantizers where the machine has a C compiler, as a run does. `with options` forgets
evenly, ties ranges to steps, prunes first, removes much at first and has unsigned inputs."""


@dataclass
class Side:
    """One network with its optimizer and what its steps took, in milliseconds; ``kernel``: quantizers compiled."""

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    kernel: bool = False
    device: torch.device = CPU
    passes: list[float] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)

    @property
    def steps(self) -> list[float]:
        """Whole steps, forward and backward pass and update."""
        return [a + b for a, b in zip(self.passes, self.updates, strict=True)]

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """One training step, timed."""
        with kernels.using(self.kernel):
            begin = self._now()
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            middle = self._now()
            self.optimizer.step()
            end = self._now()
        self.passes.append((middle - begin) * 1e3)
        self.updates.append((end - middle) * 1e3)

    def _now(self) -> float:
        if self.device == CPU:
            return time.process_time()
        torch.accelerator.synchronize(self.device)
        return time.perf_counter()


def main(argv: list[str] | None = None) -> int:
    """Measure, print the section, and put it into a file if asked."""
    arguments = _arguments(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    built = measured(arguments.model, arguments.batch, arguments.steps, devices.choose(arguments.device))
    text = section(built, arguments.model, arguments.batch)
    print(text)
    if arguments.write:
        write(arguments.write, text)
    return 0


def measured(model: str, batch: int, steps: int, device: torch.device) -> list[Side]:
    """All sides after so many turns."""
    built, spec = sides(model, batch, steps, device), zoo.spec(model)
    for index in range(steps):
        x = torch.randn(batch, *spec.input).contiguous(memory_format=torch.channels_last).to(device)
        y = torch.randint(0, spec.classes, (batch,)).to(device)
        for side in built[index % len(built) :] + built[: index % len(built)]:
            side.step(x, y)
    return built


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench.steps", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="resnet20", help="a model of the zoo")
    parser.add_argument("--batch", type=int, default=64, metavar="N")
    parser.add_argument("--steps", type=int, default=160, metavar="N", help="turns; GETA's four stages share them")
    parser.add_argument("--device", default="cpu", metavar="NAME")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file")
    return parser.parse_args(argv)


def sides(name: str, batch: int, steps: int, device: torch.device = CPU) -> list[Side]:
    """The plain network and its GETA twins, all from the same weights; compiled only where that is possible here."""
    model = zoo.build(name).train().to(memory_format=torch.channels_last)
    example = torch.randn(batch, *zoo.spec(name).input)
    graph = cx.trace(model, example[:1])
    model, example = model.to(device), example.to(device)
    plain = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    built = [Side(PLAIN, model, plain, device=device)]
    why = kernels.compile_kernels(device)
    for title, activations, kernel, options in (
        (WEIGHTS, False, True, {}),
        (EAGER, True, False, {}),
        (COMPILED, True, True, {}),
        (LEVERS, False, True, OPTIONS),
        (BOTH_LEVERS, True, True, OPTIONS),
    ):
        if why is not None and title in (COMPILED, BOTH_LEVERS):
            print(f"{title} is left out: {why}", file=sys.stderr)
            continue
        calibration, unsigned = example if activations else None, graph.nonnegative_inputs if options else ()
        twin = cx.quantize(copy.deepcopy(model), 16, calibration, unsigned=unsigned)
        optimizer = QASSO(
            twin,
            graph,
            sparsity=0.5,
            bits=(4, 8),
            schedule=SCHEDULE,
            total_steps=steps,
            lr=0.01,
            weight_decay=1e-4,
            **options,
        )
        built.append(Side(title, twin, optimizer, kernel, device))
    return built


def section(built: Sequence[Side], model: str, batch: int) -> str:
    """The whole section of BENCHMARKS.md, title included."""
    turns = len(built[0].steps)
    about = [*machine(f"{model}, batch {batch}, fp32, {turns} turns"), *_summary(built)]
    return "\n\n".join([f"## {TITLE}", "\n".join(about), LEGEND, table(built)]) + "\n"


def _summary(built: Sequence[Side]) -> list[str]:
    plain, lines = built[0], []
    for side in built[1:]:
        lines.append(f"- {side.name}: {ratio(side, plain):.3f} of the plain step, to reach: {REACH[side.name]:g}")
        times, share = joint_cost(side, plain)
        cost = f"{times:.1f} x plain SGD's, {share:.1%} of the step"
        lines.append(f"- its optimizer in the joint stage: {cost}, to reach: 3 x or 2 %")
    return lines


def ratio(side: Side, plain: Side) -> float:
    """Median over turns of one side's step over the plain step."""
    return statistics.median(a / b for a, b in zip(side.steps, plain.steps, strict=True))


def stage_of(steps: int) -> list[str]:
    """The stage of each turn."""
    stages = Stages.from_schedule(SCHEDULE, steps)
    return [stages.stage(index + 1) for index in range(steps)]


def by_stage(values: Sequence[float], stage: str) -> list[float]:
    """The values of one stage's turns."""
    return [value for value, name in zip(values, stage_of(len(values)), strict=True) if name == stage]


def joint_cost(side: Side, plain: Side) -> tuple[float, float]:
    """Of the optimizer in the joint stage: its mean over plain SGD's, and the share of its mean in the step."""
    ours = statistics.fmean(by_stage(side.updates, "joint"))
    return ours / statistics.fmean(plain.updates), ours / statistics.fmean(by_stage(side.steps, "joint"))


def table(built: Sequence[Side]) -> str:
    """One line a side."""
    columns = ["side", "step ms", "ratio", "forward + backward ms", *(f"optimizer, {s}" for s in STAGES)]
    columns += ["joint mean", "x plain", "share"]
    lines = [" | ".join(columns), " | ".join(["---", *["---:"] * (len(columns) - 1)])]
    plain = built[0]
    for side in built:
        cells = [side.name, f"{statistics.median(side.steps):.1f}", f"{ratio(side, plain):.3f}"]
        cells.append(f"{statistics.median(side.passes):.1f}")
        cells += [f"{statistics.median(by_stage(side.updates, stage)):.2f}" for stage in STAGES]
        times, share = joint_cost(side, plain)
        mean = statistics.fmean(by_stage(side.updates, "joint"))
        lines.append(" | ".join([*cells, f"{mean:.2f}", f"{times:.1f}", f"{share:.1%}"]))
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
