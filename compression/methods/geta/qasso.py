"""QASSO: joint structured pruning and quantization as an ordinary optimizer (GETA, arXiv 2502.16638, section 4).

Sections are the paper's; equation numbers (eq. G…) are those of ``docs/derivations/geta-joint-step.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, overload

import torch
from torch import nn

from compression import devices
from compression.bounds import check_share
from compression.errors import CompressionError
from compression.graph.types import Graph
from compression.methods.geta.bounds import BitBounds, BitRange, clipped_step, sites
from compression.methods.geta.directions import BUFFERS, VARIANTS, directions
from compression.methods.geta.joint import FORGETTING, LARGEST, LEARNED, PUBLISHED, JointDecision, check_rules
from compression.methods.geta.joint_update import JointStep, Redundant, apply_joint_step, redundant_slices
from compression.methods.geta.priced import PricedBits
from compression.methods.geta.rules import BOUNDS, PRICED, check_bit_rule
from compression.methods.geta.schedule import BITS_FIRST, COOL_DOWN, JOINT, PROJECTION, WARM_UP, Schedule, Stages
from compression.pruning import saliency
from compression.pruning.choose import Choice, UnitLimits, averaged, explain, scores_when_chosen
from compression.pruning.criteria import check_criteria
from compression.pruning.rise import DAMAGE, LINEAR, RISES, equal_damage, risen
from compression.pruning.target import UnitCount, UnitTarget
from compression.pruning.unit_cost import UnitPrices
from compression.pruning.units import Units

Directions = dict[nn.Parameter, torch.Tensor]

_WEIGHTS, _SCALARS = 0, 1


class QASSO(torch.optim.Optimizer):
    """Removes exactly ⌊sparsity · N⌋ units and brings every bit-width to a whole number in its range, while training.

    Used in any training loop: ``zero_grad``, ``backward``, ``step``, with any learning-rate scheduler. Parameter group
    0 holds the network's parameters, group 1 the quantizers' scalars (no weight decay). :func:`compression.quantize`
    attaches the quantizers beforehand; without quantizers it only prunes. After each step ``choice`` holds the units
    chosen in it, with their scores, and ``joint_step`` the joint step (``None`` outside the joint stage), which
    ``decisions`` reads from the device.

    Args:
        graph: the trace of ``model``.
        sparsity: share of the graph's N prunable units to remove, in [0, 1).
        target: in its place, how much is removed, such as a share of the MACs (:mod:`compression.pruning.target`).
        rise: one of :data:`compression.pruning.rise.RISES`, how removal rises over the pruning periods.
        bits, activation_bits: final ranges of the bit-widths of weights and of activations (``bits`` if absent).
        schedule: the stages as fractions of ``total_steps``, the number of calls of :meth:`step`.
        variant: ``sgd`` (momentum), ``adam`` (decay added to the gradient) or ``adamw`` (decoupled decay).
        lr_quant: learning rate of the quantizers' scalars.
        group_bounds: group id → range of this group's sparsity.
        layer_bits: layer → ``{"weight_bits": range, "activation_bits": range}``.
        criteria: saliency criterion → weight; by default the paper's five with 0.2 each (section 4.3).
        joint_steps: one of :data:`.joint.STEP_RULES`; by default as published.
        forgetting: one of :data:`.joint.FORGETTING`; by default as published.
        tied_ranges: where a bound on the bits sets d = kappa q_m^t, q_m and t also get the gradient of d (see
            :meth:`.bounds.BitBounds.tie`); as published, they do not.
        order: one of :data:`.schedule.ORDERS`; by default as published.
        bit_rule: one of :data:`.rules.BIT_RULES`; by default as published. With a price, bits fall to ``mean_bits``
            and are exchanged between layers from then to the cool-down, and joint steps take the learnt d.
        mean_bits: see :class:`compression.quant.bit_price.BitPrice`.

    Raises:
        CompressionError: the sparsity, bits or schedule cannot be reached with this model.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        *,
        sparsity: float = 0.0,
        target: UnitTarget | None = None,
        rise: str = LINEAR,
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
        forgetting: str = PUBLISHED,
        tied_ranges: bool = False,
        order: str = BITS_FIRST,
        bit_rule: str = BOUNDS,
        mean_bits: float = 0.0,
    ) -> None:
        if variant not in VARIANTS:
            raise CompressionError(f"variant must be one of {', '.join(VARIANTS)}, not {variant!r}")
        if rise not in RISES:
            raise CompressionError(f"rise must be one of {', '.join(RISES)}, not {rise!r}")
        check_rules(joint_steps, forgetting)
        check_share(sparsity, "sparsity")
        check_criteria(criteria or {})
        schedule, activation_bits = schedule or Schedule(), activation_bits or bits
        self.variant, self.criteria, self.joint_steps = variant, criteria, joint_steps
        self.eta, self.tied_ranges = FORGETTING[forgetting], tied_ranges
        self.scorer: Callable[[], torch.Tensor] | None = None  # scores [N] in place of the last update's saliency
        self.prices: Callable[[], UnitPrices] | None = None  # by which the scorer divides the saliency
        self.renew_prices = False  # after every unit that is chosen
        self.units = Units(model, graph)
        self.limits = UnitLimits.from_groups(self.units.sources, group_bounds)
        self.target = UnitCount.of_share(sparsity, self.units.total) if target is None else target
        self.rise, self.prunes = rise, self.target.removes(self.limits)
        self.target.check(self.limits)
        quantizers = sites(model, bits, activation_bits, layer_bits)
        check_bit_rule(bit_rule, mean_bits, bits, any(site.quantizer.gradient_scale for site in quantizers), order)
        device = devices.device_of(model)
        self.bounds = BitBounds(quantizers, schedule.start_bits, order != BITS_FIRST, device)
        self.priced = PricedBits(self.bounds, graph, mean_bits) if bit_rule == PRICED else None
        if self.priced is not None:
            self.joint_steps = LEARNED
        self.stages = Stages.from_schedule(schedule, total_steps, prunes=self.prunes, order=order)
        self.steps_done = 0
        self.removed = torch.zeros(self.units.total, dtype=torch.bool)
        self.redundant: list[int] = []
        self.choice: Choice | None = None
        self.joint_step: JointStep | None = None
        self._progress_at: tuple[list[int], torch.Tensor] | None = None
        self._redundant_slices: Redundant | None = None
        self._removed_slices: list[tuple[nn.Parameter, int, torch.Tensor]] = []
        scalars = set(self.bounds.parameters)
        trained = [p for p in model.parameters() if p.requires_grad and p not in scalars]
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        groups: list[dict[str, Any]] = [
            {"params": trained},
            {"params": self.bounds.parameters, "lr": lr_quant, "weight_decay": 0.0},
        ]
        super().__init__(groups, defaults)

    @property
    def stage(self) -> str:
        """The stage of the last step; before any step, the stage of the first one."""
        return self.stages.stage(max(1, self.steps_done))

    @property
    def decisions(self) -> list[JointDecision]:
        """What the last step decided for each group in the joint stage, read from the device; empty outside of it."""
        return [] if self.joint_step is None else self.joint_step.decisions()

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
        """One update in the stage that its number belongs to; returns the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.steps_done += 1
        self.joint_step, self.choice = None, None
        # Committed units have no gradient: their values and buffers, which are zero, stay zero.
        self._clear_gradients()
        # A d that a bound sets follows q_m and t: they get its gradient, too (the published step leaves it out).
        priced = self.priced if self._bits_are_priced() else None
        if self.tied_ranges and self.stages.stage(self.steps_done - 1) != WARM_UP:
            self.bounds.tie(self._progress(self.steps_done - 1), all_held=priced is not None)
        # h of x and of (d, q_m, t): the direction along which torch's own optimizer of this variant would step.
        weights, scalars = (self._directions(index) for index in (_WEIGHTS, _SCALARS))
        self._decay(weights)
        # The residues r of the joint step belong to the d before this update (eq. G6).
        before = self.bounds.steps()
        if priced is not None:
            priced.read()
        # (d, q_m, t) <- (d, q_m, t) - lr_quant h, in every stage.
        if scalars:
            clipped_step(list(scalars), list(scalars.values()), self.param_groups[_SCALARS]["lr"])
        # Under a price b takes a step, and d follows b and q_m (eq. G15).
        if priced is not None:
            priced.write()
        stage = self.stages.stage(self.steps_done)
        # Partially projected step: d <- clip(d) at b_l and at b_u, which falls B times (section 4.2, eq. G3 and G4).
        if stage in (PROJECTION, JOINT):
            self.bounds.project(self._progress(self.steps_done))
        # Redundant units: x <- x - gamma (c + d r), gamma and d such that it descends (section 4.3, eq. G7 to G11).
        if stage == JOINT and self.prunes:
            self._joint(weights, before)
        # All units: x <- x - alpha h; with the line before, s of eq. G7 on the redundant ones.
        if weights:
            torch._foreach_add_(list(weights), list(weights.values()), alpha=-self.param_groups[_WEIGHTS]["lr"])
        # After the last shrinking step of a period its redundant units are set to zero for good.
        if stage == JOINT and self.prunes:
            self._commit_when_shrunk()
        # Cool-down: b* = round(b) once, then d = q_m^t / (2^(b* - 1) - 1) after every step (section 4, eq. G12).
        if stage == COOL_DOWN:
            self.freeze_bits()
        return loss

    def _bits_are_priced(self) -> bool:
        """Whether bits are exchanged under a price in this step: after the last reduction, before the cool-down."""
        if self.priced is None or self.stages.stage(self.steps_done) not in (PROJECTION, JOINT):
            return False
        return min(self._reductions(self.steps_done - 1)) >= self.stages.projection_periods

    def _progress(self, step: int) -> torch.Tensor:
        """Of every site, the share of the reductions of the upper bit bound that have happened by ``step``."""
        counts = self._reductions(step)
        if self._progress_at is None or self._progress_at[0] != counts:
            self._progress_at = (counts, self.bounds.vector(counts) / self.stages.projection_periods)
        return self._progress_at[1]

    def _reductions(self, step: int) -> list[int]:
        """Of every site, how many reductions of the upper bit bound have happened by ``step``."""
        done = {kind: self.stages.reductions(step, kind) for kind in ("weight", "activation")}
        return [done[site.kind] for site in self.bounds.sites]

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
        # First step of a period: choose the units that become redundant in it (section 4.3, eq. G5).
        if period.position == 1:
            self._choose(period.index, weights)
        # Every step but the last of a period shrinks them; the last is a partially projected step only.
        if self.redundant and period.steps_to_shrink:
            if self._redundant_slices is None:
                self._redundant_slices = redundant_slices(self.units, self.redundant, self.bounds)
            alpha = self.param_groups[_WEIGHTS]["lr"]
            preferred = self.bounds.preferred(self.joint_steps, self.stages.share_of_joint(self.steps_done))
            self.joint_step = apply_joint_step(
                self._redundant_slices,
                weights,
                self.bounds,
                before,
                alpha,
                period.steps_to_shrink,
                preferred,
                self.eta,
                self._progress(self.steps_done),
            )

    def _choose(self, period: int, weights: Directions) -> None:
        """Choose the units of this period: of K, ⌊K (j + 1) / P⌋ are chosen after period j of P, or as they rise."""
        periods, group_of = self.stages.pruning_periods, self.units.group_of
        share = risen(self.rise, period + 1, periods)
        self.redundant = []
        if not self.target.due(group_of, self.removed, self.limits, share):
            return
        if self.scorer is not None:
            values = self.scorer()
        else:
            values = saliency.scores(saliency.unit_sums(self.units, weights), self.criteria)
        values = averaged(values).cpu()
        prices = None if self.prices is None else self.prices()
        renewed = prices if self.renew_prices else None
        self.redundant = self.target.choose(values, group_of, self.removed, self.limits, share, renewed)
        if self.rise == DAMAGE:
            damage = values if prices is None else values * torch.from_numpy(prices.values)[group_of]
            self.redundant = equal_damage(self.redundant, damage, periods - period)
        if renewed is not None:
            values = scores_when_chosen(values, self.redundant, group_of, renewed)
        self.choice = explain(self.redundant, values, self.removed, self.units.named)

    def _commit_when_shrunk(self) -> None:
        if self.redundant and self.stages.period(self.steps_done).steps_to_shrink <= 1:
            self.removed[self.redundant] = True
            self.redundant, self._redundant_slices = [], None
            self._locate_removed()
            if self.priced is not None:
                self.priced.removed(self.removed_units)
            for parameter, dim, indices in self._removed_slices:
                buffers = (self.state[parameter].get(name) for name in BUFFERS[self.variant])
                for tensor in (parameter, *(buffer for buffer in buffers if buffer is not None)):
                    tensor.index_fill_(dim, indices, 0.0)

    def freeze_bits(self) -> None:
        """Choose whole bits, once, and give every d the value that follows from them."""
        if self.bounds.whole_bits is None:
            (self.bounds if self.priced is None else self.priced).round_bits()
        self.bounds.freeze_bits()

    def _locate_removed(self) -> None:
        """Store the positions of the committed units in their parameters."""
        chosen = torch.nonzero(self.removed).flatten().tolist()
        self._removed_slices = [
            (piece.parameter, piece.dim, piece.indices(units.to(piece.positions.device)))
            for index, units in self.units.split(chosen).items()
            for piece in self.units[index].slices
        ]

    def _clear_gradients(self) -> None:
        for parameter, dim, indices in self._removed_slices:
            if parameter.grad is not None:
                parameter.grad.index_fill_(dim, indices, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state, with that of the stages under ``"qasso"``."""
        whole = self.bounds.whole_bits
        stages = {
            "steps_done": self.steps_done,
            "removed": self.removed.clone(),
            "redundant": list(self.redundant),
            "whole_bits": None if whole is None else whole.clone(),
        }
        if self.priced is not None:
            stages["multiplier"] = self.priced.price.multiplier
        return {**super().state_dict(), "qasso": stages}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that :meth:`state_dict` returned; the model's state is loaded separately.

        Raises:
            CompressionError: the state belongs to a model with another number of units.
        """
        stages = state_dict["qasso"]
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "qasso"})
        if stages["removed"].shape != self.removed.shape:
            raise CompressionError(
                f"the saved state is of {len(stages['removed'])} units, this model has {len(self.removed)}: "
                "load it with the model it was saved with"
            )
        self.steps_done, self.redundant = int(stages["steps_done"]), list(stages["redundant"])
        self.removed, self._redundant_slices = stages["removed"].clone(), None
        whole = stages["whole_bits"]
        self.bounds.whole_bits = None if whole is None else whole.to(self.bounds.low, copy=True)
        self._locate_removed()
        if self.priced is not None:
            self.priced.price.multiplier = stages["multiplier"]
            self.priced.removed(self.removed_units)
