"""Make the gallery: run budgets through the command line and keep what charts need, with provenance.

::

    python assets/gallery/make.py run resnet20-cifar10jpeg --weights FILE [--only tuned,paper] [--seeds 0,1,2]
    python assets/gallery/make.py run vgg7_small-cifar10jpeg                     # trains the dense model first
    python assets/gallery/make.py keep resnet20-cifar10jpeg RUN_FOLDER NAME      # a run that was made before
    python assets/gallery/make.py table resnet20-cifar10jpeg                     # what is there, as Markdown

Every ``budgets/NAME.json`` of a collection is a budget as the command line reads it. Where a collection has a
``dense.json``, that is how its dense model is trained (options of the command ``train``); ``dense.safetensors`` beside
it are the weights that came of it, from which every run of the collection starts. A kept run is a folder with
``spec.json``, ``events.jsonl`` and ``result.json`` as in ``runs/`` (step events thinned, no checkpoint, no bundle, the
machine's paths taken out) and ``record.json``: data set, seed, commit, seconds, processor, command, final figures. Of
a task that shows its answers, the truth and the last picture stay, too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent
ROOT = HOME.parents[1]
KEPT = {"step": 120, "group": 40}  # events of a kind, evenly spread; those that choose or commit units stay all
AROUND = (20, 10)  # steps before and after units are committed whose events stay all
PICTURES = "pictures"
FIGURES = ("accuracy", "loss", "bytes", "nominal_bytes", "macs", "rel_bops", "unit_sparsity", "weight_sparsity")


def run(collection: Path, weights: Path, only: list[str], seeds: list[int]) -> None:
    """Run every budget of the collection with every seed and keep the results."""
    budgets = sorted(path for path in (collection / "budgets").glob("*.json") if not only or path.stem in only)
    if not budgets:
        raise SystemExit(f"error: no such budget in {collection / 'budgets'}")
    for path in budgets:
        for seed in seeds:
            name = path.stem if seed == 0 else f"{path.stem}-seed{seed}"
            with tempfile.TemporaryDirectory() as runs:
                command = [sys.executable, "-m", "compression", *arguments(path, seed), "--weights", str(weights)]
                subprocess.run([*command, "--runs", runs], cwd=ROOT, check=True)
                keep(collection, next(Path(runs).glob("*/result.json")).parent, name, commit())


def dense(collection: Path) -> Path:
    """The weights of the collection's dense model: ``dense.safetensors``, else trained as ``dense.json`` says.

    Raises:
        SystemExit: the collection starts from a file that has to be given.
    """
    from compression.zoo.weights import models_folder

    asked = collection / "dense.json"
    if not asked.is_file():
        raise SystemExit(f"error: {collection.name} starts from weights that it does not train: name them by --weights")
    path = collection / "dense.safetensors"
    if not path.is_file():
        path = models_folder() / f"{collection.name}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        options = [f"--{name}={value}" for name, value in json.loads(asked.read_text(encoding="utf-8")).items()]
        command = [sys.executable, "-m", "compression", "train", *options, "--out", str(path)]
        subprocess.run(command, cwd=ROOT, check=True)
    return path


def arguments(budget: Path, seed: int) -> list[str]:
    """The command line of one run, without the weights file."""
    return ["run", "--config", str(budget.relative_to(ROOT)), "--seed", str(seed)]


def keep(collection: Path, folder: Path, name: str, made_by: str) -> None:
    """Copy what is worth keeping of a finished run to ``collection/name``."""
    spec, result = (json.loads((folder / file).read_text(encoding="utf-8")) for file in ("spec.json", "result.json"))
    weights = Path(spec["budget"]["weights"])
    spec, result = (named(value, str(weights), weights.name) for value in (spec, result))
    target = collection / name
    target.mkdir(exist_ok=True)
    asked = budget_file(collection, name, spec["budget"])
    words = [*arguments(asked, spec["budget"]["seed"]), "--weights", weights.name]
    _write(target / "spec.json", spec)
    _write(target / "result.json", result)
    keep_events(folder, target)
    (target / "record.json").write_text(
        json.dumps(record(name, spec, result, weights, made_by, words), indent=2) + "\n", encoding="utf-8"
    )
    keep_pictures(folder, target, result)
    final = result["final"]
    print(f"{name}: {final[measured_by(result)]:.4f} on test at {100 * final['rel_bops']:.2f} % BOPs")


def keep_events(folder: Path, target: Path, name: str = "") -> None:
    """Copy the events, thinned, for the result that ``target`` has: they vouch for it by its digest.

    ``name``: what the run is called there.
    """
    digest = hashlib.sha256((target / "result.json").read_bytes()).hexdigest()
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = thinned([json.loads(line) for line in lines])
    vouching = (event | ({"result_sha256": digest} if "result_sha256" in event else {}) for event in events)
    text = "".join(_compact(event) + "\n" for event in vouching)
    (target / "events.jsonl").write_text(text.replace(folder.name, name or folder.name), encoding="utf-8")


def keep_pictures(folder: Path, target: Path, result: dict[str, Any]) -> None:
    """Copy the truth and the last picture of a run whose task shows its answers."""
    for picture in (folder / PICTURES / f"{stem}.png" for stem in ("original", result["final"]["step"])):
        if picture.is_file():
            (target / PICTURES).mkdir(exist_ok=True)
            (target / PICTURES / picture.name).write_bytes(picture.read_bytes())


def measured_by(result: dict[str, Any]) -> str:
    """The name of the metric; results of version 0.1.0 are all of accuracy."""
    return str(result["final"].get("metric", "accuracy"))


def named(value: Any, path: str, name: str) -> Any:
    """JSON values in which a path of this machine is replaced by a name, wherever it stands."""
    if isinstance(value, dict):
        return {key: named(inner, path, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [named(inner, path, name) for inner in value]
    return name if value == path else value


def budget_file(collection: Path, name: str, budget: dict[str, Any]) -> Path:
    """The budget that a kept run was made from: the file named as the run without its seed, written if not there."""
    path = collection / "budgets" / f"{name.partition('-seed')[0]}.json"
    if not path.is_file():
        free = {key: value for key, value in budget.items() if key not in ("version", "weights", "seed") and value}
        path.write_text(json.dumps(free, indent=2) + "\n", encoding="utf-8")
    return path


def thinned(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events, those of the many kinds in :data:`KEPT` thinned; without the machine's name."""
    gone: set[int] = set()
    committed = [event["step"] for event in events if commits(event)]
    near = {step + by for step in committed for by in range(-AROUND[0], AROUND[1] + 1)}
    for kind, count in KEPT.items():
        all_of = [index for index, event in enumerate(events) if event["kind"] == kind and "chosen" not in event]
        stays = {all_of[round(i * (len(all_of) - 1) / count)] for i in range(count + 1)} if all_of else set()
        stays |= {i for i in all_of if commits(events[i]) or (kind == "step" and events[i]["step"] in near)}
        gone.update(set(all_of) - stays)
    for index, event in enumerate(events):
        if index not in gone:
            yield {key: value for key, value in event.items() if key not in ("host", "pid")}


def commits(event: dict[str, Any]) -> bool:
    """Does this step forget units for the last time, so that they are zero after it? Evenly, all would go in it."""
    return any(group["uniform"] == 1 for group in event.get("joint", {}).values())


def record(
    name: str, spec: dict[str, Any], result: dict[str, Any], weights: Path, made_by: str, words: list[str]
) -> dict[str, Any]:
    """Where a result comes from, and its figures: validation as seen last, test of the packed file.

    ``made_by`` is the commit of the code, ``words`` the arguments of the command line.
    """
    budget = spec["budget"]
    seen = [point for point in result["points"] if point["split"] == "validation"]
    metric = measured_by(result)
    figures = (metric, *FIGURES[1:])
    return {
        "name": name,
        "method": budget["method"],
        "model": budget["model"],
        "data": result["data"],
        "weights": {
            "file": weights.name,
            "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            **origin(weights),
        },
        "seed": budget["seed"],
        "epochs": budget["epochs"],
        "seconds": result["seconds"],
        "commit": made_by,
        "processor": processor(),
        "threads": spec["threads"],
        "versions": spec["versions"],
        "command": " ".join(["python -m compression", *words]),
        f"validation_{metric}": seen[-1][metric] if seen else None,
        "baseline": {figure: result["baseline"][figure] for figure in figures},
        "final": {figure: result["final"][figure] for figure in figures},
    }


def origin(weights: Path) -> dict[str, Any]:
    """How a weights file was made, where it says so itself (torch's own files do not)."""
    if weights.suffix != ".safetensors":
        return {}
    from compression.zoo.weights import read_provenance

    told = read_provenance(weights)
    return {key: value for key, value in told.items() if key in ("command", "commit") or key.startswith("test_")}


def table(collection: Path, only: list[str]) -> str:
    """Kept runs as a Markdown table: those named, in that order, or all."""
    lines = ["| run | seed | epochs | validation | test | rel. BOPs | nominal bytes | packed bytes | seconds |"]
    lines.append("|---" * lines[0].count(" | ") + "|---|")
    names = only or sorted(path.parent.name for path in collection.glob("*/record.json"))
    for path in (collection / name / "record.json" for name in names):
        told = json.loads(path.read_text(encoding="utf-8"))
        final = told["final"]
        cells = [told["name"], told["seed"], f"{told['epochs']:g}"]
        cells += scores(told)
        cells += [f"{100 * final['rel_bops']:.2f} %", f"{final['nominal_bytes']:,.0f}", f"{final['bytes']:,.0f}"]
        lines.append("| " + " | ".join(map(str, [*cells, f"{told['seconds']:.0f}"])) + " |")
    return "\n".join(lines)


def scores(told: dict[str, Any]) -> list[str]:
    """Validation and test of a record, in the unit of its metric."""
    from compression.tasks import METRICS

    metric = next(each for name, each in METRICS.items() if name in told["final"])
    return [metric.show(told[f"validation_{metric.name}"], 1), metric.show(told["final"][metric.name], 1)]


def commit() -> str:
    """The commit of the code that runs."""
    told = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    return told.stdout.strip()


def processor() -> str:
    """The processor's name, as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _write(path: Path, value: Any) -> None:
    path.write_text(_compact(value) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line and do it."""
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description="Make the gallery of finished runs.")
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run the budgets of a collection and keep the results")
    runs.add_argument("collection")
    runs.add_argument("--weights", type=Path, help="the dense model's weights (default: trained by the collection)")
    runs.add_argument("--only", default="", help="names of budgets, separated by commas")
    runs.add_argument("--seeds", default="0", help="separated by commas")
    shown = commands.add_parser("table", help="the runs kept, as Markdown")
    shown.add_argument("collection")
    shown.add_argument("--only", default="", help="names of runs, separated by commas, in this order")
    kept = commands.add_parser("keep", help="keep a run that was made before")
    kept.add_argument("collection")
    kept.add_argument("folder", type=Path)
    kept.add_argument("name")
    kept.add_argument("--commit", default=None, help="of the code it was made with (default: the present one)")
    asked = parser.parse_args()
    collection = HOME / asked.collection
    if asked.command == "run":
        seeds = [int(seed) for seed in asked.seeds.split(",")]
        weights = asked.weights or dense(collection)
        run(collection, weights.expanduser().resolve(), [n for n in asked.only.split(",") if n], seeds)
    elif asked.command == "table":
        print(table(collection, [n for n in asked.only.split(",") if n]))
    else:
        keep(collection, asked.folder, asked.name, asked.commit or commit())


if __name__ == "__main__":
    main()
