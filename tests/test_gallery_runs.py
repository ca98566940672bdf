"""Runs of the gallery in the library: read as they are, refused where damaged, copied where something is written."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.compare import finals
from app.gallery import gallery as app_gallery
from app.model import catalog
from compression.budget import Budget
from compression.errors import CompressionError
from compression.pack.contents import contents
from compression.report.layers import recorded_layers
from compression.runs import gallery
from compression.runs.folder import RunFolder
from compression.runs.store import Store

SHIPPED = app_gallery.ROOT
WHOLE = SHIPPED / "resnet8-mnist5k"
GETA = "gallery.resnet8-mnist5k.geta"


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file below a folder with the hash of what is in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A gallery of its own with one run and one sweep."""
    for name in ("geta", "opq", *(f"opq-0{i}" for i in range(1, 6))):
        shutil.copytree(WHOLE / name, tmp_path / "gallery" / "resnet8-mnist5k" / name)
    return tmp_path / "gallery"


def test_everything_shipped_is_readable_and_small() -> None:
    shipped = gallery.read(SHIPPED)
    assert shipped.problems == ()
    assert len(shipped.exhibits) == len(list(SHIPPED.glob("*/*/spec.json")))
    assert shipped.collections[0].name == "resnet8-mnist5k", "those with models come first"
    methods = {exhibit.info.method for exhibit in shipped.collections[0].exhibits if exhibit.whole}
    assert {"geta", "opq", "sequential"} <= methods
    assert all(name in {e.name for e in c.exhibits} for c in shipped.collections for name in c.shown)
    assert sum(path.stat().st_size for path in WHOLE.rglob("*") if path.is_file()) < 3_000_000


@pytest.mark.parametrize("folder", sorted(path.parents[1] for path in WHOLE.glob("*/bundle/weights.packed")))
def test_the_model_that_is_kept_is_the_one_that_was_measured(folder: Path) -> None:
    """The packed file is as large as the result says and holds the bits that the final point says."""
    final = json.loads((folder / "result.json").read_text())["final"]
    packed = folder / "bundle" / "weights.packed"
    assert packed.stat().st_size == final["bytes"]
    stored = contents(packed)
    for layer, widths in final["bits"].items():
        assert stored[f"{layer}.weight"].bits == widths["weight"]


def test_figures_are_those_of_the_result_file(root: Path) -> None:
    exhibit = gallery.read(root).find(GETA)
    stored = json.loads((root / "resnet8-mnist5k" / "geta" / "result.json").read_text())
    assert exhibit.final is not None
    assert exhibit.final["accuracy"] == stored["final"]["accuracy"]
    assert exhibit.data == stored["data"]
    assert exhibit.folder().state == "done"
    assert exhibit.record()["seed"] == stored["budget"]["seed"]


def test_a_sweep_has_its_runs_from_large_to_small(root: Path) -> None:
    contents = gallery.read(root)
    sweep = contents.find("gallery.resnet8-mnist5k.opq")
    parts = contents.parts(sweep.info.id)
    assert sweep.info.runs == len(parts) == 5
    sparsities = [Budget.from_dict(part.info.budget).asks["sparsity"] for part in parts]
    assert sparsities == sorted(sparsities)
    assert sweep.data == parts[0].data


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("spec.json", "{"),
        ("spec.json", "{}"),
        ("spec.json", '{"budget": 5, "created": 0}'),
        ("result.json", "[]"),
        ("result.json", '{"status": "failed", "baseline": {}, "final": {}}'),
        ("result.json", None),
    ],
)
def test_a_damaged_run_is_left_out_and_named(root: Path, file: str, content: str | None) -> None:
    path = root / "resnet8-mnist5k" / "geta" / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    result = gallery.read(root)
    assert [exhibit.name for exhibit in result.exhibits] == ["opq", *(f"opq-0{i}" for i in range(1, 6))]
    assert len(result.problems) == 1
    assert "geta is left out" in result.problems[0]
    assert "\n" not in result.problems[0]


@pytest.mark.parametrize("content", ["{", '{"title": 3}', '{"title": "x", "lines": []}'])
def test_a_damaged_description_costs_no_run(root: Path, content: str) -> None:
    (root / "resnet8-mnist5k" / "about.json").write_text(content)
    result = gallery.read(root)
    assert len(result.exhibits) == 7
    assert len(result.problems) == 1


def test_no_gallery_is_an_empty_one(tmp_path: Path) -> None:
    assert gallery.read(tmp_path / "none").exhibits == ()


@pytest.mark.parametrize("run", ["gallery.x.y", "gallery.", "gallery.resnet8-mnist5k...", "gallery.../../etc", "geta"])
def test_an_unknown_run_is_refused_in_one_line(root: Path, run: str) -> None:
    with pytest.raises(CompressionError, match="no run"):
        gallery.read(root).find(run)


def test_jobs_write_into_a_copy_that_the_list_of_runs_does_not_show(root: Path, tmp_path: Path) -> None:
    before = fingerprint(root)
    runs = tmp_path / "runs"
    store = Store(runs, slots=0)
    exhibit = gallery.read(root).find(GETA)
    copy = gallery.workplace(exhibit, runs)
    assert copy.id == GETA
    assert copy.state == "done"
    assert (copy.bundle / "weights.packed").read_bytes() == (exhibit.path / "bundle" / "weights.packed").read_bytes()
    (copy.bundle / "bundle.zip").write_text("made here")
    assert gallery.workplace(exhibit, runs).bundle.joinpath("bundle.zip").is_file(), "made once"
    assert store.list() == []
    assert fingerprint(root) == before


def test_another_run_under_the_same_name_is_copied_anew(root: Path, tmp_path: Path) -> None:
    exhibit = gallery.read(root).find(GETA)
    copy = gallery.workplace(exhibit, tmp_path / "runs")
    (copy.bundle / "bundle.zip").write_text("of the old run")
    stored = json.loads((exhibit.path / "result.json").read_text())
    _write(exhibit.path / "result.json", {**stored, "seconds": 1})
    again = gallery.workplace(exhibit, tmp_path / "runs")
    assert not (again.bundle / "bundle.zip").exists()
    assert json.loads(again.result_path.read_text())["seconds"] == 1


def test_a_runs_folder_that_cannot_be_written_is_reported(root: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(CompressionError, match="cannot be written"):
        gallery.workplace(gallery.read(root).find(GETA), tmp_path / "runs")


def test_layers_of_a_run_without_its_model_agree_with_its_macs() -> None:
    """Shapes after, computed from the removed units alone, against the MACs that the run itself measured."""
    for run in ("gallery.resnet20-cifar10jpeg.w4-s39", "gallery.vgg7_small-cifar10jpeg.w4a4-s50"):
        done = json.loads((app_gallery.find(run).path / "result.json").read_text())
        macs, params = 0.0, 0
        graph = catalog.traced(catalog.ChosenModel(done["model"], "cifar10", (3, 32, 32), 10)).graph
        dense = {layer.name: layer for layer in graph.layers}
        for change in finals.layers(run, done):
            assert change.before is not None
            macs += dense[change.layer].macs * change.alive / math.prod(change.before)
            params += change.alive
        assert macs == pytest.approx(done["final"]["macs"])
        assert params < sum(math.prod(layer.shape) for layer in graph.layers)


def test_layers_from_removed_units_are_those_of_the_packed_file() -> None:
    """Where the model is there, both ways of telling the shapes agree."""
    done = json.loads((WHOLE / "geta" / "result.json").read_text())
    packed = finals.layers(GETA, done)
    graph = finals.dense_graph(RunFolder(WHOLE / "geta").budget())
    assert graph is not None
    recorded = recorded_layers(graph, done)
    assert [(c.layer, c.after, c.weight_bits) for c in recorded] == [(c.layer, c.after, c.weight_bits) for c in packed]
