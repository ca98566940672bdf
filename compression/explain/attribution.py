"""Attributions of one model by Captum: which pixels speak for a class, as one map per image.

Two choices hold for every method. *Target*: the logit (before softmax) of the requested class, so that two
models answer the same question. *Channels*: their attributions are added, which keeps the sum that integrated gradients
promise (for Saliency, after taking absolute values).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from captum.attr import InputXGradient, IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion, Saliency
from torch import nn

from compression.errors import CompressionError
from compression.explain.attribution_methods import METHODS
from compression.explain.layers import CamLayer, cam_layer
from compression.graph.copies import deep_copy
from compression.quant import activation_quantizers

STEPS = 32  # points of the Gauss-Legendre rule on the way from the baseline to the image
BASELINE = 0.0  # normalised images: the mean colour of the training images
WINDOWS = 8  # an occluding window is an eighth of the image wide, moved by half its width
MOST_IMAGES, MOST_VALUES = 256, 2_000_000  # in one pass: what 13 images of 3x224x224 hold


class Explainer:
    """The attributions of one model, on a copy of it: nothing of ``model`` is changed, no hook stays.

    Example::

        explainer = Explainer(model, (1, 28, 28))
        maps = explainer.attribute("integrated_gradients", images, targets)   # [B, 28, 28]
    """

    def __init__(self, model: nn.Module, input: tuple[int, ...], layer: str | None = None) -> None:
        """``layer`` names the module Grad-CAM looks at; by default :func:`cam_layer` finds it."""
        self.model, self.input = own_copy(model), tuple(input)
        known = dict(self.model.named_modules())
        self.layer = CamLayer(layer) if layer and layer in known else cam_layer(self.model, self.input)
        self._module = known.get(self.layer.name)
        self._at_once = max(1, min(MOST_IMAGES, MOST_VALUES // math.prod(self.input)))

    @property
    def straight_through(self) -> bool:
        """Do gradients pass quantizers of activations, which round, as if they did not round?"""
        return bool(activation_quantizers(self.model))

    def refusal(self, method: str) -> str:
        """Why this method says nothing about this model; empty where it does."""
        return self.layer.reason if method == "grad_cam" else ""

    def attribute(self, method: str, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """One map per image, in logits (Saliency: logits per unit of a normalised pixel).

        Args:
            method: a name in :data:`METHODS`.
            images: normalised, fp32 or fp64 as the model, [B, C, H, W].
            targets: the class to explain for each image, int64 [B].

        Returns:
            [B, H, W] in the images' precision; not negative for Saliency, signed for all others.

        Raises:
            CompressionError: no such method, or one that this model has no layer for.
        """
        if method not in METHODS:
            raise CompressionError(f"unknown attribution {method!r}: choose one of {', '.join(METHODS)}")
        if self.refusal(method):
            raise CompressionError(f"{METHODS[method].label} is not possible here: {self.refusal(method)}")
        attribute, gradient = _ATTRIBUTES[method], METHODS[method].gradient
        parts = zip(images.split(self._at_once), targets.split(self._at_once), strict=True)
        return torch.cat([attribute(self, part.clone().requires_grad_(gradient), to).detach() for part, to in parts])

    def _saliency(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return _maps(Saliency(self.model).attribute(images, target=targets, abs=True))

    def _input_x_gradient(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return _maps(InputXGradient(self.model).attribute(images, target=targets))

    def _integrated_gradients(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        attributed = IntegratedGradients(self.model).attribute(
            images, baselines=BASELINE, target=targets, n_steps=STEPS, method="gausslegendre",
            internal_batch_size=self._at_once,
        )  # fmt: skip
        return _maps(attributed.to(images.dtype))

    def _grad_cam(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Without the paper's last ReLU, so that what speaks against the class stays visible."""
        coarse = LayerGradCam(self.model, self._module).attribute(images, target=targets)
        return _maps(LayerAttribution.interpolate(coarse, self.input[1:], "bilinear"))

    def _occlusion(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        channels, *window = images.shape[1], *(_window(side) for side in images.shape[2:])
        strides = (channels, *(max(1, side // 2) for side in window))
        attributed = Occlusion(self.model).attribute(
            images, sliding_window_shapes=(channels, *window), strides=strides, baselines=BASELINE, target=targets,
            perturbations_per_eval=max(1, self._at_once // len(images)),
        )  # fmt: skip
        return attributed[:, 0].to(images.dtype)  # all channels are occluded together and have the same value


_ATTRIBUTES: dict[str, Callable[[Explainer, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "saliency": Explainer._saliency,
    "input_x_gradient": Explainer._input_x_gradient,
    "integrated_gradients": Explainer._integrated_gradients,
    "grad_cam": Explainer._grad_cam,
    "occlusion": Explainer._occlusion,
}


def attribute(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, method: str = "saliency") -> torch.Tensor:
    """One map per image, [B, H, W]: :class:`Explainer` for a single call.

    Raises:
        CompressionError: as :meth:`Explainer.attribute`.
    """
    return Explainer(model, tuple(images.shape[1:])).attribute(method, images, targets)


@torch.no_grad()
def completeness(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Per image [B], what integrated gradients miss: ``|Σ map - (f(x) - f(baseline))|``, in logits.

    Sundararajan et al. 2017, proposition 1: nothing, were the integral exact.
    """
    model = model.eval()
    rise = model(images) - model(torch.full_like(images[:1], BASELINE))
    return (maps.flatten(1).sum(1) - rise.gather(1, targets.view(-1, 1)).squeeze(1)).abs()


def passes(method: str, input: tuple[int, ...]) -> int:
    """How often an image goes through the network for one map (a gradient counts as two more)."""
    if method == "occlusion":
        windows = [_window(side) for side in input[1:]]
        counts = [-(-(side - w) // max(1, w // 2)) + 1 for side, w in zip(input[1:], windows, strict=True)]
        return 1 + counts[0] * counts[1]
    return 3 * STEPS if method == "integrated_gradients" else 3


def _window(side: int) -> int:
    return max(1, round(side / WINDOWS))


def _maps(attributed: torch.Tensor) -> torch.Tensor:
    return attributed.sum(dim=1)


def own_copy(model: nn.Module) -> nn.Module:
    """In evaluation, its parameters without gradients, no module writing over its input (Captum's hooks need that)."""
    copy = deep_copy(model).eval().requires_grad_(False)
    for module in copy.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
    return copy
