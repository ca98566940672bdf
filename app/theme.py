"""One look everywhere: a colour and a marker per method, a tint per stage, the scales for bits and sparsity.

The hues are Okabe and Ito's, which stay apart under the common colour-vision deficiencies, moved to a middle lightness
so that they read on a white and on a near-black page. Nothing here sets a background: the page's theme does.
"""

from __future__ import annotations

from dataclasses import dataclass

ACCENT = "#2b7bba"
MUTED = "#8a919c"
HIGHLIGHT = "#e07b00"
FAINT = "rgba(138, 145, 156, 0.35)"

BITS_SCALE = "Cividis"
SPARSITY_SCALE = "Teal"


@dataclass(frozen=True)
class Style:
    """How one method looks on every chart: its name for people, colour, marker shape and badge colour."""

    label: str
    color: str
    symbol: str
    badge: str


STYLES = {
    "geta": Style("GETA", "#2b7bba", "circle", "blue"),
    "opq": Style("OPQ", "#e07b00", "square", "orange"),
    "sequential": Style("Prune, then quantize", "#0f9d78", "diamond", "green"),
    "magnitude": Style("Magnitude", "#a8328f", "triangle-up", "violet"),
    "ptq": Style("Round to nearest", "#8c6d1f", "cross", "yellow"),
    "dense": Style("Dense model", "#8a919c", "star", "gray"),
}
_SPARE = (("#5fa8d3", "pentagon"), ("#a65e2e", "hexagon"), ("#7a6fd0", "star-triangle-down"), ("#c0392b", "hourglass"))

# The four GETA stages, then those of the other methods, with the same tint on every chart.
STAGES = {
    "warm-up": ("Warm-up", "#8a919c"),
    "projection": ("Projection", "#5fa8d3"),
    "joint": ("Joint", "#e0a800"),
    "cool-down": ("Cool-down", "#0f9d78"),
    "fine-tune": ("Fine-tuning", "#0f9d78"),
    "pruning": ("Pruning", "#e0a800"),
    "quantization": ("Quantization", "#5fa8d3"),
    "rounding": ("Rounding", "#5fa8d3"),
    "statistics": ("Norm statistics", "#0f9d78"),
}
_TINT = 0.13


def style(method: str) -> Style:
    """The style of a method; one this file does not know gets a spare colour that depends on its name only."""
    if method in STYLES:
        return STYLES[method]
    color, symbol = _SPARE[sum(map(ord, method)) % len(_SPARE)]
    return Style(method, color, symbol, "violet")


def stage_label(phase: str) -> str:
    """A stage's name for people."""
    return STAGES.get(_key(phase), (phase.replace("_", " ").capitalize(), ""))[0]


def stage_tint(phase: str) -> str:
    """The translucent colour that shades a stage; grey when the stage is not known."""
    return rgba(STAGES.get(_key(phase), ("", MUTED))[1], _TINT)


def rgba(color: str, alpha: float) -> str:
    """``#rrggbb`` with an opacity, in the form Plotly takes."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha:g})"


def _key(phase: str) -> str:
    plain = phase.lower().replace("_", "-").replace(" ", "-")
    return {"warmup": "warm-up", "cooldown": "cool-down", "finetune": "fine-tune", "fine-tuning": "fine-tune"}.get(
        plain, plain
    )
