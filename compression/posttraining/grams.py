"""Layer statistics: sums over what flows into a layer, taken while inputs stream through the network.

No activation is ever stored, only d² numbers for each layer, however many inputs there are.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compression import devices
from compression.errors import CompressionError
from compression.graph.inputs import Example, call
from compression.graph.running import in_mode
from compression.posttraining.rows import rows

ROWS = 256
"""Of each input so many rows of a layer are taken at most: neighbouring patches say much the same."""


@dataclass
class LayerInputs:
    """Sums over the rows x̃ that flow into a layer, for each group of a convolution.

    ``gram``: Σ x̃ x̃ᵀ, fp64 [groups, d, d]; ``cross``: Σ x̃ xᵀ with the rows x of the dense network, ``None`` where that
    was not run beside it; ``total``: Σ x̃ [groups, d]; ``count``: how many rows.
    """

    gram: torch.Tensor
    cross: torch.Tensor | None
    total: torch.Tensor
    count: int

    @property
    def mean(self) -> torch.Tensor:
        """The mean row [groups, d]."""
        return self.total / max(self.count, 1)

    def add(self, taken: torch.Tensor, dense: torch.Tensor | None) -> None:
        """More rows [groups, n, d], and those of the dense network in the same order."""
        self.gram += (taken.mT @ taken).to(self.gram.dtype)
        self.total += taken.sum(1, dtype=self.total.dtype)
        self.count += taken.shape[1]
        if self.cross is not None and dense is not None:
            self.cross += (taken.mT @ dense).to(self.gram.dtype)


class _Reached(Exception):
    """The layers have what was looked for: the rest of the network need not be computed."""


@contextlib.contextmanager
def watching(
    model: nn.Module, layers: Iterable[str], take: Callable[[str, nn.Module, torch.Tensor], None], last: int = 0
) -> Iterator[None]:
    """Give the input of every call of these layers to ``take``; the ``last`` one (0: none) ends the forward pass."""
    calls = itertools.count(1)

    def hook_of(path: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            take(path, layer, (args[0] if args else kwargs["input"]).detach())
            if next(calls) == last:
                raise _Reached

        return hook

    handles = [model.get_submodule(path).register_forward_pre_hook(hook_of(path), with_kwargs=True) for path in layers]
    try:
        with in_mode(model), contextlib.suppress(_Reached):
            yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def collect(
    model: nn.Module,
    layers: Mapping[str, str],
    batches: Iterable[Example],
    dense: nn.Module | None = None,
    *,
    seed: int = 0,
    most: int = ROWS,
    last: int = 0,
) -> dict[str, LayerInputs]:
    """Sums over the rows that flow into layers of ``model`` in evaluation mode, its input quantizers included.

    Args:
        layers: module path → the name under which its sums are added; modules that share a weight have one name. A
            name whose modules are never called has no entry.
        batches: inputs of the model.
        dense: the network before compression, run on the same inputs, for ``cross``.
        seed: of the positions that are taken where an input has more than ``most`` rows.
        last: the number of calls of these layers after which the rest of a forward pass is left out; 0: none is.

    Raises:
        CompressionError: an input of a layer that is not finite.
    """
    sums: dict[str, LayerInputs] = {}
    for number, x in enumerate(batches):
        uncompressed: list[torch.Tensor] = []

        def rows_of(layer: nn.Module, value: torch.Tensor, number: int = number) -> torch.Tensor:
            return rows(layer, value, most, torch.Generator().manual_seed(seed + number))

        def keep(_: str, layer: nn.Module, value: torch.Tensor, of_dense: list[torch.Tensor] = uncompressed) -> None:
            of_dense.append(rows_of(layer, value))

        def add(path: str, layer: nn.Module, value: torch.Tensor, of_dense: list[torch.Tensor] = uncompressed) -> None:
            taken = rows_of(layer, value)
            if layers[path] not in sums:
                sums[layers[path]] = _empty(taken, dense is not None)
            sums[layers[path]].add(taken, None if dense is None else of_dense.pop(0))

        if dense is not None:
            with watching(dense, layers, keep, last):
                call(dense, x)
        with watching(model, layers, add, last):
            call(model, x)
    for name, each in sums.items():
        if not bool(torch.isfinite(each.gram).all()):
            raise CompressionError(f"layer {name}: its inputs are not finite; check the model and the data")
    return sums


def _empty(rows_taken: torch.Tensor, cross: bool) -> LayerInputs:
    groups, _, d = rows_taken.shape
    dtype = devices.exact_dtype(rows_taken.device)
    square = torch.zeros(groups, d, d, dtype=dtype, device=rows_taken.device)
    return LayerInputs(square, square.clone() if cross else None, square[:, 0].clone(), 0)
