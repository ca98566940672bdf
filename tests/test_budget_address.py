"""Whatever filled the Budget page, its address opens the same form in a session that has seen nothing yet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opened import Open, errors
from streamlit.testing.v1 import AppTest
from written import finished

from app import nav
from app.budget import draft, rerun
from compression.budget import Budget
from compression.errors import CompressionError

GALLERY = "gallery.resnet8-mnist5k.magnitude"
LOADED = Budget(
    method="opq", sparsity=0.8, bits=3, epochs=2.5, seed=7, lr=0.02, weight_decay=0.01,
    layers={"conv1": {"weight_bits": [3, 5]}}, options={"grid": "survivor"},
)  # fmt: skip


def form(app: AppTest) -> dict[str, Any]:
    """Every control of the page with its value, the bounds and extras, the figures, and what would be started."""
    drawn = (*app.slider, *app.toggle, *app.number_input, *app.selectbox, *app.button_group)
    controls = {element.key: element.value for element in drawn}
    assert {"method", "seed"} <= set(controls) or "ask bits" in controls
    now = app.session_state["draft"]
    bounds = {kind: now.to_dict()[kind] for kind in ("groups", "layers")}
    label = app.button(key="start").label
    metrics = {metric.label: metric.value for metric in app.metric}
    return {**controls, **metrics, "bounds": bounds, "extras": draft.extras(now), "start": label}


def refreshed(app: AppTest, open_page: Open) -> AppTest:
    """The address as it stands, opened anew."""
    again_open = open_page("budget", **app.query_params)
    assert not again_open.warning
    return again_open


def check(app: AppTest, open_page: Open) -> dict[str, Any]:
    assert not app.exception
    assert errors(app) == []
    assert app.title[0].value == nav.PAGES["budget"].question
    now = form(app)
    assert form(refreshed(app, open_page)) == now
    return now


def by_compare(open_page: Open, root: Path) -> AppTest:
    run = finished(root, budget=Budget(sparsity=0.3, weight_bits=(5, 7), groups={"conv1": {"sparsity": [0.0, 0.5]}}))
    return open_page("compare", run=run).button(key="again opq").click().run()


def by_gallery(open_page: Open, root: Path) -> AppTest:
    return open_page("runs", run=GALLERY).button(key="repeat").click().run()


def by_gallery_without_model(open_page: Open, root: Path) -> AppTest:
    return open_page("export", run="gallery.resnet20-cifar10jpeg.w4-s39").button(key="repeat").click().run()


def by_file(open_page: Open, root: Path) -> AppTest:
    app = open_page("budget", part="Save and load")
    return app.file_uploader(key="upload").set_value(("b.json", json.dumps(LOADED.to_dict()).encode(), "x")).run()


def by_preset(open_page: Open, root: Path) -> AppTest:
    return refreshed(by_gallery(open_page, root), open_page).button(key="preset Strong").click().run()


def by_link(open_page: Open, root: Path) -> AppTest:
    """The link beside a run, followed in a session whose form stood otherwise."""
    app = by_file(open_page, root)
    budget = Budget(method="sequential", sparsity=0.5, weight_bits=(6, 6), activation_bits=(7, 7))
    app.query_params.clear()
    app.query_params.update(rerun.query(budget.to_dict()))
    return app.run()


def by_sliders(open_page: Open, root: Path) -> AppTest:
    app = open_page("budget")
    app.slider(key="ask sparsity").set_value(0.31).run()
    app.slider(key="ask weight_bits").set_value((3, 5)).run()
    app.toggle(key="ask activation_bits on").set_value(True).run()
    app.number_input(key="ask activation_bits from").set_value(6).run()
    return app.number_input(key="seed").set_value(11).run()


def by_method(open_page: Open, root: Path) -> AppTest:
    app = open_page("budget", sparsity="0.31")
    app.button_group(key="method").set_value("opq").run()
    app.slider(key="ask bits").set_value(5.25).run()
    app.button_group(key="method").set_value("magnitude").run()
    return app.button_group(key="method").set_value("opq").run()


def by_reset(open_page: Open, root: Path) -> AppTest:
    app = by_file(open_page, root)
    return next(button for button in app.button if button.label == "Back to defaults").click().run()


def by_the_other_budget(open_page: Open, root: Path) -> AppTest:
    app = open_page("budget", part="Compare budgets", method="OPQ", average_bits="3.0")
    app.button(key="keep_a").click().run()
    app.button_group(key="method").set_value("ptq").run()
    return app.button(key="back_to_a").click().run()


def by_the_tour(open_page: Open, root: Path) -> AppTest:
    app = open_page("groups", tour="2")
    return app.button(key="tour_next").click().run()


WAYS: dict[Callable[[Open, Path], AppTest], dict[str, Any]] = {
    by_compare: {"method": "opq", "ask sparsity": 0.3, "ask bits": 6.0, "start": "Start OPQ run"},
    by_gallery: {"method": "magnitude", "ask sparsity": 0.7, "ask bits": 4},
    by_gallery_without_model: {"method": "geta"},
    by_file: {
        "method": "opq",
        "ask sparsity": 0.8,
        "ask bits": 3.0,
        "epochs": 2.5,
        "lr": 0.02,
        "extras": {"weight_decay": 0.01},
    },
    by_preset: {"method": "magnitude", "ask sparsity": 0.85, "ask bits": 4},
    by_link: {
        "method": "sequential",
        "ask sparsity": 0.5,
        "ask weight_bits": 6,
        "ask activation_bits": 7,
        "extras": {},
    },
    by_sliders: {"ask sparsity": 0.31, "ask weight_bits": (3, 5), "ask activation_bits": (6, 8), "seed": 11},
    by_method: {"method": "opq", "ask sparsity": 0.31, "ask bits": 5.25},
    by_reset: {"method": "opq", "extras": {}, "ask sparsity": 0.8},
    by_the_other_budget: {"method": "opq", "ask bits": 3.0},
    by_the_tour: {"method": "geta", "ask sparsity": 0.3, "ask weight_bits": (4, 8)},
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_address_of_a_budget_opens_the_same_form(
    open_page: Open, tmp_path: Path, way: Callable[[Open, Path], AppTest]
) -> None:
    app = way(open_page, tmp_path / "runs")
    now = check(app, open_page)
    assert {name: now[name] for name in WAYS[way]} == WAYS[way]


@pytest.mark.parametrize("method", ["geta", "opq", "sequential", "magnitude", "ptq"])
def test_a_link_sets_everything_that_the_form_shows(open_page: Open, tmp_path: Path, method: str) -> None:
    """What stood there before does not shine through: not another default, nor bounds, options or extras."""
    fresh = form(open_page("budget", **rerun.query(Budget(method=method).to_dict())))
    used = by_file(open_page, tmp_path)
    used.slider(key="ask sparsity").set_value(0.33).run()
    used.query_params.clear()
    used.query_params.update(rerun.query(Budget(method=method).to_dict()))
    assert form(used.run()) == fresh


def test_a_budget_is_what_the_form_shows(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no control of the method shows is not in its budget: seed and epochs of a method that trains nothing."""
    started: list[Budget] = []

    def start(budget: Budget) -> str:
        started.append(budget)
        raise CompressionError("only looked at")

    monkeypatch.setattr("app.runs.runlog.start", start)
    app = open_page("budget", method="OPQ", average_bits="3.0", seed="5", epochs="2.0")
    app.button_group(key="method").set_value("ptq").run()
    app.button(key="start").click().run()
    refreshed(app, open_page).button(key="start").click().run()
    assert started[0] == started[1]
    assert (started[0].seed, started[0].epochs, started[0].asks) == (0, 4, {"bits": 3, "activation_bits": None})


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("method", "", "GETA"),
        ("method", ["opq", "ptq"], "GETA"),
        ("seed", "1.5", "0"),
        ("seed", "", "0"),
        ("equal_bits", "5.5", "4"),
        ("equal_activation_bits", "6.5", "8"),
        ("activations", "perhaps", "false"),
        ("activations", "", "false"),
        ("epochs", "", "4"),
    ],
)
def test_what_an_address_cannot_mean_is_reported_and_is_not_rounded(
    open_page: Open, name: str, text: str | list[str], word: str
) -> None:
    for method in ("ptq", "geta") if name != "method" else (None,):
        app = open_page("budget", **{"method": method} if method else {}, **{name: text})
        (line,) = [warning.value for warning in app.warning]
        assert f"says {name} = " in line
        assert f"{word} is used" in line
        assert app.query_params.get(name) != text
