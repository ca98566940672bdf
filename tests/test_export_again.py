"""What a bundle brings back: its budget on the Budget page and in one's own loop, and what it needs of the run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

import compression as cx
from app import nav
from app.runs import bundles
from compression import methods, zoo
from compression.cli import main
from compression.export import export
from compression.methods.geta import QASSO
from compression.quant import weight_quantizers
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.zoo import weights as weight_files

ASKED = {
    "method": "geta",
    "sparsity": 0.35,
    "weight_bits": [5, 7],
    "layers": {"conv1": {"weight_bits": [6, 7]}},
    "options": {"distill": 0.5},
    "lr": 0.02,
    "seed": 3,
    "epochs": 0.3,
    "precision": "fp32",
}


def finished(root: Path, **more: object) -> RunFolder:
    budget = {**cx.Budget().to_dict(), **ASKED, **more}
    folder = RunFolder.create(root, {"id": "run", "budget": budget, "created": 0.0})
    assert carry_out(folder, execute) == "done", folder.log_path.read_text()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run from weights of one's own."""
    root = tmp_path_factory.mktemp("runs")
    own = root / "own.safetensors"
    weight_files.save(zoo.build("resnet8", seed=5), own, {})
    return finished(root, weights=str(own))


@pytest.fixture(scope="module")
def bundle(folder: RunFolder) -> Path:
    """Its bundle."""
    return export(folder, folder.path.parent / "bundle.zip", onnx=False).path


def member(bundle: Path, name: str) -> bytes:
    with zipfile.ZipFile(bundle) as archive:
        return archive.read(name)


@pytest.mark.parametrize("name", ["budget.json", "config.json"])
def test_a_file_out_of_the_bundle_is_dropped_on_the_budget_page(
    folder: RunFolder, bundle: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["app/main.py", "--runs", str(tmp_path / "runs")])
    app = AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=120)
    app.switch_page("../pages/budget.py")
    app.query_params["part"] = "Save and load"
    app.run()
    content = member(bundle, name)
    assert len(content) < 5_000_000
    app.file_uploader(key="upload").set_value((name, content, "application/json")).run()
    assert not app.exception
    assert [str(element.value) for element in app.error] == []
    assert any("own.safetensors" in str(element.value) for element in app.info)
    stored, draft = folder.budget(), app.session_state["draft"]
    fields = ("method", "asks", "layers", "options", "seed", "epochs", "lr", "precision")
    assert [getattr(draft, field) for field in fields] == [getattr(stored, field) for field in fields]
    assert (draft.asks["sparsity"], draft.seed, draft.epochs, draft.lr) == (0.35, 3, 0.3, 0.02)
    assert not app.button(key="start").disabled


def test_the_bundle_budget_goes_into_a_loop_of_ones_own(folder: RunFolder, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(member(bundle, "config.json"))
    config = json.loads(member(bundle, "config.json"))
    requested = folder.budget().replace(weights="own.safetensors")
    assert cx.Budget.load(tmp_path / "config.json") == cx.Budget.from_dict(config) == requested
    for given in (bundle, tmp_path / "config.json", config):
        model = cx.apply(zoo.build("resnet8"), given)
        assert len(weight_quantizers(model)) == 10
    graph = cx.trace(zoo.build("resnet8"), torch.zeros(1, 1, 28, 28))
    values = methods.get("geta").values(requested)
    optimizer = QASSO(model, graph, sparsity=values["sparsity"], bits=values["weight_bits"], total_steps=60, lr=0.01)
    x, y = torch.randn(4, 1, 28, 28), torch.arange(4)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    small, cut = cx.slim_report(model, graph)
    assert sum(cut.removed.values()) == int(values["sparsity"] * graph.prunable_units)
    assert sum(p.numel() for p in small.parameters()) < 19_810


def test_the_snippet_of_the_page_runs_in_a_folder_of_its_own(bundle: Path, tmp_path: Path) -> None:
    shutil.copy(bundle, tmp_path / "mine.zip")
    code = bundles.code("mine.zip", cx.Budget.from_dict(json.loads(member(bundle, "budget.json"))))
    (tmp_path / "snippet.py").write_text(code + "print(type(model).__name__, type(dense).__name__)\n")
    process = subprocess.run(
        [sys.executable, "snippet.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(nav.ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (process.returncode, process.stdout) == (0, "ResNet ResNet\n"), process.stderr


def test_an_export_needs_the_data_but_not_the_dense_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, data, out = tmp_path / "own.safetensors", tmp_path / "digits", tmp_path / "b.zip"
    weight_files.save(zoo.build("resnet8", classes=2), own, {})
    for index in range(24):
        place = data / str(index % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), index * 10).save(place / f"{index}.png")
    run = finished(
        tmp_path / "runs", weights=str(own), data=str(data), input=[1, 28, 28], classes=2, batch_size=2, epochs=8
    )
    own.unlink()
    line = ["export", "run", "--runs", str(tmp_path / "runs"), "--out", str(out)]
    assert main([*line, "--no-onnx"]) == 0
    assert isinstance(cx.load(out), torch.nn.Module)
    capsys.readouterr()
    out.unlink()
    shutil.rmtree(data)
    # in a process of its own, which has not read the folder before
    process = subprocess.run([sys.executable, "-m", "compression", *line], cwd=nav.ROOT, capture_output=True, text=True)
    assert process.returncode == 2
    assert len(process.stderr.splitlines()) == 1
    assert "the data of run run are not there" in process.stderr
    assert str(run.bundle) in process.stderr
    assert not out.exists()
    assert {"weights.packed", "model.safetensors"} <= {path.name for path in run.bundle.iterdir()}


@pytest.mark.parametrize(
    "budget",
    [
        cx.Budget(input=(1, 28, 28), classes=10, activation_bits=(8, 8)),
        cx.Budget(method="opq"),
        cx.Budget(method="ptq"),
    ],
)
def test_the_second_part_of_the_snippet_is_there_where_it_runs(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: cx.Budget
) -> None:
    """A name with a quote, and a bundle whose budget is of this method."""
    name = "it's mine.zip"
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(name, "w") as new:
        for each in old.namelist():
            new.writestr(each, old.read(each))
    read = {"budget.json": text(budget)}
    monkeypatch.setattr(sys.modules["compression.export.apply"], "read_files", lambda path, names: read)
    code = bundles.code(name, budget)
    space: dict[str, Any] = {}
    exec(compile(code, "snippet", "exec"), space)
    assert isinstance(space["model"], torch.nn.Module)
    assert ("dense" in space) == (budget.method != "ptq")
    assert ("# python -m compression run --method ptq" in code) == (budget.method == "ptq")
    if "dense" in space:
        assert len(weight_quantizers(space["dense"])) == 10
    else:
        spaced = budget.replace(data="my digits")
        with pytest.raises(cx.CompressionError, match=r"runs as a whole only.*--data 'my digits'"):
            cx.apply(zoo.build("resnet8"), spaced)


def text(budget: cx.Budget) -> bytes:
    return json.dumps(budget.to_dict()).encode()
