"""Data: fixed splits, folders of images, batches that repeat and resume, and one line when something cannot be had."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compression import data
from compression.data import Batches
from compression.data.batches import Draw, Shift
from compression.data.splits import stratify
from compression.errors import CompressionError


@pytest.fixture(scope="module")
def digits() -> data.DataSet:
    return data.load("mnist5k")


def test_mnist5k_splits_are_stratified_disjoint_and_complete(digits: data.DataSet) -> None:
    assert [len(digits.split(name)) for name in ("train", "validation", "test")] == [3600, 400, 1000]
    assert [digits.split(name).labels.bincount().unique().tolist() for name in ("train", "validation", "test")] == [
        [360],
        [40],
        [100],
    ]
    everything = torch.cat([digits.split(name).images for name in ("train", "validation", "test")])
    assert len(everything.flatten(1).unique(dim=0)) >= 4990  # a picture may occur twice in the source, a split may not
    assert digits.input == (1, 28, 28)
    assert digits.train.images.dtype == torch.uint8
    assert data.load("mnist5k") is digits


def test_stratify_by_counting() -> None:
    labels = torch.tensor([0] * 50 + [1] * 20 + [2] * 3 + [3])
    rest, held = stratify(labels, 0.1)
    assert labels[held].bincount(minlength=4).tolist() == [5, 2, 1, 0]
    assert sorted(rest.tolist() + held.tolist()) == list(range(74))
    assert torch.equal(stratify(labels, 0.1)[0], rest)


def test_normalised_pixels_by_hand(digits: data.DataSet) -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    expected = [(value - 0.1307) / 0.3081 for value in (0, 0.2, 1)]
    assert data.normalise(images, digits).flatten().tolist() == pytest.approx(expected)


def test_augmentation_is_a_shift_and_a_flip() -> None:
    """Every augmented image is one of the (2p+1)^2 shifted, possibly mirrored versions of its own original."""
    images = torch.arange(1, 6 * 2 * 10 * 10 + 1).remainder(251).to(torch.uint8).view(6, 2, 10, 10)
    result = Shift(images, "shift-flip", Draw(torch.Generator().manual_seed(0), 6, (0, 1))).apply(images)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    shifts = []
    for image, own in zip(result, padded, strict=True):
        crops = {(y, x): own[:, y : y + 10, x : x + 10] for y in range(3) for x in range(3)}
        versions = {(*at, flip): crop.flip(2) if flip else crop for at, crop in crops.items() for flip in (False, True)}
        shifts.append([at for at, version in versions.items() if torch.equal(version, image)])
    assert all(len(matches) == 1 for matches in shifts)
    assert len({matches[0] for matches in shifts}) > 2
    assert {flip for ((_, _, flip),) in shifts} == {False, True}
    assert not bool(Shift(images, "shift", Draw(torch.Generator().manual_seed(0), 6, (0, 1))).flipped.any())


def test_batches_repeat_and_resume(digits: data.DataSet) -> None:
    batches = Batches(digits, batch_size=100, seed=5)
    assert len(batches) == 36
    seen = list(batches)
    again = Batches(digits, batch_size=100, seed=5).batch(0, 35)
    assert torch.equal(seen[35][0], again[0])
    assert torch.equal(seen[35][1], again[1])
    assert not torch.equal(batches.batch(1, 0)[1], seen[0][1])
    assert not torch.equal(Batches(digits, batch_size=100, seed=6).batch(0, 0)[1], seen[0][1])
    assert torch.cat([y for _, y in seen]).bincount().tolist() == [360] * 10  # every image once an epoch


def test_evaluation_batches_are_plain_ordered_and_whole(digits: data.DataSet) -> None:
    batches = list(Batches(digits, "validation", 150))
    assert [len(y) for _, y in batches] == [150, 150, 100]
    assert torch.equal(torch.cat([y for _, y in batches]), digits.validation.labels)
    assert torch.equal(batches[0][0], data.normalise(digits.validation.images[:150], digits))
    assert sum(len(y) for _, y in Batches(digits, "validation", 150, limit=170)) == 170


def test_training_leaves_out_an_incomplete_batch_but_never_all(digits: data.DataSet) -> None:
    assert len(Batches(digits, "train", 64)) == 56
    assert len(Batches(digits, "train", 100_000)) == 1


def _pictures(folder: Path, count: int, mode: str = "RGB", size: tuple[int, int] = (20, 10)) -> None:
    folder.mkdir(parents=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels, mode).save(folder / f"{index}.png")


def test_folder_is_split_80_10_10(tmp_path: Path) -> None:
    _pictures(tmp_path / "cat", 20)
    _pictures(tmp_path / "dog", 10, mode="L")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    dataset = data.load(str(tmp_path), input=(3, 8, 8))
    assert dataset.classes == ("cat", "dog")
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [24, 3, 3]
    assert dataset.train.labels.bincount().tolist() == [16, 8]
    assert dataset.input == (3, 8, 8)
    assert data.load(str(tmp_path), input=(1, 8, 8)).input == (1, 8, 8)


def test_folder_with_its_own_splits_keeps_them(tmp_path: Path) -> None:
    for part, count in (("train", 10), ("test", 4)):
        for name in ("a", "b"):
            _pictures(tmp_path / part / name, count)
    dataset = data.load(str(tmp_path), input=(3, 8, 8))
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [18, 2, 8]


def test_folder_image_is_the_middle_scaled_to_size(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            pixels = np.zeros((4, 8), np.uint8)
            pixels[:, 2:6] = 200  # the middle square
            Image.fromarray(pixels, "L").save(tmp_path / name / f"{index}.png")
    assert data.load(str(tmp_path), input=(1, 4, 4)).train.images.unique().tolist() == [200]


@pytest.mark.parametrize("kind", ["broken", "empty", "one class", "no train", "channels", "test class", "gone"])
def test_bad_folders_are_named(tmp_path: Path, kind: str) -> None:
    for name in ("a", "b"):
        _pictures(tmp_path / name, 3)
    input, message = (3, 8, 8), ""
    if kind == "broken":
        (tmp_path / "a" / "1.png").write_bytes(b"\x89PNG but not really")
        message = "1.png cannot be read"
    if kind == "empty":
        for name in ("a", "b"):
            for path in (tmp_path / name).iterdir():
                path.unlink()
        message = "no images"
    if kind == "one class":
        shutil.rmtree(tmp_path / "b")
        message = "at least two classes"
    if kind == "no train":
        for path in (tmp_path / "b").iterdir():
            path.unlink()
        message = "class 'b' has no images"
    if kind == "channels":
        input, message = (4, 8, 8), "not 4"
    if kind == "test class":
        for name in ("a", "b"):
            _pictures(tmp_path / "train" / name, 3)
        _pictures(tmp_path / "test" / "c", 3)
        message = "no class of this name"
    folder = str(tmp_path)
    if kind == "gone":
        folder, message = f"{tmp_path}/gone", "does not exist"
    with pytest.raises(CompressionError) as caught:
        data.load(folder, input=input)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_does_not_fit_is_reported_the_option(digits: data.DataSet) -> None:
    data.fit_check(digits, (1, 28, 28), 10)
    with pytest.raises(CompressionError, match="use --input 1x28x28"):
        data.fit_check(digits, (3, 32, 32), 10)
    with pytest.raises(CompressionError, match="use --classes 10"):
        data.fit_check(digits, (1, 28, 28), 1000)


def test_unknown_name() -> None:
    with pytest.raises(CompressionError, match=r"unknown data set 'mnist'.*mnist5k, fashion-mnist, cifar10"):
        data.load("mnist")


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_a_download_without_network_names_the_offline_alternative(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMPRESSION_DATA", raising=False)
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert not data.info(name).local
    with pytest.raises(CompressionError, match=rf"{name} could not be downloaded.*mnist5k") as caught:
        data.load(name)
    assert "\n" not in str(caught.value)


def test_a_broken_local_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fashion_mnist.npz").write_bytes(b"PK nothing")
    monkeypatch.setenv("COMPRESSION_DATA", str(tmp_path))
    with pytest.raises(CompressionError, match=r"fashion_mnist\.npz cannot be read"):
        data.load("fashion-mnist")


def test_fashion_mnist_from_a_file(shared_data: Path) -> None:
    dataset = data.load("fashion-mnist")
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [54_000, 6_000, 10_000]
    assert data.info("fashion-mnist").local


def test_cifar10_from_jpeg_files_is_labelled_so(shared_data: Path) -> None:
    dataset = data.load("cifar10")
    assert dataset.label == data.info("cifar10").title == "CIFAR-10 (JPEG-75)"
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [45_000, 5_000, 10_000]
    assert dataset.validation.labels.bincount().tolist() == [500] * 10
