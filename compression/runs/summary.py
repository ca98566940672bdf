"""Runs in figures: one row for each, as the list of runs shows them, and as a table that a program reads."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression import tasks
from compression.errors import CompressionError
from compression.points import Point
from compression.reading import read_object
from compression.runs import labels
from compression.runs.folder import RunFolder
from compression.runs.index import RunInfo
from compression.runs.resultfile import written
from compression.runs.store import Store
from compression.tasks import Metric


@dataclass(frozen=True)
class Summary:
    """A run with its labels and where it started and ended: ``baseline`` and ``final`` are points, once measured."""

    info: RunInfo
    labels: labels.Labels
    baseline: Point | None
    final: Point | None
    metric: Metric

    @property
    def lost(self) -> float | None:
        """How much worse the score became, as shown (points of accuracy); negative where it became better."""
        if self.baseline is None or self.final is None:
            return None
        return self.metric.lost(self.baseline.score, self.final.score)

    @property
    def smaller(self) -> float | None:
        """How many times smaller the file became."""
        if self.baseline is None or self.final is None or not self.final.bytes:
            return None
        return self.baseline.bytes / self.final.bytes

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took."""
        info = self.info
        return None if info.started is None or info.ended is None else max(0.0, info.ended - info.started)


def summaries(store: Store, infos: Sequence[RunInfo]) -> tuple[list[Summary], list[str]]:
    """The runs in their order, by one look into the index, and a line for each whose labels cannot be read."""
    ids = [info.id for info in infos]
    points = store.points(*ids, phases=("baseline", "final"))
    named, problems = labels.read_all(store.root, ids)
    rows = []
    for info in infos:
        ends = {point.phase: point for point in points[info.id]}
        metric = _metric(store, info, ends)
        label = named.get(info.id, labels.Labels())
        rows.append(Summary(info, label, ends.get("baseline"), ends.get("final"), metric))
    return rows, problems


def _metric(store: Store, info: RunInfo, ends: Mapping[str, Point]) -> Metric:
    """What a run is measured by: of a task of one's own its spec says how it is shown."""
    point = next(iter(ends.values()), None)
    name = {} if point is None else {"metric": point.metric}
    if point is None or point.metric in tasks.METRICS:
        return tasks.metric_of(name)
    try:
        return Metric.from_result(RunFolder.open(store.root, info.id).spec().get("subject") or {})
    except CompressionError:  # damaged: the list of problems says so
        return tasks.metric_of(name)


def record(folder: RunFolder, name: str = "") -> dict[str, Any]:
    """A run as numbers for a program: result, budget with every ask and option, seed, weights, versions.

    Sizes are in bytes, scores and shares as JSON has them (accuracy in 0..1), times in seconds; ``name``: the id under
    which the run is known. What a run does not have is empty.

    Raises:
        CompressionError: its files cannot be read.
    """
    spec = folder.spec()
    budget = spec["budget"]
    label = labels.read(folder)
    row: dict[str, Any] = {"run": name or folder.id, "name": label.name, "tags": " ".join(label.tags)}
    row |= {"state": folder.state, **{field: budget.get(field) for field in ("method", "model", "data")}}
    row |= _result(written(folder.result_path) if folder.result_path.is_file() else {})
    row |= {field: budget.get(field) for field in _TRAINING}
    for group in ("asks", "options"):
        row |= {f"{group[:-1]}.{field}": value for field, value in flat(budget.get(group) or {})}
    row |= {"bounded groups": len(budget.get("groups") or {}), "bounded layers": len(budget.get("layers") or {})}
    subject = spec.get("subject") or {}
    row |= {"dense weights": subject.get("weights"), "dense weights SHA-256": subject.get("digest")}
    row |= {f"{program} version": version for program, version in versions(spec).items()}
    origin = folder.path / "record.json"  # of the gallery's runs
    row["commit"] = read_object(origin, "record").get("commit") if origin.is_file() else None
    row["created"] = datetime.datetime.fromtimestamp(spec["created"], datetime.UTC).isoformat(timespec="seconds")
    return row


def versions(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Program → version, as a run's spec has them; empty where it has none."""
    stored = spec.get("versions")
    return stored if isinstance(stored, Mapping) else {}


_TRAINING = ("seed", "epochs", "batch_size", "optimizer", "lr", "lr_schedule", "weight_decay", "precision", "weights")
_POINT = ("loss", "bytes", "nominal_bytes", "macs", "bops", "rel_bops", "unit_sparsity", "weight_sparsity")


def _result(result: Mapping[str, Any]) -> dict[str, Any]:
    final, dense = result.get("final") or {}, result.get("baseline") or {}
    metric = tasks.metric_of(result if result.get("metric") else final)
    row = {"metric": metric.name if final else None, "split": final.get("split")}
    row |= {"score": final.get("score"), "dense score": dense.get("score")}
    row["lost"] = None
    if final and dense:
        row["lost"] = round(metric.lost(dense["score"], final["score"]), 6)
    row |= {field: final.get(field) for field in _POINT} | {"dense bytes": dense.get("bytes")}
    row |= {"dense macs": dense.get("macs"), "equality": result.get("equality")}
    return row | {"seconds": result.get("seconds"), "attempts": result.get("attempts"), "device": result.get("device")}


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested values as one level: names joined by dots, ranges as ``4:8``."""
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{name}.")
        else:
            text = ":".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            rows.append((f"{prefix}{name}", text))
    return rows
