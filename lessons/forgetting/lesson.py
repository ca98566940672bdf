"""Lesson 10, what did it forget: confusion and attributions before and after, of recorded runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from compression.plots.confusion import ConfusionInfo, confusion_figure, confusion_info
from compression.plots.tiles import tile_figure
from compression.plots.words import share
from lessons import recorded
from lessons.forgetting import recorded_maps
from lessons.lesson import Choice, Lesson, Link, Pick, Slider, Values, View

EXERCISE = "short-paper"
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


def fields(values: Values) -> Sequence[Choice | Slider]:
    """What is compared; then which run of the gallery and which class, or the attribution method and the image."""
    kinds = {CLASSES: "its answers", PIXELS: "what it looks at"}
    kind = Choice("compared", "What is compared", kinds, CLASSES, pills=True)
    if values.get("compared", CLASSES) == PIXELS:
        explained = "Three ways to ask which pixels count; they answer different questions."
        way = Choice("way", "Asked by", recorded_maps.WAYS, "input_x_gradient", help=explained)
        explained = "Test images; those that the two models answer differently come first."
        return (kind, way, Slider("image", "Image", 1, len(recorded_maps.arrays()["images"]), 1, 1, help=explained))
    names = {name: label for name, label in LABELS.items() if name in recorded.names()}
    first = Choice("kept", "Recorded GETA run, ResNet-20 on CIFAR-10 (JPEG-75)", names, EXERCISE)
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
    table = info(name)
    return {table.classes[cell.truth]: cell.worse for cell in table.cells if cell.truth == cell.answer}


def show(values: Values) -> View:
    """The change of every cell, or the maps of one image; and the numbers of one class."""
    name, label = str(values.get("kept", EXERCISE)), str(values.get("label", FIRST_CLASS))
    facts = _facts(name, label)
    if values.get("compared") == PIXELS:
        return _pixels(str(values["way"]), int(values["image"]), facts)
    table = info(name)
    truth = table.classes.index(label)
    mistakes = [cell for cell in table.cells if cell.truth == truth != cell.answer]
    worst = max(mistakes, key=lambda cell: (cell.worse, cell.after))
    caption = f"“{label}” is now taken for **“{table.classes[worst.answer]}”** in {worst.after:,} of "
    caption += f"{table.totals[truth]:,} images, by the dense model in {worst.before:,}."
    return View(confusion_figure(table), caption, facts, table.rows)


def _facts(name: str, label: str) -> dict[str, str]:
    """The numbers of a run and of one class."""
    table, lost, worst = info(name), changes(name), answer().value
    truth = table.classes.index(label)
    right = next(cell for cell in table.cells if cell.truth == cell.answer == truth)
    before, after = _accuracies(name)
    first, second = _accuracies(EXERCISE)
    return {
        "label": label,
        "dense": share(before, 2),
        "compressed": share(after, 2),
        "points": f"{100 * (before - after):.2f}",
        "images": f"{table.images:,}",
        "before": f"{right.before:,}",
        "after": f"{right.after:,}",
        "lost": f"{right.worse:,}".replace("-", "−"),
        "total": f"{table.totals[truth]:,}",
        "sum": f"{sum(lost.values()):,}",
        "exercise_run": LABELS[EXERCISE],
        "exercise_lost": str(changes(EXERCISE)[worst]),
        "exercise_points": f"{100 * (first - second):.2f}",
        "answer": worst,
    }


def _accuracies(name: str) -> tuple[float, float]:
    """Before and after."""
    result = recorded.result(name)
    return float(result["baseline"]["accuracy"]), float(result["final"]["accuracy"])


def _pixels(way: str, number: int, facts: Mapping[str, str]) -> View:
    """An image, and which of its pixels speak for the original's answer in both models."""
    every = recorded_maps.infos(way)
    now = every[number - 1]
    figure = tile_figure(now).update_layout(height=TILE_HEIGHT)
    differ, total = recorded_maps.differing()
    caption = f"A GETA run of ResNet-8 on digits. The original says **{now.before}**, the compressed model "
    caption += f"**{now.after}** (right: {now.label}). Orange pixels speak for “{now.before}”"
    caption += ", blue ones against it. " if now.signed else ". "
    caption += f"The two maps rank the pixels alike to **{now.alike:.2f}** (1 would be the same). The models answer "
    caption += f"{differ} of {total} test images differently."
    return View(figure, caption, facts, [each.row for each in every])


def answer() -> Pick:
    """The class that lost most in the run of the exercise."""
    lost = changes(EXERCISE)
    return Pick({name: name for name in lost}, max(lost, key=lambda name: lost[name]))


LESSON = Lesson(
    fields,
    show,
    answer,
    (
        Link("compare", "See what {run} confuses", "gallery.resnet8-mnist5k.geta"),
        Link("explain", "See what it looks at", "gallery.resnet8-mnist5k.geta", whole=True),
    ),
)
