"""All quantizers of a model as vectors: their update, the projection of d onto the bit bounds, whole bits at the end.

The projection is GETA's partially projected gradient (arXiv 2502.16638, section 4.2): of the scalars d, q_m and t only
the step d is projected. Equation numbers (eq. G…) are those of ``docs/derivations/geta-joint-step.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compression import devices
from compression.bounds import check_bits
from compression.errors import CompressionError
from compression.methods.geta.joint import LARGEST, LEARNED
from compression.quant.attach import activation_quantizers
from compression.quant.integers import weight_quantizers
from compression.quant.kernels import SMALLEST
from compression.quant.quantizer import Quantizer, bit_width

BitRange = tuple[float, float]

LARGEST_CHANGE = 0.1
"""Largest relative change of a quantizer's scalar in one update, so that d, q_m and t stay positive."""
_EQUAL = 1e-6  # relative: d is stored in fp32, its bounds are computed in fp64


@dataclass(frozen=True, eq=False)
class Site:
    """One quantizer of a layer: ``kind`` is ``weight`` or ``activation``; ``bits`` is its final bit range."""

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
    """Return every learnable quantizer of the model with its final bit range; ``layer_bits`` as ``layers`` in a budget.

    Raises:
        CompressionError: an impossible range, an unknown layer, a range for a quantizer that does not exist, or a
            weight whose quantizer has no range to learn.
    """
    present: dict[tuple[str, str], Quantizer] = {}
    for name, quantizer in weight_quantizers(model).items():
        if not isinstance(quantizer, Quantizer):
            kind = type(quantizer).__name__
            raise CompressionError(f"layer {name!r} carries a {kind}; bits are learned by learnable quantizers only")
        present["weight", name] = quantizer
    present |= {("activation", name): quantizer for name, quantizer in activation_quantizers(model).items()}
    ranges = {"weight": weight_bits, "activation": activation_bits}
    final = {key: ranges[key[0]] for key in present}
    for layer, bounds in (layer_bits or {}).items():
        for kind in ranges:
            if bounds.get(f"{kind}_bits") is None:
                continue
            if (kind, layer) not in final:
                names = [name for which, name in final if which == kind]
                raise CompressionError(
                    f"layers.{layer}.{kind}_bits: no {kind} quantizer there, but on: {', '.join(names) or 'no layer'}"
                )
            final[kind, layer] = tuple(bounds[f"{kind}_bits"])
    for (kind, layer), value in final.items():
        check_bits(value, f"{kind} bits of {layer}")
    return tuple(Site(layer, kind, quantizer, final[kind, layer]) for (kind, layer), quantizer in present.items())


class BitBounds:
    """Holds every quantizer to its bit bounds b_l..b_u by projecting only its step d (section 4.2, eq. G3).

    ``start_bits`` is the b_u at which each site starts; it falls to the site's final bound, with ``both_fall`` b_l too,
    so that no layer has its final bits before the last reduction. All vectors have one entry a site, in fp64
    (:func:`compression.devices.exact_dtype`), and are where the quantizers are. For a quantizer with one clipping bound
    a channel, d is the step in units of these bounds and 1 takes the place of ``q_m ** t``: bounds on this one number
    bound the step of every channel.
    """

    def __init__(
        self, sites: Sequence[Site], start_bits: float, both_fall: bool = False, device: torch.device | None = None
    ) -> None:
        """``device``: of the network, where there may be no quantizer."""
        for site in sites:
            if site.bits[1] > start_bits:
                raise CompressionError(
                    f"{site.kind} bits of {site.layer}: {site.bits[1]:g} is above start_bits {start_bits:g}"
                )
        self.sites = tuple(sites)
        self.start_bits, self.both_fall = float(start_bits), both_fall
        self.device = sites[0].quantizer.step_size.device if sites else device or torch.device(devices.CPU)
        self.low = self.vector([float(site.bits[0]) for site in sites])
        self.high = self.vector([float(site.bits[1]) for site in sites])
        self.falls_to = self.high  # where b_u's reductions end; after them it is the final one
        self.whole_bits: torch.Tensor | None = None
        self._steps = [site.quantizer.step_size for site in sites]
        self._clips = [site.quantizer.clip for site in sites]
        self._exponents = [site.quantizer.exponent for site in sites]
        first = {site.quantizer: index for index, site in reversed([*enumerate(sites)])}
        self._tieable = sorted(index for quantizer, index in first.items() if not quantizer.per_channel)
        self._one = torch.ones((), device=self.device)
        self._bounds = [self._one if site.quantizer.per_channel else site.quantizer.clip for site in sites]
        self._signs = self.vector([float(not site.quantizer.is_unsigned) for site in sites])
        self._selected: tuple[list[int], torch.Tensor] = ([], torch.zeros(0, dtype=torch.int64, device=self.device))

    def vector(self, numbers: Sequence[float]) -> torch.Tensor:
        """Numbers where the quantizers are, in the type of all vectors."""
        return torch.tensor(numbers, dtype=devices.exact_dtype(self.device)).to(self.device)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Steps, clipping bounds and exponents of all sites, in this order; those of a shared quantizer once."""
        exponents = [exponent for exponent in self._exponents if exponent is not None]
        return list(dict.fromkeys([*self._steps, *self._clips, *exponents]))

    def upper(self, progress: float | torch.Tensor) -> torch.Tensor:
        """The upper bit bounds b_u after the share ``progress`` (0..1) of the reductions (eq. G4)."""
        if self.falls_to is self.high:
            return self.start_bits - (self.start_bits - self.high) * progress
        done = torch.as_tensor(progress) >= 1
        return torch.where(done, self.high, self.start_bits - (self.start_bits - self.falls_to) * progress)

    def lower(self, progress: float | torch.Tensor) -> torch.Tensor:
        """The lower bit bounds b_l: the final ones, or at the same share of the way as b_u."""
        return self.start_bits - (self.start_bits - self.low) * progress if self.both_fall else self.low

    def steps(self) -> torch.Tensor:
        """The present d of every site."""
        return self._stacked(self._steps)

    def bits(self) -> torch.Tensor:
        """The present bit-width of every site (eq. G2)."""
        return bit_width(self.steps(), self.tops()) + self._signs - 1

    def slopes(self) -> torch.Tensor:
        """dL/dd of every site; 0 where it has none."""
        return self._stacked([step.new_zeros(()) if step.grad is None else step.grad for step in self._steps])

    def tops(self) -> torch.Tensor:
        """``q_m ** t`` of every site; 1 for a site with one clipping bound a channel."""
        clips = self._stacked(self._bounds).clamp(min=SMALLEST)
        if all(exponent is None for exponent in self._exponents):
            return clips
        return clips ** self._stacked([self._one if exponent is None else exponent for exponent in self._exponents])

    def write(self, steps: torch.Tensor) -> None:
        """Set d of every site."""
        if self._steps:
            with torch.no_grad():
                torch._foreach_copy_([*self._steps], list(steps.to(torch.float32).unbind()))

    def range(self, progress: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(smallest, largest) d that the present bounds allow: eq. G2 solved for d at b_u and at b_l."""
        return self._steps_at(self.upper(progress)), self._steps_at(self.lower(progress))

    def _steps_at(self, bits: torch.Tensor) -> torch.Tensor:
        """d at these bit-widths (eq. G2); an unsigned quantizer spends no bit on the sign."""
        return self.tops() / (2 ** (bits - self._signs) - 1)

    def preferred(self, rule: str, progress: float) -> torch.Tensor:
        """The d of each site by one of :data:`.joint.STEP_RULES`, at the share ``progress`` of the joint stage."""
        if rule == LEARNED:
            return self.steps()
        bits = self.low if rule == LARGEST else self.high - (self.high - self.low) * progress
        return self._steps_at(bits)

    def project(self, progress: float | torch.Tensor) -> None:
        """Clamp every d into the present bounds; q_m and t are not changed (section 4.2, eq. G3)."""
        if self._steps:
            lowest, highest = self.range(progress)
            self.write(torch.minimum(torch.maximum(self.steps(), lowest), highest))

    @torch.no_grad()
    def tie(self, progress: float | torch.Tensor, all_held: bool = False) -> None:
        """Add to the gradients of q_m and t what comes through a d that is not free, d = kappa q_m^t (eq. G13).

        d is not free once bit-widths are whole, nor where a bound of ``progress`` (see :meth:`project`) holds it and
        its gradient pushes it outwards. ``dL/dq_m += t d / q_m dL/dd`` and ``dL/dt += d ln(q_m) dL/dd``; with t = 1
        this is LSQ's gradient of the range. ``all_held``: d follows q_m everywhere, as bits are learnt.
        Steps of channels are functions of q_m already.
        """
        indices = [i for i in self._tieable if self._steps[i].grad is not None and self._clips[i].grad is not None]
        if not indices:
            return
        if indices != self._selected[0]:
            self._selected = (indices, torch.tensor(indices).to(self.device))
        select = self._selected[1]
        d, slope = self.steps()[select], self._stacked([_gradient(self._steps[i]) for i in indices])
        lowest, highest = (bound[select] for bound in self.range(progress))
        held = torch.where(slope > 0, d <= lowest * (1 + _EQUAL), d >= highest * (1 - _EQUAL))
        if self.whole_bits is not None or all_held:
            held = torch.ones_like(held)
        through = torch.where(held, slope * d, 0.0)
        clips = [self._clips[i] for i in indices]
        exponents = [self._exponents[i] for i in indices]
        powers = self._stacked([self._one if t is None else t for t in exponents])
        tops = self._stacked(clips).clamp(min=SMALLEST)
        _add([_gradient(clip) for clip in clips], (through * powers / tops).unbind())
        learned = [
            (t, value)
            for t, value in zip(exponents, (through * tops.log()).unbind(), strict=True)
            if t is not None and t.grad is not None
        ]
        _add([_gradient(t) for t, _ in learned], [value for _, value in learned])

    def round_bits(self) -> None:
        """Choose b*, the whole bit-width nearest to the present one inside each site's range (eq. G12)."""
        if not self._steps:
            return
        present = self.bits()
        lowest = self.vector([math.ceil(site.bits[0]) for site in self.sites])
        highest = self.vector([math.floor(site.bits[1]) for site in self.sites])
        self.whole_bits = torch.minimum(torch.maximum(present.round(), lowest), highest)

    def freeze_bits(self) -> None:
        """Recompute every d from b* and the present q_m and t, so that the bit-width stays b* (eq. G12)."""
        if self.whole_bits is not None:
            self.write(self._steps_at(self.whole_bits))

    @torch.no_grad()
    def _stacked(self, scalars: Sequence[torch.Tensor]) -> torch.Tensor:
        if not scalars:
            return self.vector([])
        return torch.stack(list(scalars)).to(self.low.dtype)


def clipped_step(scalars: Sequence[nn.Parameter], directions: Sequence[torch.Tensor], lr: float) -> None:
    """``p <- p - lr h`` on quantizers' scalars, each change clipped to :data:`LARGEST_CHANGE` times its value."""
    with torch.no_grad():
        values = torch.cat([scalar.reshape(-1) for scalar in scalars])
        limit = values.abs() * LARGEST_CHANGE
        change = (torch.cat([direction.reshape(-1) for direction in directions]) * lr).clamp(-limit, limit)
        new = (values - change).clamp(min=SMALLEST).split([scalar.numel() for scalar in scalars])
        shaped = [part.view(scalar.shape) for part, scalar in zip(new, scalars, strict=True)]
        torch._foreach_copy_([*scalars], shaped)


def _gradient(scalar: torch.Tensor) -> torch.Tensor:
    assert scalar.grad is not None
    return scalar.grad


def _add(gradients: list[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    if gradients:
        torch._foreach_add_(gradients, [value.to(g) for value, g in zip(values, gradients, strict=True)])
