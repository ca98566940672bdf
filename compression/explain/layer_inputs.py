"""What flows into each layer of a dense network, and how far rounding its weights can be made good for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from compression.graph import Graph
from compression.graph.inputs import Example
from compression.posttraining.follow import feedback, follow, output_error
from compression.posttraining.grams import LayerInputs, collect
from compression.posttraining.rows import matrix
from compression.quant.laplace import levels_of

DAMPING = 0.01
DEAD = 1e-12  # of the mean squared input


def layer_inputs(
    model: nn.Module, graph: Graph, batches: Iterable[Example], bits: int, done: Callable[[], None]
) -> list[dict[str, Any]]:
    """A row for each layer that is called as a module, in the order of execution; ``done`` is called after each.

    ``inputs``: d, how many numbers a row of inputs has (of a grouped convolution those of a group); ``rows``: how many
    were seen; ``directions``: (Σλ)² / Σλ² of the eigenvalues of G = Σ x xᵀ, the number of directions that inputs
    effectively vary in, 1 to d, averaged over groups; ``mean``: the share of Σ|x|² that a constant input would have;
    ``dead``: inputs that are always 0; ``nearest`` and ``following``: the layer's output error relative to its outputs,
    when its weights get ``bits`` bits a channel up to the largest weight, by nearest rounding and by path following
    with what later weights can still make good for.

    Raises:
        CompressionError: an input that is not finite.
    """
    names = {layer.name: layer.name for layer in graph.layers if layer.weight == f"{layer.name}.weight"}
    sums, rows = collect(model, names, batches), []
    for name in names:
        if name in sums:
            rows.append({"name": name, **_row(model.get_submodule(name), sums[name], bits)})
            done()
    return rows


@torch.no_grad()
def _row(layer: nn.Module, inputs: LayerInputs, bits: int) -> dict[str, Any]:
    gram = inputs.gram
    squares = gram.diagonal(dim1=-2, dim2=-1)
    energy = squares.sum(-1)
    directions = energy.square() / gram.square().sum((-1, -2)).clamp_min(1e-300)
    constant = inputs.count * inputs.mean.square().sum() / energy.sum().clamp_min(1e-300)
    weights = matrix(layer, layer.get_parameter("weight")).to(gram.dtype)
    levels = levels_of(bits)
    steps = (weights.abs().amax(-1) / levels).clamp_min(torch.finfo(torch.float32).tiny)

    def rounded(z: torch.Tensor) -> torch.Tensor:
        return (z / steps).round().clamp(-levels, levels) * steps

    back, _ = feedback(gram, "orthogonal", DAMPING)
    nearest = torch.stack([rounded(column) for column in weights.unbind(-1)], -1)
    following = follow(weights, back, lambda z, _: rounded(z))
    whole = max(output_error(weights, gram), 1e-300)
    return {
        "inputs": gram.shape[-1],
        "rows": inputs.count,
        "directions": float(directions.mean()),
        "mean": float(constant),
        "dead": int((squares <= DEAD * squares.mean()).sum()),
        "nearest": output_error(weights - nearest, gram) / whole,
        "following": output_error(weights - following, gram) / whole,
    }
