"""OPQ: closed forms against quadrature, pruning against exhaustive search, the fixed quantizer under training."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize
from torch import nn

from compression.budget import Budget
from compression.data import DataSet, Split
from compression.errors import CompressionError
from compression.graph import trace
from compression.methods.base import Reporter, Setup
from compression.methods.opq import (
    OPQ,
    Allocation,
    FixedQuantizer,
    LayerTables,
    allocate,
    allocate_from,
    attach,
    recompute_statistics,
)
from compression.points import Point
from compression.quant import laplace
from compression.quant.fixed_steps import keep_survivors
from compression.quant.integers import fold, integer_weights
from compression.quant.steps import Survivors, best_steps
from compression.quant.tables import survivors

PUBLISHED = {2: (2.0, 0.528482), 3: (1.162134, 0.166173), 4: (0.688559, 0.0547904), 6: (0.237374, 0.00595903)}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2), nn.Conv2d(4, 8, 3, groups=4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


def random_layers(seed: int, sizes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {
        f"l{i}": torch.tensor(rng.laplace(scale=rng.uniform(0.05, 1.5), size=n), dtype=torch.float32)
        for i, n in enumerate(sizes)
    }


def density(y: float) -> float:
    return float(np.exp(-y))


# Closed forms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_pruning_error_is_the_integral(share: float) -> None:
    bar = float(laplace.threshold(share))
    assert quad(density, 0, bar)[0] == pytest.approx(share, rel=1e-12)
    assert float(laplace.pruning_error(share)) == pytest.approx(
        quad(lambda y: y * y * np.exp(-y), 0, bar)[0], rel=1e-10
    )


def summed(squared: object, edges: list[float]) -> float:
    return sum(quad(squared, a, b, epsabs=1e-14)[0] for a, b in itertools.pairwise(edges))


@pytest.mark.parametrize(("step", "levels"), [(2.0, 1), (0.9, 3), (0.4, 7)])
def test_rounding_errors_are_the_integrals(step: float, levels: int) -> None:
    def saturating(y: float) -> float:
        return float((y - step * min(round(y / step), levels)) ** 2 * np.exp(-y))

    def survivor(y: float) -> float:
        return float((y - step * (min(int(y / step), levels - 1) + 0.5)) ** 2 * np.exp(-y))

    middles = [0.0, *[(k + 0.5) * step for k in range(levels + 1)], 60.0]
    wholes = [0.0, *[k * step for k in range(1, levels + 1)], 60.0]
    assert float(laplace.saturating_error(step, levels)) == pytest.approx(summed(saturating, middles), rel=1e-9)
    assert float(laplace.survivor_grid_error(step, levels)) == pytest.approx(summed(survivor, wholes), rel=1e-9)
    assert float(laplace.rounding_error(step)) == pytest.approx(float(laplace.saturating_error(step, 4000)), rel=1e-9)


@pytest.mark.parametrize(("step", "excess", "levels", "lowest"), [(0.7, 0.0, 3, 1), (0.5, 1.3, 7, 1), (0.9, 2.0, 3, 0)])
def test_plain_grid_error_is_the_integral(step: float, excess: float, levels: int, lowest: int) -> None:
    def squared(x: float) -> float:
        return float((x - step * min(max(round(x / step), lowest), levels)) ** 2 * np.exp(excess - x))

    edges = [excess, *[e for k in range(levels) if (e := (k + 0.5) * step) > excess], 60.0]
    assert float(laplace.plain_grid_error(step, excess, levels, lowest)) == pytest.approx(
        summed(squared, edges), rel=1e-9
    )
    unpruned = laplace.plain_grid_error(step, 0.0, levels, 0)
    assert float(unpruned) == pytest.approx(float(laplace.saturating_error(step, levels)), rel=1e-12)


@pytest.mark.parametrize(("levels", "lowest"), [(1, 0), (3, 1), (127, 1), (2047, 0), (32767, 1)])
def test_plain_grid_error_is_the_sum_over_its_boundaries(levels: int, lowest: int) -> None:
    rng = np.random.default_rng(levels)
    for step, excess in zip(10 ** rng.uniform(-2, 1, 20) / levels**0.5, rng.uniform(0, 6, 20), strict=True):
        k = np.arange(lowest, levels)
        x = np.maximum((k + 0.5) * step, excess)
        passed = np.exp(excess - x) * (step * step - 2 * step * (x - k * step) - 2 * step)
        first = excess - lowest * step
        expected = first * first + 2 * first + 2 + passed.sum()
        result = float(laplace.plain_grid_error(step, excess, levels, lowest))
        assert result == pytest.approx(expected, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("bits", sorted(PUBLISHED))
def test_the_universal_steps(bits: int) -> None:
    step, error = laplace.best_step(bits)
    assert step == pytest.approx(PUBLISHED[bits][0], rel=2e-5)
    assert error == pytest.approx(PUBLISHED[bits][1], rel=2e-6)
    swept = laplace.saturating_error(np.linspace(0.01, 4, 40_000), laplace.levels_of(bits))
    assert error <= swept.min() * (1 + 1e-9)


def test_entropies_are_the_sums() -> None:
    a = 0.8
    k = np.arange(1, 200)
    both = np.exp(-(k - 0.5) * a) - np.exp(-(k + 0.5) * a)
    shares = np.concatenate([[1 - np.exp(-a / 2)], both / 2, both / 2])
    assert float(laplace.entropy(a)) == pytest.approx(float(-(shares * np.log2(shares)).sum()), rel=1e-12)
    p = 0.7
    tail = (1 - p) * (np.exp(-(k - 1) * a) - np.exp(-k * a))
    shares = np.concatenate([[p], tail / 2, tail / 2])
    assert float(laplace.pruned_entropy(a, p)) == pytest.approx(float(-(shares * np.log2(shares)).sum()), rel=1e-12)


# Pruning -------------------------------------------------------------------------------------------------------------


def pruned_error(allocation: Allocation) -> float:
    return sum(layer.pruning_error for layer in allocation.layers)


def omega_of(name: str, weight: torch.Tensor) -> float:
    return {"equal": 1.0, "scale": 1 / float(weight.abs().mean()) ** 2, "energy": 1 / float((weight**2).sum())}[name]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("omega", ["equal", "scale", "energy"])
def test_empirical_pruning_is_the_exhaustive_optimum(seed: int, omega: str) -> None:
    layers = random_layers(seed, (5, 7, 4))
    if seed % 2:
        layers = {name: (w * 4).round() / 4 + 0.25 * (w == 0) for name, w in layers.items()}  # ties
        layers = {name: torch.where(w == 0, torch.tensor(0.25), w) for name, w in layers.items()}
    allocation = allocate(layers, 0.5, 4, prune_mode="empirical", omega=omega)
    weight = {name: omega_of(omega, w.double()) for name, w in layers.items()}
    lost = {
        n: weight[n] * np.concatenate([[0], np.cumsum(np.sort(w.double().numpy() ** 2))]) for n, w in layers.items()
    }
    total = round(0.5 * 16)
    best = min(
        sum(lost[n][k] for n, k in zip(layers, counts, strict=True))
        for counts in itertools.product(*(range(len(w)) for w in layers.values()))
        if sum(counts) == total
    )
    assert allocation.pruned == total == sum(layer.pruned for layer in allocation.layers)
    assert sum(weight[x.name] * x.pruning_error for x in allocation.layers) == pytest.approx(best, rel=1e-9)


def test_laplace_pruning_is_the_optimum_of_its_model() -> None:
    layers = random_layers(1, (4000, 9000, 2500))
    tables = LayerTables.prepare(layers)
    sizes = np.array([t.size for t in tables.layers], dtype=float)
    scales = np.array([t.scale for t in tables.layers])

    def error(p: np.ndarray) -> float:
        return float((sizes * scales**2 * laplace.pruning_error(p)).sum() / sizes.sum())

    solved = minimize(
        error, np.full(3, 0.6), method="SLSQP", bounds=[(1e-6, 0.98)] * 3,
        constraints={"type": "eq", "fun": lambda p: (sizes * p).sum() / sizes.sum() - 0.6},
        options={"ftol": 1e-15, "maxiter": 500},
    )  # fmt: skip
    allocation = allocate_from(tables, 0.6, 4)
    shares = np.array([layer.pruned for layer in allocation.layers]) / sizes
    assert np.abs(shares - solved.x).max() < 2e-3
    assert error(shares) <= error(solved.x) * (1 + 1e-4)
    exact = allocate_from(tables, 0.6, 4, prune_mode="empirical")
    assert pruned_error(exact) <= pruned_error(allocation) <= 1.01 * pruned_error(exact)
    assert pruned_error(allocation) <= pruned_error(allocate_from(tables, 0.6, 4, prune_mode="uniform"))


@pytest.mark.parametrize("mode", ["laplace", "empirical", "uniform"])
@pytest.mark.parametrize("sparsity", [0.0, 0.013, 0.5, 0.77, 0.985])
def test_the_count_is_exact_and_masks_have_it(mode: str, sparsity: float) -> None:
    layers = random_layers(3, (301, 64, 1, 1000))
    layers["constant"] = torch.full((10, 10), -0.3)
    layers["few"] = torch.tensor([0.5, -0.5, 0.25] * 40)
    allocation = allocate(layers, sparsity, 4, prune_mode=mode)
    assert allocation.pruned == round(sparsity * allocation.numel) == sum(layer.pruned for layer in allocation.layers)
    assert allocation.notes == ()
    for layer in allocation.layers:
        weight = layers[layer.name]
        mask = survivors(weight, layer.pruned)
        assert int((~mask).sum()) == layer.pruned < layer.numel
        if layer.pruned:
            assert float(weight[~mask].abs().max()) <= float(weight[mask].abs().min())
            assert float(weight[~mask].abs().max()) == layer.threshold


def test_ties_go_in_the_order_of_the_weights() -> None:
    assert survivors(torch.tensor([[1.0, -1.0], [1.0, 0.5]]), 2).tolist() == [[False, True], [True, False]]


def test_zeros_that_are_there_count_as_pruned() -> None:
    layers = random_layers(4, (100, 100))
    layers["empty"] = torch.zeros(50)
    requested = allocate(layers, 0.4, 4)
    assert (requested.pruned, requested.layers[2].pruned) == (100, 50)
    less = allocate(layers, 0.1, 4)
    assert less.pruned == 50
    assert "0 already" in less.notes[0]
    assert less.layers[2].error == 0


def test_bounds_of_a_layer_are_kept() -> None:
    layers = random_layers(5, (1000, 1000, 1000))
    bounds = {"l0": {"sparsity": 0.0, "weight_bits": [8, 8]}, "l1": {"sparsity": 0.9, "weight_bits": (2, 3)}}
    for mode in ("laplace", "empirical", "uniform"):
        allocation = allocate(layers, 0.5, 7, bounds, prune_mode=mode)
        assert [layer.pruned for layer in allocation.layers] == [0, 900, 600]
        assert allocation.layers[0].bits == 8
        assert allocation.layers[1].bits in (2, 3)
        assert allocation.value_bits <= allocation.budget_bits
    clamped = allocate(layers, 0.1, 7, bounds)
    assert clamped.pruned == 900
    assert clamped.notes


# Steps and bits ------------------------------------------------------------------------------------------------------


def direct_error(weight: torch.Tensor, mask: torch.Tensor, step: float, bits: int, lowest: int) -> float:
    remaining = weight.double()[mask].abs()
    levels = (remaining / step).round().clamp(lowest, 2 ** (bits - 1) - 1)
    return float(((remaining - levels * step) ** 2).sum())


@pytest.mark.parametrize("lowest", [0, 1])
@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_prefix_sums_are_the_direct_sum(bits: int, lowest: int) -> None:
    weight = random_layers(6, (3000,))["l0"]
    table = LayerTables.prepare({"l0": weight}).layers[0]
    steps = np.geomspace(0.2, 3, 7) * table.scale / 2 ** (bits - 2)
    for pruned in (0, 1700):
        mask = survivors(weight, pruned)
        expected = [direct_error(weight, mask, float(s), bits, lowest) for s in steps]
        assert Survivors(table, pruned, lowest).errors(steps, bits) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("lowest", [0, 1])
@pytest.mark.parametrize("size", [60, 3000])
def test_the_best_step_is_as_good_as_a_dense_sweep(size: int, lowest: int) -> None:
    weight = random_layers(7, (size,))["l0"]
    table = LayerTables.prepare({"l0": weight}).layers[0]
    steps, errors = best_steps(Survivors(table, size // 2, lowest), (2, 3, 4, 6, 8))
    assert np.all(np.diff(errors) <= 0)
    for bits, step, error in zip((2, 3, 4, 6, 8), steps, errors, strict=True):
        top = float(table.magnitudes[-1]) / laplace.levels_of(bits)
        swept = Survivors(table, size // 2, lowest).errors(np.geomspace(0.1 * top, 1.1 * top, 20_000), bits).min()
        assert error <= swept * (1.06 if bits == 8 else 1.001)
        assert float(np.float32(step)) == step
        assert error == pytest.approx(direct_error(weight, survivors(weight, size // 2), step, bits, lowest), rel=1e-6)


@pytest.mark.parametrize("tables", ["exact", "laplace"])
@pytest.mark.parametrize("bits", [2, 2.7, 4, 6.3, 8, 12])
def test_the_bit_budget_is_never_exceeded(bits: float, tables: str) -> None:
    allocation = allocate(random_layers(8, (500, 90, 2000, 11)), 0.6, bits, tables=tables)
    assert allocation.value_bits == sum((x.numel - x.pruned) * x.bits for x in allocation.layers)
    assert allocation.value_bits <= bits * (allocation.numel - allocation.pruned)
    assert allocation.exact == (tables == "exact")
    each = allocate(random_layers(8, (500, 90, 2000, 11)), 0.6, bits, scope="layer", tables=tables)
    assert {x.bits for x in each.layers} == {int(bits)}


def test_the_exact_bits_beat_equal_bits_and_the_model() -> None:
    layers = random_layers(9, (5000, 1200, 9000, 300))
    best = allocate(layers, 0.7, 4)
    assert best.error <= allocate(layers, 0.7, 4, tables="laplace").error
    assert best.error <= allocate(layers, 0.7, 4, scope="layer").error
    assert best.error <= 1.05 * allocate(layers, 0.7, 4, tables="laplace").error


def test_edge_layers() -> None:
    one = allocate({"one": torch.tensor([0.7])}, 0.9, 4)
    assert one.pruned == 0
    assert one.layers[0].error == pytest.approx(0, abs=1e-12)
    same = allocate({"same": torch.full((100,), 0.25)}, 0.5, 2)
    assert (same.pruned, same.layers[0].error) == (50, pytest.approx(50 * 0.25**2))
    tiny = allocate({"tiny": torch.full((100,), 1e-30)}, 0.5, 4, tables="laplace")
    assert np.isfinite(tiny.layers[0].step)
    nothing = allocate({"nothing": torch.zeros(9)}, 0.0, 4)
    assert (nothing.pruned, nothing.error, nothing.value_bits) == (9, 0.0, 0)
    skipped = allocate({"a": torch.randn(10), "b": torch.randn(30), "void": torch.zeros(0)}, 0.5, 4, skip=["a"])
    assert [layer.name for layer in skipped.layers] == ["b"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsity": 1.0}, "sparsity"),
        ({"bits": 1}, "bits"),
        ({"prune_mode": "greedy"}, "prune_mode"),
        ({"grid": "round"}, "grid must be one of plain"),
        ({"omega": "hessian"}, "omega"),
        ({"omega": {"l9": 1.0}}, "l9"),
        ({"omega": {"l0": -1.0}}, "positive"),
        ({"skip": ["l9"]}, "l9"),
        ({"skip": "l0"}, "list"),
        ({"skip": ["l0", "l1"]}, "no convolution"),
        ({"layers": {"l9": {}}}, "l9"),
        ({"layers": {"l0": {"weight_bits": [8, 8]}, "l1": {"weight_bits": [8, 8]}}}, "lowest bit-widths"),
    ],
)
def test_bad_input_is_refused_by_name(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"sparsity": 0.5, "bits": 4, **changes}
    with pytest.raises(CompressionError, match=message):
        allocate(random_layers(0, (50, 50)), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    layers = random_layers(0, (50, 50))
    layers["l1"][3] = bad
    with pytest.raises(CompressionError, match="l1"):
        allocate(layers, 0.5, 4)


def test_the_json_has_the_promised_fields() -> None:
    answer = allocate(network(), 0.5, 4).to_dict("mine", "random")
    assert {
        "model",
        "weights",
        "sparsity",
        "bits",
        "layers",
        "pruned",
        "numel",
        "value_bits",
        "budget_bits",
        "exact",
    } <= set(answer)
    assert {"name", "numel", "pruned", "threshold", "bits", "step", "error"} <= set(answer["layers"][0])
    assert (answer["model"], answer["numel"]) == ("mine", 72 + 128 + 72 + 80)


# The fixed quantizer and the method ----------------------------------------------------------------------------------


def test_the_quantizer_is_codes_times_step_and_its_gradient_is_gated() -> None:
    weight = torch.tensor([0.0, 0.04, -0.26, 0.9, -1.6, 0.3], requires_grad=True)
    mask = torch.tensor([True, True, True, True, True, False])
    quantizer = FixedQuantizer(mask, 0.1, 4)
    quantized = quantizer(weight)
    assert quantizer.codes(weight).tolist() == [0, 1, -3, 7, -7, 0]
    exact = quantizer.codes(weight).float() * torch.tensor(quantizer.step())
    assert torch.equal(quantized.view(torch.int32), exact.view(torch.int32))
    quantized.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [1, 1, 1, 0, 0, 0]
    assert (quantizer.bits(), quantizer.step()) == (4.0, float(np.float32(0.1)))
    assert FixedQuantizer(mask, 0.1, 4, lowest=0).codes(weight).tolist() == [0, 0, -3, 7, -7, 0]


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_masks_steps_and_zero_counts_survive_training(kind: str) -> None:
    model = network()
    allocation = allocate(model, 0.6, 3)
    attach(model, allocation)
    before = copy.deepcopy({n: b.clone() for n, b in model.named_buffers() if "mask" in n or "step_size" in n})
    optimizer = (
        torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)
        if kind == "sgd"
        else torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    )
    for _ in range(12):
        optimizer.zero_grad()
        model(torch.randn(8, 1, 8, 8)).square().sum().backward()
        optimizer.step()
    keep_survivors(model)
    after = dict(model.named_buffers())
    assert all(torch.equal(after[name], buffer) for name, buffer in before.items())
    zeros = 0
    for layer in allocation.layers:
        weights = model.get_submodule(layer.name).parametrizations.weight
        pruned = ~weights[0].mask
        assert bool((weights.original[pruned] == 0).all())
        moments = [v for v in optimizer.state[weights.original].values() if v.shape == pruned.shape]
        assert moments
        assert all(bool((m[pruned] == 0).all()) for m in moments)
        integer = integer_weights(model)[layer.name]
        assert int((integer.codes == 0).sum()) == layer.pruned
        assert (integer.bits, integer.step) == (layer.bits, layer.step)
        zeros += layer.pruned
    assert zeros == round(0.6 * allocation.numel)
    folded = fold(model)
    assert torch.equal(folded.get_submodule("0").weight, integer_weights(model)["0"].weight())


def test_a_survivor_at_zero_is_moved_off_it() -> None:
    model = nn.Sequential(nn.Linear(10, 10))
    attached = attach(model, allocate(model, 0.5, 4))
    with torch.no_grad():
        attached[0].parametrizations.weight.original.zero_()
    assert int((integer_weights(model)["0"].codes != 0).sum()) == 0
    assert keep_survivors(model) == 50
    assert int((integer_weights(model)["0"].codes == 1).sum()) == 50


def test_a_quantized_network_has_the_groups_of_its_float_twin() -> None:
    dense, model = network(), network()
    attach(model, allocate(model, 0.5, 4))
    x = torch.zeros(1, 1, 8, 8)
    expected = [(g.id, g.units, g.prunable, g.exact, len(g.members)) for g in trace(dense, x).groups]
    assert [(g.id, g.units, g.prunable, g.exact, len(g.members)) for g in trace(model, x).groups] == expected


def test_attach_refuses_what_does_not_fit_and_changes_nothing() -> None:
    model = network()
    allocation = allocate(model, 0.5, 4)
    other = nn.Sequential(nn.Conv2d(1, 8, 3))
    with pytest.raises(CompressionError, match="does not fit"):
        attach(other, allocation)
    assert type(other[0]) is nn.Conv2d
    attach(model, allocation)
    with pytest.raises(CompressionError, match="already carries"):
        attach(model, allocation)


def test_shared_weights_are_counted_and_quantized_once() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    allocation = allocate(model, 0.5, 4)
    assert allocation.numel == 36
    attach(model, allocation)
    assert torch.equal(model[0].weight, model[2].weight)
    assert int((model[2].weight == 0).sum()) == 18


def test_statistics_are_the_average_over_the_batches() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    batches = [torch.randn(16, 3, 4, 4) * 2 + 1 for _ in range(5)]
    assert recompute_statistics(model, batches) == 1
    mean = torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
    assert torch.allclose(model[0].running_mean, mean, atol=1e-5)
    assert (model[0].momentum, model.training, model[1].training) == (0.1, True, True)
    assert recompute_statistics(nn.Linear(2, 2), iter(batches)) == 0


class Listener(Reporter):
    """Collects what a method tells."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.points: list[Point] = []
        self.steps = self.total = 0

    def phase(self, name: str, step: int, epoch: float = 0.0) -> None:
        self.phases.append(name)

    def plan(self, total_steps: int, **facts: object) -> None:
        self.total = total_steps

    def step(self, step: int, epoch: float, **values: float) -> None:
        self.steps += 1

    def point(self, point: Point) -> None:
        self.points.append(point)

    def log(self, message: str) -> None:
        assert "\n" not in message


def shapes(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    images = torch.randint(0, 60, (count, 1, 12, 12), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        images[i, :, 4 * label : 4 * label + 4] += 120
    return Split(images, labels)


def task(**changes: object) -> Setup:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d((3, 1)), nn.Flatten(), nn.Linear(24, 3)
    )
    data = DataSet(
        "bars", "bars", ("a", "b", "c"), shapes(640, 0), shapes(90, 1), shapes(90, 2), (0.3,), (0.3,), "none"
    )
    budget = Budget(method="opq", sparsity=0.5, bits=4, epochs=3, batch_size=32, lr=0.1, precision="fp32").replace(
        **changes
    )
    return Setup(model, trace(model, torch.zeros(1, 1, 12, 12)), data, budget)


def test_a_run_keeps_its_budget_and_learns() -> None:
    work, report = task(), Listener()
    compressed = OPQ.run(work, report)  # type: ignore[arg-type]
    assert report.phases == ["allocation", "statistics", "fine-tuning"]
    assert report.steps == report.total == 60
    assert len(report.points) >= 20
    assert report.points[-1].step == 60
    assert report.points[-1].score >= 0.9
    allocation = compressed.facts["allocation"]
    codes = torch.cat([w.codes.flatten() for w in integer_weights(compressed.model).values()])
    assert int((codes == 0).sum()) == allocation["pruned"] == round(0.5 * (72 + 72))
    assert allocation["value_bits"] <= allocation["budget_bits"]


def test_unknown_options_are_refused_by_name() -> None:
    with pytest.raises(CompressionError, match="momentum"):
        OPQ.run(task(options={"momentum": 1}), Listener())  # type: ignore[arg-type]
