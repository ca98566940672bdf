"""The Budget page's layers: sliders and table write the same bounds, and what comes of them answers at once."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from opened import Open, errors, numbers, opener
from streamlit.testing.v1 import AppTest
from written import finished

from app.budget import (
    boundrows,
    bounds,
    boundtable,
    budget_upload,
    draft,
    forecast_panel,
    live_forecast,
    permalink,
    rerun,
)
from app.model import catalog
from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.pruning.reach import reach

SECONDS = 60
RESNET8 = catalog.ChosenModel("resnet8", "mnist5k", (1, 28, 28), 10)


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open the Budget page; keywords go into the address."""
    return partial(opener(tmp_path / "runs", monkeypatch), "budget")


def figures(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def bits_slider(app: AppTest, layer: str) -> Any:
    return app.slider(key=f"bound layers {layer} weight_bits")


def used(app: AppTest) -> str:
    """The line on what became of the scan."""
    line = app.session_state["scan_used"]["summary"]
    assert line in [element.value for element in app.markdown]
    return str(line)


def cells(app: AppTest, layer: str) -> dict[str, Any]:
    frame = app.data_editor[0].value
    row: dict[str, Any] = frame[frame["layer"] == layer].iloc[0].to_dict()
    return {name: None if value is None or value != value else value for name, value in row.items()}


def sizes(budget: Budget) -> tuple[float, float]:
    """The least and the most bytes of a budget on untrained weights."""
    bytes = live_forecast.forecast(RESNET8, None, budget).bytes
    assert bytes is not None
    return bytes


def test_a_slider_bounds_its_layer_in_table_and_budget(open_page: Open) -> None:
    app = open_page(part="Layers")
    keys = [slider.key for slider in app.slider if slider.key.startswith("bound ")]
    assert len([key for key in keys if key.endswith(" weight_bits")]) == 10, "one for each layer"
    before = figures(app)["Size"]
    bits_slider(app, "layer3.0.conv2").set_value((2, 3)).run()
    assert app.session_state["draft"].layers == {"layer3.0.conv2": {"weight_bits": [2, 3]}}
    assert (cells(app, "layer3.0.conv2")["bits from"], cells(app, "layer3.0.conv2")["bits to"]) == (2, 3)
    assert cells(app, "conv1")["bits to"] is None
    least, most = sizes(Budget(layers={"layer3.0.conv2": {"weight_bits": [2, 3]}}))
    assert figures(app)["Size"] == f"{least / 1000:.2f}–{most / 1000:.2f} kB" != before
    app.button(key="clear bounds layer3.0.conv2").click().run()
    assert app.session_state["draft"].layers == {}
    assert bits_slider(app, "layer3.0.conv2").value == (4, 8), "it follows the range of all layers again"
    assert figures(app)["Size"] == before
    app.slider(key="ask weight_bits").set_value((3, 5)).run()
    assert bits_slider(app, "conv1").value == (3, 5)
    assert errors(app) == []


def test_a_bound_of_one_group_holds_in_the_plan(open_page: Open) -> None:
    app = open_page(part="Layers", group="layer3.0.conv1")
    key = "bound groups layer3.0.conv1 sparsity"
    app.slider(key=key).set_value((0.0, 0.1)).run()
    assert app.session_state["draft"].groups == {"layer3.0.conv1": {"sparsity": [0.0, 0.1]}}
    assert cells(app, "layer3.0.conv1")["sparsity, % to"] == 10
    assert any("group layer3.0.conv1" in element.value for element in app.markdown)
    assert app.slider(key=key).max == 1 - app.slider(key=key).step, "one unit always stays"
    app.session_state["draft"] = app.session_state["draft"].replace(
        groups={"layer3.0.conv1": {"sparsity": [0.99, 1.0]}}
    )
    app.run()
    assert "layer3.0.conv1" in errors(app)[0], "a file may ask for what no slider does"
    assert app.button(key="start").disabled
    app.button(key="remove_bounds").click().run()
    assert app.session_state["draft"].groups == {}
    assert errors(app) == []


def test_tied_layers_share_one_slider_and_show_one_bound(open_page: Open) -> None:
    app = open_page(part="Layers")
    shares = [s.key for s in app.slider if s.key.endswith(" sparsity")]
    assert len(shares) == len(set(shares)) < 10
    tied = {group.id: group.members for group in catalog.traced(RESNET8).graph.prunable}
    others = {first: sum(m.role == "producer" for m in members) - 1 for first, members in tied.items()}
    named = Counter(name for caption in app.caption if (name := caption.value.split()[-1]) in tied)
    assert named == +Counter(others), "each layer that has no slider names the one that has it"
    app.slider(key="bound groups conv1 sparsity").set_value((0.25, 0.5)).run()
    assert cells(app, "layer1.0.conv2")["sparsity, % from"] == cells(app, "conv1")["sparsity, % from"] == 25


@pytest.mark.parametrize(("method", "moved", "expected"), [("opq", (3, 4), [3, 4]), ("ptq", 3, [3, 3])])
def test_bounds_of_other_methods(open_page: Open, method: str, moved: Any, expected: list[int]) -> None:
    app = open_page(part="Layers", method=method)
    bits_slider(app, "linear").set_value(moved).run()
    assert app.session_state["draft"].layers["linear"] == {"weight_bits": expected}
    share = "bound layers linear sparsity"
    assert (share in [s.key for s in app.slider]) == (method == "opq")
    if method == "opq":
        app.slider(key=share).set_value(0.25).run()
        assert cells(app, "linear")["sparsity, %"] == 25
    assert errors(app) == []


def rows_of(budget: Budget) -> list[bounds.BoundRow]:
    return bounds.rows(catalog.traced(RESNET8), budget, live_forecast.forecast(RESNET8, None, budget))


@pytest.fixture
def drafted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """The bounds of a draft that lives without a page."""
    session: dict[str, Any] = {}
    monkeypatch.setattr(draft.st, "session_state", session)
    monkeypatch.setattr(draft.state, "get", lambda name: "resnet8")
    return lambda: draft.get().to_dict()


def edit(rows: list[bounds.BoundRow], number: int, **cells: Any) -> None:
    edits = {name.replace("_", " "): content for name, content in cells.items()}
    for field, bound in boundtable.changes(rows, {number: edits}):
        bounds.put(field, bound)


def test_cells_become_bounds(drafted: Callable[[], dict[str, Any]]) -> None:
    rows = rows_of(Budget(weight_bits=(4, 8)))
    edit(rows, 0, bits_from=5)
    assert drafted()["layers"] == {"conv1": {"weight_bits": [5, 8]}}, "the other end is what holds for all"
    edit(rows, 0, bits_to=6)
    assert drafted()["layers"] == {"conv1": {"weight_bits": [5, 6]}}
    assert boundtable.table(rows)["bits from"][0] == 5
    with pytest.raises(CompressionError, match="lower bound 7 is above"):
        edit(rows, 0, bits_from=7)
    assert drafted()["layers"] == {"conv1": {"weight_bits": [5, 6]}}, "what is refused changes nothing"
    edit(rows, 0, bits_to=None)
    assert drafted()["layers"] == {}
    for field, bound in boundtable.changes(rows, {2: {"sparsity, % to": 30.0}}):
        bounds.put(field, bound)
    assert drafted()["groups"] == {"conv1": {"sparsity": [0.0, 0.3]}}, "layer1.0.conv2 has the channels of conv1"
    with pytest.raises(CompressionError, match="must stay"):
        boundtable.changes(rows, {len(rows) - 1: {"sparsity, % from": 10.0}})


def test_cells_of_single_weights_are_shares(drafted: Callable[[], dict[str, Any]]) -> None:
    rows = rows_of(Budget(method="opq", sparsity=0.6))
    for field, bound in boundtable.changes(rows, {0: {"sparsity, %": 12.5}}):
        bounds.put(field, bound)
    assert drafted()["layers"] == {"conv1": {"sparsity": 0.125}}
    with pytest.raises(CompressionError, match="sparsity"):
        edit(rows, 0, **{"sparsity, %": 100.0})
    shown = [field.shown for row in rows for field in row.fields if field.field == "sparsity"]
    sizes = [math.prod(layer.shape) for layer in catalog.traced(RESNET8).graph.layers]
    planned = sum(share * size for share, size in zip(shown[1:], sizes[1:], strict=True))
    assert planned == pytest.approx(0.6 * sum(sizes), rel=0.02), "sliders without a bound follow the allocation"


def test_layers_are_found_by_module_and_by_letters() -> None:
    subject = catalog.ChosenModel("resnet56", "cifar10", (3, 32, 32), 10)
    rows = bounds.rows(catalog.traced(subject), Budget(model="resnet56", data="cifar10"), None)
    many = [*rows, *(bounds.BoundRow(f"more.{i}", "", "", ()) for i in range(10))]
    assert boundrows.matching(rows, "", []) == list(rows) if len(rows) <= 60 else True
    assert boundrows.matching(many, "", ["linear"]) == [row for row in many if row.name == "linear"]
    names = [row.name for row in boundrows.matching(many, "layer2", [])]
    assert len(names) > 10
    assert all(name.startswith("layer2.") for name in names)
    assert [row.name for row in boundrows.matching(many, "LIN", [])] == ["linear"]
    assert boundrows.matching(many, "nosuch", []) == []


def test_more_than_sixty_layers_are_searched(open_page: Open) -> None:
    app = open_page(part="Layers", model="torchvision:densenet121", data="none")
    assert [s.key for s in app.slider if s.key.startswith("bound ")] == []
    before = {caption.value for caption in app.caption}
    assert len(app.data_editor[0].value) > 60, "the table has them all"
    app.text_input(key="bound_search").set_value("features.denseblock1").run()
    names = {s.key.split()[2] for s in app.slider if s.key.startswith("bound layers ")}
    assert names
    assert all(name.startswith("features.denseblock1.") for name in names)
    assert len(before - {caption.value for caption in app.caption}) == 1, "the line that asked for a search"
    app.multiselect(key="bound_pick").set_value(["classifier"]).run()
    assert bits_slider(app, "classifier").value == (4, 8)
    assert errors(app) == []


@pytest.mark.parametrize("method", ["geta", "opq", "ptq"])
def test_a_slider_of_resnet20_is_answered(open_page: Open, method: str) -> None:
    """How fast is measured by ``python -m tests.bench.sessions``."""
    app = open_page(part="Layers", model="resnet20", data="cifar10", method=method)
    key = "bound layers layer2.0.conv1 weight_bits"
    for value in [3, 7] if method == "ptq" else [(3, 5), (5, 9)]:
        app.slider(key=key).set_value(value).run()
        assert app.slider(key=key).value == value
    assert errors(app) == []


@pytest.mark.parametrize(
    ("query", "key", "value", "message"),
    [
        ({"bits": ["8", "4"]}, "ask weight_bits", (4, 8), "bits = 8, 4"),
        ({"bits": ["x", "4"]}, "ask weight_bits", (4, 8), "bits = x, 4"),
        ({"epochs": "nan"}, "epochs", 4.0, "epochs = nan"),
        ({"sparsity": "7"}, "ask sparsity", 0.5, "sparsity = 7"),
        ({"method": "nosuch"}, "method", "geta", "GETA is used"),
        ({"epochs": "0.5", "seed": "-1"}, "epochs", 0.5, ""),
        ({"method": "opq"}, "method", "opq", ""),
        ({"method": "OPQ", "average_bits": "99"}, "ask bits", 4.0, "average_bits = 99"),
    ],
)
def test_what_an_address_cannot_mean_falls_back_and_is_reported(
    open_page: Open, query: dict[str, Any], key: str, value: Any, message: str
) -> None:
    app = open_page(**query)
    assert errors(app) == []
    assert app.session_state[key] == value
    warnings = [str(element.value) for element in app.warning]
    assert len(warnings) == bool(message)
    assert all(message in line and "\n" not in line for line in warnings)
    assert not app.button(key="start").disabled


def test_a_file_with_part_of_an_epoch_and_any_seed_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    carried = permalink.unpack(permalink.pack(Budget(epochs=0.5, seed=-1)))
    assert (carried.epochs, carried.seed) == (0.5, -1)
    monkeypatch.setattr(catalog, "allow", lambda *names: None)
    with pytest.raises(CompressionError, match="epochs 5000"):
        budget_upload.load(b'{"epochs": 5000}')
    with pytest.raises(CompressionError, match="seed"):
        budget_upload.load(b'{"seed": 9007199254740992}')


@pytest.mark.parametrize("method", ["geta", "opq", "sequential", "magnitude", "ptq"])
def test_presets_set_the_sliders_of_every_method(open_page: Open, method: str) -> None:
    app = open_page(method=method, part="Layers")
    bits_slider(app, "linear").set_value((6, 7) if method in ("geta", "opq") else 6).run()
    sizes = []
    for name in ("Gentle", "Balanced", "Strong"):
        app.button(key=f"preset {name}").click().run()
        assert errors(app) == []
        sizes.append(float(figures(app)["Size"].split()[0].rpartition("–")[2]))
    assert sizes == sorted(sizes, reverse=True), "each is smaller than the one before"
    assert "linear" in app.session_state["draft"].layers, "bounds stay"
    if method == "geta":
        assert (app.slider(key="ask sparsity").value, app.slider(key="ask weight_bits").value) == (0.6, (2, 4))


def test_two_budgets_are_compared_and_a_comes_back(open_page: Open) -> None:
    app = open_page(part="Compare budgets")
    before = figures(app)
    app.button(key="keep_a").click().run()
    app.slider(key="ask sparsity").set_value(0.7).run()
    rows = app.table[0].value.set_index("")
    assert rows.loc["channels removed"].tolist() == ["56", "78", "+22"]
    assert rows.loc["MACs"].tolist()[:2] == [before["MACs"], figures(app)["MACs"]]
    a, b = (sizes(Budget(sparsity=share))[1] for share in (0.5, 0.7))
    assert rows.loc["size, at most"].tolist() == [
        f"{a / 1000:.2f} kB",
        f"{b / 1000:.2f} kB",
        f"−{(a - b) / 1000:.2f} kB",
    ]
    assert len(app.get("plotly_chart")) == 1
    app.button(key="back_to_a").click().run()
    assert figures(app) == before
    assert errors(app) == []


def test_a_plan_is_compared_layer_by_layer() -> None:
    from compression.plots.twoplans import two_plans_figure, two_plans_info

    graph = catalog.traced(RESNET8).graph
    plans = (live_forecast.forecast(RESNET8, None, Budget(method="ptq", bits=bits)) for bits in (8.0, 4.0))
    info = two_plans_info(*map(forecast_panel.layer_plans, plans))
    assert [row["B − A"] for row in info.rows] == [-math.prod(layer.shape) // 2 for layer in graph.layers]
    figure = two_plans_figure(info)
    assert [trace.name for trace in figure.data[1:]] == ["A", "B"]
    assert list(figure.data[2].x) == [math.prod(layer.shape) / 2 + 4 for layer in graph.layers]  # and the step


def word_of(app: AppTest) -> str:
    word = app.query_params.get("budget", "")
    return word[0] if isinstance(word, list) else str(word)


def test_a_copied_link_opens_the_same_bounds_and_options(open_page: Open) -> None:
    app = open_page(part="Layers")
    assert word_of(app) == "", "nothing was set"
    app.button_group(key="method").set_value("sequential").run()
    before = len(word_of(app))
    bits_slider(app, "linear").set_value(7).run()
    app.slider(key="bound groups conv1 sparsity").set_value((0.0, 0.5)).run()
    option = next(box for box in app.selectbox if box.key and box.key.startswith("option sequential "))
    option.select(option.options[-1]).run()
    present = app.session_state["draft"]
    assert present.options
    rerun = open_page(part="Layers", budget=word_of(app))
    assert errors(rerun) == []
    assert rerun.session_state["draft"].to_dict() == present.to_dict()
    assert figures(rerun) == figures(app)
    for row in ("linear", "conv1"):
        rerun.button(key=f"clear bounds {row}").click().run()
    assert before < len(word_of(rerun)) < len(word_of(app)), "the option stays"


def test_bits_that_only_one_method_reaches_become_the_least_of_another(open_page: Open) -> None:
    app = open_page(part="Layers")
    app.button_group(key="method").set_value("uniq").run()
    slider = app.slider(key="ask weight_bits")
    assert (slider.min, slider.max) == (1, 8)
    bits_slider(app, "conv1").set_value(1).run()
    app.slider(key="ask weight_bits").set_value(1).run()
    assert app.session_state["draft"].layers == {"conv1": {"weight_bits": [1, 1]}}
    for method, least in (("sequential", 2), ("geta", (2, 2)), ("uniq", 2)):
        app.button_group(key="method").set_value(method).run()
        assert errors(app) == []
        ends = (
            [app.number_input(key=f"ask weight_bits {end}").value for end in ("from", "to")] if least == (2, 2) else []
        )
        assert ends == [2, 2] if ends else app.slider(key="ask weight_bits").value == least
        assert app.session_state["draft"].layers == {"conv1": {"weight_bits": [2, 2]}}
    assert app.slider(key="ask weight_bits").min == 1


def test_options_that_both_methods_have_stay_when_another_is_chosen(open_page: Open) -> None:
    given = {"distill": 0.5, "clip": "max"}
    app = open_page(budget=permalink.pack(Budget(method="geta", options=given)))
    app.button_group(key="method").set_value("sequential").run()
    assert app.session_state["draft"].options == {"distill": 0.5}
    app.button_group(key="method").set_value("ptq").run()
    assert app.session_state["draft"].options == {}, "its clip is another thing"
    app.button_group(key="method").set_value("geta").run()
    assert app.session_state["draft"].options == given
    assert errors(app) == []


@pytest.mark.parametrize("method", ["geta", "sequential"])
def test_macs_or_bops_in_place_of_units(open_page: Open, method: str) -> None:
    app = open_page(budget=permalink.pack(Budget(method=method, sparsity=0.3)))
    assert "ask sparsity" in {slider.key for slider in app.slider}
    before = figures(app)
    app.button_group(key="one of sparsity macs bops").set_value("macs").run()
    assert "ask sparsity" not in {slider.key for slider in app.slider}
    app.slider(key="ask macs").set_value(0.6).run()
    assert draft_asks(app) == {"sparsity": None, "macs": 0.6, "bops": None}
    assert figures(app) != before
    app.button_group(key="one of sparsity macs bops").set_value("bops").run()
    assert draft_asks(app) == {"sparsity": None, "macs": None, "bops": 0.95}
    app.slider(key="ask bops").set_value(0.98).run()
    rerun = open_page(budget=word_of(app))
    assert draft_asks(rerun) == {"sparsity": None, "macs": None, "bops": 0.98}
    assert figures(rerun) == figures(app)
    rerun.button_group(key="one of sparsity macs bops").set_value("sparsity").run()
    assert draft_asks(rerun) == {"sparsity": 0.5, "macs": None, "bops": None}
    rerun.button(key="preset Balanced").click().run()
    assert draft_asks(rerun) == {"sparsity": 0.4, "macs": None, "bops": None}
    assert errors(app) + errors(rerun) == []


def test_a_sweep_and_bounds_of_a_budget_by_macs(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started is what the page shows: MACs, and the bound of the group."""
    swept: list[tuple[Budget, list[float]]] = []
    monkeypatch.setattr("app.runs.runlog.sweep", lambda budget, shares, *_: swept.append((budget, shares)))
    given = Budget(method="geta", macs=0.7, groups={"conv1": {"sparsity": (0.0, 0.0)}})
    app = open_page(budget=permalink.pack(given))
    app.button(key="start_sweep").click().run()
    ((budget, shares),) = swept
    assert (budget.asks["macs"], shares) == (0.7, [])
    assert budget.to_dict()["groups"] == given.to_dict()["groups"]


@pytest.mark.parametrize("other", ["opq", "magnitude"])
def test_sparsity_of_another_method_takes_the_place_of_macs(open_page: Open, other: str) -> None:
    app = open_page(budget=permalink.pack(Budget(method="geta", macs=0.7)))
    app.button_group(key="method").set_value(other).run()
    app.slider(key="ask sparsity").set_value(0.6).run()
    app.button_group(key="method").set_value("geta").run()
    assert errors(app) == []
    assert draft_asks(app) == {"sparsity": 0.6, "macs": None, "bops": None}


def draft_asks(app: AppTest) -> dict[str, float | None]:
    """How much the draft removes, said in three ways."""
    draft: Budget = app.session_state["draft"]
    values = methods.get(draft.method).values(draft)
    return {name: values[name] for name in ("sparsity", "macs", "bops")}


def bad_words() -> list[str]:
    good = permalink.pack(Budget(layers={"conv1": {"weight_bits": [3, 5]}}))
    bomb = base64.urlsafe_b64encode(zlib.compress(b" " * 10**8)).decode()
    wrong = [
        {"layers": {"conv1": {"weight_bits": [9, 5]}}},
        {"weights": "/etc/passwd"},
        {"model": "resnet20"},
        {"nope": 1},
        {"options": {"nope": 1}},
        {"asks": {"sparsity": 0.99}},
        {"asks": {"weight_bits": [8, 4]}},
        {"asks": 5},
        {"method": "nosuch"},
        {"version": 3},
        {"epochs": 5000},
    ]
    old = [{"extras": {"weights": "/etc/passwd"}}, {"extras": {"nope": 1}}, {"options": {"nope": 1}}, {"extras": 3}]
    words = [{"version": 2, **fields} for fields in wrong] + [{"method": "geta", **fields} for fields in old]
    return [good[:-6], "x", "%%%", bomb, *map(packed, words)]


def packed(fields: Any) -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(fields).encode())).decode().rstrip("=")


def test_a_damaged_word_in_the_address_is_refused_in_one_line(open_page: Open) -> None:
    for word in bad_words():
        with pytest.raises(CompressionError) as refused:
            permalink.unpack(word)
        assert "\n" not in str(refused.value)
    app = open_page(budget=bad_words()[0])
    assert len(errors(app)) == 1
    assert word_of(app) == ""
    assert not app.button(key="start").disabled


@pytest.mark.parametrize(
    "budget",
    [
        Budget(sparsity=0.3, weight_bits=(3, 5), epochs=0.5, seed=-7, groups={"conv1": {"sparsity": [0.0, 0.25]}}),
        Budget(method="opq", sparsity=0.7, bits=3.5, lr=0.02, layers={"conv1": {"weight_bits": [3, 4]}}),
        Budget(method="ptq", sparsity=0.0, bits=5, weight_bits=(5, 5), activation_bits=(6, 6), options={"clip": "max"}),
    ],
)
def test_another_run_is_set_up_with_the_budget_of_this_one(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, budget: Budget
) -> None:
    app = open_page(**rerun.query(budget.to_dict()))
    assert errors(app) == []
    assert [element.value for element in app.warning] == []
    app.button(key="start")
    requested: list[Budget] = []

    def started(request: Budget) -> str:
        requested.append(request)
        raise CompressionError("only looked at")

    monkeypatch.setattr("app.runs.runlog.start", started)
    app.button(key="start").click().run()
    method = methods.get(budget.method)
    assert [method.complete(each) for each in requested] == [method.complete(draft.requested(budget))]
    assert method.values(requested[0]) == method.values(budget)


def test_the_links_beside_a_run_carry_its_budget(open_page: Open, tmp_path: Path) -> None:
    budget = Budget(sparsity=0.37, layers={"conv1": {"weight_bits": [5, 6]}})
    run = finished(tmp_path / "runs", budget=budget)
    app = open_page()
    app.switch_page("../pages/runs.py")
    app.query_params["run"] = run
    app.run()
    (link,) = (element for element in app.get("page_link") if element.proto.label == "Set up another run")
    (word,) = parse_qs(link.proto.query_string)["budget"]
    carried, method = permalink.unpack(word), methods.get("")
    assert (carried.layers, method.values(carried)) == (budget.to_dict()["layers"], method.values(budget))
    assert rerun.query(Budget(weights="elsewhere.safetensors").to_dict()) == {"model": "resnet8", "data": "mnist5k"}


@pytest.mark.parametrize("method", ["geta", "sequential"])
def test_the_sparsity_slider_ends_where_every_group_keeps_one_channel(open_page: Open, method: str) -> None:
    graph = catalog.traced(RESNET8).graph
    most = sum(group.units - 1 for group in graph.prunable) / graph.prunable_units
    app = open_page(method=method, sparsity="0.98")
    slider = app.slider(key="ask sparsity")
    assert slider.max == math.floor(100 * most) / 100
    assert slider.value == slider.max
    assert errors(app) == []
    assert any(f"At most {100 * slider.max:g} % here" in element.value for element in app.caption)
    assert max(option for option in app.button_group(key="sweep_sparsity").options if "%" in option) == "90 %"


def test_the_sparsity_slider_follows_the_bounds_of_groups(open_page: Open) -> None:
    groups = {group.id: group.units for group in catalog.traced(RESNET8).graph.prunable}
    bounds = {name: {"sparsity": [0.0, 0.25]} for name in groups}
    app = open_page(budget=permalink.pack(Budget(groups=bounds)))
    most = sum(math.floor(0.25 * units) for units in groups.values()) / sum(groups.values())
    assert app.slider(key="ask sparsity").max == math.floor(100 * most) / 100
    assert app.slider(key="ask sparsity").value <= most
    assert errors(app) == []
    none = open_page(budget=permalink.pack(Budget(groups={name: {"sparsity": [0.0, 0.0]} for name in groups})))
    assert (none.slider(key="ask sparsity").value, none.slider(key="ask sparsity").disabled) == (0.0, True)
    assert figures(none)["Channels removed"] == "0"
    assert errors(none) == []


def test_the_slider_of_a_group_moves_by_whole_channels(open_page: Open) -> None:
    app = open_page(part="Layers")
    units = {group.id: group.units for group in catalog.traced(RESNET8).graph.prunable}
    for name, count in units.items():
        slider = app.slider(key=f"bound groups {name} sparsity")
        assert (slider.min, slider.max, slider.step) == (0.0, (count - 1) / count, 1 / count)
    key = "bound groups conv1 sparsity"
    most = app.slider(key=key).max
    app.slider(key=key).set_value((most, most)).run()
    assert errors(app) == []
    assert figures(app)["Channels removed"] == "56"


def test_shares_of_layers_narrow_the_slider_of_single_weights() -> None:
    graph = catalog.traced(RESNET8).graph
    sizes = {layer.name: math.prod(layer.shape) for layer in graph.layers}
    room = reach(graph, {}, {"linear": {"sparsity": 0.5}, "conv1": {"weight_bits": [3, 4]}}, structured=False)
    held = sizes["linear"] / 2
    assert room.least == pytest.approx(held / sum(sizes.values()))
    rest = sum(sizes.values()) - sizes["linear"]
    assert room.most == pytest.approx((held + 0.98 * rest) / sum(sizes.values()))
    everything = reach(graph, {}, {name: {"sparsity": 0.3} for name in sizes}, structured=False)
    assert everything.ends == (0.3, 0.3)


class Scanned:
    """A scan in which any change of channels costs too much, and weights of 4 bits cost nothing."""

    def __init__(self, dense: float = 0.9) -> None:
        graph = catalog.traced(RESNET8).graph
        self.layers = [layer.name for layer in graph.layers]
        self.groups = [group.id for group in graph.prunable]
        bits = [("bits", name, b, 100, 0.5 if b < 4 else dense) for name in self.layers for b in (2, 3, 4, 6, 8)]
        units = [("units", group.id, s, group.units, 0.2) for group in graph.prunable for s in (0.3, 0.5, 0.7, 0.9)]
        names = ("kind", "name", "value", "size", "score")
        rows = [dict(zip(names, row, strict=True)) for row in (*bits, *units)]
        self.table = {"structured": True, "dense": dense, "images": 100, "rows": rows}


def test_use_as_budget_never_switches_pruning_off(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Scanned()
    monkeypatch.setattr("app.model.studyview.show", lambda *given: given[-1](scan.table))
    app = open_page(part="Sensitivity")
    before = figures(app)
    assert (app.checkbox(key="use_bits").value, app.checkbox(key="use_channels").value) == (True, False)
    app.button(key="use_scan").click().run()
    assert app.session_state["draft"].groups == {}
    assert app.session_state["draft"].layers == {name: {"weight_bits": [4, 8]} for name in scan.layers}
    assert app.slider(key="ask sparsity").value == 0.5
    bounded = used(app)
    assert numbers(bounded) == [10], "layers"
    app.checkbox(key="use_channels").set_value(True).run()
    app.button(key="use_scan").click().run()
    assert app.session_state["draft"].groups == {}
    assert app.slider(key="ask sparsity").value == 0.5
    parts = used(app).split("; ")
    assert parts[0] == bounded.removesuffix(".")
    assert len(parts) == 2 and numbers(parts[1]) == [], "a word on the groups, of which none is bounded"
    for row in scan.table["rows"]:
        row["score"] = 0.9 if row["value"] == 0.3 else row["score"]
    app.button(key="use_scan").click().run()
    assert set(app.session_state["draft"].groups) == set(scan.groups)
    assert app.slider(key="ask sparsity").value < 0.5
    ask, groups = methods.get("geta").ask("--sparsity"), catalog.traced(RESNET8).graph.prunable
    share = sum(math.floor(0.3 * group.units) for group in groups) / sum(group.units for group in groups)
    assert f" {ask.words(0.5)} to " in used(app)
    assert numbers(used(app)) == [10, len(groups), 50, pytest.approx(100 * share, abs=0.02)]
    app.button(key="undo_scan").click().run()
    assert app.session_state["draft"].groups == {}
    assert app.slider(key="ask sparsity").value == 0.5
    assert figures(app) == before
    assert errors(app) == []
