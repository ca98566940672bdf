"""Models from outside the zoo: torchvision's by name, and a function in a file named by the user.

A file's function takes no arguments, or any of the keywords ``input`` (channels, height, width) and ``classes``, and
returns an ``nn.Module``, or a tuple of it, what it takes and a mapping, of which either may be absent. What it takes is
(channels, height, width), or an example: a tensor [1, …], a tuple of its arguments or a dict of its keyword arguments.
The mapping is a preprocessing (:mod:`compression.preprocess`) and may say ``"weights": "initial"``: weights that
are the same at every call are trained ones otherwise.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from compression import owncode
from compression.bounds import check_input
from compression.budget import INITIAL_WEIGHTS
from compression.data.types import CLASSIFICATION, DETECTION, SEGMENTATION
from compression.errors import CompressionError
from compression.graph.inputs import Example, Inputs, call, first_tensor
from compression.owncode import first_line
from compression.preprocess import Preprocess
from compression.zoo.registry import ANY, COLOUR, ModelSpec

IMAGENET_CLASSES, VOC_CLASSES, SEGMENTED = 1000, 21, (256, 256)
SIDES = 4  # of a box
DETECTORS = ("ssdlite320_mobilenet_v3_large", "ssd300_vgg16", "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2")
DETECTOR_SIZE = {"ssd300_vgg16": 300}
COCO_CLASSES = 90
NATIVE_SIZE = {"inception_v3": 299}
ACCEPTS_SIZE = {"vit": "image_size", "maxvit": "input_size"}


@lru_cache(maxsize=256)
def torchvision_spec(name: str) -> ModelSpec:
    """The spec of ``torchvision:NAME`` (a classifier, detector or segmentation network; weights are loaded separately).

    Raises:
        CompressionError: torchvision has none of this name.
    """
    from torchvision import models

    known = models.list_models(module=models)
    segmenting = models.list_models(module=models.segmentation)
    short = name.partition(":")[2]
    if short in segmenting:
        summary, size = "A torchvision segmentation network; weights are yours to give.", (3, *SEGMENTED)
        maker = partial(_make_segmentation, short)
        return ModelSpec(name, short, summary, "torchvision", size, VOC_CLASSES, (), maker, task=SEGMENTATION)
    if short in DETECTORS:
        summary, side = "A torchvision detector; weights are yours to give.", DETECTOR_SIZE.get(short, 320)
        return ModelSpec(
            name, short, summary, "torchvision", (3, side, side), COCO_CLASSES, (), partial(_make_detector, short),
            task=DETECTION,
        )  # fmt: skip
    if short not in known:
        known += [*segmenting, *DETECTORS]
        close = [other for other in known if other.startswith(short.rstrip("0123456789_")[:4])][:6]
        hint = ", ".join(close or known[:6])
        raise CompressionError(f"torchvision has no classifier {short!r}; it has {len(known)}, such as {hint}")
    side = NATIVE_SIZE.get(short, 224)
    summary = "A torchvision classifier; weights are yours to give."
    maker = partial(_make_torchvision, short)
    return ModelSpec(name, short, summary, "torchvision", (3, side, side), IMAGENET_CLASSES, (), maker)


def _make_detector(short: str, input: tuple[int, ...], classes: int | None) -> nn.Module:
    from compression.zoo.anchored import anchored

    return anchored(short, input, classes or COCO_CLASSES)


def _make_segmentation(short: str, input: tuple[int, ...], classes: int | None) -> nn.Module:
    from torchvision import models

    _colours(short, input)
    model: nn.Module = models.get_model(short, weights=None, weights_backbone=None, num_classes=classes or VOC_CLASSES)
    return model


def _colours(short: str, input: tuple[int, ...]) -> None:
    if input[0] != 3:
        raise CompressionError(
            f"torchvision:{short} takes RGB images (3 channels), not {input[0]}", "use --input 3xHxW"
        )


def _make_torchvision(short: str, input: tuple[int, ...], classes: int | None) -> nn.Module:
    from torchvision import models

    _colours(short, input)
    options: dict[str, Any] = {"weights": None, "num_classes": classes or IMAGENET_CLASSES}
    if short in ("googlenet", "inception_v3"):
        options |= {"init_weights": True}
    if short.startswith("vit"):
        options |= {"image_size": _square(short, input)}
    if short.startswith("maxvit"):
        options |= {"input_size": tuple(input[1:])}
    model: nn.Module = models.get_model(short, **options)
    return model


def _square(short: str, input: tuple[int, ...]) -> int:
    if input[1] != input[2]:
        raise CompressionError(f"torchvision:{short} takes square images only, not {input[1]}x{input[2]}")
    return input[1]


USUAL = (COLOUR, (1, 28, 28), (1, 32, 32), (3, 224, 224))


class Returned(NamedTuple):
    """What a function returned: module, input shape or example if stated, preprocessing, are the weights initial."""

    model: nn.Module
    input: tuple[int, ...] | None
    preprocess: Mapping[str, Any]
    initial: bool
    example: Example | None


def file_spec(name: str) -> ModelSpec:
    """The spec of ``path/to/file.py:function``: the function is called once to learn the model's input and class count.

    Raises:
        CompressionError: the file or function is missing, fails, or does not return a classifier.
    """
    return _file_spec(name, owncode.absolute(name))


@lru_cache(maxsize=16)
def _file_spec(name: str, absolute: str) -> ModelSpec:
    function = owncode.function(absolute)
    model, size, preprocess, initial, example = _called(name, function, None, None)
    if example is not None:
        size = tuple(first_tensor(example).shape[1:])
        task, classes = _answers(name, model, example)
    else:
        size, (task, classes) = (size, _answers(name, model, _zeros(size))) if size else _usual(name, model)
    summary = (inspect.getdoc(function) or "Your own model.").splitlines()[0]
    return ModelSpec(
        name, function.__name__, summary, "file", size, classes, (), partial(_make_file, name, function),
        preprocess=preprocess, initial=initial, task=task, example=example,
    )  # fmt: skip


def _make_file(name: str, function: Callable[..., Any], input: tuple[int, ...], classes: int | None) -> nn.Module:
    result = _called(name, function, input, classes)
    model = result.model
    # this also initializes lazy layers
    _, given = _answers(name, model, _zeros(input) if result.example is None else result.example)
    if classes is not None and given != classes:
        raise CompressionError(
            f"{name} gives {given} classes, not {classes}: let the function take the keyword `classes` and use it"
        )
    return model


def build_from(function: Callable[..., Any], input: tuple[int, ...], classes: int) -> nn.Module:
    """The model that a function returns, given whichever of the keywords ``input`` and ``classes`` it takes.

    Raises:
        CompressionError: it fails, or returns no model.
    """
    name = getattr(function, "__name__", "the function")
    model, *_, example = _called(name, function, input, classes)
    if any(map(is_lazy, model.parameters())):
        _answers(name, model, _zeros(input) if example is None else example)  # initializes lazy layers
    return model


def _called(name: str, function: Callable[..., Any], input: tuple[int, ...] | None, classes: int | None) -> Returned:
    """What the function returns for this input and class count."""
    accepted = inspect.signature(function).parameters
    keywords = {"input": input, "classes": classes}
    try:
        result = function(**{key: value for key, value in keywords.items() if value is not None and key in accepted})
    except CompressionError:
        raise
    except Exception as error:
        raise CompressionError(f"{name} fails when called: {first_line(error)}") from error
    return _returned(name, result)


def _returned(name: str, result: Any) -> Returned:
    """Split what a function returned into its parts.

    Raises:
        CompressionError: there is no module, or another part that is neither an input nor a mapping.
    """
    model, *rest = result if isinstance(result, tuple) and result else (result,)
    examples = [part for part in rest if any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(part))]
    rest = [part for part in rest if not any(part is example for example in examples)]
    sizes = [part for part in rest if part is not None and not isinstance(part, Mapping)]
    mappings = [part for part in rest if isinstance(part, Mapping)]
    if not isinstance(model, nn.Module) or len(sizes) + len(examples) > 1 or len(mappings) > 1:
        raise CompressionError(
            f"{name} must return an nn.Module, or (module, (channels, height, width), preprocessing), or an example of "
            "its inputs in the second place"
        )
    mapping = dict(mappings[0]) if mappings else {}
    weights = mapping.pop("weights", None)
    if weights not in (None, INITIAL_WEIGHTS):
        raise CompressionError(f"{name}: weights may only be said to be {INITIAL_WEIGHTS!r}, not {weights!r}")
    preprocess = Preprocess.read(mapping, f"{name}: preprocessing").to_dict()
    size = tuple(sizes[0]) if sizes and isinstance(sizes[0], Sequence) else sizes[0] if sizes else None
    if size is not None:
        check_input(size, f"{name}: input")
    example = Inputs.read(examples[0]).example if examples else None
    several = () if example is None or isinstance(example, torch.Tensor) else example
    parts = several.values() if isinstance(several, Mapping) else several
    if any(not isinstance(part, torch.Tensor) for part in parts):
        raise CompressionError(f"{name}: an example is a tensor, a tuple or a dict of tensors, without others inside")
    return Returned(unwrapped(model), size, preprocess, weights == INITIAL_WEIGHTS, example)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network without a data-parallel or ``torch.compile`` wrapper: a run applies its own."""
    inside = model.module if isinstance(model, (nn.DataParallel, DistributedDataParallel)) else None
    inside = getattr(model, "_orig_mod", inside)
    return unwrapped(inside) if isinstance(inside, nn.Module) else model


def _usual(name: str, model: nn.Module) -> tuple[tuple[int, ...], tuple[str, int]]:
    """(size, (task, classes)): the first usual image size that a model accepts, where its function states none."""
    for size in USUAL:
        with contextlib.suppress(CompressionError):
            return size, _answers(name, model, _zeros(size))
    return COLOUR, _answers(name, model, _zeros(COLOUR))  # raises


def _zeros(input: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(1, *input)


def _answers(name: str, model: nn.Module, example: Example) -> tuple[str, int]:
    """The task that the model's answer to one input shows (any, if empty), and the number of its logits (a pixel)."""
    training = model.training
    try:
        model.eval()
    except Exception as error:  # a program of torch.export has one mode only
        raise CompressionError(
            f"{name} returns a network without a training mode ({first_line(error)}): return the module it was made of"
        ) from error
    try:
        with torch.no_grad():
            output = first_tensor(call(model, example))
    except Exception as error:
        raise CompressionError(
            f"{name} does not take {Inputs.read(example).shapes} ({first_line(error)}): let the function return "
            "(model, (C, H, W)) to say which images it takes, or (model, example) of other inputs"
        ) from error
    finally:
        model.train(training)
    if not isinstance(example, torch.Tensor) or example.dim() != 4:
        return ANY, int(output.shape[-1]) if output.dim() > 1 else 1
    if output.dim() == 4 and output.shape[2:] == example.shape[2:]:
        return SEGMENTATION, int(output.shape[1])
    if output.dim() == 3 and output.shape[2] > SIDES:
        return DETECTION, int(output.shape[2]) - SIDES
    if output.dim() != 2:
        return ANY, int(output.shape[-1]) if output.dim() > 1 else 1
    return CLASSIFICATION, int(output.shape[1])
