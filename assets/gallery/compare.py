"""Compare on equal terms: what one change buys (ablation), what methods reach with the same training (methods), joint
against one after the other (proof), and long runs beside the dense model trained as long (long).

::

    python assets/gallery/compare.py ablation resnet8-fashion_mnist --seeds 0,1,2 [--weights FILE] [--only uniform,tied]
    python assets/gallery/compare.py methods resnet8-fashion_mnist --seeds 0 [--only uniq-w4,bsq-b4]
    python assets/gallery/compare.py proof resnet8-fashion_mnist --seeds 0,1,2 [--weights FILE] [--only w4-m45]
    python assets/gallery/compare.py long resnet20-cifar10jpeg --weights FILE
    python assets/gallery/compare.py table resnet8-fashion_mnist proof           # what is there, as Markdown

A collection's ``ablation.json`` has a budget and the changes to it that are tried one at a time; so has its
``methods.json``, where the budget is the training that all share and each change is a method with its asks. Its
``proof.json`` has the training that all methods share, and the budgets. ``terms.json`` has each method's part: what it
calls the asks of a budget, the same distillation and the same options wherever a method has them. All runs start from
the same weights with the same data, order and epochs.

In the proof the first method of ``terms.json`` runs first. Each other one that has the asks is then matched to what
came of it: the same bits, the MACs that it reached, and the bytes that it reached within :data:`CLOSE`, by the one
setting that ``terms.json`` names (how strongly a unit's saliency is set against its cost; the share of zeros where
single weights are pruned). The setting of an earlier seed is tried first; else it is looked for in runs of a few steps
(``glance``), which cost seconds. Where no setting comes close, the nearest run stays in the table with its difference.

``long.json`` has a budget and what its runs change, as ``ablation.json`` has; before them the dense model that they
start from is trained on for as many epochs with the same batches and rate, by labels alone.

Every run is one line of ``ablation.jsonl``, ``methods.jsonl``, ``proof.jsonl`` or ``long.jsonl``; lines that are there
are not computed again, as long as the budget and the weights are the same. Runs compute on the device that
``COMPRESSION_DEVICE`` names, else on the first GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent
ROOT = HOME.parents[1]
sys.path[:] = dict.fromkeys([str(HOME), str(ROOT), *sys.path])

from make import FIGURES, commit, dense, processor  # noqa: E402

from compression.devices import CPU  # noqa: E402

Json = dict[str, Any]
CLOSE = 0.02  # equal means: within this share
TRIES = 4
KINDS = {
    "ablation": "what single changes buy",
    "methods": "trained methods with the same training",
    "proof": "methods at equal bits, MACs and bytes",
    "long": "runs of many epochs, and the dense model trained as long",
}
DENSE = "dense"
SETTINGS = ("batch_size", "lr", "precision")
TRAINING = ("model", "data", "epochs", *SETTINGS)


def merged(*parts: Json) -> Json:
    """Settings with later parts over earlier ones; ``None`` takes a setting away."""
    result: Json = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, dict):
                result[key] = merged(result.get(key) or {}, value)
            else:
                result[key] = value
    return {key: value for key, value in result.items() if value is not None}


class Results:
    """The lines of a results file: one for each run, of which none is computed twice.

    ``start``: the SHA-256 of the weights that runs begin with.
    """

    def __init__(self, path: Path, weights: Path | None = None) -> None:
        self.path, self.weights = path, weights
        self.start = "" if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.rows: list[Json] = [json.loads(line) for line in lines]

    def run(self, name: str, budget: Json, seed: int) -> Json:
        """The row of this run, from the file or computed now; the method ``dense`` trains and compresses nothing."""
        for row in self.rows:
            if (row["name"], row["seed"], row["budget"], row["start"]) == (name, seed, budget, self.start):
                return row
        what = {"name": name, "method": budget["method"], "seed": seed, "budget": budget, "start": self.start}
        row = {**what, **(self.train(budget, seed) if budget["method"] == DENSE else self.compute(budget, seed))}
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(describe(row), flush=True)
        return row

    def compute(self, budget: Json, seed: int) -> Json:
        """Figures of one run through the command line: those of the packed file on test, and validation as last seen.

        Raises:
            CalledProcessError: the run failed.
        """
        with tempfile.TemporaryDirectory() as folder:
            config, runs = Path(folder) / "budget.json", Path(folder) / "runs"
            config.write_text(json.dumps(budget), encoding="utf-8")
            words = ["run", "--config", str(config), "--seed", str(seed), "--weights", str(self.weights)]
            command = [sys.executable, "-m", "compression", *words, "--runs", str(runs), "--json", "-"]
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        result = json.loads(done.stdout)
        seen = [point["accuracy"] for point in result["points"] if point["split"] == "validation"]
        return {
            "validation": seen[-1] if seen else None,
            **{figure: result["final"][figure] for figure in FIGURES},
            **({"precisions": [_precision(row) for row in result["precisions"]]} if "precisions" in result else {}),
            "dense": {figure: result["baseline"][figure] for figure in FIGURES},
            "data": result["data"],
            "epochs": budget["epochs"],
            "seconds": round(result["seconds"]),
            "commit": commit(),
            "processor": _processor(result.get("device", CPU)),
        }

    def train(self, budget: Json, seed: int) -> Json:
        """Figures of the dense model trained on from its weights, by labels alone."""
        from compression import devices
        from compression.budget import Budget
        from compression.runs.prepare import Workbench
        from compression.training.dense import train_dense

        chosen = Budget(**{name: budget[name] for name in TRAINING}, weights=str(self.weights), seed=seed)
        setup = Workbench().prepare(chosen, device=devices.choose()).setup(chosen)
        settings = {name: budget[name] for name in SETTINGS}
        result = train_dense(setup.model, setup.task, budget["epochs"], seed, **settings)
        device = devices.label(devices.device_of(setup.model))
        return {
            "validation": result.validation.score,
            "accuracy": result.test.score,
            "data": setup.data.label,
            "epochs": budget["epochs"],
            "seconds": round(result.seconds),
            "commit": commit(),
            "processor": _processor(device),
        }


def _processor(device: str) -> str:
    """Where a result was computed, by the hardware's name."""
    return processor() if device == CPU else device


def _precision(row: Json) -> Json:
    """What a run whose weights serve several bit-widths is at one of them."""
    return {"bits": row["bits"], **{figure: row["point"][figure] for figure in FIGURES}}


def changed(kind: str, collection: Path, weights: Path, only: list[str], seeds: list[int]) -> None:
    """Run the budget of ``KIND.json`` with each of its changes, and every seed of one change before the next."""
    plan, results = read(collection / f"{kind}.json"), Results(collection / f"{kind}.jsonl", weights)
    if kind == "long" and not only:
        for seed in seeds:
            results.run(DENSE, {"method": DENSE, **{name: plan["budget"][name] for name in TRAINING}}, seed)
    for name, change in plan["changes"].items():
        for seed in seeds if not only or name in only else ():
            results.run(name, merged(plan["budget"], change), seed)


def proof(collection: Path, weights: Path, only: list[str], seeds: list[int]) -> None:
    """Run the first method of every budget in ``proof.json``, and the others matched to what came of it."""
    plan, results = read(collection / "proof.json"), Results(collection / "proof.jsonl", weights)
    terms = read(HOME / "terms.json")
    for name, asks in plan["budgets"].items():
        (_, budget), *others = budgets(plan["training"], asks, terms)
        for seed in seeds if not only or name in only else ():
            goal = results.run(name, budget, seed)
            for method, to_match in others:
                matched(results, name, to_match, seed, goal, terms[method]["match"])


def budgets(training: Json, asks: Json, terms: Json) -> Iterator[tuple[str, Json]]:
    """Method → its budget with these asks (``macs``, ``bits``, ``activation_bits``), for the methods that have them.

    How much goes is asked of the first method alone; the others are matched to it.
    """
    for number, (method, part) in enumerate(terms.items()):
        known = {name: value for name, value in asks.items() if name != "macs" or not number}
        if known.keys() <= part["asks"].keys():
            own = {part["asks"][name]: value for name, value in known.items()}
            ranges = {name: [width, width] for name, width in own.items() if name.endswith("_bits")}
            yield method, merged(training, part["budget"], own, ranges)


def matched(results: Results, name: str, budget: Json, seed: int, goal: Json, match: Json) -> Json:
    """The run of another method at the bits, MACs and bytes of ``goal``; the nearest of a few tries.

    The bytes of a whole run are those of a short one times a factor that is learnt from each try.
    """
    if match["macs"]:
        budget = merged(budget, {"macs": round(1 - goal["macs"] / goal["dense"]["macs"], 6)})
    figure, ends = match["bytes"], match["range"]

    def glance(value: float) -> float:
        return float(results.compute(merged(budget, setting(match, value), match["glance"]), seed)[figure])

    def distance(row: Json) -> float:
        return abs(row[figure] / goal[figure] - 1)

    def tried(value: float) -> Json:
        return results.run(name, merged(budget, setting(match, value)), seed)

    def value_of(row: Json) -> float:
        if "ask" in match:
            return float(row["budget"][match["ask"]])
        options = row["budget"]["options"]
        return float(options["cost_power"]) * (-1 if options["cost"] == match["below"] else 1)

    rows: list[Json] = []
    earlier = [row for row in results.rows if (row["name"], row["method"]) == (name, budget["method"])]
    if earlier:
        rows.append(tried(value_of(earlier[-1])))
    while len(rows) < TRIES and (not rows or min(map(distance, rows)) > CLOSE):
        factor = rows[-1][figure] / glance(value_of(rows[-1])) if rows else 1.0
        value = solved(glance, goal[figure] / factor, *ends)
        if value in map(value_of, rows):
            break
        rows.append(tried(value))
    return min(rows, key=distance)


def solved(bytes_at: Callable[[float], float], goal: float, low: float, high: float) -> float:
    """The setting of ``low`` … ``high`` at which bytes come within half of :data:`CLOSE` of ``goal``, or an end.

    ``bytes_at`` rises or falls over the range. Each next setting is where a straight line through the logarithms at
    both ends meets the goal, but a tenth of the range away from either; at most eight are tried.
    """
    (x0, f0), (x1, f1) = ((x, math.log(bytes_at(x) / goal)) for x in (low, high))
    if f0 * f1 >= 0:
        return low if abs(f0) <= abs(f1) else high
    x = low
    for _ in range(8):
        share = min(max(f0 / (f0 - f1), 0.1), 0.9)
        x = round(x0 + share * (x1 - x0), 4)
        present = math.log(bytes_at(x) / goal)
        if abs(present) <= CLOSE / 2:
            break
        if present * f0 > 0:
            x0, f0 = x, present
        else:
            x1, f1 = x, present
    return x


def setting(match: Json, value: float) -> Json:
    """The part of a budget that has ``value``: an ask, or by its sign the cost of a unit and the power that it has."""
    if "ask" in match:
        return {match["ask"]: value}
    return {"options": {"cost": match["below"] if value < 0 else match["above"], "cost_power": abs(value)}}


def describe(row: Json) -> str:
    """One line of a run's figures."""
    score = f"{row['name']} {row['method']} seed {row['seed']}: {100 * row['accuracy']:.2f} % on test"
    if row["method"] == DENSE:
        return f"{score}, {row['seconds']} s"
    return (
        f"{score}, "
        f"{100 * row['rel_bops']:.2f} % BOPs, {row['nominal_bytes']:,.0f} nominal and {row['bytes']:,} packed bytes, "
        f"{row['seconds']} s"
    )


def read(path: Path) -> Json:
    """A JSON file of the gallery.

    Raises:
        SystemExit: the collection has none.
    """
    if not path.is_file():
        raise SystemExit(f"error: {path.parent.name} has no {path.name}")
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return content


def table(rows: Iterable[Json]) -> str:
    """Means over seeds as a Markdown table, in the order in which the runs came.

    Of the tries of one method, budget and seed, the one counts that is nearest in bytes to the run it was matched to.
    """
    grouped: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for row in nearest(list(rows)):
        grouped[row["name"], row["method"]].append(row)
    lines = ["| budget | method | seeds | validation | test | rel. BOPs | MACs | nominal bytes | packed bytes |"]
    lines.append("|---" * lines[0].count(" | ") + "|---|")
    for (name, method), of_seeds in grouped.items():
        cells = [name, method, str(len(of_seeds)), *(_mean(of_seeds, key, 100, 2) + " %" for key in PERCENT)]
        cells += [_mean(of_seeds, key, 1, 0) for key in ("macs", "nominal_bytes", "bytes")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


PERCENT = ("validation", "accuracy", "rel_bops")


def nearest(rows: list[Json]) -> Iterator[Json]:
    """One row of each method, budget and seed: see :func:`table`."""
    terms = read(HOME / "terms.json")
    tries: dict[tuple[str, str, int], list[Json]] = defaultdict(list)
    for row in rows:
        tries[row["name"], row["method"], row["seed"]].append(row)
    for (name, _, seed), of_method in tries.items():
        if len(of_method) == 1:
            yield of_method[0]
            continue
        goal = next(row for row in rows if (row["name"], row["seed"]) == (name, seed))
        figure = terms.get(of_method[0]["method"], {}).get("match", {}).get("bytes", "nominal_bytes")
        yield min(of_method, key=lambda row: abs(row[figure] / goal[figure] - 1))


def _mean(rows: list[Json], key: str, factor: float, digits: int) -> str:
    values = [factor * row[key] for row in rows if row.get(key) is not None]
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 and key == "accuracy" else ""
    return f"{statistics.fmean(values):,.{digits}f}{spread}"


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description="Compare methods, and changes of one method, on equal terms.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in KINDS.items():
        runs = commands.add_parser(name, help=what)
        runs.add_argument("collection")
        runs.add_argument("--weights", type=Path, help="the dense model's weights (default: trained by the collection)")
        runs.add_argument("--only", default="", help="names of changes or budgets, separated by commas")
        runs.add_argument("--seeds", default="0", help="separated by commas")
    shown = commands.add_parser("table", help="the means over seeds, as Markdown")
    shown.add_argument("collection")
    shown.add_argument("kind", choices=tuple(KINDS))
    requested = parser.parse_args()
    collection = HOME / requested.collection
    if requested.command == "table":
        print(table(Results(collection / f"{requested.kind}.jsonl").rows))
        return
    names = [name for name in requested.only.split(",") if name]
    plan = read(collection / f"{requested.command}.json")
    unknown = set(names) - plan["budgets" if requested.command == "proof" else "changes"].keys()
    if unknown:
        raise SystemExit(f"error: {collection.name}/{requested.command}.json has no {', '.join(sorted(unknown))}")
    weights = (requested.weights or dense(collection)).expanduser().resolve()
    seeds = [int(seed) for seed in requested.seeds.split(",")]
    work = proof if requested.command == "proof" else partial(changed, requested.command)
    work(collection, weights, names, seeds)


if __name__ == "__main__":
    main()
