"""A task of one's own: what a function in a user's file returns, checked part by part before anything is trained."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from compression import owncode
from compression.data.batches import AUGMENTATIONS
from compression.data.files import Files
from compression.data.types import DataSet, Split
from compression.errors import CompressionError
from compression.points import Point
from compression.tasks.base import Task
from compression.tasks.metric import Metric

SPLITS = ("train", "validation", "test")
RESERVED = {each.name for each in fields(Point)}


def load_own(name: str) -> Task:
    """The task that ``path/to/file.py:function`` returns; called once per process.

    Raises:
        CompressionError: the file or function is missing, fails, or returns no whole task; the missing part is named.
    """
    return _called(owncode.absolute(name))


@lru_cache(maxsize=4)
def _called(name: str) -> Task:
    call = owncode.function(name, "task")
    short = name.rsplit("/", 1)[-1]
    try:
        task = call()
    except CompressionError:
        raise
    except Exception as error:  # an abstract method that is missing, such as loss, is named by Python
        raise CompressionError(f"task {short} fails when called: {owncode.first_line(error)}") from error
    check(task, short)
    result: Task = task
    return result


def check(task: Any, name: str) -> None:
    """Refuse what is no whole task.

    Raises:
        CompressionError: naming the part that is missing or wrong.
    """
    if not isinstance(task, Task):
        raise CompressionError(f"task {name} must return a compression.tasks.Task, not a {type(task).__name__}")
    if not isinstance(getattr(task, "metric", None), Metric):
        raise CompressionError(
            f"task {name} has no metric: metric = Metric(name, label, explained, …) is what it counts"
        )
    _check_metric(task.metric, name)
    if type(task).scorer is Task.scorer and type(task).batch_score is Task.batch_score:
        raise CompressionError(
            f"task {name} has no score: define batch_score(answer, target), whose mean counts, or scorer()"
        )
    data = getattr(task, "data", None)
    if not isinstance(data, DataSet):
        raise CompressionError(
            f"task {name} has no data: call super().__init__(DataSet(…)), not with {type(data).__name__}"
        )
    for split in SPLITS:
        _check_split(data, split, name)
    if data.augment not in AUGMENTATIONS:
        known = ", ".join(AUGMENTATIONS)
        raise CompressionError(f"task {name}: augment of its data must be one of {known}, not {data.augment!r}")
    channels = data.input[0] if data.of_images else 0
    if len(data.mean) != len(data.std) or (data.mean and len(data.mean) != channels):
        raise CompressionError(
            f"task {name}: mean and std of its data must have a number for each of {channels} channels of uint8 images,"
            f" not {len(data.mean)} and {len(data.std)}"
        )


def _check_metric(metric: Metric, task: str) -> None:
    """Refuse a metric that a stored result could not hold.

    Raises:
        CompressionError: a wrong value, or a name that a measured point has for something else.
    """
    try:
        Metric.from_result({"metric": metric.to_dict()})
    except CompressionError as error:
        raise CompressionError(f"task {task}: {error}") from error
    from compression.tasks import METRICS

    if metric.name in RESERVED or METRICS.get(metric.name, metric) != metric:
        raise CompressionError(f"task {task}: a metric cannot be called {metric.name!r}: results have that already")


def _check_split(data: DataSet, name: str, task: str) -> None:
    split = getattr(data, name)
    what = f"task {task}: the {name} split"
    if not isinstance(split, Split):
        raise CompressionError(f"{what} must be a compression.data.Split, not a {type(split).__name__}")
    for side in (split.images, split.labels):
        parts = side.values() if isinstance(side, dict) else side if isinstance(side, (tuple, list)) else ()
        if any(isinstance(part, (tuple, list, dict)) for part in parts):
            raise CompressionError(
                f"{what} is nested: give a tensor, a tuple or a dict of tensors, without others inside"
            )
    leaves = tree_leaves((split.images, split.labels))
    for leaf in leaves:
        if not isinstance(leaf, (torch.Tensor, Files)):
            raise CompressionError(f"{what} holds a {type(leaf).__name__}: give tensors, or tuples and dicts of them")
    sizes = {len(leaf) if leaf.dim() else 0 for leaf in leaves}
    if len(sizes) > 1:
        raise CompressionError(f"{what} has tensors of {' and '.join(map(str, sorted(sizes)))} examples: give as many")
    if len(split) == 0:
        raise CompressionError(f"{what} is empty")
