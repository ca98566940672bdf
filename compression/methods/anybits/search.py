"""After the training: what fewer bits in each layer cost, and the best mixture of widths for every average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from compression.quant.nested_quantizer import nested_quantizers, set_widths
from compression.quant.spending import Problem, choose
from compression.training.dense import evaluate
from compression.training.preparation import fresh_statistics
from compression.training.setup import Precision, Reporter, Setup

Widths = dict[str, int]
Served = Mapping[str, Sequence[int]]
"""Layer → the bit-widths that it serves, ascending."""
ORIGINAL = "parametrizations.weight.original"
STEP = 0.5  # between the averages for which a mixture is chosen
DIVERGED = 1e6  # in the place of a loss that is no number


def search(
    setup: Setup, report: Reporter, served: Served, examples: int
) -> tuple[list[Precision], dict[str, list[float]]]:
    """A precision for every half bit from all layers' fewest to their most bits, and the table that they follow from.

    The table: layer → the validation loss with this layer alone at each of its widths, all others at their most bits.
    By it, as if what layers lose added up, widths of the least loss within an average are chosen exactly
    (:mod:`compression.quant.spending`). Where all layers at one width meet the average as well, they are tried beside
    it, and what has the smaller validation loss, norms refitted to each, is taken. The model ends at its most bits.
    """
    model, quantizers = setup.model, nested_quantizers(setup.model)
    served = {name: served[name] for name in quantizers}
    sizes = {name: model.get_submodule(name).get_parameter(ORIGINAL).numel() for name in quantizers}
    most, trained = {name: widths[-1] for name, widths in served.items()}, norms(model)

    def loss(widths: Mapping[str, int]) -> float:
        report.check()
        set_widths(model, widths)
        measured = evaluate(model, setup.task, "validation", limit=examples).loss
        return measured if math.isfinite(measured) else DIVERGED

    def refitted(widths: Widths) -> tuple[float, Precision]:
        set_widths(model, widths)
        if widths != most:
            fresh_statistics(setup, Reporter())
        result = loss(widths), Precision(widths, norms(model))
        model.load_state_dict(trained, strict=False)
        return result

    # 1. Forward passes with one layer at fewer bits
    whole, table = loss(most), {}
    for name, widths in served.items():
        table[name] = [*(loss({**most, name: width}) for width in widths[:-1]), whole]
    report.log(f"{sum(map(len, table.values()))} losses of single layers at fewer bits measured on validation")
    # 2. For every average the mixture of the least sum, and all layers alike where that is as many bits
    precisions: dict[tuple[int, ...], Precision] = {}
    for average in averages(served, sizes):
        candidates = [alike(served, sizes, average)]
        if candidates != [most]:
            candidates.append(mixture(table, served, sizes, average))
        tried = [refitted(widths) for widths in candidates if widths is not None]
        result, best = min(tried, key=lambda each: each[0])
        precisions[tuple(best.widths.values())] = best
        report.log(f"{average:g} bits a weight: validation loss {result:.4g}")
    set_widths(model, most)
    return list(precisions.values()), table


def norms(model: nn.Module) -> dict[str, torch.Tensor]:
    """The running statistics of batch norms, by their names in the state: copies."""
    return {
        f"{name}.{key}".lstrip("."): value.clone()
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for key, value in module.named_buffers(recurse=False)
    }


def averages(served: Served, sizes: Mapping[str, int]) -> list[float]:
    """From the average of all layers' fewest bits to that of their most, every half bit and both ends."""
    low, high = (mean({name: widths[end] for name, widths in served.items()}, sizes) for end in (0, -1))
    between = np.arange(math.floor(low / STEP) + 1, math.ceil(high / STEP)) * STEP
    return sorted({low, *between.tolist(), high})


def mean(widths: Mapping[str, int], sizes: Mapping[str, int]) -> float:
    """Average bits of a weight."""
    return sum(widths[name] * sizes[name] for name in widths) / sum(sizes[name] for name in widths)


def mixture(table: Mapping[str, Sequence[float]], served: Served, sizes: Mapping[str, int], average: float) -> Widths:
    """The widths of the least sum of losses whose average is at most ``average``."""
    costs = [np.array([width * sizes[name] for width in widths], dtype=np.int64) for name, widths in served.items()]
    errors = [np.array(table[name], dtype=np.float64) for name in served]
    budget = math.floor(average * sum(sizes[name] for name in served) + 1e-6)
    picks = choose(Problem(costs, errors, budget)).picks
    return {name: widths[pick] for (name, widths), pick in zip(served.items(), picks, strict=True)}


def alike(served: Served, sizes: Mapping[str, int], average: float) -> Widths | None:
    """One width for all layers that may have it, others at their nearest: the most that ``average`` allows."""
    highest = max(widths[-1] for widths in served.values())
    for width in range(highest, 0, -1):
        equal = {name: min(max(width, widths[0]), widths[-1]) for name, widths in served.items()}
        if mean(equal, sizes) <= average + 1e-9:
            return equal
    return None
