"""Copied links: what a page shows by its own fields stands in the address and opens again in a new session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opened import Open, errors
from written import DENSE, begun, finished

from app import names
from compression.budget import Budget

RUN = "gallery.resnet8-mnist5k.geta-activations"


def element(app: Any, key: str) -> Any:
    return next(e for e in (*app.selectbox, *app.button_group, *app.toggle, *app.text_input) if e.key == key)


def charts(app: Any) -> list[str]:
    return [element.proto.spec for element in app.get("plotly_chart")]


@pytest.mark.parametrize(
    ("page", "key", "value", "label", "query"),
    [
        ("model", "area", "macs", "MACs", {}),
        ("groups", "overlay", "MACs", "MACs", {}),
        ("groups", "graph_search", "layer2", "layer2", {}),
        ("runs", "bits_kind", "activation", "activation", {"run": RUN}),
        ("compare", "cost", "macs", "MACs", {"run": RUN}),
        ("compare", "layer_measure", "bits", "Bits", {"run": RUN}),
    ],
)
def test_a_link_opens_the_same_view(
    open_page: Open, page: str, key: str, value: str, label: str, query: dict[str, str]
) -> None:
    """The browser writes what is chosen into the address, by its label; here it is read from there."""
    first = open_page(page, **query)
    before = charts(first)
    assert element(first, key).value != value
    element(first, key).set_value(value).run()
    again = open_page(page, **query, **{key: label})
    assert errors(again) == []
    assert element(again, key).value == value
    assert charts(again) == charts(first) != before


@pytest.mark.parametrize(("own", "shown"), [(True, "true"), (False, "false"), (True, "false")])
def test_a_link_says_whether_the_gallery_is_shown(open_page: Open, tmp_path: Path, own: bool, shown: str) -> None:
    if own:
        finished(tmp_path / "runs")
    app = open_page("compare", gallery_shown=shown)
    assert element(app, "gallery_shown").value == (shown == "true")
    wrong = open_page("compare", cost="nosuch", loss="1000", layer_measure="x")
    assert errors(wrong) == []


@pytest.mark.parametrize(
    ("page", "run"),
    [*((page, "zzz") for page in ("runs", "compare", "explain", "export", "learn")), ("export", "gallery.nosuch.run")],
)
def test_an_unknown_run_gets_the_same_line_everywhere_and_no_other_is_shown(
    open_page: Open, tmp_path: Path, page: str, run: str
) -> None:
    known = finished(tmp_path / "runs")
    app = open_page(page, run=run)
    (line,) = errors(app)
    assert line.startswith(f"No run {run!r}")
    assert app.session_state["at_run"] in ("", run)
    if page in ("explain", "export"):
        assert app.selectbox(key=f"{page}_run").value == ""
        assert not app.metric
        assert not app.get("plotly_chart")
        app.selectbox(key=f"{page}_run").set_value(RUN).run()
        assert app.session_state["at_run"] == RUN
    assert known not in [app.query_params.get("run")]


@pytest.mark.parametrize("page", ["explain", "export"])
def test_a_run_that_is_several_or_not_finished_is_not_replaced(open_page: Open, tmp_path: Path, page: str) -> None:
    finished(tmp_path / "runs")
    failed = begun(tmp_path / "runs", Budget(seed=1), DENSE, state="failed", error="no").id
    for run, reason in ((failed, "is not finished (failed)"), ("gallery.resnet8-mnist5k.opq", "is a sweep")):
        app = open_page(page, run=run)
        assert len(errors(app)) == 1
        assert reason in errors(app)[0]
        assert app.selectbox(key=f"{page}_run").value == ""


def test_an_unknown_second_run_group_or_weights_are_reported(open_page: Open, tmp_path: Path) -> None:
    finished(tmp_path / "runs")
    assert errors(open_page("compare", other="zzz")) == ["No run 'zzz'."]
    for page in ("groups", "budget"):
        app = open_page(page, group="zzz")
        assert errors(app) == [f"No group 'zzz' in {names.model_label('resnet8')}."]
        assert app.session_state["at_group"] == ""
    (line,) = errors(open_page("budget", weights="zzz"))
    assert "zzz" in line


def test_a_group_of_the_model_before_is_forgotten(open_page: Open) -> None:
    app = open_page("groups", group="layer3.0.conv2")
    app.query_params.update(model="resnet20", data="cifar10")
    app.query_params.pop("group")
    app.run()
    assert errors(app) == []
    assert app.session_state["at_group"] == ""
