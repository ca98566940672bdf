"""The run of product quantization: share out the books, cluster, refit the norms, train the centroids."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.budget import Budget
from compression.methods.pq.allocator import Option, Plan, allocate, clustered, weights_of
from compression.methods.pq.options import BITS, PqOptions
from compression.methods.pq.quantizer import BookQuantizer
from compression.quant.attachable import all_or_nothing, check_layers
from compression.quant.fixed_steps import FixedQuantizer, sharing
from compression.training.allocated import begin, fine_tune, refit
from compression.training.setup import Compressed, Reporter, Setup


def run(setup: Setup, report: Reporter, options: PqOptions) -> Compressed:
    """Compress ``setup.model`` in place within ``setup.budget``; its batch norms, biases and other numbers stay fp32.

    Raises:
        CompressionError: the budget cannot be met. RunFailed: training diverged.
    """
    trainer = begin(setup, report, options) if options.tuning == "centroids" else None
    if trainer is None:
        report.plan(1)
        report.phase("allocation", 0)
    plan = planned(setup.model, setup.budget, options, report)
    report.log(
        f"{plan.cost} of {plan.budget} bits spent on indices, books and steps of {plan.numel} weights"
        f"{', proven optimal' if plan.exact else ''}; squared error {100 * plan.error:.3g} % of Σw²"
    )
    attach(setup.model, plan, options, setup.budget.seed)
    if trainer is None:
        refit(setup, report)
    else:
        fine_tune(trainer)
    facts = {} if trainer is None else trainer.facts()
    return Compressed(setup.model, {"books": plan.to_dict(), **facts})


def planned(model: nn.Module, budget: Budget, options: PqOptions, report: Reporter | None = None) -> Plan:
    """The book of every layer of ``model``.

    Raises:
        CompressionError: see :func:`compression.methods.pq.allocator.allocate`.
    """
    reporter = report or Reporter()
    bits, weights = BITS.value(budget.asks), weights_of(model, options.embeddings)
    return allocate(weights, bits, options, budget.seed, budget.layers, reporter.check)


def attach(model: nn.Module, plan: Plan, options: PqOptions, seed: int) -> nn.Module:
    """Give every planned layer its quantizer, in place; returns ``model``.

    Raises:
        CompressionError: a layer cannot carry one; the model is unchanged.
    """
    modules = dict(model.named_modules())
    check_layers({layer.name: modules[layer.name] for layer in plan.layers})
    quantizers = {
        layer.name: _quantizer(modules[layer.name].get_parameter("weight"), layer.option, options, seed + index)
        for index, layer in enumerate(plan.layers)
    }
    with all_or_nothing(model.modules()):
        for name, quantizer in quantizers.items():
            for module in sharing(model, name):
                parametrize.register_parametrization(module, "weight", quantizer, unsafe=True)
    return model


def _quantizer(weight: torch.Tensor, option: Option, options: PqOptions, seed: int) -> nn.Module:
    """A book of the weight's clusters, or 8-bit numbers."""
    if not option.centroids:
        return FixedQuantizer(torch.ones_like(weight, dtype=torch.bool), option.step, 8, lowest=0)
    clusters = clustered(weight, option.length, option.centroids, options.iterations, seed)
    return BookQuantizer(clusters.assignments, clusters.centroids)
