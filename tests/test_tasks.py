"""What a task is measured by, and a picture as a task: each against arithmetic of its own or another library."""

from __future__ import annotations

import copy
import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as pictures
from skimage.metrics import peak_signal_noise_ratio
from torch import nn

from compression import data, methods, tasks, zoo
from compression.__main__ import main
from compression.budget import Budget
from compression.data import fit_check
from compression.data.batches import Batches
from compression.data.picture import colours, coordinates, pixels
from compression.errors import CompressionError
from compression.graph import trace
from compression.methods import Reporter, Setup
from compression.plots import front_data
from compression.points import Point
from compression.runs.names import data_name
from compression.tasks import ACCURACY, PSNR, Metric
from compression.training.dense import evaluate, train_dense

PERPLEXITY = Metric("perplexity", "perplexity", "", better="lower", lowest=1.0, highest=math.inf, decimals=2)
CAT = "picture:chelsea"
POINT: dict[str, Any] = {
    **{"step": 1, "epoch": 1.0, "phase": "final", "split": "test", "loss": 0.1, "bytes": 10.0, "bytes_kind": "packed"},
    **dict.fromkeys(("nominal_bytes", "macs", "bops", "rel_bops", "unit_sparsity", "weight_sparsity"), 0.5),
    "bits": {},
}


def test_scores_are_shown_and_compared_by_their_metric() -> None:
    assert (ACCURACY.show(0.9731), ACCURACY.show(0.9731, 1), ACCURACY.show(None)) == ("97.3 %", "97.31 %", "–")
    assert (PSNR.show(31.26), PERPLEXITY.show(12.345)) == ("31.3 dB", "12.35")
    assert ACCURACY.lost(0.98, 0.97) == pytest.approx(1)
    assert PERPLEXITY.lost(10, 12) == pytest.approx(2), "more is worse"
    assert ACCURACY.against(0.98, 0.968).split()[:3] == ["1.2", "points", "less"]
    assert ACCURACY.against(0.98, 0.98001).split()[0] == "as"
    assert PSNR.against(30.0, 31.0).split()[:3] == ["1.0", "dB", "better"]
    assert (PERPLEXITY.best([3, 2, 9]), PERPLEXITY.worst([3, 2, 9])) == (2, 9)
    assert PERPLEXITY.ends(30.0, 10.0, 0.1) == [32.0, 8.0], "the better end is the upper one"


def test_a_metric_survives_json_and_older_results_are_of_accuracy() -> None:
    stored = json.loads(json.dumps({"metric": PSNR.to_dict()}))
    assert stored["metric"]["highest"] is None
    assert Metric.from_result(stored) == Metric.from_result({"metric": PSNR.to_dict()}) == PSNR
    assert Metric.from_result({"metric": None}) == ACCURACY
    for wrong in ({"decimals": 10**9}, {"scale": 0}, {"better": "more"}):
        with pytest.raises(CompressionError, match="metric"):
            Metric.from_result({"metric": {**PSNR.to_dict(), **wrong}})
    assert Metric.from_result({}) == ACCURACY
    with pytest.raises(CompressionError, match="metric"):
        Metric.from_result({"metric": {"name": 3}})
    with pytest.raises(CompressionError, match=r"between 0 and 1, such as 0\.97, not 97"):
        ACCURACY.check(97)


def test_points_have_a_score_and_older_ones_get_it() -> None:
    old = Point.from_dict({**POINT, "accuracy": 0.9})
    assert (old.score, old.metric, old.to_dict()["accuracy"]) == (0.9, "accuracy", 0.9)
    new = Point.from_dict({**POINT, "score": 31.0, "metric": "psnr"})
    assert new.to_dict()["psnr"] == new.to_dict()["score"] == 31.0
    assert "accuracy" not in new.to_dict()
    odd = Point.from_dict({**POINT, "score": 31.0, "metric": "bits"})
    assert odd.to_dict()["bits"] == {}, "no metric takes the place of a field"


def test_where_less_is_better_the_front_is_the_right_way_up() -> None:
    def run(name: str, size: float, score: float) -> front_data.FrontRun:
        final = {**POINT, "bytes": size, "score": score}
        return front_data.FrontRun(name, name, "geta", (), None, final, metric=PERPLEXITY)

    info = front_data.front_info([run("small", 10, 20.0), run("bad", 20, 25.0), run("good", 30, 12.0)])
    assert [point.dominated for point in info.finals] == [False, True, False]
    assert info.floor > 25, "the floor lies beyond the worst"


def test_coordinates_are_pixel_centres_and_colours_come_back() -> None:
    places = coordinates(2, 4)
    assert places.tolist()[:4] == [[-0.75, -0.25], [-0.25, -0.25], [0.25, -0.25], [0.75, -0.25]]
    picture = torch.arange(24, dtype=torch.uint8).view(3, 2, 4) * 10
    assert torch.equal(pixels(colours(picture), (2, 4)), picture.permute(1, 2, 0))


def test_a_shipped_picture_is_that_of_its_package() -> None:
    cat = data.load(CAT)
    assert cat.size == (170, 256)
    assert len(cat.train) == len(cat.test) == 170 * 256
    assert cat.train is cat.validation is cat.test, "all pixels are fitted"
    scaled = np.asarray(Image.fromarray(pictures.chelsea()).resize((256, 170), Image.Resampling.BICUBIC), float)
    original = tasks.task_of(cat).original()
    assert original is not None
    assert np.abs(original.numpy() - scaled).mean() < 2
    x, y = Batches(cat, "test", 7, augment=False).batch(0, 1)
    assert torch.equal(x, cat.test.images[7:14])
    assert torch.equal(y, cat.test.labels[7:14])


class Fixed(nn.Module):
    """Answers every pixel with its colour and noise."""

    def __init__(self, colours: torch.Tensor, noise: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.colours, self.place = colours + noise * torch.randn_like(colours), 0
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        start = self.place
        self.place = (start + len(x)) % len(self.colours)
        return self.colours[start : start + len(x)] + self.weight


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_psnr_against_scikit_image(noise: float) -> None:
    task = tasks.task_of(data.load(CAT))
    model = Fixed(task.data.test.labels, noise)
    result = evaluate(model, task, "test", limit=10)
    original, shown = task.original(), task.picture(model)
    assert original is not None
    assert shown is not None
    assert result.score == pytest.approx(peak_signal_noise_ratio(original.numpy(), shown.numpy()), abs=1e-6)
    assert result.loss == pytest.approx(float((model.colours - task.data.test.labels).square().mean()), rel=1e-5)


def test_one_colour_is_chance() -> None:
    """The score of the mean colour follows from the variance of the pixels."""
    task = tasks.task_of(data.load(CAT))
    labels = task.data.test.labels
    mean = evaluate(Fixed(labels.mean(0).expand_as(labels), 0.0), task, "test")
    variance = float(((labels + 1) / 2).double().var(0, correction=0).mean())
    assert mean.score == pytest.approx(-10 * math.log10(variance), abs=0.01)
    assert mean.is_chance
    assert not evaluate(Fixed(labels, 0.05), task, "test").is_chance


def test_other_codecs_get_as_many_bytes_and_no_more() -> None:
    task = tasks.task_of(data.load(CAT))
    codecs = task.beside(7_000)
    original = task.original()
    assert original is not None
    assert codecs["bits_per_pixel"] == pytest.approx(8 * 7_000 / (170 * 256))
    for name in ("JPEG", "WEBP"):
        best, next_one = (io.BytesIO(), io.BytesIO())
        for file, quality in ((best, codecs[name]["quality"]), (next_one, codecs[name]["quality"] + 1)):
            Image.fromarray(original.numpy()).save(file, name, quality=quality)
        assert len(best.getvalue()) == codecs[name]["bytes"] <= 7_000 < len(next_one.getvalue())
        decoded = np.asarray(Image.open(best).convert("RGB"))
        assert codecs[name]["psnr"] == pytest.approx(peak_signal_noise_ratio(original.numpy(), decoded), abs=1e-6)
    assert task.beside(50)["JPEG"] is None, "no file is that small"


def test_two_pixels_are_fitted_exactly(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)).save(tmp_path / "two.png")
    two = data.load(f"picture:{tmp_path / 'two.png'}")
    assert (two.size, len(two.test)) == ((1, 2), 2)
    result = train_dense(zoo.build("siren"), two, 300, batch_size=2, optimizer="adam", lr=1e-3, weight_decay=0.0)
    assert result.test.score > 60


def test_the_shipped_network_is_the_cat() -> None:
    from compression.zoo import weights

    model = zoo.build("siren").eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == 16_963
    stored = weights.load(model, weights.SHIPPED / "siren-picture-chelsea.safetensors")
    assert evaluate(model, data.load(CAT), "test").score == pytest.approx(stored["test_psnr"], abs=0.01)
    assert stored["test_psnr"] > 35


@pytest.fixture(scope="module")
def fitted() -> nn.Module:
    from compression.zoo import weights

    torch.set_num_threads(1)
    model = zoo.build("siren").eval()
    weights.load(model, weights.SHIPPED / "siren-picture-chelsea.safetensors")
    return model


@pytest.mark.parametrize("name", list(methods.all_methods()))
def test_every_method_compresses_a_picture(name: str, fitted: nn.Module) -> None:
    class Story(Reporter):
        def __init__(self) -> None:
            self.points: list[Point] = []
            self.pictures: dict[int, torch.Tensor] = {}

        def point(self, point: Point) -> None:
            self.points.append(point)

        def picture(self, step: int, pixels: torch.Tensor) -> None:
            self.pictures[step] = pixels

    method = methods.get(name)
    asks = {ask.field for ask in method.asks}
    values = {"sparsity": 0.2, "weight_bits": (8, 8), "bits": 8}
    fields = {**zoo.usual("siren"), "epochs": 2, **{k: v for k, v in values.items() if k in asks}}
    budget = method.complete(Budget(method=name, model="siren", data=CAT, **fields))
    model = copy.deepcopy(fitted)
    work = Setup(model, trace(model, *zoo.example("siren")), tasks.task_of(data.load(CAT)), budget)
    story = Story()
    done = method.run(work, story)
    assert {point.metric for point in story.points} == {"psnr"}
    assert story.pictures.keys() == {point.step for point in story.points}
    assert story.points[-1].score == evaluate(done.model, work.task, "validation").score > 20
    assert story.pictures[story.points[-1].step].shape == (170, 256, 3)


@pytest.mark.usefixtures("in_this_process")
def test_the_command_line_compresses_and_exports_a_picture(tmp_path: Path) -> None:
    words = f"run --model siren --data {CAT} --method ptq --bits 8 --runs {tmp_path}"
    assert main([*words.split(), "--json", str(tmp_path / "r.json")]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["final"]["psnr"] == result["final"]["score"] > 33
    assert Metric.from_result(result) == PSNR
    assert result["beside"]["JPEG"]["bytes"] <= result["final"]["bytes"]
    assert "confusion" not in result
    shown = np.asarray(Image.open(tmp_path / result["run"] / "pictures" / f"{result['final']['step']}.png"))
    original = np.asarray(Image.open(tmp_path / result["run"] / "pictures" / "original.png"))
    assert peak_signal_noise_ratio(original, shown) == pytest.approx(result["final"]["psnr"], abs=1e-6)
    out = tmp_path / "bundle.zip"
    options = ["--no-latency", "--runs", str(tmp_path), "--out", str(out), "--json", str(tmp_path / "e")]
    assert main(["export", result["run"], *options]) == 0
    with zipfile.ZipFile(out) as bundle:
        card = bundle.read("MODEL_CARD.md").decode()
    rows = [line.split("|") for line in card.splitlines()]
    (psnr,) = [row[2:4] for row in rows if row[1:] and row[1].startswith(" PSNR")]
    assert [cell.split() for cell in psnr] == [[f"{result[end]['psnr']:.2f}", "dB"] for end in ("baseline", "final")]
    assert "class" not in card.replace("classes", "")


@pytest.mark.usefixtures("in_this_process")
def test_a_picture_of_ones_own_keeps_its_kind_where_its_budget_goes(tmp_path: Path) -> None:
    """Its shared budget names the file without the folder; the run's own is carried out again."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / "own.png")
    name = f"picture:{tmp_path / 'own.png'}"
    assert data_name(name) == "picture:own.png"
    assert data_name(CAT) == CAT
    words = f"train --model siren --data {name} --epochs 1 --out {tmp_path / 'own.safetensors'}"
    assert main(words.split()) == 0
    words = f"run --model siren --data {name} --weights {tmp_path / 'own.safetensors'} --method ptq --bits 8"
    assert main([*words.split(), "--runs", str(tmp_path / "runs"), "--json", str(tmp_path / "r.json")]) == 0
    budget = json.loads((tmp_path / "r.json").read_text())["budget"]
    (tmp_path / "budget.json").write_text(json.dumps(budget))
    assert main(["run", "--config", str(tmp_path / "budget.json"), "--runs", str(tmp_path / "runs")]) == 0


@pytest.mark.usefixtures("in_this_process")
def test_searches_and_studies_of_a_picture(tmp_path: Path) -> None:
    where = ["--runs", str(tmp_path), "--json", str(tmp_path / "r.json")]
    words = f"sweep --model siren --data {CAT} --method ptq --sparsity 0 --bits 4,6,8 --find smallest --min-score 34"
    assert main([*words.split(), *where]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["min_psnr"] == result["min_score"] == 34
    smallest = next(run for run in result["runs"] if run["run"] == result["found"])
    assert smallest["final"]["psnr"] >= 34
    words = f"untrained --model siren --data {CAT} --sparsity 0,0.5 --bits 8"
    assert main([*words.split(), "--json", str(tmp_path / "u.json")]) == 0
    study = json.loads((tmp_path / "u.json").read_text())
    assert study["images"] == 170 * 256
    assert study["rows"][0]["psnr"] == study["rows"][0]["score"] > study["rows"][1]["score"]


@pytest.mark.parametrize(
    ("preprocess", "why"), [({"mean": [0.1, 0.1, 0.1]}, "not normalised"), ({"crop": 5000}, "at most 300")]
)
def test_preprocessing_that_a_picture_does_not_have(preprocess: dict[str, Any], why: str) -> None:
    with pytest.raises(CompressionError, match=why):
        data.load(CAT, preprocess=preprocess)
    assert data.load(CAT, preprocess={"crop": 100}).size == (100, 100)


@pytest.mark.parametrize(
    ("name", "why"), [("picture:nobody", "no picture on board: chelsea"), ("picture:", "no picture on board")]
)
def test_a_picture_that_is_not_there_is_refused(name: str, why: str) -> None:
    with pytest.raises(CompressionError, match=why):
        data.load(name)


def test_pictures_and_other_networks_do_not_go_together() -> None:
    with pytest.raises(CompressionError, match="pixels"):
        fit_check(data.load(CAT), (40,), 2)
    with pytest.raises(CompressionError):
        fit_check(data.load(CAT), (1, 28, 28), 10)


def test_a_folder_of_images_is_no_picture(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(CompressionError, match="folder of images"):
        data.load(str(tmp_path), input=(2,))


def test_a_damaged_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(CompressionError, match="cannot be read"):
        data.load(f"picture:{tmp_path / 'broken.png'}")
