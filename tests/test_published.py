"""Published weights as the start of a run: from caches that the test fills, since nothing can be downloaded here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import compression as cx
from compression import cli, zoo
from compression.budget import Budget
from compression.errors import CompressionError
from compression.runs.preflight import absolute
from compression.zoo import hub_model, weights
from compression.zoo.origin import weighted

SIZE = (3, 32, 32)
TORCHVISION, TIMM = "torchvision:squeezenet1_1", "timm:resnet10t"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of torch.hub and huggingface_hub, and no network."""

    def offline(*args: Any, **options: Any) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return tmp_path


def stored(model: str, path: Path) -> str:
    """Weights of a seed that no other model has, at ``path``; returns the digest of their values."""
    network = zoo.build(model, SIZE, 1000, seed=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path)
    return weights.digest(network)


def test_torchvisions_weights_come_from_its_cache(cache: Path) -> None:
    from torchvision.models import SqueezeNet1_1_Weights as Known

    digest = stored(TORCHVISION, cache / "hub" / "checkpoints" / Known.DEFAULT.url.rpartition("/")[2])
    result = weighted(TORCHVISION, SIZE, 1000, "pretrained", ("cifar10",))
    assert result is not None
    assert (result.digest, result.name) == (digest, f"torchvision {Known.DEFAULT}")
    assert not result.model.training


Hub = Callable[[str], Path]


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty cache of the Hub: repository → the folder of its files, laid out as huggingface_hub does."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="install requirements-hub.txt")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(cache / "hub"))  # of the process of a run
    hub_model.hub_spec.cache_clear()

    def place(repository: str) -> Path:
        folder = cache / "hub" / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("a" * 40)
        files = folder / "snapshots" / ("a" * 40)
        files.mkdir(parents=True)
        return files

    return place


def test_timms_weights_come_from_the_cache_of_the_hub(hub: Hub) -> None:
    timm = pytest.importorskip("timm", reason="install requirements-extra.txt")
    repository = timm.get_pretrained_cfg("resnet10t").hf_hub_id
    digest = stored(TIMM, hub(repository) / "model.safetensors")
    result = weighted(TIMM, SIZE, 1000, "pretrained", ())
    assert result is not None
    assert (result.digest, result.name) == (digest, f"hub:{repository}")


CLASSIFIER = "hf:somebody/tiny-vit"
PICTURES = {"image_mean": [0.25], "image_std": [0.5], "do_resize": True, "size": {"height": 28, "width": 28}}


def classifier(folder: Path) -> nn.Module:
    """A small vision transformer with the files that transformers writes; returns it."""
    transformers = pytest.importorskip("transformers", reason="install requirements-extra.txt")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.ViTConfig(**sizes, image_size=28, patch_size=7, num_channels=1, num_labels=10)
    torch.manual_seed(3)
    network: nn.Module = transformers.ViTForImageClassification(config).eval()
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PICTURES))
    return network


def test_a_classifier_of_the_hub_is_what_transformers_makes_of_it(hub: Hub) -> None:
    network = classifier(hub("somebody/tiny-vit"))
    known = zoo.spec(CLASSIFIER)
    assert (known.input, known.classes, known.preprocess) == ((1, 28, 28), 10, {"mean": [0.25], "std": [0.5]})
    result = weighted(CLASSIFIER, known.input, known.classes, "pretrained", ())
    assert result is not None
    assert (result.name, result.digest) == ("hub:somebody/tiny-vit", weights.digest(network))
    inputs = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(result.model(inputs), network(inputs).logits)
    assert zoo.build(CLASSIFIER, (3, 14, 14), 4)(torch.rand(2, 3, 14, 14)).shape == (2, 4)


def test_a_run_starts_from_it_and_leaves_a_bundle(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classifier(hub("somebody/tiny-vit"))
    runs, bundle = tmp_path / "runs", tmp_path / "bundle.zip"
    words = [
        "run",
        "--model",
        CLASSIFIER,
        "--data",
        "mnist5k",
        "--weights",
        "pretrained",
        "--method",
        "ptq",
        "--bits",
        "8",
    ]
    answer = tmp_path / "answer.json"
    assert cli.main([*words, "--runs", str(runs), "--json", str(answer)]) == 0, capsys.readouterr().err
    result = json.loads(answer.read_text())
    assert (result["weights"], result["preprocess"]) == ("hub:somebody/tiny-vit", {"mean": [0.25], "std": [0.5]})
    assert cli.main(["export", result["run"], "--runs", str(runs), "--out", str(bundle), "--no-onnx"]) == 0
    assert cx.load(bundle)(torch.rand(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    ("changed", "line"),
    [({"model_type": "nonsense"}, "nonsense"), ({"model_type": "bert"}, "no image classifier"),
     ({"model_type": 3}, "model_type"), ({"image_size": [-1]}, "image_size"), ({"hidden_size": "wide"}, "tiny-vit")],
)  # fmt: skip
def test_a_configuration_of_something_else_is_one_line(hub: Hub, changed: dict[str, Any], line: str) -> None:
    folder = hub("somebody/tiny-vit")
    classifier(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changed}))
    with pytest.raises(CompressionError, match=line):
        zoo.build(CLASSIFIER)


def test_weights_of_another_network_are_refused(hub: Hub) -> None:
    folder = hub("somebody/tiny-vit")
    network = classifier(folder)
    state = network.state_dict()
    save_file({name: value for name, value in state.items() if "classifier" not in name}, folder / "model.safetensors")
    with pytest.raises(CompressionError, match=r"another network.*classifier"):
        weighted(CLASSIFIER, (1, 28, 28), 10, "pretrained", ())


@pytest.mark.parametrize("name", ["hf:somebody/else", "hf:../../etc", "hf:a/b/c", "hf:/etc/passwd"])
def test_a_repository_that_is_not_there_is_one_line_and_no_path(hub: Hub, name: str) -> None:
    with pytest.raises(CompressionError, match=r"cache|repository"):
        zoo.spec(name)


@pytest.mark.parametrize("model", ["resnet8", "hf:bert", "minilm"])
def test_other_models_have_none(model: str) -> None:
    with pytest.raises(CompressionError, match="torchvision"):
        weighted(model, SIZE, 10, "pretrained", ())


def test_without_cache_and_network_one_line_says_where_they_belong(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--weights", "pretrained", "--input", "3x32x32", "--classes", "1000"]
    assert cli.main(["graph", TORCHVISION, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(cache) in line and "https://" in line and "no network" in line


def test_weights_of_other_classes_or_pickles_are_refused(cache: Path) -> None:
    from torchvision.models import SqueezeNet1_1_Weights as Known

    path = cache / "hub" / "checkpoints" / Known.DEFAULT.url.rpartition("/")[2]
    stored(TORCHVISION, path)
    with pytest.raises(CompressionError, match="shape"):
        weighted(TORCHVISION, SIZE, 10, "pretrained", ())
    torch.save({"code": print}, path)
    with pytest.raises(CompressionError, match="plain weights"):
        weighted(TORCHVISION, SIZE, 1000, "pretrained", ())


def test_the_word_is_no_path() -> None:
    assert absolute(Budget(weights="pretrained")).weights == "pretrained"
    assert absolute(Budget(weights="./pretrained")).weights == str(Path("pretrained").resolve())


def test_a_budget_file_may_name_them(tmp_path: Path) -> None:
    from compression.cli.budget import budget

    path = tmp_path / "budget.json"
    path.write_text(json.dumps(Budget(model=TORCHVISION, weights="pretrained").to_dict()))
    assert budget({"config": str(path)}).weights == "pretrained"
