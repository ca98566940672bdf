"""A picture of one's own before both models: what becomes of it, and what they answer."""

from __future__ import annotations

import base64
import io
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from app import nav
from app.explain import own_input
from compression import data
from compression.errors import CompressionError
from compression.explain import own_image
from compression.explain.models import Pair, pair
from compression.plots import answers
from compression.runs.folder import RunFolder
from tests.served import draw, settled, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RUN = nav.ROOT / "assets" / "gallery" / "resnet8-mnist5k" / "geta"
INPUT = (1, 28, 28)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("runs") / "geta"
    shutil.copytree(RUN, folder)
    return pair(RunFolder(folder))


@cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    split = data.load("mnist5k").split("test")
    return split.take(torch.arange(60))


def test_a_digit_drawn_anywhere_at_any_size_becomes_the_digit_that_it_was(both: Pair) -> None:
    """MNIST's own digits, enlarged and put into a corner of a pad, come back as they were."""
    images, _ = digits()
    alike = []
    for image in images.numpy()[:30]:
        rows, columns = np.nonzero(image[0].max(1))[0], np.nonzero(image[0].max(0))[0]
        digit = Image.fromarray(image[0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        large = digit.resize((digit.width * 4, digit.height * 4), Image.Resampling.BICUBIC)
        pad = np.zeros((112, 112), dtype=np.uint8)
        pad[-large.height :, : large.width] = np.asarray(large)
        again = own_image.from_drawing(pad, INPUT)
        assert (again.shape, again.dtype) == (INPUT, np.uint8)
        grid = np.arange(28)
        mass = [float((again[0].sum(axis) * grid).sum() / again[0].sum()) for axis in (1, 0)]
        stuck = [0 in np.nonzero(again[0].sum(axis))[0] or 27 in np.nonzero(again[0].sum(axis))[0] for axis in (1, 0)]
        assert all(abs(centre - 14) <= 0.75 or held for centre, held in zip(mass, stuck, strict=True))
        ink = [np.nonzero(again[0].sum(axis))[0] for axis in (1, 0)]
        assert max(places[-1] - places[0] + 1 for places in ink) in (19, 20)
        alike.append(np.corrcoef(again.ravel(), image.ravel())[0, 1])
    assert np.median(alike) > 0.9


def test_a_dot_is_a_drawing_and_nothing_is_not() -> None:
    ink = np.zeros((112, 112), dtype=np.uint8)
    with pytest.raises(CompressionError, match=r"^nothing is drawn yet$"):
        own_image.from_drawing(ink, INPUT)
    ink[5, 100] = 255
    dot = own_image.from_drawing(ink, (3, 28, 28))
    assert dot.shape == (3, 28, 28)
    assert np.nonzero(dot[0].sum(1))[0].tolist() == list(range(4, 24)), "as large as a digit"


def test_a_digit_on_paper_becomes_one_on_black(both: Pair) -> None:
    images, labels = digits()
    right = 0
    for image, label in zip(images.numpy()[:20], labels.tolist(), strict=False):
        paper = Image.fromarray(255 - image[0] // 2).resize((280, 280)).convert("RGB")
        wide = Image.new("RGB", (400, 280), (255, 255, 255))
        wide.paste(paper, (60, 0))
        pixels = own_image.from_picture(wide, both.data, INPUT)
        assert own_image._edge(pixels) < own_image.DARK
        right += own_image.answers(pixels, both).classes[0] == label
    assert right >= 18
    black = own_image.from_picture(Image.fromarray(images.numpy()[0][0]), both.data, INPUT)
    assert (black == images.numpy()[0]).all(), "what is right already stays"


def test_pictures_are_turned_as_their_camera_says_and_cut_to_the_middle(both: Pair) -> None:
    colours = np.zeros((60, 90, 3), dtype=np.uint8)
    colours[:, :15], colours[:, 15:45], colours[:, 45:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    picture = Image.fromarray(colours)
    pixels = own_image.from_picture(picture, both.data, (3, 4, 4))
    assert pixels.shape == (3, 4, 4)
    assert pixels[1, 0].tolist() == [255, 255, 0, 0] or pixels[1, 0, 0] > 200 > 60 > pixels[1, 0, 3]
    assert pixels[0].max() < 60, "what is outside the square in the middle is gone"
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by a quarter
    stream = io.BytesIO()
    picture.save(stream, "PNG", exif=exif)
    turned = own_image.from_picture(Image.open(stream), both.data, (3, 4, 4))
    assert turned[1, 0, 0] > 200 > 60 > turned[1, 3, 0], "left has become above"
    with pytest.raises(CompressionError, match="more than 50 million pixels"):
        own_image.from_picture(Image.new("1", (10_000, 6_000)), both.data, INPUT)
    torn = Image.open(io.BytesIO(stream.getvalue()[: len(stream.getvalue()) // 2]))
    with pytest.raises(CompressionError, match="no picture that can be read"):
        own_image.from_picture(torn, both.data, (3, 4, 4))


def test_answers_are_the_softmax_of_both_models(both: Pair) -> None:
    pixels = digits()[0].numpy()[3]
    given = own_image.answers(pixels, both)
    scaled = (pixels.astype(np.float64) / 255 - both.data.mean[0]) / both.data.std[0]
    for model, shares in ((both.dense, given.dense), (both.small, given.small)):
        with torch.no_grad():
            logits = model(torch.from_numpy(scaled[None]).float())[0].double().numpy()
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert shares == pytest.approx(expected, abs=1e-5)


def test_the_least_move_on_which_the_models_differ_is_that_of_a_search(both: Pair) -> None:
    moves = sorted(((y, x) for y in range(-4, 5) for x in range(-4, 5)), key=lambda move: (np.hypot(*move), move))
    outcomes = []
    for pixels in digits()[0].numpy()[:25]:
        expected = None
        for down, right in moves:
            padded = np.pad(pixels, ((0, 0), (4, 4), (4, 4)), mode="edge")
            shifted = padded[:, 4 - down : 32 - down, 4 - right : 32 - right]
            before, after = own_image.answers(np.ascontiguousarray(shifted), both).classes
            if before != after:
                expected = (down, right)
                break
        result = own_image.flipped(pixels, both)
        outcomes.append(expected)
        assert (result and result[1]) == expected
        if result:
            assert len(set(own_image.answers(result[0], both).classes)) == 2
    assert None in outcomes, "some hold still"
    assert any(outcomes), "some flip"


def test_of_many_classes_the_likeliest_of_either_model_are_drawn() -> None:
    dense = np.linspace(0, 0.1, 20)
    small = dense[::-1]
    info = answers.answers_info([str(i) for i in range(20)], dense.tolist(), small.tolist())
    assert sorted(map(int, info.classes)) == [0, 1, 2, 3, 4, 15, 16, 17, 18, 19]
    few = answers.answers_info(["a", "b"], [0.25, 0.75], [0.9, 0.1])
    assert few.classes == ("a", "b")
    assert all(share in few.sentence for share in ("75.0 %", "90.0 %"))
    drawn = answers.answers_figure(few)
    assert [list(bar.x) for bar in drawn.data] == [[25, 75], [90, 10]]


def test_somebody_draws_a_digit(browser: Browser, address: str, tmp_path: Path) -> None:
    with tab(browser) as page:
        page.goto(f"{address}/explain?run=gallery.resnet8-mnist5k.geta&tiles=Your+own")
        settled(page, "explain")
        page.get_by_text("Both models answer as soon as there is a picture").wait_for()
        draw(page, [(90, 60), (180, 60), (185, 70), (140, 220)])
        page.get_by_text("Both say 7").wait_for()
        page.get_by_role("button", name="Clear").click()
        page.get_by_text("Both models answer as soon as there is a picture").wait_for()
        draw(page, [(140, 50), (140, 230)])
        page.get_by_text("Both say 1").wait_for()
        page.get_by_text("Picture file", exact=True).click()
        wrong = tmp_path / "digit.png"
        wrong.write_bytes(b"GIF89a, but not really")
        page.locator("input[type=file]").set_input_files(wrong)
        page.get_by_text("this file is no picture that can be read").wait_for()
        right = tmp_path / "paper.png"
        Image.fromarray(255 - digits()[0].numpy()[0][0]).resize((200, 200)).save(right)
        page.locator("input[type=file]").set_input_files(right)
        page.get_by_text(f"say {int(digits()[1][0])}").wait_for()
        page.get_by_text("A test image that flips", exact=True).click()
        page.get_by_text("The original says").wait_for()


def test_what_the_pad_never_sends_is_refused_in_one_line() -> None:
    def sent(picture: Image.Image, kind: str = "PNG") -> str:
        stream = io.BytesIO()
        picture.save(stream, kind)
        return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()

    grey = Image.new("L", (112, 112), 7)
    assert (own_input._ink(sent(grey)) == 7).all()
    for drawing in ("x", "data:image/png;base64,AAAA", sent(grey, "BMP"), sent(Image.new("L", (5_000, 600)))):
        with pytest.raises(CompressionError, match=r"^the drawing cannot be read"):
            own_input._ink(drawing)
