"""Removing units of least score in a few rounds, and holding at zero what is removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compression.graph import Graph
from compression.graph.names import parameter_map
from compression.pruning.choose import UnitLimits
from compression.pruning.criteria import RMS
from compression.pruning.scores import UnitScores
from compression.pruning.target import UnitTarget
from compression.pruning.unit_options import UnitOptions
from compression.pruning.units import Units

BY_MAGNITUDE = UnitOptions(criteria={RMS: 1.0}, cost="none")
Passes = Callable[[int], Iterable[None]]
"""Iterates so many times, and leaves the gradients over another batch on the parameters each time."""


@dataclass(frozen=True, eq=False)
class _Factors:
    """What one tensor is multiplied by: 1 along ``dim`` but for ``positions``; ``mask`` broadcasts to the tensor."""

    tensor: torch.Tensor
    mask: torch.Tensor
    dim: int
    positions: torch.Tensor


class HeldUnits:
    """Holds removed units at zero while the others are trained: momentum and decay must not bring them back."""

    def __init__(self, model: nn.Module, graph: Graph, units: Mapping[str, Sequence[int]]) -> None:
        """``units``: group id → those removed; of a model on which quantizers are put later, make another one then."""
        tensors = parameter_map(model)
        places: dict[tuple[str, int], list[torch.Tensor]] = {}
        for group_id, removed in units.items():
            for member in graph.group(group_id).zeroed_members:
                where = member.positions[list(removed)].flatten()
                places.setdefault((member.name, member.dim), []).append(where)
        self._factors: list[_Factors] = []
        for (name, dim), parts in places.items():
            tensor = tensors[name]
            shape = [1] * tensor.dim()
            shape[dim] = tensor.shape[dim]
            mask = torch.ones(shape, dtype=tensor.dtype, device=tensor.device)
            positions = torch.cat(parts).to(tensor.device)
            self._factors.append(_Factors(tensor, mask.index_fill_(dim, positions, 0.0), dim, positions))

    def hold(self) -> None:
        """Set everything that belongs to the units to zero."""
        self._multiply()

    def shrink(self, factor: float) -> None:
        """Multiply everything that belongs to the units by ``factor``."""
        for each in self._factors:
            each.mask.index_fill_(each.dim, each.positions, factor)
        self._multiply()
        for each in self._factors:
            each.mask.index_fill_(each.dim, each.positions, 0.0)

    @torch.no_grad()
    def _multiply(self) -> None:
        if self._factors:
            torch._foreach_mul_([each.tensor.detach() for each in self._factors], [each.mask for each in self._factors])


class Removal:
    """Takes units away until its target is reached, those of least score first: by default of least magnitude.

    A unit's magnitude is the root mean square of all its numbers, compared over the whole network; with ``norm``
    ``group`` each score is divided by its group's mean, so that groups of small weights are not emptied first. Bounds
    of single groups hold as they do in GETA. ``passes`` is needed where the criteria look at gradients and
    :attr:`scorer` is not shown those of training; ``lasting`` is that of :class:`.UnitScores`.

    Raises:
        CompressionError: bounds that no choice of K units satisfies, or a graph of another model.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        target: UnitTarget,
        bounds: Mapping[str, tuple[float, float]],
        norm: str = "none",
        options: UnitOptions = BY_MAGNITUDE,
        passes: Passes | None = None,
        lasting: bool = False,
    ) -> None:
        self._model, self._graph, self._norm, self._passes = model, graph, norm, passes
        self._renews = options.renew_prices and norm == "none"  # the mean of a group's scores has its price, too
        self.units = Units(model, graph)
        self.scorer = UnitScores(self.units, graph, options, lasting)
        self._limits = UnitLimits.from_groups(self.units.sources, bounds)
        self.target = target
        self.target.check(self._limits)
        self.removed = torch.zeros(self.units.total, dtype=torch.bool)
        self._held = HeldUnits(model, graph, {})

    def prune(self, rounds_done: int, rounds: int) -> dict[str, list[int]]:
        """Carry out one of ``rounds`` equal rounds; returns group id → the units that it removed."""
        chosen = self.choose(rounds_done / rounds, self.scores)
        self.remove(chosen)
        return self.units.named_numbers(chosen)

    def choose(self, share: float, scores: Callable[[], torch.Tensor]) -> list[int]:
        """The units to be removed next, by number, so that ``share`` of the removal is done.

        ``scores``: gives the score of every unit, fp32 [N], if there are units to be chosen.
        """
        place = self.units.group_of, self.removed, self._limits, share
        if not self.target.due(*place):
            return []
        prices = self.scorer.prices(self.removed) if self._renews else None
        return self.target.choose(scores(), *place, prices)

    def remove(self, chosen: Sequence[int]) -> None:
        """Set these units to zero, for good."""
        if chosen:
            self.removed[list(chosen)] = True
            self.bind()
            self.hold()

    def held(self, chosen: Sequence[int]) -> HeldUnits:
        """The parameters of these units alone."""
        marked = torch.zeros_like(self.removed)
        marked[list(chosen)] = True
        return HeldUnits(self._model, self._graph, self.units.named_units(marked))

    def scores(self) -> torch.Tensor:
        """The present score of every unit, fp32 [N], in the order of the graph's prunable groups."""
        if self._passes is None or not self.scorer.batches:
            self.scorer.observe()
        else:
            for _ in self._passes(self.scorer.batches):
                self.scorer.observe()
        scores = self.scorer.take(self.removed)
        if self._norm == "none":
            return scores
        parts = scores.split([group.units for group in self.units])
        return torch.cat([part / part.mean().clamp(min=1e-12) for part in parts])

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Which units are removed."""
        return {"removed": self.removed}

    def load_state_dict(self, state_dict: dict[str, torch.Tensor]) -> None:
        """Take over which units are removed; the model's own state is loaded apart from it."""
        self.removed = state_dict["removed"].clone()
        self.bind()

    def bind(self) -> None:
        """Look the parameters up anew; needed when quantizers have been put on them."""
        self._held = HeldUnits(self._model, self._graph, self.units.named_units(self.removed))

    def hold(self) -> None:
        """Set everything that belongs to removed units to zero."""
        self._held.hold()
