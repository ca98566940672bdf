"""Weights that oscillate between two values of their grid: frozen, or dampened (Nagel et al., arXiv 2203.11086).

Under a straight-through gradient a weight near the middle between two values jumps from one to the other and back, and
what other layers learn to expect is never there. Both remedies act in the last stage of a run only, where steps and
bit-widths no longer change what a code means.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import nn

from compression.quant.fixed_steps import FixedQuantizer
from compression.quant.integers import quantizer_of
from compression.quant.midrise import MidriseQuantizer
from compression.quant.quantizer import Quantizer, levels

Remedy = Literal["none", "dampen", "freeze"]
MOMENTUM = 0.01  # of the frequency of oscillations and of the average code
THRESHOLDS = (0.1, 0.01)  # a weight is frozen above this frequency: at the first step, at the last
DAMPING = 0.1  # weight of the distance from the grid at the last step


def threshold(progress: float) -> float:
    """The frequency above which weights are frozen, after the share ``progress`` of the stage: falls by a cosine."""
    first, last = THRESHOLDS
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * progress))


def damping(progress: float) -> float:
    """The weight λ of the distance from the grid, after the share ``progress`` of the stage: rises by a cosine."""
    return DAMPING * 0.5 * (1 - math.cos(math.pi * progress))


class Oscillation:
    """What is done about oscillating weights in the steps ``first`` up to ``last`` (not included).

    ``dampen`` adds the gradient of ``λ Σ (Q(w) - clip(w))²``, with Q(w) a constant, to that of the weights alone
    (section 4.1). ``freeze`` counts for every weight o = 1 where its code moves against its last move, averages
    ``f ← 0.99 f + 0.01 o``, and once f exceeds the threshold holds the weight at the rounded average of its codes times
    the present step, whatever momentum and decay do (section 4.2). Its state is that of this object.
    """

    def __init__(self, model: nn.Module, remedy: Remedy, first: int, last: int) -> None:
        self.remedy, self.first, self.last = remedy, first, last
        self._weights: list[torch.Tensor] = []
        self._quantizers: list[Quantizer | FixedQuantizer | MidriseQuantizer] = []
        for module in model.modules():
            quantizer = quantizer_of(module)
            learned = isinstance(quantizer, Quantizer) and quantizer.exponent is None
            others = isinstance(quantizer, (FixedQuantizer, MidriseQuantizer))
            if (learned or others) and quantizer not in self._quantizers:
                self._quantizers.append(quantizer)  # type: ignore[arg-type]
                self._weights.append(module.get_parameter("parametrizations.weight.original"))
        self._levels: list[float] = []
        self._codes: list[torch.Tensor] = []  # after the last step; of frozen weights the code they are held at
        self._moves: list[torch.Tensor] = []  # sign of the last change of the code, 0 before the first
        self._frequencies: list[torch.Tensor] = []
        self._averages: list[torch.Tensor] = []
        self._frozen: list[torch.Tensor] = []  # 1 where frozen, else 0

    def before_update(self, step: int) -> None:
        """The gradients of ``step`` are complete: dampen, or keep those of frozen weights out of the optimizer."""
        if step <= self.first or not self._weights:
            return
        weights = [weight for weight in self._weights if weight.grad is not None]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if self.remedy == "dampen":
            distances = [g for g, w in zip(self._distances(), self._weights, strict=True) if w.grad is not None]
            torch._foreach_add_(gradients, distances, alpha=2 * damping(self._progress(step)))
        elif self._frozen:
            frozen = [f for f, weight in zip(self._frozen, self._weights, strict=True) if weight.grad is not None]
            torch._foreach_mul_(gradients, torch._foreach_add(torch._foreach_neg(frozen), 1.0))

    @torch.no_grad()
    def after_update(self, step: int) -> None:
        """The weights have changed: count their oscillations, and freeze."""
        if self.remedy != "freeze" or step < self.first or not self._weights:
            return
        steps = self._steps()
        codes = self._present_codes(steps)
        if not self._codes:
            self._begin(codes)
            return
        # 1. o = 1 where a code moves against its last move, and its running frequency f
        moves = torch._foreach_sub(codes, self._codes)
        torch._foreach_sign_(moves)
        turns = torch._foreach_neg(torch._foreach_mul(moves, self._moves))
        torch._foreach_clamp_min_(turns, 0.0)
        torch._foreach_lerp_(self._frequencies, turns, MOMENTUM)
        torch._foreach_lerp_(self._moves, moves, torch._foreach_abs(moves))
        # 2. The running average of the codes, which is rounded where f exceeds the threshold
        torch._foreach_lerp_(self._averages, codes, MOMENTUM)
        above = torch._foreach_sub(self._frequencies, threshold(self._progress(step)))
        torch._foreach_sign_(above)
        torch._foreach_clamp_min_(above, 0.0)
        torch._foreach_maximum_(self._frozen, above)
        torch._foreach_lerp_(self._averages, self._rounded_averages(codes), self._frozen)
        # 3. Frozen weights are that code times the present step
        torch._foreach_lerp_(codes, self._averages, self._frozen)
        self._codes = codes
        torch._foreach_lerp_(self._weights, torch._foreach_mul(self._averages, steps), self._frozen)

    @property
    def frozen(self) -> int:
        """How many weights are frozen."""
        return sum(int(each.sum()) for each in self._frozen)

    def __str__(self) -> str:
        """What was done, for a log."""
        weights = sum(weight.numel() for weight in self._weights)
        if self.remedy == "dampen":
            return f"oscillation: {weights} weights were pulled towards their values"
        return f"oscillation: {self.frozen} of {weights} weights are frozen"

    def state_dict(self) -> dict[str, Any]:
        """What was counted so far; empty lists before the stage."""
        return {
            "codes": list(self._codes),
            "moves": list(self._moves),
            "frequencies": list(self._frequencies),
            "averages": list(self._averages),
            "frozen": list(self._frozen),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        if state_dict["codes"]:
            self._begin([weight.detach() for weight in self._weights])
            for name, tensors in self.state_dict().items():
                torch._foreach_copy_(tensors, list(state_dict[name]))

    def _begin(self, codes: list[torch.Tensor]) -> None:
        self._codes = [code.clone() for code in codes]
        self._averages = [code.clone() for code in codes]
        self._moves, self._frequencies, self._frozen = ([torch.zeros_like(c) for c in codes] for _ in range(3))

    def _progress(self, step: int) -> float:
        """The share of the stage before ``step``, up to 1 at its last step."""
        return (step - self.first) / max(1, self.last - 1 - self.first)

    def _steps(self) -> list[torch.Tensor]:
        """The present d of every weight: one number, or one for each channel, detached."""
        return [q.steps().detach() if isinstance(q, Quantizer) else q.step_size.detach() for q in self._quantizers]

    def _present_codes(self, steps: list[torch.Tensor]) -> list[torch.Tensor]:
        """clamp(round(w / d), -n, n), in fp32; where no weight may be rounded to 0, ±1 instead.

        On a grid without zero they are ±(k - 1/2), the multiples of d that its values are, and 0 for weights of 0.
        """
        if not self._levels:  # bit-widths are final: read once
            self._levels = [
                float(levels(round(q.bits()))) + isinstance(q, MidriseQuantizer) / 2 for q in self._quantizers
            ]
        codes = list(torch._foreach_div([weight.detach() for weight in self._weights], steps))
        halves = [codes[index].floor().add_(0.5) for index in self._midrise()]
        torch._foreach_round_(codes)
        for index, half in zip(self._midrise(), halves, strict=True):
            codes[index] = torch.where(self._weights[index] == 0, 0.0, half)
        torch._foreach_clamp_max_(codes, self._levels)
        torch._foreach_clamp_min_(codes, [-level for level in self._levels])
        for index in self._without_zero():
            codes[index] = torch.where(codes[index] == 0, self._weights[index].sign(), codes[index])
        return codes

    def _rounded_averages(self, codes: list[torch.Tensor]) -> list[torch.Tensor]:
        """The codes at which weights are frozen; one that may not be 0 stays at its present code instead."""
        rounded = list(torch._foreach_round(self._averages))
        for index in self._without_zero():
            rounded[index] = torch.where(rounded[index] == 0, codes[index], rounded[index])
        for index in self._midrise():
            rounded[index] = torch.where(codes[index] == 0, 0.0, self._averages[index].floor().add_(0.5))
        return rounded

    def _without_zero(self) -> list[int]:
        """The weights whose code is 0 only where they are pruned."""
        return [i for i, q in enumerate(self._quantizers) if isinstance(q, FixedQuantizer) and q.lowest > 0]

    def _midrise(self) -> list[int]:
        """The weights whose values are odd multiples of half a step."""
        return [i for i, q in enumerate(self._quantizers) if isinstance(q, MidriseQuantizer)]

    @torch.no_grad()
    def _distances(self) -> list[torch.Tensor]:
        """clip(w) - Q(w): half the gradient of its square with respect to w, 0 where w is clipped."""
        steps = self._steps()
        nearest = torch._foreach_mul(self._present_codes(steps), steps)
        tops = torch._foreach_mul(steps, self._levels)
        clipped = torch._foreach_minimum([weight.detach() for weight in self._weights], tops)
        clipped = torch._foreach_maximum(clipped, torch._foreach_neg(tops))
        return list(torch._foreach_sub(clipped, nearest))
