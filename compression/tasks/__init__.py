"""What networks are for: each task has its data, its loss, and the metric that everything speaks of.

Importing this package does not import torch: pages can describe metrics before anything heavy is loaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compression import home, owncode
from compression.data.catalogue import kind, task
from compression.data.types import CLASSIFICATION, DETECTION, IMAGE, LANGUAGE, PICTURE, SEGMENTATION
from compression.errors import CompressionError
from compression.tasks.metric import ACCURACY, MAP, MIOU, PERPLEXITY, PSNR, Metric

if TYPE_CHECKING:
    from compression.data import DataSet
    from compression.tasks.base import Evaluation, Scorer, Task

__all__ = [
    "ACCURACY",
    "MAP",
    "MIOU",
    "PERPLEXITY",
    "PSNR",
    "Evaluation",
    "Metric",
    "Scorer",
    "Task",
    "attributable",
    "load",
    "metric",
    "metric_of",
    "task_of",
]

METRIC_OF_TASK = {CLASSIFICATION: ACCURACY, PICTURE: PSNR, SEGMENTATION: MIOU, LANGUAGE: PERPLEXITY, DETECTION: MAP}
CLASS_OF_TASK = {
    CLASSIFICATION: "Classification",
    PICTURE: "Picture",
    SEGMENTATION: "Segmentation",
    LANGUAGE: "Language",
    DETECTION: "Detection",
}
"""Name of a task, which is that of its module → its class."""
METRICS = {each.name: each for each in METRIC_OF_TASK.values()}
_LATE = ("Evaluation", "Scorer", "Task")


def task_of(data: DataSet | Task) -> Task:
    """The task of a data set; a task is returned as it is."""
    from compression.tasks.base import Task

    if isinstance(data, Task):
        return data
    with home.optional():
        module = importlib.import_module(f"{__name__}.{data.task}")  # that alone: boxes need torchvision's operators
    result: Task = getattr(module, CLASS_OF_TASK[data.task])(data)
    return result


def load(name: str, *, input: tuple[int, ...] | None = None, preprocess: Mapping[str, Any] | None = None) -> Task:
    """The task of a data set, folder or picture (:func:`compression.data.load`), or ``path/to/file.py:function``.

    Raises:
        CompressionError: there is none of this name, its data cannot be had, or a function returns no whole task.
    """
    from compression.data import load as load_data

    if not owncode.is_own(name):
        return task_of(load_data(name, input=input, preprocess=preprocess))
    from compression.tasks.own import load_own

    if preprocess:
        raise CompressionError(f"preprocess is for images of data sets, and {name} is a function: leave it out")
    return load_own(name)


def metric(name: str) -> Metric:
    """What the task of a data set is measured by; a function of one's own is called to learn it.

    Raises:
        CompressionError: see :func:`load`.
    """
    return load(name).metric if owncode.is_own(name) else METRIC_OF_TASK[task(name)]


def attributable(data: str) -> bool:
    """Whether captum's maps apply to the answers for this data set: one class for each image."""
    return kind(data) is IMAGE and task(data) == CLASSIFICATION


def metric_of(point: Mapping[str, Any]) -> Metric:
    """The metric that a stored point names or a result holds; of an unknown name the plain number is shown."""
    if isinstance(point.get("metric"), Mapping):
        return Metric.from_result(point)
    name = str(point.get("metric", ACCURACY.name))
    return METRICS.get(name) or Metric(name, name.replace("_", " "), "", decimals=4)


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use."""
    if name in _LATE:
        return getattr(importlib.import_module(f"{__name__}.base"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
