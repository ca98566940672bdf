"""Lesson 16, quantized recurrence: singular values of a rounded orthogonal matrix, and signals through its powers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import scipy.linalg
import torch

from compression.quant.orthogonal import bjorck, deviation_bound, near_orthogonal, rounded
from lessons.lesson import Choice, Lesson, Link, Number, Slider, Values, View
from lessons.maths.recurrence import signals, through_time
from lessons.memory import figure
from lessons.numbers import tex

SIZE, MOST_STEPS, BJORCK_ROUNDS = 32, 200, 40
NEAREST, TRAINED, HADAMARD = "nearest", "trained", "hadamard"
MATRICES = {NEAREST: "a random one", TRAINED: "trained for it", HADAMARD: "Hadamard’s"}
EXERCISE_BITS, TIMES = 4, 100


def fields(values: Values) -> Sequence[Choice | Slider]:
    """Which matrix, its bits, and how many steps."""
    which = "Trained: moved so that its rounded entries are nearly orthogonal. Hadamard’s: all entries are ±1/√n."
    return (
        Choice("matrix", "Orthogonal matrix", MATRICES, NEAREST, help=which, pills=True),
        Slider("bits", "Bits b", 2, 8, 1, 4, half=True),
        Slider("steps", "Steps T", 1, MOST_STEPS, 1, 100, half=True, help="How often the same matrix is applied."),
    )


@lru_cache(maxsize=1)
def exact() -> torch.Tensor:
    """A random orthogonal matrix, fp64."""
    drawn = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return bjorck(drawn, BJORCK_ROUNDS)


@lru_cache(maxsize=32)
def matrices(matrix: str, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The orthogonal matrix, and what stands for it in ``bits`` bits."""
    if matrix == HADAMARD:
        whole = torch.from_numpy(scipy.linalg.hadamard(SIZE) / math.sqrt(SIZE))
        return whole, rounded(whole, bits)
    return exact(), near_orthogonal(exact(), bits) if matrix == TRAINED else rounded(exact(), bits)


@lru_cache(maxsize=32)
def looked_at(matrix: str, bits: int) -> tuple[figure.Floats, float, figure.Floats]:
    """Singular values, the bound on how far they are from 1, and the lengths of signals after each step."""
    whole, small = matrices(matrix, bits)
    bound = float(torch.linalg.matrix_norm(small - whole, ord=2)) if matrix == TRAINED else deviation_bound(whole, bits)
    lengths = through_time(small, signals(SIZE), MOST_STEPS).norm(dim=1)
    return torch.linalg.svdvals(small).numpy(), bound, lengths.numpy()


def show(values: Values) -> View:
    """A matrix in so many bits, applied so often."""
    matrix, bits, steps = str(values["matrix"]), int(values["bits"]), int(values["steps"])
    singular, bound, lengths = looked_at(matrix, bits)
    info = figure.MemoryInfo(singular, bound, lengths, steps)
    median = float(info.middle[steps])
    whole, small = matrices(matrix, bits)
    once = float((small - whole).norm() / whole.norm())
    change = round(100 * float(np.abs(singular - 1).max()), 9)
    caption = (
        f"One step changes the length of a signal by at most **{change:.3g}\u00a0%**. After **{steps}** steps the "
        f"median signal is **{median:.3g} times** as long."
    )
    facts = {
        "size": str(SIZE),
        "bits": str(bits),
        "steps": str(steps),
        "most": f"{singular[0]:.4g}",
        "least": f"{singular[-1]:.4g}",
        "bound": f"{bound:.3g}",
        "once": f"{100 * once:.3g}",
        "worst": tex(float(singular[0]) ** steps),
        "median": tex(median),
        "exercise_bits": str(EXERCISE_BITS),
        "exercise_most": f"{_exercise_most():.3f}",
        "times": str(TIMES),
        "answer": f"{answer().value:.0f}",
    }
    return View(figure.memory_figure(info), caption, facts, info.rows)


def _exercise_most() -> float:
    """The largest singular value of the exercise, with as many digits as its words show."""
    return round(float(looked_at(NEAREST, EXERCISE_BITS)[0][0]), 3)


def answer() -> Number:
    """The first step after which a signal may be so many times as long."""
    return Number(float(math.ceil(math.log(TIMES) / math.log(_exercise_most()))), 1.0, "steps")


LESSON = Lesson(
    fields,
    show,
    answer,
    (Link("runs", "See the bits of {run}", "gallery.resnet8-mnist5k.geta"),),
)
