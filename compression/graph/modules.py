"""Cutting tensors inside modules, and keeping the sizes that modules remember in step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph.cuts import Cuts, without
from compression.graph.names import canonical, is_quantizer_name
from compression.graph.types import Group


@torch.no_grad()
def cut_tensors(model: nn.Module, dropped: Cuts) -> None:
    """Remove positions of parameters and buffers in place.

    Quantizers' masks of their weight's shape, and their bounds for each of its channels, are cut along with it.

    Raises:
        CompressionError: the model has no tensor of a name.
    """
    owners, bounds = _owners(model), _channel_bounds(model)
    for name, cuts in dropped.items():
        if name not in owners:
            raise CompressionError(f"the model has no parameter {name!r}: was the graph traced from another model?")
        for module, key in owners[name]:
            _cut(module, key, cuts)
        for full, module, key in bounds.get(name, ()):
            if full not in dropped:  # a graph of the quantized model names them itself
                shape = getattr(module, key).shape
                _cut(module, key, [(dim, where) for dim, where in cuts if shape[dim] > 1])


def _owners(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Canonical name → (module, key) of the tensor and of a quantizer's masks of its shape."""
    owners: dict[str, list[tuple[nn.Module, str]]] = {}
    for path, module in model.named_modules():
        names = [*module._parameters.keys(), *module._buffers.keys()]  # TorchScript has no iterator
        for key in names:
            full = f"{path}.{key}" if path else key
            if not is_quantizer_name(full) or canonical(full) != full or key in module._parameters:
                owners.setdefault(canonical(full), []).append((module, key))
        for weight, quantizers in getattr(module, "parametrizations", {}).items():
            original = getattr(quantizers, "original", None)  # torch's parametrizations may have several
            for part in quantizers:
                for key, buffer in part.named_buffers(recurse=False):
                    if original is not None and buffer.shape == original.shape and buffer.ndim > 0:
                        full = f"{path}.{weight}" if path else weight
                        owners.setdefault(full, []).append((part, key))
    return owners


def _channel_bounds(model: nn.Module) -> dict[str, list[tuple[str, nn.Module, str]]]:
    """Canonical name of a weight → (name, module, key) of its quantizers' tensors that have a value per channel."""
    bounds: dict[str, list[tuple[str, nn.Module, str]]] = {}
    for path, module in model.named_modules():
        for weight, quantizers in getattr(module, "parametrizations", {}).items():
            original = getattr(quantizers, "original", None)
            for index, part in enumerate(quantizers):
                buffers = [  # one of the weight's shape is a mask, see _owners
                    (key, buffer) for key, buffer in part.named_buffers(recurse=False)
                    if original is not None and buffer.shape != original.shape
                ]  # fmt: skip
                for key, tensor in (*part.named_parameters(recurse=False), *buffers):
                    if original is not None and tensor.dim() == original.dim() and tensor.numel() > 1:
                        name = f"{path}.{weight}" if path else weight
                        full = ".".join(filter(None, (path, "parametrizations", weight, str(index), key)))
                        bounds.setdefault(name, []).append((full, part, key))
    return bounds


def _cut(module: nn.Module, key: str, cuts: Iterable[tuple[int, torch.Tensor]]) -> None:
    tensor = module._parameters[key] if key in module._parameters else module._buffers[key]
    if tensor is None:
        return
    remaining = without(tensor.detach(), cuts)
    if key in module._parameters:
        module._parameters[key] = nn.Parameter(remaining, requires_grad=tensor.requires_grad)
    else:
        module._buffers[key] = remaining


def refresh_attributes(model: nn.Module, dropped: Cuts, removed: Iterable[tuple[Group, int]]) -> None:
    """Set the sizes modules keep beside their weights (channels, features, groups, heads) to the new shapes."""
    modules = dict(model.named_modules())
    for path, module in modules.items():
        if isinstance(module, nn.GroupNorm):
            _refresh_group_norm(module, dropped.get(f"{path}.weight" if path else "weight", ()))
        else:
            _refresh(module)
    for group, count in removed:
        for path in _holders(group, modules):
            modules[path].num_heads = group.units - count


def _holders(group: Group, modules: Mapping[str, nn.Module]) -> set[str]:
    """Modules that count this group's units as their attention heads."""
    holders = set()
    for member in group.members:
        if member.role != "producer" or member.positions.shape[1] < 2:
            continue
        path = member.name
        while "." in path:
            path = path.rsplit(".", 1)[0]
            if getattr(modules.get(path), "num_heads", None) == group.units:
                holders.add(path)
                break
    return holders


def _refresh(module: nn.Module) -> None:
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        _refresh_recurrent(module)
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):
        return
    if isinstance(module, nn.modules.conv._ConvNd):
        _refresh_conv(module, weight)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        module.num_features = weight.shape[0]
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(weight.shape)
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = weight.shape
    elif isinstance(module, nn.PReLU):
        module.num_parameters = weight.shape[0]


def _refresh_recurrent(module: nn.RNNBase | nn.RNNCellBase) -> None:
    """What it reads; its states are read by every step, of which rows and columns are counted together."""
    cell = isinstance(module, nn.RNNCellBase)
    reads, repeats = (getattr(module, f"weight_{kind}{'' if cell else '_l0'}") for kind in ("ih", "hh"))
    module.input_size = reads.shape[1]
    if cell or not module.proj_size:
        module.hidden_size = repeats.shape[1]


def _refresh_group_norm(module: nn.GroupNorm, dropped: Sequence[tuple[int, torch.Tensor]]) -> None:
    """Whole normalisation groups are removed, or the same places of every group."""
    remaining = torch.ones(module.num_channels, dtype=torch.bool)
    for _, positions in dropped:
        remaining[positions] = False
    module.num_groups = int(remaining.view(module.num_groups, -1).any(1).sum())
    module.num_channels = int(remaining.sum())


def _refresh_conv(module: nn.modules.conv._ConvNd, weight: torch.Tensor) -> None:
    rows, columns = weight.shape[:2]
    if module.groups > 1 and module.groups == module.in_channels:
        multiplier = max(1, module.out_channels // module.in_channels)
        module.groups = module.in_channels = rows // multiplier if not module.transposed else rows
        module.out_channels = module.in_channels * multiplier
    elif module.transposed:
        module.in_channels, module.out_channels = rows, columns * module.groups
    else:
        module.out_channels, module.in_channels = rows, columns * module.groups
