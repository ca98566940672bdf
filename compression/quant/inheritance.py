"""Bit inheritance: training at fewer bits starts from the weights and steps that were trained at more (OQAT).

Of a grid k·s, abs(k) <= 2^(b-1) - 1, one bit less keeps every second value: s_(b-1) = 2 s_b (Shen et al., arXiv
2010.04354). Within the range that both have, a weight of even code stays where it is, and one of odd code moves by s_b.
Levels that leave zero out, ±(k - 1/2)Δ, and those that begin at an offset merge in pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from compression.bounds import HIGHEST_BITS
from compression.errors import CompressionError
from compression.quant.attach import activation_quantizers
from compression.quant.fixed_steps import FixedQuantizer
from compression.quant.integers import weight_quantizers
from compression.quant.midrise import MidriseQuantizer, fitted_step
from compression.quant.quantizer import Quantizer, levels
from compression.quant.steps import Survivors, best_steps
from compression.quant.tables import LayerTables

Inheriting = Quantizer | FixedQuantizer | MidriseQuantizer
ORIGINAL = "parametrizations.weight.original"


@torch.no_grad()
def lower_bits(quantizer: Inheriting, bits: int) -> None:
    """Bring a quantizer to fewer whole bits: its step doubles with each, and a clipping bound follows."""
    before = round(quantizer.bits())
    factor = 2.0 ** (before - bits)
    if isinstance(quantizer, Quantizer):
        # q_m = N d, in the space of the exponent where there is one: N falls from 7 to 3, so the range from 7 d to 6 d
        unsigned = quantizer.is_unsigned
        top = factor * levels(bits, unsigned) / levels(before, unsigned)
        quantizer.clip.mul_(top if quantizer.exponent is None else top ** (1 / quantizer.exponent))
    else:
        quantizer.step_size.mul_(factor)
    quantizer.set_bits(bits)


class Inheritance:
    """A ladder of bit-widths over the steps ``first`` up to ``last`` (not included): one bit less at each rung.

    Every quantizer of weights and inputs has its final whole bit-width b when this is made, and gets b + ``extra``
    bits, 16 at most. The ``extra`` + 1 rungs are equal shares of the steps, the last of them at b; in fewer steps than
    rungs the ladder begins lower. Ranges of weights begin at the least squared error at the widths of the first rung,
    those of inputs as they are; grids that are not trained begin with b's step halved for each bit: they end at it.

    ``changed`` is called whenever bit-widths have changed. The state is the rung.
    """

    def __init__(self, model: nn.Module, extra: int, first: int, last: int, changed: Callable[[], None]) -> None:
        """
        Raises:
            CompressionError: a weight has a grid that has no half as fine a one, or none has a quantizer.
        """
        self.starts = {first + rung * (last - first) // (extra + 1): extra - rung for rung in range(extra + 1)}
        self.extra = self.starts[first]
        self._last, self._changed = last, changed
        self._finals: dict[Inheriting, int] = {}
        weights = weight_quantizers(model)
        for name, quantizer in (*weights.items(), *activation_quantizers(model).items()):
            if not isinstance(quantizer, Inheriting):
                raise CompressionError(f"inherit: the weight of layer {name} has a grid that cannot be made finer")
            self._finals.setdefault(quantizer, round(quantizer.bits()))
        if not self._finals:
            raise CompressionError("inherit: no weight has a quantizer whose bits could fall")
        for name, quantizer in weights.items():
            self._raise_weight(quantizer, model.get_submodule(name).get_parameter(ORIGINAL))
        for quantizer in activation_quantizers(model).values():
            quantizer.set_bits(self.bits(quantizer))
        changed()

    @property
    def last_start(self) -> int:
        """The step from which on all bit-widths are final."""
        return max(self.starts)

    def position(self, step: int) -> float:
        """Where ``step`` lies in its rung, from 0 up to 1: each is a training by itself."""
        begin = max(start for start in self.starts if start <= step)
        end = min((start for start in self.starts if start > step), default=self._last)
        return (step - begin) / (end - begin)

    def bits(self, quantizer: Inheriting) -> int:
        """What the present rung gives it."""
        return min(max(HIGHEST_BITS, self._finals[quantizer]), self._finals[quantizer] + self.extra)

    def before_step(self, step: int) -> bool:
        """Lower all bit-widths if a rung begins with ``step``; whether it does."""
        extra = self.starts.get(step, self.extra)
        if extra == self.extra:
            return False
        self.extra = extra
        for quantizer in self._finals:
            lower_bits(quantizer, self.bits(quantizer))
        self._changed()
        return True

    def __str__(self) -> str:
        """Where the ladder is, for a log."""
        more = f"{self.extra} bit{'s' * (self.extra != 1)} more than in the end" if self.extra else "their final bits"
        return f"inherit: weights and inputs of layers have {more}"

    @torch.no_grad()
    def _raise_weight(self, quantizer: Any, weight: torch.Tensor) -> None:
        before, bits = round(quantizer.bits()), self.bits(quantizer)
        if bits == before:
            return
        if isinstance(quantizer, Quantizer) and not quantizer.per_channel and bool(weight.any()):
            (table,) = LayerTables.prepare({"weight": weight.detach()}).layers
            quantizer.clip.fill_(float(best_steps(Survivors(table, 0, lowest=0), (bits,))[0][0]) * levels(bits))
        elif not isinstance(quantizer, Quantizer):
            quantizer.step_size.mul_(2.0 ** (before - bits))
            if isinstance(quantizer, MidriseQuantizer):
                quantizer.step_size.copy_(fitted_step(weight, quantizer.step_size, bits))
        quantizer.set_bits(bits)

    def state_dict(self) -> dict[str, Any]:
        """How many bits are still to go."""
        return {"extra": self.extra}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave, after the model has taken over its steps and ranges."""
        self.extra = int(state_dict["extra"])
        for quantizer in self._finals:
            if isinstance(quantizer, MidriseQuantizer):  # the others have their bits from their tensors
                quantizer.set_bits(self.bits(quantizer))
        self._changed()
