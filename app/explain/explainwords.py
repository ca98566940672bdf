"""The attribution methods and similarity measures in plain words, each with its formula."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """``short``: one sentence; ``formula``: LaTeX; ``more``: what the symbols are, and what was decided."""

    short: str
    formula: str
    more: str


_SYMBOLS = (
    "$f_t$ is the logit of the class that the original answers, $x_c$ one colour channel of the normalised image. "
)
_ZERO = "the mean colour of the training images"

METHODS = {
    "saliency": Explanation(
        "How much the answer would move if a pixel changed a little, up or down.",
        r"M(x) = \sum_c \left| \frac{\partial f_t(x)}{\partial x_c} \right|",
        _SYMBOLS + "Saliency knows no sign: a strong pixel may speak for or against the class.",
    ),
    "input_x_gradient": Explanation(
        "What a pixel contributes to the answer, were the network a straight line near this image.",
        r"M(x) = \sum_c x_c \, \frac{\partial f_t(x)}{\partial x_c}",
        _SYMBOLS + f"A pixel counts from {_ZERO}, which is zero after normalising.",
    ),
    "integrated_gradients": Explanation(
        "What a pixel contributes when the image fades in from plain colour; the contributions add up to the answer.",
        r"M(x) = \sum_c (x_c - b_c) \int_0^1 \frac{\partial f_t(b + \alpha (x - b))}{\partial x_c} \, d\alpha",
        _SYMBOLS + f"$b$ is {_ZERO}; the integral is taken at 32 points (Gauss–Legendre).",
    ),
    "grad_cam": Explanation(
        "Which regions the last feature maps of the network use for the class. Coarse, because those maps are.",
        r"M = \mathrm{up}\!\left( \sum_k \alpha_k A^k \right), \qquad "
        r"\alpha_k = \frac{1}{hw} \sum_{i,j} \frac{\partial f_t}{\partial A^k_{ij}}",
        "$A^k$ are the maps (h × w) of the last layer that still has places; up enlarges them to the image. The last "
        "step of the paper, which drops what speaks against the class, is omitted, so that it can be compared.",
    ),
    "occlusion": Explanation(
        "How much the answer drops when a small window of the image is covered. Needs no gradient.",
        r"M_{ij} = \operatorname{mean}_{W \ni (i,j)} \bigl[ f_t(x) - f_t(x \text{ with } W \text{ covered}) \bigr]",
        f"Windows W are an eighth of the image wide, move by half their width, and are filled with {_ZERO}.",
    ),
}

MEASURES = {
    "spearman": Explanation(
        "Do both maps put the pixels in the same order?",
        r"\rho = \operatorname{corr}\bigl(\mathrm{rank}(M_1), \mathrm{rank}(M_2)\bigr)",
        "Spearman's rank correlation over all pixels; 1 is the same order, 0 none in common, −1 the reverse.",
    ),
    "ssim": Explanation(
        "Do both maps look alike as pictures, place by place?",
        r"\mathrm{SSIM} = \frac{(2\mu_1\mu_2 + c_1)(2\sigma_{12} + c_2)}"
        r"{(\mu_1^2 + \mu_2^2 + c_1)(\sigma_1^2 + \sigma_2^2 + c_2)}",
        "Mean over windows of 7 × 7 pixels; each map is first divided by its own 99th percentile, clipped, and brought "
        "to 0..1.",
    ),
    "overlap": Explanation(
        "Of the strongest tenth of the pixels in either map: what share is in both?",
        r"\mathrm{IoU} = \frac{|T_1 \cap T_2|}{|T_1 \cup T_2|}",
        "$T$ are the 10 % of pixels with the largest absolute value. Unrelated maps share 1/19, about 5 %.",
    ),
}
MEASURE_LABELS = {"spearman": "Rank correlation", "ssim": "SSIM", "overlap": "Top-10 % overlap"}

SCALE = (
    "**Ceiling**: the original against itself, the image carrying noise of two grey levels out of 255, which no eye "
    "sees. A model compressed very gently can score above it.\n\n"
    "**Floors**: a network of the same architecture with random weights; and the original's map of another image. At "
    "the higher of the two nothing is left that is about this image and these weights.\n\n"
    "**Kept** is how much of the way from the higher floor to the ceiling the compressed model reaches."
)
STRAIGHT = (
    ":material/call_split: **Straight-through gradients.** This run also rounds what flows between layers. A gradient "
    "passes that rounding as if it were not there, so these maps belong to a smooth stand-in of the compressed model. "
    "Occlusion needs no gradient: use it to cross-check."
)
TRUE = "Gradients are true ones: the compressed model's weights are plain numbers, already rounded."
NO_GRADIENT = "No gradient is involved: both models are only evaluated."


def signs(signed: bool) -> str:
    """How the colours are to be read."""
    shared = "Both maps of an image share one scale."
    if signed:
        return f":orange[**Orange**] speaks for the class, :blue[**blue**] against it. {shared}"
    return f":orange[**Orange**]: a small change here moves the answer most. {shared}"
