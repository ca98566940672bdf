"""Models on the pages that are not of the zoo: other packages', the operator's own; choices that cannot be opened."""

from __future__ import annotations

from pathlib import Path

import pytest
from opened import Open, errors, links, page_text

from app import names, options, words
from app.model import catalog, opening
from compression.cli import main
from compression.errors import CompressionError

CODE = (
    "from torch import nn\n"
    "def net(classes=10):\n"
    "    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)\n"
    "    return nn.Sequential(*layers), (1, 28, 28)\n"
)


def own(folder: Path, name: str = "mine.py") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(CODE)
    return folder / name


@pytest.mark.parametrize("name", ["model", "groups", "budget"])
def test_data_that_do_not_fit_are_one_line_without_options_and_two_ways_out(open_page: Open, name: str) -> None:
    query = {"model": "torchvision:resnet18", "data": "mnist5k"}
    app = open_page(name, **query)
    assert errors(app) == ["torchvision:resnet18 takes RGB images (3 channels), not 1."]
    app.button(key="open torchvision:resnet18 none").click().run()
    assert errors(app) == []
    assert app.query_params["data"] in ("none", ["none"])
    assert [metric.value for metric in app.metric] or [text for text in app.markdown if "can shrink" in text.value]
    other = open_page(name, **query)
    other.button(key="open resnet8 mnist5k").click().run()
    assert errors(other) == []


def test_only_what_opens_is_offered_as_a_way_out(open_page: Open) -> None:
    app = open_page("groups", model="nosuch")
    assert [button.label for button in app.button] == [f"Open {names.subject('resnet8', 'mnist5k')}"]
    pairs = list(opening.ways_out("vit_tiny", "sst2"))
    assert pairs == [("vit_tiny", "cifar10"), ("vit_tiny", "none"), ("resnet8", "mnist5k")]
    assert list(opening.ways_out("hf:gpt2", "mnist5k")) == [("hf:gpt2", "none"), ("resnet8", "mnist5k")]


def test_a_model_of_a_package_that_is_here_is_listed_and_opened(open_page: Open) -> None:
    timm = pytest.importorskip("timm")
    app = open_page("model", model="timm:resnet18", data="mnist5k")
    listed = app.selectbox(key="pick_model").options
    assert [name for name in listed if name.startswith("timm: ")] == [f"timm: {name}" for name in timm.list_models()]
    assert errors(app) == []
    model = timm.create_model("resnet18", num_classes=10, in_chans=1)
    graph = catalog.traced(catalog.subject("timm:resnet18", "mnist5k")).graph
    assert graph.params == sum(parameter.numel() for parameter in model.parameters())


def test_a_transformer_says_what_it_takes(open_page: Open) -> None:
    pytest.importorskip("transformers")
    app = open_page("model", model="hf:bert", data="none")
    assert errors(app) == []
    assert names.model_label("hf:bert") in app.selectbox(key="pick_model").options
    assert "MACs per sentence" in [metric.label for metric in app.metric]
    text = open_page("model", model="hf:bert", data="mnist5k")
    assert len(errors(text)) == 1
    assert "hf:bert none" in " ".join(str(button.key) for button in text.button)


@pytest.mark.parametrize("name", ["timm:../net", "timm:local-dir:/etc", "hf:a/b", "torchvision:a\\b"])
def test_no_name_of_a_package_is_a_path(name: str) -> None:
    with pytest.raises(CompressionError, match="not offered here"):
        catalog.allow(name, "none")


@pytest.mark.parametrize("name", ["timm:hf-hub:resnet18", "timm:nosuch", "hf:nosuch", "torchvision:nosuch"])
def test_names_that_no_package_knows_are_refused(name: str) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("transformers")
    with pytest.raises(CompressionError, match=r"has no (model|classifier)|unknown model"):
        catalog.subject(name, "none")


def test_an_own_model_has_its_short_name_everywhere_and_its_path_in_a_tooltip(open_page: Open, tmp_path: Path) -> None:
    file = own(tmp_path / "code")
    model = f"{file}:net"
    for name in ("model", "groups", "budget"):
        app = open_page(name, "--model", model, model=model)
        assert errors(app) == []
        assert str(file) not in page_text(app) + " ".join(links(app))
        assert model in " ".join(e.proto.help for e in (*app.get("page_link"), *app.selectbox) if e.proto.help)
    assert names.describe({"model": model, "data": "mnist5k"}).partition(" on ")[0] == "mine.py: net"


def test_a_relative_path_is_the_same_model_as_the_one_its_runs_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = own(tmp_path / "code")
    monkeypatch.chdir(tmp_path)
    assert options.read(["app/main.py", "--model", "code/../code/mine.py:net"]).models == (f"{file}:net",)


def test_two_own_models_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [own(tmp_path / part) for part in "ab"]
    given = [word for file in files for word in ("--model", f"{file}:net")]
    monkeypatch.setattr("sys.argv", ["app/main.py", *given])
    assert list(catalog.model_labels().values())[:2] == [f"mine.py: net ({tmp_path / part})" for part in "ab"]


def test_weights_that_learned_nothing_are_warned_of(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMPRESSION_MODELS", str(tmp_path / "models"))
    given = ["train", "--model", "resnet8", "--data", "mnist5k", "--seed", "0", "--epochs"]
    assert main([*given, "0.02", "--lr", "1e-9"]) == 0
    assert "warning: this model is no better than an answer" in capsys.readouterr().err
    for name in ("model", "budget"):
        assert [element.value for element in open_page(name).warning] == [words.CHANCE]
    assert main([*given, "1"]) == 0
    assert "no better" not in capsys.readouterr().err
    for name in ("model", "budget"):
        assert not open_page(name).warning
