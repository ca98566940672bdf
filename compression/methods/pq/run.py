"""The run of product quantization: share out the books, cluster, refit the norms, train the centroids."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.budget import Budget
from compression.graph.inputs import Example
from compression.methods.pq.allocator import Option, Plan, allocate, clustered, lengths, weights_of
from compression.methods.pq.options import BITS, PqOptions
from compression.methods.pq.quantizer import BookQuantizer
from compression.methods.pq.weighting import Roots, input_roots
from compression.quant.attachable import all_or_nothing, check_layers
from compression.quant.fixed_steps import FixedQuantizer, sharing
from compression.training.allocated import begin, fine_tune, refit
from compression.training.preparation import CALIBRATION_BATCHES, plain_batches
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
    weighed = options.weighting == "inputs"
    roots = None
    if weighed:
        roots = roots_of(setup.model, plain_batches(setup, report, CALIBRATION_BATCHES), setup.budget, options)
    plan = planned(setup.model, setup.budget, options, report, roots)
    report.log(
        f"{plan.cost} of {plan.budget} bits spent on indices, books and steps of {plan.numel} weights"
        f"{', proven optimal' if plan.exact else ''}; squared error {100 * plan.error:.3g} % of Σw²"
        f"{', weighed by the inputs' if weighed else ''}"
    )
    attach(setup.model, plan, options, setup.budget.seed, roots)
    if trainer is None:
        refit(setup, report)
    else:
        fine_tune(trainer)
    facts = {} if trainer is None else trainer.facts()
    return Compressed(setup.model, {"books": plan.to_dict(), **facts})


def roots_of(model: nn.Module, batches: Iterable[Example], budget: Budget, options: PqOptions) -> Roots:
    """What errors in each layer's blocks count by these inputs."""
    weights = weights_of(model, embeddings=False)
    sizes = {name: lengths(tuple(weight.shape), options.block) for name, weight in weights.items()}
    return input_roots(model, sizes, batches, budget.seed)


def planned(
    model: nn.Module, budget: Budget, options: PqOptions, report: Reporter | None = None, roots: Roots | None = None
) -> Plan:
    """The book of every layer of ``model``.

    Raises:
        CompressionError: see :func:`compression.methods.pq.allocator.allocate`.
    """
    reporter = report or Reporter()
    bits, weights = BITS.value(budget.asks), weights_of(model, options.embeddings)
    return allocate(weights, bits, options, budget.seed, budget.layers, reporter.check, roots)


def attach(model: nn.Module, plan: Plan, options: PqOptions, seed: int, roots: Roots | None = None) -> nn.Module:
    """Give every planned layer its quantizer, in place; returns ``model``.

    Raises:
        CompressionError: a layer cannot carry one; the model is unchanged.
    """
    modules = dict(model.named_modules())
    check_layers({layer.name: modules[layer.name] for layer in plan.layers})
    quantizers = {}
    for index, layer in enumerate(plan.layers):
        weight, root = modules[layer.name].get_parameter("weight"), (roots or {}).get(layer.name, {})
        quantizers[layer.name] = _quantizer(weight, layer.option, options, seed + index, root.get(layer.option.length))
    with all_or_nothing(model.modules()):
        for name, quantizer in quantizers.items():
            for module in sharing(model, name):
                parametrize.register_parametrization(module, "weight", quantizer, unsafe=True)
    return model


def _quantizer(
    weight: torch.Tensor, option: Option, options: PqOptions, seed: int, root: torch.Tensor | None
) -> nn.Module:
    """A book of the weight's clusters, or 8-bit numbers."""
    if not option.centroids:
        return FixedQuantizer(torch.ones_like(weight, dtype=torch.bool), option.step, 8, lowest=0)
    clusters = clustered(weight, option.length, option.centroids, options.iterations, seed, root)
    return BookQuantizer(clusters.assignments, clusters.centroids)
