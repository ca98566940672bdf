"""The GPU benchmark: the run of the gallery on an accelerator, GETA's step beside plain SGD's, and what waits for it.

python -m tests.bench.gpu --weights FILE [--device cuda] [--epochs 6] [--steps 400] [--write BENCHMARKS.md]

Under 8 minutes on one GPU. ``--weights``: the dense ResNet-20 that the gallery's runs on CIFAR-10 (JPEG-75) start from.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compression import devices
from compression.budget import Budget
from compression.data import load as load_data
from compression.methods import Reporter, Setup
from compression.methods import get as method
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.prepare import Workbench
from compression.training.dense import train_dense
from tests.bench import steps
from tests.bench.graphs import write
from tests.bench.report import machine

GALLERY = Path(__file__).parents[2] / "assets" / "gallery" / "resnet20-cifar10jpeg"
RUN = "w4-s39"
TITLE = "GETA on a GPU"
SCORE_REACH, WEIGHTS_REACH, BOTH_REACH = 0.005, 1.05, 1.15


def main(argv: list[str] | None = None) -> int:
    """Measure, print the section, and put it into a file if asked."""
    parser = argparse.ArgumentParser(prog="tests.bench.gpu", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--weights", required=True, metavar="FILE")
    parser.add_argument("--device", default="cuda", metavar="NAME")
    parser.add_argument("--epochs", type=float, default=6, help="of the gallery's run (6: comparable)")
    parser.add_argument("--steps", type=int, default=400, metavar="N", help="turns of the steps that are compared")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file")
    arguments = parser.parse_args(argv)
    device = devices.choose(arguments.device)
    gallery = json.loads((GALLERY / "budgets" / f"{RUN}.json").read_text())
    changes = {"weights": arguments.weights, "epochs": arguments.epochs}
    budget = method("geta").complete(Budget.from_dict({**gallery, **changes}))
    parts = [
        "\n".join(machine(devices.label(device))),
        agreement(budget, device),
        waits(budget.replace(epochs=0.5), device),
        throughput(budget.replace(epochs=1), device),
        step_times(arguments.steps, device),
    ]
    text = "\n\n".join([f"## {TITLE}", *parts]) + "\n"
    print(text)
    if arguments.write:
        write(arguments.write, text)
    return 0


def agreement(budget: Budget, device: torch.device) -> str:
    """The gallery's run again, there: the same units in number, whole bits in range, equality, score."""
    before = json.loads((GALLERY / RUN / "result.json").read_text())
    with tempfile.TemporaryDirectory() as root:
        spec = {"id": "gpu", "budget": budget.to_dict(), "created": time.time(), "device": str(device)}
        folder = RunFolder.create(Path(root), spec)
        state = carry_out(folder, execute)
        if state != "done":
            return f"- the run {state}: {folder.log_path.read_text().splitlines()[-1]}"
        result = json.loads(folder.result_path.read_text())
    removed = [sum(map(len, each["units"].values())) for each in (before, result)]
    scores = [each["final"]["accuracy"] for each in (before, result)]
    widths = {bits["weight"] for bits in result["final"]["bits"].values()}
    reached = "reached" if scores[1] >= scores[0] - SCORE_REACH else "not reached"
    return (
        f"- run `{RUN}`, {budget.epochs:g} epochs, seed {budget.seed}: {removed[1]} units removed (CPU: {removed[0]}), "
        f"bits {sorted(widths)}, largest difference to the masked model {result['equality']:.2g}\n"
        f"- test accuracy {scores[1]:.2%} (CPU: {scores[0]:.2%}; to reach: at most 0.5 points less: {reached}), "
        f"{result['seconds']:.0f} s"
    )


class _Counting(Reporter):
    """Counts the warnings of waits in steps after which nothing was measured, decided or stored."""

    def __init__(self, caught: list[Any]) -> None:
        self.caught, self.plain, self.is_plain = caught, 0, False
        self.places: Counter[str] = Counter()

    def step(self, step: int, epoch: float, **values: Any) -> None:
        if self.is_plain:
            self.plain += 1
            self.places.update(f"{Path(each.filename).name}:{each.lineno}" for each in self.caught)
        self.caught.clear()
        self.is_plain = True

    def point(self, *_: Any) -> None:
        self.is_plain = False

    def decision(self, *_: Any, **__: Any) -> None:
        self.is_plain = False

    def phase(self, *_: Any, **__: Any) -> None:
        self.is_plain = False


def waits(budget: Budget, device: torch.device) -> str:
    """How often plain steps wait for the device, by torch's own watch over it."""
    if device.type != "cuda":
        return "- waits: torch watches over them on CUDA only"
    setup = Workbench().prepare(budget, device=device).setup(budget)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = _Counting(caught)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            method("geta").run(setup, report)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    total = sum(report.places.values())
    where = ", ".join(f"{place} {count}" for place, count in report.places.most_common(8))
    return f"- {report.plain} plain steps waited {total} times for the device{f' ({where})' if where else ''}"


def throughput(budget: Budget, device: torch.device) -> str:
    """Images a second of a run with everything in it, and of the plain training loop in bf16."""
    bench = Workbench()
    lines = []
    for precision in ("fp32", "bf16"):
        requested = budget.replace(precision=precision)
        prepared = bench.prepare(requested, device=device)
        images = len(prepared.subject.data.train) * budget.epochs
        lines.append((f"GETA, {precision}", images / _seconds(prepared.setup(requested))))
    network = prepared.setup(budget).model
    lines.append(("plain SGD, bf16", images / _plain_seconds(network, budget)))
    return "\n".join(f"- {name}: {rate:,.0f} images a second, points on the way included" for name, rate in lines)


def _seconds(setup: Setup) -> float:
    begin = time.perf_counter()
    method("geta").run(setup, Reporter())
    return time.perf_counter() - begin


def _plain_seconds(network: nn.Module, budget: Budget) -> float:
    data, begin = load_data(budget.data), time.perf_counter()
    train_dense(network, data, budget.epochs, batch_size=budget.batch_size, precision="bf16")
    return time.perf_counter() - begin


def step_times(turns: int, device: torch.device) -> str:
    """GETA's step over the plain one, as the section on training steps has it for the CPU."""
    built = steps.measured("resnet20", 128, turns, device)
    plain = built[0]
    ratios = {side.name: steps.ratio(side, plain) for side in built[1:]}
    reach = {steps.WEIGHTS: WEIGHTS_REACH, steps.COMPILED: BOTH_REACH}
    lines = [f"- {name}: {ratios[name]:.3f} of the plain step, to reach: {most:g}" for name, most in reach.items()]
    return "\n".join([*lines, "", steps.table(built)])


if __name__ == "__main__":
    sys.exit(main())
