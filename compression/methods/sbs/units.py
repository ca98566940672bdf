"""Units behind gates: closed ones are zero in the network, and what they were is kept, so that they may come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from compression.pruning.saliency import unit_sums
from compression.pruning.units import Units

Masks = dict[nn.Parameter, torch.Tensor]


class GatedUnits:
    """ŵ = g w for everything that belongs to a unit, g in {0, 1}; a step is taken on w, with dL/dw = g dL/dŵ.

    Between steps the parameters hold ŵ, so that whatever is measured then is the network with its gates;
    :meth:`uncover` brings w back for the update, :meth:`cover` puts ŵ in its place.
    """

    def __init__(self, units: Units) -> None:
        self.units = units
        self.closed = torch.zeros(units.total, dtype=torch.bool)
        self._raw: dict[nn.Parameter, torch.Tensor] = {}
        self._masks: Masks = {}
        self._parameters = list(dict.fromkeys(piece.parameter for group in units for piece in group.slices))

    @torch.no_grad()
    def metrics(self) -> torch.Tensor:
        """A [N]: mean abs(w) of each unit, over that of its group's units, so that 1 is usual (eq. S6); of w itself.

        Of its weights alone, as published for filters; of all its numbers where it has no weights.
        """
        parts = []
        for group in self.units:
            weights = [piece for piece in group.slices if piece.parameter.dim() > 1]
            total: torch.Tensor | None = None
            for piece in weights or group.slices:
                x = piece.parameter.detach().abs().float()
                others = [dim for dim in range(x.dim()) if dim != piece.dim]
                own = (x.sum(others) if others else x)[piece.positions].sum(1)
                total = own if total is None else total + own
            assert total is not None, f"group {group.id} has no variables"
            parts.append(total / total.mean().clamp(min=1e-12))
        return torch.cat(parts) if parts else torch.zeros(0)

    @torch.no_grad()
    def slopes(self) -> torch.Tensor:
        """dL/dg [N] = Σ w dL/dŵ over everything that belongs to a unit, straight through its quantizers."""
        if not self.closed.numel():
            return torch.zeros(0)
        gradients = {each: each.grad for each in self._parameters if each.grad is not None}
        return unit_sums(self.units, gradients).xh

    @torch.no_grad()
    def uncover(self) -> None:
        """Put w into the network, to be updated."""
        for parameter, raw in self._raw.items():
            parameter.copy_(raw)

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """dL/dw = g dL/dŵ."""
        for parameter, mask in self._masks.items():
            if parameter.grad is not None:
                parameter.grad.mul_(mask)

    @torch.no_grad()
    def cover(self) -> None:
        """Keep w, and put ŵ into the network."""
        for parameter, mask in self._masks.items():
            self._raw[parameter] = parameter.detach().clone()
            parameter.mul_(mask)

    def close(self, units: Sequence[int]) -> None:
        """Exactly these units are closed from the next :meth:`cover` on; called while the network holds w."""
        self.closed = torch.zeros_like(self.closed)
        self.closed[list(units)] = True
        self._raw = {}
        self._masks = self._made()

    def _made(self) -> Masks:
        masks: Masks = {}
        for index, local in self.units.split(torch.nonzero(self.closed).flatten().tolist()).items():
            for piece in self.units[index].slices:
                mask = masks.setdefault(piece.parameter, torch.ones_like(piece.parameter, requires_grad=False))
                mask.index_fill_(piece.dim, piece.indices(local.to(piece.positions.device)), 0.0)
        return masks

    def state_dict(self) -> dict[str, Any]:
        """Which units are closed, and w where any is."""
        return {"closed": self.closed, "raw": [self._raw.get(each) for each in self._parameters]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; the network, which holds ŵ, is loaded apart from it."""
        self.closed = state["closed"].clone()
        self._masks = self._made()
        pairs = zip(self._parameters, state["raw"], strict=True)
        self._raw = {each: raw.to(each, copy=True) for each, raw in pairs if raw is not None}
