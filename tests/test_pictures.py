"""Folders of pictures: whatever depth, kind or turn they have, pixels are what a viewer shows, or the file is named."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image
from torchvision import transforms

from compression import data
from compression.data import pictures
from compression.errors import CompressionError
from compression.preprocess import Preprocess

RANDOM = np.random.default_rng(0)


def classes(root: Path, pictures: list[Image.Image], suffix: str = "png", **options: object) -> str:
    """A folder with the same pictures in class ``a`` and ``b``."""
    for name in "ab":
        (root / name).mkdir(parents=True)
        for index, picture in enumerate(pictures):
            picture.save(root / name / f"{index}.{suffix}", **options)
    return str(root)


def pixels(root: str, input: tuple[int, ...], **preprocess: object) -> NDArray[np.uint8]:
    """All different images of the folder, uint8 [N, C, H, W], sorted."""
    dataset = data.load(root, input=input, preprocess=preprocess or None)
    return torch.cat([dataset.split(name).images for name in ("train", "validation", "test")]).unique(dim=0).numpy()


def one(root: Path, picture: Image.Image, channels: int = 1, suffix: str = "png", **options: object) -> list[object]:
    """The values of one picture, stored several times, as it is read: [C][H][W]."""
    folder = classes(root, [picture] * 3, suffix, **options)
    (image,) = pixels(folder, (channels, picture.height, picture.width))
    return image.tolist()


def noise(kind: str) -> NDArray[np.generic]:
    if kind == "uint8":
        return RANDOM.integers(0, 256, (16, 16)).astype(np.uint8)
    if kind == "uint16":
        return RANDOM.integers(0, 65536, (16, 16)).astype(np.uint16)
    if kind == "12 bits":
        return RANDOM.integers(0, 4096, (16, 16)).astype(np.uint16)
    if kind == "int32":
        return RANDOM.integers(-1000, 100_000, (16, 16)).astype(np.int32)
    if kind == "float":
        return RANDOM.random((16, 16)).astype(np.float32)
    return (RANDOM.random((16, 16)) * 6e4 - 2e4).astype(np.float32)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "12 bits", "int32", "float", "wide float"])
@pytest.mark.parametrize("channels", [1, 3])
def test_uniform_noise_of_any_depth_fills_the_range(tmp_path: Path, kind: str, channels: int) -> None:
    suffix = "png" if kind in ("uint8", "uint16", "12 bits") else "tiff"
    folder = classes(tmp_path, [Image.fromarray(noise(kind)) for _ in range(8)], suffix)
    values = pixels(folder, (channels, 16, 16)).astype(float)
    assert values.mean() == pytest.approx(127.5, abs=4)
    assert values.std() == pytest.approx(256 / 12**0.5, abs=4), "that of a uniform distribution"
    if channels == 3:
        assert (values[:, 0] == values[:, 2]).all()


def test_deep_pictures_keep_their_brightness_among_each_other(tmp_path: Path) -> None:
    flat = [Image.fromarray(np.full((4, 4), value, np.uint16)) for value in (0, 1000, 2000, 4095)]
    folder = classes(tmp_path, flat, "tif")
    dataset = data.load(folder, input=(1, 4, 4))
    assert [image.ravel()[0] for image in pixels(folder, (1, 4, 4))] == [0, 62, 125, 255], "12 bits are in use"
    assert dataset.preprocess == {"mean": [0.449], "std": [0.226], "range": [0.0, 4095.0]}
    full = pixels(folder, (1, 4, 4), range=(0, 65535))
    assert [image.ravel()[0] for image in full] == [0, 4, 8, 16], "value / 257, as the user said"


def test_a_range_is_taken_over_all_splits_of_a_folder(tmp_path: Path) -> None:
    for part, value in (("train", 1000), ("test", 3000)):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(4):
                path = tmp_path / part / name / f"{index}.png"
                Image.fromarray(np.full((4, 4), value, np.uint16)).save(path)
    dataset = data.load(str(tmp_path), input=(1, 4, 4))
    assert (dataset.train.images.unique().tolist(), dataset.test.images.unique().tolist()) == ([62], [187])


def test_kinds_of_files(tmp_path: Path) -> None:
    """Each against what its definition says, by hand."""
    colour = Image.new("RGB", (2, 1))
    colour.putdata([(255, 0, 0), (0, 0, 255)])
    seen = [[[255, 0]], [[0, 0]], [[0, 255]]]
    assert one(tmp_path / "palette", colour.convert("P"), 3) == seen
    cmyk = Image.new("CMYK", (2, 1))
    cmyk.putdata([(0, 255, 255, 0), (255, 255, 0, 0)])
    assert one(tmp_path / "cmyk", cmyk, 3, "tif") == seen
    bits = Image.new("1", (2, 1))
    bits.putdata([1, 0])
    assert one(tmp_path / "bits", bits) == [[[255, 0]]]
    see_through = Image.new("RGBA", (2, 1))
    see_through.putdata([(255, 0, 0, 255), (255, 0, 0, 0)])
    assert one(tmp_path / "alpha", see_through, 3) == [[[255, 255]], [[0, 255]], [[0, 255]]], "on white"
    grey = Image.new("LA", (2, 1))
    grey.putdata([(10, 255), (10, 0)])
    assert one(tmp_path / "grey alpha", grey) == [[[10, 255]]]
    assert one(tmp_path / "index", colour.convert("P"), 3, transparency=colour.convert("P").getpixel((0, 0))) == [
        [[255, 0]],
        [[255, 0]],
        [[255, 255]],
    ]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_turned_pictures_stand_upright(tmp_path: Path, turn: int, depth: type) -> None:
    """The EXIF standard names the side of the scene on which row 0 and column 0 of the stored picture lie."""
    scene = np.arange(6, dtype=depth).reshape(2, 3) * 40
    stored = {
        1: scene, 2: scene[:, ::-1], 3: scene[::-1, ::-1], 4: scene[::-1], 5: scene.T, 6: scene.T[::-1],
        7: scene.T[::-1, ::-1], 8: scene.T[:, ::-1],
    }[turn]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turn
    folder = classes(tmp_path, [Image.fromarray(np.ascontiguousarray(stored))] * 3, exif=exif)
    (image,) = pixels(folder, (1, 2, 3))
    assert image[0].tolist() == scene.tolist()


def test_resize_and_crop_are_those_of_torchvision(tmp_path: Path) -> None:
    picture = Image.fromarray(RANDOM.integers(0, 256, (37, 53, 3)).astype(np.uint8))
    folder = classes(tmp_path, [picture] * 3)
    mode = transforms.InterpolationMode.BILINEAR
    for resize, crop in ((20, 16), (24, 24), (18, 17)):
        usual = transforms.Compose([transforms.Resize(resize, mode), transforms.CenterCrop(crop)])
        (image,) = pixels(folder, (3, crop, crop), resize=resize, crop=crop, interpolation="bilinear")
        assert np.array_equal(image.transpose(1, 2, 0), np.asarray(usual(picture)))
    (smaller,) = pixels(folder, (3, 8, 8), resize=20, crop=16, interpolation="bilinear")
    assert smaller.shape == (3, 8, 8)


def broken(root: Path, kind: str) -> None:
    """Put something that is no good picture into class ``a``."""
    path, picture = root / "a" / "bad.png", Image.fromarray(noise("uint8"))
    if kind == "animation":
        picture.save(root / "a" / "bad.gif", save_all=True, append_images=[Image.fromarray(noise("uint8"))])
    elif kind == "pages":
        picture.save(root / "a" / "bad.tif", save_all=True, append_images=[picture, picture])
    elif kind == "nothing":
        path.write_bytes(b"")
    elif kind == "no picture":
        path.write_text("hello")
    elif kind == "half":
        picture.save(path)
        path.write_bytes(path.read_bytes()[:100])
    elif kind == "no pixels":
        (root / "a" / "bad.pgm").write_bytes(b"P5 0 4 255\n")
    elif kind == "bomb":
        Image.new("1", (12_000, 12_000)).save(path)
    elif kind == "link":
        path.symlink_to(root / "nowhere.png")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "nan":
        Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(root / "a" / "bad.tiff")
    elif kind == "line":
        (root / "a" / "bad\n\x1b[31m.png").write_bytes(b"no picture")
    elif kind == "bytes":
        (root / "a" / os.fsdecode(b"bad\xff.png")).write_bytes(b"no picture")


@pytest.mark.parametrize(
    "kind",
    [
        "animation",
        "pages",
        "nothing",
        "no picture",
        "half",
        "no pixels",
        "bomb",
        "link",
        "pipe",
        "nan",
        "line",
        "bytes",
    ],
)
def test_what_is_no_picture_is_named_in_one_line(tmp_path: Path, kind: str) -> None:
    folder = classes(tmp_path, [Image.fromarray(noise("uint8"))] * 3)
    broken(tmp_path, kind)
    with pytest.raises(CompressionError, match=r"image .*/a/bad") as caught:
        data.load(folder, input=(1, 8, 8))
    assert str(caught.value).isprintable()
    str(caught.value).encode("utf-8")


def test_hidden_files_and_folders_called_like_pictures(tmp_path: Path) -> None:
    folder = classes(tmp_path, [Image.fromarray(noise("uint8")) for _ in range(4)])
    (tmp_path / "a" / "._0.png").write_bytes(b"no picture")
    (tmp_path / "a" / ".cache").mkdir()
    (tmp_path / "a" / ".cache" / "x.png").write_bytes(b"no picture")
    (tmp_path / "a" / "more.png").mkdir()
    Image.fromarray(noise("uint8")).save(tmp_path / "a" / "more.png" / "4.png")
    assert len(pixels(folder, (1, 16, 16))) == 5


def test_a_class_that_cannot_be_named(tmp_path: Path) -> None:
    folder = classes(tmp_path, [Image.fromarray(noise("uint8"))] * 3)
    (tmp_path / os.fsdecode(b"c\xff")).mkdir()
    with pytest.raises(CompressionError, match="cannot name a class") as caught:
        data.load(folder, input=(1, 8, 8))
    assert str(caught.value).isprintable()


def test_a_known_name_is_the_data_set_whatever_lies_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compression.budget import Budget
    from compression.runs.preflight import absolute

    monkeypatch.chdir(tmp_path)
    for name in ("mnist5k", "mine"):
        classes(tmp_path / name, [Image.fromarray(noise("uint8"))] * 4)
    assert data.load("mnist5k").label == "MNIST (5,000 digits)"
    assert data.load("./mnist5k", input=(1, 8, 8)).classes == ("a", "b")
    assert [absolute(Budget(data=name)).data for name in ("mnist5k", "./mnist5k", "mine")] == [
        "mnist5k",
        str(tmp_path / "mnist5k"),
        str(tmp_path / "mine"),
    ]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"mean": 127}, "mean must be"), ({"std": 0}, "std must be"), ({"std": [0.2, float("nan")]}, "std must be"),
        ({"resize": 0}, "resize must be"), ({"resize": True}, "resize must be"), ({"crop": 1 << 40}, "crop must be"),
        ({"range": [1, 1]}, "range must be"), ({"range": [0, 10**400]}, "range must be"), ({"size": 3}, "unknown key"),
        ({"interpolation": ["bicubic"]}, "interpolation must be"), ({"mean": "half"}, "mean must be"),
        ([1], "must be an object"),
    ],
)  # fmt: skip
def test_a_preprocessing_that_cannot_be_is_refused_by_name(value: object, problem: str) -> None:
    with pytest.raises(CompressionError, match=f"preprocess.*{problem}|{problem}"):
        Preprocess.read(value)  # type: ignore[arg-type]


def test_constants_can_be_said_for_named_images_and_nothing_for_sentences() -> None:
    plain, changed = data.load("mnist5k"), data.load("mnist5k", preprocess={"mean": 0.5, "std": [0.25]})
    assert changed.train.images is plain.train.images
    expected = (plain.train.images[:4].double() / 255 - 0.5) / 0.25
    torch.testing.assert_close(data.normalise(changed.train.images[:4], changed).double(), expected, atol=1e-6, rtol=0)
    with pytest.raises(CompressionError, match="only mean and std"):
        data.load("mnist5k", preprocess={"resize": 8})
    with pytest.raises(CompressionError, match="has 3 numbers"):
        data.load("mnist5k", preprocess={"mean": [0.1, 0.2, 0.3]})


def tiff(path: Path, values: NDArray[np.generic], photometric: int, sample_format: int) -> Path:
    """An uncompressed little-endian TIFF, as scanners and microscopes write it; Pillow writes none of these kinds."""
    height, width = values.shape[:2]
    samples, bits = values.size // (height * width), values.itemsize * 8
    pixels, fields = values.tobytes(), 10
    depths = 8 + len(pixels) + 2 + 12 * fields + 4
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, samples, bits if samples == 1 else depths)]
    tags += [(259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, 8), (277, 3, 1, samples), (278, 3, 1, height)]
    tags += [(279, 4, 1, len(pixels)), (339, 3, 1, sample_format)]
    directory = struct.pack("<H", fields) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    end = struct.pack(f"<{samples}H", *[bits] * samples)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory + end)
    return path


def pixels_of(path: Path, channels: int = 1, **preprocess: object) -> list[int]:
    """The top row of the first channel."""
    return pictures.read(path, (channels, 4, 4), Preprocess(**preprocess), pictures.Span([path]))[0, 0].tolist()


def test_unsigned_values_of_32_bits_keep_their_order(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 2**32 - 1, 4).astype("<u4"), (4, 1))
    assert pixels_of(tiff(tmp_path / "x.tif", ramp, 1, 1)) == [0, 85, 170, 255]


def test_what_pillow_turns_round_or_cuts_off_is_refused_by_name(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 4095, 4).astype("<u2"), (4, 1))
    dark = tiff(tmp_path / "dark.tif", np.repeat(ramp[:, :, None], 3, 2), 2, 1)
    with pytest.raises(CompressionError, match=r"dark\.tif.*16 bits"):
        pixels_of(dark, 3)
    bright = tiff(tmp_path / "bright.tif", np.repeat((ramp * 16)[:, :, None], 3, 2), 2, 1)
    assert pixels_of(bright, 3) == [0, 85, 170, 255]
    with pytest.raises(CompressionError, match=r"white\.tif.*0 is white"):
        pixels_of(tiff(tmp_path / "white.tif", ramp * 16, 0, 1))
    with pytest.raises(CompressionError, match=r"signed\.tif.*with a sign"):
        pixels_of(tiff(tmp_path / "signed.tif", np.tile(np.array([-128, -1, 0, 127], "i1"), (4, 1)), 1, 2))


def test_a_line_of_pixels_is_not_scaled_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "line.png"
    Image.new("L", (1, 60_000), 7).save(path)
    assert pixels_of(path) == [7] * 4
    with pytest.raises(CompressionError, match=r"line\.png.*256 x 15360000 pixels"):
        pixels_of(path, resize=256, crop=4)


def test_no_program_is_started_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, log = tmp_path / "page.png", tmp_path / "log"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {log}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # not looked for yet
    with pytest.raises(CompressionError, match=r"page\.png"):
        pixels_of(path)
    assert not log.exists()
