"""What can be told about a budget before a run is started, so that the answer to a mistake is immediate."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from compression import methods, owncode, zoo
from compression.budget import NO_FILES, Budget
from compression.data import catalogue as datasets
from compression.data.catalogue import folder_of
from compression.errors import CompressionError
from compression.reading import expanded, listed

if TYPE_CHECKING:
    from compression.graph import Graph
    from compression.runs.prepare import TrainedModel


def check(budget: Budget, *others: Budget) -> dict[str, Any]:
    """Refuse a budget that no run could carry out; names are looked at before anything is loaded.

    ``others``: further budgets with the same model and data (those of a sweep), each checked as well. Returns what a
    spec keeps of the model and data, see :attr:`compression.runs.prepare.TrainedModel.identity`.

    Raises:
        CompressionError: as :func:`check_subject`, an unknown method, group or layer, or what the method cannot reach
            with this model.
    """
    zoo.spec(budget.model)
    folder_of(budget.data)
    budgets = [methods.of_budget(each)[1] for each in (budget, *others)]
    subject, graph = check_subject(budget)
    for each in budgets:
        check_setup(methods.Setup(subject.model, graph, subject.task, each), each.model)
    return subject.identity


def check_setup(setup: methods.Setup, name: str) -> None:
    """Refuse what the method of a budget cannot do with this network and these data; the network is called ``name``.

    Raises:
        CompressionError: an unknown group or layer, a parameter that is not trained, a training step that fails, or
            what the method cannot reach.
    """
    from compression.training.trainable import check_prunable, check_trainable

    model, graph, budget = setup.model, setup.graph, setup.budget
    method = methods.get(budget.method)
    _named(
        budget.groups, [group.id for group in graph.prunable], [g.id for g in graph.groups], "groups", "prunable groups"
    )
    layers = [layer.name for layer in graph.layers]
    _named(
        budget.layers,
        [*layers, *(name for name in method.further_layers(model) if name not in layers)],
        dict(model.named_modules()),
        "layers",
        "layers",
    )
    if method.removes_units:
        check_prunable(model, graph, name)
    if method.trains(budget):
        check_trainable(model, setup.task, name, budget.batch_size)
    method.check(setup)


def check_subject(budget: Budget) -> tuple[TrainedModel, Graph]:
    """The model and data of a budget, and the network's trace, if a run could be made with them by any method.

    Raises:
        CompressionError: unknown model or data set, a data set that cannot be had or does not fit the model, missing or
            wrong-shaped weights, or a network that cannot be compressed or that a run could not carry to its end (see
            :mod:`.rehearsal`).
    """
    from compression.graph import trace
    from compression.runs.prepare import load
    from compression.runs.rehearsal import check_answers, check_quantizable, rehearse
    from compression.training.trainable import check_compressible

    subject = load(budget)
    check_quantizable(subject.model)
    if budget.model not in zoo.names():
        inputs = zoo.example(budget.model, 2, subject.input)
        check_answers(subject.model, inputs, subject.task, subject.classes)
    graph = trace(subject.model, zoo.example(budget.model, input=subject.input))
    check_compressible(subject.model, graph, budget.model)
    if zoo.is_file(budget.model):
        rehearse(subject.model, graph)
    return subject, graph


def _named(bounds: Mapping[str, object], known: list[str], present: Collection[str], field: str, what: str) -> None:
    """Refuse names that are not ``known``; those ``present`` in the model are there, but cannot have a bound."""
    for name in bounds:
        if name not in known:
            why = f"{name!r} takes no part" if name in present else f"the model has no {name!r}"
            raise CompressionError(f"{field}: {why}; {what}: {listed(known)}")


def absolute(budget: Budget) -> Budget:
    """The budget with its relative paths made absolute: a queued run may be started from another folder.

    Raises:
        CompressionError: the data are unknown.
    """
    changes: dict[str, str] = {"data": datasets.absolute(budget.data)}
    if budget.weights not in (None, *NO_FILES):
        changes["weights"] = str(expanded(str(budget.weights)).resolve())
    if zoo.is_file(budget.model):
        changes["model"] = owncode.absolute(budget.model)
    return budget.replace(**changes)
