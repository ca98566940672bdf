"""Lesson 10, what did it forget: confusion and attributions before and after, of recorded runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from app.figures.confusion import ConfusionInfo, confusion_figure, confusion_info
from app.figures.tiles import tile_figure
from app.learn.lessons import looking, recorded
from app.learn.lessons.answers import Pick
from app.learn.lessons.fields import Choice, Field, Slider, Values
from app.learn.lessons.lesson import Lesson, See, Shown
from app.learn.lessons.numbers import percent

ASKED = "short-paper"
FIRST_CLASS = "cat"
CLASSES, PIXELS = "classes", "pixels"
TILE_HEIGHT = 260
LABELS = {
    "short-paper": "1 epoch, settings of the paper",
    "short-tuned": "1 epoch, preset tuned",
    "paper": "6 epochs, settings of the paper",
    "w6-s20": "6 epochs, 20 % of the units removed, 6-bit weights",
    "w4-s39": "6 epochs, 39 %, 4-bit weights",
    "w4a6-s39": "6 epochs, 39 %, 4-bit weights, 6-bit activations",
    "w4a4-s50": "6 epochs, 50 %, 4-bit weights and activations",
}


def fields(values: Values) -> Sequence[Field]:
    """What is compared; then which run of the gallery and which class, or how pixels are asked and of which image."""
    kinds = {CLASSES: "its answers", PIXELS: "what it looks at"}
    kind = Choice("compared", "What is compared", kinds, CLASSES, pills=True)
    if values.get("compared", CLASSES) == PIXELS:
        explained = "Three ways to ask which pixels count; they answer different questions."
        way = Choice("way", "Asked by", looking.WAYS, "input_x_gradient", help=explained)
        explained = "Test images; those that the two models answer differently come first."
        return (kind, way, Slider("image", "Image", 1, len(looking.kept()["images"]), 1, 1, help=explained))
    names = {name: label for name, label in LABELS.items() if name in recorded.names()}
    first = Choice("kept", "Recorded GETA run, ResNet-20 on CIFAR-10 (JPEG-75)", names, ASKED)
    if "kept" not in values:
        return (kind, first)
    classes = info(str(values["kept"])).classes
    return (kind, first, Choice("label", "Class to look at", {name: name for name in classes}, FIRST_CLASS))


@lru_cache(maxsize=16)
def info(name: str) -> ConfusionInfo:
    """The two confusion tables of a run, compared."""
    result = recorded.result(name)
    return confusion_info(result["confusion"]["baseline"], result["confusion"]["final"], result["classes"])


def changes(name: str) -> dict[str, int]:
    """Class → how many images fewer are recognized (negative: more)."""
    found = info(name)
    return {found.classes[cell.truth]: cell.worse for cell in found.cells if cell.truth == cell.answer}


def show(values: Values) -> Shown:
    """The change of every cell, or the maps of one image; and the numbers of one class."""
    name, label = str(values.get("kept", ASKED)), str(values.get("label", FIRST_CLASS))
    found, result = info(name), recorded.result(name)
    at = found.classes.index(label)
    cells = {cell.answer: cell for cell in found.cells if cell.truth == at}
    right = cells[at]
    wrong = max((cell for cell in cells.values() if cell.answer != at), key=lambda cell: (cell.worse, cell.after))
    lost = changes(name)
    before, after = (result[moment]["accuracy"] for moment in ("baseline", "final"))
    facts = {
        "label": label,
        "dense": percent(before, 2),
        "compressed": percent(after, 2),
        "points": f"{100 * (before - after):.2f}",
        "images": f"{found.images:,}",
        "before": f"{right.before:,}",
        "after": f"{right.after:,}",
        "lost": f"{right.worse:,}".replace("-", "−"),
        "total": f"{found.totals[at]:,}",
        "sum": f"{sum(lost.values()):,}",
        "asked_run": LABELS[ASKED],
        "asked": answer().value,
        "asked_lost": str(changes(ASKED)[answer().value]),
        "asked_points": f"{100 * _drop(ASKED):.2f}",
    }
    if values.get("compared") == PIXELS:
        return _pixels(str(values["way"]), int(values["image"]), facts)
    said = f"“{label}” is now taken for **“{found.classes[wrong.answer]}”** in {wrong.after:,} of {found.totals[at]:,} "
    said += f"images, by the dense model in {wrong.before:,}."
    return Shown(confusion_figure(found), said, facts, found.rows)


def _pixels(way: str, number: int, facts: Mapping[str, str]) -> Shown:
    """An image, and which of its pixels speak for the original's answer in both models."""
    every = looking.infos(way)
    now = every[number - 1]
    figure = tile_figure(now).update_layout(height=TILE_HEIGHT)
    changed, of = looking.differing()
    said = f"A GETA run of resnet8 on digits. The original says **{now.before}**, the compressed model **{now.after}** "
    said += f"(right: {now.label}). Orange pixels speak for “{now.before}”"
    said += ", blue ones against it. " if now.signed else ". "
    said += f"The two maps rank the pixels alike to **{now.alike:.2f}** (1 would be the same). The models answer "
    said += f"{changed} of {of} test images differently."
    return Shown(figure, said, facts, [each.row for each in every])


def _drop(name: str) -> float:
    result = recorded.result(name)
    return float(result["baseline"]["accuracy"] - result["final"]["accuracy"])


def answer() -> Pick:
    """The class that lost most in the run asked for."""
    lost = changes(ASKED)
    return Pick({name: name for name in lost}, max(lost, key=lambda name: lost[name]))


LESSON = Lesson(
    fields,
    show,
    answer,
    (
        See("compare", "See what {run} confuses", "gallery.resnet8-mnist5k.geta"),
        See("explain", "See what it looks at", "gallery.resnet8-mnist5k.geta", whole=True),
    ),
)
