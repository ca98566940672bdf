"""AdaRound (Nagel, Amjad, van Baalen, Louizos, Blankevoort, arXiv 2004.10568): rounding up or down is learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from compression.methods.base import Info
from compression.methods.layerwise import LayerwiseMethod
from compression.options import Integer, Real
from compression.posttraining.options import ITERATIONS, RATE, STRENGTH, LayerwiseOptions
from compression.training.setup import LAYERWISE_STAGES

if TYPE_CHECKING:
    from compression.posttraining.layers import Solve


class AdaRoundOptions(LayerwiseOptions):
    """What :class:`AdaRound` takes beside its bits."""

    iterations: Integer = Field(
        ITERATIONS,
        ge=1,
        le=100_000,
        description="Steps in which the rounding of a layer is learnt, all of its weights at once.",
    )
    rate: Real = Field(RATE, ge=1e-5, le=1, description="Learning rate of these steps (Adam).")
    strength: Real = Field(
        STRENGTH,
        ge=0,
        le=1e6,
        description="What a weight costs that is neither up nor down, relative to the mean output error of a weight "
        "rounded to nearest.",
    )


class AdaRound(LayerwiseMethod):
    """Learned rounding, layer by layer, against the output of the layer."""

    info = Info(
        name="adaround",
        label="AdaRound",
        sentence="**AdaRound** learns for every weight whether it is rounded up or down, so that the layer's output "
        "changes least for a few inputs without labels.",
        family="quantization",
        slot=7,
        stages=LAYERWISE_STAGES,
        paper="arXiv 2004.10568",
        trains=False,
    )
    Config = AdaRoundOptions

    def solver(self, options: AdaRoundOptions) -> Solve:
        """A rounding variable for each weight."""
        from compression.posttraining.learned import LearnedRounding

        return LearnedRounding(options.iterations, options.rate, options.strength)


METHOD = ADAROUND = AdaRound()
