"""What becomes of a drawing, in the browser and in Python: two implementations of one preparation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from compression.explain import own_image
from compression.home import ROOT
from tests.served import static, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_the_drawing_is_prepared_as_in_python(browser: Browser) -> None:
    """The module of the page beside :func:`own_image.from_drawing`, pixel by pixel."""
    random = np.random.default_rng(0)
    drawings = [np.zeros((112, 112), np.uint8)]
    for number in range(60):
        picture = Image.new("L", (112, 112))
        places = [tuple(map(int, place)) for place in random.integers(0, 112, (random.integers(2, 7), 2))]
        ImageDraw.Draw(picture).line(places, fill=int(random.integers(1, 256)), width=int(random.integers(1, 14)))
        drawings.append((np.asarray(picture) * (random.random((112, 112)) if number % 3 else 1)).astype(np.uint8))
    drawings.append(random.integers(0, 256, (112, 112)).astype(np.uint8))
    drawings[0][5, 100] = 255  # a dot
    with static(ROOT / "assets" / "components") as address, tab(browser) as page:
        page.route("**/blank.html", lambda route: route.fulfill(body="<title>.</title>", content_type="text/html"))
        page.goto(f"{address}/blank.html")
        answers = page.evaluate(
            "async (all) => { const { fromDrawing } = await import(new URL('ink.js', location).href);"
            " return all.map((ink) => Array.from(fromDrawing(Uint8Array.from(ink), 112, 28, 28))) }",
            [drawing.ravel().tolist() for drawing in drawings],
        )
    assert len(answers) == len(drawings) > 50
    for drawing, answer in zip(drawings, answers, strict=True):
        expected = own_image.from_drawing(drawing, (1, 28, 28))[0].astype(int)
        assert np.abs(expected - np.reshape(answer, (28, 28))).max() <= 1  # sines may differ in their last bit
