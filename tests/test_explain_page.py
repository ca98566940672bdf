"""The Explain page without a browser: empty, with a finished run before and after its job, with something missing."""

from __future__ import annotations

import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened import Open, errors, numbers, opener, page_text, targets

import compression as cx
from app import names, nav
from app.explain import explained, explainview, explainwords, similarity_view
from compression.explain import METHODS, stored
from compression.explain.measures import MEASURES
from compression.jobs import explain_run
from compression.plots import similarity, tiles
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from tests.waiting import ended

SECONDS = 60


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run whose activations are quantized, with its explanations."""
    root = tmp_path_factory.mktemp("finished")
    fields = {"method": "geta", "sparsity": 0.4, "weight_bits": [3, 6], "activation_bits": [6, 8]}
    budget = {**cx.Budget(epochs=0.3, precision="fp32").to_dict(), **fields}
    run = RunFolder.create(root, {"id": "both", "budget": budget, "created": 0.0})
    assert carry_out(run, execute) == "done", run.log_path.read_text()
    assert explain_run.main([str(run.path), "--images", "4"]) == 0
    return run


@pytest.fixture
def run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of it in the runs folder of the page, whose job has not been started."""
    folder = RunFolder(tmp_path / "runs" / "both")
    shutil.copytree(finished.path, folder.path)
    shutil.rmtree(stored.folder_of(folder))
    return folder


@pytest.fixture
def explained_run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of it with all that its job left."""
    folder = RunFolder(tmp_path / "runs" / "both")
    shutil.copytree(finished.path, folder.path)
    return folder


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open the Explain page; keywords go into the address."""
    return partial(opener(tmp_path / "runs", monkeypatch), "explain")


def test_no_runs_offers_the_next_click(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.gallery.gallery.ROOT", tmp_path / "none")
    app = open_page()
    assert app.title[0].value == nav.PAGES["explain"].question
    assert targets(app) == [""], "to Start"
    assert app.get("plotly_chart") == []
    assert errors(app) == []


def test_a_run_is_explained_at_once_and_the_job_offered(open_page: Open, run: RunFolder) -> None:
    app = open_page(run=run.id)
    assert errors(app) == []
    assert len(app.get("plotly_chart")) == 6
    assert "Straight-through gradients" in page_text(app)
    scale = {"against itself", "random weights", "another image"}
    assert scale <= set(re.findall(r"\*\*(.+?)\*\*", page_text(app))), "ceiling and floors are named"
    assert app.button(key="start_scores").label == "Measure it"
    assert not stored.folder_of(run).exists(), "looking changes nothing"


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_is_drawn_or_offered(open_page: Open, run: RunFolder, method: str) -> None:
    app = open_page(run=run.id, attribution=METHODS[method].label, tiles="12")
    assert errors(app) == []
    assert explainwords.METHODS[method].short in page_text(app)
    assert len(app.get("plotly_chart")) == (0 if METHODS[method].heavy else 12)
    assert bool([button for button in app.button if button.key == "start_maps"]) == METHODS[method].heavy
    assert ("Straight-through" in page_text(app)) == METHODS[method].gradient


@pytest.mark.parametrize("method", list(METHODS))
def test_after_the_job_everything_is_drawn(open_page: Open, explained_run: RunFolder, method: str) -> None:
    app = open_page(run=explained_run.id, attribution=METHODS[method].label, alike="SSIM")
    assert errors(app) == []
    assert len(app.get("plotly_chart")) == 6 + 1
    comparison = stored.comparison(explained_run)
    assert comparison is not None
    labels = {name: each.label for name, each in METHODS.items()}
    name = explainwords.MEASURE_LABELS["ssim"]
    text = page_text(app).split("\n")
    assert similarity.alike_info(comparison.scores, labels, ("ssim", name), "geta").sentence in text
    notes = similarity_view.notes(comparison)
    assert set(notes) <= set(text)
    assert numbers(notes[0])[:3] == [4, 0, comparison.changed], "images, seed, changed answers"
    assert "straight-through" in notes[1]


def test_the_job_is_started_watched_and_cancelled(open_page: Open, run: RunFolder) -> None:
    app = open_page(run=run.id)
    app.button(key="start_scores").click().run()
    assert not app.exception
    assert explain_run.status(run).state == explain_run.RUNNING
    assert app.button(key="cancel_explain").label == "Cancel"
    app.button(key="cancel_explain").click().run()
    assert not app.exception
    assert explain_run.status(run).state == explain_run.CANCELLED
    assert "was cancelled" in page_text(open_page(run=run.id))


def test_a_job_that_failed_says_why_and_can_be_started_again(open_page: Open, run: RunFolder) -> None:
    explain_run.start(run, command=[sys.executable, "-c", "import os; os.abort()"])
    ended(lambda: explain_run.status(run), explain_run.FAILED)
    app = open_page(run=run.id)
    assert "ended without a word" in errors(app)[0]
    assert app.button(key="start_scores")


def test_a_run_without_its_weights_says_so(open_page: Open, run: RunFolder) -> None:
    (run.bundle / "weights.packed").unlink()
    app = open_page(run=run.id)
    assert "no packed weights" in errors(app)[0]
    assert len(app.get("page_link")) == 2


def test_a_run_without_its_data_says_so_and_downloads_nothing(
    open_page: Open, run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = run.spec_path.read_text()
    run.spec_path.write_text(text.replace('"mnist5k"', '"fashion-mnist"'))
    monkeypatch.delenv("COMPRESSION_DATA", raising=False)
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path / "cache"))
    app = open_page(run=run.id)
    assert f"images of {names.data_label('fashion-mnist')} are not on this machine" in errors(app)[0]
    assert not (tmp_path / "cache").exists()


def test_code_nobody_named_is_not_run(open_page: Open, run: RunFolder, tmp_path: Path) -> None:
    trap, mark = tmp_path / "own.py", tmp_path / "ran"
    trap.write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\ndef make(): ...\n")
    run.spec_path.write_text(run.spec_path.read_text().replace('"resnet8"', f'"{trap}:make"'))
    app = open_page(run=run.id)
    assert "code of its own" in errors(app)[0]
    assert not mark.exists()


def test_damaged_files_are_reported_in_one_line(open_page: Open, explained_run: RunFolder) -> None:
    (stored.folder_of(explained_run) / "maps.safetensors").write_bytes(b"no")
    app = open_page(run=explained_run.id)
    assert len(errors(app)) == 1
    assert "measure again" in errors(app)[0]
    assert len(app.get("plotly_chart")) == 1, "the scores are still there"
    path = explained_run.bundle / "weights.packed"
    path.write_bytes(path.read_bytes()[:-1])
    assert len(errors(open_page(run=explained_run.id))) == 1


def test_a_wrong_run_in_the_address_is_reported_and_none_is_picked(open_page: Open, run: RunFolder) -> None:
    app = open_page(run="../../etc")
    assert errors(app) == ["No run '../../etc'."]
    assert app.selectbox(key="explain_run").value == ""
    assert not app.get("plotly_chart")
    app.selectbox(key="explain_run").set_value(run.id).run()
    assert errors(app) == []
    assert app.get("plotly_chart")


def tile(dense: Any, small: Any, signed: bool = True, names: tuple[str, str, str] = ("7", "7", "1")) -> tiles.TileInfo:
    pixels = np.zeros((1, *np.shape(dense)), dtype=np.uint8)
    return tiles.tile_info(3, pixels, (np.array(dense), np.array(small)), signed, names, 0.5)


def test_both_maps_of_a_tile_share_one_scale() -> None:
    ramp = np.linspace(-1, 1, 64).reshape(8, 8)
    info = tile(ramp, 3 * ramp)
    figure = tiles.tile_figure(info)
    first, second = (trace for trace in figure.data if trace.type == "heatmap")
    assert (first.zmin, first.zmax) == (second.zmin, second.zmax) == (-1, 1)
    np.testing.assert_allclose(np.array(second.z), 3 * np.array(first.z), atol=2e-3)
    assert np.array(first.z)[0, 0] == pytest.approx(-1 / info.most, abs=1e-3)
    plain = next(
        trace for trace in tiles.tile_figure(tile(np.abs(ramp), np.abs(ramp), False)).data if trace.type == "heatmap"
    )
    assert (plain.zmin, plain.zmax) == (0, 1)
    assert tile(0 * ramp, 0 * ramp).most == 1.0


def test_the_copy_under_the_maps_has_no_colours_that_could_be_taken_for_theirs() -> None:
    import base64
    import io

    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8)).astype(np.uint8)
    info = tiles.tile_info(0, pixels, (np.eye(8), np.eye(8)), True, ("a", "a", "a"), 1.0)
    sources = [trace.source for trace in tiles.tile_figure(info).data if trace.type == "image"]
    drawn = [np.array(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))) for source in sources]
    assert np.array_equal(drawn[0], pixels.transpose(1, 2, 0))
    assert all(np.ptp(copy, axis=2).max() == 0 for copy in drawn[1:])
    np.testing.assert_allclose(drawn[1][..., 0], pixels.mean(0), atol=0.5)


def test_large_maps_are_averaged_before_they_are_drawn() -> None:
    values = np.arange(224 * 224, dtype=float).reshape(224, 224)
    info = tile(values, values)
    assert info.dense.shape == (56, 56)
    assert info.dense[0, 0] == pytest.approx(values[:4, :4].mean())
    heat = next(trace for trace in tiles.tile_figure(info).data if trace.type == "heatmap")
    assert heat.x0 + 55 * heat.dx == pytest.approx(221.5), "the last block lies over its own pixels"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("7", "7", "7"), "both say **7** (right)"),
        (("1", "7", "7"), "both say **7** (it is 1)"),
        (("7", "7", "1"), "**7** became **1** (the original was right)"),
        (("1", "7", "1"), "**7** became **1** (the compressed model is right)"),
        (("3", "7", "1"), "**7** became **1** (both wrong, it is 3)"),
    ],
)
def test_a_tile_says_who_is_right(names: tuple[str, str, str], expected: str) -> None:
    assert expected in explainview.title(tile(np.eye(8), np.eye(8), names=names))


def test_what_is_kept_lies_between_the_higher_floor_and_the_ceiling() -> None:
    values = {"compressed": [0.5, 0.7], "ceiling": [1.0, 0.8], "random": [0.1, 0.1], "shuffled": [0.3, 0.3]}
    low = {"compressed": [0.3, 0.3], "ceiling": [0.9, 0.9], "random": [0.1, 0.1], "shuffled": [0.3, 0.3]}
    info = similarity.alike_info({"a": {"m": values}, "b": {"m": low}}, {"a": "A", "b": "B"}, ("m", "M"), "geta")
    assert info.rows[0].retained == pytest.approx((0.6 - 0.3) / (0.9 - 0.3))
    assert info.rows[0].spread == pytest.approx(1.96 * np.std([0.5, 0.7], ddof=1) / np.sqrt(2))
    assert info.rows[1].retained == pytest.approx(0.0)
    assert numbers(info.sentence) == [50, 2], "of two images"
    assert re.findall(r"\*\*(.)\*\*", info.sentence) == ["A", "B"], "the most, then the least"
    assert [row["kept, %"] for row in info.table] == [50, 0]
    figure = similarity.alike_figure(info)
    drawn = {trace.name: list(trace.x) for trace in figure.data if trace.name}
    assert drawn["compressed model"] == pytest.approx([0.6, 0.3])
    assert drawn["ceiling: itself with invisible noise"] == pytest.approx([0.9, 0.9])


def test_scores_become_rows_and_every_term_is_explained(finished: RunFolder) -> None:
    comparison = stored.comparison(finished)
    assert comparison is not None
    rows = similarity_view.score_rows(comparison)
    assert len(rows) == len(METHODS) * len(MEASURES) * 4
    assert set(explainwords.METHODS) == set(METHODS)
    assert set(explainwords.MEASURES) == set(explainwords.MEASURE_LABELS) == set(MEASURES)
    assert rows[0]["compressed"] == pytest.approx(comparison.scores["saliency"]["spearman"]["compressed"][0], abs=1e-4)


def test_the_maps_leave_as_arrays() -> None:
    import io

    infos, maps = [tile(np.eye(8), np.eye(8))], (np.ones((1, 8, 8), np.float32), np.zeros((1, 8, 8), np.float32))
    with np.load(io.BytesIO(explained.raw(infos, maps))) as archive:
        assert archive["images"].tolist() == [3]
        assert archive["original"].sum() == 64
        assert archive["compressed"].shape == (1, 8, 8)
