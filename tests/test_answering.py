"""Regions of pictures before both models of a run, against their answers computed here with numpy; the Explain page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from app import nav
from compression import data
from compression.budget import Budget
from compression.errors import CompressionError
from compression.explain import answering
from compression.export.source import read
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.tasks.segmentation import TINT, tinted

VOC = (
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
    (64, 0, 0), (192, 0, 0), (64, 128, 0),
)  # fmt: skip
"""Colours of the first classes in PASCAL VOC."""


def finished(root: Path, model: str, dataset: str) -> RunFolder:
    """A run without training from the weights that are shipped, at few bits, so that the two models differ."""
    budget = Budget(method="ptq", model=model, data=dataset, bits=(3, 3)).to_dict()
    folder = RunFolder.create(root, {"id": model, "budget": budget, "created": 0.0})
    assert carry_out(folder, execute) == "done", folder.log_path.read_text()
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs") / "runs"


@pytest.fixture(scope="module")
def picture(root: Path) -> RunFolder:
    return finished(root, "siren", "picture:chelsea")


@pytest.fixture(scope="module")
def masks(root: Path) -> RunFolder:
    return finished(root, "unet_small", "digit-masks")


@torch.no_grad()
def test_a_region_of_a_picture_is_what_the_networks_answer_there(picture: RunFolder) -> None:
    whole = answering.whole(answering.answering(picture))
    source = read(picture)
    height, width = whole.size
    assert source.data.size == (height, width)
    part = whole.region(20, 30, 16)
    columns, rows = np.meshgrid(np.arange(30, 46), np.arange(20, 36))
    longer = max(height, width)
    places = np.stack([(2 * columns + 1 - width) / longer, (2 * rows + 1 - height) / longer], 2).reshape(-1, 2)
    for model, shown in ((source.dense, part.dense), (source.model, part.small)):
        colours = model.eval()(torch.tensor(places, dtype=torch.float32)).numpy().reshape(16, 16, 3)
        levels = np.clip((colours + 1) * 127.5, 0, 255)
        assert np.abs(levels - shown).max() <= 0.51, "rounded to 8 bits"
    expected = np.abs(part.dense.astype(int) - part.small.astype(int)).max(2)
    assert (part.levels == expected).all() and expected.max() > 0
    assert part.difference.max() == 255
    assert (part.difference[expected == expected.max()] == 255).all()


def test_a_region_never_leaves_the_picture(picture: RunFolder) -> None:
    whole = answering.whole(answering.answering(picture))
    height, width = whole.size
    corner = whole.region(10_000, -5, 16)
    assert (corner.truth == whole.truth[height - 16 :, :16]).all()
    assert whole.region(0, 0, 10_000).size == (height, width)


@torch.no_grad()
def test_segmentation_shows_a_test_image_by_its_classes(masks: RunFolder) -> None:
    both, source = answering.answering(masks), read(masks)
    whole = answering.whole(both, 5)
    pixels, truth = source.data.test.images[5], source.data.test.labels[5].numpy()
    mean, std = source.data.mean[0], source.data.std[0]
    batch = ((pixels.float() / 255 - mean) / std)[None]
    dense, small = (model.eval()(batch)[0].argmax(0).numpy() for model in (source.dense, source.model))
    assert (whole.levels == (dense != small)).all()
    assert whole.changed == pytest.approx(float((dense != small).mean()))
    grey = np.repeat(pixels.numpy().mean(0)[..., None], 3, 2)
    none = (truth == 0) | (truth == 255)
    tint = (1 - TINT) * grey + TINT * np.array(VOC)[np.where(none, 0, truth)]
    assert np.abs(whole.truth - np.where(none[..., None], grey, tint)).max() <= 0.51, "rounded to 8 bits"
    with pytest.raises(CompressionError, match="no test image"):
        answering.whole(both, len(source.data.test))


def test_a_tint_is_that_share_of_the_colour_of_the_class() -> None:
    shown = tinted(torch.full((1, 1, 1, 2), 100, dtype=torch.uint8), torch.tensor([[[1, 0]]]), 3)
    assert shown[0, 0, 0].tolist() == [round(100 * (1 - TINT) + 128 * TINT), *[round(100 * (1 - TINT))] * 2]
    assert shown[0, 0, 1].tolist() == [100] * 3


def test_which_question_suits_which_data() -> None:
    questions = [("sst2", "sentence"), ("picture:chelsea", "region"), ("digit-masks", "region"), ("mnist5k", "")]
    for name, question in [*questions, ("digit-boxes", "")]:
        assert answering.offered(data.kind(name), data.task(name)) == question


def page(root: Path, monkeypatch: pytest.MonkeyPatch, run: str) -> AppTest:
    monkeypatch.chdir(root.parent)
    app = AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=240)
    app.switch_page("../pages/explain.py")
    app.query_params["run"] = run
    app.run()
    assert not app.exception and not app.error
    return app


@pytest.mark.parametrize("name", ["picture", "masks"])
def test_the_page_shows_the_region_that_is_picked(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    app = page(root, monkeypatch, folder.id)
    shown = [image.caption for element in app.get("image") for image in element.proto.imgs]
    assert shown[:4] == ["ground truth", "original", "compressed", "difference"]
    app.slider(key="region").set_value(16).run()
    assert not app.exception and not app.error
    app.slider(key="left 16").set_value(0).run()
    part = answering.whole(answering.answering(folder)).region(app.slider(key="top 16").value, 0, 16)
    figure = f"{part.levels.mean():.1f}" if name == "picture" else f"{100 * part.changed:.1f} %"
    assert figure in " ".join(each.value for each in app.markdown)


def test_a_run_of_the_gallery_without_its_model_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(root, monkeypatch, "gallery.siren-chelsea.opq-w4-s50")
    assert ["to ask" in info.value for info in app.info] == [True]
