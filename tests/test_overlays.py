"""Overlays of the Groups page: the colours are those of the library's own numbers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from opened import Open, errors, opener
from plotly.colors import sample_colorscale
from scipy.stats import spearmanr
from streamlit.testing.v1 import AppTest

from app import nav
from app.groups import grouping, placement
from app.model import catalog
from compression import runs
from compression.jobs import studies
from compression.plots import graph as figures
from compression.plots import placing, theme
from compression.plots.overlay import Overlay
from tests.waiting import PATIENCE

GALLERY = nav.ROOT / "assets" / "gallery" / "resnet8-mnist5k" / "geta"
RUN = "gallery.resnet8-mnist5k.geta"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open the Groups page; keywords go into the address."""
    return partial(opener(tmp_path / "runs", monkeypatch), "groups")


def shown(app: AppTest, name: str) -> dict[str, float]:
    """Layer → value, as the table of the chosen overlay lists them."""
    app.session_state["overlay_fold"] = True
    app.selectbox(key="overlay").set_value(name).run()
    assert not app.exception, app.exception
    assert errors(app) == []
    frame = next(f.value for f in app.dataframe if list(f.value.columns)[:1] == ["layer"])
    return dict(zip(frame["layer"], frame[frame.columns[1]], strict=True))


def test_colours_follow_the_values_and_what_is_unknown_is_muted() -> None:
    overlay = Overlay("bits", "", {"a": 2.0, "b": 16.0, "c": 9.0, "d": 99.0}, 2.0, 16.0, theme.BITS_SCALE)
    expected = sample_colorscale(theme.BITS_SCALE, [0.0, 1.0, 0.5, 1.0])
    assert [overlay.color(name) for name in "abcd"] == expected
    assert overlay.color("e") == theme.FAINT
    subject = catalog.subject("resnet8", "mnist5k")
    traced = catalog.traced(subject)
    info = placing.graph_info(traced.plain, traced.node_groups, placement.place(traced.plain))
    macs = {layer.name: float(layer.macs) for layer in traced.graph.layers}
    drawn = figures.graph_figure(info, overlay=Overlay("MACs", "", macs, 0.0, max(macs.values())))
    colors = {
        data[0]: color
        for trace in drawn.data
        if trace.customdata is not None and not isinstance(trace.marker.color, str)
        for data, color in zip(trace.customdata, trace.marker.color, strict=True)
    }
    assert set(macs) <= set(colors)
    assert colors["conv1"] != colors["layer1.0.conv1"]
    assert colors["conv1"] == Overlay("", "", macs, 0.0, max(macs.values())).color("conv1")


def test_modules_show_the_sum_of_parts_and_the_mean_of_others() -> None:
    values = {"a.x": 10.0, "a.y.z": 30.0, "ab": 60.0}
    shares = Overlay("parameters", " %", values, 0.0, 60.0, adds=True)
    assert [shares.value(f"module:{path}") for path in ("a", "a#2", "a.y", "ab", "b")] == [40, 40, 30, 60, None]
    bits = Overlay("bits", " bits", values, 0.0, 60.0)
    assert bits.value("module:a") == 20
    assert "mean" in bits.sentence("module:a")
    assert "mean" not in bits.sentence("ab") + shares.sentence("module:a")
    assert shares.fitted(["module:a", "ab"]).high == 60
    assert Overlay("", "", values, 0.0, 30.0, adds=True).fitted(["module:a"]).high == 40
    traced = catalog.traced(catalog.subject("resnet8", "mnist5k"))
    parts = {layer.name: float(layer.macs) for layer in traced.graph.layers}
    placed = placement.place(traced.plain, grouping.Level(1))
    info = placing.graph_info(traced.plain, traced.node_groups, placed)
    drawn = figures.graph_figure(info, overlay=Overlay("MACs", "", parts, 0.0, 1.0, adds=True))
    texts = " ".join(text for trace in drawn.data if trace.hovertext is not None for text in trace.hovertext)
    whole = sum(value for name, value in parts.items() if name.startswith("layer1."))
    assert f"MACs: {whole:,.4g}" in texts


def test_each_overlay_shows_the_numbers_of_its_source(page: Open, tmp_path: Path) -> None:
    app = page(run=RUN)
    graph = catalog.traced(catalog.subject("resnet8", "mnist5k")).graph
    total = sum(layer.macs for layer in graph.layers)
    for layer, value in shown(app, "MACs").items():
        assert value == pytest.approx(100 * next(x.macs for x in graph.layers if x.name == layer) / total, abs=0.06)
    result = json.loads((GALLERY / "result.json").read_text(encoding="utf-8"))
    bits = {layer: entry["weight"] for layer, entry in result["final"]["bits"].items()}
    assert shown(app, "bits of the run") == bits
    removed = shown(app, "sparsity of the run")
    units = {group.id: group.units for group in graph.prunable}
    owners = catalog.traced(catalog.subject("resnet8", "mnist5k")).group_of_layer
    counted = {owners[layer]: value * units[owners[layer]] / 100 for layer, value in removed.items()}
    assert sum(counted.values()) == pytest.approx(result["final"]["unit_sparsity"] * sum(units.values()), abs=0.01)
    requested = shown(app, "sparsity asked on Budget")
    assert all(45 <= value <= 55 for value in requested.values()), "the default draft: half of the units, evenly"
    assert set(shown(app, "bits asked on Budget").values()) == {8}


def test_without_a_run_its_overlays_are_not_offered(page: Open, tmp_path: Path) -> None:
    app = page()
    assert not [name for name in app.selectbox(key="overlay").options if "run" in name]


def test_saliency_of_each_criterion_and_their_agreement_as_colour(page: Open, tmp_path: Path) -> None:
    app = page()
    app.selectbox(key="overlay").set_value("saliency: taylor").run()
    app.button(key="begin saliency").click().run()
    assert errors(app) == []
    (folder,) = (tmp_path / "runs" / studies.FOLDER).glob("saliency-*/")
    result = runs.wait(folder.name, folder.parent, timeout=PATIENCE)
    scores = {row["group"]: {c: np.array(v) for c, v in row["scores"].items()} for row in result["rows"]}
    owners = catalog.traced(catalog.subject("resnet8", "mnist5k")).group_of_layer
    app = page()
    for name, criterion in (("taylor", "taylor"), ("gradient × activation", "gradient_activation")):
        mean = np.concatenate([by_criterion[criterion] for by_criterion in scores.values()]).mean()
        for layer, value in shown(app, f"saliency: {name}").items():
            assert value == pytest.approx(scores[owners[layer]][criterion].mean() / mean, rel=2e-3)
    agreed = shown(app, "agreement of the criteria")
    assert set(agreed) == {layer for layer, group in owners.items() if group in scores}
    for layer, value in agreed.items():
        table = np.array([scores[owners[layer]][name] for name in result["criteria"]])
        assert value == pytest.approx(spearmanr(table.T).statistic[np.triu_indices(4, 1)].mean(), abs=1e-3)


def test_saliency_is_offered_for_images_only(page: Open, tmp_path: Path) -> None:
    app = page(model="resnet8", data="none")
    assert not [name for name in app.selectbox(key="overlay").options if "saliency" in name or "agree" in name]
