"""The search benchmark: `sweep --find smallest` against Optuna on recorded runs, so that none has to be trained.

python -m tests.bench.search [--write BENCHMARKS.md]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from compression.budget import Budget
from compression.runs.bisect import bisect
from compression.runs.folder import RunFolder
from compression.runs.sweep import expected_size
from tests.bench.graphs import write
from tests.bench.report import machine

RUNS = sorted(Path("assets/gallery/resnet20-cifar10jpeg").glob("opq-w*-s*"))
SEEDS = 30
TITLE = "The smallest model that is good enough: bisection and Optuna"
LEGEND = """\
The 20 OPQ runs of ResNet-20 in the gallery (sparsity 0 to 0.9, 2 to 6 bits, 3 epochs each), asked for the smallest that
keeps an accuracy on the validation split: each accuracy between two neighbouring runs is asked for once. `runs`: how
many had to be trained; `found`: how often the smallest was found; `too large`: bytes of the model found over those of
the smallest. Optuna's sampler TPE chooses sparsity and bits for as many runs as the bisection took, or for more (a
budget that it asks for again costs nothing), with bytes to minimise and the accuracy as a constraint, over 30 seeds."""


@dataclass(frozen=True)
class Seen:
    """What a recorded run came to: accuracy on the validation split (0..1) and bytes of the packed file."""

    budget: Budget
    accuracy: float
    bytes: int


@dataclass(frozen=True)
class Searched:
    """What one search came to: how many runs it trained, and the bytes of the smallest it found good enough."""

    runs: int
    bytes: int | None


def main(argv: list[str] | None = None) -> int:
    """Search, print the section, and put it into a file if asked."""
    parser = argparse.ArgumentParser(prog="tests.bench.search", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file")
    arguments = parser.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    text = section([seen(RunFolder(path)) for path in RUNS])
    print(text)
    if arguments.write:
        write(arguments.write, text)
    return 0


def seen(folder: RunFolder) -> Seen:
    """A recorded run, as the search would judge it."""
    points = folder.points()
    accuracy = [point.score for point in points if point.split == "validation"][-1]
    return Seen(folder.budget(), accuracy, int(points[-1].bytes))


def asked_for(table: Sequence[Seen]) -> list[float]:
    """An accuracy between each two neighbours of the recorded ones."""
    levels = sorted({each.score for each in table})
    return [(low + high) / 2 for low, high in itertools.pairwise(levels)]


def bisected(table: Sequence[Seen], least: float) -> Searched:
    """What ``sweep --find smallest`` does."""
    order = sorted(table, key=lambda each: expected_size(each.budget), reverse=True)
    tried: list[Seen] = []

    def good_enough(place: int) -> bool:
        tried.append(order[place])
        return order[place].accuracy >= least

    last = bisect(len(order), good_enough)
    return Searched(len(tried), None if last is None else order[last].bytes)


def by_optuna(table: Sequence[Seen], least: float, runs: int, seed: int) -> Searched:
    """Optuna's TPE over sparsity and bits until it has asked for ``runs`` different budgets."""
    by_value = {(each.budget.asks["sparsity"], each.budget.asks["bits"]): each for each in table}
    shares, widths = (sorted({key[place] for key in by_value}) for place in range(2))
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    tried: set[tuple[float, float]] = set()
    while len(tried) < runs:
        trial = study.ask()
        key = trial.suggest_categorical("sparsity", shares), trial.suggest_categorical("bits", widths)
        trial.set_constraint("accuracy", least - by_value[key].accuracy)
        study.tell(trial, by_value[key].bytes)
        tried.add(key)
    good = [by_value[key].bytes for key in tried if by_value[key].accuracy >= least]
    return Searched(runs, min(good, default=None))


def section(table: Sequence[Seen]) -> str:
    """The whole section of BENCHMARKS.md, title included."""
    levels = asked_for(table)
    best = {least: min(each.bytes for each in table if each.score >= least) for least in levels}
    ours = {least: bisected(table, least) for least in levels}
    rows = ["search | runs | found | too large, mean", "--- | ---: | ---: | ---:"]
    rows.append(_row("bisection", [(ours[least], best[least]) for least in levels]))
    for name, more in (("Optuna, as many runs", 0), ("Optuna, 3 more", 3), ("Optuna, 6 more", 6)):
        results = [
            (by_optuna(table, least, ours[least].runs + more, seed), best[least])
            for least in levels
            for seed in range(SEEDS)
        ]
        rows.append(_row(name, results))
    about = machine(f"{len(table)} recorded runs, {len(levels)} accuracies")
    lines = "\n".join(f"| {row} |" for row in rows)
    return "\n\n".join([f"## {TITLE}", "\n".join(about), LEGEND, lines]) + "\n"


def _row(name: str, results: Sequence[tuple[Searched, int]]) -> str:
    runs = statistics.mean(each.runs for each, _ in results)
    hits = statistics.mean(each.bytes == best for each, best in results)
    large = [each.bytes / best - 1 for each, best in results if each.bytes is not None]
    none = sum(each.bytes is None for each, _ in results) / len(results)
    nothing = f"; nothing in {none:.0%}" if none else ""
    return f"{name} | {runs:.1f} | {hits:.0%} | {statistics.mean(large):.1%}{nothing}"


if __name__ == "__main__":
    sys.exit(main())
