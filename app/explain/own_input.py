"""A picture of the visitor's own on the Explain page: drawn, from a file or from the camera, before both models."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image, UnidentifiedImageError

from app import components, widgets
from app.explain import answers_view, explained, explainwords
from app.terms import tip
from compression.errors import CompressionError
from compression.explain import METHODS, own_image
from compression.plots import tiles

DRAW, FILE, CAMERA, TEST = "Draw", "Picture file", "Camera", "A test image that flips"
PICTURES = ["png", "jpg", "jpeg", "webp", "bmp"]
FORMATS = ["PNG", "JPEG", "WEBP", "BMP"]  # whatever a file is called, no other decoder reads it
LARGEST_PAD = 512  # pixels of a side
LARGEST_MB = 20
MOST_MACS = 4e10  # of all passes that a map takes, while somebody waits


def draw(run_key: explained.Key, method: str, macs: float) -> own_image.Pixels | None:
    """The picture on the left, what both models answer on the right, and which pixels count below.

    Returns the picture as the models get it.
    """
    both = explained.models(run_key)
    ways = [DRAW] if both.input[0] == 1 else []
    left, right = st.columns([1, 2], gap="large")
    with left:
        way = widgets.switch("Where it comes from", [*ways, FILE, CAMERA, TEST], (*ways, FILE)[0], "own", wrap=True)
        try:
            pixels = _pixels(way, run_key, macs)
        except CompressionError as error:
            widgets.problem(error)
            return None
    if pixels is None:
        with right:
            st.caption("Both models answer as soon as there is a picture: each with its probabilities, side by side.")
        return None
    with left:
        pixels = _flip(pixels, run_key)
    with right:
        answers_view.side_by_side(own_image.answers(pixels, both), both.data.classes, "own_answers")
    _maps(pixels, run_key, method, macs)
    return pixels


def _pixels(way: str, run_key: explained.Key, macs: float) -> own_image.Pixels | None:
    both = explained.models(run_key)
    if way == DRAW:
        drawing = _pad()(key="pad", default={"drawing": ""}, on_drawing_change=lambda: None).drawing
        return own_image.from_drawing(_ink(drawing), both.input) if drawing else None
    if way == TEST:
        return _flipping_test_image(run_key, macs)
    source = (
        st.camera_input("Camera", label_visibility="collapsed")
        if way == CAMERA
        else st.file_uploader("Picture", PICTURES, max_upload_size=LARGEST_MB, label_visibility="collapsed")
    )
    if source is None:
        return None
    try:
        with Image.open(source, formats=FORMATS) as picture:
            return own_image.from_picture(picture, both.data, both.input)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CompressionError("this file is no picture that can be read: take a PNG, JPEG, WebP or BMP") from error


def _ink(drawing: str) -> own_image.Pixels:
    """The pad's drawing, grey [h, w].

    Raises:
        CompressionError: it is none of the pad's, as the browser was made to send something else.
    """
    try:
        png = base64.b64decode(drawing.removeprefix("data:image/png;base64,"), validate=True)
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            if max(picture.size) > LARGEST_PAD:
                raise ValueError(f"a pad of {picture.size}")
            return np.asarray(picture.convert("L"))
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise CompressionError("the drawing cannot be read: clear it and draw again") from error


def _flipping_test_image(run_key: explained.Key, macs: float) -> own_image.Pixels | None:
    """One of the test images on which the answer changed; another with each click."""
    answers_of = explained.scan(run_key, macs)
    if not answers_of.changed:
        st.markdown(f"Both models answer alike on all of the first {len(answers_of.labels):,} test images.")
        return None
    place = st.session_state.get("own_flip", 0) % len(answers_of.changed)
    image = answers_of.changed[place]
    st.caption(f"Test image {image}, {place + 1} of {len(answers_of.changed)} whose answer changed.")
    if len(answers_of.changed) > 1:
        st.button("Another one", key="own_next", on_click=_next)
    return explained.test_pixels(run_key, image)


def _next() -> None:
    st.session_state["own_flip"] = st.session_state.get("own_flip", 0) + 1


def _flip(pixels: own_image.Pixels, run_key: explained.Key) -> own_image.Pixels:
    """What the models get, and the offer to move it until they differ; returns what is shown then."""
    both, shown = explained.models(run_key), pixels
    most = f"By at most {own_image.REACH} pixels, as little as will do."
    if st.toggle("Move it until they differ", key="own_move", help=tip(most)):
        moved = own_image.flipped(pixels, both)
        if moved is None:
            st.caption(f"Moved by up to {own_image.REACH} pixels, both answer alike everywhere.")
        else:
            shown, (down, right) = moved
            st.caption(f"Moved {_way(down, 'down', 'up')} and {_way(right, 'right', 'left')}, they differ.")
    st.image(np.ascontiguousarray(shown.transpose(1, 2, 0).squeeze()), caption="What the models get", width=140)
    return shown


def _way(by: int, forth: str, back: str) -> str:
    return f"{abs(by)} pixel{'' if abs(by) == 1 else 's'} {forth if by >= 0 else back}"


def _maps(pixels: own_image.Pixels, run_key: explained.Key, method: str, macs: float) -> None:
    if reason := explained.refusal(run_key, method):
        st.caption(f"{METHODS[method].label} says nothing here: {reason}.")
        return
    if explained.passes(run_key, method) * macs > MOST_MACS:
        st.caption(f"{METHODS[method].label} takes too long for this network while you wait; the other methods do not.")
        return
    info = explained.own_tile(run_key, method, pixels)
    st.caption(explainwords.signs(METHODS[method].signed))
    widgets.plot(tiles.tile_figure(info), "own_tile", info.sentence)


@st.cache_resource(show_spinner=False)
def _pad() -> Any:
    return components.component("pad")
