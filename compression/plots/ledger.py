"""Where the bytes of a packed file are: a bar for each part of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme, words
from compression.plots.base import go

PARTS = {
    "values": "the codes of the weights",
    "positions": "which weights are zero",
    "codebooks": "blocks of weights that codes refer to",
    "scales": "steps and bit-widths",
    "leftovers": "fp32 biases and norms",
    "container": "names, shapes, header",
}


@dataclass(frozen=True)
class LedgerInfo:
    """The parts of a ledger by name, in its own order (unknown ones after), and the whole."""

    parts: tuple[tuple[str, float], ...]
    total: float
    method: str

    @property
    def sentence(self) -> str:
        """The largest part, in words."""
        if not self.parts:
            return "This run wrote no ledger."
        name, count = max(self.parts, key=lambda part: part[1])
        meaning = f", {PARTS[name]}" if name in PARTS else ""
        return f"{words.share(count / self.total, 0)} of {words.size(self.total)} are {name}{meaning}."


def ledger_info(ledger: Mapping[str, Any], method: str) -> LedgerInfo:
    """The numbers of a ledger; its total is the file's size."""
    numbers = {name: float(v) for name, v in ledger.items() if isinstance(v, (int, float))}
    total = numbers.pop("total", 0.0) or sum(numbers.values()) or 1.0
    names = [*(n for n in PARTS if n in numbers), *(n for n in numbers if n not in PARTS)]
    return LedgerInfo(tuple((name, numbers[name]) for name in names), total, method)


def ledger_figure(info: LedgerInfo) -> go.Figure:
    """A bar for each part, with its bytes and its share of the file."""
    fig = base.figure(60 + 38 * max(1, len(info.parts)), showlegend=False)
    texts = [f"{words.size(count)}, {words.share(count / info.total, 0)}" for _, count in info.parts]
    fig.add_trace(
        go.Bar(
            x=[count for _, count in info.parts],
            y=[name for name, _ in info.parts],
            orientation="h",
            marker={"color": theme.style(info.method).color},
            text=texts,
            textposition="outside",
            cliponaxis=False,
            hovertext=base.tooltips([f"<b>{name}</b><br>{PARTS.get(name, '')}" for name, _ in info.parts]),
            hoverinfo="text",
        )
    )
    most = max((count for _, count in info.parts), default=1.0)
    fig.update_xaxes(range=[0, 1.45 * most], visible=False)
    base.layer_axis(fig)
    return fig
