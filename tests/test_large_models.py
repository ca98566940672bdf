"""Large architectures on the pages: their graphs need no weights, and their weights are not made."""

from __future__ import annotations

from threading import Thread

import pytest
import torch
from opened import Open, errors
from torch import nn
from torchvision import models

from app import live
from app.model import catalog, tracing
from compression import zoo
from compression.errors import CompressionError
from compression.graph import trace
from compression.zoo.empty import empty_parameters


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "vit_b_16", "googlenet", "regnet_y_400mf"])
def test_the_graph_of_an_empty_model_is_that_of_the_whole_one(name: str) -> None:
    name = f"torchvision:{name}"
    empty = zoo.build(name, empty=True)
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    assert trace(empty, zoo.example(name)).to_dict() == trace(zoo.build(name), zoo.example(name)).to_dict()
    assert torch.get_default_device().type == "cpu"


FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5",
    "mobilenet_v2", "regnet_x_400mf", "regnet_y_128gf", "resnext101_64x4d", "shufflenet_v2_x0_5", "squeezenet1_0",
    "swin_t", "swin_v2_t", "vgg11_bn", "vit_l_16", "wide_resnet101_2",
)  # fmt: skip
SIDES_32 = {"alexnet", "inception_v3", "maxvit_t", "vit_h_14"}  # which are not for images of 32 x 32


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_the_parameters_that_torchvision_says(name: str) -> None:
    published = models.get_model_weights(name).DEFAULT.meta["num_params"]
    extra = {"googlenet": 6_379_984, "inception_v3": 0}.get(name, 0)  # two further heads that its weights leave out
    before = torch.random.get_rng_state()
    empty = zoo.build(f"torchvision:{name}", empty=True)
    assert sum(parameter.numel() for parameter in empty.parameters()) == published + extra
    assert all(parameter.is_meta and parameter.requires_grad for parameter in empty.parameters())
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", ["regnet_y_400mf", "regnet_x_32gf", "vit_h_14", "alexnet", "maxvit_t", "vit_b_32"])
def test_images_of_another_size_are_opened_or_refused_in_one_line(name: str) -> None:
    subject = catalog.subject(f"torchvision:{name}", "cifar10")
    if name not in SIDES_32:
        assert tracing.graph(subject).input == (3, 32, 32)
        return
    with pytest.raises(CompressionError, match="32") as refused:
        tracing.graph(subject)
    assert "\n" not in str(refused.value)


def test_only_this_thread_makes_empty_models_and_shared_parameters_stay_one() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weight = nn.Parameter(torch.arange(3.0), requires_grad=False)
            self.width = int(weight.sum())
            self.one, self.two = weight, weight

    layers: list[nn.Module] = []
    with empty_parameters():
        shared = Shared()
        other = Thread(target=lambda: layers.append(nn.Linear(2, 2)))
        other.start()
        other.join()
    assert shared.width == 3
    assert shared.one is shared.two
    assert shared.one.is_meta
    assert not shared.one.requires_grad
    assert not layers[0].weight.is_meta
    assert not nn.Linear(2, 2).weight.is_meta


def test_a_large_model_shows_its_groups_and_no_page_makes_its_weights(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: list[bool] = []
    build = zoo.build

    def watched(name: str, *rest: object, empty: bool = False, **more: object) -> torch.nn.Module:
        flags.append(empty)
        return build(name, *rest, empty=empty, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(zoo, "build", watched)
    monkeypatch.setattr(live.memory(), "limit", 10_000_000)
    catalog.traced.clear()
    query = {"model": "torchvision:resnet18", "data": "none"}
    for name in ("groups", "model", "budget"):
        app = open_page(name, **query)
        assert errors(app) == []
    app = open_page("groups", **query)
    app.selectbox(key="quantizers").set_value("own").run()
    (error,) = errors(app)
    assert "too large to answer live; measured in a job" in error
    (error,) = errors(open_page("budget", method="OPQ", **query))
    assert "too large to answer live; measured in a job" in error
    assert flags
    assert all(flags)
