"""Models that maps say nothing about, asked all the same: a sentence of the visitor's, or a region of a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app import nav, plain, widgets
from app.explain import explained
from compression.errors import CompressionError
from compression.explain import answering
from compression.explain.own_image import OwnAnswers
from compression.plots import answers

SHOWN_SIDE = 320  # pixels of a screen that a region is enlarged to, in whole steps
LEAST_SIDE = 8
TITLES = ("ground truth", "original", "compressed", "difference")


def draw(run: str, run_key: explained.Key, reason: str) -> None:
    """The question that suits the data, its answers by both models, and why there are no maps.

    Raises:
        CompressionError: the models cannot be restored.
    """
    both = explained.answering(run_key)
    if explained.question(run) == answering.SENTENCE:
        _sentence(both)
    else:
        _region(run_key, both)
    st.caption(reason)
    nav.link("compare", "See what the answers became in Compare", run=run)


def _sentence(both: answering.Answering) -> None:
    left, right = st.columns([1, 2], gap="large")
    with left:
        text = st.text_area("A sentence of your own", max_chars=answering.MOST_CHARACTERS, key="own_sentence")
        st.caption("The models read English, in lower case; Ctrl+Enter, or a click elsewhere, asks them.")
    with right:
        if not text.strip():
            st.caption("Both models answer as soon as there is a sentence: each with its probabilities, side by side.")
            return
        try:
            given = answering.of_sentence(text, both)
        except CompressionError as error:
            widgets.problem(error)
            return
        side_by_side(given, both.task.data.classes, "sentence_answers")


def side_by_side(given: OwnAnswers, classes: Sequence[str], key: str) -> None:
    """What both models say, in a sentence and as probabilities of the classes."""
    before, after = (plain.text(classes[place]) for place in given.classes)
    sure = [f"{100 * max(shares):.0f} %" for shares in (given.dense, given.small)]
    if before == after:
        st.markdown(f"Both say **{before}**: the original with {sure[0]}, the compressed model with {sure[1]}.")
    else:
        st.markdown(
            f":material/swap_horiz: The original says **{before}** ({sure[0]}), the compressed model **{after}** "
            f"({sure[1]})."
        )
    info = answers.answers_info(classes, given.dense, given.small)
    widgets.chart(answers.answers_figure(info), key, info.rows, info.sentence, live=True)


def _region(run_key: explained.Key, both: answering.Answering) -> None:
    most = answering.count(both) - 1
    with st.container(horizontal=True, gap="medium"):
        image = st.number_input("Test image", 0, most, 0, key="region_image") if most else 0
        whole = explained.whole(run_key, int(image))
        height, width = whole.size
        largest = min(height, width)
        side = st.slider("Side of the region, pixels", LEAST_SIDE, largest, max(LEAST_SIDE, largest // 2), key="region")
        left = st.slider("From the left", 0, max(1, width - side), max(0, (width - side) // 2), key=f"left {side}")
        top = st.slider("From the top", 0, max(1, height - side), max(0, (height - side) // 2), key=f"top {side}")
    part = whole.region(top, left, side)
    st.markdown(_words(part))
    pictures = (part.truth, part.dense, part.small, part.difference)
    for column, title, picture in zip(st.columns(4), TITLES, pictures, strict=True):
        with column:
            st.image(_enlarged(picture), caption=title, width="stretch")
    with st.expander("Where the region lies", type="compact"):
        st.image(_framed(whole.truth, top, left, side), width=min(480, 2 * width))


def _words(part: answering.Whole) -> str:
    """What the fourth picture shows, in figures."""
    if part.of_classes:
        return (
            f"The two models give **{100 * part.changed:.1f} %** of the pixels of this region different classes; white "
            "in the difference."
        )
    most, mean = int(part.levels.max()), float(part.levels.mean())
    return (
        f"The two models differ by **{mean:.1f}** of 255 levels on average in this region and by {most} at most, which "
        "is white in the difference."
    )


def _enlarged(picture: answering.Pixels) -> answering.Pixels:
    """Every pixel a square, so that the browser does not blur a small region."""
    times = max(1, SHOWN_SIDE // max(picture.shape[:2]))
    return np.repeat(np.repeat(picture, times, 0), times, 1)


def _framed(picture: answering.Pixels, top: int, left: int, side: int) -> answering.Pixels:
    """The whole picture, in which all but the region is pale."""
    pale = (0.35 * picture + 0.65 * 255).astype(np.uint8)
    pale[top : top + side, left : left + side] = picture[top : top + side, left : left + side]
    return pale
