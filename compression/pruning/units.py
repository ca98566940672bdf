"""The units that are chosen from: the slices of parameters that are zero when a unit is removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph.names import parameter_map
from compression.graph.types import Graph, Group
from compression.quant.integers import WeightQuantizer, weight_quantizers


@dataclass(frozen=True, eq=False)
class Slice:
    """The part of one parameter that belongs to a group: ``positions`` int64 [units, k] along ``dim``.

    ``quantizer`` is the one on this parameter, if any, and ``layer`` the name of the layer it belongs to.
    """

    parameter: nn.Parameter
    dim: int
    positions: torch.Tensor
    quantizer: WeightQuantizer | None
    layer: str

    def indices(self, units: torch.Tensor) -> torch.Tensor:
        """Positions along ``dim`` of these units, int64 [len(units) · k]."""
        return self.positions[units].flatten()


@dataclass(frozen=True, eq=False)
class UnitGroup:
    """A prunable group as an optimizer sees it: producer and norm slices only, ``first`` its offset among all units.

    ``variables``: how many numbers one unit has.
    """

    id: str
    units: int
    first: int
    variables: int
    slices: tuple[Slice, ...]


class Units(Sequence[UnitGroup]):
    """All prunable groups of a model, and the numbering of their N units one after the other."""

    def __init__(self, model: nn.Module, graph: Graph) -> None:
        """Bind the graph's prunable groups to the model's parameters.

        Raises:
            CompressionError: the graph belongs to another model, or a parameter to be removed is frozen.
        """
        parameters = parameter_map(model)
        quantizers = {f"{layer}.weight": each for layer, each in weight_quantizers(model).items()}
        self.sources: tuple[Group, ...] = graph.prunable
        groups: list[UnitGroup] = []
        self.total = 0
        for source in self.sources:
            slices = tuple(_slices(source, parameters, quantizers))
            variables = sum(member.numel for member in source.zeroed_members)
            groups.append(UnitGroup(source.id, source.units, self.total, variables, slices))
            self.total += source.units
        self._groups = tuple(groups)
        self.group_of = [index for index, group in enumerate(groups) for _ in range(group.units)]
        self.named = [(group.id, unit) for group in groups for unit in range(group.units)]

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._groups[index]

    def split(self, chosen: Sequence[int]) -> dict[int, torch.Tensor]:
        """Global unit numbers → group index → unit numbers within that group, int64 and sorted."""
        by_group: dict[int, list[int]] = {}
        for unit in sorted(chosen):
            index = self.group_of[unit]
            by_group.setdefault(index, []).append(unit - self._groups[index].first)
        return {index: torch.tensor(local) for index, local in by_group.items()}

    def named_units(self, removed: torch.Tensor) -> dict[str, list[int]]:
        """Group id → the unit numbers in it that ``removed`` (bool [N]) marks."""
        return self.named_numbers(torch.nonzero(removed).flatten().tolist())

    def named_numbers(self, chosen: Sequence[int]) -> dict[str, list[int]]:
        """Group id → the unit numbers in it of these global ones."""
        return {self._groups[index].id: local.tolist() for index, local in self.split(chosen).items()}

    def facts(self, removed: torch.Tensor) -> dict[str, Any]:
        """What a result stores of the removed units: JSON values."""
        return {"units": self.total, "removed": int(removed.sum()), "removed_units": self.named_units(removed)}


def _slices(
    group: Group, parameters: Mapping[str, torch.Tensor], quantizers: Mapping[str, WeightQuantizer]
) -> Iterator[Slice]:
    for member in group.zeroed_members:
        parameter = parameters.get(member.name)
        if not isinstance(parameter, nn.Parameter):
            raise CompressionError(f"the graph's parameter {member.name!r} is not in the model: trace this model again")
        if not parameter.requires_grad:
            raise CompressionError(
                f"parameter {member.name!r} is frozen but belongs to the prunable group {group.id!r}: "
                f"trace with frozen=[{member.name!r}]"
            )
        positions = member.positions.to(parameter.device)
        yield Slice(parameter, member.dim, positions, quantizers.get(member.name), member.name.rpartition(".")[0])
