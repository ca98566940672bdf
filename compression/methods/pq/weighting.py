"""What the inputs of a layer say about its blocks: errors along inputs that are large, or alike, count more.

Stock et al., arXiv 1907.05686, section 3.2: clusters are those of least |X (w - ŵ)|², not of least |w - ŵ|². Of a
block v and its centroid c that is (v - c)ᵀ S (v - c), with S the second moments of the inputs that the block meets; all
blocks of a layer share one S here, the mean over its blocks. With S = R R the blocks R v are clustered as they are, and
the centroid is the mean of its blocks under any S.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from compression import devices
from compression.errors import CompressionError
from compression.graph.inputs import Example, call
from compression.posttraining.grams import ROWS, watching
from compression.posttraining.rows import rows

Roots = Mapping[str, Mapping[int, torch.Tensor]]
"""Layer → length d of blocks → R, fp32 [d, d]; layers without are clustered as they are."""
RIDGE = 1e-3
"""Share of its mean diagonal that is added to S: inputs that were always 0 count a little."""


@torch.no_grad()
def input_roots(
    model: nn.Module,
    lengths: Mapping[str, Sequence[int]],
    batches: Iterable[Example],
    seed: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Roots:
    """R of layers at the lengths that their blocks may have, from inputs without labels.

    S is scaled to a mean diagonal of 1, so that errors count on average as they do without it, also beside embeddings,
    which have no R. Nor have transposed convolutions, whose blocks run along outputs, and layers that are never called.

    Args:
        lengths: layer → the lengths; a weight that several modules share is that of the first.
        seed: of the positions taken where an input has many rows.

    Raises:
        CompressionError: inputs of a layer that are not finite.
    """
    first = {id(model.get_submodule(name).weight): name for name in lengths}
    paths = {
        path: first[id(module.weight)]
        for path, module in model.named_modules()
        if id(getattr(module, "weight", None)) in first and not isinstance(module, (nn.Embedding, _ConvTransposeNd))
    }
    moments: dict[str, dict[int, torch.Tensor]] = {}
    for number, x in enumerate(batches):
        check()

        def add(path: str, layer: nn.Module, value: torch.Tensor, number: int = number) -> None:
            taken = rows(layer, value, ROWS, torch.Generator().manual_seed(seed + number))
            sums = moments.setdefault(paths[path], {})
            for length in lengths[paths[path]]:
                parts = taken.reshape(-1, length)  # of all rows and groups: what each block of the layer meets
                more = (parts.T @ parts).to(devices.exact_dtype(parts.device))
                sums[length] = sums[length] + more if length in sums else more

        with watching(model, paths, add):
            call(model, x)
    return {name: {length: _root(name, each) for length, each in sums.items()} for name, sums in moments.items()}


def _root(name: str, moments: torch.Tensor) -> torch.Tensor:
    """The symmetric root of S at a mean diagonal of 1; fp32 [d, d]."""
    if not bool(torch.isfinite(moments).all()):
        raise CompressionError(f"layer {name}: its inputs are not finite; check the model and the data")
    mean = float(moments.diagonal().mean())
    if mean <= 0:
        return torch.eye(len(moments), device=moments.device)
    scaled = (moments / mean).cpu().double()
    scaled = (scaled + RIDGE * torch.eye(len(scaled), dtype=torch.float64)) / (1 + RIDGE)
    values, vectors = torch.linalg.eigh(scaled)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    return root.float().to(moments.device)
