"""Low rank, lesson 13: the closed form against the SVD of numpy, descent over factors, and networks of two layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_learn import chosen
from torch import nn

from compression.posttraining.low_rank import factorize, largest_saving
from compression.posttraining.rows import rows, weight_of
from lessons import digits
from lessons.contents import CONTENTS
from lessons.rank import lesson
from lessons.rank.figure import PLAIN, WHITENED


def _layer(n: int, d: int, rank: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight [n, d] of this rank and correlated inputs [200, d], fp64."""
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((n, rank), (rank, d), (200, d))]
    mix = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return draw[0] @ draw[1], draw[2] @ mix


@pytest.mark.parametrize(("n", "d"), [(6, 9), (9, 6)])
def test_errors_are_those_of_the_factors_and_of_dropped_singular_values(n: int, d: int) -> None:
    weight, x = _layer(n, d, min(n, d))
    gram = x.mT @ x
    sigma = {
        False: np.linalg.svd(weight.numpy(), compute_uv=False),
        True: np.linalg.svd((x @ weight.mT).numpy(), compute_uv=False),  # X Wᵀ has the singular values of W G^½
    }
    for whitened in (False, True):
        result = factorize(weight, gram, whitened)
        assert result.singular == pytest.approx(sigma[whitened][: min(n, d)], rel=1e-8)
        for rank in range(min(n, d) + 1):
            first, second = result.factors(rank)
            assert (first.shape, second.shape) == ((rank, d), (n, rank))
            difference = weight - second @ first
            squared = (float((difference**2).sum()), float(((x @ difference.mT) ** 2).sum()))
            whole = (float((weight**2).sum()), float(((x @ weight.mT) ** 2).sum()))
            assert whole[0] * result.weights[rank] == pytest.approx(squared[0], rel=1e-8, abs=1e-16 * whole[0])
            assert whole[1] * result.outputs[rank] == pytest.approx(squared[1], rel=1e-8, abs=1e-16 * whole[1])
            dropped = (sigma[whitened][rank:] ** 2).sum()
            assert squared[whitened] == pytest.approx(dropped, rel=1e-8, abs=1e-16 * whole[whitened])
        assert max(result.weights[-1], result.outputs[-1]) < 1e-20, "full rank is exact"


def test_no_factors_do_better_than_whitened_ones() -> None:
    """Alternating least squares over both factors, in sample space, from several starts."""
    weight, x = _layer(5, 7, 5, seed=1)
    target = x @ weight.mT
    for rank in (1, 2, 3):
        best = np.inf
        for seed in range(4):
            second = torch.randn(5, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            for _ in range(300):
                first = torch.linalg.lstsq(x, target @ torch.linalg.pinv(second).mT).solution
                second = torch.linalg.lstsq(x @ first, target).solution.mT
            best = min(best, float(((x @ first @ second.mT - target) ** 2).sum() / (target**2).sum()))
        assert factorize(weight, x.mT @ x, whitened=True).outputs[rank] == pytest.approx(best, rel=1e-6)


def test_a_layer_of_rank_three_is_exact_at_three() -> None:
    weight, x = _layer(8, 12, 3)
    for whitened in (False, True):
        result = factorize(weight, x.mT @ x, whitened)
        assert max(result.weights[3], result.outputs[3]) < 1e-20
        assert min(result.weights[2], result.outputs[2]) > 1e-4


def test_inputs_that_do_not_fill_their_space_need_no_damping() -> None:
    weight, x = _layer(6, 9, 6)
    few = x[:2]
    result = factorize(weight, few.mT @ few, whitened=True)
    assert result.outputs[2] < 1e-12 < result.outputs[1], "two inputs span two directions"
    nothing = factorize(torch.zeros(3, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64), whitened=False)
    assert (nothing.weights == 0).all()


def test_whitened_is_never_worse_for_outputs_nor_plain_for_weights() -> None:
    for layer in digits.layers():
        both = lesson.ways(layer)
        assert (both[WHITENED].outputs <= both[PLAIN].outputs + 1e-12).all(), layer
        assert (both[PLAIN].weights <= both[WHITENED].weights + 1e-12).all(), layer
        assert both[PLAIN].outputs[-1] < 1e-20, layer


@pytest.mark.parametrize(("name", "rank"), [("layer2.0.conv1", 6), ("layer2.0.shortcut.0", 3), ("linear", 4)])
def test_the_facts_are_those_of_two_layers_of_torch(name: str, rank: int) -> None:
    """Two modules in place of one: their outputs on other rows, their sizes, and MACs counted one output at a time."""
    old = digits.network().get_submodule(name)
    first, second = (factor.float() for factor in lesson.ways(name)[WHITENED].factors(rank))
    if isinstance(old, nn.Conv2d):
        places = {"stride": old.stride, "padding": old.padding, "bias": False}
        behind = nn.Conv2d(rank, old.out_channels, 1, bias=False)
        pair = nn.Sequential(nn.Conv2d(old.in_channels, rank, old.kernel_size, **places), behind)
        x = torch.randn(2, old.in_channels, 28, 28, generator=torch.Generator().manual_seed(0))
    else:
        behind = nn.Linear(rank, old.out_features, bias=False)
        pair = nn.Sequential(nn.Linear(old.in_features, rank, bias=False), behind)
        x = torch.randn(2, old.in_features, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pair[0].weight.copy_(weight_of(pair[0], first[None]))
        pair[1].weight.copy_(weight_of(pair[1], second[None]))
        taken = rows(old, x, 10_000)[0]
        produced = pair(x).movedim(1, -1).reshape(-1, len(second)) if x.dim() > 2 else pair(x)
        assert torch.allclose(produced, taken @ (second @ first).mT, atol=1e-4)
    lesson_13 = CONTENTS[12].load()
    facts = lesson_13.show(chosen(lesson_13, layer=name, rank=rank, way=WHITENED)).facts
    assert int(facts["factored"].replace(",", "")) == sum(p.numel() for p in pair.parameters())
    assert int(facts["factored_bytes"].replace(",", "")) == 4 * sum(p.numel() for p in pair.parameters())
    sides = []
    hook = old.register_forward_hook(lambda module, given, out: sides.append(out[0, 0].numel()))
    with torch.no_grad():
        digits.network()(torch.zeros(1, *digits.INPUT))
    hook.remove()
    positions = sides[0] if isinstance(old, nn.Conv2d) else 1
    assert int(facts["factored_macs"].replace(",", "")) == positions * sum(p.numel() for p in pair.parameters())
    assert int(facts["whole_macs"].replace(",", "")) == positions * old.weight.numel()


def test_the_largest_rank_that_saves_is_that_of_a_search() -> None:
    for n, d in ((8, 9), (16, 72), (8, 8), (10, 32), (2, 2)):
        assert largest_saving(n, d) == max(rank for rank in range(min(n, d) + 1) if rank * (n + d) < n * d)


def test_the_answer_is_the_saving_at_the_first_rank_that_is_good_enough() -> None:
    lesson_13 = CONTENTS[12].load()
    name, full = lesson.EXERCISE_LAYER, len(lesson.ways(lesson.EXERCISE_LAYER)[PLAIN].singular)
    for way in (WHITENED, PLAIN):
        for rank in range(1, full + 1):
            facts = lesson_13.show(chosen(lesson_13, layer=name, rank=rank, way=way)).facts
            if float(facts["output_error"]) <= lesson.EXERCISE_ERROR:
                break
        part = int(facts["factored_macs"].replace(",", "")) / int(facts["whole_macs"].replace(",", ""))
        assert facts[f"rank_{way}"] == str(rank)
        assert float(facts[f"saved_{way}"]) == pytest.approx(100 * (1 - part), abs=0.51)
        if way == WHITENED:
            assert lesson_13.answer().value == pytest.approx(100 * (1 - part), abs=0.51)
