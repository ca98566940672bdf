"""One name for a parameter, whether or not a quantizer sits on it."""

from __future__ import annotations

import re

import torch
from torch import nn

_PARAMETRIZED = re.compile(r"\bparametrizations\.([^.]+)\.original$")
_QUANTIZER = re.compile(r"(^|\.)(parametrizations\.[^.]+\.\d+|input_quantizer)(\.|$)")


def canonical(name: str) -> str:
    """The name a parameter has without parametrization: ``conv.parametrizations.weight.original`` → ``conv.weight``."""
    return _PARAMETRIZED.sub(r"\1", name) if "parametrizations." in name else name


def is_quantizer_name(name: str) -> bool:
    """Whether a parameter, buffer or module belongs to a quantizer, which is no part of the network itself."""
    return ("parametrizations." in name or "input_quantizer" in name) and _QUANTIZER.search(name) is not None


def parameter_map(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer of the network under its canonical name, without those of quantizers.

    The tensor is the raw one beneath a parametrization. A shared parameter appears once, under its first name.
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    return {canonical(name): tensor for name, tensor in named if not is_quantizer_name(name)}
