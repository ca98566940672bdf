"""A bundle of a network in somebody's own file: no folder of its maker leaves with it, and its code must be passed."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load as read_tensors
from streamlit.testing.v1 import AppTest
from torch import nn

import compression as cx
from app import nav
from compression import owncode, runs, zoo
from compression.cli import main
from compression.errors import CompressionError
from compression.export import export
from compression.runs import names
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.preflight import check
from compression.zoo import weights as weight_files

MARKER = "q7secretplace"
NET = '''
import torch
from torch import nn


class Net(nn.Module):
    """With sizes in forward, so that the cut network is a graph of operations."""

    def __init__(self, classes):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 4, 4), nn.BatchNorm2d(8)
        self.mix = nn.Conv2d(8, 8, 3, padding=1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        x = torch.relu(self.mix(torch.relu(self.norm(self.stem(x)))))
        x = x.flatten(2).transpose(1, 2)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def make(input=(1, 28, 28), classes=3):
    return Net(classes), tuple(input)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a telling name with the network's file, images and weights."""
    folder = tmp_path_factory.mktemp("maker") / MARKER
    folder.mkdir()
    (folder / "net.py").write_text(NET)
    for index in range(48):
        (folder / "shapes" / str(index % 3)).mkdir(parents=True, exist_ok=True)
        image = Image.new("L", (28, 28), 60 + index)
        image.paste(200, (index % 3 * 9, 4, index % 3 * 9 + 8, 24))
        image.save(folder / "shapes" / str(index % 3) / f"{index}.png")
    weight_files.save(zoo.build(f"{folder / 'net.py'}:make", seed=1), folder / "start.safetensors", {})
    return folder


@pytest.fixture(scope="module")
def bundle(place: Path) -> Path:
    """The bundle of a run of it, with ONNX."""
    budget = cx.Budget(
        model=f"{place / 'net.py'}:make", weights=str(place / "start.safetensors"), data=str(place / "shapes"),
        input=(1, 28, 28), classes=3, epochs=5, batch_size=4, sparsity=0.4, activation_bits=(6, 8), precision="fp32",
    )  # fmt: skip
    folder = RunFolder.create(place / "runs", {"id": "mine", "budget": budget.to_dict(), "created": 0.0})
    assert carry_out(folder, execute) == "done", folder.log_path.read_text()
    return export(folder, place / "mine.zip", latency=False).path


def contents(data: bytes, name: str = "") -> Iterator[tuple[str, bytes]]:
    """Every file of an archive and of the archives in it, and their names."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            inner = archive.read(info)
            yield f"{name}/{info.filename}", inner + info.extra + info.comment + info.filename.encode()
            if inner[:2] == b"PK":
                yield from contents(inner, f"{name}/{info.filename}")


def member(bundle: Path, name: str) -> bytes:
    with zipfile.ZipFile(bundle) as archive:
        return archive.read(name)


def test_no_folder_of_the_maker_is_in_any_byte_of_it(bundle: Path, place: Path) -> None:
    files = dict(contents(bundle.read_bytes()))
    assert any(name.endswith("/models/model.json") for name in files)
    assert any(name.endswith("model.int8.onnx") for name in files)
    for name, data in files.items():
        for secret in (MARKER, str(place.parent), str(Path(cx.__file__).parents[1]), sys.prefix):
            assert secret.encode() not in data, name
            assert secret.encode("utf-16-le") not in data, name
    assert MARKER.encode() not in (place / "runs" / "mine" / "bundle" / "model.safetensors").read_bytes()
    budget = json.loads(files["/budget.json"].partition(b"\n}\n")[0] + b"}")
    assert (budget["model"], budget["weights"], budget["data"]) == ("net.py:make", "start.safetensors", "shapes")


def answers(model: nn.Module, bundle: Path) -> tuple[torch.Tensor, torch.Tensor]:
    stored = read_tensors(member(bundle, "example.safetensors"))
    with torch.no_grad():
        return model(stored["input"]), stored["output"]


def test_its_code_is_passed_as_a_function_or_as_the_dense_network(bundle: Path, place: Path) -> None:
    with pytest.raises(CompressionError, match=r"net\.py:make.*trust=True"):
        cx.load(bundle)
    make = owncode.function(f"{place / 'net.py'}:make")
    dense = make(classes=3)[0].train()
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    for model in (cx.load(bundle, make), cx.load(bundle, model=dense), cx.load(bundle, trust=True)):
        torch.testing.assert_close(*answers(model, bundle), atol=1e-5, rtol=0)
    assert dense.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())
    slim = cx.load(bundle, make)
    assert sum(tensor.numel() for tensor in slim.state_dict().values()) < sum(map(torch.numel, before.values()))


def test_code_of_another_network_is_refused(bundle: Path, place: Path) -> None:
    make = owncode.function(f"{place / 'net.py'}:make")

    class Fewer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 8, 4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.stem(x).mean((2, 3))

    class Raises(nn.Module):
        def __init__(self) -> None:
            raise OSError("no")

    for wrong in (
        Fewer,
        Fewer(),
        lambda: "no network",
        Raises,
        lambda classes: make(classes=classes + 1),
        nn.LazyLinear(3),
    ):
        with pytest.raises(CompressionError) as refused:
            cx.load(bundle, model=wrong)
        assert "\n" not in str(refused.value)


def started(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, *models: str, root: Path | None = None
) -> AppTest:
    """The Budget page of an app started with these models, after the file was dropped on it."""
    words = ["app/main.py", "--runs", str(tmp_path / "runs")]
    words += [word for model in models for word in ("--model", model)]
    monkeypatch.setattr(sys, "argv", words + (["--data-root", str(root)] if root else []))
    app = AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=120)
    app.switch_page("../pages/budget.py")
    app.query_params["part"] = "Save and load"
    app.run()
    app.file_uploader(key="upload").set_value(("budget.json", content, "application/json")).run()
    assert not app.exception
    return app


def test_its_budget_goes_back_to_an_app_that_was_started_with_the_code(
    bundle: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = member(bundle, "budget.json")
    other = tmp_path / "elsewhere" / "net.py"
    other.parent.mkdir()
    other.write_text(NET)
    (other.parent / "shapes").symlink_to(place / "shapes")
    app = started(place, tmp_path, monkeypatch, content, f"{other}:make", root=other.parent)
    assert app.query_params["model"] == f"{other}:make"
    assert app.query_params["data"] == str(other.parent / "shapes")
    assert app.session_state["draft"].asks["sparsity"] == 0.4
    app = started(place, tmp_path, monkeypatch, content)
    (line,) = [str(element.value) for element in app.error]
    assert "net.py:make" in line
    assert "--model path/to/net.py:make" in line


def test_its_budget_is_carried_out_where_the_command_line_names_the_code(
    bundle: Path, place: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "budget.json").write_bytes(member(bundle, "budget.json"))
    (tmp_path / "net.py").write_text("raise SystemExit('it ran')")
    monkeypatch.chdir(tmp_path)
    line = ["run", "--config", "budget.json", "--runs", "runs"]
    named = ["--model", f"{place / 'net.py'}:make", "--weights", str(place / "start.safetensors")]
    for options, words in (
        ([], "--model path/to/net.py:make"),
        (named[:2], "--weights FILE"),
        (named, "--data NAME or FOLDER"),
    ):
        assert main([*line, *options]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert words in error
    started: list[cx.Budget] = []
    monkeypatch.setattr(runs, "start", lambda budget, *root, **more: started.append(budget) or "run")
    monkeypatch.setattr(RunFolder, "open", lambda root, run: SimpleNamespace(state="queued"))
    assert main([*line, *named, "--data", str(place / "shapes"), "--detach"]) == 0
    requested = RunFolder(place / "runs" / "mine").budget()
    assert started == [requested]
    check(requested)


@pytest.mark.parametrize(
    ("given", "shared"),
    [
        ("/home/x/net.py:make", "net.py:make"),
        ("C:\\Users\\x\\net.py:make", "net.py:make"),
        ("nets/net.py:make", "net.py:make"),
        ("~/net.py:make", "net.py:make"),
        ("torchvision:resnet18", "torchvision:resnet18"),
        ("resnet20", "resnet20"),
    ],
)
def test_models_are_shared_by_name(given: str, shared: str) -> None:
    assert names.model_name(given) == shared


def test_data_and_weights_are_shared_by_name(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    budget = cx.Budget(weights=str(tmp_path / "w.safetensors"), data=f"{tmp_path}/digits/")
    assert names.shared(budget).weights == "w.safetensors"
    assert names.shared(budget).data == "digits"
    assert names.data_name("cifar10") == "cifar10"
    assert names.data_name(str(tmp_path / "cifar10")) == "./cifar10"  # a folder is no data set of the same name
    assert names.matching("net.py:f", ["/a/net.py:f", "/b/other.py:f"]) == "/a/net.py:f"
    assert names.matching("net.py:f", ["/a/net.py:f", "/b/net.py:f"]) == "net.py:f"
    assert names.matching("/home/x/net.py:f", ["/a/net.py:f"]) == "/a/net.py:f"
    assert names.matching("./cifar10", ["/d/cifar10"]) == "/d/cifar10"
