"""What the search does within the training loop: gates are observed, trained in turn, and decide every few steps."""

from __future__ import annotations

import torch

from compression.methods.sbs.paths import Decision, SharedPaths
from compression.methods.sbs.watch import InputWatch
from compression.training.section import Algorithm
from compression.training.setup import Reporter


class Searching(Algorithm):
    """Gates of weights and units, and those of inputs, are trained in turn; the last step ends with the decision.

    Steps of quantizers are trained all the time, at the optimizer's share of ``base`` of the rate ``lr``.
    """

    def __init__(self, paths: SharedPaths, optimizer: torch.optim.Optimizer, base: float, lr: float) -> None:
        self.paths, self.optimizer, self.base, self.lr = paths, optimizer, base, lr
        self._watch = InputWatch(paths.model, paths.layers)
        self._unit_slopes = torch.zeros(0)
        self._decision: Decision | None = None

    def before_step(self, step: int) -> None:
        """In a turn of the inputs, watch them."""
        if self._inputs_turn(step):
            self._watch.begin()

    def after_backward(self, step: int) -> None:
        """Read what gates do to the loss; the update is of the weights without their gates."""
        self._watch.end()
        weights = not self._inputs_turn(step)
        if weights:
            self.paths.observe_weights()
        self.paths.units.uncover()
        if weights:
            self._unit_slopes = self.paths.units.slopes()
        self.paths.units.mask_gradients()

    def after_step(self, step: int) -> None:
        """Train steps and thresholds; decide where it is due."""
        paths, done = self.paths, step + 1
        paths.steps.step(self.optimizer.param_groups[0]["lr"] / self.base * self.lr)
        if self._inputs_turn(step):
            before, sizes = paths.input_metrics, paths.sizes[1]
            paths.learn_inputs(self._watch.offsets(sizes, before), self._watch.metrics(before, sizes))
        else:
            paths.learn_weights(self._unit_slopes)
        self._decision = None
        if done == paths.plan.last:
            self._decision = paths.settle()
        else:
            if paths.plan.due(done):
                self._decision = paths.decide(done)
            paths.units.cover()

    def report(self, step: int, report: Reporter) -> None:
        """Bits, closed units and bit operations after a decision."""
        if self._decision is not None:
            report_decision(self._decision, step + 1, report, last=step + 1 == self.paths.plan.last)

    def _inputs_turn(self, step: int) -> bool:
        return self.paths.has_inputs and self.paths.plan.turn(step) % 2 == 1


def report_decision(decision: Decision, done: int, report: Reporter, last: bool) -> None:
    """Report what was decided after ``done`` steps; ``last``: for good."""
    removed = {"removed": decision.removed} if decision.removed else {}
    report.decision(done, bits=decision.bits, closed=decision.closed, rel_bops=decision.rel_bops, **removed)
    if last:
        report.log(
            f"decided after step {done}: {decision.closed} units go, bits are chosen, and "
            f"{100 * decision.rel_bops:.4g} % of the dense network's bit operations remain"
        )
