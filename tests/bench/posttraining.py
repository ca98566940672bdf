"""The benchmark of methods without training: GPTQ and path following here and in Brevitas, on the same inputs and grid.

python -m tests.bench.posttraining [--turns 2] [--large] [--write BENCHMARKS.md]
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import itertools
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import torch
import torchvision
from brevitas.graph.gpfq import gpfq_mode
from brevitas.graph.gptq import gptq_mode
from brevitas.graph.quantize import layerwise_quantize
from brevitas.inject.enum import ScalingImplType
from brevitas.quant.scaled_int import Int8WeightPerChannelFloat
from torch import nn

import compression as cx
from compression.budget import Budget
from compression.data.batches import Batches
from compression.data.catalogue import local_file
from compression.runs.prepare import TrainedModel, load
from compression.training.dense import evaluate
from compression.training.recalibrate import recompute_statistics
from tests.bench.graphs import write
from tests.bench.report import machine

TITLE = "Without training: GPTQ and path following, here and in Brevitas"
INPUTS, BATCH, STATISTICS_BATCHES = 512, 128, 40
LARGE_REACH = 20.0  # minutes
WIDTHS = (4, 3)
NEAREST, GPTQ, PATH = "nearest", "GPTQ", "path following"
LEGEND = """\
Both sides get the same trained network, the same 512 training inputs in batches of 128, and the same grid: symmetric,
one step for each output channel, its largest weight the last level; all convolutions and linear layers have the same
bits, and inputs of layers stay fp32. Then the statistics of batch norms are recomputed on the same 40 batches, on both
sides by the function of this project. Brevitas: `gptq_mode`, and `gpfq_mode` with inputs of the dense and of the
quantized network; its `nearest` is its quantizer alone. Here: `cx.apply` with `gptq` and `spfq` (`inputs=aligned` sees
the dense network's inputs too, as GPFQ does). `score` is accuracy on test; differences below 0.3 points are chance
(other inputs give other figures). Seconds of processor time on one thread, sides by turns, without statistics and
evaluation, the least of the turns."""

Side = Callable[[nn.Module, list[torch.Tensor], int], nn.Module]


def ours(method: str, options: dict[str, str], model: nn.Module, batches: list[torch.Tensor], bits: int) -> nn.Module:
    """A method of this project through its public call."""
    budget = {"version": 2, "method": method, "asks": {"bits": bits}, "options": options}
    return cx.apply(model, budget, calibration=batches)


@torch.no_grad()
def quantized(model: nn.Module, batches: list[torch.Tensor], bits: int) -> nn.Module:
    """Brevitas' layers in the place of torch's: rounding to nearest in each forward pass, with the steps of the first.

    Steps taken from the weights in every pass would follow a weight that is being made good for.
    """
    fixed = ScalingImplType.PARAMETER_FROM_STATS
    weights = {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": bits, "weight_scaling_impl_type": fixed}
    layers = {nn.Conv2d: (qnn.QuantConv2d, weights), nn.Linear: (qnn.QuantLinear, weights)}
    changed: nn.Module = layerwise_quantize(model, compute_layer_map=layers).eval()
    changed(batches[0])
    return changed


@torch.no_grad()
def brevitas(
    mode: Callable[..., Any], dense: bool, model: nn.Module, batches: list[torch.Tensor], bits: int
) -> nn.Module:
    """A method of Brevitas, layer by layer; ``dense``: it needs the weights from before."""
    model = quantized(model, batches, bits)
    with mode(model, use_quant_activations=False, create_weight_orig=dense) as walk:
        for _ in range(walk.num_layers):
            for x in batches:
                walk.model(x)
            walk.update()
    return model


SIDES: dict[tuple[str, str], Side] = {
    (NEAREST, "Brevitas"): quantized,
    (GPTQ, "Brevitas"): partial(brevitas, gptq_mode, False),
    (GPTQ, "here"): partial(ours, "gptq", {}),
    (PATH, "Brevitas"): partial(brevitas, gpfq_mode, True),
    (PATH, "here"): partial(ours, "spfq", {}),
    (f"{PATH}, aligned", "here"): partial(ours, "spfq", {"inputs": "aligned"}),
}


@dataclass
class Figure:
    """What one side came to on one network: accuracy on test, and seconds of every turn."""

    score: float
    seconds: list[float] = field(default_factory=list)


Figures = dict[tuple[str, int, str, str], Figure]


def subjects() -> Iterator[tuple[str, TrainedModel]]:
    """The shipped ResNet-8, and ResNet-20 on CIFAR-10 (JPEG-75) where its files are."""
    yield "ResNet-8, MNIST", load(Budget(model="resnet8", data="mnist5k"))
    weights = local_file("resnet20b_cifar10jpeg.pt")
    if weights is not None:
        yield "ResNet-20, CIFAR-10 (JPEG-75)", load(Budget(model="resnet20", data="cifar10", weights=str(weights)))


def inputs(subject: TrainedModel, most: int) -> list[torch.Tensor]:
    """Batches of training inputs, the same at every call."""
    batches = Batches(subject.data, "train", BATCH, seed=0, augment=False)
    return [batches.batch(0, index)[0] for index in range(min(most, len(batches)))]


def compare(turns: int) -> Figures:
    """Every side on every network at every width."""
    figures: Figures = {}
    for name, subject in subjects():
        few, many = inputs(subject, INPUTS // BATCH), inputs(subject, STATISTICS_BATCHES)
        for bits, _, (key, side) in itertools.product(WIDTHS, range(turns), SIDES.items()):
            model, begin = copy.deepcopy(subject.model).eval(), time.process_time()
            model = side(model, few, bits)
            spent = time.process_time() - begin
            if (name, bits, *key) not in figures:
                recompute_statistics(model, many)
                score = evaluate(model, subject.task, "test").score
                figures[name, bits, *key] = Figure(score)
            figures[name, bits, *key].seconds.append(spent)
            print(name, bits, *key, f"{100 * figures[name, bits, *key].score:.2f} %, {spent:.1f} s", flush=True)
    return figures


def large(threads: int) -> tuple[float, float]:
    """Minutes that GPTQ of ResNet-50 takes with 512 inputs of 224 x 224, and the peak memory of the process in GB."""
    before, generator = torch.get_num_threads(), torch.Generator().manual_seed(0)
    torch.set_num_threads(threads)
    model = torchvision.models.resnet50().eval()
    batches = [torch.randn(64, 3, 224, 224, generator=generator) for _ in range(INPUTS // 64)]
    begin = time.perf_counter()
    cx.apply(model, {"version": 2, "method": "gptq", "asks": {"bits": 4}}, calibration=batches)
    minutes = (time.perf_counter() - begin) / 60
    torch.set_num_threads(before)
    return minutes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def section(figures: Figures, turns: int, of_large: tuple[float, float] | None) -> str:
    """The section of BENCHMARKS.md."""
    times = f"{turns} turns" if turns > 1 else "1 turn"
    facts = machine(f"Brevitas {importlib.metadata.version('brevitas')}, {times}")
    if of_large is not None:
        minutes, memory = of_large
        facts.append(
            f"- GPTQ of torchvision's ResNet-50 (random weights), {INPUTS} inputs of 224 x 224, two threads: "
            f"{minutes:.1f} minutes, to reach: {LARGE_REACH:g}; at most {memory:.1f} GB"
        )
    lines = ["| network | bits | method | side | score | seconds |", "|---|---:|---|---|---:|---:|"]
    for (network, bits, method, side), figure in figures.items():
        least = min(figure.seconds)
        lines.append(f"| {network} | {bits} | {method} | {side} | {100 * figure.score:.2f} % | {least:.1f} |")
    ratios = [
        min(figure.seconds) / min(figures[network, bits, method, "Brevitas"].seconds)
        for (network, bits, method, side), figure in figures.items()
        if side == "here" and (network, bits, method, "Brevitas") in figures
    ]
    facts.append(f"- seconds here over those of Brevitas at the same method, median: {statistics.median(ratios):.2f}")
    return "\n\n".join([f"## {TITLE}", "\n".join(facts), LEGEND, "\n".join(lines)]) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the section, and put it into a file if asked."""
    parser = argparse.ArgumentParser(prog="tests.bench.posttraining", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=1, metavar="N", help="how often each side takes its turn")
    parser.add_argument("--large", action="store_true", help="measure GPTQ of ResNet-50 too: up to 20 minutes")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    of_large = large(threads=2) if options.large else None
    text = section(compare(options.turns), options.turns, of_large)
    print(text)
    if options.write:
        write(options.write, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
