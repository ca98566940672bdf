"""Bias correction: the mean error that rounded weights make in every output channel is taken out of the bias."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from compression.graph import Example, Graph, call, parameter_map
from compression.posttraining.grams import watching
from compression.posttraining.pairs import find_pairs
from compression.posttraining.ranges import folded_norms
from compression.posttraining.rows import matrix
from compression.quant.integers import quantizer_of


@dataclass(frozen=True)
class Correction:
    """One layer: ``place`` is the parameter or buffer that took the correction, ``largest`` the largest magnitude of a
    channel's mean error before it; ``added``: the layer had no bias."""

    layer: str
    place: str
    largest: float
    added: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@torch.no_grad()
def correct_biases(
    model: nn.Module,
    dense: nn.Module,
    graph: Graph,
    batches: Sequence[Example],
    *,
    skip: Iterable[str] = (),
    add: bool = False,
    means: Mapping[str, torch.Tensor] | None = None,
    check: Callable[[], None] = lambda: None,
) -> list[Correction]:
    """b -= mean of (Ŵ - W)·x over the inputs x that each layer receives in the quantized model, in place.

    Layers are corrected in the order in which they run, each on the inputs that the corrected ones before it give
    (Nagel et al., arXiv 1906.04721, section 4.2 and appendix D). The running mean of a batch norm directly behind a
    layer takes the correction of one without a bias. A layer with neither stays, or gets a bias if ``add``.

    Args:
        model: with quantizers on its weights.
        dense: the same network before.
        graph: its trace.
        batches: the calibration inputs.
        skip: layers that stay: those in front of batch norms (:func:`normed_layers`) whose statistics are taken anew
            afterwards, which absorbs the error.
        add: give a bias to a layer that has none and no norm behind it. The network then has a parameter that its code
            does not make, which files of this project do not restore; so a run does not.
        means: layer → what its inputs are on average [channels]
            (:func:`compression.posttraining.expected_inputs.expected_inputs`): with it no batch is read, and other
            layers stay.
        check: called before every batch; may raise to stop.
    """
    norms, skipped = normed_layers(dense, graph), set(skip)
    runs = [node.layer for node in graph.nodes]
    corrections = []
    modules = dict(model.named_modules())
    for name in (layer.name for layer in graph.layers if layer.name in modules):
        layer: Any = modules[name]
        if name in skipped or quantizer_of(layer) is None:
            continue
        if layer.bias is None and name not in norms and not add:
            continue
        if means is None:
            error = _mean_error(model, dense, name, batches, runs.count(name) == 1, check)
        else:
            error = _error_of_means(layer, dense.get_submodule(name), means[name]) if name in means else None
        if error is not None:
            corrections.append(_correct(model, name, error, norms.get(name)))
    return corrections


def normed_layers(dense: nn.Module, graph: Graph) -> dict[str, str]:
    """Layers directly in front of a batch norm that reads nothing else → the path of that norm."""
    folded = folded_norms(find_pairs(dense, graph))
    return {layer.row.name.removesuffix(".weight"): norm.removesuffix(".weight") for norm, layer in folded.items()}


def _mean_error(
    model: nn.Module, dense: nn.Module, name: str, batches: Sequence[Example], once: bool, check: Callable[[], None]
) -> torch.Tensor | None:
    """The mean of (Ŵ - W)·x over examples and positions: [output channels]; ``None`` where the layer never runs."""
    layer: Any = model.get_submodule(name)
    plain: Any = dense.get_submodule(name)
    values = {"weight": layer.weight - plain.weight}
    if plain.bias is not None:
        values["bias"] = torch.zeros_like(plain.bias)
    sums: list[torch.Tensor] = []
    counts: list[int] = []

    def see(_path: str, _layer: nn.Module, x: torch.Tensor) -> None:
        error = functional_call(plain, values, (x,))
        channels = error.movedim(-1 if isinstance(plain, nn.Linear) else x.dim() - plain.weight.dim() + 1, 0).flatten(1)
        sums.append(channels.mean(1))
        counts.append(channels.shape[1])

    for x in batches:
        check()
        with watching(model, [name], see, int(once)):
            call(model, x)
    if not counts:
        return None
    shares = torch.tensor(counts, dtype=sums[0].dtype, device=sums[0].device) / sum(counts)
    return (torch.stack(sums) * shares[:, None]).sum(0)


def _error_of_means(layer: Any, plain: Any, means: torch.Tensor) -> torch.Tensor:
    """(Ŵ - W)·E x, one number for each output channel, with every position of a kernel meeting its channel's mean."""
    error = matrix(plain, layer.weight - plain.weight)  # [groups, outputs, channels and positions of the kernel]
    inputs = means.to(error).view(len(error), -1, 1)
    return (error.unflatten(-1, (inputs.shape[1], -1)).sum(-1) @ inputs).flatten()


def _correct(model: nn.Module, name: str, error: torch.Tensor, norm: str | None) -> Correction:
    layer: Any = model.get_submodule(name)
    largest = float(error.abs().max())
    if layer.bias is not None:
        layer.bias.sub_(error)
        return Correction(name, f"{name}.bias", largest)
    if norm is not None:
        parameter_map(model)[f"{norm}.running_mean"].add_(error)
        return Correction(name, f"{norm}.running_mean", largest)
    layer.bias = nn.Parameter(-error)
    return Correction(name, f"{name}.bias", largest, added=True)
