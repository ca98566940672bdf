"""All quantizers of a model as vectors: their trial step, projecting d into its bounds, whole bits at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compression.bounds import check_bits
from compression.errors import CompressionError
from compression.methods.geta.joint import LARGEST, LEARNED
from compression.quant.attach import activation_quantizers
from compression.quant.integers import weight_quantizers
from compression.quant.kernels import SMALLEST
from compression.quant.quantizer import Quantizer, bit_width

BitRange = tuple[float, float]

LARGEST_CHANGE = 0.1
"""One update changes a quantizer's scalar by at most this share of it, so that d, q_m and t stay positive and calm."""


@dataclass(frozen=True, eq=False)
class Site:
    """One quantizer and where it sits: ``kind`` is ``weight`` or ``activation``; ``bits`` its final range."""

    layer: str
    kind: str
    quantizer: Quantizer
    bits: BitRange


def sites(
    model: nn.Module,
    weight_bits: BitRange,
    activation_bits: BitRange,
    layer_bits: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Site, ...]:
    """Every learnable quantizer of the model with its final bit range; ``layer_bits`` as ``layers`` in a budget.

    Raises:
        CompressionError: an impossible range, an unknown layer, or a range for a quantizer that is not there.
    """
    present = {
        ("weight", name): quantizer
        for name, quantizer in weight_quantizers(model).items()
        if isinstance(quantizer, Quantizer)
    }
    present |= {("activation", name): quantizer for name, quantizer in activation_quantizers(model).items()}
    ranges = {"weight": weight_bits, "activation": activation_bits}
    own = {key: ranges[key[0]] for key in present}
    for layer, bounds in (layer_bits or {}).items():
        for kind in ranges:
            if bounds.get(f"{kind}_bits") is None:
                continue
            if (kind, layer) not in own:
                names = [name for which, name in own if which == kind]
                raise CompressionError(
                    f"layers.{layer}.{kind}_bits: no {kind} quantizer there, but on: {', '.join(names) or 'no layer'}"
                )
            own[kind, layer] = tuple(bounds[f"{kind}_bits"])
    for (kind, layer), value in own.items():
        check_bits(value, f"{kind} bits of {layer}")
    return tuple(Site(layer, kind, quantizer, own[kind, layer]) for (kind, layer), quantizer in present.items())


class BitBounds:
    """Keeps every quantizer within its bit bounds by projecting only its step d (partially projected gradient).

    ``start_bits`` is the upper bound from which each site's bound falls to its own final one. fp64 vectors, one entry
    a site. Of a quantizer with a bound for each channel, d is the step in units of these bounds, and 1 stands for
    ``q_m ** t``: what keeps this one number within its limits keeps every channel's step within its own.
    """

    def __init__(self, found: Sequence[Site], start_bits: float) -> None:
        for site in found:
            if site.bits[1] > start_bits:
                raise CompressionError(
                    f"{site.kind} bits of {site.layer}: {site.bits[1]:g} is above start_bits {start_bits:g}"
                )
        self.sites = tuple(found)
        self.start_bits = float(start_bits)
        self.low = torch.tensor([float(site.bits[0]) for site in found], dtype=torch.float64)
        self.high = torch.tensor([float(site.bits[1]) for site in found], dtype=torch.float64)
        self.whole_bits: torch.Tensor | None = None
        self._steps = [site.quantizer.step_size for site in found]
        self._clips = [site.quantizer.clip for site in found]
        self._exponents = [site.quantizer.exponent for site in found]
        one = torch.ones(())
        self._bounds = [one if site.quantizer.per_channel else site.quantizer.clip for site in found]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Steps, bounds and exponents of every site, in this order; each once where layers share a quantizer."""
        exponents = [exponent for exponent in self._exponents if exponent is not None]
        return list(dict.fromkeys([*self._steps, *self._clips, *exponents]))

    def upper(self, progress: float) -> torch.Tensor:
        """The upper bit bounds after a share ``progress`` (0..1) of the reductions."""
        return self.start_bits - (self.start_bits - self.high) * progress

    def steps(self) -> torch.Tensor:
        """The present d of every site."""
        return _stacked(self._steps)

    def tops(self) -> torch.Tensor:
        """``q_m ** t`` of every site, or the 1 that stands for it."""
        clips = _stacked(self._bounds).clamp(min=SMALLEST)
        if all(exponent is None for exponent in self._exponents):
            return clips
        return clips ** _stacked([torch.ones(()) if exponent is None else exponent for exponent in self._exponents])

    def write(self, steps: torch.Tensor) -> None:
        """Set d of every site."""
        if self._steps:
            with torch.no_grad():
                torch._foreach_copy_([*self._steps], list(steps.to(torch.float32).unbind()))

    def range(self, progress: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(smallest, largest) d that the present bounds allow."""
        tops = self.tops()
        return tops / (2 ** (self.upper(progress) - 1) - 1), tops / (2 ** (self.low - 1) - 1)

    def preferred(self, rule: str, progress: float) -> torch.Tensor:
        """The d that each site would take by one of :data:`.joint.STEP_RULES` after a share of the joint stage."""
        if rule == LEARNED:
            return self.steps()
        bits = self.low if rule == LARGEST else self.high - (self.high - self.low) * progress
        return self.tops() / (2 ** (bits - 1) - 1)

    def project(self, progress: float) -> None:
        """Clamp every d into the present bounds; q_m and t stay free (partially projected gradient, section 4.2)."""
        if self._steps:
            lowest, highest = self.range(progress)
            self.write(torch.minimum(torch.maximum(self.steps(), lowest), highest))

    def settle(self) -> None:
        """Choose the whole bit-width nearest to the present one, inside each site's range."""
        if not self._steps:
            return
        present = bit_width(self.steps(), self.tops())
        lowest = torch.tensor([math.ceil(site.bits[0]) for site in self.sites], dtype=torch.float64)
        highest = torch.tensor([math.floor(site.bits[1]) for site in self.sites], dtype=torch.float64)
        self.whole_bits = torch.minimum(torch.maximum(present.round(), lowest), highest)

    def hold(self) -> None:
        """Recompute every d from the settled bit-width and the present q_m and t."""
        if self.whole_bits is not None:
            self.write(self.tops() / (2 ** (self.whole_bits - 1) - 1))


def calm_step(scalars: Sequence[nn.Parameter], directions: Sequence[torch.Tensor], lr: float) -> None:
    """``p <- p - lr h`` on scalars and channels' bounds, each change limited to :data:`LARGEST_CHANGE` of the value."""
    with torch.no_grad():
        values = torch.cat([scalar.reshape(-1) for scalar in scalars])
        limit = values.abs() * LARGEST_CHANGE
        change = (torch.cat([direction.reshape(-1) for direction in directions]) * lr).clamp(-limit, limit)
        new = (values - change).clamp(min=SMALLEST).split([scalar.numel() for scalar in scalars])
        shaped = [part.view(scalar.shape) for part, scalar in zip(new, scalars, strict=True)]
        torch._foreach_copy_([*scalars], shaped)


def _stacked(scalars: Sequence[torch.Tensor]) -> torch.Tensor:
    if not scalars:
        return torch.zeros(0, dtype=torch.float64)
    with torch.no_grad():
        return torch.stack(list(scalars)).double().cpu()
