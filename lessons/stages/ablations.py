"""Recorded runs of one epoch in which one rule of GETA is switched off, beside the one with all rules on."""

from __future__ import annotations

from dataclasses import dataclass

from lessons import recorded

ALL_RULES = "short-tuned"
RULES = {
    "short-cut": "Periods and slow forgetting",
    "short-one-period": "Choose in ten periods",
    "short-one-reduction": "Lower the bits in four reductions",
    "short-one-batch": "Average saliency over 100 steps",
    "short-no-cost": "Weigh saliency by MACs",
    "short-labels-only": "Learn from the dense network",
    "short-widest-range": "Fit the clipping bounds",
    "short-no-rate-warmup": "Warm the learning rate up",
}
WITHOUT = {
    "short-cut": "All channels are chosen in one period and cut within two steps, not forgotten over the joint stage.",
    "short-one-period": "One period chooses all channels at once, so none is judged by a network that has lost some.",
    "short-one-reduction": "The bit bound falls to 4 at once, so the network never trains at the bits between.",
    "short-one-batch": "One batch of 128 images decides which channels go, instead of a hundred.",
    "short-no-cost": "Saliency ignores what a channel costs and takes cheap ones: more must go to save the same work.",
    "short-labels-only": "No distillation: the labels alone tell the network what to relearn.",
    "short-widest-range": "Bounds lie at the largest weight, so the steps are coarser.",
    "short-no-rate-warmup": "The learning rate begins at its full height.",
}


@dataclass(frozen=True)
class Ablation:
    """One run: which ``rule`` is off, its test accuracy and the dense model's, its units removed and BOPs (0..1)."""

    run: str
    rule: str
    accuracy: float
    dense: float
    removed: float
    rel_bops: float

    @property
    def lost(self) -> float:
        """Points of test accuracy below the dense model."""
        return 100 * (self.dense - self.accuracy)


def read(run: str) -> Ablation:
    """The figures of a run, from its result.

    Raises:
        CompressionError: the gallery has no such run.
    """
    result = recorded.result(run)
    final, dense = result["final"], result["baseline"]
    rule = RULES.get(run, "all rules on")
    return Ablation(run, rule, final["accuracy"], dense["accuracy"], final["unit_sparsity"], final["rel_bops"])


def ablations() -> dict[str, Ablation]:
    """Run → its figures, of those the gallery has; those that lose most first."""
    runs = [read(run) for run in RULES if run in recorded.names()]
    return {each.run: each for each in sorted(runs, key=lambda each: -each.lost)}
