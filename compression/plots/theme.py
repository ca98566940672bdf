"""One look everywhere: colours, a colour and a marker for each method, a tint for each stage, the colour scales.

The hues of the first methods are Okabe and Ito's, which stay apart under the common colour-vision deficiencies, moved
to a middle lightness so that they can be read on a white and on a near-black page. No method is named here: a method
gives its place in the palette (``info.slot``), a stage its tone.
"""

from __future__ import annotations

from dataclasses import dataclass

ACCENT = "#2b7bba"
MUTED = "#8a919c"
HIGHLIGHT = "#e07b00"
FAINT = "rgba(138, 145, 156, 0.35)"

BITS_SCALE = "Cividis"
SPARSITY_SCALE = "Teal"

COLORS = ("#2b7bba", "#e07b00", "#0f9d78", "#a8328f", "#8c6d1f", "#7d2bd7", "#a93441", "#6a994e")
SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "cross",
    "pentagon", "hexagon", "triangle-left", "hourglass", "bowtie",
)  # fmt: skip
"""A method's colour and marker are those of its slot: the pairs repeat after lcm(8, 10) = 40 methods."""
SERIES = ("#7969df", "#9e9459", "#28714d", "#7c9cc4", "#b49142")
"""Colours of lines that stand for no method."""
TONES = ("#8a919c", "#5fa8d3", "#e0a800", "#0f9d78")
TINT = 0.13  # opacity of a shaded stage
DENSE = "dense"  # stands for the model before compression where a method's name would


@dataclass(frozen=True)
class Style:
    """How one method looks on every chart; ``slot`` is ``None`` for what is no known method."""

    label: str
    color: str
    symbol: str
    slot: int | None = None


@dataclass(frozen=True)
class StageStyle:
    """A stage of a run: its name for people, and the colour of its tone."""

    label: str
    color: str

    @property
    def tint(self) -> str:
        """The translucent colour behind a chart."""
        return rgba(self.color, TINT)


def style(method: str) -> Style:
    """The style of a method (empty: the usual one); neutral for one that is not installed."""
    from compression import methods

    if method == DENSE:
        return Style("Dense model", MUTED, "star")
    known = methods.all_methods().get(method or methods.default())
    if known is None:
        return Style(method, MUTED, "octagon")
    slot = known.info.slot
    return Style(known.info.label, COLORS[slot % len(COLORS)], SYMBOLS[slot % len(SYMBOLS)], slot)


def bits_palette() -> list[str]:
    """The colours of 1, 2, … 16 bits and more on :data:`BITS_SCALE`, as ``rgb(…)``."""
    from plotly.colors import sample_colorscale

    colors: list[str] = sample_colorscale(BITS_SCALE, [max(0, bits - 2) / 14 for bits in range(1, 17)])
    return colors


def stage(phase: str, method: str = "") -> StageStyle:
    """The style of a stage as a method names it; muted, with its name as the label, where the method has none such."""
    from compression import methods

    known = methods.all_methods().get(method or methods.default())
    for each in known.info.stages if known else ():
        if _letters(each.name) == _letters(phase):
            return StageStyle(each.label, TONES[each.tone % len(TONES)])
    return StageStyle(phase.replace("_", " ").capitalize(), MUTED)


def rgba(color: str, alpha: float) -> str:
    """``#rrggbb`` with an opacity, in the form Plotly takes."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha:g})"


def _letters(name: str) -> str:
    return "".join(filter(str.isalpha, name.lower()))
