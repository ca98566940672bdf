"""Lessons 15 and 16: a real gradient by finite differences, errors by simulation, bytes by hand, powers by numpy."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from test_learn import chosen
from test_learn_numbers import read

from compression import tasks
from compression.data import Batches
from compression.quant.gradient_levels import best_levels, even_levels
from lessons import digits
from lessons.contents import CONTENTS
from lessons.maths import wire
from lessons.maths.recurrence import signals, through_time
from lessons.memory import lesson as memory
from lessons.wire import lesson


def test_the_gradient_is_that_of_the_loss() -> None:
    task, model = tasks.load(digits.DATA), copy.deepcopy(digits.network()).double()
    images, labels = Batches(task.data, "train", digits.IMAGES, augment=False).batch(0, 0)
    weight = model.get_submodule("layer2.0.conv2").weight
    gradient = digits.gradients()["layer2.0.conv2.weight"].flatten()
    losses = []
    with torch.no_grad():
        for change in (1e-5, -1e-5):
            weight.view(-1)[17] += change
            losses.append(float(task.loss(task.answer(model, images.double()), labels)))
            weight.view(-1)[17] -= change
    assert float(gradient[17]) == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-3)


@pytest.mark.parametrize("bits", [1, 3])
def test_errors_of_the_mean_are_those_of_simulated_processes(bits: int) -> None:
    block, generator = lesson.block("layer1.0.conv1").double(), np.random.default_rng(0)
    v, processes, draws = block.numpy(), 4, 60
    each = wire.roundings(block, bits)
    for name, levels in ((wire.BEST, best_levels(block[None], bits)), (wire.EVEN, even_levels(block[None], bits))):
        table = levels[0].numpy()
        below = np.clip(np.searchsorted(table, v, side="right") - 1, 0, len(table) - 2)
        low, high = table[below], table[below + 1]
        up = generator.random((draws, processes, len(v))) * (high - low) < v - low
        means = np.where(up, high, low).mean(axis=1)
        off = math.sqrt((((means - v) ** 2).sum(axis=1) / (v**2).sum()).mean())
        assert each[name].off(processes) == pytest.approx(off, rel=0.05)
    nearest = each[wire.NEAREST]
    distance = np.abs(v[:, None] - nearest.levels.numpy()).min(axis=1)
    assert nearest.off(1) == nearest.off(64) == pytest.approx(math.sqrt((distance**2).sum() / (v**2).sum()))


def test_numbers_of_the_wire() -> None:
    sizes = {name: tensor.numel() for name, tensor in digits.network().named_parameters()}
    coded = sum(p.numel() for p in digits.network().parameters() if p.dim() > 1)
    blocks = math.ceil(coded / 2048)
    expected = math.ceil(coded / 8) * 3 + blocks * 8 * 4 + 4 * (sum(sizes.values()) - coded)
    shown = CONTENTS[14].load()
    facts = shown.show(chosen(shown, bits=3)).facts
    assert (read(facts["bytes"].replace(",", "")), facts["levels"]) == (expected, "8")
    assert read(facts["whole"].replace(",", "")) == 4 * sum(sizes.values())
    assert float(facts["fewer"]) == pytest.approx(4 * sum(sizes.values()) / expected, abs=0.051)


def test_the_middle_level_is_that_with_the_least_error() -> None:
    values = lesson.EXERCISE
    low, high = min(values), max(values)

    def error(level: int) -> int:
        return sum((level - v) * (v - low) if v < level else (high - v) * (v - level) for v in values)

    least = min(map(error, values))
    assert [value for value in sorted(set(values)) if error(value) == least] == [lesson.answer().value]
    facts = CONTENTS[14].load().show(chosen(CONTENTS[14].load())).facts
    assert int(facts["over"]) < float(facts["share"]) < int(facts["at"])


@pytest.mark.parametrize("matrix", list(memory.MATRICES))
def test_lengths_are_those_of_powers_and_within_their_bounds(matrix: str) -> None:
    for bits in (2, 4, 7):
        _, small = memory.matrices(matrix, bits)
        singular, _, lengths = memory.looked_at(matrix, bits)
        power = np.linalg.matrix_power(small.numpy(), 40) @ signals(memory.SIZE).numpy()
        np.testing.assert_allclose(through_time(small, signals(memory.SIZE), 40)[-1], power, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(lengths[40], np.linalg.norm(power, axis=0), rtol=1e-6, atol=1e-9)
        times = np.arange(len(lengths))[:, None]
        assert (lengths <= singular[0] ** times * (1 + 1e-9)).all()
        assert (lengths >= singular[-1] ** times * (1 - 1e-9) - 1e-12).all()
        if matrix == memory.HADAMARD:
            assert lengths == pytest.approx(1)


def test_numbers_of_memory() -> None:
    shown = CONTENTS[15].load()
    facts = shown.show(chosen(shown, matrix=memory.NEAREST, bits=4, steps=50)).facts
    whole = memory.exact().numpy()
    step = np.abs(whole).max() / 7
    small = np.rint(whole / step) * step
    singular = np.linalg.svd(small, compute_uv=False)
    expected = {
        "most": singular[0],
        "least": singular[-1],
        "bound": np.linalg.norm(small - whole, ord=2),
        "once": 100 * np.linalg.norm(small - whole) / math.sqrt(memory.SIZE),
        "worst": singular[0] ** 50,
        "exercise_most": singular[0],
    }
    assert {name: read(facts[name]) for name in expected} == pytest.approx(expected, rel=0.006)
    answer = memory.answer().value
    assert singular[0] ** answer >= memory.TIMES > singular[0] ** (answer - 1)
