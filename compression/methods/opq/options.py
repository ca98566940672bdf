"""What OPQ reads of a budget: its asks and options, what these may be, and one clear line when they are not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from compression.asks import WEIGHTS, AverageBits, Sparsity
from compression.bounds import HIGHEST_BITS, check_bits, check_share
from compression.errors import CompressionError
from compression.options import PositiveNumber
from compression.reading import Text
from compression.training.options import QuantizationOptions, TrainingOptions

TRAINING = [name for name in TrainingOptions.model_fields if name not in QuantizationOptions.model_fields]
"""Options that only training reads."""
SPARSITY, BITS = Sparsity(target=WEIGHTS), AverageBits()


class OpqOptions(TrainingOptions):
    """What OPQ takes beside its sparsity and average bits."""

    prune_mode: Literal["laplace", "empirical", "uniform"] = Field(
        "laplace",
        title="How zeros are shared out",
        description="How the zeros are shared out: by one threshold in closed form on a Laplace model of the weights "
        "(laplace), on the weights themselves (empirical, the exact optimum), or equally (uniform).",
    )
    scope: Literal["network", "layer"] = Field(
        "network",
        title="Average bits hold for",
        description="What the average bits hold for: the whole network, whose layers then get different bit-widths, "
        "or every layer by itself.",
    )
    grid: Literal["plain", "survivor"] = Field(
        "plain",
        title="Levels of the weights",
        description="Levels of the weights that are not pruned: multiples of the step (plain), or steps counted from "
        "the layer's pruning threshold (survivor), where no level is wasted below it. It costs 4 bytes more for each "
        "layer and pays where weights are pruned; where none are, small ones are better rounded to zero (plain, zeros "
        "rounded).",
    )
    codebook: Literal["layer", "channel"] = Field(
        "layer",
        title="Step shared by",
        description="What shares a step: all weights of a layer (layer), as OPQ has it; or those of one output "
        "channel, its scale times one set of levels (channel): an addition, not part of OPQ, whose channels cost 4 "
        "bytes each.",
    )
    omega: Literal["equal", "scale", "energy"] | Mapping[Text, PositiveNumber] = Field(
        "equal",
        title="What a layer's error counts",
        description="What a layer's squared error counts: the same everywhere, relative to its scale (1/τ²) or to its "
        "energy (1/Σw²). A budget file may also give numbers by layer.",
    )
    skip: tuple[Text, ...] = Field((), description="Layers that are left alone; they do not count in the sparsity.")
    zeros: Literal["exact", "rounded"] = Field(
        "exact",
        title="What code 0 holds",
        description="Whether code 0 is kept for pruned weights, so that exactly as many are zero as requested "
        "(exact), or small weights may round to zero as well (rounded): that is the smaller error where few or no "
        "weights are pruned.",
    )
    tables: Literal["exact", "laplace"] = Field(
        "exact",
        title="Steps computed from",
        description="Where a layer's step comes from: searched on its weights, and the bits proven optimal (exact), "
        "or both from the Laplace model (laplace), which is faster.",
    )

    rounding: Literal["nearest", "learned"] = Field(
        "nearest",
        title="Rounding of the weights",
        description="How the weights that are not pruned come onto their grid: rounded to the nearest level while they "
        "are fine-tuned (nearest), or with nothing trained: layer by layer it is learnt which of them round up and "
        "which down, so that the layer's output changes least on 512 training inputs without labels, as AdaRound does "
        "(learned). Zeros and steps stay those of the allocation; epochs are not read.",
    )

    @property
    def skipped(self) -> Collection[str]:
        """The layers of ``skip``."""
        return self.skip

    @model_validator(mode="after")
    def _check_together(self) -> OpqOptions:
        """Refuse options that exclude each other."""
        if self.grid == "survivor" and self.zeros == "rounded":
            raise CompressionError("opq: zeros rounded does not go with grid survivor, which has no level near zero")
        if self.grid == "survivor" and self.oscillation != "none":
            raise CompressionError(
                f"opq: oscillation {self.oscillation} does not go with grid survivor, whose levels are no multiples of "
                "the step"
            )
        if self.grid == "survivor" and self.codebook == "channel":
            raise CompressionError("opq: codebook channel does not go with grid survivor: thresholds are the layer's")
        if self.rounding == "learned":
            self._check_untrained()
        return self

    def _check_untrained(self) -> None:
        if self.grid == "survivor":
            raise CompressionError("opq: rounding learned does not go with grid survivor, only with grid plain")
        for name in TRAINING:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise CompressionError(f"opq: {name} does not go with rounding learned, which trains nothing")


def check_settings(sparsity: float, bits: float, **options: Any) -> OpqOptions:
    """The options as their type; refuses one that is not known, or a number out of range, by name."""
    check_share(sparsity, "sparsity")
    check_bits((bits, HIGHEST_BITS), "bits")
    return OpqOptions.read(options, "opq")


def check_names(chosen: Mapping[str, Any], layers: Collection[str]) -> None:
    """Refuse options that name layers which are not there.

    Raises:
        CompressionError: naming the option and the layer.
    """
    omega = chosen.get("omega")
    for option, named in (("skip", chosen.get("skip", ())), ("omega", omega if isinstance(omega, Mapping) else ())):
        for name in named:
            if name not in layers:
                raise CompressionError(f"opq: {option}: no layer {name!r}; layers: {', '.join(layers)}")
