"""Models by name: the own zoo, torchvision's, timm's, transformers', and a function in a user's file.

Importing this package does not import torch: names and descriptions are available before anything heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compression import owncode
from compression.errors import CompressionError
from compression.zoo.registry import ANY, OWN, ModelSpec, check_size

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ANY", "ModelSpec", "build", "example", "is_file", "names", "resolve", "spec", "usual"]

ELSEWHERE = ("torchvision:", "timm:", "hf:")
PLACES = "torchvision:NAME, timm:NAME, hf:NAME, or path/to/file.py:function"


def names() -> list[str]:
    """The zoo's own; ``torchvision:``, ``timm:``, ``hf:`` and ``path/to/file.py:function`` name models as well."""
    return list(OWN)


def is_file(name: str) -> bool:
    """Whether a name is that of a function in a user's file: building such a model runs the code in it."""
    return owncode.is_own(name) and not name.startswith(ELSEWHERE)


def spec(name: str) -> ModelSpec:
    """Facts about a model: title, default input and class count; parameters and MACs are counted when first read.

    Raises:
        CompressionError: no such model, or the file named cannot be used.
    """
    if name in OWN:
        return OWN[name]
    if name.startswith("torchvision:"):
        from compression.zoo.imported import torchvision_spec

        return torchvision_spec(name)
    if name.startswith(("timm:", "hf:")):
        from compression.zoo import extra

        return extra.timm_spec(name) if name.startswith("timm:") else extra.hf_spec(name)
    if is_file(name):
        from compression.zoo.imported import file_spec

        return file_spec(name)
    raise CompressionError(f"unknown model {name!r}: choose one of {', '.join(OWN)}, {PLACES}")


def resolve(name: str, input: tuple[int, ...] | None = None, classes: int | None = None) -> tuple[tuple[int, ...], int]:
    """The input (channels, height, width) and class count :func:`build` uses: those requested, else the model's own."""
    if input is not None and classes is not None:
        return tuple(input), classes
    known = spec(name)
    return tuple(input or known.input), known.classes if classes is None else classes


def usual(model: str) -> dict[str, Any]:
    """Fields of a budget whose general defaults do not suit this model; none of a model that is not the zoo's own."""
    return dict(OWN[model].usual) if model in OWN else {}


def build(
    name: str, input: tuple[int, ...] | None = None, classes: int | None = None, *, seed: int | None = 0,
    empty: bool = False,
) -> nn.Module:  # fmt: skip
    """A fresh model with seeded initial weights (``seed=None``: drawn from torch's global generator instead).

    ``input`` is (channels, height, width). With a seed, the caller's random state is restored. ``empty``:
    on the meta device, without values and their memory, which is enough to trace most networks.

    Raises:
        CompressionError: unknown model, or a size it cannot be built for.
    """
    import torch

    known = spec(name)
    size = tuple(input or known.input)
    check_size(name, size, classes)
    if seed is None and not empty:
        return known.built(size, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        return known.built(size, classes, empty)


def example(name: str, batch: int = 1, input: tuple[int, ...] | None = None) -> tuple[Any, ...] | Mapping[str, Any]:
    """Seeded inputs to trace the model with: images [batch, C, H, W] fp32, or int64 token ids [batch, length].

    A tuple of the arguments; of a function that returned an example of its own, ``batch`` copies of that, which may be
    a dict of keyword arguments.

    Raises:
        CompressionError: no such model.
    """
    import torch

    from compression.graph.inputs import Inputs

    known = spec(name)
    if known.example is not None:
        several = Inputs.read(known.example).batch_of(batch)
        return several.kwargs or several.args
    shape = (batch, *(input or known.input))
    generator = torch.Generator().manual_seed(0)
    if known.vocabulary:
        return (torch.randint(known.vocabulary, shape, generator=generator),)
    return (torch.randn(shape, generator=generator),)
