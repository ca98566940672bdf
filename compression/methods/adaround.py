"""AdaRound (Nagel, Amjad, van Baalen, Louizos, Blankevoort, arXiv 2004.10568): rounding up or down is learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from compression.errors import CompressionError
from compression.methods.base import Info
from compression.methods.layerwise import LayerwiseMethod
from compression.options import Integer, Real
from compression.posttraining.options import ITERATIONS, RATE, STRENGTH, LayerwiseOptions
from compression.training.setup import LAYERWISE_STAGES

if TYPE_CHECKING:
    from compression.posttraining.block_problem import SolveBlock
    from compression.posttraining.problems import Solve


class AdaRoundOptions(LayerwiseOptions):
    """What :class:`AdaRound` takes beside its bits."""

    scope: Literal["layer", "block"] = Field(
        "layer",
        title="Rounding learned for",
        description="Whose output is to change least: that of each layer by itself (layer), or of each residual block "
        "or encoder layer, all of whose weights are learnt together so that their errors may cancel (block, as in "
        "BRECQ). A block holds at most 16 layers, and takes as many of the samples as fit into 512 MB with their "
        "outputs; layers in no block are learnt by themselves. Blocks take four times as long, and fit the batch norms "
        "as they are: statistics false goes better with them.",
    )
    iterations: Integer = Field(
        ITERATIONS,
        ge=1,
        le=100_000,
        title="Iterations",
        description="Steps in which the rounding of a layer is learnt, all of its weights at once; for a block these "
        "are steps on 32 samples.",
    )
    rate: Real = Field(
        RATE, ge=1e-5, le=1, title="Learning rate of the rounding", description="Learning rate of these steps (Adam)."
    )
    strength: Real = Field(
        STRENGTH,
        ge=0,
        le=1e6,
        title="Strength of the penalty",
        description="What a weight costs that is neither up nor down, relative to the mean output error of a weight "
        "rounded to nearest.",
    )

    @model_validator(mode="after")
    def _check_scope(self) -> AdaRoundOptions:
        """Refuse weights aligned layer by layer where blocks are compared with the dense network's output anyway."""
        if self.scope == "block" and self.inputs == "aligned":
            raise CompressionError(
                "adaround: inputs aligned goes with scope layer: a block learns to give the dense network's output "
                "from compressed inputs as it is"
            )
        return self


class AdaRound(LayerwiseMethod):
    """Learned rounding, layer by layer or block by block, against the output of the layer or block."""

    info = Info(
        name="adaround",
        label="AdaRound",
        sentence="**AdaRound** learns for every weight whether it is rounded up or down, so that the layer's output "
        "changes least for a few inputs without labels.",
        family="quantization",
        slot=7,
        lesson="following",
        stages=LAYERWISE_STAGES,
        paper="arXiv 2004.10568",
        trains=False,
    )
    Config = AdaRoundOptions

    def solver(self, options: AdaRoundOptions) -> Solve:
        """A rounding variable for each weight."""
        from compression.posttraining.learned import LearnedRounding

        return LearnedRounding(options.iterations, options.rate, options.strength)

    def block_solver(self, options: AdaRoundOptions) -> SolveBlock | None:
        """Rounding variables of all layers of a block, where the scope is that."""
        if options.scope == "layer":
            return None
        from compression.posttraining.learned_block import LearnedBlock

        return LearnedBlock(options.iterations, options.rate, options.strength)


METHOD = ADAROUND = AdaRound()
