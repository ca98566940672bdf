"""A folder with boxes in COCO's format as a data set: images, and a JSON file of annotations for each split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from compression.data.files import fits, gathered
from compression.data.folder import AS_THEY_ARE, complete, divided, moments
from compression.data.layout import annotation_files
from compression.data.pictures import Span, read, shown, size_of
from compression.data.splits import shuffled
from compression.data.types import DETECTION, NOTHING, DataSet, Split
from compression.errors import CompressionError
from compression.preprocess import Preprocess
from compression.reading import Number, Text, Whole, cut, json_object, typed

TOLERANCE = 1.0  # pixels by which a box may reach beyond its image
MOST_BOXES = 500  # of one image
THINNEST = 0.01  # pixels of a side of a box
FOLDERS = ("", "images")  # where the files of a split lie, seen from its annotations


class _Image(TypedDict):
    id: Whole
    file_name: Text
    width: NotRequired[Whole]
    height: NotRequired[Whole]


class _Annotation(TypedDict):
    image_id: Whole
    category_id: Whole
    bbox: Annotated[list[Number], Field(min_length=4, max_length=4)]
    iscrowd: NotRequired[Whole]


class _Category(TypedDict):
    id: Whole
    name: Text


class _File(TypedDict):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


_FILE = TypeAdapter(_File)


@lru_cache(maxsize=2)
def load_coco(path: str, input: tuple[int, ...], how: Preprocess = AS_THEY_ARE) -> DataSet:
    """Read ``path``: ``annotations.json`` beside ``images/``, ``train/`` and ``val/`` with one each, or COCO's layout.

    That is ``annotations/instances_train2017.json`` and ``train2017/``.

    Images are stretched to ``input`` with their boxes, so that no box is lost; ``how`` may only set mean, deviation and
    interpolation. Crowds are left out; missing splits are taken from train.

    Raises:
        CompressionError: naming the image that is missing or of another size, the box outside of its image or without
            an area, or the file that cannot be read.
    """
    root, (mean, std) = Path(path), moments(input, how)
    if how.crop is not None or how.resize is not None:
        raise CompressionError(
            "preprocess: images with boxes are stretched to the model's input: leave resize and crop out"
        )
    files = {split: _file(file) for split, file in annotation_files(root).items()}
    in_memory = fits(sum(len(content["images"]) for content in files.values()), input)
    names = _categories(files, root)
    places = {split: _places(annotation_files(root)[split], content) for split, content in files.items()}
    span = Span([place for paths in places.values() for place in paths], how.range)
    most = max(1, *(_most(content) for content in files.values()))
    pools = {
        split: shuffled(
            _read(
                content,
                places[split],
                list(names),
                most,
                input,
                partial(_image, input=input, how=how, span=span),
                in_memory,
            )
        )
        for split, content in files.items()
    }
    parts: dict[str, Any] = {**complete(root, divided(pools))}
    return DataSet(
        path, root.resolve().name, tuple(names.values()), mean=mean, std=std,
        augment="shift-flip", scaling=replace(how, mean=None, std=None, range=span.used).to_dict(), task=DETECTION,
        **parts,
    )  # fmt: skip


def count_categories(root: Path) -> int:
    """How many classes the annotations name.

    Raises:
        CompressionError: they cannot be read.
    """
    return len(_categories({split: _file(path) for split, path in annotation_files(root).items()}, root))


def _file(path: Path) -> _File:
    what = f"annotations {shown(path)}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CompressionError(f"{what} cannot be read: {error.strerror or error}") from error
    result: _File = typed(_FILE, json_object(content, what), what)
    return result


def _categories(files: dict[str, _File], root: Path) -> dict[int, str]:
    """Category id → name, those of all splits in the order of their ids."""
    names: dict[int, str] = {}
    for content in files.values():
        for category in content["categories"]:
            if names.setdefault(category["id"], category["name"]) != category["name"]:
                raise CompressionError(f"{shown(root)}: category {category['id']} has two names")
    used = {annotation["category_id"] for content in files.values() for annotation in content["annotations"]}
    for unknown in sorted(used - names.keys()):
        raise CompressionError(f"{shown(root)}: annotations have the category {unknown}, which has no name")
    if len(names) < 2:
        raise CompressionError(f"{shown(root)}: annotations must tell at least two categories apart")
    return dict(sorted(names.items()))


def _places(path: Path, content: _File) -> list[Path]:
    """The file of every image, beside its annotations or where COCO has it."""
    homes = [path.parent / inner for inner in FOLDERS]
    homes.append(path.parent.parent / path.stem.partition("_")[2])
    places = []
    for image in content["images"]:
        if Path(image["file_name"]).is_absolute() or ".." in Path(image["file_name"]).parts:
            raise CompressionError(
                f"annotations {shown(path)} name an image outside of the folder: {shown(cut(image['file_name']))}"
            )
        place = next((home / image["file_name"] for home in homes if _is_file(home / image["file_name"])), None)
        if place is None:
            name = shown(cut(image["file_name"]))
            raise CompressionError(f"annotations {shown(path)} name the image {name}, which is not there")
        places.append(place)
    return places


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a null
        return False


def _most(content: _File) -> int:
    counts: dict[int, int] = defaultdict(int)
    for annotation in content["annotations"]:
        counts[annotation["image_id"]] += 1
    return min(MOST_BOXES, max(counts.values(), default=0))


def _read(
    content: _File,
    places: list[Path],
    ids: list[int],
    most: int,
    input: tuple[int, ...],
    image_of: Callable[[Path], NDArray[np.uint8]],
    in_memory: bool,
) -> Split:
    rows: dict[int, list[list[float]]] = {}
    for image in content["images"]:
        if image["id"] in rows:
            raise CompressionError(f"two images of the annotations have the number {image['id']}: give each its own")
        rows[image["id"]] = []
    for annotation in content["annotations"]:
        if annotation["image_id"] not in rows:
            raise CompressionError(
                f"an annotation names the image {annotation['image_id']}, which the file does not list"
            )
        if not annotation.get("iscrowd"):
            rows[annotation["image_id"]].append([float(ids.index(annotation["category_id"])), *annotation["bbox"]])
    boxes = torch.full((len(places), most, 5), NOTHING)
    for index, (image, place) in enumerate(zip(content["images"], places, strict=True)):
        height, width = size = size_of(place)
        if (image.get("height", height), image.get("width", width)) != size:
            raise CompressionError(
                f"image {shown(place)} has {width}x{height} pixels, and its annotations say otherwise"
            )
        own = [_scaled(row, size, input, place) for row in rows[image["id"]]]
        if len(own) > MOST_BOXES:
            raise CompressionError(f"image {shown(place)} has {len(own)} boxes, and {MOST_BOXES} are the most")
        if own:
            boxes[index, : len(own)] = torch.tensor(own)
    return Split(gathered([(place,) for place in places], image_of, input, in_memory), boxes)


def _scaled(row: list[float], size: tuple[int, int], input: tuple[int, ...], place: Path) -> list[float]:
    """(class, x1, y1, x2, y2) in the stretched image of (class, x, y, width, height)."""
    (kind, x, y, wide, high), (height, width) = row, size
    if min(x, y) < -TOLERANCE or x + wide > width + TOLERANCE or y + high > height + TOLERANCE:
        raise CompressionError(
            f"image {shown(place)} of {width}x{height} has a box outside of it: {[x, y, wide, high]}"
        )
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + wide, width), min(y + high, height)
    if right - left < THINNEST or bottom - top < THINNEST:
        raise CompressionError(f"image {shown(place)} has a box without an area in it: {[x, y, wide, high]}")
    across, down = input[2] / width, input[1] / height
    return [kind, left * across, top * down, right * across, bottom * down]


def _image(path: Path, input: tuple[int, ...], how: Preprocess, span: Span) -> NDArray[np.uint8]:
    """The picture as uint8 of ``input``, stretched."""
    pixels = read(path, (input[0], *size_of(path)), AS_THEY_ARE, span)
    resample = Image.Resampling[(how.interpolation or "bilinear").upper()]
    bands = [Image.fromarray(band).resize((input[2], input[1]), resample) for band in pixels]
    return np.stack([np.asarray(band, np.uint8) for band in bands])
