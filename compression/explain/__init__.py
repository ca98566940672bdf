"""What a model looks at, by Captum, for a dense and a compressed model; and how much each unit and layer counts.

Importing this package imports neither torch nor Captum: names are resolved when first used.

Example::

    from compression import explain

    maps = explain.attribute(model, images, targets, "integrated_gradients")   # [B, H, W], in logits
    models = explain.pair(RunFolder("runs/geta-resnet8-…"))
    comparison = explain.compare(models, images=32, seed=0)
    comparison.scores["saliency"]["spearman"]["compressed"]                    # one value per image
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from compression import home
from compression.explain.attribution_methods import METHODS, Method

if TYPE_CHECKING:
    from compression.explain.attribution import Explainer, attribute, completeness
    from compression.explain.comparison import Comparison, compare
    from compression.explain.layers import cam_layer
    from compression.explain.measures import overlap, similarity, spearman, ssim
    from compression.explain.models import Pair, pair, scan

__all__ = [
    "METHODS",
    "Comparison",
    "Explainer",
    "Method",
    "Pair",
    "attribute",
    "cam_layer",
    "compare",
    "completeness",
    "overlap",
    "pair",
    "scan",
    "similarity",
    "spearman",
    "ssim",
]

_LATE = {
    "Explainer": "attribution",
    "attribute": "attribution",
    "completeness": "attribution",
    "Comparison": "comparison",
    "compare": "comparison",
    "cam_layer": "layers",
    "Pair": "models",
    "pair": "models",
    "scan": "models",
    "overlap": "measures",
    "similarity": "measures",
    "spearman": "measures",
    "ssim": "measures",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use."""
    if name in _LATE:
        with home.optional():
            return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
