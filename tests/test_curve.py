"""Accuracy without training: the background job's table against the first point of real runs, and its panel."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from compression import runs, zoo
from compression.budget import Budget
from compression.errors import CompressionError
from compression.graph import trace
from compression.jobs import curve, studies
from compression.plots.curve import curve_figure, curve_info
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.store import Store
from compression.runs.submit import new_spec
from compression.zoo import weights as weight_files
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The runs folder and the id of a finished job on the shipped weights, made by a real worker process."""
    root = tmp_path_factory.mktemp("runs")
    job = curve.measure(Budget(method="geta", sparsity=0.3, epochs=9), root)
    runs.wait(job, root / studies.FOLDER, timeout=PATIENCE)
    return root, job


def test_every_budget_of_the_grid_is_measured_once(measured: tuple[Path, str]) -> None:
    root, job = measured
    result = runs.result(RunFolder.open(root / studies.FOLDER, job))
    assert result["status"] == "done"
    assert [(row["sparsity"], row["bits"]) for row in result["rows"]] == curve.grid()
    assert result["dense"] > 0.95
    by = {(row["sparsity"], row["bits"]): row for row in result["rows"]}
    assert by[0.0, 8.0]["accuracy"] == pytest.approx(result["dense"], abs=0.01)
    assert by[0.9, 2.0]["accuracy"] < 0.6
    for bits in curve.BITS:
        errors = [by[share, bits]["error"] for share in curve.SPARSITIES]
        assert all(0 < error < 1 for error in errors)
        assert errors[-1] > errors[2], "more zeros, more error"
    hard = by[0.7, 3.0]
    assert hard["recomputed"] > hard["accuracy"] + 0.2, "refitted batch norms bring most of it back"
    assert Store(root).list() == [], "no run of the list of runs"


def test_the_table_says_what_a_run_measures_before_its_training(measured: tuple[Path, str]) -> None:
    root, job = measured
    rows = runs.result(RunFolder.open(root / studies.FOLDER, job))["rows"]
    budget = Budget(method="opq", sparsity=0.7, bits=3, epochs=0.02, precision="fp32")
    folder = RunFolder.create(root, new_spec(budget, Store(root)))
    assert carry_out(folder, execute) == "done"
    first = next(point for point in folder.points() if point.phase == "allocation")
    row = next(row for row in rows if (row["sparsity"], row["bits"]) == (0.7, 3))
    assert row["accuracy"] == first.score
    refitted = next(point for point in folder.points() if point.phase == "statistics")
    assert row["recomputed"] == pytest.approx(refitted.score, abs=0.02), "16 batches instead of all"


def test_bounds_and_options_are_followed_and_asked_for_anew(measured: tuple[Path, str]) -> None:
    from compression import data, zoo
    from compression.explain.untrained import measure_untrained
    from compression.zoo import weights

    root, _ = measured
    bounded = Budget(method="opq", layers={"head": {"weight_bits": (8, 8)}}, options={"zeros": "rounded"})
    assert curve.key(bounded) != curve.key(Budget(method="opq"))
    assert studies.find(curve.key(bounded), root) is None
    assert curve.key(bounded.replace(method="geta")) == curve.key(Budget(method="opq")), "another method's bounds"
    activations = Budget(method="opq", layers={"head": {"activation_bits": (4, 4)}})
    assert curve.key(activations) == curve.key(Budget(method="opq")), "OPQ has no use for them"
    model, mnist = zoo.build("resnet8"), data.load("mnist5k")
    file = weights.find("resnet8", "mnist5k", *zoo.resolve("resnet8"))
    assert file is not None
    weights.load(model, file)
    graph = trace(model, zoo.example("resnet8"))
    (row,) = measure_untrained(model, graph, mnist, Budget(method="opq"), [(0.0, 2.0)], limit=100)
    (other,) = measure_untrained(
        model, graph, mnist, Budget(method="opq", options={"zeros": "rounded"}), [(0.0, 2.0)], limit=100
    )
    assert other.error < 0.7 * row.error, "with no zero asked for, two levels are worse than three"


def test_the_command_reports_what_the_job_does(capsys: pytest.CaptureFixture[str], measured: tuple[Path, str]) -> None:
    from compression.cli import main

    command = [
        "untrained",
        "--model",
        "resnet8",
        "--data",
        "mnist5k",
        "--sparsity",
        "0.5,0.9",
        "--bits",
        "3",
        "--json",
        "-",
    ]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    root, job = measured
    rows = {
        (row["sparsity"], row["bits"]): row for row in runs.result(RunFolder.open(root / studies.FOLDER, job))["rows"]
    }
    for row in result["rows"]:
        assert row["recomputed"] is None
        assert row["accuracy"] == rows[row["sparsity"], row["bits"]]["accuracy"]
    assert [row["sparsity"] for row in result["rows"]] == [0.5, 0.9]
    assert main([*command, "--images", "0"]) == 2
    assert main(["untrained", "--model", "resnet8", "--data", "mnist5k", "--bits", "3:5"]) == 2


def test_a_job_is_found_again_for_the_same_weights_and_data_only(measured: tuple[Path, str], tmp_path: Path) -> None:
    from compression import zoo
    from compression.zoo import weights

    root, job = measured
    folder = studies.find(curve.key(Budget(method="opq", sparsity=0.9)), root)
    assert folder is not None
    assert folder.id == job
    other = weights.save(zoo.build("resnet8", seed=5), tmp_path / "other.safetensors", {})
    assert studies.find(curve.key(Budget(weights=str(other))), root) is None
    with pytest.raises(CompressionError, match="no trained weights"):
        curve.key(Budget(model="vgg7", data="cifar10"))


def test_figures_mark_the_asked_budget() -> None:
    rows = [{"sparsity": s, "bits": b, "error": s / b, "score": 1 - s / b, "recomputed": None} for s, b in curve.grid()]
    info = curve_info(rows, 0.99, 4.75, 0.4, 0.123)
    assert (info.nearest, len(info.rows)) == (4.0, 35)
    for by, where in (("sparsity", 40), ("error", 12.3)):
        figure = curve_figure(info, by)
        assert [trace.name for trace in figure.data] == ["2 bits", "3 bits", "4 bits", "6 bits", "8 bits"]
        assert figure.data[2].line.width > figure.data[1].line.width
        assert len({trace.marker.symbol for trace in figure.data}) == 5
        upright = next(shape for shape in figure.layout.shapes if shape.x0 == shape.x1)
        assert math.isclose(upright.x0, where)


def test_refitted_batch_norms_are_a_view_of_their_own() -> None:
    rows = [
        {"sparsity": s, "bits": b, "error": s / b, "score": 1 - s / b, "recomputed": 1 - s / b / 2}
        for s, b in curve.grid()
    ]
    info = curve_info(rows, 0.99, 4, 0.4, None, "recomputed")
    two_bits = curve_figure(info).data[0]
    assert list(two_bits.y) == pytest.approx([100 * (1 - s / 4) for s in curve.SPARSITIES])
    (added,) = set(info.rows[-1]) - set(curve_info([{**row, "recomputed": None} for row in rows], 1, 4, 0, 0).rows[-1])
    assert info.rows[-1][added] == round(100 * (1 - 0.9 / 16), 2)


@pytest.mark.parametrize("divided", [False, True])
def test_a_study_of_ones_own_model_and_images_is_that_of_their_content(tmp_path: Path, divided: bool) -> None:
    code, images, weights = tmp_path / "own.py", tmp_path / "images", tmp_path / "weights.safetensors"
    text = "from compression.zoo import build\n\ndef net():\n    return build('resnet8', (1, 12, 12), 2)\n"
    code.write_text(text)
    weight_files.save(zoo.build("resnet8", (1, 12, 12), 2, seed=0), weights, {})
    home = images / "train" if divided else images
    for name in ("a", "b"):
        (home / name).mkdir(parents=True)
    budget = Budget(model=f"{code}:net", data=str(images), input=(1, 12, 12), classes=2, weights=str(weights))
    keys = [studies.key("curve", budget)]
    assert studies.key("curve", budget) == keys[0]
    for change in (
        lambda: (home / "b" / "new.png").write_bytes(b""),
        lambda: (home / "c").mkdir(),
        lambda: code.write_text(text + "# changed\n"),
        lambda: weight_files.save(zoo.build("resnet8", (1, 12, 12), 2, seed=1), weights, {}),
    ):
        change()
        keys.append(studies.key("curve", budget))
    assert len(set(keys)) == len(keys)
