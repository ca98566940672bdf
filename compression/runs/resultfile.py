"""What ``result.json`` holds: read field by field before a page, a card or a command line believes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from compression.errors import CompressionError
from compression.points import Point, Score, with_score
from compression.reading import Flag, Measured, Number, Text, Whole, read_object, typed
from compression.tasks import ACCURACY, Metric

WAY_OUT = "put the file back, or remove it: the run's events still tell its figures"


class _Ledger(TypedDict):
    values: Whole
    positions: Whole
    scales: Whole
    leftovers: Whole
    container: Whole
    total: Whole
    codebooks: NotRequired[Whole]


class _Tables(TypedDict):
    baseline: list[list[Whole]]
    final: list[list[Whole]]


class _Codec(TypedDict):
    """Another format of the same picture in as many bytes."""

    quality: Whole
    bytes: Whole
    psnr: Number


class _Precision(TypedDict):
    """What else a run's nested weights are."""

    bits: Number
    widths: dict[str, Whole]
    point: Point
    ledger: _Ledger
    file: Text
    sha256: Text


class _Wire(TypedDict):
    """What the processes of a run sent each other in the place of gradients: bytes of one to each other one."""

    gradient_bits: Whole
    steps: Whole
    bytes_per_step: Number
    fp32_bytes_per_step: Number


class _Run(TypedDict):
    """The result of a run or a sweep; fields added by later versions are passed on unread."""

    run: Text
    status: Text
    seconds: Number
    baseline: Point | None
    final: Point | None
    points: NotRequired[list[Point]]
    ledger: NotRequired[_Ledger | None]
    baseline_ledger: NotRequired[_Ledger | None]
    equality: NotRequired[Measured]
    confusion: NotRequired[_Tables | None]
    classes: NotRequired[list[Text] | None]
    removed: NotRequired[dict[str, Whole] | None]
    units: NotRequired[dict[str, list[Whole]] | None]
    ranks: NotRequired[dict[str, Whole] | None]
    precisions: NotRequired[list[_Precision]]
    wire: NotRequired[_Wire]
    rebuilt: NotRequired[Flag]
    error: NotRequired[Text | None]
    method: NotRequired[Text]
    model: NotRequired[Text]
    data: NotRequired[Text]
    weights: NotRequired[Text | None]
    facts: NotRequired[dict[str, Any]]
    runs: NotRequired[list[_Run]]
    found: NotRequired[Text | None]
    min_score: NotRequired[Number]
    min_accuracy: NotRequired[Number]
    metric: NotRequired[Metric | None]
    beside: NotRequired[dict[str, Measured | _Codec | None]]


class _Budget(TypedDict):
    """A row of the study ``curve``."""

    sparsity: Number
    bits: Number
    error: Measured
    score: Score
    loss: Measured
    recomputed: Measured


class _Trial(TypedDict):
    """A row of the study ``sensitivity``."""

    kind: Text
    name: Text
    value: Number
    size: Whole
    score: Score
    loss: Measured
    gone: Measured


class _Group(TypedDict):
    """A row of the study ``saliency``."""

    group: Text
    units: Whole
    share: dict[str, Measured]
    rank: dict[str, Measured]
    scores: dict[str, list[Measured]]


class _LayerInputs(TypedDict):
    """A row of the study ``inputs``."""

    name: Text
    inputs: Whole
    rows: Whole
    directions: Number
    mean: Number
    dead: Whole
    nearest: Number
    following: Number


class _Curve(TypedDict):
    metric: NotRequired[Metric | None]
    dense: Number
    images: Whole
    rows: list[_Budget]


class _Sensitivity(TypedDict):
    metric: NotRequired[Metric | None]
    structured: Flag
    dense: Number
    images: Whole
    rows: list[_Trial]


class _Saliency(TypedDict):
    criteria: list[Text]
    images: Whole
    units: Whole
    rows: list[_Group]


class _Draw(TypedDict):
    """A row of the study ``calibration``."""

    count: Whole
    draw: Whole
    score: Number


class _Calibration(TypedDict):
    method: Text
    metric: Metric | None
    first: Number
    rows: list[_Draw]


class _Inputs(TypedDict):
    images: Whole
    bits: Whole
    rows: list[_LayerInputs]


class _Training(TypedDict):
    """Of the job that trains a dense model: the file's name and what it says of itself."""

    weights: Text
    seconds: Number
    provenance: dict[str, Any]


class _Timing(TypedDict):
    load: Number
    step: Number
    example: Number
    batches: Whole
    examples: dict[str, Whole]


_RUN: TypeAdapter[Any] = TypeAdapter(_Run)
_STUDIES: dict[str, TypeAdapter[Any]] = {
    "curve": TypeAdapter(_Curve),
    "sensitivity": TypeAdapter(_Sensitivity),
    "saliency": TypeAdapter(_Saliency),
    "inputs": TypeAdapter(_Inputs),
    "calibration": TypeAdapter(_Calibration),
    "train": TypeAdapter(_Training),
    "timing": TypeAdapter(_Timing),
}


def written(path: Path) -> dict[str, Any]:
    """A ``result.json`` as a run wrote it; that of a study such as a curve has ``job`` and other keys.

    Raises:
        CompressionError: it is damaged or was edited; without it, the run is described by its events.
    """
    try:
        result = read_object(path, "result")
        job = result.get("job")
        kind = _STUDIES.get(job, _RUN) if isinstance(job, str) else _RUN
        typed(kind, result, f"result {path}")
        _check_tables(result.get("confusion"), result.get("classes"), f"result {path}")
    except CompressionError as error:
        raise CompressionError(f"{error}; {WAY_OUT}") from error
    return _with_scores(result)


def _with_scores(result: dict[str, Any]) -> dict[str, Any]:
    """Of a run, a sweep or a study, every point and row with its score: those of version 0.1.0 call it accuracy."""
    for point in (result.get("baseline"), result.get("final"), *result.get("points", ()), *result.get("rows", ())):
        if point is not None:
            with_score(point)
    if f"min_{ACCURACY.name}" in result:
        result.setdefault("min_score", result[f"min_{ACCURACY.name}"])
    for run in result.get("runs", ()):
        _with_scores(run)
    return result


def _check_tables(confusion: _Tables | None, classes: list[str] | None, what: str) -> None:
    """Refuse confusions that are not both of the same classes."""
    if confusion is None:
        return
    count = len(confusion["baseline"])
    rows = [*confusion["baseline"], *confusion["final"]]
    if len(rows) != 2 * count or any(len(row) != count for row in rows) or (classes and len(classes) != count):
        raise CompressionError(f"{what}: its confusions do not count the same classes")
