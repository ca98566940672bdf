"""Removing units by group magnitude, in a few rounds, and keeping what is removed at zero."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from compression.graph import Graph
from compression.graph.names import parameter_map
from compression.pruning.choose import Limits, choose_units, target_units
from compression.pruning.saliency import unit_sums
from compression.pruning.units import Units

NORMS = ("none", "group")


class Removal:
    """Takes exactly K = ⌊sparsity · N⌋ units away, those of least magnitude first.

    A unit's magnitude is the root mean square of all its numbers, compared over the whole network; with ``norm``
    ``group`` each is divided by its group's mean, so that groups of small weights are not emptied first. Bounds of
    single groups hold as they do in GETA.

    Raises:
        CompressionError: bounds that no choice of K units satisfies, or a graph of another model.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        sparsity: float,
        bounds: Mapping[str, tuple[float, float]],
        norm: str = "none",
    ) -> None:
        self._model, self._graph, self._norm = model, graph, norm
        self._units = Units(model, graph)
        self._limits = Limits.of(self._units.sources, bounds)
        self.total, self.target = self._units.total, target_units(sparsity, self._units.total)
        self._limits.check(self.target)
        self.removed = torch.zeros(self.total, dtype=torch.bool)
        self._masks: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def removed_units(self) -> dict[str, list[int]]:
        """Group id → the units that are gone."""
        chosen = torch.nonzero(self.removed).flatten().tolist()
        return {self._units[index].id: local.tolist() for index, local in self._units.split(chosen).items()}

    @torch.no_grad()
    def prune(self, rounds_done: int, rounds: int) -> int:
        """Carry out one of ``rounds`` equal rounds; returns how many units went."""
        due = self.target * rounds_done // rounds - int(self.removed.sum())
        if due <= 0:
            return 0
        chosen = choose_units(self.magnitudes(), self._units.group_of, self.removed, self._limits, self.target, due)
        self.removed[chosen] = True
        self.bind()
        self.hold()
        return len(chosen)

    def magnitudes(self) -> torch.Tensor:
        """The present magnitude of every unit, fp32 [N], in the order of the graph's prunable groups."""
        sums = unit_sums(self._units, {})
        sizes = (sums.xx / sums.variables).sqrt().cpu()
        if self._norm == "none":
            return sizes
        parts = sizes.split([group.units for group in self._units])
        return torch.cat([part / part.mean().clamp(min=1e-12) for part in parts])

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Which units are gone."""
        return {"removed": self.removed}

    def load_state_dict(self, state_dict: dict[str, torch.Tensor]) -> None:
        """Take over which units are gone; the model's own state is loaded apart from it."""
        self.removed = state_dict["removed"].clone()
        self.bind()

    def bind(self) -> None:
        """Look the parameters up anew; needed when quantizers have been put on them."""
        tensors = parameter_map(self._model)
        self._masks = []
        for group_id, units in self.removed_units.items():
            for member in self._graph.group(group_id).zeroed_members:
                tensor = tensors[member.name]
                shape = [1] * tensor.dim()
                shape[member.dim] = tensor.shape[member.dim]
                mask = torch.ones(shape, dtype=tensor.dtype, device=tensor.device)
                where = member.positions[units].flatten().to(tensor.device)
                self._masks.append((tensor, mask.index_fill_(member.dim, where, 0.0)))

    @torch.no_grad()
    def hold(self) -> None:
        """Set everything that belongs to removed units to zero."""
        if self._masks:
            torch._foreach_mul_([tensor.detach() for tensor, _ in self._masks], [mask for _, mask in self._masks])
