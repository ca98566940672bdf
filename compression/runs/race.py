"""A race: several methods, each from several seeds, on budgets of equal size.

It is a sweep (:mod:`.sweep`) whose runs differ in their method and seed, too. The budgets are of one method; those of
the others are converted, and where they are matched moved until their forecasts come to the same bytes, MACs or BOPs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compression import home, match, methods
from compression.budget import Budget
from compression.devices import AUTO
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject
from compression.runs.preflight import absolute, check, check_subject
from compression.runs.store import Store
from compression.runs.submit import check_devices
from compression.runs.sweep import specs

SPARSITY = "sparsity"
MATCHES = (SPARSITY, *match.QUANTITIES)
MOST_RUNS = 200
"""More runs are started only once somebody has said so."""


@dataclass(frozen=True)
class Entry:
    """One method on one budget, run from every seed of ``seeds``. ``forecast``: what it comes to, where it is matched.

    ``target``: bytes, MACs or BOPs that it was matched with, and ``met``: whether they are.
    """

    budget: Budget
    seeds: tuple[int, ...]
    forecast: Forecast | None = None
    target: float | None = None
    met: bool = True


def plan(
    subject: Subject, budgets: Sequence[Budget], names: Sequence[str], seeds: Sequence[int], matched: str = SPARSITY
) -> list[Entry]:
    """Every method of ``names`` on every one of ``budgets`` (all of one method), matched with it.

    A method that trains nothing runs once: seeds make no difference to it worth a run. ``matched``: one of
    :data:`MATCHES`; by ``sparsity`` budgets are only converted.

    Raises:
        CompressionError: nothing to race, a name or seed given twice, or a method without a forecast to match by.
    """
    chosen = [methods.get(name) for name in names]
    if not budgets or not chosen or not seeds:
        raise CompressionError("a race needs methods, seeds and at least one budget")
    if matched not in MATCHES:
        raise CompressionError(f"--match must be one of {', '.join(MATCHES)}, not {matched!r}")
    for what, given in (("method", [method.info.name for method in chosen]), ("seed", list(seeds))):
        if len(set(given)) < len(given):
            raise CompressionError(f"race: a {what} is named twice")
    return [_entry(subject, budget, method, tuple(seeds), matched) for budget in budgets for method in chosen]


def _entry(subject: Subject, budget: Budget, method: methods.Method, seeds: tuple[int, ...], matched: str) -> Entry:
    source = methods.get(budget.method)
    own = budget if method is source else method.convert(budget, source)
    run_seeds = seeds if method.trains(own) else seeds[:1]
    name = next((each for each in match.QUANTITIES if each == matched), None)
    if name is None:
        return Entry(own, run_seeds)
    target = match.quantity(source.forecast(subject, budget), name)
    if method is source:
        return Entry(own, run_seeds, source.forecast(subject, budget), target)
    solved = match.solve(subject, own, name, target)
    return Entry(solved.budget, run_seeds, solved.forecast, target, solved.met)


def runs(entries: Sequence[Entry]) -> list[Budget]:
    """The budgets of all runs: every method once before any runs from its next seed."""
    seeds = list(dict.fromkeys(seed for entry in entries for seed in entry.seeds))
    return [entry.budget.replace(seed=seed) for seed in seeds for entry in entries if seed in entry.seeds]


def start(
    entries: Sequence[Entry],
    root: str | Path = home.RUNS,
    *,
    confirmed: bool = False,
    priority: int = 0,
    device: str = AUTO,
    gpus: int = 1,
    store: Store | None = None,
) -> str:
    """Start the runs of a race as a sweep; returns its id.

    ``confirmed``: somebody has said that more than :data:`MOST_RUNS` are meant.

    Raises:
        CompressionError: an entry that could not be matched, too many runs, or what :func:`compression.runs.start`
            refuses; nothing is started then.
    """
    refuse_unmatched(entries)
    budgets = [absolute(budget) for budget in runs(entries)]
    check_count(len(budgets), confirmed)
    check_devices(device, gpus, store)
    identity = check(*budgets)
    store = store or Store(root)
    spec, children = specs(budgets[0], budgets, store, identity, device)
    spec |= {"gpus": gpus} if gpus > 1 else {}
    names = list(dict.fromkeys(entry.budget.method for entry in entries))
    seeds = list(dict.fromkeys(seed for entry in entries for seed in entry.seeds))
    store.add(*children, {**spec, "race": {"methods": names, "seeds": seeds}, "priority": priority})
    return str(spec["id"])


def check_count(count: int, confirmed: bool) -> None:
    """Refuse a race of very many runs that nobody has confirmed.

    Raises:
        CompressionError: saying how many there are, and how to start them all the same.
    """
    if count > MOST_RUNS and not confirmed:
        raise CompressionError(f"this race has {count:,} runs, more than {MOST_RUNS}", "add --yes if you mean that")


def refuse_unmatched(entries: Sequence[Entry]) -> None:
    """Refuse methods whose forecast does not reach the size of the others.

    Raises:
        CompressionError: naming them.
    """
    names = list(dict.fromkeys(entry.budget.method for entry in entries if not entry.met))
    if names:
        raise CompressionError(
            f"{', '.join(names)} cannot be made as small as the others by its main ask alone: leave it out, match by "
            "something else, or ask for less"
        )


def race(
    budgets: Sequence[Budget],
    names: Sequence[str],
    seeds: Sequence[int],
    matched: str = SPARSITY,
    root: str | Path = home.RUNS,
    *,
    confirmed: bool = False,
    priority: int = 0,
    device: str = AUTO,
    gpus: int = 1,
) -> str:
    """Plan and start a race on the trained model of the budgets; returns its id.

    Raises:
        CompressionError: see :func:`plan` and :func:`start`; before anything is loaded where there are too many runs.
    """
    check_count(len(budgets) * len(names) * len(seeds), confirmed or not all(map(_trains, names)))
    model, graph = check_subject(absolute(budgets[0]))
    entries = plan(Subject(model.model, graph), budgets, names, seeds, matched)
    return start(entries, root, confirmed=confirmed, priority=priority, device=device, gpus=gpus)


def _trains(name: str) -> bool:
    return methods.get(name).info.trains
