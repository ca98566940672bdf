"""Images that stay in their files: the same batches as from memory, bit for bit, in flat memory; what ends a run."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from compression import data, zoo
from compression.cli import main
from compression.data import folder as folders
from compression.data import masks
from compression.data.batches import Batches
from compression.data.files import Files, fits
from compression.errors import CompressionError
from compression.runs.prepare import TrainedModel, subject_digest
from compression.tasks import task_of
from compression.training.dense import evaluate, train_dense


def test_masks_are_read_with_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(20):
        pixels = generator.integers(0, 255, (10, 14), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(pixels // 64).save(tmp_path / "masks" / f"{number}.png")
    memory = data.load(str(tmp_path), input=(1, 10, 14))
    masks.load_masks.cache_clear()
    monkeypatch.setattr(masks, "fits", lambda *_: False)
    files = data.load(str(tmp_path), input=(1, 10, 14))
    masks.load_masks.cache_clear()
    assert isinstance(files.train.labels, Files)
    for one, other in zip(Batches(memory, "train", 4, seed=2), Batches(files, "train", 4, seed=2), strict=True):
        assert all(torch.equal(mine, its) for mine, its in zip(one, other, strict=True))
    x, y = Batches(files, "test", 2, augment=False).batch(0, 0)
    pixels = ((x[:, 0] * files.std[0] + files.mean[0]) * 255).round().long()
    assert torch.equal(pixels // 64, y)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ninety pictures of noise in three classes, of different sizes and modes."""
    generator = np.random.default_rng(0)
    for kind in range(3):
        home = tmp_path / "images" / f"class {kind}"
        home.mkdir(parents=True)
        for number in range(30):
            size = tuple(generator.integers(12, 30, 2))
            pixels = np.clip(generator.integers(0, 120, (*size, 3)) + 60 * kind, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).convert("L" if number % 5 == 0 else "RGB").save(home / f"{number}.png")
    return tmp_path / "images"


def loaded(root: Path, monkeypatch: pytest.MonkeyPatch, *, streamed: bool) -> data.DataSet:
    folders.load_folder.cache_clear()
    monkeypatch.setattr(folders, "fits", lambda *_: not streamed)
    return data.load(str(root), input=(3, 16, 16))


def test_batches_are_those_from_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = loaded(root, monkeypatch, streamed=False)
    files = loaded(root, monkeypatch, streamed=True)
    assert isinstance(files.train.images, Files)
    assert (files.input, files.preprocess, files.classes) == (memory.input, memory.preprocess, memory.classes)
    for split in ("train", "validation", "test"):
        one, other = (Batches(source, split, 8, seed=3) for source in (memory, files))
        assert len(one) == len(other)
        for epoch in (0, 1):
            for index in range(len(one)):
                for mine, its in zip(one.batch(epoch, index), other.batch(epoch, index), strict=True):
                    assert torch.equal(mine, its)


def test_any_batch_is_there_by_its_number(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on in the middle of an epoch, or asks in another order than what was read ahead."""
    batches = Batches(loaded(root, monkeypatch, streamed=True), "train", 8, seed=1)
    expected = [batches.batch(0, index) for index in range(len(batches))]
    for index in (4, 1, 4, 0, 7):
        x, y = batches.batch(0, index)
        assert torch.equal(x, expected[index][0])
        assert torch.equal(y, expected[index][1])


def test_training_and_scores_are_those_from_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for streamed in (False, True):
        dataset = loaded(root, monkeypatch, streamed=streamed)
        model = zoo.build("resnet8", (3, 16, 16), 3, seed=0)
        train_dense(model, dataset, 2, batch_size=16, precision="fp32")
        results.append((evaluate(model, dataset, "test").loss, next(model.parameters()).detach().clone()))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_a_run_from_files_resumes_and_exports(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("compression.data.files.LARGE", 0)
    monkeypatch.setattr("compression.data.files.SHARE", 0.0)
    folders.load_folder.cache_clear()
    about = f"--model resnet8 --data {root} --input 3x16x16 --classes 3 --batch-size 16"
    assert main(f"train {about} --epochs 2 --out {tmp_path / 'w.safetensors'}".split()) == 0
    words = f"run {about} --weights {tmp_path / 'w.safetensors'} --method geta --sparsity 0.2 --bits 8 --epochs 3"
    where = ["--runs", str(tmp_path / "runs"), "--json", str(tmp_path / "r.json")]
    assert main([*words.split(), *where]) == 0
    folders.load_folder.cache_clear()


def test_a_hundred_thousand_images_in_flat_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3x128x128 they would take 4.9 GB; only their names and labels are held."""
    count, kinds = 100_000, 10
    for kind in range(kinds):
        home = tmp_path / f"{kind}"
        home.mkdir()
        Image.new("RGB", (128, 128), (20 * kind, 0, 0)).save(home / "0.png")
        for number in range(1, count // kinds):
            os.link(home / "0.png", home / f"{number}.png")
    folders.load_folder.cache_clear()
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    monkeypatch.setattr("compression.data.files.psutil.virtual_memory", lambda: type("M", (), {"available": 8 << 30})())
    images = data.load(str(tmp_path), input=(3, 128, 128))
    assert isinstance(images.train.images, Files)
    assert sum(len(images.split(name)) for name in ("train", "validation", "test")) == count
    batches = Batches(images, "train", 64, seed=0)
    for index in range(20):
        x, y = batches.batch(0, index)
        red = (x[:, 0, 64, 64] * images.std[0] + images.mean[0]) * 255
        assert torch.equal((red / 20).round().long(), y), "every label is that of its file"
    gc.collect()
    assert process.memory_info().rss - before < 400 << 20
    folders.load_folder.cache_clear()


def test_small_sets_stay_in_memory() -> None:
    assert fits(50_000, (3, 32, 32))
    assert not fits(10**9, (3, 224, 224))


def test_files_that_vanish_end_it_in_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = loaded(root, monkeypatch, streamed=True)
    batches = Batches(dataset, "train", 8, seed=0)
    batches.batch(0, 0)
    for path in root.glob("*/*.png"):
        path.unlink()
    with pytest.raises(CompressionError, match=r"image .*\.png cannot be read"):
        for index in range(len(batches)):
            batches.batch(1, index)


def test_changed_files_are_another_subject(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset: Any = loaded(root, monkeypatch, streamed=True)
    subject = TrainedModel(zoo.build("resnet8", (3, 16, 16), 3), task_of(dataset), (3, 16, 16), 3, "w")
    before = subject_digest(subject, "resnet8")
    assert subject_digest(subject, "resnet8") == before
    path = next(root.glob("*/*.png"))
    Image.new("RGB", (9, 9)).save(path)
    assert subject_digest(subject, "resnet8") != before
