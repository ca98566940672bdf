"""Published weights as the start of a run: from caches that the test fills, since nothing can be downloaded here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from compression import cli, zoo
from compression.budget import Budget
from compression.errors import CompressionError
from compression.runs.preflight import absolute
from compression.zoo import weights
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


def test_timms_weights_come_from_the_cache_of_the_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm", reason="install requirements-extra.txt")
    constants = pytest.importorskip("huggingface_hub.constants", reason="install requirements-hub.txt")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    repository = timm.get_pretrained_cfg("resnet10t").hf_hub_id
    place = cache / "hub" / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("a" * 40)
    digest = stored(TIMM, place / "snapshots" / ("a" * 40) / "model.safetensors")
    result = weighted(TIMM, SIZE, 1000, "pretrained", ())
    assert result is not None
    assert (result.digest, result.name) == (digest, f"hub:{repository}")


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
