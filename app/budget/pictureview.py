"""The picture that a budget leaves, before any training: drawn anew while the sliders move."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app import plain, widgets
from app.budget.live_forecast import LiveSubject
from app.model import catalog
from compression import methods
from compression.budget import Budget
from compression.data import PIXEL, kind
from compression.errors import CompressionError

if TYPE_CHECKING:
    import torch

Pixels = NDArray[np.uint8]


def section(subject: catalog.ChosenModel, path: Path | None, budget: Budget) -> None:
    """Original and allocated picture, where the data are a picture and the method decides from the weights alone."""
    method = methods.get(budget.method)
    if not subject.has_data or kind(subject.data) is not PIXEL or path is None:
        return
    if not method.allocates:
        st.caption(
            f"{plain.text(method.info.label)} decides while it trains: start a run to watch the picture. Methods that "
            "decide from the weights alone show it here while the sliders move."
        )
        return
    try:
        original, allocated, shown = pictures(subject, path, budget)
    except CompressionError as error:
        widgets.problem(error)
        return
    left, right = st.columns(2, gap="small")
    left.image(original, caption="The original", width="stretch")
    right.image(allocated, caption=f"This budget, before any training: {shown}", width="stretch")


def pictures(
    subject: catalog.ChosenModel, path: Path, budget: Budget
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
    """Both pictures, uint8 [height, width, channels], and the score of the second one.

    Raises:
        CompressionError: the budget cannot be met, or the data cannot be had.
    """
    from compression.graph.copies import deep_copy
    from compression.quant.fixed_steps import attach
    from compression.training.dense import evaluate

    catalog.quiet()
    task, live = catalog.load_task(subject), LiveSubject(subject, path)
    method = methods.get(budget.method)
    smaller = attach(deep_copy(method.prepared(live, budget).model), method.allocation(live, budget))
    original, allocated = task.original(), task.picture(smaller)
    return _shown(original), _shown(allocated), task.metric.show(evaluate(smaller, task, "test").score)


def _shown(picture: torch.Tensor | None) -> Pixels:
    assert picture is not None, "the task of a picture has one"
    pixels: Pixels = picture.numpy()
    return pixels
