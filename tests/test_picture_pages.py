"""The pages of a network that is a picture, also where its files are damaged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opened import Open, errors

from app.gallery import gallery
from compression.budget import Budget
from compression.runs.store import Store

RUN, OTHER = "gallery.siren-chelsea.opq-w5-s30", "gallery.siren-chelsea.geta-w4-s50"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder in which nothing starts by itself: there is no slot."""
    created = Store(tmp_path / "runs", slots=0)
    monkeypatch.setattr("app.runs.runlog.store", lambda: created)
    return created.root


def test_a_finished_run_shows_its_picture_beside_the_original(open_page: Open, root: Path) -> None:
    app = open_page("runs", run=RUN)
    assert errors(app) == []
    assert len(app.get("image")) == 2
    final = gallery.find(RUN).final
    assert final is not None
    assert f"{final['psnr']:.1f} dB" in [metric.value for metric in app.metric]
    app = open_page("compare", run=RUN, other=OTHER, model="siren", data="picture:chelsea", gallery="yes")
    assert errors(app) == []


def drawn(app: Any) -> list[str]:
    """The addresses of the pictures on a page, which are those of their content."""
    return [image.proto.imgs[0].url for image in app.get("image")]


def test_the_slider_draws_the_picture_anew(open_page: Open, root: Path) -> None:
    app = open_page("budget", model="siren", data="picture:chelsea", method="OPQ")
    assert errors(app) == []
    original, allocated = drawn(app)
    assert original != allocated
    app.slider(key="ask bits").set_value(8.0).run()
    assert errors(app) == []
    assert drawn(app)[0] == original
    assert drawn(app)[1] not in (original, allocated)
    app = open_page("budget", model="siren", data="picture:chelsea", method="GETA")
    assert errors(app) == []
    assert len(app.get("image")) == 0, "what training decides cannot be drawn before"


def test_boxes_and_passages_are_shown(open_page: Open, root: Path) -> None:
    app = open_page("model", model="detector_tiny", data="digit-boxes")
    app.session_state["examples_fold"] = True
    app.run()
    assert errors(app) == []
    assert len(drawn(app)) == 1
    app = open_page("model", model="causal_tiny", data="text:python-docs")
    app.session_state["examples_fold"] = True
    app.run()
    assert errors(app) == []
    passages = next(frame.value for frame in app.dataframe if "passage" in frame.value.columns)
    assert passages["passage"].iloc[0].startswith('The "assert"')
    assert app.metric[0].label == "Test perplexity"


def test_masks_are_shown_on_their_images(open_page: Open, root: Path) -> None:
    app = open_page("model", model="unet_small", data="digit-masks", open="examples_fold")
    assert errors(app) == []
    app.session_state["examples_fold"] = True
    app.run()
    assert errors(app) == []
    (sheet,) = drawn(app)
    assert "Input" in [metric.label for metric in app.metric]
    app = open_page("budget", model="unet_small", data="digit-masks", method="OPQ")
    assert errors(app) == []
    assert drawn(app) == []
    app = open_page("explain", model="unet_small", data="digit-masks")
    assert errors(app) == []
    assert sheet


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_damaged_picture_is_a_line_not_an_exception(
    content: bytes, open_page: Open, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    copy = tmp_path / "gallery"
    shutil.copytree(gallery.ROOT / "siren-chelsea", copy / "siren-chelsea")
    last = max((copy / "siren-chelsea" / "opq-w5-s30" / "pictures").glob("[0-9]*.png"))
    last.write_bytes(content)
    from app.runs import pictureview

    drawn: list[str] = []
    monkeypatch.setattr("app.widgets.problem", lambda error: drawn.append(str(error)))
    run = SimpleNamespace(pictures=last.parent, budget=lambda: Budget(model="siren", data="picture:chelsea"))
    monkeypatch.setattr("app.runs.pictureview.runlog.folder", lambda _: run)
    pictureview.compare([("it", RUN)])
    assert len(drawn) == 1
    assert last.name in drawn[0]
