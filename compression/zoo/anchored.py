"""torchvision's SSD, SSDLite and RetinaNet as plain detectors: the trained part, with boxes decoded from anchors.

Their own ``forward`` resizes images, sorts and drops boxes, and computes the loss; here a network answers
[B, anchors, 4 + classes] as :mod:`compression.tasks.detection` takes it, so that it can be pruned, quantized and
exported as a whole. Parameters keep torchvision's names.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models.detection.image_list import ImageList

from compression.errors import CompressionError

WIDEST = math.log(1000.0 / 16)  # of the exponent of a width, as torchvision limits it
NEARLY_SURE = 1 - 1e-6


class Anchored(nn.Module):
    """Backbone and head of a torchvision detector, for images of one size."""

    anchors: torch.Tensor

    def __init__(self, name: str, input: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.with_background = name.startswith("ssd")
        options: dict[str, Any] = {"weights": None, "weights_backbone": None}
        whole: Any = models.get_model(name, num_classes=classes + self.with_background, **options)
        self.backbone, self.head = whole.backbone, whole.head
        self.weights: tuple[float, ...] = tuple(whole.box_coder.weights)
        self.register_buffer("anchors", _anchors(whole, input), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] to [B, anchors, 4 + classes]: x1, y1, x2, y2 in pixels, then a logit for each class."""
        result = self.head(list(self.backbone(x).values()))
        return torch.cat([self._decoded(result["bbox_regression"]), self._logits(result["cls_logits"])], 2)

    def _decoded(self, codes: torch.Tensor) -> torch.Tensor:
        """Boxes of offsets relative to the anchors (Ren et al., Faster R-CNN, arXiv 1506.01497, eq. 2)."""
        across, down, wide, high = self.weights
        size = self.anchors[:, 2:] - self.anchors[:, :2]
        middle = self.anchors[:, :2] + size / 2
        middle = middle + codes[..., :2] / codes.new_tensor([across, down]) * size
        half = (codes[..., 2:] / codes.new_tensor([wide, high])).clamp(max=WIDEST).exp() * size / 2
        return torch.cat([middle - half, middle + half], 2)

    def _logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits whose sigmoid is the probability: of a softmax with the background first, those of its classes."""
        if not self.with_background:
            return logits
        share = logits.softmax(2)[..., 1:].clamp(1 - NEARLY_SURE, NEARLY_SURE)
        return share.log() - (1 - share).log()


def _anchors(whole: Any, input: tuple[int, ...]) -> torch.Tensor:
    """The boxes that offsets are relative to, fp32 [anchors, 4]."""
    images = torch.zeros(1, *input)
    training = whole.training
    with torch.no_grad():
        features = list(whole.eval().backbone(images).values())
        anchors: torch.Tensor = whole.anchor_generator(ImageList(images, [tuple(input[1:])]), features)[0]
    whole.train(training)
    return anchors.clone()


def anchored(name: str, input: tuple[int, ...], classes: int) -> Anchored:
    """The detector ``name`` of torchvision.

    Raises:
        CompressionError: images that are not of three channels.
    """
    if input[0] != 3:
        raise CompressionError(f"torchvision:{name} takes RGB images (3 channels), not {input[0]}", "use --input 3xHxW")
    return Anchored(name, input, classes)
