"""A sweep: one method over several budgets, so that the front between accuracy and size can be seen.

The sweep is a run folder whose ``spec.json`` lists ``children``; each child is an ordinary run that names its
``sweep``. One worker process carries them out one after another, so that data, trace and baseline are made once.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from compression import home, methods
from compression.budget import Budget
from compression.devices import AUTO
from compression.errors import Cancelled, CompressionError, Paused, RunFailed
from compression.runs import side_by_side
from compression.runs.folder import CANCELLED, DONE, PAUSED, RunFolder
from compression.runs.lifecycle import Work, carry_out
from compression.runs.preflight import absolute, check
from compression.runs.reporter import RunReporter
from compression.runs.results import of_sweep, result
from compression.runs.store import Store
from compression.runs.submit import check_devices, new_spec

Bits = float | tuple[float, float]


def sweep(
    budget: Budget,
    sparsity: Sequence[float] = (),
    bits: Sequence[Bits] = (),
    root: str | Path = home.RUNS,
    *,
    more: Mapping[str, Sequence[Any]] | None = None,
    priority: int = 0,
    device: str = AUTO,
    gpus: int = 1,
    store: Store | None = None,
) -> str:
    """Start a run for each combination of these values in ``budget`` (empty: the budget's own); returns the sweep's id.

    ``more`` maps other options that the method asks for, such as ``--activation-bits``, to values. On ``gpus`` of this
    machine so many of the runs go at a time.

    Raises:
        CompressionError: as :func:`compression.runs.start`; nothing is started then.
    """
    budgets = combinations(absolute(budget), sparsity, bits, more)
    check_devices(device, gpus, store)
    identity = check(*budgets)
    store = store or Store(root)
    spec, children = specs(budget, widest_first(budgets), store, identity, device)
    spec |= {"gpus": gpus} if gpus > 1 else {}
    values = {"sparsity": list(sparsity), "bits": list(bits), **(more or {})}
    store.add(*children, {**spec, "values": json.loads(json.dumps(values)), "priority": priority})
    return str(spec["id"])


def specs(
    budget: Budget,
    budgets: Sequence[Budget],
    store: Store,
    identity: Mapping[str, Any] | None = None,
    device: str = AUTO,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The specs of a sweep and of its runs, whose ids are the sweep's with a number: no two are the same."""
    spec = new_spec(budget, store, "sweep", device)
    name = spec["id"].removeprefix("sweep-")
    subject: dict[str, Any] = {"subject": dict(identity)} if identity else {}
    children = [
        new_spec(each, store, device=device, sweep=spec["id"], id=f"{name}-{number:02d}", **subject)
        for number, each in enumerate(budgets, start=1)
    ]
    return {**spec, "children": [child["id"] for child in children]}, children


def combinations(
    budget: Budget,
    sparsity: Sequence[float] = (),
    bits: Sequence[Bits] = (),
    more: Mapping[str, Sequence[Any]] | None = None,
) -> list[Budget]:
    """The budgets of a sweep, checked, in the order given: all bits of the first sparsity, then of the next.

    Raises:
        CompressionError: a value that is impossible or requested twice.
    """
    method = methods.get(budget.method)
    axes = {"--sparsity": sparsity, "--bits": bits, **(more or {})}
    axes = {option: values for option, values in axes.items() if values}
    budgets = [methods.with_values(budget, dict(zip(axes, values, strict=True))) for values in product(*axes.values())]
    if len({repr(method.values(each)) for each in budgets}) < len(budgets):
        raise CompressionError("sweep: a value is asked for twice; give each value of an option once")
    return budgets


def widest_first(budgets: Sequence[Budget]) -> list[Budget]:
    """The order that shows the shape of the front early: the largest and the smallest, then always the widest gap."""
    by_size = sorted(budgets, key=expected_size, reverse=True)
    order = [0, len(by_size) - 1][: len(by_size)]
    while len(order) < len(by_size):
        known = sorted(order)
        low, high = max(pairwise(known), key=lambda pair: pair[1] - pair[0])
        order.append((low + high) // 2)
    return [by_size[index] for index in order]


def expected_size(budget: Budget) -> float:
    """Size of the weights over the dense ones', as far as the budget alone says: good for putting it in order."""
    method = methods.get(budget.method)
    return math.prod(ask.size_share(ask.value(budget.asks)) for ask in method.asks)


def stop_with(folder: RunFolder, state: str, stopped: Callable[[], bool]) -> None:
    """End a sweep whose run ended in ``state``, where that was meant for the whole sweep.

    Raises:
        Cancelled: the sweep was asked to stop. Paused: it was asked to pause.
    """
    if stopped() or (state == CANCELLED and folder.cancel_path.exists()):
        raise Cancelled("asked to stop")
    if state == PAUSED:
        raise Paused("asked to pause")


def _one_by_one(children: Sequence[RunFolder], events: RunReporter, work: Work) -> Generator[RunFolder]:
    for child in children:
        events.check()
        carry_out(child, work)
        yield child


def carry_out_sweep(
    folder: RunFolder, events: RunReporter, *, work: Work, stopped: Callable[[], bool]
) -> dict[str, Any]:
    """Carry out the runs of a sweep, in this process or on several GPUs; one that fails does not stop the others.

    Raises:
        Cancelled: the sweep was asked to stop. Paused: it was asked to pause.
        RunFailed: at least one run failed (the others have their results).
    """
    children = folder.children()
    events.plan(len(children), unit="runs")
    due = [child for child in children if child.state != DONE]
    gpus = folder.spec().get("gpus", 1)
    ended = _one_by_one(due, events, work) if gpus == 1 else side_by_side.carried_out(due, gpus, events)
    with contextlib.closing(ended):  # ends the workers that still go where the sweep is over early
        for number, child in enumerate(ended, start=1 + len(children) - len(due)):
            stop_with(folder, child.state, stopped)
            events.step(number, 0.0)
            events.log(f"{child.id}: {child.state}")
    failed = [child for child in children if child.state not in (DONE, CANCELLED)]
    if failed:
        first = result(failed[0]).get("error") or failed[0].state
        raise RunFailed(f"{len(failed)} of {len(children)} runs failed; the first, {failed[0].id}: {first}")
    return of_sweep(folder, DONE, folder.events())
