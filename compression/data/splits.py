"""Stratified splits with a fixed seed: the same images are validation and test on every machine, in every run."""

from __future__ import annotations

import torch

from compression.data.types import Split

SPLIT_SEED = 0
VALIDATION_SHARE = 0.1


def stratify(labels: torch.Tensor, share: float, seed: int = SPLIT_SEED) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of (the rest, the share held out): ``share`` of every class, at least one image of a class that has two.

    ``labels``: int64 [N]. Both index tensors are in random order, so any prefix is nearly balanced.
    """
    generator = torch.Generator().manual_seed(seed)
    rest, held = [], []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        count = max(round(share * len(members)), 1 if len(members) > 1 else 0)
        held.append(members[:count])
        rest.append(members[count:])
    return _shuffle(torch.cat(rest), generator), _shuffle(torch.cat(held), generator)


def _shuffle(indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return indices[torch.randperm(len(indices), generator=generator)]


def hold_out(split: Split, share: float, seed: int = SPLIT_SEED) -> tuple[Split, Split]:
    """Divide a split into (the rest, the share held out), stratified by class where each example has one."""
    classes = split.labels if split.labels.dim() == 1 else torch.zeros(len(split), dtype=torch.long)
    rest, held = stratify(classes, share, seed)
    return split.subset(rest), split.subset(held)


def shuffled(split: Split, seed: int = SPLIT_SEED) -> Split:
    """The same images in a fixed random order, so that any prefix is nearly balanced."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return split.subset(order)
