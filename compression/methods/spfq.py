"""GPFQ and SPFQ (Zhang, Zhou, Saab, arXiv 2201.11113, 2309.10975): each weight makes good for all before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from compression.methods.base import Info
from compression.methods.layerwise import LayerwiseMethod
from compression.posttraining.options import LayerwiseOptions, Order
from compression.training.setup import LAYERWISE_STAGES

if TYPE_CHECKING:
    from compression.posttraining.problems import Solve


class SpfqOptions(LayerwiseOptions):
    """What :class:`Spfq` takes beside its bits."""

    rounding: Literal["nearest", "stochastic"] = Field(
        "nearest",
        title="Rounding of the weights",
        description="How a weight goes to its grid: to the nearest value (GPFQ), or to one of the two beside it at "
        "random, so that the error is 0 on average (SPFQ), which has proven bounds and loses a little here.",
    )
    order: Order = "natural"


class Spfq(LayerwiseMethod):
    """Path following: the next weight is chosen so that the output error made so far is cancelled."""

    info = Info(
        name="spfq",
        label="Path following",
        sentence="**Path following** (GPFQ, SPFQ) rounds the weights of a neuron one after the other, each so that the "
        "output error made so far becomes as small as it can.",
        family="quantization",
        slot=6,
        lesson="following",
        stages=LAYERWISE_STAGES,
        paper="arXiv 2309.10975",
        trains=False,
    )
    Config = SpfqOptions

    def solver(self, options: SpfqOptions) -> Solve:
        """Path following along the inputs themselves."""
        from compression.posttraining.path import PathRounding

        return PathRounding("plain", 0.0, options.order == "energy", options.rounding == "stochastic")


METHOD = SPFQ = Spfq()
