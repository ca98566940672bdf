"""What can be told about a budget before a run is started, so that the answer to a mistake is immediate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compression.budget import INITIAL_WEIGHTS, OWN_WEIGHTS, Budget
from compression.data import catalogue as datasets
from compression.data.catalogue import folder_of
from compression.errors import CompressionError
from compression.reading import expanded


def check(budget: Budget, *others: Budget) -> dict[str, Any]:
    """Refuse a budget that no run could carry out; names are looked at before torch is imported.

    ``others``: further budgets with the same model and data (those of a sweep), each checked as well. Returns what a
    spec keeps of the model and data, see :attr:`compression.runs.prepare.Subject.identity`.

    Raises:
        CompressionError: unknown model, data set, method, group or layer, a data set that cannot be had or does not fit
            the model, missing or wrong-shaped weights, a network that cannot be compressed or trained or that a run
            could not carry to its end (see :mod:`.rehearsal`), or what the method cannot reach with this model.
    """
    from compression import methods, zoo

    zoo.spec(budget.model)
    folder_of(budget.data)
    for each in (budget, *others):
        methods.get(each.method).check(each)

    from compression.graph import trace
    from compression.methods.base import ChecksTask, Task
    from compression.runs.prepare import load
    from compression.runs.rehearsal import check_classifier, check_quantizable, rehearse
    from compression.training.trainable import check_compressible, check_prunable, check_trainable

    subject = load(budget)
    check_quantizable(subject.model)
    if budget.model not in zoo.names():
        check_classifier(subject.model, zoo.example(budget.model, 2, subject.input)[0], subject.classes)
    graph = trace(subject.model, zoo.example(budget.model, input=subject.input))
    check_compressible(subject.model, graph, budget.model)
    if zoo.is_file(budget.model):
        rehearse(subject.model, graph)
    for each in (budget, *others):
        _named(each.groups, [group.id for group in graph.prunable], "groups", "prunable groups")
        _named(each.layers, [layer.name for layer in graph.layers], "layers", "layers")
        method = methods.get(each.method)
        if method.structured:
            check_prunable(subject.model, graph, each.model)
        if method.uses.training:
            check_trainable(subject.model, subject.data, each.model, each.batch_size)
        if isinstance(method, ChecksTask):
            method.check_task(Task(subject.model, graph, subject.data, each))
    return subject.identity


def _named(asked: Mapping[str, object], known: list[str], field: str, what: str) -> None:
    for name in asked:
        if name not in known:
            raise CompressionError(f"{field}: the model has no {name!r}; {what}: {', '.join(known)}")


def absolute(budget: Budget) -> Budget:
    """The budget with its relative paths made absolute: a queued run may be started from another folder.

    Raises:
        CompressionError: the data are unknown.
    """
    from compression import zoo

    changes: dict[str, str] = {"data": datasets.absolute(budget.data)}
    if budget.weights not in (None, OWN_WEIGHTS, INITIAL_WEIGHTS):
        changes["weights"] = str(expanded(str(budget.weights)).resolve())
    if zoo.is_file(budget.model):
        path, _, function = budget.model.rpartition(":")
        changes["model"] = f"{expanded(path).resolve()}:{function}"
    return budget.replace(**changes)
