"""Factors for somebody else's training loop."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn

from compression.budget import Budget
from compression.graph import trace
from compression.methods.cc.options import CcOptions
from compression.methods.cc.reach import refuse_impossible
from compression.methods.cc.run import carried_out, checked, planned, widths
from compression.quant.attach import quantizable_layers
from compression.quant.attachable import check_layers
from compression.quant.calibrate import model_inputs
from compression.quant.fixed_steps import attach


def prepare(model: nn.Module, budget: Budget, calibration: Iterable[torch.Tensor], options: CcOptions) -> nn.Module:
    """Factor ``model`` in place by what the batches say, and fix the steps of its weights; returns ``model``.

    With ``harm`` weights the first batch alone is read: the network is traced with it.

    Raises:
        CompressionError: the saving cannot be reached; nothing is changed then.
    """
    check_layers(quantizable_layers(model))
    inputs = model_inputs(calibration)
    batches = list(inputs if options.harm == "output" else islice(inputs, 1))
    graph = trace(model, batches[0])
    refuse_impossible(model, graph, budget, options)
    plan, _ = planned(model, graph, budget, options, batches)
    result = carried_out(model, graph, plan)
    checked(result, plan, budget)
    return attach(model, widths(model, graph, budget, plan.ranks))
