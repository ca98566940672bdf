"""Detection: boxes with their classes, measured by COCO's mean average precision.

A network answers [B, cells, 4 + classes]: a box in pixels and a logit for each class, for every cell of a grid of one
stride, or for as many places as it likes. Boxes that overlap with better ones of their class are dropped where answers
are measured or shown.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from faster_coco_eval import COCO, COCOeval_faster
from torch import nn
from torchvision.ops import batched_nms, box_area, box_iou, generalized_box_iou_loss

from compression.data import Batches
from compression.data.types import DETECTION, NOTHING
from compression.tasks.base import Evaluation, Scorer, Task
from compression.tasks.metric import MAP
from compression.tasks.sheet import SHOWN, grey, palette, sheet

RADIUS = 1.5  # strides around the centre of a box within which cells learn it (FCOS with centre sampling)
BOX_WEIGHT, FOCUS = 2.0, 2.0
LEAST_SCORE, OVERLAP, MOST = 0.01, 0.6, 100  # what counts as an answer, which boxes are the same, how many an image
SURE = 0.3  # of a box that is shown
STRIDES = (8, 16, 32, 4, 64, 2, 1)  # of a grid of cells, the usual one first
HALF = 0.5  # the overlap from which on a prediction learns a box


class Detection(Task):
    """Targets are boxes fp32 [B, M, 5]: class, x1, y1, x2, y2; rows of class -1 fill up."""

    name = DETECTION
    metric = MAP
    evaluation_batch = 100

    def answer_shape(self, x: torch.Tensor, outputs: int) -> tuple[int, ...] | None:
        """[B, cells, 4 + classes]; how many cells is the network's choice."""
        return None

    def loss(self, answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Quality focal loss of the logits (Li et al., arXiv 2006.04388, eq. 2) and generalized IoU loss of the boxes.

        A cell near the centre of a box learns it; its logit's target is how far the predicted box overlaps.
        """
        boxes, logits = answer[..., :4], answer[..., 4:]
        index = self._assigned(answer, target)  # [B, cells]: the row of the target, or -1
        positive = index >= 0
        rows = target.gather(1, index.clamp(min=0).unsqueeze(2).expand(-1, -1, 5))[positive]
        chosen = boxes[positive]
        quality = torch.zeros_like(logits)
        places = positive.nonzero()
        if len(rows):
            overlap = _paired_iou(chosen.detach(), rows[:, 1:])
            quality[places[:, 0], places[:, 1], rows[:, 0].long()] = overlap
        miss = (quality - logits.sigmoid()).abs() ** FOCUS
        kinds = (miss * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")).sum()
        sides = generalized_box_iou_loss(chosen, rows[:, 1:], reduction="sum")
        return (kinds + BOX_WEIGHT * sides) / max(1, len(rows))

    def distillation(self, answer: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """Cross-entropy with the teacher's probabilities and generalized IoU with its boxes, where it is confident."""
        sure = teacher[..., 4:].sigmoid().amax(2)
        soft = (teacher[..., 4:] / temperature).sigmoid()
        kinds = F.binary_cross_entropy_with_logits(answer[..., 4:] / temperature, soft, reduction="none")
        entropy = F.binary_cross_entropy(soft, soft, reduction="none")  # 0 for a student that equals its teacher
        sides = generalized_box_iou_loss(answer[..., :4], teacher[..., :4], reduction="none")
        total = temperature**2 * (kinds - entropy).sum() + BOX_WEIGHT * (sure * sides).sum()
        return total / sure.sum().clamp(min=1)

    def picture(self, model: nn.Module) -> torch.Tensor:
        """The first validation images with the boxes of which the model is sure, in the colours of their classes."""
        answer = self._evaluated(model, self._shown()[0])
        return self._sheet([(kinds[s > SURE], boxes[s > SURE]) for boxes, s, kinds in map(detections, answer)])

    def original(self) -> torch.Tensor:
        """The same images with the true boxes."""
        rows = [target[target[:, 0] != NOTHING] for target in self._shown()[1]]
        return self._sheet([(boxes[:, 0].long(), boxes[:, 1:]) for boxes in rows])

    def scorer(self) -> Scorer:
        """Collects boxes, true and answered."""
        return _Precision(self)

    def _assigned(self, answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The row of ``target`` that each cell learns, int64 [B, cells]; -1: none.

        A cell learns the smallest box within which its centre lies near the middle; the nearest cell of a box always
        learns it. Of places that are no grid, those learn a box whose own prediction overlaps with it by half, and the
        one that does most.
        """
        grid = self._cells(answer.shape[1], answer.device)
        if grid is None:
            return torch.stack(
                [_overlapping(each[:, :4].detach(), rows) for each, rows in zip(answer, target, strict=True)]
            )
        places, stride = grid
        low, high = target[..., 1:3], target[..., 3:]  # [B, M, 2]
        middle = (low + high) / 2
        points = places.view(1, -1, 1, 2)
        inside = ((points > low.unsqueeze(1)) & (points < high.unsqueeze(1))).all(3)
        distance = (points - middle.unsqueeze(1)).abs().amax(3)  # [B, cells, M]
        true = (target[..., 0] != NOTHING).unsqueeze(1)
        near = (inside & (distance < RADIUS * stride)) | (distance == distance.amin(1, keepdim=True))
        area = (high - low).prod(2).unsqueeze(1).expand_as(distance)
        cost = torch.where(near & true, area, math.inf)
        least, index = cost.min(2)
        return torch.where(least.isfinite(), index, -1)

    def _cells(self, count: int, device: torch.device) -> tuple[torch.Tensor, float] | None:
        """Centres of the cells, fp32 [cells, 2], and their stride, which follows from how many cover an image.

        ``None``: so many are no grid.
        """
        _, height, width = self.data.input
        fitting = (s for s in STRIDES if math.prod(-(-size // s) for size in (height, width)) == count)
        stride = next(fitting, None)
        if stride is None:
            return None
        y, x = (stride * (torch.arange(-(-size // stride), device=device) + 0.5) for size in (height, width))
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        return torch.stack([columns, rows], 2).view(-1, 2), float(stride)

    def _shown(self) -> tuple[torch.Tensor, torch.Tensor]:
        return next(iter(Batches(self.data, "validation", SHOWN, augment=False)))

    def _sheet(self, drawn: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        tiles = grey(self._images(len(drawn))).clone()
        _, height, width = self.data.input
        colours = palette(len(self.data.classes) + 1)[1:]
        for tile, (kinds, boxes) in zip(tiles, drawn, strict=True):
            for kind, box in zip(kinds.tolist(), boxes.round().long().tolist(), strict=True):
                left, right = (min(max(side, 0), width - 1) for side in (box[0], box[2] - 1))
                top, bottom = (min(max(side, 0), height - 1) for side in (box[1], box[3] - 1))
                tile[[top, bottom], left : right + 1] = colours[kind]
                tile[top : bottom + 1, [left, right]] = colours[kind]
        return sheet(tiles.round().to(torch.uint8))


def detections(answer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(boxes fp32 [n, 4], scores [n], classes int64 [n]) of one image's answer [cells, 4 + classes], the best first."""
    scores, kinds = answer[:, 4:].sigmoid().max(1)
    candidates = scores > LEAST_SCORE
    boxes, scores, kinds = answer[candidates, :4], scores[candidates], kinds[candidates]
    remaining = batched_nms(boxes, scores, kinds, OVERLAP)[:MOST]
    return boxes[remaining], scores[remaining], kinds[remaining]


def _overlapping(boxes: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The row of one image's boxes [M, 5] that each predicted box [cells, 4] overlaps with most, int64 [cells]."""
    true = rows[:, 0] != NOTHING
    overlap = torch.where(true, box_iou(boxes, rows[:, 1:]), -1.0)
    most, index = overlap.max(1)
    index = torch.where(most >= HALF, index, -1)
    for row in true.nonzero().flatten():
        index[overlap[:, row].argmax()] = row
    return index


def _paired_iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Intersection over union of boxes [n, 4] with those in the same places."""
    low, high = torch.maximum(one[:, :2], other[:, :2]), torch.minimum(one[:, 2:], other[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    return shared / (box_area(one) + box_area(other) - shared)


class _Precision(Scorer):
    """COCO's average precision, a mean over classes and overlaps of 0.50, 0.55 … 0.95; ``details["map50"]`` at 0.5."""

    def __init__(self, task: Detection) -> None:
        self.task, self.loss, self.count = task, 0.0, 0
        self.true: list[dict[str, Any]] = []
        self.answered: list[dict[str, Any]] = []

    def add(self, answer: torch.Tensor, target: torch.Tensor) -> None:
        self.loss += float(self.task.loss(answer, target)) * len(target)
        for each, rows in zip(answer, target, strict=True):
            self.count += 1
            for row in rows[rows[:, 0] != NOTHING].tolist():
                entry = {**_entry(self.count, int(row[0]), row[1:]), "id": len(self.true) + 1, "iscrowd": 0}
                self.true.append({**entry, "area": entry["bbox"][2] * entry["bbox"][3]})
            boxes, scores, kinds = (part.tolist() for part in detections(each))
            for box, score, kind in zip(boxes, scores, kinds, strict=True):
                self.answered.append({**_entry(self.count, kind, box), "score": score})

    def result(self) -> Evaluation:
        precision, at_half = _average_precision(self.count, self.true, self.answered)
        return Evaluation(precision, self.loss / max(1, self.count), {"map50": at_half}, precision < 0.01)


def _entry(image: int, kind: int, box: list[float]) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {"image_id": image, "category_id": kind, "bbox": [x1, y1, x2 - x1, y2 - y1]}


def _average_precision(images: int, true: list[dict[str, Any]], answered: list[dict[str, Any]]) -> tuple[float, float]:
    """(over overlaps of 0.5 to 0.95, at 0.5); 0 where nothing is answered or nothing is there."""
    if not true or not answered:
        return 0.0, 0.0
    kinds = sorted({entry["category_id"] for entry in true})
    about = {
        "images": [{"id": number + 1} for number in range(images)],
        "categories": [{"id": kind, "name": str(kind)} for kind in kinds],
        "annotations": true,
    }
    truth = COCO(about)
    known = [entry for entry in answered if entry["category_id"] in set(kinds)]
    if not known:
        return 0.0, 0.0
    evaluation = COCOeval_faster(truth, truth.loadRes(known), "bbox", print_function=lambda *_: None)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return tuple(max(0.0, float(value)) for value in evaluation.stats[:2])  # type: ignore[return-value]
