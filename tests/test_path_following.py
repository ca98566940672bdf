"""Layers as matrices, sums over their inputs, path following and learned rounding: against sample space, the textbook
form of GPTQ, least squares and brute force."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compression.errors import CompressionError
from compression.posttraining.follow import (
    Direction,
    aligned,
    damped,
    factor,
    feedback,
    follow,
    neuron_errors,
    output_error,
)
from compression.posttraining.grams import LayerInputs, collect
from compression.posttraining.learned import LearnedRounding, RoundingVariable, decided
from compression.posttraining.path import PathRounding
from compression.posttraining.problems import LayerProblem
from compression.posttraining.rows import matrix, rows, weight_of
from compression.quant.fixed_steps import FixedQuantizer

ALL = 1 << 30


def problem(weights: torch.Tensor, x: torch.Tensor, bits: int = 3, pruned: int = 0, seed: int = 0) -> LayerProblem:
    """Neurons [N, d] that read the rows x [n, d], with room for the largest weight of each."""
    levels = 2 ** (bits - 1) - 1
    inputs = LayerInputs((x.mT @ x)[None], None, x.sum(0)[None], len(x))
    generator = torch.Generator().manual_seed(seed)
    steps = weights.abs().amax(-1)[None] / levels
    return LayerProblem("layer", weights[None], inputs, steps, levels, pruned, generator, [])


def correlated(seed: int, n: int, d: int, neurons: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [neurons, d] and inputs [n, d] that depend on each other, fp64."""
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    return draw(neurons, d), draw(n, d) @ draw(d, d) * 0.3 + 1


# Layers as matrices ---------------------------------------------------------------------------------------------------

LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Linear(5, 3, bias=False), (4, 5)),
    (nn.Linear(5, 3, bias=False), (2, 3, 4, 5)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2, bias=False), (2, 4, 11)),
    (nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), bias=False), (2, 4, 9, 8)),
    (nn.Conv2d(4, 4, 3, padding="same", padding_mode="circular", groups=4, bias=False), (2, 4, 6, 5)),
    (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect", bias=False), (2, 3, 6, 5)),
    (nn.Conv3d(2, 3, 2, stride=2, bias=False), (2, 2, 4, 5, 6)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False), (2, 4, 5)),
    (nn.ConvTranspose2d(4, 3, (3, 2), stride=(2, 3), dilation=(1, 2), bias=False), (2, 4, 5, 4)),
    (nn.ConvTranspose3d(2, 2, 2, stride=2, padding=1, bias=False), (1, 2, 3, 3, 3)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: str(value)[:60])
def test_a_layer_is_its_matrix_times_its_rows(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer = layer.double()
    x = torch.randn(shape, dtype=torch.float64)
    weight = layer.get_parameter("weight").detach()
    as_matrix = matrix(layer, weight)
    assert torch.equal(weight_of(layer, as_matrix), weight)
    product = rows(layer, x, ALL) @ as_matrix.mT  # [groups, n, outputs]
    expected = layer(x).detach()
    if isinstance(layer, nn.Linear):
        assert torch.allclose(product[0], expected.flatten(0, -2))
        return
    positions = expected.flatten(2)
    assert torch.allclose(product.unflatten(1, (len(x), -1)).permute(1, 0, 3, 2).flatten(1, 2), positions, atol=1e-12)


def test_some_rows_are_the_same_positions_of_every_example() -> None:
    layer, x = nn.Conv2d(1, 1, 1), torch.arange(100.0).expand(3, 100).reshape(3, 1, 10, 10)
    taken = rows(layer, x, 17, torch.Generator().manual_seed(4))[0, :, 0].reshape(3, 17)
    assert torch.equal(taken[0], taken[1])
    assert len(set(taken[0].tolist())) == 17
    assert not torch.equal(taken, rows(layer, x, 17, torch.Generator().manual_seed(5))[0, :, 0].reshape(3, 17))


class Twice(nn.Module):
    """One convolution called twice, and a linear layer that shares its weight with another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(torch.relu(self.conv(x)))).mean((2, 3))
        result: torch.Tensor = self.second(torch.relu(self.first(x)))
        return result


def test_sums_are_those_of_all_rows_of_all_calls() -> None:
    torch.manual_seed(0)
    model, dense = Twice().double(), Twice().double()
    batches = [torch.randn(3, 2, 5, 4, dtype=torch.float64) for _ in range(3)]
    paths = {"conv": "conv", "first": "first", "second": "first"}
    sums = collect(model, paths, batches, dense, most=ALL)
    x = torch.cat(batches)
    with torch.no_grad():
        inner = [(m, torch.relu(m.conv(x))) for m in (model, dense)]
        both = [torch.cat([F.unfold(y, 3, padding=1).mT.flatten(0, 1) for y in (x, mid)]) for _, mid in inner]
        pooled = [torch.relu(m.conv(mid)).mean((2, 3)) for m, mid in inner]
        vectors = [torch.cat([p, torch.relu(m.first(p))]) for (m, _), p in zip(inner, pooled, strict=True)]
    for name, (here, there) in {"conv": both, "first": vectors}.items():
        assert sums[name].count == len(here)
        assert torch.allclose(sums[name].gram[0], here.mT @ here)
        assert torch.allclose(sums[name].cross[0], here.mT @ there)  # type: ignore[index]
        assert torch.allclose(sums[name].mean[0], here.mean(0))
    assert model.training, "modes are as before"


def test_the_pass_ends_where_the_layer_has_its_input() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("computed in vain")

    model = nn.Sequential(nn.Linear(3, 3), Broken())
    assert collect(model, {"0": "0"}, [torch.ones(2, 3)], last=1)["0"].count == 2
    with pytest.raises(RuntimeError, match="in vain"):
        collect(model, {"0": "0"}, [torch.ones(2, 3)])


def test_nothing_of_a_batch_outlives_it() -> None:
    """Memory is flat in the number of inputs: after each batch as many numbers are alive as after the one before."""
    alive: list[int] = []

    def batches() -> Iterator[torch.Tensor]:
        for _ in range(4):
            gc.collect()
            alive.append(sum(each.numel() for each in gc.get_objects() if isinstance(each, torch.Tensor)))
            yield torch.randn(2, 2, 5, 4)

    collect(Twice(), {"conv": "conv", "first": "first", "second": "first"}, batches(), Twice())
    assert alive[1] == alive[2] == alive[3] > alive[0]


def test_inputs_that_are_not_finite_are_refused_by_name() -> None:
    with pytest.raises(CompressionError, match="layer 0: its inputs are not finite"):
        collect(nn.Sequential(nn.Linear(2, 2)), {"0": "0"}, [torch.tensor([[1.0, float("nan")]])])


# Path following -------------------------------------------------------------------------------------------------------


def in_sample_space(w: torch.Tensor, x: torch.Tensor, direction: Direction, rounding: Any) -> torch.Tensor:
    """The same path with the error u as a vector over samples, one neuron at a time."""
    result = torch.empty_like(w)
    for i, neuron in enumerate(w):
        u = torch.zeros(len(x), dtype=x.dtype)
        for t in range(len(neuron)):
            v = x[:, t]
            if direction == "orthogonal" and t + 1 < len(neuron):
                later = x[:, t + 1 :]
                v = v - later @ torch.linalg.lstsq(later, v[:, None]).solution[:, 0]
            q = rounding(neuron[t] + (v @ u) / (v @ x[:, t]), i)
            result[i, t] = q
            u = u + (neuron[t] - q) * x[:, t]
    return result


@pytest.mark.parametrize("direction", ["plain", "orthogonal"])
def test_gram_form_is_sample_form(direction: Direction) -> None:
    w, x = correlated(1, 60, 9, 5)
    each = problem(w, x)
    back, needed = feedback(each.inputs.gram, direction)
    assert needed == 0
    steps = each.steps[0]
    expected = in_sample_space(w, x, direction, lambda z, i: (z / steps[i]).round().clamp(-3, 3) * steps[i])
    assert torch.allclose(follow(w[None], back, lambda z, t: each.nearest(z))[0], expected)


def test_it_is_gptq_with_the_factor_of_the_inverse() -> None:
    """Frantar et al., algorithm 1, with blocks of any size: identical codes, and its losses add up to the error."""
    w, x = correlated(2, 700, 150, 4)  # more than a block
    each = problem(w, x, bits=4)
    gram = damped(each.inputs.gram, 0.01)
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(gram[0])), upper=True)
    rest, losses, expected = w.clone(), 0.0, torch.empty_like(w)
    for t in range(w.shape[1]):
        expected[:, t] = each.nearest(rest[None, :, t])[0]
        error = (rest[:, t] - expected[:, t]) / upper[t, t]
        rest[:, t:] -= error[:, None] * upper[t, t:]
        losses += float(error.square().sum())
    values, survives = PathRounding("orthogonal", 0.01)(each)
    assert torch.allclose(values[0], expected)
    assert survives.all()
    assert output_error(w[None] - values, gram) == pytest.approx(losses)


@pytest.mark.parametrize("direction", ["plain", "orthogonal"])
def test_inputs_that_are_orthogonal_leave_nothing_to_make_good(direction: Direction) -> None:
    w, _ = correlated(3, 1, 8, 3)
    each = problem(w, torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q * 3)
    assert torch.equal(PathRounding(direction)(each)[0], each.nearest(each.weights))


@pytest.mark.parametrize("direction", ["plain", "orthogonal"])
def test_it_is_between_brute_force_and_nearest_rounding(direction: Direction) -> None:
    """Never below the least error of all codes, and on average of 50 cases below nearest rounding."""
    ratios = []
    for seed in range(50):
        w, x = correlated(seed, 40, 4, 3)
        each = problem(w, x, bits=2)
        codes = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=4)), dtype=torch.float64)
        every = codes[None] * each.steps[0][:, None, None]
        least = neuron_errors(w[:, None] - every, each.inputs.gram).amin(-1)
        ours, nearest = (
            neuron_errors(each.weights - values, each.inputs.gram)[0]
            for values in (PathRounding(direction)(each)[0], each.nearest(each.weights))
        )
        assert (ours >= least * (1 - 1e-9)).all()
        ratios.append(float(ours.sum() / nearest.sum()))
    assert sum(ratios) / len(ratios) < 0.9


def test_removed_weights_are_exactly_so_many_and_the_others_make_good() -> None:
    w, x = correlated(5, 200, 20, 6)
    for direction, pruned in itertools.product(("plain", "orthogonal"), (0, 1, 77, 119)):
        each = problem(w, x, bits=4, pruned=pruned)
        values, survives = PathRounding(direction)(each)  # type: ignore[arg-type]
        assert int((~survives).sum()) == pruned
        assert not values[~survives].any()
        assert ((values / each.steps[..., None]).round().abs() <= each.levels).all()
        if pruned == 119:
            continue  # one weight cannot make good for what is removed after it
        # Without a grid: better than to leave the others as they are
        back, _ = feedback(each.inputs.gram, direction)  # type: ignore[arg-type]
        exact = follow(each.weights, back, lambda z, t, alive=survives: z * alive[..., t])  # type: ignore[misc]
        zeroed = output_error(each.weights * ~survives, each.inputs.gram)
        assert output_error(each.weights - exact, each.inputs.gram) <= zeroed * (1 + 1e-9)


def test_one_weight_goes_as_the_optimal_brain_surgeon_says() -> None:
    """Removing one weight and letting all others make good costs w² / [G⁻¹]_tt; the cheapest one goes."""
    w, x = correlated(6, 100, 6, 1)
    each = problem(w, x, pruned=1)
    costs = []
    for t in range(6):
        others = [i for i in range(6) if i != t]
        rest = torch.linalg.lstsq(x[:, others], x @ w[0]).solution
        costs.append(float((x[:, others] @ rest - x @ w[0]).square().sum()))
    _, survives = PathRounding("orthogonal")(each)
    assert (~survives[0, 0]).nonzero().item() == min(range(6), key=costs.__getitem__)


def test_order_by_energy_changes_only_the_path() -> None:
    w, x = correlated(7, 100, 12, 4)
    order = x.square().sum(0).argsort(descending=True)
    each = problem(w, x)
    direct, _ = PathRounding("orthogonal", 0.01)(problem(w[:, order], x[:, order]))
    values, _ = PathRounding("orthogonal", 0.01, by_energy=True)(each)
    assert torch.allclose(values[..., order], direct)


def test_stochastic_rounding_is_right_on_average_and_repeats() -> None:
    w, x = torch.full((1, 10_000), 0.3, dtype=torch.float64), torch.ones(1, 10_000, dtype=torch.float64)
    each = problem(w, x)
    each.steps = torch.ones(1, 1, dtype=torch.float64)
    rounding = PathRounding("plain", stochastic=True)
    drawn = torch.stack([rounding._rounded(each, each.weights[..., t]) for t in range(10_000)])
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert abs(float(drawn.mean()) - 0.3) < 3 * (0.3 * 0.7 / 10_000) ** 0.5
    small = [
        PathRounding("plain", stochastic=True)(problem(*correlated(8, 50, 9, 3), seed=seed))[0] for seed in (1, 1, 2)
    ]
    assert torch.equal(small[0], small[1])
    assert not torch.equal(small[0], small[2])


def test_dead_and_dependent_inputs_are_rounded_around() -> None:
    w, x = correlated(9, 50, 8, 3)
    x[:, 2], x[:, 5] = 0.0, x[:, 4]
    for direction in ("plain", "orthogonal"):
        each = problem(w, x)
        values, _ = PathRounding(direction)(each)  # type: ignore[arg-type]
        assert torch.isfinite(values).all()
        assert torch.equal(values[..., 2], each.nearest(each.weights[..., 2]))
        assert bool(each.notes) == (direction == "orthogonal")
    assert factor(torch.zeros(1, 3, 3), 0.0)[1] > 0


def test_aligned_weights_are_least_squares() -> None:
    w, x = correlated(10, 300, 7, 3)
    changed = x + 0.2 * torch.randn(300, 7, dtype=torch.float64)
    gram, cross = (changed.mT @ changed)[None], (changed.mT @ x)[None]
    expected = torch.linalg.lstsq(changed, x @ w.mT).solution.mT
    assert torch.allclose(aligned(w[None], gram, cross, 0.0)[0], expected)
    assert torch.allclose(aligned(w[None], gram, gram, 0.5)[0], w), "the same inputs leave the weights as they are"


# Learned rounding -----------------------------------------------------------------------------------------------------


def test_one_weight_takes_the_better_of_two_values() -> None:
    for value in (0.2, 0.45, 0.55, 0.9, -0.3, -0.7):
        each = problem(torch.tensor([[1.0, value]], dtype=torch.float64), torch.eye(2, dtype=torch.float64), bits=2)
        values, _ = LearnedRounding(300, 0.02, 10.0)(each)
        assert float(values[0, 0, 1]) == round(value)


def test_learned_rounding_is_near_the_best_of_all_and_never_worse_than_nearest() -> None:
    excess, total = 0.0, 0.0
    for seed in range(4):
        w, x = correlated(seed, 100, 8, 3)
        x = x - x.mean(0)
        each = problem(w, x)
        values, _ = LearnedRounding(1000, 0.02, 10.0)(each)
        assert ((values - each.weights).abs() < each.steps[..., None] * (1 + 1e-6)).all(), "up or down, no further"
        ups = torch.tensor(list(itertools.product((0.0, 1.0), repeat=8)), dtype=torch.float64)
        floor = (w / each.steps[0][:, None]).floor()
        every = (floor[:, None] + ups[None]).clamp(-3, 3) * each.steps[0][:, None, None]
        least = neuron_errors(w[:, None] - every, each.inputs.gram).amin(-1)
        ours = neuron_errors(each.weights - values, each.inputs.gram)[0]
        nearest = neuron_errors(each.weights - each.nearest(each.weights), each.inputs.gram)[0]
        assert (ours >= least * (1 - 1e-9)).all()
        assert (ours <= nearest * (1 + 1e-9)).all()
        excess, total = excess + float((ours - least).sum()), total + float((nearest - least).sum())
    assert excess < 0.35 * total, "most of what nearest rounding loses to the best codes is won back"


def test_nearly_every_weight_is_decided_at_the_end() -> None:
    w, x = correlated(11, 200, 24, 40)
    each = problem(w, x)
    goal = each.weights.float()
    survives = torch.ones_like(w, dtype=torch.bool)[None]
    variable = RoundingVariable(goal, each.steps[..., None].float(), each.limits(goal), survives)
    assert torch.allclose(variable.weights(decided(variable.alpha.detach())), each.weights.float(), atol=0.02)
    LearnedRounding(2000, 0.01, 10.0)._learn(variable, each.weights.float(), each.inputs.gram.float())
    h = decided(variable.alpha.detach())
    assert float(((h == 0) | (h == 1)).float().mean()) > 0.99


def test_without_inputs_that_matter_learning_is_nearest_rounding() -> None:
    w, _ = correlated(12, 1, 10, 4)
    each = problem(w, torch.eye(10, dtype=torch.float64))
    assert torch.equal(LearnedRounding(500, 0.02, 10.0)(each)[0], each.nearest(each.weights))


# Values of the grid ---------------------------------------------------------------------------------------------------


def test_a_quantizer_leaves_values_of_its_grid_as_they_are() -> None:
    """k·Δ in fp32 gives the code k again, for all 16-bit codes and steps of all sizes."""
    codes = torch.arange(-(2**15) + 1, 2**15)
    generator = torch.Generator().manual_seed(0)
    for exponent in torch.empty(40).uniform_(-30, 10, generator=generator):
        step = torch.tensor(float(2**exponent), dtype=torch.float32)
        weight = codes.float() * step
        quantizer = FixedQuantizer(torch.ones_like(codes, dtype=torch.bool), step, 16, lowest=0)
        assert torch.equal(quantizer.codes(weight), codes.int())
        assert torch.equal(quantizer(weight), weight)
