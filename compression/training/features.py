"""Which layers' outputs are compared with the teacher's in distillation, and how far they are from them.

Compared are the outputs of *stages*, found by running the dense network once (:func:`feature_layers`): of a network on
sequences the blocks, otherwise the last module at each resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph.inputs import Example, call, first_tensor

SMALLEST = 1e-12  # of a teacher's feature that is zero everywhere


def feature_layers(model: nn.Module, example: Example, name: str) -> dict[str, int]:
    """Name of each module whose output is compared → the axis of its channels.

    Where a Sequential or ModuleList has elements that all return [B, T, D] of one shape, the stages are the elements of
    the longest of them (the first of equally long ones): the blocks of a transformer. Otherwise, a stage is the module
    that finishes last of those whose output [B, C, ...] has one resolution (the sizes after C, not all of them 1): the
    stages of a ResNet or MobileNet, what a VGG pools. ``model`` is run on ``example`` in its present mode.

    Raises:
        CompressionError: the network ``name`` has no such module.
    """
    shapes = _output_shapes(model, example)
    blocks: list[str] = []
    for path, container in model.named_modules():
        if isinstance(container, (nn.Sequential, nn.ModuleList)):
            elements = [f"{path}.{key}" if path else key for key, _ in container.named_children()]
            sizes = {shapes.get(element) for element in elements}
            if len(sizes) == 1 and len(sizes.pop() or ()) == 3 and len(elements) > len(blocks):
                blocks = elements
    if blocks:
        return dict.fromkeys(blocks, 2)
    last = {shape[2:]: path for path, shape in shapes.items() if shape[2:].numel() > 1}
    if not last:
        raise CompressionError(
            f"distill_features: {name} has no module with an output of channels by positions, so no features can be "
            "compared: set it to 0"
        )
    return dict.fromkeys(last.values(), 1)


def _output_shapes(model: nn.Module, example: Example) -> dict[str, torch.Size]:
    """Module → the shape of its output, in the order in which they finish; ranks 3 and more only."""
    names = [name for name, _ in model.named_modules() if name]
    with torch.no_grad(), Outputs(model, names, recorded=True) as outputs:
        call(model, example)
    batch = len(first_tensor(example))
    return {name: value.shape for name, value in outputs.values.items() if value.dim() > 2 and len(value) == batch}


class Outputs:
    """Hooks that hold the latest output of some modules in ``values``, by name, until :meth:`remove`.

    Of a module that returns several values the first counts. ``recorded``: also without gradients, so that a teacher's
    are held; otherwise measurements in between change nothing. A copy of the model does not write here.
    """

    def __init__(self, model: nn.Module, names: list[str], recorded: bool = False) -> None:
        self.values: dict[str, torch.Tensor] = {}
        self._recorded = recorded
        self._modules = {name: model.get_submodule(name) for name in names}
        self._hooks = [module.register_forward_hook(_Hook(self, name)) for name, module in self._modules.items()]

    def write(self, name: str, module: nn.Module, output: Any) -> None:
        """Hold the output of a module."""
        value = output[0] if isinstance(output, (tuple, list)) and output else output
        listens = self._recorded or torch.is_grad_enabled()
        if listens and module is self._modules[name] and isinstance(value, torch.Tensor):
            self.values.pop(name, None)  # the order is that of the latest output
            self.values[name] = value

    def take(self) -> dict[str, torch.Tensor]:
        """What the modules returned last, which is no longer held here."""
        taken, self.values = self.values, {}
        return taken

    def remove(self) -> None:
        """Take the hooks away."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class _Hook:
    """A hook that a copy of the module shares instead of copying what it writes to."""

    def __init__(self, outputs: Outputs, name: str) -> None:
        self.outputs, self.name = outputs, name

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.outputs.write(self.name, module, output)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def feature_loss(
    student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor], channels: Mapping[str, int]
) -> torch.Tensor:
    """Mean over the layers of ‖F_s - F_t‖² / ‖F_t‖² over the channels that remain; ``channels``: layer → their axis.

    A removed unit is zero while the network is trained, in a residual trunk with every producer: a channel of the
    student that is exactly 0 all over the batch is left out of both norms. (One that is not removed but rectified to 0
    everywhere would get no gradient either.) So is a layer that did not run in this step (a block that is skipped).
    """
    ratios = []
    for layer, axis in channels.items():
        if layer not in student or layer not in teacher:
            continue
        own, target = student[layer].float(), teacher[layer].float()
        others = [dim for dim in range(own.dim()) if dim != axis]
        remains = (own.detach() != 0).any(dim=others, keepdim=True)
        distance = ((own - target) * remains).square().sum()
        ratios.append(distance / (target * remains).square().sum().clamp(min=SMALLEST))
    return torch.stack(ratios).mean() if ratios else torch.zeros(())
