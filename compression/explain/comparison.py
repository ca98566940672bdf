"""How similar the explanations of two models are, on a scale: what the same model reaches, and what chance reaches.

A similarity of 0.7 says nothing by itself (Adebayo et al. 2018, arXiv 1810.03292). So every score comes with

- a *ceiling*: the dense model against itself, the image carrying noise of two grey levels out of 255, which no eye
  sees. (The same computation in fp64 would only show that fp32 rounds: it gives 1.000 and is a test, not a scale.) A
  model compressed so gently that it differs less than that can score above the ceiling.
- two *floors*: the same architecture with random weights, and the dense model's explanation of another image. The
  higher of the two is the floor; a score there means that the explanation is specific to neither this image nor these
  weights.

Every model explains the class that the dense model answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from compression.errors import CompressionError
from compression.explain.attribution import Explainer, completeness, passes
from compression.explain.attribution_methods import METHODS
from compression.explain.measures import MEASURES, similarity
from compression.explain.models import SPLIT, Pair
from compression.reading import Flag, Measured, Signed, Text, Whole

COMPRESSED, CEILING, RANDOM, SHUFFLED = "compressed", "ceiling", "random", "shuffled"
AGAINST = (COMPRESSED, CEILING, RANDOM, SHUFFLED)
NOISE = 2.0  # grey levels out of 255, the standard deviation of the ceiling's noise
CHUNK = 8
FEWEST = 2

Maps = NDArray[np.float32]
Say = Callable[[str, float], None]
Scores = Mapping[str, Mapping[str, Sequence[Measured]]]  # measure → what the dense model is compared with → per image


@dataclass(frozen=True)
class Comparison:
    """``scores``: method → its scores, one per image; ``refused``: method → why there are none.

    ``images``: their places in the test split; ``changed``: on how many of them the class changed; ``missing``: what
    integrated gradients miss of the logit's rise, in logits, dense and compressed (means).
    """

    seed: Signed
    images: tuple[Whole, ...]
    changed: Whole
    layer: Text
    straight_through: Flag
    scores: Mapping[str, Scores] = field(default_factory=dict)
    refused: Mapping[str, Text] = field(default_factory=dict)
    missing: tuple[Measured, Measured] | None = None


@dataclass(frozen=True, eq=False)
class Explainers:
    """One for each model; all look at the same layer in Grad-CAM where the small model still has it."""

    dense: Explainer
    small: Explainer
    random: Explainer

    @classmethod
    def from_pair(cls, models: Pair) -> Explainers:
        """Copies of the three models."""
        dense = Explainer(models.dense, models.input)
        small, random = (Explainer(model, models.input, dense.layer.name) for model in (models.small, models.random))
        return cls(dense, small, random)

    def refusal(self, method: str) -> str:
        """Why a method says nothing about one of the two models; empty where it does."""
        return self.dense.refusal(method) or self.small.refusal(method)


def sample(total: int, images: int, seed: int) -> list[int]:
    """Places of ``images`` test images drawn without replacement, in order; all where there are fewer.

    Raises:
        CompressionError: fewer than two are requested or available.
    """
    if min(total, images) < FEWEST:
        raise CompressionError(f"a comparison takes at least {FEWEST} images, not {min(total, images)}")
    generator = torch.Generator().manual_seed(seed)
    return sorted(torch.randperm(total, generator=generator)[:images].tolist())


def compare(
    models: Pair, images: int = 32, seed: int = 0, methods: Sequence[str] = tuple(METHODS), say: Say | None = None
) -> Comparison:
    """Score the small model's explanations against the dense model's, on a seeded sample of the test split.

    Args:
        models: both, and the random one for the floor.
        images: how many, at least 2; 32 or more for means to rely on.
        seed: of the sample and the ceiling's noise.
        methods: names in :data:`METHODS`.
        say: called with what is done now, and the share that is done.

    Raises:
        CompressionError: too few images.
    """
    chosen = sample(len(models.data.split(SPLIT)), images, seed)
    explainers, batch = Explainers.from_pair(models), models.images(chosen)
    with torch.no_grad():
        targets, now = models.dense(batch).argmax(1), models.small(batch).argmax(1)
    refused = {name: reason for name in methods if (reason := explainers.refusal(name))}
    able = [name for name in methods if name not in refused]
    noise = _noise(models, batch, seed)
    scores, missing, progress = {}, None, ComparisonProgress(able, models.input, say)
    for name in able:
        maps = _all_maps(explainers, name, batch, noise, targets, progress)
        scores[name] = score(maps, METHODS[name].signed)
        if name == "integrated_gradients":
            missing = _missing(models, batch, targets, maps)
    return Comparison(
        seed, tuple(chosen), int((targets != now).sum()), explainers.dense.layer.name,
        explainers.small.straight_through, scores, refused, missing,
    )  # fmt: skip


def _missing(models: Pair, batch: torch.Tensor, targets: torch.Tensor, maps: Mapping[str, Maps]) -> tuple[float, float]:
    both = ((models.dense, "dense"), (models.small, COMPRESSED))
    dense, small = (
        completeness(model, batch, targets, torch.from_numpy(maps[key]).to(models.device)) for model, key in both
    )
    return float(dense.mean()), float(small.mean())


class ComparisonProgress:
    """Reports the progress, each method weighed by its passes through the network."""

    def __init__(self, methods: Sequence[str], input: tuple[int, ...], say: Say | None) -> None:
        self._weights = {name: passes(name, input) for name in methods}
        self._say, self._done = say or (lambda text, share: None), 0.0

    def step(self, method: str, part: float) -> None:
        """A part (0..1) of a method's work begins now."""
        self._say(METHODS[method].label.lower(), min(1.0, self._done / max(1, sum(self._weights.values()))))
        self._done += self._weights[method] * part


def score(maps: Mapping[str, Maps], signed: bool) -> Scores:
    """The scores of one method from its maps [N, H, W]: ``dense`` and those of :data:`AGAINST`."""
    scores: dict[str, dict[str, list[float]]] = {measure: {key: [] for key in AGAINST} for measure in MEASURES}
    for key in AGAINST:
        for one, other in zip(maps["dense"], maps[key], strict=True):
            for measure, value in similarity(one, other, signed).items():
                scores[measure][key].append(value)
    return scores


def _noise(models: Pair, batch: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    std = torch.tensor(models.data.std).view(1, -1, 1, 1)
    return (torch.randn(batch.shape, generator=generator) * (NOISE / 255) / std).to(batch.device)


def _all_maps(
    explainers: Explainers,
    method: str,
    batch: torch.Tensor,
    noise: torch.Tensor,
    targets: torch.Tensor,
    progress: ComparisonProgress,
) -> dict[str, Maps]:
    """Maps [N, H, W] of the dense model and of all it is compared with."""
    parts: dict[str, list[Maps]] = {"dense": [], COMPRESSED: [], CEILING: [], RANDOM: []}
    for start in range(0, len(batch), CHUNK):
        progress.step(method, min(CHUNK, len(batch) - start) / len(batch))
        images, classes = batch[start : start + CHUNK], targets[start : start + CHUNK]
        noisy = images + noise[start : start + CHUNK]
        for key, explainer, seen in (
            ("dense", explainers.dense, images),
            (COMPRESSED, explainers.small, images),
            (CEILING, explainers.dense, noisy),
            (RANDOM, explainers.random, images),
        ):
            parts[key].append(explainer.attribute(method, seen, classes).cpu().numpy())
    maps = {key: np.concatenate(chunks) for key, chunks in parts.items()}
    return maps | {SHUFFLED: np.roll(maps["dense"], 1, axis=0)}
