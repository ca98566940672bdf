"""What the channels of a layer make of a picture, in the original and in the compressed model."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from app import nav
from compression import zoo
from compression.errors import CompressionError
from compression.explain import features, own_image
from compression.explain.models import Pair, pair
from compression.graph import Graph, trace
from compression.plots import features as figures
from compression.runs.folder import RunFolder
from tests.served import settled, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RUN = nav.ROOT / "assets" / "gallery" / "resnet8-mnist5k" / "geta"
UNITS = json.loads((RUN / "result.json").read_text(encoding="utf-8"))["units"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("runs") / "geta"
    shutil.copytree(RUN, folder)
    return pair(RunFolder(folder))


@pytest.fixture(scope="module")
def graph(both: Pair) -> Graph:
    return trace(both.dense, zoo.example("resnet8"))


def image(both: Pair) -> torch.Tensor:
    return own_image.as_input(both.data.split("test").take(torch.tensor([5]))[0][0].numpy(), both)


def test_every_channel_is_that_of_the_same_number_and_removed_ones_are_missing(both: Pair, graph: Graph) -> None:
    assert features.offered(graph, both) == [layer.name for layer in graph.layers if layer.name != "linear"]
    x = image(both)
    maps = features.features(both, graph, UNITS, "conv1", x)
    assert np.nonzero(maps.removed)[0].tolist() == UNITS["conv1"] == [3, 6, 7]
    conv = both.dense.get_submodule("conv1")
    assert isinstance(conv, nn.Conv2d)
    # by hand: one filter after the other over the padded picture
    padded = np.pad(x[0, 0].double().numpy(), 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    for channel, kernel in enumerate(conv.weight[:, 0].detach().double().numpy()):
        assert maps.dense[channel] == pytest.approx((windows * kernel).sum((-1, -2)), abs=1e-4)
    small = both.small.get_submodule("conv1")
    assert isinstance(small, nn.Conv2d)
    with torch.no_grad():
        remaining = small(x)[0].numpy()
    assert (maps.small[~maps.removed] == remaining).all()
    assert np.isnan(maps.small[maps.removed]).all()
    # a layer in the middle: its group is that of two layers which are added
    tied = features.features(both, graph, UNITS, "layer2.0.shortcut.0", x)
    assert np.nonzero(tied.removed)[0].tolist() == UNITS["layer2.0.conv2"]


def test_what_does_not_fit_the_result_is_refused(both: Pair, graph: Graph) -> None:
    with pytest.raises(CompressionError, match="has other channels than the result says"):
        features.features(both, graph, {**UNITS, "conv1": [0]}, "conv1", image(both))


def test_tiles_hold_both_maps_of_each_channel_on_its_own_scale() -> None:
    dense = np.stack([np.full((4, 4), 2.0), np.full((4, 4), -8.0), np.zeros((4, 4))])
    small = np.stack([np.full((4, 4), 4.0), np.full((4, 4), np.nan), np.zeros((4, 4))])
    info = figures.features_info("a", dense, small, np.array([False, True, False]))
    assert [list(row.values()) for row in info.rows] == [[0, "no", 100.0], [1, "yes", None], [2, "no", None]]
    sheet, crosses = figures.features_figure(info).data
    z, text = np.array(sheet.z, dtype=float), np.array(sheet.text)
    values = [
        {float(v) for v in z[text == t] if not np.isnan(v)} for t in ("channel 0", "channel 1, removed", "channel 2")
    ]
    assert values == [{0.5, 1.0}, {-1.0}, {0.0}]
    assert len(crosses.x) == 1
    many = np.ones((100, 40, 50))
    large = figures.features_info("a", many, many, np.zeros(100, dtype=bool))
    assert (large.channels, large.dense.shape) == (100, (64, 20, 25))


def test_the_page_opens_a_layer(browser: Browser, address: str) -> None:
    with tab(browser) as page:
        page.goto(f"{address}/explain?run=gallery.resnet8-mnist5k.geta&group=layer2.0.conv1")
        settled(page, "explain")
        page.get_by_text("What its channels see").click()
        page.get_by_text("Outputs of layer2.0.conv1 for test image").wait_for()
        drawn = page.locator(".st-key-features .js-plotly-plot")
        drawn.wait_for()
        page.locator(".st-key-features_fold").wait_for()
        settled(page, "explain")
        assert page.evaluate("node => node.data[1].x.length", drawn.element_handle()) == len(UNITS["layer2.0.conv1"])
