"""The update direction h of each optimizer variant: the one along which torch's SGD, Adam and AdamW step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

VARIANTS = ("sgd", "adam", "adamw")
BUFFERS: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
}
"""Variant → names of the state tensors of a parameter, which have its shape."""

Tensors = list[torch.Tensor]


def directions(
    variant: str,
    settings: Mapping[str, Any],
    parameters: Tensors,
    gradients: Tensors,
    states: list[dict[str, Any]],
    step: int,
) -> Tensors:
    """Return h of each parameter: ``p <- p - lr h`` is the variant's update (without AdamW's decoupled decay).

    ``settings`` holds ``momentum``, ``betas``, ``eps`` and ``weight_decay``; ``states`` is created and updated in
    place; ``step`` counts from 1. The returned tensors may be the state itself: callers must not change them.
    """
    if variant != "adamw" and settings["weight_decay"]:
        gradients = list(torch._foreach_add(gradients, parameters, alpha=settings["weight_decay"]))
    if variant == "sgd":
        return _sgd(settings["momentum"], gradients, states)
    return _adam(settings["betas"], settings["eps"], gradients, states, step)


def _sgd(momentum: float, gradients: Tensors, states: list[dict[str, Any]]) -> Tensors:
    if not momentum:
        return gradients
    existing = [
        (state["momentum_buffer"], g) for state, g in zip(states, gradients, strict=True) if "momentum_buffer" in state
    ]
    if existing:
        buffers = [buffer for buffer, _ in existing]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, [gradient for _, gradient in existing])
    for state, gradient in zip(states, gradients, strict=True):
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = gradient.detach().clone()
    return [state["momentum_buffer"] for state in states]


def _adam(
    betas: tuple[float, float], epsilon: float, gradients: Tensors, states: list[dict[str, Any]], step: int
) -> Tensors:
    for state, gradient in zip(states, gradients, strict=True):
        for name in BUFFERS["adam"]:
            if name not in state:
                state[name] = torch.zeros_like(gradient)
    first, second = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
    torch._foreach_lerp_(first, gradients, 1 - betas[0])
    torch._foreach_mul_(second, betas[1])
    torch._foreach_addcmul_(second, gradients, gradients, 1 - betas[1])
    denominator = torch._foreach_sqrt(second)
    torch._foreach_div_(denominator, (1 - betas[1] ** step) ** 0.5)
    torch._foreach_add_(denominator, epsilon)
    h = torch._foreach_div(first, denominator)
    torch._foreach_div_(h, 1 - betas[0] ** step)
    return list(h)
