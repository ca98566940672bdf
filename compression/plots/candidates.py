"""Which compressed model to take: finished runs by cost and score, who is beaten by whom, and a sentence on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compression.front import Place, beaten_by, front
from compression.plots import seeds, theme, words
from compression.plots.axes import LATENCY, Axis, PointDict, against_dense, drawable
from compression.tasks import ACCURACY, Metric

COLLAPSED = 0.3  # a score this share of the range below the best finished run is drawn at the bottom edge


@dataclass(frozen=True)
class Candidate:
    """One run: its start (``baseline``) and its present point; ``live``: still going, measured on validation.

    ``recipe`` is the same for runs that differ in their ``seed`` alone, and ``members`` are those that were folded into
    this one (:func:`compression.plots.seeds.fold`); ``shipped``: a run of the gallery.
    """

    run: str
    label: str
    method: str
    baseline: PointDict | None
    point: PointDict
    live: bool = False
    metric: Metric = ACCURACY
    recipe: str = ""
    seed: int | None = None
    shipped: bool = False
    members: tuple[Candidate, ...] = ()

    @property
    def title(self) -> str:
        """The method and its budget."""
        return f"{theme.style(self.method).label}, {self.label}"


@dataclass(frozen=True)
class Mark:
    """One marker: ``lost`` is how much worse its score became, as shown; ``beaten`` are the runs as cheap
    and as good, best first. Of runs that differ in their seed alone, ``members``, it is the mean, and ``spread`` the
    standard deviations of cost and score.
    """

    run: str
    method: str
    title: str
    cost: float
    score: float
    split: str
    sentence: str
    lost: float | None = None
    live: bool = False
    beaten: tuple[str, ...] = ()
    shipped: bool = False
    members: tuple[str, ...] = ()
    spread: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class CandidatesInfo:
    """``finished``, ``live``, ``dense`` marks on one axis; ``front``: those that no other beats, the cheapest first."""

    axis: Axis
    finished: tuple[Mark, ...]
    live: tuple[Mark, ...]
    dense: tuple[Mark, ...]
    front: tuple[Mark, ...]
    metric: Metric = ACCURACY

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Every run that can be picked."""
        return (*self.finished, *self.live)

    @property
    def floor(self) -> float:
        """The worst score drawn in its place; what is worse is drawn at the bottom edge."""
        metric, drawn = self.metric, [mark.score for mark in (*self.finished, *self.dense)]
        if not self.finished:
            return metric.worst(drawn)
        best = metric.best(mark.score for mark in self.finished)
        collapsed = metric.goodness(metric.goodness(best) - COLLAPSED * metric.span(best))
        return metric.best((metric.worst(drawn), collapsed))

    @property
    def hidden(self) -> int:
        """How many marks lie below what is drawn in its place."""
        return sum(self.below(mark) for mark in self.finished)

    def below(self, mark: Mark) -> bool:
        """Whether a mark is worse than what is drawn in its place."""
        return self.metric.goodness(mark.score) < self.metric.goodness(self.floor)

    @property
    def sentence(self) -> str:
        """What the chart shows, for people who do not see it."""
        text = f"{self.metric.title} against {self.axis.title}, {words.plural(len(self.finished), 'finished run')}."
        ends = " ".join(mark.sentence for mark in self.front)
        return f"{text} On the front, from cheap to expensive: {ends}" if ends else text

    def mark(self, run: str) -> Mark | None:
        """The mark of a run, if it is shown; of one that is folded, that of all its seeds."""
        return next((mark for mark in self.marks if run and run in (mark.run, *mark.members)), None)

    def beside(self, mark: Mark) -> bool:
        """Whether a mark is a run of the gallery beside the user's own."""
        return mark.shipped and not all(each.shipped for each in self.finished)

    def cheapest(self, loss: float) -> Mark | None:
        """The cheapest finished run whose score, as shown, is at most ``loss`` worse than its dense model's; the better
        of two.
        """
        enough = [mark for mark in self.finished if mark.lost is not None and mark.lost <= loss + 1e-7]
        return min(enough, key=lambda mark: (mark.cost, -self.metric.goodness(mark.score)), default=None)

    @property
    def best(self) -> Mark | None:
        """The finished run with the best score, the cheaper of two."""
        return max(self.finished, key=lambda mark: (self.metric.goodness(mark.score), -mark.cost), default=None)


def candidates_info(candidates: Sequence[Candidate], axis: Axis) -> CandidatesInfo:
    """Place the candidates on an axis; those with nothing to draw on it are omitted."""
    usable = [c for c in candidates if drawable(c.point, axis)]
    ended = [c for c in usable if not c.live]
    metric = candidates[0].metric if candidates else ACCURACY
    places: list[Place] = [(c.point[axis.field], metric.goodness(c.point["score"])) for c in ended]
    finished = tuple(
        _mark(c, axis, tuple(ended[other].run for other in beaten_by(places, i))) for i, c in enumerate(ended)
    )
    live = tuple(_mark(c, axis) for c in usable if c.live)
    best = tuple(finished[i] for i in front(places))
    return CandidatesInfo(axis, finished, live, tuple(_stars(usable, axis)), best, metric)


def verdict(info: CandidatesInfo, candidate: Candidate) -> str:
    """One sentence on a run: what it saves and costs, and whether another one beats it."""
    mark = info.mark(candidate.run)
    if candidate.live:
        so_far = mark.sentence if mark else f"{candidate.title} is still going."
        return f"{so_far} What it ends with is measured on test images and counted from its file."
    gain = against_dense(candidate.baseline, candidate.point, info.axis, info.metric)
    if mark is None:
        return f"{gain}."
    if len(info.finished) == 1:
        return f"{gain}; there is no other finished run yet to compare it with."
    first = info.mark(mark.beaten[0]) if mark.beaten else None
    if first is None:
        return f"{gain}; {info.axis.unbeaten.format(score=info.metric.label)}."
    better = f"{first.title}: {info.axis.show(first.cost)}, {info.metric.show(first.score)}"
    good = info.metric.adjective or "good"
    if len(mark.beaten) == 1:
        return f"{gain}; but another run costs no more and is at least as {good} ({better})."
    return f"{gain}; but {len(mark.beaten)} other runs cost no more and are at least as {good} (the best: {better})."


def rows(info: CandidatesInfo, candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """The chart as a table, from cheap to expensive: finished runs, those still going, then the dense model."""
    by_run = {c.run: c for c in candidates}
    runs = [
        {"method": theme.style(mark.method).label, "settings": by_run[mark.run].label}
        | _numbers(by_run[mark.run].point, info.metric)
        | {"on the front": "still going" if mark.live else "no" if mark.beaten else "yes", "run": mark.run}
        for mark in (*sorted(info.finished, key=lambda mark: mark.cost), *info.live)
    ]
    stars = [by_run[star.run].baseline or {} for star in info.dense]
    dense = {"method": theme.style(theme.DENSE).label, "settings": ""}
    return runs + [dense | _numbers(point, info.metric) | {"on the front": "", "run": ""} for point in stars]


def _numbers(point: PointDict, metric: Metric) -> dict[str, Any]:
    return {
        metric.axis: round(metric.shown(point["score"]), 2),
        "bytes": round(point["bytes"]),
        "BOPs %": round(100 * point["rel_bops"], 3),
        "MACs": round(point["macs"]),
        "nominal bytes": round(point["nominal_bytes"]),
        "split": point["split"],
        **({"latency, ms": round(point[LATENCY], 4)} if LATENCY in point else {}),
    }


def _mark(c: Candidate, axis: Axis, beaten: tuple[str, ...] = ()) -> Mark:
    cost, score, split = c.point[axis.field], c.point["score"], str(c.point["split"])
    measured = f"{c.metric.show(score)} {split} {c.metric.label}"
    if c.live:  # on other data than the dense model
        estimated = " (estimated)" if c.point.get("bytes_kind") == "estimated" and axis.field == "bytes" else ""
        sentence = f"{c.title}, still going, so far: {axis.show(cost)}{estimated}, {measured}."
        return Mark(c.run, c.method, c.title, cost, score, split, sentence, live=True)
    lost = c.metric.lost(c.baseline["score"], score) if c.baseline and drawable(c.baseline, axis) else None
    sentence = f"{c.title}: {axis.show(cost)}, {measured}. {against_dense(c.baseline, c.point, axis, c.metric)}."
    members = tuple(each.run for each in c.members)
    deviations = (seeds.spread(c.members, axis.field), seeds.spread(c.members, "score"))
    sentence += seeds.sentence(c.members, axis, c.metric)
    return Mark(
        c.run, c.method, c.title, cost, score, split, sentence, lost, False, beaten, c.shipped, members, deviations
    )  # fmt: skip


def _stars(candidates: Sequence[Candidate], axis: Axis) -> list[Mark]:
    """The dense models that the runs started from, each place once."""
    stars: dict[tuple[float, float], Mark] = {}
    for c in candidates:
        if c.baseline is not None and drawable(c.baseline, axis):
            cost, score, split = c.baseline[axis.field], c.baseline["score"], str(c.baseline["split"])
            sentence = f"The dense model: {axis.show(cost)}, {c.metric.show(score)} {split} {c.metric.label}."
            stars.setdefault((cost, round(score, 4)), Mark(c.run, theme.DENSE, "", cost, score, split, sentence))
    return list(stars.values())
