"""The state of a run: gates with their thresholds, what they have decided, and in the end what was chosen by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compression.methods.sbs.choice import FLOOR, Offer, choose_bits, close_units, fewest_operations
from compression.methods.sbs.gates import Gates, Scale
from compression.methods.sbs.goal import Goal
from compression.methods.sbs.layers import SharedLayer
from compression.methods.sbs.options import Plan
from compression.methods.sbs.prices import Ledger, Open
from compression.methods.sbs.units import GatedUnits
from compression.pruning.choose import UnitLimits, averaged
from compression.pruning.removal import Removal
from compression.quant.midrise import fitted_step
from compression.quant.trained_steps import TrainedSteps

Rows = list[list[float]]
"""Margins A - α of the gates of every layer."""


@dataclass(frozen=True)
class Decision:
    """Bits of weights by layer, units closed, the share of the dense network's BOPs that remains.

    ``removed``: group id → units that are closed for good; none before the search ends.
    """

    bits: dict[str, int]
    closed: int
    rel_bops: float
    removed: dict[str, list[int]]


class SharedPaths:
    """Gates of weights, of inputs and of units over one network.

    ``ledger`` counts bit operations, ``refit`` fits the ranges of inputs anew once bits are final.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[SharedLayer],
        removal: Removal,
        limits: UnitLimits,
        ledger: Ledger,
        goal: Goal,
        plan: Plan,
        strength: float,
        refit: Callable[[], None],
    ) -> None:
        self.model, self.layers, self.removal, self.limits = model, tuple(layers), removal, limits
        self.ledger, self.goal, self.plan, self._refit = ledger, goal, plan, refit
        self.units, self.strength, self.settled = GatedUnits(removal.units), strength, False
        self.sizes = (
            [len(layer.weight.candidates) - 1 for layer in layers],
            [len(layer.input_candidates) - 1 for layer in layers],
        )
        # 1. Everything is open; thresholds are 0, and metrics about 1
        self.gates: Open = tuple([(True,) * size for size in sizes] for sizes in self.sizes)  # type: ignore[assignment]
        first = torch.cat([layer.weight.metrics(layer.original) for layer in layers])
        self._device, steps = first.device, max(1, plan.last // (2 if self.has_inputs else 1))
        self._scale = Scale(self._device)
        self._of_weights, self._of_inputs = (
            Gates(values, torch.arange(len(values), device=self._device), len(values), steps, self._scale)
            for values in (first, first.new_ones(sum(self.sizes[1])))
        )
        owner = torch.tensor(removal.units.group_of, dtype=torch.int64, device=self._device)
        metrics = self.units.metrics().to(self._device)
        self._of_units = Gates(metrics, owner, len(removal.units), steps, self._scale)
        self._observed = first.new_zeros(len(first))
        self.steps = TrainedSteps(model)
        self._renew()

    @property
    def has_inputs(self) -> bool:
        """Whether any input is quantized."""
        return any(layer.inputs for layer in self.layers)

    def counts(self) -> list[int]:
        """How many units of each group are closed."""
        return self._counted(self.units.closed)

    # One step

    @torch.no_grad()
    def observe_weights(self) -> None:
        """After the backward pass, the network still behind its gates: ⟨dL/dẑ, ε⟩ and A of the gates of weights."""
        gradients = [layer.original.grad for layer in self.layers]
        self._observed = torch.cat(
            [
                self._observed.new_zeros(size) if grad is None else layer.weight.offsets(layer.original, grad)
                for layer, grad, size in zip(self.layers, gradients, self.sizes[0], strict=True)
            ]
        )
        self._of_weights.metrics = torch.cat([layer.weight.metrics(layer.original) for layer in self.layers])

    @torch.no_grad()
    def learn_weights(self, unit_slopes: torch.Tensor) -> None:
        """One step of the thresholds of weights and units; ``unit_slopes``: dL/dg of units."""
        slopes = self._prices.chains[0] @ self._observed
        self._of_weights.learn(slopes + self.strength * self._prices.weights)
        if len(unit_slopes):
            self._of_units.metrics = self.units.metrics()
            self._of_units.learn(unit_slopes + self.strength * self._prices.units)

    @torch.no_grad()
    def learn_inputs(self, offsets: torch.Tensor, metrics: torch.Tensor) -> None:
        """One step of the thresholds of inputs; every process has seen others."""
        self._of_inputs.metrics = averaged(metrics)
        slopes = averaged(self._prices.chains[1] @ offsets)
        self._of_inputs.learn(slopes + self.strength * self._prices.inputs)

    @property
    def input_metrics(self) -> torch.Tensor:
        """A of the gates of inputs."""
        return self._of_inputs.metrics

    # Decisions

    @torch.no_grad()
    def decide(self, done: int) -> Decision:
        """Open and close gates after ``done`` steps, the network without them.

        With a fixed λ a gate is open where A > α. Without one R falls evenly to its target, on a logarithmic scale,
        and gates are open that are worth most within it.
        """
        weights, inputs, scores = self._margins()
        share = self.plan.progress(done)
        if self.strength:
            self.units.close(self._closed(scores, share, None, 0.0))
            self.gates = self._opened(lambda kind, at, gate: (weights, inputs)[kind][at][gate] > 0)
            self._apply()
            return self._decision()
        offers = self._offers(weights, inputs, FLOOR)
        whole = [0] * len(self.limits.highest)
        planned = self._planned(whole, share)
        self.units.close(self._closed(scores, share, offers, planned))
        if self.goal.counts_units:
            planned = self._planned(self.counts(), share)
        self._choose(offers, planned, exact=False)
        return self._decision()

    @torch.no_grad()
    def settle(self) -> Decision:
        """Remove units for good and fix the bits, within the bit operations asked for.

        Raises:
            CompressionError: the fewest bits and units exceed them.
        """
        # 1. Units: those that are asked for; else the closed ones, and more where the fewest bits are not few enough
        weights, inputs, scores = self._margins()
        offers = self._offers(weights, inputs, FLOOR if not self.strength else None)
        target = self.goal.target(self.ledger.operations, [0] * len(self.limits.highest))
        marked = torch.zeros(self.removal.units.total, dtype=torch.bool)
        marked[self._closed(scores, 1.0, offers, target)] = True
        if not self.goal.counts_units:
            group_of = self.removal.units.group_of
            marked[self.goal.units.choose(scores, group_of, marked, self.limits, 1.0)] = True
        self.units.close([])
        self.removal.remove(torch.nonzero(marked).flatten().tolist())
        self.units.closed = marked
        # 2. Bits that are worth most, exactly
        self._choose(offers, self.goal.target(self.ledger.operations, self.counts()), exact=True)
        # 3. Steps and ranges of the least squared error at these bits
        for layer, (bits, _) in zip(self.layers, self.ledger.widths(self.gates), strict=True):
            size = layer.weight.quantizer.step_size
            size.copy_(fitted_step(layer.original, size.detach().clone(), bits))
        if self.has_inputs:
            self._refit()
        self.steps, self.settled = TrainedSteps(self.model), True
        return self._decision()

    def _planned(self, counts: list[int], share: float) -> float:
        """R when ``share`` of the way to its target is done, from the most bits on (eq. S9)."""
        target = max(self.goal.target(self.ledger.operations, counts), 1e-300)
        return float(target * max(1.0, self.ledger.total(counts, self.ledger.most()) / target) ** (1 - share))

    def _closed(self, scores: torch.Tensor, share: float, offers: list[Offer] | None, target: float) -> list[int]:
        """The units that are closed.

        Those due, of least A - α; where BOPs are asked for those that compete least well with bits, or without
        ``offers`` all whose A is not above α.
        """
        if self.goal.counts_units:
            return self.removal.choose(share, lambda: scores)
        group_of, highest = self.removal.units.group_of, self.limits.highest
        if offers is not None and not self.strength:
            worth = scores.clamp(min=FLOOR).tolist()
            return close_units(self.ledger.operations, offers, worth, group_of, highest, target)
        counts, result = [0] * len(highest), []
        for unit in torch.argsort(scores, stable=True).tolist():
            if float(scores[unit]) <= 0 and counts[group_of[unit]] < highest[group_of[unit]]:
                counts[group_of[unit]] += 1
                result.append(unit)
        return result

    def _offers(self, weights: Rows, inputs: Rows, floor: float | None) -> list[Offer]:
        """What layers may have; no gate is worth less than ``floor``."""
        worth = [
            [tuple(margin if floor is None else max(margin, floor) for margin in row) for row in rows]
            for rows in (weights, inputs)
        ]
        numbers = {name: number for number, name in enumerate(self.ledger.operations.layers)}
        return [
            Offer(
                tuple(numbers[name] for name in layer.names if name in numbers),
                layer.weight.candidates,
                layer.input_candidates,
                of_weight,
                of_input,
            )
            for layer, of_weight, of_input in zip(self.layers, *worth, strict=True)
        ]

    def _choose(self, offers: list[Offer], target: float, exact: bool) -> None:
        """Open the gates that are worth most within ``target``, or as few as there can be where it is below that."""
        counts = self.counts()
        macs, fewest = self.ledger.macs(counts), [(offer.weights[0], offer.inputs[0]) for offer in offers]
        least = fewest_operations(offers, macs)
        unquantized = max(0.0, self.ledger.total(counts, fewest) - least)
        room = target - unquantized
        chosen = choose_bits(offers, macs, room if exact else max(room, least), exact)
        candidates = [(offer.weights, offer.inputs) for offer in offers]
        self.gates = self._opened(lambda kind, at, gate: candidates[at][kind][gate + 1] <= chosen[at][kind])
        self._apply()

    def _opened(self, is_open: Callable[[int, int, int], bool]) -> Open:
        """Gates by (kind, number of the layer, number of the gate)."""
        weights, inputs = (
            [tuple(is_open(kind, at, gate) for gate in range(size)) for at, size in enumerate(self.sizes[kind])]
            for kind in (0, 1)
        )
        return weights, inputs

    def _counted(self, closed: torch.Tensor) -> list[int]:
        result = [0] * len(self.limits.highest)
        for unit in torch.nonzero(closed).flatten().tolist():
            result[self.removal.units.group_of[unit]] += 1
        return result

    def _margins(self) -> tuple[Rows, Rows, torch.Tensor]:
        """A - α on the CPU, read at once: of the gates of weights and of inputs by layer, and of units, fp32 [N]."""
        together = torch.cat([gates.margins for gates in (self._of_weights, self._of_inputs, self._of_units)]).cpu()
        weights, inputs, units = together.split([sum(self.sizes[0]), sum(self.sizes[1]), self.removal.units.total])
        rows = [
            [row.tolist() for row in part.split(sizes)]
            for part, sizes in zip((weights, inputs), self.sizes, strict=True)
        ]
        return rows[0], rows[1], units

    def _apply(self) -> None:
        """Give the quantizers the bits of the open gates, and know what one more bit or unit costs."""
        for layer, (bits, inside) in zip(self.layers, self.ledger.widths(self.gates), strict=True):
            layer.weight.set_bits(bits)
            for path in layer.inputs:
                path.set_bits(inside)
        self.steps = TrainedSteps(self.model)
        self._renew()

    def _renew(self) -> None:
        self._prices = self.ledger.prices(self.counts(), self.gates, self._device)

    def _decision(self) -> Decision:
        widths = self.ledger.widths(self.gates)
        bits = {name: width for layer, (width, _) in zip(self.layers, widths, strict=True) for name in layer.names}
        operations = self.ledger.total(self.counts(), widths)
        share = operations / max(self.ledger.operations.dense, 1.0)
        return Decision(bits, int(self.units.closed.sum()), share, self.removal.units.named_units(self.removal.removed))

    # What a checkpoint holds

    def state_dict(self) -> dict[str, Any]:
        """Gates with their thresholds, what is open and closed, and whether it is decided."""
        return {
            "gates": [gates.state_dict() for gates in (self._of_weights, self._of_inputs, self._of_units)],
            "open": [[list(row) for row in rows] for rows in self.gates],
            "units": self.units.state_dict(),
            "removal": self.removal.state_dict(),
            "scale": self._scale.state_dict(),
            "settled": self.settled,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; the model's own state has been loaded."""
        for gates, part in zip((self._of_weights, self._of_inputs, self._of_units), state["gates"], strict=True):
            gates.load_state_dict(part)
        self.gates = tuple([tuple(row) for row in rows] for rows in state["open"])  # type: ignore[assignment]
        self._scale.load_state_dict(state["scale"])
        self.settled = state["settled"]
        self.removal.load_state_dict(state["removal"])
        self.units.load_state_dict(state["units"])
        # Steps and clipping bounds, which the model has, are those of these bits already
        for layer, (bits, _) in zip(self.layers, self.ledger.widths(self.gates), strict=True):
            layer.weight.quantizer.set_bits(bits)
        self.steps = TrainedSteps(self.model)
        self._renew()
