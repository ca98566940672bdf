"""QASSO: joint structured pruning and quantization as an ordinary optimizer (GETA, arXiv 2502.16638, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, overload

import torch
from torch import nn

from compression.bounds import check_share
from compression.errors import CompressionError
from compression.graph.types import Graph
from compression.methods.geta.bounds import BitBounds, BitRange, calm_step, sites
from compression.methods.geta.directions import BUFFERS, VARIANTS, directions
from compression.methods.geta.joint import LARGEST, JointDecision, check_rule
from compression.methods.geta.joint_update import Leaving, forget, leaving
from compression.methods.geta.schedule import COOL_DOWN, JOINT, PROJECTION, Schedule, Stages
from compression.pruning import saliency
from compression.pruning.choose import Choice, UnitLimits, averaged, choose_units, explain, target_units
from compression.pruning.units import Units

Directions = dict[nn.Parameter, torch.Tensor]

_WEIGHTS, _SCALARS = 0, 1


class QASSO(torch.optim.Optimizer):
    """Removes exactly ⌊sparsity · N⌋ units and brings every bit-width to a whole number in its range, while training.

    Drops into any training loop: ``zero_grad``, ``backward``, ``step``, with any learning-rate scheduler. Parameter
    group 0 holds the network's parameters, group 1 the quantizers' scalars (never decayed). Quantizers must have been
    attached (:func:`compression.quantize`); without any it only prunes. After each step ``choice`` says which units
    were chosen in it and why, ``decisions`` how the chosen ones were forgotten (empty outside the joint stage).

    Args:
        graph: the trace of ``model``. sparsity: share of the graph's prunable units to remove, in [0, 1). bits: range
        of the weights' bit-widths at the end; ``activation_bits`` that of the activations' (``bits`` if absent).
        schedule: the stages as fractions of ``total_steps``, the number of times :meth:`step` will be called.
        variant: ``sgd`` (momentum), ``adam`` (decay added to the gradient) or ``adamw`` (decoupled decay). lr_quant:
        learning rate of the scalars. group_bounds: group id → range of its own sparsity. ``layer_bits``: layer →
        ``{"weight_bits": range, …}``. criteria: saliency criterion → weight, by default the paper's five with 0.2
        each. joint_steps: one of :data:`.joint.STEP_RULES`, by default as published.

    Raises:
        CompressionError: what is asked for cannot be reached, in one line.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        *,
        sparsity: float,
        bits: BitRange = (4, 8),
        activation_bits: BitRange | None = None,
        schedule: Schedule | None = None,
        total_steps: int,
        lr: float,
        variant: str = "sgd",
        lr_quant: float = 1e-3,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        group_bounds: Mapping[str, BitRange] | None = None,
        layer_bits: Mapping[str, Mapping[str, Any]] | None = None,
        criteria: Mapping[str, float] | None = None,
        joint_steps: str = LARGEST,
    ) -> None:
        if variant not in VARIANTS:
            raise CompressionError(f"variant must be one of {', '.join(VARIANTS)}, not {variant!r}")
        check_rule(joint_steps)
        check_share(sparsity, "sparsity")
        saliency.check_criteria(criteria or {})
        schedule, activation_bits = schedule or Schedule(), activation_bits or bits
        self.variant, self.criteria, self.joint_steps = variant, criteria, joint_steps
        self.scorer: Callable[[], torch.Tensor] | None = None  # scores [N] in place of the last update's saliency
        self.units = Units(model, graph)
        self.limits = UnitLimits.of(self.units.sources, group_bounds)
        self.target = target_units(sparsity, self.units.total)
        self.limits.check(self.target)
        self.bounds = BitBounds(sites(model, bits, activation_bits, layer_bits), schedule.start_bits)
        self.stages = Stages.of(schedule, total_steps, prunes=self.target > 0)
        self.steps_done = 0
        self.removed = torch.zeros(self.units.total, dtype=torch.bool)
        self.redundant: list[int] = []
        self.decisions: list[JointDecision] = []
        self.choice: Choice | None = None
        self._leaving: list[Leaving] | None = None
        self._gone: list[tuple[nn.Parameter, int, torch.Tensor]] = []
        own = set(self.bounds.parameters)
        trained = [p for p in model.parameters() if p.requires_grad and p not in own]
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        groups: list[dict[str, Any]] = [
            {"params": trained},
            {"params": self.bounds.parameters, "lr": lr_quant, "weight_decay": 0.0},
        ]
        super().__init__(groups, defaults)

    @property
    def stage(self) -> str:
        """The stage of the last step taken (of the first step before any)."""
        return self.stages.stage(max(1, self.steps_done))

    @property
    def removed_units(self) -> dict[str, list[int]]:
        """Group id → the units committed so far; they are zero for good."""
        return self.units.named_units(self.removed)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update in the stage that its number asks for; returns the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.steps_done += 1
        self.decisions, self.choice = [], None
        self._clear_gradients()
        weights, scalars = (self._directions(index) for index in (_WEIGHTS, _SCALARS))
        self._decay(weights)
        before = self.bounds.steps()
        if scalars:
            calm_step(list(scalars), list(scalars.values()), self.param_groups[_SCALARS]["lr"])
        stage = self.stages.stage(self.steps_done)
        if stage in (PROJECTION, JOINT):
            self.bounds.project(self.stages.reductions(self.steps_done) / self.stages.projection_periods)
        if stage == JOINT and self.target:
            self._joint(weights, before)
        if weights:
            torch._foreach_add_(list(weights), list(weights.values()), alpha=-self.param_groups[_WEIGHTS]["lr"])
        if stage == JOINT and self.target:
            self._commit_when_shrunk()
        if stage == COOL_DOWN:
            self._hold_whole_bits()
        return loss

    def _directions(self, index: int) -> Directions:
        settings = self.param_groups[index]
        parameters = [p for p in settings["params"] if p.grad is not None]
        if not parameters:
            return {}
        states = [self.state[p] for p in parameters]
        gradients = [p.grad for p in parameters]
        h = directions(self.variant, settings, parameters, gradients, states, self.steps_done)
        return dict(zip(parameters, h, strict=True))

    def _decay(self, weights: Directions) -> None:
        settings = self.param_groups[_WEIGHTS]
        if self.variant == "adamw" and settings["weight_decay"] and weights:
            torch._foreach_mul_(list(weights), 1 - settings["lr"] * settings["weight_decay"])

    def _joint(self, weights: Directions, before: torch.Tensor) -> None:
        period = self.stages.period(self.steps_done)
        if period.position == 1:
            self._choose(period.index, weights)
        if self.redundant and period.shrinks_left:
            if self._leaving is None:
                self._leaving = leaving(self.units, self.redundant, self.bounds)
            alpha = self.param_groups[_WEIGHTS]["lr"]
            liked = self.bounds.preferred(self.joint_steps, self.stages.share_of_joint(self.steps_done)).tolist()
            left = period.shrinks_left
            self.decisions = forget(self._leaving, weights, self.bounds, before.tolist(), alpha, left, liked)

    def _choose(self, period: int, weights: Directions) -> None:
        due = self.target * (period + 1) // self.stages.pruning_periods - int(self.removed.sum())
        self.redundant = []
        if due > 0:
            if self.scorer is not None:
                values = self.scorer()
            else:
                values = saliency.scores(saliency.unit_sums(self.units, weights), self.criteria)
            values = averaged(values).cpu()
            self.redundant = choose_units(values, self.units.group_of, self.removed, self.limits, self.target, due)
            self.choice = explain(self.redundant, values, self.removed, self.units.named)

    def _commit_when_shrunk(self) -> None:
        if self.redundant and self.stages.period(self.steps_done).shrinks_left <= 1:
            self.removed[self.redundant] = True
            self.redundant, self._leaving = [], None
            self._find_gone()
            for parameter, dim, indices in self._gone:
                buffers = (self.state[parameter].get(name) for name in BUFFERS[self.variant])
                for tensor in (parameter, *(buffer for buffer in buffers if buffer is not None)):
                    tensor.index_fill_(dim, indices, 0.0)

    def _hold_whole_bits(self) -> None:
        if self.bounds.whole_bits is None:
            self.bounds.settle()
        self.bounds.hold()

    def _find_gone(self) -> None:
        """Where the committed units lie in their parameters."""
        chosen = torch.nonzero(self.removed).flatten().tolist()
        self._gone = [
            (piece.parameter, piece.dim, piece.indices(units.to(piece.positions.device)))
            for index, units in self.units.split(chosen).items()
            for piece in self.units[index].slices
        ]

    def _clear_gradients(self) -> None:
        """Clear the gradients of committed units: with their values and buffers zero, zero they stay."""
        for parameter, dim, indices in self._gone:
            if parameter.grad is not None:
                parameter.grad.index_fill_(dim, indices, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state with the stage state under ``"qasso"``."""
        whole = self.bounds.whole_bits
        own = {
            "steps_done": self.steps_done,
            "removed": self.removed.clone(),
            "redundant": list(self.redundant),
            "whole_bits": None if whole is None else whole.clone(),
        }
        return {**super().state_dict(), "qasso": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; the model's own state is loaded apart from it."""
        own = state_dict["qasso"]
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "qasso"})
        if own["removed"].shape != self.removed.shape:
            raise CompressionError(
                f"the saved state is of {len(own['removed'])} units, this model has {len(self.removed)}: "
                "load it with the model it was saved with"
            )
        self.steps_done, self.redundant = int(own["steps_done"]), list(own["redundant"])
        self.removed, self._leaving = own["removed"].clone(), None
        self.bounds.whole_bits = None if own["whole_bits"] is None else own["whole_bits"].clone()
        self._find_gone()
