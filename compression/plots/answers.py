"""What two models answer to one picture: a bar for each class and model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme
from compression.plots.base import go

MOST_CLASSES = 10
MODELS = ("original", "compressed")


@dataclass(frozen=True)
class AnswersInfo:
    """Classes in the order in which they are drawn, with the probabilities of both models."""

    classes: tuple[str, ...]
    dense: tuple[float, ...]
    small: tuple[float, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The same as a table."""
        columns = zip(self.classes, self.dense, self.small, strict=True)
        return [
            {
                "class": name,
                **{f"{model}, %": round(100 * share, 2) for model, share in zip(MODELS, shares, strict=True)},
            }
            for name, *shares in columns
        ]

    @property
    def sentence(self) -> str:
        """What is drawn, for those who cannot see it."""
        likeliest_of = [max(zip(shares, self.classes, strict=True)) for shares in (self.dense, self.small)]
        words = zip(MODELS, likeliest_of, strict=True)
        return "; ".join(f"the {model} model says {name} ({100 * share:.1f} %)" for model, (share, name) in words)


def answers_info(classes: Sequence[str], dense: Sequence[float], small: Sequence[float]) -> AnswersInfo:
    """Of up to ten classes all in their order; of more those that either model holds likeliest."""
    likeliest = sorted(range(len(classes)), key=lambda i: -max(dense[i], small[i]))[:MOST_CLASSES]
    order = likeliest if len(classes) > MOST_CLASSES else range(len(classes))
    names = tuple(classes[i] for i in order)
    return AnswersInfo(names, tuple(dense[i] for i in order), tuple(small[i] for i in order))


def answers_figure(info: AnswersInfo) -> go.Figure:
    """Two bars a class, likeliest first where classes are many; 0 to 100 %."""
    fig = base.figure(max(180, 34 * len(info.classes) + 60), barmode="group", uirevision="answers", bargap=0.3)
    for model, shares, color in zip(MODELS, (info.dense, info.small), (theme.MUTED, theme.ACCENT), strict=True):
        percent = [100 * share for share in shares]
        fig.add_trace(
            go.Bar(
                x=percent, y=list(info.classes), name=model, orientation="h", marker={"color": color},
                hovertemplate=f"{model}: %{{y}} %{{x:.1f}} %<extra></extra>",
            )
        )  # fmt: skip
    fig.update_xaxes(range=[0, 100], ticksuffix=" %", fixedrange=True)
    fig.update_yaxes(autorange="reversed", type="category", showgrid=False, fixedrange=True)
    return fig
