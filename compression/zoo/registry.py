"""Names and descriptions of the zoo's models; a model is built on request only."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from compression import owncode
from compression.bounds import check_classes, check_input
from compression.data.catalogue import (
    BYTES,
    CANVAS,
    DIGIT_BOXES,
    DIGIT_MASKS,
    PICTURE_PREFIX,
    SENTENCE,
    SHIPPED_PICTURES,
    SHIPPED_TEXT,
    WINDOW,
)
from compression.data.types import (
    CLASSIFICATION,
    DETECTION,
    EXAMPLE,
    IMAGE,
    LANGUAGE,
    PASSAGE,
    PICTURE,
    PIXEL,
    SEGMENTATION,
    TEXT,
    Kind,
)

if TYPE_CHECKING:
    from torch import nn

from compression.errors import CompressionError

Maker = Callable[[tuple[int, ...], int | None], "nn.Module"]
SMALL, COLOUR = (1, 28, 28), (3, 32, 32)
ANY = ""
GREY_DATA, COLOUR_DATA = ("mnist5k", "fashion-mnist"), ("cifar10",)


@dataclass(frozen=True)
class ModelSpec:
    """One model: ``input`` is its default (channels, height, width), ``data`` the data sets that fit this default.

    ``pretrained`` puts weights published for it into a fresh model, from which ``train`` then starts, with ``lr`` and
    for ``epochs`` by default. ``usual`` are fields of a budget whose general defaults do not suit the model.
    ``make(input, classes)`` builds it; ``params`` (count) and ``macs`` (of convolutions and linear layers, batch 1) are
    those at the default input and counted when first read.
    """

    name: str
    title: str
    summary: str
    family: str
    input: tuple[int, ...]
    classes: int
    data: tuple[str, ...]
    make: Maker = field(repr=False, compare=False)
    vocabulary: int = 0  # above 0: inputs are token ids below it, not images
    pretrained: Callable[[nn.Module], None] | None = field(default=None, repr=False, compare=False)
    epochs: int = 10
    lr: float | None = None
    usual: Mapping[str, Any] = field(default_factory=dict, hash=False)  # fields of a budget where its own do not suit
    preprocess: Mapping[str, Any] = field(default_factory=dict, hash=False)  # of its images
    initial: bool = False  # its function declares its weights untrained
    task: str = CLASSIFICATION  # ANY: one of the user's own
    example: Any = field(default=None, repr=False, compare=False)  # of inputs that are not one image

    def built(self, input: tuple[int, ...], classes: int | None, empty: bool = False) -> nn.Module:
        """A fresh model at this size; ``empty``: without numbers (see :mod:`.empty`).

        Raises:
            CompressionError: it cannot be built, such as for a size that the architecture does not support.
        """
        from compression.zoo.empty import empty as emptied

        make = partial(self.make, input, classes)
        try:
            return emptied(make) if empty else make()
        except CompressionError:
            raise
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            size, line = "x".join(map(str, input)), lines[0].rstrip(".")
            raise CompressionError(f"{self.name} cannot be built for inputs of {size}: {line}") from error

    @property
    def kind(self) -> Kind:
        """What it takes."""
        if self.task == ANY:
            return EXAMPLE
        if self.vocabulary:
            return PASSAGE if self.task == LANGUAGE else TEXT
        return PIXEL if len(self.input) == 1 else IMAGE

    @cached_property
    def _size(self) -> tuple[int, int]:
        from compression.zoo.size import count

        looks = self.family == "file" or (self.vocabulary > 0 and self.family == "hf")  # own code, masks of values
        make = partial(self.built, self.input, self.classes, not looks)
        example = self.example
        if example is None:
            import torch

            example = torch.zeros(1, *self.input, dtype=torch.int64 if self.vocabulary else None, device="meta")
        return count(make, example, device="cpu" if looks else "meta")

    @property
    def params(self) -> int:
        """Number of parameters at the default input."""
        return self._size[0]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers for one default input."""
        return self._size[1]


def check_size(name: str, input: tuple[int, ...], classes: int | None) -> None:
    """Refuse a value that is not an image size or class count.

    Raises:
        CompressionError: naming the value.
    """
    if owncode.is_own(name):
        return  # what it takes and answers is seen when it is called
    if classes is not None:
        check_classes(classes, f"{name}: classes")
    if name.startswith("hf:") or (name in OWN and len(OWN[name].input) == 1):
        return  # other shapes, checked by the model's constructor
    check_input(input, f"{name}: input")


def _make(home: str, function: str, default_classes: int, input: tuple[int, ...], classes: int | None) -> nn.Module:
    module = importlib.import_module(f"{__package__}.{home}")
    model: nn.Module = getattr(module, function)(input, classes or default_classes)
    return model


def _own(name: str, title: str, summary: str, home: str, input: tuple[int, ...] = COLOUR) -> ModelSpec:
    data = GREY_DATA if input == SMALL else COLOUR_DATA
    return ModelSpec(name, title, summary, home, input, 10, data, partial(_make, home, name, 10))


def _pretrained(model: nn.Module) -> None:
    importlib.import_module(f"{__package__}.minilm").pretrained(model)


MINILM = ModelSpec(
    "minilm", "MiniLM, six layers", "A real BERT encoder of sentences, trained by others.", "minilm",
    (SENTENCE,), 2, ("sst2",), partial(_make, "minilm", "minilm", 2), 30_522, _pretrained, epochs=2, lr=1e-4,
)  # fmt: skip
SIREN = ModelSpec(
    "siren", "SIREN, a picture in 17 k weights", "Answers coordinates with colours: fitted to a picture, it is one.",
    "siren", (2,), 3, tuple(f"{PICTURE_PREFIX}{name}" for name in SHIPPED_PICTURES),
    partial(_make, "siren", "siren", 3), epochs=100,
    usual={"epochs": 40, "batch_size": 2048, "optimizer": "adam", "lr": 5e-4, "weight_decay": 0.0}, task=PICTURE,
)  # fmt: skip
UNET = ModelSpec(
    "unet_small", "U-Net, small", "A class for every pixel: down and up again, with skip connections.", "unet",
    CANVAS, 11, (DIGIT_MASKS,), partial(_make, "unet", "unet_small", 11), epochs=20,
    usual={"batch_size": 32}, task=SEGMENTATION,
)  # fmt: skip
DETECTOR = ModelSpec(
    "detector_tiny", "Detector, tiny", "A box and a class for each cell: C2f blocks, split and joined.", "detector",
    CANVAS, 10, (DIGIT_BOXES,), partial(_make, "detector", "detector_tiny", 10), epochs=30, lr=2e-3,
    usual={"batch_size": 32, "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01}, task=DETECTION,
)  # fmt: skip
CAUSAL = ModelSpec(
    "causal_tiny", "Causal transformer, tiny", "Predicts the next byte of a text; two queries share a key.", "causal",
    (WINDOW,), BYTES, (SHIPPED_TEXT,), partial(_make, "causal", "causal_tiny", BYTES), BYTES, epochs=10, lr=2e-3,
    usual={"batch_size": 32, "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01}, task=LANGUAGE,
)  # fmt: skip
OWN: dict[str, ModelSpec] = {
    entry.name: entry
    for entry in (
        _own("resnet8", "ResNet-8, width 8", "Three residual blocks: a run takes seconds.", "resnet", SMALL),
        _own("resnet20", "ResNet-20", "The CIFAR classic of nine residual blocks, projection shortcuts.", "resnet"),
        _own("resnet56", "ResNet-56", "Twenty-seven residual blocks: long chains of ties.", "resnet"),
        _own("vgg7", "VGG-7", "Six wide convolutions in a plain chain: nothing is tied but neighbours.", "vgg"),
        _own("vgg7_small", "VGG-7, width 32", "A quarter of the channels: an epoch takes a minute.", "vgg"),
        _own("mobilenet_small", "MobileNet, small", "Inverted residuals with depthwise convolutions.", "mobilenet"),
        _own("vit_tiny", "Vision Transformer, tiny", "Four blocks of attention over 4x4 patches.", "vit"),
        MINILM,
        SIREN,
        UNET,
        DETECTOR,
        CAUSAL,
    )
}
