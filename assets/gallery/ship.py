"""Make the gallery's whole runs: small ones, kept with their compressed models, so that every page can work on them.

::

    python assets/gallery/ship.py resnet8-mnist5k                       # every run and sweep of the collection
    python assets/gallery/ship.py resnet8-mnist5k --only geta,opq
    python assets/gallery/ship.py unet_small-digit-masks --only geta-w8a8-s30   # the rest: figures only

Every ``budgets/NAME.json`` of the collection becomes a run of that name through ``python -m compression run``; where
``sweeps.json`` names values for it, a sweep with its runs through ``python -m compression sweep``. The dense model's
weights come with the project. Of a run is kept what :mod:`make` keeps (spec,
thinned events, result, pictures, ``record.json``) and ``bundle/weights.packed``, the compressed model itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent
ROOT = HOME.parents[1]
sys.path[:] = dict.fromkeys([str(HOME), str(ROOT), *sys.path])

from make import commit, keep_events, keep_pictures, record  # noqa: E402

KEPT_OF_BUNDLE = ("weights.packed", "ledger.json")


def ship(collection: Path, only: list[str], seed: int) -> None:
    """Carry out the collection's budgets and keep what they leave.

    Raises:
        SystemExit: nothing of these names is asked for by the collection.
    """
    chosen = [path for path in sorted(collection.glob("budgets/*.json")) if not only or path.stem in only]
    if not chosen:
        raise SystemExit(f"error: no such budget in {collection / 'budgets'}")
    for path in chosen:
        with tempfile.TemporaryDirectory() as runs:
            words = command(path, seed)
            subprocess.run([sys.executable, "-m", "compression", *words, "--runs", runs], cwd=ROOT, check=True)
            keep_all(collection, path.stem, Path(runs), words)


def command(budget: Path, seed: int) -> list[str]:
    """The command line of a budget: a run, or a sweep over what the collection names for it."""
    named = budget.parent.parent / "sweeps.json"
    values = json.loads(named.read_text(encoding="utf-8")).get(budget.stem, {}) if named.is_file() else {}
    swept = [word for name, given in values.items() for word in (f"--{name}", ",".join(f"{v:g}" for v in given))]
    return ["sweep" if values else "run", "--config", str(budget.relative_to(ROOT)), *swept, "--seed", str(seed)]


def keep_all(collection: Path, name: str, runs: Path, words: list[str]) -> None:
    """Keep the run, or the sweep and its runs, under names of the gallery: ``NAME``, and ``NAME-01`` and so on."""
    specs = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in runs.glob("*/spec.json")}
    parent = next((folder for folder, spec in specs.items() if "children" in spec), None)
    ids = specs[parent]["children"] if parent else [next(iter(specs)).name]
    names = {run: f"{name}-{number:02d}" if parent else name for number, run in enumerate(ids, start=1)}
    if parent is not None:
        names[parent.name] = name
    for folder, spec in specs.items():
        keep(collection / names[folder.name], folder, renamed(spec, names), words)


def renamed(spec: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The spec with the gallery's names for the runs of a sweep, which find each other by them."""
    changed = {**spec, "id": names[spec["id"]]}
    if "children" in spec:
        changed["children"] = [names[child] for child in spec["children"]]
    if spec.get("sweep"):
        changed["sweep"] = names[spec["sweep"]]
    return changed


def keep(target: Path, folder: Path, spec: dict[str, Any], words: list[str]) -> None:
    """Copy what is worth keeping of a run to ``target``, which is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    _write(target / "spec.json", spec)
    result_path = folder / "result.json"
    result = json.loads(result_path.read_text(encoding="utf-8"))
    if "children" in spec:  # its runs' results are beside it
        result = {key: value for key, value in result.items() if key != "runs"}
    _write(target / "result.json", {**result, "run": spec["id"]})
    keep_events(folder, target, spec["id"])
    if "children" not in spec:
        (target / "bundle").mkdir()
        for name in KEPT_OF_BUNDLE:
            shutil.copyfile(folder / "bundle" / name, target / "bundle" / name)
        keep_pictures(folder, target, result)
        (target / "record.json").write_text(
            json.dumps(record(target.name, spec, result, dense(spec), commit(), words), indent=2) + "\n",
            encoding="utf-8",
        )
    print(f"{target.name}: {sum(path.stat().st_size for path in target.rglob('*') if path.is_file()):,} bytes kept")


def dense(spec: dict[str, Any]) -> Path:
    """The trained weights that the run started from."""
    from compression.budget import Budget
    from compression.runs.prepare import find_weights

    path = find_weights(Budget.from_dict(spec["budget"])).file
    assert path is not None, "runs of the gallery begin with weights from a file"
    return path


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _write(path: Path, value: Any) -> None:
    path.write_text(_compact(value) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description="Make the gallery's whole runs.")
    parser.add_argument("collection")
    parser.add_argument("--only", default="", help="names of budgets, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ.pop("COMPRESSION_LAUNCHER", None)  # here, and nowhere else
    ship(HOME / asked.collection, [name for name in asked.only.split(",") if name], asked.seed)


if __name__ == "__main__":
    main()
