"""GPTQ (Frantar, Ashkboos, Hoefler, Alistarh, arXiv 2210.17323): what a weight loses, those after it make good for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from compression.methods.base import Info
from compression.methods.layerwise import LayerwiseMethod
from compression.options import Real
from compression.posttraining.options import LayerwiseOptions, Order
from compression.training.setup import LAYERWISE_STAGES

if TYPE_CHECKING:
    from compression.posttraining.problems import Solve


class GptqOptions(LayerwiseOptions):
    """What :class:`Gptq` takes beside its bits."""

    order: Order = "natural"
    damping: Real = Field(
        0.01,
        ge=0,
        le=10,
        title="Damping of the inputs",
        description="Share of the mean squared input that is added to every squared input: more of it trusts the "
        "inputs less. It is raised, and the log says so, where they depend on each other.",
    )


class Gptq(LayerwiseMethod):
    """GPTQ: path following along the part of each input that is orthogonal to all later ones."""

    info = Info(
        name="gptq",
        label="GPTQ",
        sentence="**GPTQ** rounds the weights of a neuron one after the other; those not yet rounded make good for the "
        "error, as a few inputs without labels show it.",
        family="quantization",
        slot=5,
        lesson="following",
        stages=LAYERWISE_STAGES,
        paper="arXiv 2210.17323",
        trains=False,
    )
    Config = GptqOptions

    def solver(self, options: GptqOptions) -> Solve:
        """Path following, orthogonal to later inputs."""
        from compression.posttraining.path import PathRounding

        return PathRounding("orthogonal", options.damping, options.order == "energy")


METHOD = GPTQ = Gptq()
