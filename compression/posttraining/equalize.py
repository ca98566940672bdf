"""Channel scales moved between layers before anything is rounded, so that one step serves all channels of a tensor.

A pair's producers are multiplied by s and its readers divided by s, unit by unit, which changes nothing but how the
numbers are distributed. Three formulas for s:

- ``cle``, cross-layer equalization (Nagel et al., arXiv 1906.04721, section 4.1): s = √(r₂ / r₁), r₁ and r₂ the
  ranges of the unit's rows and columns, over all pairs until nothing changes; no data.
- ``smooth``, SmoothQuant (Xiao et al., arXiv 2211.10438, section 4): readers × max|x|^α / max|w|^(1-α).
- ``awq`` (Lin et al., arXiv 2306.00978, section 3.2): readers × mean|x|^α, normalised, with the α of a grid that leaves
  the least output error once the readers' weights are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from compression import devices
from compression.errors import CompressionError
from compression.graph import Example, Graph, Inputs, parameter_map
from compression.graph.equality import difference, outputs
from compression.graph.running import in_mode
from compression.posttraining.absorb import absorb_high_biases
from compression.posttraining.cross_layer import balance_rows, cross_layer_scales
from compression.posttraining.pairs import Pair, Tensors, find_pairs
from compression.posttraining.ranges import Ranges, UnitRanges, pair_ranges
from compression.posttraining.smooth import activation_aware_scales, smooth_scales

Kind = Literal["cle", "smooth", "awq"]
KINDS: tuple[Kind, ...] = ("cle", "smooth", "awq")
UNCHANGED = 1e-4
"""Up to this share of the output's largest magnitude two networks of scaled fp32 weights compute the same."""


@dataclass(frozen=True)
class PairReport:
    """One pair: names of the parameters that produce and read its ``units``, and their ranges.

    ``producer_ranges`` and ``reader_ranges``: (before, after), each (least, largest) of r₁ or r₂ over the units; no
    ``reader_ranges`` where batch norms alone read them. ``alpha``: the exponent that was chosen, if one was.
    """

    producers: tuple[str, ...]
    readers: tuple[str, ...]
    units: int
    producer_ranges: Ranges
    reader_ranges: Ranges | None
    alpha: float | None = None


@dataclass(frozen=True)
class Report:
    """What :func:`equalize` did: ``pairs``, ``sweeps`` over them, and the largest ``difference`` of the outputs, as a
    share of their largest magnitude; ``absorbed``: channels whose high bias was moved into the next layer."""

    kind: str
    pairs: tuple[PairReport, ...]
    sweeps: int
    difference: float
    absorbed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@torch.no_grad()
def equalize(
    model: nn.Module,
    graph: Graph,
    kind: Kind,
    batches: Sequence[Example] | None = None,
    *,
    alpha: float = 0.5,
    bits: Mapping[str, int] | None = None,
    clip: str = "mse",
    absorb: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Report:
    """Scale the channels of a dense network, in place; what it computes does not change, which is checked.

    Args:
        model: trained, without quantizers.
        graph: its trace.
        kind: the formula (see the module).
        batches: a few inputs of the network; ``smooth`` and ``awq`` need them.
        alpha: of ``smooth``: 0 levels the weights alone, 1 the activations alone.
        bits: of ``awq``: layer → the bit-width of its weight; 8 for layers that are not named.
        clip: of ``awq``: the step of a weight, ``mse`` or ``max`` (:func:`compression.quant.nearest.rounding`).
        absorb: of ``cle``: also move high biases into the next layer (:mod:`.absorb`), which changes rare values.
        check: called before every pair that is searched; may raise to stop, and leaves the model as it was.

    Raises:
        CompressionError: an unknown kind, no batches where they are needed, quantizers on the model, or outputs that
            differ afterwards; the model is then as it was.
    """
    _check(kind, batches, alpha)
    pairs, tensors = find_pairs(model, graph), parameter_map(model)
    changing = [pair for pair in pairs if pair.columns or kind == "cle"]
    device = devices.device_of(model)
    example = Inputs.read(graph.example(2)).map(lambda tensor: tensor.to(device))
    expected = outputs(model, example)
    with in_mode(model), _undone_on_error(tensors, changing):
        before = pair_ranges(changing, tensors)
        alphas: list[float | None] = [None] * len(changing)
        sweeps = 1
        if kind == "cle":
            sweeps = _cross_layer(changing, tensors)
        elif kind == "smooth":
            smooth_scales(model, changing, tensors, batches or (), alpha)
        else:
            alphas = activation_aware_scales(model, changing, tensors, batches or (), dict(bits or {}), clip, check)
        after = pair_ranges(changing, tensors)
        changed = _check_unchanged(model, example, expected)
        absorbed = absorb_high_biases(model, pairs, tensors) if absorb and kind == "cle" else 0
    rows = zip(changing, before, after, alphas, strict=True)
    return Report(kind, tuple(_reported(*row) for row in rows), sweeps, changed, absorbed)


def _reported(pair: Pair, before: UnitRanges, after: UnitRanges, alpha: float | None) -> PairReport:
    return PairReport(
        tuple(part.name for part in pair.producers),
        tuple(part.name for part in pair.having("column", "statistics")),
        pair.units,
        _both(before[0], after[0]),
        None if before[1] is None or after[1] is None else _both(before[1], after[1]),
        alpha,
    )


def _check(kind: str, batches: Sequence[Example] | None, alpha: float) -> None:
    if kind not in KINDS:
        raise CompressionError(f"equalize must be one of {', '.join(KINDS)}, not {kind!r}")
    if kind != "cle" and not batches:
        raise CompressionError(f"equalize {kind} reads the activations of a few inputs: give batches")
    if not 0 <= alpha <= 1:
        raise CompressionError(f"alpha must be a number in 0..1, not {alpha!r}")


def _cross_layer(pairs: Sequence[Pair], tensors: Tensors) -> int:
    """Equal ranges for every pair, then rows of one range in front of batch norms; returns the number of sweeps."""
    scales, sweeps = cross_layer_scales(pairs, tensors)
    for pair, factors in zip(pairs, scales, strict=True):
        pair.scale(tensors, factors)
    balance_rows(pairs, tensors)
    return sweeps


def _both(before: torch.Tensor, after: torch.Tensor) -> Ranges:
    return (float(before.min()), float(before.max())), (float(after.min()), float(after.max()))


@contextmanager
def _undone_on_error(tensors: Tensors, pairs: Sequence[Pair]) -> Iterator[None]:
    """Whatever is raised, the tensors of these pairs have their values of before."""
    names = {name for pair in pairs for name in pair.tensors}
    saved = {name: tensors[name].clone() for name in names}
    try:
        yield
    except BaseException:
        for name, values in saved.items():
            tensors[name].copy_(values)
        raise


def _check_unchanged(model: nn.Module, example: Inputs, expected: list[torch.Tensor]) -> float:
    """How far the outputs are from those of before, as a share of their largest magnitude.

    Raises:
        CompressionError: further than rounding explains.
    """
    result = outputs(model, example)
    largest = max((float(x.nan_to_num(0, 0, 0).abs().max()) for x in expected if x.numel()), default=0.0)
    relative = difference(expected, result) / max(largest, torch.finfo(torch.float32).tiny)
    if not relative <= UNCHANGED:
        raise CompressionError(
            f"the equalized model differs from the dense one by {relative:.1e} of the output: nothing was changed; "
            "use equalize none for this network"
        )
    return relative
