"""How much of the score one layer alone costs: quantized or pruned by itself, everything else dense and as trained.

Nothing is trained and no batch norm is refitted, so it shows where a network is sensitive, not what a run will reach:
the losses of several layers do not simply add up. Weights are rounded to nearest with the step of least squared error;
single weights and whole units are removed by least magnitude.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compression.asks import WEIGHT_BITS, AverageBits, BitsAsk
from compression.bounds import HIGHEST_BITS
from compression.budget import Budget
from compression.graph import Graph, parameter_map, zero_units
from compression.methods.base import Method
from compression.pruning.choose import target_units
from compression.pruning.saliency import unit_sums
from compression.pruning.units import Units
from compression.quant.laplace import levels_of
from compression.quant.steps import Survivors, best_steps
from compression.quant.tables import LayerTables, layer_weights
from compression.tasks import Metric

BITS = (2, 3, 4, 6, 8)
SHARES = (0.3, 0.5, 0.7, 0.9)
BITS_TRIAL, WEIGHTS_TRIAL, UNITS_TRIAL = "bits", "weights", "units"
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Trial:
    """One change of one layer or group: ``kind`` is ``bits``, ``weights`` or ``units``.

    ``value`` is the bit-width or the removed share, ``size`` how many weights or units the layer or group has.
    """

    kind: str
    name: str
    value: float
    size: int


def trials(model: nn.Module, graph: Graph, structured: bool) -> list[Trial]:
    """Every layer at every bit-width, then every layer's weights (or every prunable group's units) at every share."""
    sizes = {name: weight.numel() for name, weight in layer_weights(model).items()}
    planned = [Trial(BITS_TRIAL, name, bits, size) for name, size in sizes.items() for bits in BITS]
    if structured:
        return planned + [Trial(UNITS_TRIAL, group.id, s, group.units) for group in graph.prunable for s in SHARES]
    return planned + [Trial(WEIGHTS_TRIAL, name, share, size) for name, size in sizes.items() for share in SHARES]


class Bench:
    """A model on which trials are carried out and reverted."""

    def __init__(self, model: nn.Module, graph: Graph) -> None:
        """``model`` is changed during a trial, and restored exactly after it."""
        self.model, self._graph = model, graph
        self._tables = {table.name: table for table in LayerTables.prepare(model).layers}
        self._weights = layer_weights(model)

    @contextlib.contextmanager
    @torch.no_grad()
    def during(self, trial: Trial) -> Iterator[int]:
        """Carry out a trial during a ``with`` block; gives how many weights or units were removed (0 for bits)."""
        touched = self._touched(trial)
        saved = [tensor.clone() for tensor in touched]
        try:
            yield self._carry_out(trial)
        finally:
            with torch.no_grad():
                for tensor, before in zip(touched, saved, strict=True):
                    tensor.copy_(before)

    def _touched(self, trial: Trial) -> list[torch.Tensor]:
        if trial.kind != UNITS_TRIAL:
            return [self._weights[trial.name]]
        tensors = parameter_map(self.model)
        return [tensors[member.name].detach() for member in self._graph.group(trial.name).zeroed_members]

    def _carry_out(self, trial: Trial) -> int:
        if trial.kind == UNITS_TRIAL:
            chosen = self._smallest_units(trial)
            zero_units(self.model, self._graph, {trial.name: chosen})
            return len(chosen)
        weight = self._weights[trial.name]
        if trial.kind == BITS_TRIAL:
            self._round(weight, trial)
            return 0
        count = round(trial.value * trial.size)
        flat = weight.abs().flatten()
        mask = torch.ones_like(flat)
        mask[flat.argsort(stable=True)[:count]] = 0
        weight.mul_(mask.view_as(weight))
        return count

    def _round(self, weight: torch.Tensor, trial: Trial) -> None:
        """To the nearest of k·d, |k| <= 2^(b-1) - 1."""
        bits = int(trial.value)
        step = float(best_steps(Survivors(self._tables[trial.name], 0, lowest=0), (bits,))[0][0])
        if step > 0:
            most = levels_of(bits)
            weight.copy_((weight / step).round().clamp(-most, most) * step)

    def _smallest_units(self, trial: Trial) -> list[int]:
        units = Units(self.model, self._graph)
        group = next(group for group in units if group.id == trial.name)
        own = unit_sums(units, {}).xx[group.first : group.first + group.units]
        return sorted(own.argsort(stable=True)[: target_units(trial.value, group.units)].tolist())


def fewest_bits(scan: Mapping[str, Any], points: float) -> dict[str, int]:
    """Layer → the fewest bits at which, as at all more bits measured, at most ``points`` (as shown) are lost.

    16 where even the most bits measured lose more.
    """
    fewest: dict[str, int] = {}
    for name, measured in _by_name(scan["rows"], BITS_TRIAL).items():
        fewest[name] = HIGHEST_BITS
        for bits, score in sorted(measured, reverse=True):
            if lost(scan, score) > points + TOLERANCE:
                break
            fewest[name] = int(bits)
    return fewest


def most_sparsity(scan: Mapping[str, Any], points: float, kind: str) -> dict[str, float]:
    """Layer or group → the largest share at which, as at all smaller ones, at most ``points`` points are lost."""
    most: dict[str, float] = {}
    for name, measured in _by_name(scan["rows"], kind).items():
        most[name] = 0.0
        for share, score in sorted(measured):
            if lost(scan, score) > points + TOLERANCE:
                break
            most[name] = share
    return most


def lost(scan: Mapping[str, Any], score: float) -> float:
    """How much worse a score is than that of the dense model, in points of the metric (negative: better)."""
    return Metric.from_result(scan).lost(scan["dense"], score)


def as_budget(
    scan: Mapping[str, Any], points: float, budget: Budget, method: Method, *, widths: bool = True, shares: bool = True
) -> Budget:
    """``budget`` with the bounds that a scan suggests, in the form that its ``method`` reads.

    With ``widths`` a layer gets at least its :func:`fewest_bits` (exactly these where all layers would get the
    same). With ``shares`` a group loses at most its :func:`most_sparsity`, a layer's single weights exactly that share.
    Other bounds of the budget are preserved. The global sparsity and average bits become what these bounds allow.
    """
    layers: dict[str, dict[str, Any]] = {name: dict(entry) for name, entry in budget.layers.items()}
    bits_ask = next((ask for ask in method.asks if ask.layer_bound == WEIGHT_BITS), None)
    if widths and isinstance(bits_ask, BitsAsk):
        for name, least in fewest_bits(scan, points).items():
            bound = bits_ask.suggested_bound(least, bits_ask.value(budget.asks))
            layers.setdefault(name, {})["weight_bits"] = bound
    bounded = budget.replace(layers=layers, method=method.info.name)
    sparsity = method.ask("--sparsity")
    if shares and sparsity is not None:
        bounded = _with_shares(scan, points, bounded, sparsity.value(budget.asks))
    if not isinstance(bits_ask, AverageBits):
        return bounded
    average = max(bits_ask.value(budget.asks), _least_average(scan, bounded.layers))
    return bounded.replace(asks={**bounded.asks, bits_ask.field: average})


def _with_shares(scan: Mapping[str, Any], points: float, budget: Budget, sparsity: float | None) -> Budget:
    """The budget with the shares that groups or layers may lose, and a sparsity that these allow, if it has one."""
    kind = UNITS_TRIAL if scan["structured"] else WEIGHTS_TRIAL
    shares = most_sparsity(scan, points, kind)
    sizes = _sizes(scan)
    if scan["structured"]:
        removed, units = _removed_units(shares, sizes)
        groups = {name: {"sparsity": [0.0, share]} for name, share in shares.items()}
        bounded = budget.replace(groups=groups)
        return bounded if sparsity is None else bounded.replace(sparsity=min(sparsity, _floored(removed / units)))
    layers = {name: dict(entry) for name, entry in budget.layers.items()}
    for name, share in shares.items():
        layers.setdefault(name, {})["sparsity"] = share
    total = sum(sizes[WEIGHTS_TRIAL, name] for name in shares) or 1
    share_of_all = sum(share * sizes[WEIGHTS_TRIAL, name] for name, share in shares.items()) / total
    return budget.replace(layers=layers, groups={}, sparsity=round(share_of_all, 4))


def _least_average(scan: Mapping[str, Any], layers: Mapping[str, Mapping[str, Any]]) -> float:
    """The average bits that the layers' lowest bit-widths need, in quarters, as a person would set it; 0 for units."""
    if scan["structured"]:
        return 0.0
    sizes = _sizes(scan)
    remaining = {
        name: (1 - entry.get("sparsity", 0.0)) * sizes[BITS_TRIAL, name]
        for name, entry in layers.items()
        if entry.get("weight_bits") and (BITS_TRIAL, name) in sizes
    }
    needed = sum(layers[name]["weight_bits"][0] * weights for name, weights in remaining.items())
    return math.ceil(4 * needed / (sum(remaining.values()) or 1) - TOLERANCE) / 4


def _sizes(scan: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    return {(row["kind"], row["name"]): int(row["size"]) for row in scan["rows"]}


def _removed_units(shares: Mapping[str, float], sizes: Mapping[tuple[str, str], int]) -> tuple[int, int]:
    removed = sum(
        min(target_units(share, sizes[UNITS_TRIAL, g]), sizes[UNITS_TRIAL, g] - 1) for g, share in shares.items()
    )
    return removed, sum(sizes[UNITS_TRIAL, group] for group in shares) or 1


def _floored(share: float) -> float:
    return math.floor(10_000 * share) / 10_000


def _by_name(rows: Iterable[Mapping[str, Any]], kind: str) -> dict[str, Sequence[tuple[float, float]]]:
    measured: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["kind"] == kind:
            measured.setdefault(row["name"], []).append((row["value"], row["score"]))
    return dict(measured)
