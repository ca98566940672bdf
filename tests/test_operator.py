"""What the operator named when starting the app, and what was not named: code and images of one's own on the pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from opened import Open, errors, page_text
from PIL import Image
from written import finished

from app.model import catalog
from app.runs import permissions, runlog
from compression.budget import Budget
from compression.cli import main
from compression.errors import CompressionError
from compression.runs.folder import RunFolder

CODE = (
    "from torch import nn\n"
    "def net(classes=2, input=(3, 12, 12)):\n"
    "    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)\n"
    "    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, classes)), (3, 12, 12)\n"
)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder of pictures in two classes: dark cats, bright dogs."""
    root = tmp_path / "data" / "pets"
    for name, first in (("cat", 10), ("dog", 200)):
        (root / name).mkdir(parents=True)
        for i in range(30):
            Image.new("RGB", (12, 12), (first + i, first, first)).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(CODE)
    return f"{tmp_path / 'mine.py'}:net"


def test_own_code_and_images_are_trained_measured_and_compressed_once_they_are_named(
    open_page: Open, tmp_path: Path, pets: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSION_MODELS", str(tmp_path / "models"))
    trained = ["train", "--model", model, "--data", str(pets), "--classes", "2", "--epochs", "15", "--seed", "0"]
    assert main([*trained, "--lr", "0.02"]) == 0
    named = ("--model", model, "--data-root", str(pets.parent))
    app = open_page("model", *named, model=model, data=str(pets))
    assert errors(app) == []
    assert "Test accuracy" in [metric.label for metric in app.metric]
    app.session_state["examples_fold"] = True
    app.run()
    drawn = [image.caption for element in app.get("image") for image in element.proto.imgs]
    assert len(drawn) == 12
    assert set(drawn) <= {"cat", "dog"}
    budget = open_page("budget", *named, model=model, data=str(pets))
    assert errors(budget) == []
    assert not budget.button(key="start").disabled
    for name in ("model", "budget", "groups"):
        (error,) = errors(open_page(name, model=model, data=str(pets)))
        assert "not offered here" in error
    (error,) = errors(open_page("model", *named[:2], model=model, data=str(pets)))
    assert "not offered here" in error


@pytest.mark.parametrize("field", ["model", "data", "task"])
def test_what_nobody_named_is_neither_run_nor_shown(
    open_page: Open, tmp_path: Path, pets: Path, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap, mark = tmp_path / "own.py", tmp_path / "ran"
    trap.write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\ndef make(): ...\n")
    named = {"model": f"{trap}:make", "data": str(pets), "task": f"{trap}:make"}[field]
    budget = Budget().replace(**{"model" if field == "model" else "data": named})
    run = finished(tmp_path / "runs", budget=budget)
    way = {
        "model": "model of this run is code",
        "data": "a folder that was not named",
        "task": "task of this run is code",
    }[field]
    app = open_page("explain", run=run)
    assert field == "task" or way in errors(app)[0], "maps are for images alone"
    assert not app.get("plotly_chart")
    app = open_page("export", run=run)
    app.button(key="make").click().run()
    assert way in errors(app)[0]
    folder = RunFolder.open(tmp_path / "runs", run)
    assert not [path for path in folder.path.iterdir() if "export" in path.name]
    with pytest.raises(CompressionError, match=way):
        runlog.resume(run)
    for name in ("runs", "compare"):
        assert errors(open_page(name, run=run)) == [], "what came of it may be looked at"
    assert not mark.exists()
    monkeypatch.setattr("sys.argv", ["app/main.py", "--runs", str(tmp_path / "runs"), "--data-root", str(pets.parent)])
    if field == "data":
        permissions.check(budget)


def test_a_network_that_comes_with_its_weights_is_measured_and_compressed_without_training(
    open_page: Open, tmp_path: Path, pets: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import save_file

    from compression.zoo import build, weights

    monkeypatch.setenv("COMPRESSION_MODELS", str(tmp_path / "models"))
    file = tmp_path / "w.safetensors"
    trained = build(model, classes=2)
    with torch.no_grad():
        trained[6].bias[:] = torch.tensor([9.0, -9.0])  # type: ignore[index]
    save_file(trained.state_dict(), file)
    loading = "def own():\n    from safetensors.torch import load_file\n    found, size = net()\n"
    loading += f"    found.load_state_dict(load_file({str(file)!r}))\n"
    loading += "    return found, size, {'mean': 0.5, 'std': 0.25}\n"
    Path(model.rpartition(":")[0]).write_text(CODE + loading)
    named = model.rpartition(":")[0] + ":own"
    given = ("--model", named, "--data-root", str(pets.parent))
    app = open_page("model", *given, model=named, data=str(pets))
    assert errors(app) == []
    assert {metric.label: metric.value for metric in app.metric}["Test accuracy"] == "50.0 %", "always a cat"
    copies = list((tmp_path / "runs" / "uploads").glob("returned-*.safetensors"))
    assert [weights.read_provenance(copy)["origin"].split()[-1] for copy in copies] == ["own"]
    origin = catalog.origin(catalog.subject(named, str(pets)), *copies)
    assert "own()" in origin
    assert f" {origin}." in page_text(app)
    budget = open_page("budget", *given, model=named, data=str(pets), method="Round to nearest")
    assert errors(budget) == []
    assert f" {origin}." in page_text(budget)
    assert not budget.button(key="start").disabled
