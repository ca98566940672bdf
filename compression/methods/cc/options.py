"""What collaborative compression reads of a budget: its asks and its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from compression.asks import HIGHEST_SPARSITY, MACS, Control, CostSaved, EqualBits
from compression.budget import Budget
from compression.errors import CompressionError
from compression.options import Integer
from compression.posttraining.options import MOST_SAMPLES
from compression.training.options import TrainingOptions


@dataclass(frozen=True)
class MacsRemoved(CostSaved):
    """The share of the dense network's MACs that is saved, by fewer units and lower ranks; a share of the units that
    another method removes is taken for it.

    A layer's own ``sparsity`` is the share that its rank saves of it, 0 leaves it whole; a group's is of its units.
    """

    field: str = MACS
    default: float = 0.5
    help: str = "the share in [0, 1) of the dense network's multiply-accumulates that is saved"
    option: str = "--macs"
    layer_bound: str = "sparsity"
    group_bound: str = "sparsity"

    def value(self, asks: Mapping[str, Any]) -> float:
        """The share.

        Raises:
            CompressionError: a value outside [0, 1), or two fields that say different things.
        """
        shares = [share for field in (self.field, "sparsity") if (share := self.accept(asks.get(field))) is not None]
        if len({*shares}) > 1:
            raise CompressionError(f"{self.field} and sparsity each say how much is removed: give one of them")
        return shares[0] if shares else self.default

    def control(self) -> Control:
        return Control("slider", "MACs saved", 0.0, HIGHEST_SPARSITY, 0.01, self.default)

    def bound_control(self, value: Any) -> Control:
        return Control("slider", "MACs saved by its rank", 0.0, HIGHEST_SPARSITY, 0.01, 0.0)


SAVED = MacsRemoved()
WEIGHT_BITS = EqualBits(field="weight_bits", default=8)


class CcOptions(TrainingOptions):
    """What collaborative compression takes beside the MACs that it saves and its bits."""

    units: Literal["joint", "none", "all"] = Field(
        "joint",
        title="Saving by whole units",
        description="How much of the saving whole units take: whatever leaves the least estimated error (joint), "
        "nothing, so that ranks save it all (none), or all of it (all).",
    )
    harm: Literal["output", "weights"] = Field(
        "output",
        title="Error counted",
        description="What error is counted, relative to each layer: that of its outputs on training inputs without "
        "labels, where factors come from whitened SVD, or that of its weights, from plain SVD.",
    )
    samples: Integer = Field(
        256,
        ge=1,
        le=MOST_SAMPLES,
        title="Training inputs looked at",
        description="With harm output: how many training inputs are looked at.",
    )
    tuning: Literal["weights", "none"] = Field(
        "weights",
        title="Training afterwards",
        description="Train the smaller network for the budget's epochs, or train nothing: norms are refitted, and the "
        "result is there at once, without a label.",
    )


def refuse_contradictions(budget: Budget, options: CcOptions) -> None:
    """Refuse bounds that the option ``units`` forbids, whatever the network.

    Raises:
        CompressionError: naming the layer or group.
    """
    for name, entry in budget.groups.items():
        lowest = entry.get("sparsity", (0, 1))[0]
        if lowest > 0 and options.units == "none":
            raise CompressionError(
                f"groups.{name}.sparsity: with units 'none' no unit is removed: remove the lower bound {lowest:g}, or "
                "choose units 'joint'"
            )
    for name, entry in budget.layers.items():
        if entry.get("sparsity") and options.units == "all":
            raise CompressionError(
                f"layers.{name}.sparsity: with units 'all' no layer is split into factors: remove the bound, or choose "
                "units 'joint'"
            )
