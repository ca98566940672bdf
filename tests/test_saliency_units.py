"""Saliency of units: Captum's criteria against gradients by hand, the study's table, its figures and its page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from opened import Open, errors
from test_budget_page import open_page  # noqa: F401  (a fixture)
from torch import nn

from compression import runs
from compression.explain.units import CRITERIA, summary, unit_scores
from compression.graph import trace
from compression.jobs import saliency as study
from compression.jobs import studies
from compression.plots.saliency import saliency_figure, saliency_info
from tests.waiting import PATIENCE


def small() -> nn.Sequential:
    torch.manual_seed(5)
    parts = nn.Conv2d(1, 5, 3), nn.ReLU(inplace=True), nn.Conv2d(5, 6, 3, bias=False), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*parts, nn.Linear(384, 4)).train()


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 1, 12, 12, generator=generator), torch.arange(n) % 4) for n in (6, 3)]


def test_scores_are_those_of_gradients_by_hand() -> None:
    model, data = small(), batches()
    graph = trace(model, torch.zeros(1, 1, 12, 12))
    scores = unit_scores(model, graph, data)
    assert model.training
    assert model[1].inplace, "the model itself is left as it is"
    assert all(parameter.grad is None for parameter in model.parameters())
    assert set(scores) == {"0", "2"}
    expected, taylor = torch.zeros(6), torch.zeros(6)
    for images, labels in data:
        hidden = model[2](model[1](model[0](images))).detach().requires_grad_()
        answers = model[5](model[4](model[3](hidden)))
        answers.gather(1, answers.argmax(1, keepdim=True)).sum().backward()
        assert hidden.grad is not None
        expected += (hidden * hidden.grad).detach().abs().sum((0, 2, 3))
        loss = nn.functional.cross_entropy(model(images), labels)
        (gradient,) = torch.autograd.grad(loss, [model[2].weight])
        taylor += (gradient * model[2].weight.detach()).sum((1, 2, 3)).abs()
    assert torch.allclose(scores["2"]["gradient_activation"], expected / 9, rtol=1e-4)
    assert torch.allclose(scores["2"]["taylor"], taylor / 2, rtol=1e-4)
    assert torch.allclose(scores["2"]["magnitude"], model[2].weight.detach().square().mean((1, 2, 3)).sqrt(), rtol=1e-5)


def test_conductance_of_a_linear_network_is_the_rise_of_its_logit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 3, bias=False)).eval()
    graph = trace(model, torch.zeros(1, 6))
    images = torch.randn(8, 6)
    scores = unit_scores(model, graph, [(images, torch.zeros(8, dtype=torch.long))])
    first, second = (layer.weight.detach() for layer in model)
    targets = model(images).argmax(1)
    through = (images @ first.T * second[targets]).abs().mean(0)
    assert torch.allclose(scores["0"]["conductance"], through, rtol=1e-4)
    assert torch.allclose(scores["0"]["gradient_activation"], through, rtol=1e-4)


def test_a_unit_that_nothing_reads_matters_to_magnitude_only() -> None:
    model = small()
    with torch.no_grad():
        model[0].weight[3] *= 50
        model[2].weight[:, 3] = 0
    graph = trace(model, torch.zeros(1, 1, 12, 12))
    scores = unit_scores(model, graph, batches())["0"]
    assert int(scores["magnitude"].argmax()) == 3
    assert all(float(scores[name][3]) == 0 for name in CRITERIA[1:])
    row = next(row for row in summary({"0": scores}, [graph.group("0")]))
    assert all(sum(row["share"].values()) == pytest.approx(4) for _ in [0])
    assert row["rank"]["conductance"] < 0.99


def test_the_page_scores_in_the_background_and_finds_it_again(open_page: Open, tmp_path: Path) -> None:  # noqa: F811
    app = open_page(part="Saliency")
    app.button(key="begin saliency").click().run()
    assert errors(app) == []
    (folder,) = (tmp_path / "runs" / studies.FOLDER).glob("saliency-*/")
    result = runs.wait(folder.name, folder.parent, timeout=PATIENCE)
    assert result["status"] == "done", result
    assert sum(row["units"] for row in result["rows"]) == 112
    for name in CRITERIA:
        assert sum(row["share"][name] for row in result["rows"]) == pytest.approx(1)
    app = open_page(part="Saliency")
    assert len(app.get("plotly_chart")) == 1
    assert any(f"{study.IMAGES} validation images" in element.value for element in app.caption)
    assert errors(app) == []


def test_figures_show_every_group_by_every_criterion() -> None:
    rows = [
        {"group": "a", "units": 2, "share": dict.fromkeys(CRITERIA, 0.25), "rank": dict.fromkeys(CRITERIA[1:])},
        {"group": "b", "units": 6, "share": dict.fromkeys(CRITERIA, 0.75), "rank": dict.fromkeys(CRITERIA[1:], -0.5)},
    ]
    info = saliency_info(rows, CRITERIA)
    assert info.part_of_units == (0.25, 0.75)
    assert "Conductance -0.50" in info.sentence
    rank, share = (saliency_figure(info, measure) for measure in ("rank", "share"))
    assert [list(trace.x) for trace in rank.data] == [[None, -0.5]] * 3
    assert [list(trace.x) for trace in share.data] == [[25, 75]] * 5
    assert len({trace.marker.symbol for trace in share.data[1:]}) == 4
    assert info.rows[1]["Conductance: of all, %"] == 75
