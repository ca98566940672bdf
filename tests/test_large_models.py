"""Large architectures on the pages: their graphs need no weights, and their weights are not made."""

from __future__ import annotations

import pytest
import torch
from opened import Open
from opened import errors

from app.model import catalog
from app.model import tracing
from compression import zoo
from compression.graph import trace


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v3_small", "torchvision:vit_b_16", "torchvision:googlenet"])
def test_the_graph_of_an_empty_model_is_that_of_the_whole_one(name: str) -> None:
    empty = zoo.build(name, empty=True)
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    assert trace(empty, zoo.example(name)).to_dict() == trace(zoo.build(name), zoo.example(name)).to_dict()
    assert torch.get_default_device().type == "cpu"


def test_a_large_model_shows_its_groups_and_no_page_makes_its_weights(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bool] = []
    build = zoo.build

    def watched(name: str, *rest: object, empty: bool = False, **more: object) -> torch.nn.Module:
        made.append(empty)
        return build(name, *rest, empty=empty, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(zoo, "build", watched)
    monkeypatch.setattr(tracing, "LARGEST", 1_000_000)
    catalog.traced.clear()
    query = {"model": "torchvision:resnet18", "data": "none"}
    for name in ("groups", "model", "budget"):
        app = open_page(name, **query)
        assert errors(app) == []
    app = open_page("groups", **query)
    app.selectbox(key="quantizers").set_value("own").run()
    (said,) = errors(app)
    assert "too large for the app; use the command line" in said
    (said,) = errors(open_page("budget", method="OPQ", **query))
    assert "too large for the app" in said
    assert made
    assert all(made)
