"""What can be told about a budget before a run is started, so that the answer to a mistake is immediate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compression.budget import Budget
from compression.errors import CompressionError


def check(budget: Budget, *others: Budget) -> None:
    """Refuse a budget that no run could carry out; names are looked at before torch is imported.

    ``others``: further budgets with the same model and data (those of a sweep), each checked as well.

    Raises:
        CompressionError: unknown model, data set, method, group or layer, a data set that cannot be had or does not fit
            the model, missing or wrong-shaped weights, a network that a run could not carry to its end (see
            :mod:`.rehearsal`), or what the method cannot reach with this model.
    """
    from compression import data
    from compression import methods
    from compression import zoo

    zoo.spec(budget.model)
    if "/" not in budget.data and not Path(budget.data).is_dir():
        data.info(budget.data)
    for each in (budget, *others):
        methods.get(each.method).check(each)

    from compression.graph import trace
    from compression.methods.base import ChecksTask
    from compression.methods.base import Task
    from compression.runs.prepare import load
    from compression.runs.rehearsal import check_compressible
    from compression.runs.rehearsal import check_trainable
    from compression.runs.rehearsal import rehearse

    subject = load(budget)
    check_compressible(subject.model)
    if budget.model not in zoo.names():
        check_trainable(subject.model, zoo.example(budget.model, 2, subject.input)[0], subject.classes)
    graph = trace(subject.model, zoo.example(budget.model, input=subject.input))
    if zoo.is_file(budget.model):
        rehearse(subject.model, graph)
    for each in (budget, *others):
        _named(each.groups, [group.id for group in graph.prunable], "groups", "prunable groups")
        _named(each.layers, [layer.name for layer in graph.layers], "layers", "layers")
        method = methods.get(each.method)
        if isinstance(method, ChecksTask):
            method.check_task(Task(subject.model, graph, subject.data, each))


def _named(asked: Mapping[str, object], known: list[str], field: str, what: str) -> None:
    for name in asked:
        if name not in known:
            raise CompressionError(f"{field}: the model has no {name!r}; {what}: {', '.join(known)}")


def absolute(budget: Budget) -> Budget:
    """The budget with its relative paths made absolute: a queued run may be started from another folder."""
    from compression import zoo

    changes: dict[str, str] = {}
    if budget.weights is not None:
        changes["weights"] = str(Path(budget.weights).expanduser().resolve())
    if zoo.is_file(budget.model):
        path, _, function = budget.model.rpartition(":")
        changes["model"] = f"{Path(path).expanduser().resolve()}:{function}"
    if "/" in budget.data or Path(budget.data).is_dir():
        changes["data"] = str(Path(budget.data).expanduser().resolve())
    return budget.replace(**changes) if changes else budget
