"""What the gates of inputs do to the loss, seen by hooks on the layers in one forward and backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from compression.methods.sbs.layers import SharedLayer
from compression.methods.sbs.path import InputPath
from compression.quant.attachable import INPUT_QUANTIZER

KEPT_SHARE = 0.9  # of what A was before: every batch has others


class InputWatch:
    """Between :meth:`begin` and :meth:`end`, ⟨dL/dẑ, ε⟩ of every gate is summed over calls, and A averaged."""

    def __init__(self, model: nn.Module, layers: Sequence[SharedLayer]) -> None:
        self._model, self._layers = model, layers
        self._handles: list[RemovableHandle] = []
        self._offsets: list[torch.Tensor | None] = [None] * len(layers)
        self._metrics: list[list[torch.Tensor]] = [[] for _ in layers]

    def begin(self) -> None:
        """Watch the next pass."""
        self._offsets, self._metrics = [None] * len(self._layers), [[] for _ in self._layers]
        for index, layer in enumerate(self._layers):
            for module in (self._model.get_submodule(name) for name in layer.names):
                path = next(
                    (each for each in layer.inputs if each.quantizer is module._modules.get(INPUT_QUANTIZER)), None
                )
                if path is not None and len(path.candidates) > 1:
                    hook = partial(self._observe, index, path)
                    self._handles.append(module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True))

    def end(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def offsets(self, sizes: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """⟨dL/dẑ, ε⟩ of all gates, ``sizes`` of each layer; 0 where nothing was seen."""
        pairs = zip(self._offsets, sizes, strict=True)
        return torch.cat([like.new_zeros(size) if seen is None else seen.to(like) for seen, size in pairs])

    def metrics(self, before: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        """A of all gates, of which nine tenths are what it was ``before``."""
        parts = zip(self._metrics, before.split(list(sizes)), strict=True)
        return torch.cat(
            [
                KEPT_SHARE * own + (1 - KEPT_SHARE) * torch.stack(seen).mean(0).to(own) if seen else own
                for seen, own in parts
            ]
        )

    def _observe(
        self, index: int, path: InputPath, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A forward pre-hook in front of the quantizer's."""
        x = args[0] if args else kwargs["input"]
        if not (module.training and torch.is_grad_enabled()):
            return args, kwargs
        # A node of its own: its gradient is that of this layer alone, straight through its quantizer
        own = x.view_as(x) if x.requires_grad else x.detach().requires_grad_(True)
        wide = own.detach().float()
        self._metrics[index].append(path.metrics(wide))
        own.register_hook(partial(self._record, index, path, wide))
        return ((own, *args[1:]), kwargs) if args else (args, {**kwargs, "input": own})

    def _record(self, index: int, path: InputPath, x: torch.Tensor, grad: torch.Tensor) -> None:
        offsets, before = path.offsets(x, grad.float()), self._offsets[index]
        self._offsets[index] = offsets if before is None else before + offsets
