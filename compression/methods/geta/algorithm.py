"""What GETA does within the shared training loop: observing saliency, fitting bounds, reporting what QASSO chose."""

from __future__ import annotations

from collections.abc import Callable

import torch

from compression.methods.geta.events import report_decisions
from compression.methods.geta.options import GetaOptions
from compression.methods.geta.qasso import QASSO
from compression.methods.geta.schedule import COOL_DOWN, JOINT
from compression.pruning.criteria import MOVEMENT
from compression.pruning.scores import ScoreWindow, UnitScores
from compression.pruning.unit_cost import UnitPrices
from compression.quant.attach import activation_quantizers, fit_ranges
from compression.quant.clipping import fit_clips
from compression.training import parallel
from compression.training.setup import Reporter, Setup
from compression.training.trainer import Algorithm, Section


class JointTraining(Algorithm):
    """One run around QASSO, between attaching the quantizers and returning the compressed model."""

    def __init__(
        self, setup: Setup, optimizer: QASSO, options: GetaOptions, calibration: Callable[[], list[torch.Tensor]]
    ) -> None:
        self.setup, self.optimizer, self.options, self.calibration = setup, optimizer, options, calibration
        self.scores: UnitScores | None = None
        self.window: ScoreWindow | None = None
        lasting = MOVEMENT in options.criteria
        if optimizer.prunes and (options.saliency_batches > 1 or options.cost != "none" or lasting):
            self.scores = UnitScores(optimizer.units, setup.graph, options, lasting=True)
            optimizer.scorer, optimizer.prices = self._take_scores, self._prices
            optimizer.renew_prices = options.renew_prices
            self.window = ScoreWindow(self.scores, self._choices())

    @property
    def section(self) -> Section:
        """The whole run is one section of four stages; the learning rate is never quite 0, at its ends neither."""
        stages = self.optimizer.stages
        return Section(
            name="training",
            optimizer=self.optimizer,
            first=0,
            last=stages.total,
            phases={first - 1: stage for stage, first in stages.starts().items()},
            curve=(-1, stages.total),
            parts={} if self.scores is None else {"saliency": self.scores},
            number=1,
        )

    def before_step(self, step: int) -> None:
        """Bounds are fitted once more when the bit-widths become final: weights and activations are others by now."""
        if step + 1 != self.optimizer.stages.starts()[COOL_DOWN]:
            return
        if self.optimizer.priced is not None:
            self.optimizer.freeze_bits()  # ranges are fitted to the bits that the layers will have
        if self.options.clip == "fitted":
            fit_clips(self.setup.model, lambda _, quantizer: round(quantizer.bits()))
        if self.options.ranges == "fitted" and activation_quantizers(self.setup.model):
            fit_ranges(self.setup.model, self.calibration())
        parallel.take_first(self.setup.model)

    def after_backward(self, step: int) -> None:
        """Observe the gradients that a choice of units is made by."""
        if self.window is not None:
            self.window.observe(step + 1)

    def report(self, step: int, report: Reporter) -> None:
        """Report what QASSO decided."""
        report_decisions(self.optimizer, report)

    def restore(self) -> None:
        """Recompute the steps of all quantizers from their whole bit-widths."""
        self.optimizer.bounds.freeze_bits()

    def _take_scores(self) -> torch.Tensor:
        assert self.scores is not None
        return self.scores.take(self.optimizer.removed)

    def _prices(self) -> UnitPrices:
        assert self.scores is not None
        return self.scores.prices(self.optimizer.removed)

    def _choices(self) -> list[int]:
        """The steps (from 1) in which redundant units are chosen."""
        stages = self.optimizer.stages
        joint = range(stages.before(JOINT) + 1, stages.ends[JOINT] + 1)
        return [number for number in joint if stages.period(number).position == 1]
