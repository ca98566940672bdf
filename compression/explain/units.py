"""How much every unit contributes by four criteria: by its weights, by gradients, and by Captum's two for layers.

- ``magnitude``: the root mean square of the unit's numbers; no data.
- ``taylor``: ``|<x, g>|`` of the unit's numbers x and their gradient g of the loss, a mean over batches (Molchanov et
  al. 2019, arXiv 1906.10771, eq. 8): what the loss would change, to first order, were the unit zero.
- ``gradient_activation``: Captum's LayerGradientXActivation on the outputs of the unit's layers.
- ``conductance``: Captum's LayerConductance (Dhamdhere et al. 2018, arXiv 1805.12233): the part of the logit's rise
  from the mean image to this image that flows through the unit.

The last two are taken of the logit of the class that the dense model answers; absolute values are summed over places,
over the layers that make the unit's channel, and averaged over images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from captum.attr import LayerConductance, LayerGradientXActivation
from torch import nn

from compression.explain.attribution import own_copy
from compression.explain.measures import spearman
from compression.graph import Graph, Group
from compression.graph.running import in_mode
from compression.pruning.saliency import unit_sums
from compression.pruning.units import Units

MAGNITUDE, TAYLOR, ACTIVATION, CONDUCTANCE = "magnitude", "taylor", "gradient_activation", "conductance"
CRITERIA = (MAGNITUDE, TAYLOR, ACTIVATION, CONDUCTANCE)
STEPS = 8  # points from the mean image to the image, both ends included: Captum adds the rises between them

Batch = tuple[torch.Tensor, torch.Tensor]
Scores = dict[str, dict[str, torch.Tensor]]  # group → criterion → fp32 [units], on the CPU


def unit_scores(
    model: nn.Module, graph: Graph, batches: Iterable[Batch], done: Callable[[], None] = lambda: None
) -> Scores:
    """Every prunable group's units by every criterion; none of Captum's for a group that no layer's outputs make up.

    Args:
        model: dense and trained; neither its mode nor its gradients are changed.
        graph: traced from it.
        batches: (images normalised fp32 [B, C, H, W], labels int64 [B]); labels are used by ``taylor`` only.
        done: called after each layer of each batch.
    """
    batches = list(batches)
    scores = _by_weights(model, graph, batches)
    total = sum(len(images) for images, _ in batches)
    copy = own_copy(model)
    layers = _producers(graph)
    modules, names = dict(copy.named_modules()), {layer.weight: layer.name for layer in graph.layers}
    for images, _ in batches:
        with torch.no_grad():
            targets = copy(images).argmax(1)
        for weight, groups in layers.items():
            module = modules[names[weight]]
            for criterion, values in _attributed(copy, module, images, targets).items():
                for group, positions in groups:
                    own = values[positions].sum(1) * len(images)
                    before = scores[group].get(criterion, torch.zeros_like(own))
                    scores[group][criterion] = before + own / total
            done()
    return scores


def _by_weights(model: nn.Module, graph: Graph, batches: Iterable[Batch]) -> Scores:
    units = Units(model, graph)
    sums = unit_sums(units, {})
    magnitude, taylor = (sums.xx / sums.variables).sqrt(), torch.zeros_like(sums.xx)
    parameters = list(dict.fromkeys(piece.parameter for group in units for piece in group.slices))
    count = 0
    with in_mode(model):
        for images, labels in batches:
            loss = F.cross_entropy(model(images), labels)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            known = {p: g for p, g in zip(parameters, gradients, strict=True) if g is not None}
            taylor += unit_sums(units, known).xh.abs()
            count += 1
    parts = {group.id: slice(group.first, group.first + group.units) for group in units}
    magnitude, taylor = (values.detach().cpu() for values in (magnitude, taylor / max(1, count)))
    return {group: {MAGNITUDE: magnitude[part], TAYLOR: taylor[part]} for group, part in parts.items()}


def _producers(graph: Graph) -> dict[str, list[tuple[str, torch.Tensor]]]:
    """Weight of a layer → the prunable groups its outputs belong to, with their positions int64 [units, k]."""
    weights = {layer.weight for layer in graph.layers}
    producers: dict[str, list[tuple[str, torch.Tensor]]] = {}
    for group in graph.prunable:
        for member in group.members:
            if member.role == "producer" and member.dim == 0 and member.name in weights:
                producers.setdefault(member.name, []).append((group.id, member.positions))
    return producers


def _attributed(
    model: nn.Module, layer: nn.Module, images: torch.Tensor, targets: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Per output channel of the layer, fp32 [C], the mean over images of absolute attributions summed over places."""
    baseline = torch.zeros_like(images)  # normalised images: the mean colour
    flow = LayerConductance(model, layer).attribute(
        images, baselines=baseline, target=targets, n_steps=STEPS, method="riemann_trapezoid"
    )
    local = LayerGradientXActivation(model, layer).attribute(images, target=targets)
    channel = -1 if isinstance(layer, nn.Linear) else 1
    return {CONDUCTANCE: _channels(flow, channel), ACTIVATION: _channels(local, channel)}


def _channels(attributed: Any, channel: int) -> torch.Tensor:
    parts = attributed if isinstance(attributed, tuple) else (attributed,)  # a layer that is used several times
    sums = [part.detach().abs().movedim(channel, -1).flatten(0, -2).sum(0) / len(part) for part in parts]
    return torch.stack(sums).sum(0).float().cpu()


def summary(scores: Scores, groups: Iterable[Group]) -> list[dict[str, Any]]:
    """A row per group: its units, and by criterion its ``share`` of all saliency and ``rank``, as JSON values.

    ``rank`` is the rank correlation of its units with their magnitude, in -1..1; ``None`` for fewer than three units.
    """
    totals = {c: sum(float(units[c].sum()) for units in scores.values() if c in units) for c in CRITERIA}
    rows = []
    for group in groups:
        units = scores[group.id]
        share = {c: float(v.sum()) / totals[c] if totals[c] else 0.0 for c, v in units.items()}
        rank = {c: _rank(units[MAGNITUDE], v) for c, v in units.items() if c != MAGNITUDE}
        values = {c: [float(f"{x:.6g}") for x in v.tolist()] for c, v in units.items()}
        rows.append({"group": group.id, "units": group.units, "share": share, "rank": rank, "scores": values})
    return rows


def _rank(one: torch.Tensor, other: torch.Tensor) -> float | None:
    return spearman(one.numpy(), other.numpy()) if len(one) > 2 else None
