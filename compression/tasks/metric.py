"""What a task is measured by: one number, its name, its unit, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter
from pydantic_core import PydanticCustomError

from compression.errors import CompressionError
from compression.reading import Measured, Number, Text, Whole, typed

MOST_DECIMALS = 12


def _positive(value: float) -> float:
    if value <= 0:
        raise PydanticCustomError("positive", "must be above 0")
    return value


@dataclass(frozen=True)
class Metric:
    """The score of a task.

    ``name`` is its key in JSON and ``label`` its name within a sentence. A score lies in ``lowest`` … ``highest`` and
    is shown times ``scale`` with ``decimals`` and ``unit``. ``points`` is what a difference of two is counted in; a
    model with a better score is more ``adjective`` (better, if empty). ``explained`` is one line for
    people, ``example`` a score that is worth keeping.
    """

    name: Text
    label: Text
    explained: Text
    unit: Text = ""
    points: Text = ""
    adjective: Text = ""
    better: Literal["higher", "lower"] = "higher"
    lowest: Measured = 0.0
    highest: Measured = 1.0
    scale: Annotated[Number, AfterValidator(_positive)] = 1.0
    decimals: Annotated[Whole, Field(le=MOST_DECIMALS)] = 2
    example: Number = 0.0

    @property
    def title(self) -> str:
        """Its name at the beginning of a sentence."""
        return self.label.capitalize() if self.label.islower() else self.label

    def shown(self, score: float) -> float:
        """The number that people see."""
        return self.scale * score

    def show(self, score: float | None, more: int = 0) -> str:
        """``97.3 %``: the number with its unit, with ``more`` decimals than usual."""
        return "–" if score is None else f"{self.shown(score):.{self.decimals + more}f}{self.unit}"

    @property
    def axis(self) -> str:
        """What a column or an axis of shown numbers is called: ``accuracy %``."""
        return f"{self.label}{self.unit}"

    def against(self, before: float, after: float) -> str:
        """``1.2 points less accurate than``, ``as accurate as``: how ``after`` compares with ``before``."""
        lost = self.lost(before, after)
        if abs(lost) < 0.5 * 10**-self.decimals:
            return f"as {self.adjective or 'good'} as"
        more, less = (f"more {self.adjective}", f"less {self.adjective}") if self.adjective else ("better", "worse")
        points = f" {self.points}" if self.points else ""
        return f"{abs(lost):.{self.decimals}f}{points} {less if lost > 0 else more} than"

    def span(self, score: float) -> float:
        """How far apart scores can be: the whole range, or as much as ``score`` where it has no end."""
        whole = self.highest - self.lowest
        return whole if math.isfinite(whole) else abs(score)

    def lost(self, before: float, after: float) -> float:
        """How much worse ``after`` is, in shown units; below 0 where it is better."""
        difference = self.shown(before) - self.shown(after)
        return difference if self.better == "higher" else -difference

    def goodness(self, score: float) -> float:
        """A number that is larger for a better score."""
        return score if self.better == "higher" else -score

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> Metric:
        """That of a stored result or subject; those of version 0.1.0 are all of accuracy.

        Raises:
            CompressionError: what is stored is no metric.
        """
        if result.get("metric") is None:
            return ACCURACY
        stored: Metric = typed(_METRIC, result["metric"], "metric")
        low, high = stored.lowest, stored.highest
        return replace(stored, lowest=-math.inf if low is None else low, highest=math.inf if high is None else high)

    def check(self, score: float) -> None:
        """Refuse a score to keep that no model has, or every one.

        Raises:
            CompressionError: it is not within the range.
        """
        if not self.lowest < score < self.highest:
            ends = (
                f"between {self.lowest:g} and {self.highest:g}"
                if math.isfinite(self.highest)
                else f"above {self.lowest:g}"
            )
            ends += f", such as {self.example:g}"
            raise CompressionError(f"the {self.label} to keep must be {ends}, not {score:g}")

    def ends(self, worst: float, best: float, margin: float, least: float = 0.0) -> list[float]:
        """The ends of an axis of shown numbers, the better one at the top, a share of their distance (or at ``least``
        so much) away from both.
        """
        low, high = self.goodness(worst), self.goodness(best)
        space = max(margin * (high - low), least)
        return [self.shown(self.goodness(low - space)), self.shown(self.goodness(high + space))]

    def best(self, scores: Iterable[float]) -> float:
        """The best of several; of none the best there can be."""
        ends = sorted((self.lowest, self.highest), key=self.goodness)
        return max(scores, key=self.goodness, default=ends[1])

    def worst(self, scores: Iterable[float]) -> float:
        """The worst of several; of none the worst there can be."""
        ends = sorted((self.lowest, self.highest), key=self.goodness)
        return min(scores, key=self.goodness, default=ends[0])

    def named(self, score: float) -> dict[str, float]:
        """The score as JSON has it: as ``score``, and by the metric's own name."""
        return {self.name: score, "score": score}

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: null in the place of an end that is infinite."""
        return {
            name: None if isinstance(value, float) and math.isinf(value) else value
            for name, value in asdict(self).items()
        }


_METRIC = TypeAdapter(Metric)
PSNR = Metric(
    "psnr",
    "PSNR",
    "peak signal-to-noise ratio of the whole picture: from about 30 dB on, differences are hard to see",
    unit=" dB",
    points="dB",
    highest=math.inf,
    decimals=1,
    example=30.0,
)
ACCURACY = Metric(
    "accuracy",
    "accuracy",
    "share of examples classified rightly",
    unit=" %",
    points="points",
    adjective="accurate",
    scale=100,
    decimals=1,
    example=0.97,
)
PERPLEXITY = Metric(
    "perplexity",
    "perplexity",
    "among how many equally likely tokens the next one is: exp of the mean cross-entropy",
    better="lower",
    lowest=1.0,
    highest=math.inf,
    decimals=3,
    example=4.0,
)
MIOU = Metric(
    "miou",
    "mIoU",
    "mean over the classes of how far answered and true regions overlap: shared pixels by pixels of either",
    unit=" %",
    points="points",
    scale=100,
    decimals=1,
    example=0.75,
)
MAP = Metric(
    "map",
    "mAP",
    "mean average precision of boxes, over the classes and overlaps of 0.5 to 0.95 (COCO)",
    unit=" %",
    points="points",
    scale=100,
    decimals=1,
    example=0.6,
)
