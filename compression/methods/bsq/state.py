"""The bit planes of all layers beside a model: its weights are written from them after every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compression.errors import RunFailed
from compression.methods.bsq import planes as bits
from compression.methods.bsq.narrow import choose_narrowings, narrowed, narrowings
from compression.methods.bsq.options import Limits
from compression.methods.bsq.strength import Controller, LayerCodes, pull
from compression.quant import weight_quantizers
from compression.quant.fixed_bits import FixedBits
from compression.quant.quantizer import Quantizer, levels
from compression.training.loop import optimizer_over


@dataclass
class PlanedLayer:
    """One weight, its quantizer and its planes [2, n, *shape]; ``name`` is the first layer that has the weight."""

    name: str
    weight: nn.Parameter
    quantizer: Quantizer
    limits: Limits
    planes: nn.Parameter

    @property
    def count(self) -> int:
        """n."""
        return self.planes.shape[1]

    def write(self) -> None:
        """W = δ v (eq. B2)."""
        self.weight.data.copy_(bits.joined(self.planes.data) * self.quantizer.step_size.data)

    def pull(self, amount: float | torch.Tensor) -> None:
        """Pull the planes towards 0; the scale grows so that the weights stay as near as they can (eq. B5, B6)."""
        before = bits.joined(self.planes.data)
        bits.shrink(self.planes.data, amount)
        self.quantizer.clip.data *= bits.rescaling(before, bits.joined(self.planes.data))

    def bits_now(self) -> torch.Tensor:
        """Bits of all its weights if they were re-quantized now, shape [], without waiting for it."""
        planes = bits.digits(bits.joined(self.planes.data), self.count)
        return self.weight.numel() * (planes.clamp(min=self.limits.lowest) + 1)

    def take(self, result: bits.Requantized) -> None:
        """Become these codes: binary planes, the step and the bound of their width, weights on the grid."""
        step = self.quantizer.step_size.data * 2**result.doublings
        self.planes = nn.Parameter(bits.split(result.codes, result.count, self.planes.dtype))
        self.quantizer.clip.data.copy_(step * levels(result.count + 1))
        self.quantizer.set_bits(result.count + 1)
        self.write()

    def codes(self) -> torch.Tensor:
        """The whole numbers that the planes are, int64."""
        return bits.joined(self.planes.data).round().to(torch.int64)


class Widths:
    """The bit-widths of all quantizers, which a checkpoint holds; bounds are trained under them."""

    def __init__(self, model: nn.Module, weights: Mapping[str, int], activations: Mapping[str, int] | None) -> None:
        self._model, self._activations = model, activations
        self.set(weights)

    def set(self, weights: Mapping[str, int]) -> None:
        """Hold the weights' quantizers to other widths from now on: layer → bits."""
        self.weights = dict(weights)
        self.fixed = FixedBits(self._model, self.weights, self._activations)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"weights": dict(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; clipping bounds have to be those of the checkpoint already."""
        self.set(state["weights"])


class BitPlanes:
    """Trains the planes of all layers of a model whose quantizers are at the widths of ``widths``.

    Args:
        limits: layer → the planes it may have.
        kind, rate, decay: of the budget's optimizer.
        stage: how many steps the planes are trained.
    """

    def __init__(
        self, model: nn.Module, widths: Widths, limits: Mapping[str, Limits], controller: Controller,
        kind: str, rate: float, decay: float, stage: int,
    ) -> None:  # fmt: skip
        self.widths, self.controller, self.stage = widths, controller, stage
        self._kind, self._rate, self._decay = kind, rate, decay
        self.layers: list[PlanedLayer] = []
        quantizers = weight_quantizers(model)
        for name, limit in limits.items():
            quantizer, weight = quantizers[name], _stored(model, name)
            assert isinstance(quantizer, Quantizer), "they were attached as such"
            count = widths.weights[name] - 1
            planes = nn.Parameter(bits.split(quantizer.codes(weight), count, quantizer.step_size.dtype))
            self.layers.append(PlanedLayer(name, weight, quantizer, limit, planes))
            self.layers[-1].write()
        self.sizes = {layer.name: layer.weight.numel() for layer in self.layers}
        self._new_optimizer()

    @property
    def average(self) -> float:
        """Bits of a weight, the sign counted."""
        spent = sum(layer.weight.numel() * (layer.count + 1) for layer in self.layers)
        return spent / sum(self.sizes.values())

    @torch.no_grad()
    def step(self, share: float, rate: float) -> None:
        """One step of every plane at the ``share`` of its learning rate, and of the scales δ at ``rate``.

        The gradients of the weights and of their quantizers are used up. A layer without one does not change.
        """
        trained = [layer for layer in self.layers if layer.weight.grad is not None]
        # 1. Gradients of the planes; that of δ at fixed v has the part of what moves with it: Σ g w / q_m
        for layer, group in zip(self.layers, self.optimizer.param_groups, strict=True):
            group["lr"] = self._rate * share * group["pace"]
            slope, clip = layer.weight.grad, layer.quantizer.clip
            layer.planes.grad = None
            if slope is not None:
                layer.planes.grad = bits.gradient(layer.planes.data, layer.quantizer.step_size.data, slope)
                if clip.grad is not None:
                    clip.grad += (slope * layer.weight).sum() / clip
        # 2. The planes move, are pulled towards 0 as wholes, and stay in [0, 2]
        self.optimizer.step()
        self._pull(trained)
        for layer in trained:
            layer.planes.data.clamp_(0, bits.LARGEST)
        # 3. The scales move, and the weights are what planes and scales say
        self.widths.fixed.step(rate)
        for layer in trained:
            layer.write()
            layer.weight.grad = None

    def _pull(self, layers: Sequence[PlanedLayer]) -> None:
        """The penalty. Where its strength is chosen, it pulls while the average is above what is planned, and no layer
        that with one plane less would bring the average below what is asked for.
        """
        controller, total = self.controller, sum(self.sizes.values())
        if not controller.strength:
            return
        spent = sum((layer.bits_now() for layer in self.layers), torch.tensor(0))
        for layer in layers:
            size = layer.weight.numel()
            amount: float | torch.Tensor = pull(controller.strength, 1 / self.stage, layer.count, size, total)
            if controller.planned is not None:
                due = (spent > controller.planned * total) & (spent - size >= controller.average * total)
                amount = amount * due
            layer.pull(amount)

    @torch.no_grad()
    def requantize(self, share: float, remaining: int) -> None:
        """Whole numbers, without the planes that died; α for the next ``share`` of the stage (eq. B7, B8).

        ``remaining``: how many re-quantizations come after this one.

        Raises:
            RunFailed: planes are no longer finite.
        """
        for layer in self.layers:
            values, limits = bits.joined(layer.planes.data), layer.limits
            if not bool(torch.isfinite(values).all()):
                why = f"bits of {layer.name} are no longer finite"
                raise RunFailed(f"training diverged ({why}): choose a smaller learning rate")
            layer.take(bits.requantize(values, layer.count, limits.lowest, limits.highest))
        self._settle()
        self.controller.update([_counted(layer) for layer in self.layers], self.average, share, remaining)

    @torch.no_grad()
    def narrow(self, budget: int) -> None:
        """Drop more planes where the squared error is least, until all weights have at most ``budget`` bits (eq. B9).

        Raises:
            CompressionError: the fewest planes need more.
        """
        by_name = {layer.name: layer for layer in self.layers}
        codes = {name: layer.codes() for name, layer in by_name.items()}
        options = {name: narrowings(codes[name], layer.count, layer.limits.lowest) for name, layer in by_name.items()}
        steps = {name: float(layer.quantizer.step_size) for name, layer in by_name.items()}
        for name, chosen in choose_narrowings(options, self.sizes, steps, budget).items():
            by_name[name].take(narrowed(codes[name], chosen))
        self._settle()

    def _settle(self) -> None:
        """The widths that the planes have now, and an optimizer without a memory of others."""
        self.widths.set({layer.name: layer.count + 1 for layer in self.layers})
        self._new_optimizer()

    def _new_optimizer(self) -> None:
        groups = []
        for layer in self.layers:
            pace = paces(self._kind, float(layer.quantizer.step_size.detach()), layer.count)
            groups.append({"params": [layer.planes], "pace": pace, "weight_decay": self._decay / pace})
        self.optimizer = optimizer_over(groups, self._kind, self._rate)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds: planes, whose number says the widths, the optimizer's memory, and the strength."""
        return {
            "planes": {layer.name: layer.planes.data for layer in self.layers},
            "optimizer": self.optimizer.state_dict(),
            "controller": self.controller.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave: first shapes and widths, then what the optimizer knows of them."""
        for layer in self.layers:
            stored = state["planes"][layer.name]
            layer.planes = nn.Parameter(stored.to(layer.planes, copy=True))
        self._settle()
        self.optimizer.load_state_dict(state["optimizer"])
        self.controller.load_state_dict(state["controller"])


def paces(kind: str, step: float, count: int) -> float:
    """The rate of a layer's planes over that of its weights, at which these move as in ordinary training (eq. B10).

    A gradient step of all planes moves a weight by 2 δ² Σ 4^i = 2 δ² (4^n - 1) / 3 times its gradient, a step of
    adam's, the same for all planes, by 2 δ (2^n - 1).
    """
    moved = 2 * step**2 * (4.0**count - 1) / 3 if kind == "sgd" else 2 * step * (2.0**count - 1)
    return 1 / max(moved, 1e-12)


def _counted(layer: PlanedLayer) -> LayerCodes:
    magnitudes = layer.codes().abs().flatten()
    counts = torch.bincount(magnitudes, minlength=2**layer.count).cpu().numpy()
    return LayerCodes(counts, layer.count, layer.limits.lowest)


def _stored(model: nn.Module, layer: str) -> nn.Parameter:
    """The trained weight under the quantizer of a layer."""
    chain: Any = model.get_submodule(layer).parametrizations
    weight: nn.Parameter = chain.weight.original
    return weight
