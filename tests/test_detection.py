"""Boxes with classes: the metric by hand and against pycocotools, boxes that stay with their images, whole runs."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torchvision import models
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou, nms

from compression import data, methods, tasks, zoo
from compression.__main__ import main
from compression.budget import Budget
from compression.data import coco
from compression.data.batches import Batches
from compression.data.files import Files
from compression.data.types import DataSet, Split
from compression.errors import CompressionError
from compression.graph import slim, trace, zero_units
from compression.methods import Reporter, Setup
from compression.tasks import MAP, Metric
from compression.tasks.detection import detections
from compression.training.dense import evaluate
from compression.zoo import weights
from compression.zoo.detector import centres
from tests.contract.runs import quick

DIGITS = "digit-boxes"


def task_of(targets: list[list[list[float]]], classes: int = 3, size: int = 64) -> tasks.Task:
    """A task whose images are black, with these boxes (class, x1, y1, x2, y2) for each image."""
    most = max(map(len, targets))
    rows = torch.full((len(targets), most, 5), -1.0)
    for number, boxes in enumerate(targets):
        if boxes:
            rows[number, : len(boxes)] = torch.tensor(boxes)
    split = Split(torch.zeros(len(targets), 1, size, size, dtype=torch.uint8), rows)
    names = tuple(map(str, range(classes)))
    return tasks.task_of(DataSet("b", "b", names, split, split, split, (0.0,), (1.0,), "none", task="detection"))


def answer_of(images: list[list[tuple[float, ...]]], classes: int = 3) -> torch.Tensor:
    """Answers [B, 64, 4 + classes] with these boxes (class, score, x1, y1, x2, y2) in the first cells."""
    answer = torch.zeros(len(images), 64, 4 + classes)
    answer[..., 4:] = -20.0
    for number, boxes in enumerate(images):
        for cell, (kind, score, *box) in enumerate(boxes):
            answer[number, cell, :4] = torch.tensor(box)
            answer[number, cell, 4 + int(kind)] = math.log(score / (1 - score))
    return answer


def test_average_precision_worked_out_by_hand() -> None:
    """One class, two boxes: the best answer is wrong, the second right, the third right.

    Precision at the two recalls is 1/2 and 2/3, of which COCO takes the highest from each recall on: 2/3 at all 101.
    """
    true = [[[0, 0, 0, 10, 10], [0, 30, 30, 40, 40]]]
    answer = answer_of([[(0, 0.9, 50, 50, 60, 60), (0, 0.8, 0, 0, 10, 10), (0, 0.7, 30, 30, 40, 40)]])
    task = task_of(true)
    scorer = task.scorer()
    scorer.add(answer, task.data.test.labels)
    result = scorer.result()
    assert result.details["map50"] == pytest.approx(2 / 3, abs=1e-6)
    assert result.score == pytest.approx(2 / 3, abs=1e-6), "both overlap completely"


def test_overlap_decides_at_which_thresholds_a_box_counts() -> None:
    """Of 10x10 pixels, 8x10 are shared: the overlap 0.8 passes seven of the ten thresholds 0.50 … 0.95."""
    task = task_of([[[1, 0, 0, 10, 10]]])
    scorer = task.scorer()
    scorer.add(answer_of([[(1, 0.9, 0, 0, 8.001, 10)]]), task.data.test.labels)
    assert scorer.result().score == pytest.approx(0.7, abs=1e-6)
    assert scorer.result().details["map50"] == pytest.approx(1)


def random_case(seed: int) -> tuple[tasks.Task, torch.Tensor]:
    """Some true boxes, and answers of which many are near one."""
    generator = np.random.default_rng(seed)

    def box() -> list[float]:
        x, y = generator.uniform(0, 40, 2)
        return [x, y, x + generator.uniform(8, 24), y + generator.uniform(8, 24)]

    true = [[[float(generator.integers(3)), *box()] for _ in range(generator.integers(0, 4))] for _ in range(12)]
    answers: list[list[tuple[float, ...]]] = []
    for rows in true:
        near = [
            (row[0], generator.uniform(0.2, 0.99), *(np.array(row[1:]) + generator.normal(0, 1.5, 4))) for row in rows
        ]
        other = [(float(generator.integers(3)), generator.uniform(0.02, 0.6), *box()) for _ in range(3)]
        answers.append([*near, *other])
    return task_of(true), answer_of(answers)


@pytest.mark.parametrize("seed", range(5))
def test_the_score_is_that_of_pycocotools(seed: int) -> None:
    task, answer = random_case(seed)
    scorer = task.scorer()
    for part in range(0, 12, 5):
        scorer.add(answer[part : part + 5], task.data.test.labels[part : part + 5])
    entries, answered = [], []
    for image, rows in enumerate(task.data.test.labels.tolist(), start=1):
        for kind, x1, y1, x2, y2 in rows:
            if kind >= 0:
                about = {"image_id": image, "category_id": int(kind), "bbox": [x1, y1, x2 - x1, y2 - y1]}
                entries.append({**about, "id": len(entries) + 1, "area": (x2 - x1) * (y2 - y1), "iscrowd": 0})
        for kind in range(3):  # another way to the same: each class by itself
            scores = answer[image - 1, :, 4 + kind].sigmoid()
            boxes = answer[image - 1, :, :4]
            own = (scores > 0.01) & (answer[image - 1, :, 4:].argmax(1) == kind)
            for index in nms(boxes[own], scores[own], 0.6).tolist():
                x1, y1, x2, y2 = boxes[own][index].tolist()
                about = {"image_id": image, "category_id": kind, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                answered.append({**about, "score": float(scores[own][index])})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(1, 13)],
            "annotations": entries,
            "categories": [{"id": kind} for kind in sorted({entry["category_id"] for entry in entries})],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(answered), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert scorer.result().score == pytest.approx(evaluation.stats[0], abs=1e-6)
    assert scorer.result().details["map50"] == pytest.approx(evaluation.stats[1], abs=1e-6)
    assert 0.05 < scorer.result().score < 0.95


def test_images_without_boxes_and_networks_without_answers() -> None:
    empty = task_of([[], [[0, 1, 1, 9, 9]]])
    silent, wrong = answer_of([[], []]), answer_of([[(2, 0.9, 1, 1, 9, 9)], [(2, 0.9, 1, 1, 9, 9)]])
    for answer in (silent, wrong):
        scorer = empty.scorer()
        scorer.add(answer, empty.data.test.labels)
        assert scorer.result().score == 0
        assert scorer.result().is_chance
        assert math.isfinite(scorer.result().loss)


def test_overlapping_answers_of_one_class_are_one() -> None:
    answer = answer_of([[(0, 0.9, 0, 0, 10, 10), (0, 0.8, 0, 0, 10, 11), (1, 0.7, 0, 0, 10, 10)]])[0]
    boxes, scores, kinds = detections(answer)
    assert kinds.tolist() == [0, 1]
    assert scores.tolist() == pytest.approx([0.9, 0.7])
    assert boxes[0].tolist() == [0, 0, 10, 10]


def test_cells_learn_the_box_that_they_are_in_the_middle_of() -> None:
    task = task_of([[[0, 0, 0, 32, 32], [1, 8, 8, 16, 16], [2, 60, 0, 63, 3]]])
    index = task._assigned(torch.zeros(1, 64, 7), task.data.test.labels)[0].view(8, 8)  # type: ignore[attr-defined]
    assert index[1, 1] == 1, "the smaller box wins"
    assert index[2, 2] == 0
    assert index[0, 7] == 2, "a box between centres is learnt by the nearest cell"
    assert int((index == -1).sum()) > 45


def test_the_loss_is_least_at_the_truth_and_pulls_towards_it() -> None:
    task = task_of([[[1, 8, 8, 30, 26]]])
    target = task.data.test.labels
    index = task._assigned(torch.zeros(1, 64, 7), target)[0] >= 0  # type: ignore[attr-defined]
    perfect = torch.full((1, 64, 7), -20.0)
    perfect[..., :4] = target[0, 0, 1:]
    perfect[0, index, 5] = 20.0
    assert float(task.loss(perfect, target)) == pytest.approx(0, abs=1e-4)
    shifted = perfect.clone()
    shifted[..., :4] += 2.0
    shifted.requires_grad_()
    loss = task.loss(shifted, target)
    loss.backward()
    assert float(loss.detach()) > 0.1
    assert shifted.grad is not None
    assert bool((shifted.grad[0, index, :4].sum(1) > 0).all()), "a step downhill goes back"


def test_a_student_that_equals_its_teacher_has_nothing_to_learn() -> None:
    task, answer = random_case(0)
    assert float(task.distillation(answer, answer, 2.0)) == pytest.approx(0, abs=1e-3)
    other = answer.clone()
    other[..., :4] += 3
    assert float(task.distillation(other, answer, 2.0)) > 0.1


def test_canvases_have_a_box_around_the_ink_of_every_digit() -> None:
    boxes, masks = data.load(DIGITS), data.load("digit-masks")
    assert torch.equal(boxes.test.images, masks.test.images)
    for number in range(20):
        rows = boxes.test.labels[number]
        area = torch.zeros(64, 64, dtype=torch.bool)
        for kind, x1, y1, x2, y2 in rows[rows[:, 0] >= 0].int().tolist():
            part = masks.test.labels[number, y1:y2, x1:x2]
            ink = part == kind + 1
            assert bool(ink.any(0)[[0, -1]].all())
            assert bool(ink.any(1)[[0, -1]].all())
            area[y1:y2, x1:x2] = True
        assert bool((masks.test.labels[number][~area] == 0).all())


@pytest.mark.parametrize("augment", ["shift", "shift-flip"])
def test_boxes_move_with_their_images(augment: str) -> None:
    """A bright rectangle is where its box says, before and after."""
    count = 64
    images, rows = torch.zeros(count, 1, 40, 50, dtype=torch.uint8), torch.full((count, 2, 5), -1.0)
    for number in range(count):
        x, y = 8 + number % 20, 6 + number % 15
        images[number, 0, y : y + 9, x : x + 13] = 255
        rows[number, 0] = torch.tensor([1.0, x, y, x + 13, y + 9])
    split = Split(images, rows)
    moved = DataSet("m", "m", ("a", "b"), split, split, split, (0.0,), (1.0,), augment, task="detection")
    x, y = Batches(moved, "train", count, seed=1).batch(0, 0)
    assert bool((y[:, 1, 0] == -1).all())
    for image, row in zip(x[:, 0], y[:, 0], strict=True):
        places = (image > 0.5).nonzero()
        low, high = places.amin(0), places.amax(0) + 1
        assert row.tolist() == [1.0, float(low[1]), float(low[0]), float(high[1]), float(high[0])]


def test_a_box_that_is_mostly_gone_is_dropped() -> None:
    images, rows = torch.zeros(32, 1, 20, 20, dtype=torch.uint8), torch.tensor([[[0.0, 0, 0, 3, 3]]]).repeat(32, 1, 1)
    split = Split(images, rows)
    moved = DataSet("m", "m", ("a", "b"), split, split, split, (0.0,), (1.0,), "shift", task="detection")
    _, y = Batches(moved, "train", 32, seed=0).batch(0, 0)
    remaining = y[:, 0, 0] >= 0
    areas = (y[:, 0, 3] - y[:, 0, 1]) * (y[:, 0, 4] - y[:, 0, 2])
    assert 0 < int(remaining.sum()) < 32
    assert torch.equal(remaining, areas >= 0.3 * 9)


def test_the_detector_decodes_distances_from_its_cells() -> None:
    model = zoo.build("detector_tiny").eval()
    with torch.no_grad():
        answer = model(torch.randn(2, 1, 64, 64))
    assert answer.shape == (2, 64, 14)
    centre = torch.tensor([(8 * (i % 8) + 4.0, 8 * (i // 8) + 4.0) for i in range(64)])
    assert bool((answer[..., :2] < centre).all())
    assert bool((answer[..., 2:4] > centre).all())


def test_split_chunked_and_concatenated_channels_are_cut_together() -> None:
    model = zoo.build("detector_tiny").eval()
    graph = trace(model, zoo.example("detector_tiny"))
    units = {group.id: [1, 3] for group in graph.prunable}
    zero_units(model, graph, units)
    small = slim(model, graph)
    x = torch.randn(3, 1, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model(x), small(x), atol=1e-3)
    assert sum(p.numel() for p in small.parameters()) < 0.95 * sum(p.numel() for p in model.parameters())


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.set_num_threads(1)
    model = zoo.build("detector_tiny").eval()
    weights.load(model, weights.SHIPPED / "detector_tiny-digit-boxes.safetensors")
    return model


def test_the_shipped_network_detects(trained: nn.Module) -> None:
    stored = weights.read_provenance(weights.SHIPPED / "detector_tiny-digit-boxes.safetensors")
    result = evaluate(trained, data.load(DIGITS), "test", limit=200)
    assert result.score == pytest.approx(stored["test_map"], abs=0.05)
    assert result.details["map50"] > 0.6
    task = tasks.task_of(data.load(DIGITS))
    boxes, scores, kinds = detections(trained(Batches(task.data, "test", 1, augment=False).batch(0, 0)[0])[0].detach())
    truth = task.data.test.labels[0]
    truth = truth[truth[:, 0] >= 0]
    best = box_iou(truth[:, 1:], boxes[scores > 0.3]).max(1)
    assert bool((best.values > 0.5).all())
    assert kinds[scores > 0.3][best.indices].tolist() == truth[:, 0].int().tolist()


@pytest.mark.parametrize("name", list(methods.all_methods()))
def test_every_method_compresses_it(name: str, trained: nn.Module) -> None:
    class Story(Reporter):
        def __init__(self) -> None:
            self.pictures: list[torch.Tensor] = []

        def picture(self, step: int, pixels: torch.Tensor) -> None:
            self.pictures.append(pixels)

    method = methods.get(name)
    asks = {ask.field for ask in method.asks}
    values = {"sparsity": 0.1, "weight_bits": (8, 8), "activation_bits": (8, 8), "bits": 8}
    fields = {"epochs": 0.2, "batch_size": 32, "precision": "fp32", "optimizer": "adamw", "lr": 1e-3}
    fields |= {k: v for k, v in values.items() if k in asks}
    budget = method.complete(Budget(method=name, model="detector_tiny", data=DIGITS, options=quick(name), **fields))
    whole = data.load(DIGITS)
    few = Split(whole.validation.images[:40], whole.validation.labels[:40])
    task = tasks.task_of(
        DataSet(
            whole.name,
            whole.label,
            whole.classes,
            whole.train,
            few,
            few,
            whole.mean,
            whole.std,
            "shift",
            task=whole.task,
        )
    )
    graph, story = trace(trained, zoo.example("detector_tiny")), Story()
    done = method.run(Setup(copy.deepcopy(trained), graph, task, budget), story)
    assert evaluate(done.model, task).score > 0.1
    assert {tuple(picture.shape) for picture in story.pictures} == {(132, 264, 3)}


@pytest.mark.usefixtures("in_this_process")
def test_pruned_quantized_and_exported(tmp_path: Path) -> None:
    """Units are removed, weights and activations have 8 bits, and the ONNX file answers with decoded boxes."""
    words = f"run --model detector_tiny --data {DIGITS} --method geta --sparsity 0.2 --bits 8 --activation-bits 8"
    where = f"--epochs 0.3 --batch-size 32 --optimizer adamw --lr 0.001 --runs {tmp_path} --json {tmp_path / 'r.json'}"
    assert main([*words.split(), *where.split()]) == 0
    result: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())
    assert Metric.from_result(result) == MAP
    assert (result["task"], set(result["map50"])) == ("detection", {"baseline", "final"})
    assert sum(result["removed"].values()) == 92, "a fifth of 464"
    assert result["equality"] < 0.5, "of pixels: a rounded activation may flip"
    out = tmp_path / "b.zip"
    options = ["--no-latency", "--runs", str(tmp_path), "--out", str(out), "--json", str(tmp_path / "e")]
    assert main(["export", result["run"], *options]) == 0
    measured = json.loads((tmp_path / "e").read_text())["onnx"]
    assert measured["map"] == pytest.approx(measured["torch_map"], abs=0.03)
    import zipfile

    with zipfile.ZipFile(out) as files:
        session = onnxruntime.InferenceSession(files.read("model.onnx"))
    (answer,) = session.run(None, {session.get_inputs()[0].name: np.zeros((5, 1, 64, 64), np.float32)})
    assert answer.shape == (5, 64, 14)


def write(
    root: Path, boxes: list[list[tuple[int, list[float]]]], name: str = "annotations.json", home: str = "images"
) -> Path:
    """A folder of grey images of 40x20 pixels, and their annotations: (category id, [x, y, width, height])."""
    (root / home).mkdir(parents=True)
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 7, "name": "car"}, {"id": 3, "name": "bus"}],
    }
    for number, rows in enumerate(boxes):
        Image.fromarray(np.full((20, 40, 3), 100, np.uint8)).save(root / home / f"{number}.png")
        content["images"].append({"id": 50 + number, "file_name": f"{number}.png", "width": 40, "height": 20})
        for kind, box in rows:
            about = {"id": len(content["annotations"]), "image_id": 50 + number, "category_id": kind, "bbox": box}
            content["annotations"].append(about)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(content))
    return root / name


ROWS: list[list[tuple[int, list[float]]]] = [[(7, [4.0, 2.0, 8.0, 10.0]), (3, [20.0, 0.0, 20.0, 20.0])], []] * 10


def test_a_folder_in_coco_format(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    folder = data.load(str(tmp_path), input=(3, 40, 40))
    assert data.task(str(tmp_path)) == folder.task == "detection"
    assert folder.classes == ("bus", "car"), "in the order of their ids"
    assert data.count_classes(tmp_path) == 2
    assert [len(folder.split(name)) for name in ("train", "validation", "test")] == [16, 2, 2]
    (row,) = {tuple(map(tuple, rows.tolist())) for rows in folder.train.labels if rows[0, 0] >= 0}
    assert set(row) == {(1.0, 4.0, 4.0, 12.0, 24.0), (0.0, 20.0, 0.0, 40.0, 40.0)}, "stretched to twice the height"


def test_a_folder_that_is_read_from_its_files_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, ROWS)
    memory = data.load(str(tmp_path), input=(3, 40, 40))
    coco.load_coco.cache_clear()
    monkeypatch.setattr(coco, "fits", lambda *_: False)
    files = data.load(str(tmp_path), input=(3, 40, 40))
    coco.load_coco.cache_clear()
    assert isinstance(files.train.images, Files)
    for one, other in zip(Batches(memory, "train", 4, seed=2), Batches(files, "train", 4, seed=2), strict=True):
        assert all(torch.equal(mine, its) for mine, its in zip(one, other, strict=True))
    sheets = [tasks.task_of(source).original() for source in (memory, files)]
    assert sheets[0] is not None
    assert sheets[1] is not None
    assert torch.equal(*sheets)


@pytest.mark.parametrize("side", [8, 10, 20, 28, 33, 36, 50, 64, 65, 97, 128])
def test_the_grid_of_the_loss_is_that_of_the_detector(side: int) -> None:
    task = task_of([[[0, 1, 1, 7, 7]]], size=side)
    expected = centres(side, side, 8)
    grid = task._cells(len(expected), torch.device("cpu"))  # type: ignore[attr-defined]
    assert grid is not None
    assert torch.equal(grid[0], expected)


@pytest.mark.parametrize("layout", ["roboflow", "coco"])
def test_other_layouts(layout: str, tmp_path: Path) -> None:
    for part, count in (("train", 12), ("val", 4)):
        if layout == "coco":
            write(tmp_path, ROWS[:count], f"annotations/instances_{part}2017.json", f"{part}2017")
        else:
            write(tmp_path / part, ROWS[:count], "_annotations.coco.json", ".")
    folder = data.load(str(tmp_path), input=(1, 20, 40))
    assert len(folder.validation) == 4
    assert len(folder.train) + len(folder.test) == 12


def test_bad_annotations_are_named(tmp_path: Path) -> None:
    def refused(name: str, why: str, boxes: list[list[tuple[int, list[float]]]] = ROWS, **changes: Any) -> None:
        path = write(tmp_path / name, boxes)
        content = json.loads(path.read_text())
        for key, value in changes.items():
            content[key] = value(content[key])
        path.write_text(json.dumps(content))
        with pytest.raises(CompressionError, match=why):
            data.load(str(tmp_path / name), input=(3, 20, 40))

    def other_size(images: list[Any]) -> list[Any]:
        return [{**image, "width": 41} for image in images]

    refused(
        "missing",
        r"name the image 99\.png, which is not there",
        images=lambda x: [*x, {"id": 1, "file_name": "99.png"}],
    )
    refused(
        "elsewhere",
        "outside of the folder",
        images=lambda x: [*x, {"id": 1, "file_name": "../../elsewhere.png"}],
    )
    refused(
        "unlisted",
        "names the image 51, which the file does not list",
        images=lambda x: [i for i in x if i["id"] != 51 or 0],
        boxes=[[(7, [0.0, 0, 5, 5])]] * 10,
    )
    refused("outside", r"0\.png of 40x20 has a box outside of it", [[(7, [30.0, 0.0, 20.0, 5.0])]] * 10)
    refused("flat", "has a box without an area", [[(7, [3.0, 3.0, 0.0, 5.0])]] * 10)
    refused("at the edge", "without an area in it", [[(7, [-0.9, 5.0, 0.5, 5.0])]] * 10)
    refused("twice", "have the number 50", images=lambda x: [{**image, "id": 50} for image in x])
    refused("none", "no images for the train split", images=lambda x: [], annotations=lambda x: [])
    refused("size", "its annotations say otherwise", images=other_size)
    refused("category", "have the category 3, which has no name", categories=lambda x: [x[0], {"id": 9, "name": "z"}])
    refused("one", "at least two categories", [[(7, [3.0, 3.0, 5.0, 5.0])]] * 10, categories=lambda x: x[:1])
    refused("fields", "annotations", annotations=lambda x: [{"image_id": 50}])
    (tmp_path / "size" / "annotations.json").write_text("{")
    with pytest.raises(CompressionError, match="annotations"):
        data.load(str(tmp_path / "size"), input=(3, 20, 40))
    with pytest.raises(CompressionError, match="leave resize and crop out"):
        data.load(str(tmp_path / "flat"), input=(3, 20, 40), preprocess={"crop": 8})


@pytest.mark.usefixtures("in_this_process")
def test_a_detector_of_ones_own_on_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "data", ROWS)
    (tmp_path / "net.py").write_text(
        "from compression.zoo.detector import Detector\n"
        "def net(input=(3, 32, 32), classes=2):\n"
        "    return Detector(input, classes), (3, 32, 32)\n"
    )
    model = f"{tmp_path / 'net.py'}:net"
    assert (zoo.spec(model).task, zoo.spec(model).classes) == ("detection", 2)
    about = f"--model {model} --data {tmp_path / 'data'} --batch-size 4"
    assert main(f"train {about} --epochs 2 --out {tmp_path / 'w.safetensors'}".split()) == 0
    words = f"run {about} --weights {tmp_path / 'w.safetensors'} --method sequential --sparsity 0.1 --bits 8 --epochs 1"
    assert main([*words.split(), "--runs", str(tmp_path / "runs"), "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["task"] == "detection"


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn"])
def test_torchvisions_detectors_answer_as_torchvision_decodes(name: str) -> None:
    torch.manual_seed(0)
    background = name.startswith("ssd")
    whole: Any = models.get_model(name, weights=None, weights_backbone=None, num_classes=3 + background).eval()
    own = zoo.build(f"torchvision:{name}", (3, 96, 96), 3).eval()
    own.load_state_dict(whole.state_dict())
    x = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        answer = own(x)
        features = list(whole.backbone(x).values())
        head = whole.head(features)
        anchors = whole.anchor_generator(ImageList(x, [(96, 96)] * 2), features)
        for number in range(2):
            boxes = whole.box_coder.decode_single(head["bbox_regression"][number], anchors[number])
            assert torch.allclose(answer[number, :, :4], boxes, atol=1e-3)
            logits = head["cls_logits"][number]
            scores = logits.softmax(1)[:, 1:] if background else logits.sigmoid()
            assert torch.allclose(answer[number, :, 4:].sigmoid(), scores, atol=1e-5)


def test_places_that_are_no_grid_learn_the_box_that_they_overlap_with() -> None:
    task = task_of([[[1, 8, 8, 30, 26], [2, 40, 40, 60, 60]]])
    answer = torch.zeros(1, 50, 7)  # 50 are no grid of 64x64
    answer[0, 3, :4] = torch.tensor([9.0, 8, 30, 26])
    answer[0, 4, :4] = torch.tensor([8.0, 8, 20, 26])  # half of it
    answer[0, 5, :4] = torch.tensor([50.0, 50, 63, 63])  # the most of the second, but less than half
    index = task._assigned(answer, task.data.test.labels)[0]  # type: ignore[attr-defined]
    assert {place: int(index[place]) for place in (3, 4, 5)} == {3: 0, 4: 0, 5: 1}
    assert int((index >= 0).sum()) == 3


@pytest.mark.usefixtures("in_this_process")
def test_a_detector_of_torchvision_on_a_folder_from_training_to_a_bundle(tmp_path: Path) -> None:
    write(tmp_path / "data", ROWS)
    model = "torchvision:ssdlite320_mobilenet_v3_large"
    assert (zoo.spec(model).task, zoo.spec(model).classes) == ("detection", 90)
    about = f"--model {model} --data {tmp_path / 'data'} --input 3x64x64 --classes 2 --batch-size 4"
    assert main(f"train {about} --epochs 1 --out {tmp_path / 'w.safetensors'}".split()) == 0
    words = f"run {about} --weights {tmp_path / 'w.safetensors'} --method ptq --bits 8 --activation-bits 8"
    assert main([*words.split(), "--runs", str(tmp_path / "runs"), "--json", str(tmp_path / "r.json")]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["final"]["bytes"] < result["baseline"]["bytes"] / 3
    out = ["--out", str(tmp_path / "b.zip"), "--no-latency", "--json", str(tmp_path / "e.json")]
    assert main(["export", result["run"], "--runs", str(tmp_path / "runs"), *out]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["onnx"]["difference"] < 64
