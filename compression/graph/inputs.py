"""What a network is called with: positional and keyword arguments, in which tensors may be nested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map_only

from compression.errors import CompressionError

Example = torch.Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """The arguments of one call of ``forward``; anything in them that is no tensor is passed on as it is."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, example: Example | Inputs) -> Inputs:
        """A tensor is the only argument, a tuple or list contains the positional ones, a mapping the keyword ones.

        Raises:
            CompressionError: there is no tensor in them.
        """
        if isinstance(example, Inputs):
            return example
        if isinstance(example, Mapping):
            inputs = cls((), {str(name): value for name, value in example.items()})
        else:
            inputs = cls(tuple(example) if isinstance(example, (tuple, list)) else (example,))
        if not inputs.tensors:
            raise CompressionError(
                "example_inputs must be a tensor or a tuple of tensors [batch, …] (which may be nested), or a dict of "
                f"keyword arguments, not {described(example)}"
            )
        return inputs

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Every tensor, in the order of the arguments."""
        return tuple(leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, torch.Tensor))

    @property
    def example(self) -> Example:
        """What :meth:`read` makes these inputs of."""
        if self.args and self.kwargs:
            raise CompressionError("a batch is a tuple of arguments, or a dict of keyword arguments, not both")
        if self.kwargs:
            return self.kwargs
        return self.args[0] if len(self.args) == 1 and isinstance(self.args[0], torch.Tensor) else self.args

    @property
    def shapes(self) -> str:
        """The tensors' shapes in words: ``2x3x8x8, 2x5``."""
        return ", ".join("x".join(map(str, tensor.shape)) for tensor in self.tensors)

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
        """The same arguments with every tensor replaced."""
        args, kwargs = tree_map_only(torch.Tensor, function, (self.args, self.kwargs))
        return Inputs(args, kwargs)

    def batch_of(self, size: int) -> Inputs:
        """``size`` copies of the first example; a tensor of another length than the first one has no batch axis."""
        length = self.tensors[0].shape[:1]

        def repeated(tensor: torch.Tensor) -> torch.Tensor:
            if not length or tensor.shape[:1] != length:
                return tensor
            return tensor[:1].expand(size, *tensor.shape[1:]).contiguous()

        return self.map(repeated)

    def double(self) -> Inputs:
        """Floating-point tensors in fp64."""
        return self.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)

    def call(self, model: nn.Module) -> Any:
        """What the model returns."""
        return model(*self.args, **self.kwargs)


def call(model: nn.Module, x: Example) -> Any:
    """What a model returns for a batch: a tensor, a tuple of its arguments, or a mapping of its keyword arguments."""
    return model(x) if isinstance(x, torch.Tensor) else Inputs.read(x).call(model)


def first_tensor(value: Any) -> torch.Tensor:
    """The first tensor in a tuple or mapping: the answer among what a network returns, which may be more in training.

    Raises:
        TypeError: there is none.
    """
    if isinstance(value, torch.Tensor):
        return value
    tensor = next((leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)), None)
    if tensor is None:
        raise TypeError(f"the model must answer with a tensor, not with {type(value).__name__}")
    return tensor


def described(value: object) -> str:
    """The type of a value of a wrong type, in words."""
    if isinstance(value, (tuple, list)):
        return ", ".join(map(described, value)) or "nothing"
    return f"the class {value.__name__}: make one first" if isinstance(value, type) else f"a {type(value).__name__}"
