"""The fields of the Budget page: papers, options in plain words, training, closed ranges, an operator's own model."""

from __future__ import annotations

from pathlib import Path

import pytest
from opened import Open, errors, numbers, page_text

from app.budget import permalink, smallest
from app.model import catalog
from compression import methods
from compression.budget import Budget
from compression.runs.bisect import target_words
from compression.tasks import ACCURACY, METRICS

OWN = """
from torch import nn


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(80, 2)), (3, 8, 8)
"""


def folder(root: Path, name: str) -> Path:
    for label in ("cats", "dogs"):
        (root / name / label).mkdir(parents=True)
        (root / name / label / "one.png").touch()
    return root / name


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_own_model_and_the_only_data_that_fit_are_there_from_the_start(
    open_page: Open, tmp_path: Path, count: int
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    model, root = f"{tmp_path / 'mine.py'}:net", tmp_path / "data"
    root.mkdir()
    folders = [str(folder(root, name)) for name in ("pets", "farm")[:count]]
    app = open_page("start", "--model", model, "--data-root", str(root))
    expected = folders[0] if count == 1 else catalog.NO_DATA
    assert (app.session_state["at_model"], app.session_state["at_data"]) == (model, expected)
    named = open_page("model", "--model", model, "--data-root", str(root), model="resnet8")
    assert named.session_state["at_model"] == "resnet8", "the address wins"
    named.selectbox(key="pick_model").set_value(model).run()
    assert named.session_state["at_data"] == expected
    assert errors(named) == []


def test_a_paper_is_a_link_below_the_method(open_page: Open) -> None:
    app = open_page("budget")
    assert "2502.16638" in page_text(app)
    app.button_group(key="method").set_value("ptq").run()
    assert "arxiv.org" not in page_text(app)


def test_options_are_called_in_words_and_show_what_holds_without_them(open_page: Open) -> None:
    for name in methods.names():
        labels = [option.label for option in methods.get(name).Config.table()]
        assert len(set(labels)) == len(labels), name
        assert not [label for label in labels if "_" in label or label != label.strip()], name
    app = open_page("budget", budget=permalink.pack(Budget(method="geta", options={"preset": "paper"})))
    read = methods.get("geta").Config.read({"preset": "paper"}, "geta")
    field = app.number_input(key="option geta saliency_batches")
    assert field.label != field.key
    assert field.proto.placeholder.split()[0] == str(read.saliency_batches)  # type: ignore[attr-defined]


def test_training_fields_reach_the_budget_and_its_address(open_page: Open) -> None:
    app = open_page("budget")
    assert app.number_input(key="lr").value is None
    app.number_input(key="lr").set_value(0.02).run()
    app.number_input(key="batch_size").set_value(128).run()
    app.selectbox(key="optimizer").set_value("adamw").run()
    assert errors(app) == []
    draft = app.session_state["draft"]
    assert (draft.lr, draft.batch_size, draft.optimizer) == (0.02, 128, "adamw")
    again = open_page("budget", budget=app.query_params["budget"])
    assert again.session_state["draft"].to_dict() == draft.to_dict()
    assert again.number_input(key="lr").value == 0.02
    again.number_input(key="lr").set_value(0.0).run()
    assert "lr" in errors(again)[0], "refused"
    assert again.session_state["draft"].lr == 0.02
    again.number_input(key="lr").set_value(None).run()
    assert again.session_state["draft"].lr is None


def test_a_closed_range_opens_at_either_end(open_page: Open) -> None:
    app = open_page("budget", part="Layers")
    app.button(key="preset Gentle").click().run()
    assert app.session_state["draft"].asks["weight_bits"] == (8, 8)
    app.number_input(key="ask weight_bits from").set_value(5).run()
    assert app.session_state["draft"].asks["weight_bits"] == (5, 8)
    assert app.slider(key="ask weight_bits").value == (5, 8)
    key = "bound groups conv1 sparsity"
    app.slider(key=key).set_value((0.0, 0.0)).run()
    app.number_input(key=f"{key} to").set_value(25.0).run()
    assert app.session_state["draft"].groups == {"conv1": {"sparsity": [0.0, 0.25]}}
    assert app.slider(key=key).value == (0.0, 0.25)
    assert errors(app) == []


def test_what_may_be_lost_is_counted_from_the_dense_score() -> None:
    assert smallest.lowered(0.885, 1.0, ACCURACY) == pytest.approx(0.875)
    assert smallest.lowered(0.01, 5.0, ACCURACY) == pytest.approx(0.001), "the least that can be kept"
    perplexity = METRICS["perplexity"]
    assert smallest.lowered(4.0, 0.5, perplexity) == 4.5, "lower is better"


def test_a_search_says_what_it_looks_for(tmp_path: Path) -> None:
    planned = [{"id": str(number), "budget": {}, "subject": {"metric": ACCURACY.to_dict()}} for number in range(6)]
    text = target_words({"find": {"min_score": 0.875, "planned": planned}})
    assert numbers(text) == [87.5, 3.0, 6.0] or numbers(text) == [87.50, 3.0, 6.0]
    assert target_words({}) == ""
