"""The bundle: read by a process without this package, equal to torch in ONNX Runtime, refused when it was touched."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load
from torch import nn

import compression as cx
from compression.cli import main
from compression.data import Batches
from compression.encodings import OnnxForm
from compression.errors import CompressionError
from compression.export import apply, export
from compression.export.bundle import CHECKSUMS, write
from compression.export.card import per_class
from compression.export.findings import verdicts
from compression.export.onnx_weights import on_grid, width_of
from compression.export.program import check_safe
from compression.export.source import read
from compression.jobs import export_run
from compression.pack.streams import CODINGS, encode
from compression.quant import activation_quantizers, weight_quantizers
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from tests.alone import loader
from tests.waiting import ended

ROOT = Path(__file__).resolve().parents[1]
ASKED: dict[str, dict[str, Any]] = {
    "geta": {"method": "geta", "sparsity": 0.5, "weight_bits": [4, 8]},
    "opq": {"method": "opq", "sparsity": 0.6, "bits": 3.5},
    "survivor": {"method": "opq", "sparsity": 0.6, "bits": 3.5, "options": {"grid": "survivor"}},
    "both": {
        "method": "geta",
        "sparsity": 0.4,
        "weight_bits": [3, 6],
        "activation_bits": [6, 8],
        "options": {"unsigned": True},
    },
    "channels": {"method": "geta", "sparsity": 0.4, "weight_bits": [3, 6], "options": {"weights": "channel"}},
}
DEQUANTIZE = ("DequantizeLinear",)
FREE = ("torch", "numpy", "safetensors", "constriction")
FILES = {
    "budget.json", "config.json", "model.safetensors", "weights.packed", "model.pt2", "example.safetensors", "load.py",
    "model.onnx", "model.fp32.onnx", "model.int8.onnx", "MODEL_CARD.md", CHECKSUMS,
}  # fmt: skip


def finished(root: Path, name: str, **changes: Any) -> RunFolder:
    budget = {**cx.Budget(epochs=0.3, precision="fp32").to_dict(), **changes}
    folder = RunFolder.create(root, {"id": name, "budget": budget, "created": 0.0})
    assert carry_out(folder, execute) == "done", folder.log_path.read_text()
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """One finished run of each kind."""
    root = tmp_path_factory.mktemp("runs")
    return {name: finished(root, name, **options) for name, options in ASKED.items()}


@pytest.fixture(scope="session")
def bundles(folders: dict[str, RunFolder], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Their bundles, latency measured in one of them."""
    root = tmp_path_factory.mktemp("bundles")
    return {name: export(folder, root / f"{name}.zip", latency=name == "geta").path for name, folder in folders.items()}


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with torch, numpy, safetensors, constriction and what these need, and nothing else."""
    place = tmp_path_factory.mktemp("elsewhere")
    for name in closure(FREE):
        for top in {
            file.parts[0] for file in distribution(name).files or () if file.parts[0] not in ("..", "__pycache__")
        }:
            source = Path(str(distribution(name).locate_file(top)))
            if source.exists() and not (place / top).exists():
                (place / top).symlink_to(source)
    return place


def closure(names: tuple[str, ...]) -> Iterator[str]:
    """Distributions and what they require, those that are installed."""
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            required = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        yield name
        waiting += [
            line.split(";")[0].split("[")[0].strip(" ()<>=!~0123456789.,*") for line in required if "extra" not in line
        ]


def outside(place: Path, folders: Sequence[Path], *options: str) -> subprocess.CompletedProcess[str]:
    """Run the load.py of each folder, in turn, where this package and the other requirements cannot be imported."""
    code = (
        f"import os, sys, runpy; sys.path.insert(0, {str(place)!r}); sys.argv[1:] = {list(options)!r}\n"
        "for name in ('compression.export', 'onnx', 'streamlit', 'torchvision', 'scipy'):\n"
        "    try: __import__(name)\n"
        "    except ImportError: continue\n"
        "    sys.exit(name + ' can be imported here')\n"
        f"for folder in {[str(folder) for folder in folders]!r}:\n"
        "    os.chdir(folder)\n"
        "    try: runpy.run_path('load.py', run_name='__main__')\n"
        "    except SystemExit as end:\n"
        "        if end.code: raise"
    )
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], env=environment, capture_output=True, text=True)


def unzipped(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def images(folder: RunFolder, count: int = 256) -> torch.Tensor:
    return next(iter(Batches(read(folder).data, "test", count, augment=False)))[0]


@pytest.fixture(scope="session")
def unpacked(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each bundle's files."""
    return {kind: unzipped(path, tmp_path_factory.mktemp(kind)) for kind, path in bundles.items()}


@pytest.fixture(scope="session")
def answers(unpacked: dict[str, Path], elsewhere: Path) -> dict[str, str]:
    """What the load.py of each bundle says, in one process without our package."""
    process = outside(elsewhere, list(unpacked.values()), "--trust")
    assert process.returncode == 0, process.stdout + process.stderr
    return dict(zip(unpacked, process.stdout.strip().splitlines(), strict=True))


@pytest.mark.parametrize("kind", ASKED)
def test_load_py_runs_without_our_package(
    bundles: dict[str, Path], unpacked: dict[str, Path], answers: dict[str, str], kind: str
) -> None:
    folder = unpacked[kind]
    assert {path.name for path in folder.iterdir()} == FILES
    source = (folder / "load.py").read_text()
    decoding = source[source.index("def varints") : source.index("def load(")].splitlines()
    assert sum(bool(line) for line in decoding) <= 68 and max(map(len, source.splitlines())) <= 120
    weights, output = answers[kind].split("; ")
    assert weights.endswith(": True")
    assert float(output.rpartition(" ")[2]) < 1e-4  # another process may add up in another order
    example = load((folder / "example.safetensors").read_bytes())
    with torch.no_grad():
        assert torch.allclose(cx.load(bundles[kind])(example["input"]), example["output"], atol=1e-5)


def test_load_py_does_not_read_the_program_unless_told_to(
    bundles: dict[str, Path], elsewhere: Path, tmp_path: Path
) -> None:
    folder = unzipped(bundles["geta"], tmp_path)
    (folder / "model.pt2").write_bytes(b"no program")
    process = outside(elsewhere, [folder])
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.partition("; ")[0].endswith(": True")
    assert outside(elsewhere, [folder], "--trust").returncode != 0
    functions = runpy.run_path(str(folder / "load.py"))
    with pytest.raises(PermissionError, match="can run code"):
        functions["load"]()
    slim = cx.load(bundles["geta"])
    expected = {name: tensor.clone() for name, tensor in slim.state_dict().items()}
    for parameter in slim.parameters():
        nn.init.zeros_(parameter)
    assert functions["load"](slim) is slim
    assert all(torch.equal(tensor, expected[name]) for name, tensor in slim.state_dict().items())


def test_load_py_notices_other_weights(bundles: dict[str, Path], elsewhere: Path, tmp_path: Path) -> None:
    folder = unzipped(bundles["opq"], tmp_path)
    (folder / "weights.packed").write_bytes(members(bundles["both"])["weights.packed"])
    assert outside(elsewhere, [folder]).returncode != 0
    good = members(bundles["opq"])["weights.packed"]
    (folder / "weights.packed").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    process = outside(elsewhere, [folder])
    assert process.returncode != 0
    assert "weights.packed is damaged" in process.stderr


@pytest.mark.parametrize("kind", ASKED)
def test_the_bundle_gives_the_accuracy_of_the_run_exactly(
    folders: dict[str, RunFolder], bundles: dict[str, Path], kind: str
) -> None:
    from compression.training.dense import evaluate

    stored = json.loads(folders[kind].result_path.read_text())
    evaluation = evaluate(cx.load(bundles[kind]), read(folders[kind]).data, "test")
    assert evaluation.score == stored["final"]["accuracy"]
    assert evaluation.details["confusion"] == stored["confusion"]["final"]
    assert len(members(bundles[kind])["weights.packed"]) == stored["ledger"]["total"]


@pytest.mark.parametrize("kind", ASKED)
def test_onnx_runtime_agrees_with_torch(folders: dict[str, RunFolder], bundles: dict[str, Path], kind: str) -> None:
    files, x = members(bundles[kind]), images(folders[kind])
    with torch.no_grad():
        expected = cx.load(bundles[kind])(x).numpy()
    for name, least in (("model.onnx", 0.995), ("model.int8.onnx", 0.9)):
        onnx.checker.check_model(onnx.load_from_string(files[name]), full_check=True)
        runner = onnxruntime.InferenceSession(files[name], providers=["CPUExecutionProvider"])
        output = runner.run(None, {"x": x.numpy()})[0]
        assert (output.argmax(1) == expected.argmax(1)).mean() >= least
        if name == "model.onnx" and kind != "both":
            assert np.abs(output - expected).max() < 1e-3
        assert len(runner.run(None, {"x": x[:1].numpy()})[0]) == 1


@pytest.mark.parametrize("kind", ASKED)
def test_onnx_holds_the_runs_integers(folders: dict[str, RunFolder], bundles: dict[str, Path], kind: str) -> None:
    source = read(folders[kind])
    graph = onnx.load_from_string(members(bundles[kind])["model.onnx"]).graph
    codes = {array.name: onnx.numpy_helper.to_array(array).astype(np.int32) for array in graph.initializer}
    for name, known in source.integers.items():
        held, expected = codes[f"{name}.weight.codes"], known.codes.numpy()
        scale = np.abs(held).max() // max(1, np.abs(expected).max())  # 8-bit arithmetic fills its width
        assert np.array_equal(np.abs(held), np.abs(expected) * scale)
        assert scale == 1 or kind == "both"
    quantizers = sum(node.op_type == "QuantizeLinear" for node in graph.node)
    attached = activation_quantizers(source.model).values()
    grids = {(known.step(), known.clip.item()) for known in attached}
    assert quantizers == len(grids)  # equal ones on one tensor merge
    assert (quantizers > 0) == (kind == "both")
    assert sum(known.is_unsigned for known in attached) == max(0, len(attached) - 1)  # all but the image
    per_axis = [any(a.name == "axis" for a in node.attribute) for node in graph.node if node.op_type in DEQUANTIZE]
    assert kind != "channels" or (len(per_axis) == 10 and all(per_axis))
    assert (len([node for node in graph.node if node.op_type == "Gather"]) == 10) == (kind == "survivor")
    assert not any(node.metadata_props for node in graph.node)


def test_a_grid_is_found_through_transposition_and_folding_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    codes = generator.integers(-7, 8, (6, 5)).astype(np.int32)
    factors = generator.normal(size=(6, 1)).astype(np.float32)
    factors[2] = 0
    for weight, axis in ((codes * np.float32(0.3), None), (codes * factors, 0), ((codes * factors).T, 1)):
        grid = on_grid(weight.astype(np.float32), OnnxForm(codes))
        assert grid is not None
        assert grid.axis == axis
        scale = grid.scale if axis is None else np.expand_dims(grid.scale, 1 - axis)
        assert np.allclose(grid.codes * scale, weight, atol=1e-6)
        assert (grid.scale > 0).all()
    assert on_grid((codes * np.float32(0.3) + 0.01).astype(np.float32), OnnxForm(codes)) is None
    assert [width_of(levels) for levels in (0, 7, 8, 127, 128, 32767)] == [4, 4, 8, 8, 16, 16]


def test_config_reports_what_was_kept(folders: dict[str, RunFolder], bundles: dict[str, Path]) -> None:
    files = members(bundles["both"])
    about, state = json.loads(files["config.json"]), load(files["model.safetensors"])
    dense = read(folders["both"]).dense.state_dict()
    for name, layer in about["layers"].items():
        weight = state[f"{name}.weight"]
        assert list(weight.shape) == layer["shape"]
        assert list(dense[f"{name}.weight"].shape) == layer["dense_shape"]
        rows = layer["kept"]["rows"]
        assert len(rows if rows is not None else dense[f"{name}.weight"]) == len(weight)
        codes = weight / layer["weight"]["step"]
        assert torch.allclose(codes, codes.round(), atol=1e-3)
        assert codes.abs().max() <= 2 ** (layer["weight"]["bits"] - 1) - 1 + 1e-3
        assert 6 <= layer["activation"]["bits"] <= 8
    removed = sum(len(group["removed"]) for group in about["groups"].values())
    assert removed == sum(json.loads(folders["both"].result_path.read_text())["removed"].values())
    assert cx.Budget.from_dict(json.loads(files["budget.json"])) == folders["both"].budget()


def test_card_reports_classes_bytes_and_times(folders: dict[str, RunFolder], bundles: dict[str, Path]) -> None:
    stored = json.loads(folders["geta"].result_path.read_text())
    card = members(bundles["geta"])["MODEL_CARD.md"].decode()
    shares = [row[i] / sum(row) for i, row in enumerate(stored["confusion"]["final"])]
    assert per_class(stored["confusion"]["final"]) == shares
    for name, share in zip(stored["classes"], shares, strict=True):
        assert any(line.startswith(f"| {name} |") and f"{100 * share:.1f} %" in line for line in card.splitlines())
    assert f"{stored['ledger']['total']:,}" in card
    without_latency = members(bundles["opq"])["MODEL_CARD.md"].decode()
    for variant in ("dense, fp32", "slim, 8-bit arithmetic"):
        assert f"| {variant} |" in card and variant not in without_latency
    assert str(ROOT) not in card
    assert per_class([[0, 0], [1, 3]]) == [None, 0.75]


def test_slow_integers_are_said_plainly() -> None:
    medians = {"dense": 4.0, "floats": 2.0, "whole": 1.0, "eight": 3.0}
    times = {name: {"name": name, "median": median} for name, median in medians.items()}
    fastest, slower = verdicts(times, {"method": "geta"})
    assert [name for name in medians if name in fastest] == ["whole"]
    assert "1.50" in slower


def test_no_file_of_the_bundle_holds_a_pickle_or_a_path(bundles: dict[str, Path], tmp_path: Path) -> None:
    for path in bundles.values():
        for name, data in members(path).items():
            assert b"\x80\x02}" not in data or name == "weights.packed", name
            assert str(ROOT).encode() not in data, name
        check_safe(members(path)["model.pt2"], "model.pt2")

    class Layer(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    torch.export.save(torch.export.export(Layer(), (torch.ones(2),)), tmp_path / "pickled.pt2")
    with pytest.raises(CompressionError, match="holds a pickle"):
        check_safe((tmp_path / "pickled.pt2").read_bytes(), "model.pt2")


def test_a_touched_bundle_is_refused_by_name(bundles: dict[str, Path], tmp_path: Path) -> None:
    files, path = members(bundles["geta"]), tmp_path / "b.zip"
    for name in ("weights.packed", "config.json", "model.pt2", "load.py"):
        write(path, {**files, name: files[name][:-1] + b"~"})
        with pytest.raises(CompressionError, match=rf"{name} was changed .*sha256 [0-9a-f]{{64}}"):
            cx.load(path)
    write(path, {name: data for name, data in files.items() if name != "weights.packed"})
    with pytest.raises(CompressionError, match=r"weights\.packed is missing"):
        cx.load(path)
    write(path, {name: data for name, data in files.items() if name != CHECKSUMS})
    with pytest.raises(CompressionError, match="no bundle"):
        cx.load(path)
    checksums = json.loads(files[CHECKSUMS])
    write(path, {**files, CHECKSUMS: json.dumps({**checksums, "version": 99}).encode()})
    with pytest.raises(CompressionError, match="version 99"):
        cx.load(path)
    for size in (0, 100, bundles["geta"].stat().st_size // 2):
        path.write_bytes(bundles["geta"].read_bytes()[:size])
        with pytest.raises(CompressionError, match="truncated or damaged"):
            cx.load(path)
    with pytest.raises(CompressionError, match="No such file"):
        cx.load(tmp_path / "absent.zip")


def test_what_cannot_be_exported_is_refused_in_one_line(
    folders: dict[str, RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folders["geta"].path.parent
    RunFolder.create(root, {"id": "waiting", "budget": cx.Budget().to_dict(), "created": 0.0})
    out = tmp_path / "b.zip"
    for run, words in (("waiting", "only a run that is done"), ("absent", "no run 'absent'")):
        assert main(["export", run, "--runs", str(root), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert words in error
    assert main(["export", "geta", "--runs", str(root), "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_bundle_that_loads(
    folders: dict[str, RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b.zip"
    options = ["--runs", str(folders["opq"].path.parent), "--out", str(out), "--no-onnx", "--json", "-"]
    assert main(["export", "opq", *options]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bytes"] == out.stat().st_size
    assert answer["files"].keys() == members(out).keys() - {CHECKSUMS}
    assert isinstance(cx.load(out), nn.Module)
    assert [path.name for path in tmp_path.iterdir()] == ["b.zip"]


def test_a_full_disk_leaves_the_old_bundle(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "b.zip"
    write(path, {"a": b"old"})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError):
            write(path, {"a": os.urandom(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["b.zip"]


def test_a_loaded_model_keeps_its_classes_and_can_be_traced(bundles: dict[str, Path]) -> None:
    model = cx.load(bundles["geta"])
    assert type(model).__name__ == "ResNet"
    graph = cx.trace(model, torch.zeros(1, 1, 28, 28))
    assert graph.prunable_units > 0
    assert graph.params < 19_810


def test_a_budget_goes_on_ones_own_model(bundles: dict[str, Path]) -> None:
    from compression import zoo

    pruned = apply(zoo.build("resnet8"), bundles["opq"])
    masks = [quantizer.mask for quantizer in weight_quantizers(pruned).values()]  # type: ignore[attr-defined]
    total = sum(mask.numel() for mask in masks)
    assert sum(int((~mask).sum()) for mask in masks) == round(0.6 * total)
    quantized = cx.apply(zoo.build("resnet8"), bundles["both"], calibration=torch.randn(8, 1, 28, 28))
    assert len(activation_quantizers(quantized)) == len(weight_quantizers(quantized)) == 10
    with pytest.raises(CompressionError, match="calibration"):
        apply(zoo.build("resnet8"), bundles["both"])
    with pytest.raises(CompressionError, match="unknown field"):
        apply(zoo.build("resnet8"), {"sparseness": 1})


def test_an_export_in_a_process_of_its_own_is_reported(folders: dict[str, RunFolder]) -> None:
    folder = folders["opq"]
    assert export_run.status(folder).state == export_run.NONE
    export_run.start(folder)
    export_run.start(folder)  # goes on already: nothing happens
    measured = ended(lambda: export_run.status(folder), export_run.DONE).result
    assert measured["bytes"] == export_run.bundle_path(folder).stat().st_size
    assert isinstance(cx.load(export_run.bundle_path(folder)), nn.Module)
    assert folder.state == "done"
    export_run.bundle_path(folder).unlink()
    assert export_run.status(folder).state == export_run.NONE


def test_an_export_that_fails_or_dies_says_so(folders: dict[str, RunFolder]) -> None:
    root = folders["geta"].path.parent
    budget = cx.Budget().to_dict()
    unfinished = RunFolder.create(root, {"id": "unfinished", "budget": budget, "created": 0.0})
    export_run.start(unfinished)
    assert "only a run that is done" in ended(lambda: export_run.status(unfinished), export_run.FAILED).error
    killed = RunFolder.create(root, {"id": "killed", "budget": budget, "created": 0.0})
    export_run.start(killed, command=[sys.executable, "-c", "import os; os.abort()"])
    assert "ended without a word" in ended(lambda: export_run.status(killed), export_run.FAILED).error


@pytest.mark.parametrize("coding", CODINGS)
def test_load_py_decodes_every_coding(coding: str) -> None:
    decoder = loader()["decode"]
    rng = np.random.default_rng(0)
    created = {
        "fixed": rng.integers(-128, 128, 300),
        "ans": np.clip(np.round(rng.laplace(size=5000) * 3), -50, 50),
        "bitmap": np.where(rng.random(500) < 0.5, 0, rng.integers(-127, 128, 500)),
    }[coding].astype(np.int32)
    stream = encode(created)
    assert stream.coding == coding
    assert np.array_equal(decoder(coding, stream.data, len(created)), created)
