"""What flows into layers: its figures against closed forms, its study, its chart and its place on the Model page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch import nn

from compression import runs
from compression.explain.layer_inputs import layer_inputs
from compression.graph import trace
from compression.jobs import inputs as study
from compression.jobs import studies
from compression.plots import inputs as figures
from tests.waiting import PATIENCE


def row(x: torch.Tensor, weight: torch.Tensor | None = None, bits: int = 4) -> dict[str, float]:
    """The only row of a network of one linear layer that reads the rows x [n, d]."""
    model = nn.Sequential(nn.Linear(x.shape[1], 3, bias=False)).eval()
    if weight is not None:
        model[0].weight.data = weight
    ticks: list[int] = []
    (only,) = layer_inputs(model, trace(model, x[:1]), [x], bits, lambda: ticks.append(1))
    assert ticks == [1]
    return only


def test_directions_and_constant_part_are_those_of_closed_forms() -> None:
    torch.manual_seed(0)
    assert row(torch.linalg.qr(torch.randn(64, 8)).Q)["directions"] == pytest.approx(8, rel=1e-5)
    along = row(torch.randn(64, 1) * torch.arange(1.0, 6))
    assert along["directions"] == pytest.approx(1, rel=1e-5)
    constant = row(torch.ones(32, 4) * torch.tensor([1.0, 2, 0, 3]))
    assert (constant["mean"], constant["dead"]) == (pytest.approx(1), 1)
    # Two directions with eigenvalues 1 and 4: (1 + 4)² / (1 + 16)
    assert row(torch.diag(torch.tensor([1.0, 2.0])))["directions"] == pytest.approx(25 / 17)


def test_what_can_be_made_good() -> None:
    """Of two equal inputs one weight makes good for the other; of orthogonal ones none does."""
    weight = torch.tensor([[7.0, 0.4, 0.4], [7.0, 1.3, 1.3], [7.0, 2.45, 2.45]])
    x = torch.cat([torch.eye(3)[:1], torch.tensor([[0.0, 1.0, 1.0]])])
    twins = row(x, weight)
    nearest = (2 * 0.4) ** 2 + (2 * 0.3) ** 2 + (2 * 0.45) ** 2
    following = 0.2**2 + 0.4**2 + 0.1**2
    whole = 3 * 49 + 0.8**2 + 2.6**2 + 4.9**2
    assert twins["nearest"] == pytest.approx(nearest / whole)
    assert twins["following"] == pytest.approx(following / whole, rel=0.02)
    alone = row(torch.eye(3), weight)
    assert alone["following"] == pytest.approx(alone["nearest"])


def test_the_study_and_its_page(tmp_path: Path, open_page: Callable[..., AppTest]) -> None:
    app = open_page("model", model="resnet8", data="mnist5k")
    (begin,) = [button for button in app.button if button.key == f"begin {study.KIND}"]
    begin.click().run()
    assert not app.exception, app.exception
    (place,) = (tmp_path / "runs" / studies.FOLDER).glob("inputs-*/")
    result = runs.wait(place.name, place.parent, timeout=PATIENCE)
    assert result["status"] == "done", result
    info = figures.inputs_info(result["rows"])
    assert info.layers[0] == "conv1"
    assert len(info.layers) == 10
    assert all(0 < share <= 100 for share in info.directions)
    assert sum(info.following) < 0.5 * sum(info.nearest)
    assert info.gain[1] > 2
    for view in figures.VIEWS:
        figure = figures.inputs_figure(info, view)
        assert list(figure.data[-1].y) == list(info.layers)
    app = open_page("model", model="resnet8", data="mnist5k")
    assert not app.exception, app.exception
    assert any(f"{study.IMAGES} training inputs" in element.value for element in app.caption)
