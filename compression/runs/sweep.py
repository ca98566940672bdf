"""A sweep: one method over several budgets, so that the front between accuracy and size can be seen.

The sweep is a run folder whose ``spec.json`` lists ``children``; each child is an ordinary run that names its
``sweep``. One worker process carries them out one after another, so that data, trace and baseline are made once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from compression.budget import BitRange, Budget
from compression.errors import Cancelled, CompressionError, Paused, RunFailed
from compression.runs.folder import CANCELLED, DONE, FAILED, PAUSED, RunFolder
from compression.runs.lifecycle import Work, carry_out
from compression.runs.preflight import absolute, check
from compression.runs.reporter import RunReporter
from compression.runs.results import of_sweep, result
from compression.runs.store import Store
from compression.runs.submit import new_spec

Bits = float | BitRange


def sweep(
    budget: Budget,
    sparsity: Sequence[float] = (),
    bits: Sequence[Bits] = (),
    root: str | Path = "runs",
    *,
    priority: int = 0,
    store: Store | None = None,
) -> str:
    """Start a run for each combination of these values in ``budget`` (empty: the budget's own); returns the sweep's id.

    Raises:
        CompressionError: as :func:`compression.runs.start`; nothing is started then.
    """
    budgets = combinations(absolute(budget), sparsity, bits)
    identity = check(*budgets)
    store = store or Store(root)
    spec, children = specs(budget, widest_first(budgets), store, identity)
    asked = {"sparsity": list(sparsity), "bits": [list(b) if isinstance(b, tuple) else b for b in bits]}
    store.add(*children, {**spec, "values": asked, "priority": priority})
    return str(spec["id"])


def specs(
    budget: Budget, budgets: Sequence[Budget], store: Store, identity: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The specs of a sweep and of its runs, whose ids are the sweep's with a number: no two are the same."""
    spec = new_spec(budget, store, "sweep")
    name = spec["id"].removeprefix("sweep-")
    subject: dict[str, Any] = {"subject": dict(identity)} if identity else {}
    children = [
        new_spec(each, store, sweep=spec["id"], id=f"{name}-{number:02d}", **subject)
        for number, each in enumerate(budgets, start=1)
    ]
    return {**spec, "children": [child["id"] for child in children]}, children


def combinations(budget: Budget, sparsity: Sequence[float] = (), bits: Sequence[Bits] = ()) -> list[Budget]:
    """The budgets of a sweep, checked, in the order given: all bits of the first sparsity, then of the next.

    Raises:
        CompressionError: a value that is impossible or asked for twice.
    """
    shares = list(sparsity) or [budget.sparsity]
    widths: list[Bits | None] = [*bits] or [None]
    found = [
        budget.replace(sparsity=share) if width is None else with_bits(budget.replace(sparsity=share), width)
        for share in shares
        for width in widths
    ]
    if len({repr(each) for each in found}) < len(found):
        raise CompressionError("sweep: a value is asked for twice; give each sparsity and each bits value once")
    return found


def widest_first(budgets: Sequence[Budget]) -> list[Budget]:
    """The order that shows the shape of the front early: the largest and the smallest, then always the widest gap."""
    left = sorted(budgets, key=expected_size, reverse=True)
    order = [0, len(left) - 1][: len(left)]
    while len(order) < len(left):
        known = sorted(order)
        low, high = max(pairwise(known), key=lambda pair: pair[1] - pair[0])
        order.append((low + high) // 2)
    return [left[index] for index in order]


def expected_size(budget: Budget) -> float:
    """Size of the weights over the dense ones', as far as the budget alone tells it: good for putting it in order.

    Removing a share s of the units leaves about (1 - s)² of the weights, since a layer loses rows and columns.
    """
    from compression import methods

    method = methods.get(budget.method)
    kept = (1 - budget.sparsity) ** (2 if method.structured else 1)
    bits = budget.bits if method.uses.bits == "average" else sum(budget.weight_bits) / 2
    return kept * float(bits) / 32


def with_bits(budget: Budget, bits: Bits) -> Budget:
    """The budget with ``--bits``: a range bounds GETA's bit-widths; one number is both its ends, and OPQ's average.

    A method that gives all layers the same takes the upper end of a range.

    Raises:
        CompressionError: an unknown method, impossible values, or a range for OPQ.
    """
    from compression import methods

    uses = methods.get(budget.method).uses
    if isinstance(bits, tuple):
        if uses.bits == "average":
            raise CompressionError(
                f"bits of {budget.method} are one average number, such as 4, not {bits[0]:g}:{bits[1]:g}"
            )
        changed = budget.replace(weight_bits=bits)
        return changed.replace(bits=bits[1]) if uses.bits == "equal" else changed
    if uses.bits == "average":
        return budget.replace(bits=bits)
    return budget.replace(bits=bits, weight_bits=(bits, bits))


def stop_with(folder: RunFolder, state: str, stopped: Callable[[], bool]) -> None:
    """End a sweep whose run ended in ``state``, where that was meant for the whole sweep.

    Raises:
        Cancelled: the sweep was asked to stop. Paused: it was asked to pause.
    """
    if stopped() or (state == CANCELLED and folder.cancel_path.exists()):
        raise Cancelled("asked to stop")
    if state == PAUSED:
        raise Paused("asked to pause")


def carry_out_sweep(
    folder: RunFolder, events: RunReporter, *, work: Work, stopped: Callable[[], bool]
) -> dict[str, Any]:
    """Carry out the runs of a sweep in this process; one that fails does not stop the others.

    Raises:
        Cancelled: the sweep was asked to stop. Paused: it was asked to pause.
        RunFailed: at least one run failed (the others have their results).
    """
    children = folder.children()
    events.plan(len(children), unit="runs")
    for number, child in enumerate(children, start=1):
        if child.state == DONE:
            continue
        events.check()
        state = carry_out(child, work)
        stop_with(folder, state, stopped)
        events.step(number, 0.0)
        events.log(f"{child.id}: {state}")
    failed = [child for child in children if child.state == FAILED]
    if failed:
        first = result(failed[0])["error"]
        raise RunFailed(f"{len(failed)} of {len(children)} runs failed; the first, {failed[0].id}: {first}")
    return of_sweep(folder, DONE, folder.events())
