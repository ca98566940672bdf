"""Copied links: what a page shows by its own fields stands in the address and opens again in a new session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opened import Open
from opened import errors
from written import finished

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
