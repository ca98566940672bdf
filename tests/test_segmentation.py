"""A class for every pixel: the metric against scikit-learn, masks that stay with their images, folders, whole runs."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.metrics import jaccard_score
from torch import nn

from compression import data, methods, tasks, zoo
from compression.__main__ import main
from compression.budget import Budget
from compression.data.batches import Batches
from compression.data.types import IGNORED, DataSet, Split
from compression.errors import CompressionError
from compression.graph import trace
from compression.methods import Reporter, Setup
from compression.tasks import MIOU, Metric
from compression.tasks.sheet import palette
from compression.training.dense import evaluate, train_dense
from compression.zoo import weights
from tests.contract.runs import quick

DIGITS = "digit-masks"


def task_with(labels: torch.Tensor, classes: int) -> tasks.Task:
    """Pixels of a folder's images, all grey, with these masks."""
    split = Split(torch.full((len(labels), 1, *labels.shape[1:]), 128, dtype=torch.uint8), labels)
    names = tuple(f"class {number}" for number in range(classes))
    return tasks.task_of(DataSet("m", "m", names, split, split, split, (0.0,), (1.0,), "none", task="segmentation"))


@pytest.mark.parametrize("seed", range(4))
def test_the_score_is_that_of_scikit_learn(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    answer = torch.randn(6, 5, 7, 9, generator=generator)
    truth = torch.randint(0, 4, (6, 7, 9), generator=generator)  # class 4 is answered, and never true
    truth[torch.rand(truth.shape, generator=generator) < 0.2] = IGNORED
    scorer = task_with(truth.to(torch.uint8), 5).scorer()
    for part in range(0, 6, 2):
        scorer.add(answer[part : part + 2], truth[part : part + 2])
    result = scorer.result()
    counts = truth != IGNORED
    expected = jaccard_score(truth[counts], answer.argmax(1)[counts], average="macro", labels=range(5))
    assert result.score == pytest.approx(expected, abs=1e-12)
    assert result.loss == pytest.approx(float(F.cross_entropy(answer, truth, ignore_index=IGNORED)), rel=1e-5)


def test_classes_that_are_nowhere_do_not_count() -> None:
    truth = torch.tensor([[[0, 1], [0, 1]]])
    scorer = task_with(truth.to(torch.uint8), 9).scorer()
    scorer.add(F.one_hot(truth, 9).permute(0, 3, 1, 2).float(), truth)
    assert scorer.result().score == 1


def test_one_class_everywhere_is_chance() -> None:
    task = tasks.task_of(data.load(DIGITS))
    truth = task.data.test.labels[:50].long()
    for answer, chance in ((torch.zeros_like(truth), True), (truth, False)):
        scorer = task.scorer()
        scorer.add(F.one_hot(answer, 11).permute(0, 3, 1, 2).float(), truth)
        assert scorer.result().is_chance is chance


def test_pixels_that_do_not_count_leave_the_loss_alone() -> None:
    truth = torch.zeros(2, 3, 3, dtype=torch.long)
    truth[0] = IGNORED
    task, answer = task_with(truth.to(torch.uint8), 2), torch.randn(2, 2, 3, 3)
    assert task.loss(answer, truth) == pytest.approx(float(F.cross_entropy(answer[1:], truth[1:])))
    answer.requires_grad_()
    nothing = task.loss(answer, torch.full_like(truth, IGNORED))
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert answer.grad is not None
    assert float(answer.grad.abs().sum()) == 0


def test_a_teacher_counts_on_every_pixel() -> None:
    task = task_with(torch.zeros(1, 2, 2, dtype=torch.uint8), 3)
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    by_pixel = [
        F.kl_div((s / 2).log_softmax(0), (t / 2).softmax(0), reduction="sum")
        for s, t in zip(
            student.permute(0, 2, 3, 1).reshape(-1, 3), teacher.permute(0, 2, 3, 1).reshape(-1, 3), strict=True
        )
    ]
    assert float(task.distillation(student, teacher, 2.0)) == pytest.approx(4 * float(torch.stack(by_pixel).mean()))


def test_canvases_hold_digits_of_their_own_split() -> None:
    canvases, digits = data.load(DIGITS), data.load("mnist5k")
    assert [len(canvases.split(name)) for name in ("train", "validation", "test")] == [2400, 300, 600]
    assert canvases.classes == ("background", *digits.classes)
    for name in ("train", "test"):
        split = canvases.split(name)
        labelled = split.labels > 0
        assert int(split.images[:, 0][labelled].min()) > 96, "a labelled pixel is ink"
        faint = split.images[:, 0][~labelled].float()
        assert float(faint.mean()) < 40
        shares = torch.bincount(split.labels.flatten().long(), minlength=11)[1:] / labelled.sum()
        assert float(shares.min()) > 0.03, "every digit is there"


@pytest.mark.parametrize("augment", ["shift", "shift-flip"])
def test_a_mask_moves_with_its_image(augment: str) -> None:
    numbers = torch.randint(1, 9, (16, 20, 30), dtype=torch.uint8)
    split = Split(numbers.unsqueeze(1), numbers)
    names = tuple(map(str, range(9)))
    moved = DataSet("m", "m", names, split, split, split, (0.0,), (1 / 255,), augment, task="segmentation")
    x, y = Batches(moved, "train", 16, seed=3).batch(0, 0)
    inside = y != IGNORED
    assert torch.equal(x[:, 0].round().long()[inside], y[inside])
    assert bool((x[:, 0][~inside] == 0).all())
    assert 0 < int((~inside).sum()) < inside.numel() / 2


def test_examples_are_shown_in_the_colours_of_their_classes() -> None:
    task = tasks.task_of(data.load(DIGITS))
    sheet = task.original()
    assert sheet is not None
    assert sheet.shape == (2 * 66, 4 * 66, 3)
    tile, mask = sheet[2:66, 2:66].float(), task.data.validation.labels[0]
    image = task.data.validation.images[0, 0].float()
    assert torch.equal(tile[mask == 0], image[mask == 0].round().unsqueeze(1).expand(-1, 3))
    label = int(mask.max())
    expected = 0.4 * image[mask == label].unsqueeze(1) + 0.6 * palette(11)[label]
    assert torch.equal(tile[mask == label], expected.round())
    assert len(palette(256).unique(dim=0)) == 256, "no two classes look alike"


def write(root: Path, masks: list[np.ndarray], size: tuple[int, int] = (8, 8), mode: str = "L") -> None:
    """Images of noise and their masks."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    noise = np.random.default_rng(0)
    for index, mask in enumerate(masks):
        pixels = noise.integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{index:02d}.jpg")
        picture = Image.fromarray(mask)
        (picture.convert(mode) if mode != "P" else picture.quantize(8)).save(root / "masks" / f"{index:02d}.png")


def quarters(count: int, high: int = 2) -> list[np.ndarray]:
    """Masks of 8x8 whose right half is a class."""
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = high
    mask[0, 0] = 1
    return [mask] * count


def test_a_folder_of_images_and_masks(tmp_path: Path) -> None:
    write(tmp_path, quarters(20))
    folder = data.load(str(tmp_path), input=(3, 4, 4))
    assert data.task(str(tmp_path)) == folder.task == "segmentation"
    assert folder.classes == ("class 0", "class 1", "class 2")
    assert data.count_classes(tmp_path) == 3
    assert [len(folder.split(name)) for name in ("train", "validation", "test")] == [16, 2, 2]
    assert folder.train.labels.unique().tolist() == [0, 2], "scaled to nearest, which has no values in between"
    assert folder.train.labels[0, 0].tolist() == [0, 0, 2, 2]
    (tmp_path / "classes.txt").write_text("road\ncar\nperson\nsky\n")
    assert data.count_classes(tmp_path) == 4
    assert data.load(str(tmp_path), input=(3, 8, 8)).classes == ("road", "car", "person", "sky")


def test_a_folder_with_splits_and_masks_of_black_and_white(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("val", 2)):
        write(tmp_path / part, [np.where(mask > 0, 255, 0).astype(np.uint8) for mask in quarters(count)])
    folder = data.load(str(tmp_path), input=(3, 8, 8))
    assert folder.train.labels.unique().tolist() == [0, 1]
    assert len(folder.classes) == data.count_classes(tmp_path) == 2
    assert len(folder.validation) == 2


def test_pixels_of_255_do_not_count_where_there_are_other_classes(tmp_path: Path) -> None:
    write(tmp_path, quarters(10, 255))
    folder = data.load(str(tmp_path), input=(3, 8, 8))
    assert folder.train.labels.unique().tolist() == [0, 1, IGNORED]
    assert len(folder.classes) == 2


def test_bad_folders_of_masks_are_named(tmp_path: Path) -> None:
    def refused(name: str, why: str, **changes: Any) -> None:
        root = tmp_path / name
        write(root, changes.pop("masks", quarters(6)), **changes)
        if name == "missing":
            (root / "masks" / "03.png").unlink()
        if name == "alone":
            (root / "images" / "03.jpg").unlink()
        if name == "broken":
            (root / "masks" / "03.png").write_bytes(b"no picture")
        if name == "few names":
            (root / "classes.txt").write_text("one\ntwo")
        with pytest.raises(CompressionError, match=why):
            data.load(str(root), input=(3, 8, 8))

    refused("missing", r"03\.jpg has no file of the same name in .*masks")
    refused("alone", r"03\.png has no file of the same name in .*images")
    refused("broken", r"03\.png cannot be read")
    refused("size", r"8x8 pixels and its image 10x12", size=(12, 10))
    refused("colours", "mode RGB", mode="RGB")
    refused("few names", "class 2, and classes.txt names 2")
    refused("one class", "at least two classes", masks=[np.zeros((8, 8), np.uint8)] * 6)
    refused("few", "no images for the", masks=quarters(2))


def test_data_of_another_task_are_refused() -> None:
    for model, named in (("unet_small", "mnist5k"), ("resnet8", DIGITS), ("siren", DIGITS)):
        code = main(["run", "--model", model, "--data", named, "--method", "ptq"])
        assert code == 2
    with pytest.raises(CompressionError, match="segmentation, and the model is for classification"):
        data.fit_check(data.load(DIGITS), (1, 64, 64), 11, "classification")


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.set_num_threads(1)
    model = zoo.build("unet_small").eval()
    weights.load(model, weights.SHIPPED / "unet_small-digit-masks.safetensors")
    return model


def test_the_shipped_network_tells_digits_apart(trained: nn.Module) -> None:
    stored = weights.read_provenance(weights.SHIPPED / "unet_small-digit-masks.safetensors")
    result = evaluate(trained, data.load(DIGITS), "test", limit=200)
    assert result.score == pytest.approx(stored["test_miou"], abs=0.02)
    assert stored["test_miou"] > 0.9
    assert result.is_chance is False


@pytest.mark.parametrize("name", list(methods.all_methods()))
def test_every_method_compresses_it(name: str, trained: nn.Module) -> None:
    class Story(Reporter):
        def __init__(self) -> None:
            self.pictures: list[torch.Tensor] = []

        def picture(self, step: int, pixels: torch.Tensor) -> None:
            self.pictures.append(pixels)

    method = methods.get(name)
    asks = {ask.field for ask in method.asks}
    values = {"sparsity": 0.2, "weight_bits": (8, 8), "bits": 8}
    fields = {"epochs": 0.2, "batch_size": 32, "precision": "fp32", **{k: v for k, v in values.items() if k in asks}}
    budget = method.complete(Budget(method=name, model="unet_small", data=DIGITS, options=quick(name), **fields))
    whole = data.load(DIGITS)
    parts = {
        part: Split(whole.split(part).images[:40], whole.split(part).labels[:40]) for part in ("validation", "test")
    }
    few = DataSet(
        whole.name, whole.label, whole.classes, whole.train, parts["validation"], parts["test"], whole.mean, whole.std,
        whole.augment, task=whole.task,
    )  # fmt: skip
    graph = trace(trained, *zoo.example("unet_small"))
    story = Story()
    done = method.run(Setup(copy.deepcopy(trained), graph, tasks.task_of(few), budget), story)
    result = evaluate(done.model, few)
    assert result.score > 0.2
    assert result.is_chance is False
    assert {tuple(picture.shape) for picture in story.pictures} == {(132, 264, 3)}


@pytest.mark.usefixtures("in_this_process")
def test_the_command_line_from_training_to_a_bundle(tmp_path: Path) -> None:
    """A folder of ones own, and one of torchvision's networks, which answers with a mapping."""
    write(tmp_path / "data", quarters(12) + quarters(12, 3))
    model = "torchvision:lraspp_mobilenet_v3_large"
    about = f"--model {model} --data {tmp_path / 'data'} --input 3x32x32 --classes 4"
    assert main(f"train {about} --epochs 1 --batch-size 4 --out {tmp_path / 'w.safetensors'}".split()) == 0
    words = f"run {about} --weights {tmp_path / 'w.safetensors'} --method ptq --bits 8 --runs {tmp_path / 'runs'}"
    assert main([*words.split(), "--json", str(tmp_path / "r.json")]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["task"] == "segmentation"
    assert Metric.from_result(result) == MIOU
    assert result["equality"] == 0
    assert 0 <= result["final"]["miou"] == result["final"]["score"] <= 1
    assert np.array(result["pixels"]["final"]).sum() == 2 * 32 * 32, "two test images"
    out = ["--out", str(tmp_path / "b.zip"), "--json", str(tmp_path / "e.json")]
    assert main(["export", result["run"], "--no-latency", "--runs", str(tmp_path / "runs"), *out]) == 0


@pytest.mark.usefixtures("in_this_process")
def test_a_network_of_ones_own_is_recognized_by_its_answer(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Twice(nn.Module):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__()\n"
        "        self.a, self.m, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 1), nn.Conv2d(6, classes, 1)\n"
        "    def forward(self, x):\n"
        "        hidden = self.m(self.a(x).relu()).relu()  # what is returned keeps its channels\n"
        "        return {'out': self.b(hidden), 'hidden': hidden}\n"
        "def net(classes=3):\n"
        "    return Twice(classes), (3, 8, 8)\n"
    )
    write(tmp_path / "data", quarters(12))
    model = f"{tmp_path / 'net.py'}:net"
    assert (zoo.spec(model).task, zoo.spec(model).classes) == ("segmentation", 3)
    about = f"--model {model} --data {tmp_path / 'data'}"
    assert main(f"train {about} --epochs 2 --batch-size 4 --out {tmp_path / 'w.safetensors'}".split()) == 0
    words = f"run {about} --weights {tmp_path / 'w.safetensors'} --method geta --sparsity 0.25 --bits 8 --epochs 4"
    where = ["--batch-size", "4", "--runs", str(tmp_path / "runs"), "--json", str(tmp_path / "r.json")]
    assert main([*words.split(), *where]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert sum(result["removed"].values()) == 2
    assert result["equality"] < 1e-5
    out = ["--out", str(tmp_path / "b.zip"), "--json", str(tmp_path / "e.json")]
    assert main(["export", result["run"], "--no-latency", "--runs", str(tmp_path / "runs"), *out]) == 0


def test_it_is_learnt_from_nothing() -> None:
    """Halves of canvases that differ in brightness are told apart within a few steps."""
    images = torch.randint(0, 60, (64, 1, 16, 16), dtype=torch.uint8)
    images[:, :, :, 8:] += 150
    labels = torch.zeros(64, 16, 16, dtype=torch.uint8)
    labels[:, :, 8:] = 1
    split = Split(images, labels)
    halves = DataSet("h", "h", ("left", "right"), split, split, split, (0.5,), (0.3,), "none", task="segmentation")
    result = train_dense(zoo.build("unet_small", (1, 16, 16), 2), halves, 5, batch_size=8)
    assert result.metric == MIOU
    assert result.test.score > 0.9
