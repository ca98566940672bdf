"""Layers of lower rank and collaborative compression, against SVD by numpy, brute force and counting by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import compression as cx
from compression import methods
from compression.budget import Budget
from compression.cli.summary import FEWER_WEIGHTS, summary
from compression.counting.cost import cost
from compression.errors import CompressionError
from compression.forecast import Subject
from compression.graph import deep_copy, factorable, factored, factored_graph, prove, trace
from compression.graph.factors import factors_of
from compression.methods.base import Setup
from compression.methods.cc.curves import WHOLE, LayerMatrix, layer_matrices
from compression.methods.cc.plan import unit_harm
from compression.methods.cc.run import carried_out, planned
from compression.posttraining.follow import output_error
from compression.posttraining.low_rank import factorize, rank_saving
from compression.posttraining.rows import weight_of
from compression.pruning.choose import UnitLimits
from compression.quant import weight_quantizers
from compression.training.setup import Reporter
from tests.contract.runs import DATA, network

CC = methods.get("cc")


def _budget(macs: float, layers: Any = None, groups: Any = None, **options: Any) -> Budget:
    asks = {"macs": macs, "weight_bits": 16}
    return Budget(method="cc", asks=asks, options=options, layers=layers or {}, groups=groups or {}, epochs=0.2)


def _setup(requested: Budget, model: nn.Module | None = None) -> Setup:
    model = model or network()
    return Setup(model, trace(model, torch.zeros(1, 1, 12, 12)), DATA, requested)


def _images(count: int = 32) -> torch.Tensor:
    return torch.randn(count, 1, 12, 12, generator=torch.Generator().manual_seed(1))


LAYERS = [
    (nn.Conv2d(4, 6, 3, padding=1), (4, 8, 8)),
    (nn.Conv2d(4, 6, (3, 1), stride=2, padding=(2, 0), dilation=2, bias=False), (4, 9, 8)),
    (nn.Conv2d(4, 6, 3, padding="same", padding_mode="circular"), (4, 8, 8)),
    (nn.Conv1d(4, 6, 5, stride=2), (4, 20)),
    (nn.Conv3d(2, 6, 2, padding=1), (2, 4, 4, 4)),
    (nn.Linear(7, 5), (3, 7)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_factors_of_full_rank_compute_what_the_layer_did(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(deep_copy(layer), nn.ReLU())
    x = torch.randn(2, *shape)
    expected, weight = model(x), model[0].get_parameter("weight").detach()
    values = weight.flatten(1).double()
    full = min(values.shape)
    first, last = factorize(values, torch.eye(values.shape[1], dtype=torch.float64), False).balanced_factors(full)
    factored(model, {"0": full})
    with torch.no_grad():
        for own, matrix in zip(factors_of(model[0]), (first, last), strict=True):
            own.get_parameter("weight").copy_(weight_of(own, matrix[None]))
    assert torch.allclose(model(x), expected, atol=1e-5)
    assert first.norm(dim=1).numpy() == pytest.approx(last.norm(dim=0).numpy())


def test_a_factored_layer_stays_the_same_object_with_its_hooks() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    layer, seen = model[0], []
    layer.register_forward_hook(lambda *_: seen.append(1))
    factored(model, {"0": 1})
    model(torch.zeros(1, 4))
    assert model[0] is layer and seen == [1] and type(layer) is nn.Sequential


class Odd(nn.Module):
    """Layers of every kind that factors cannot stand for, and two that they can."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.depthwise = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up, self.one, self.two = nn.ConvTranspose2d(8, 4, 2), nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.functional, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Answers of three classes."""
        x = self.up(self.depthwise(self.plain(x).relu()).relu()).mean((2, 3))
        return self.last(F.linear(self.two(self.one(x)), self.functional.weight).relu())


def test_what_factors_cannot_stand_for_is_left_whole() -> None:
    model = Odd().eval()
    graph = trace(model, torch.zeros(1, 4, 6, 6))
    names = factorable(model, graph)
    assert set(names) == {"plain", "functional", "last"}
    called = layer_matrices(model, graph, [torch.randn(2, 4, 6, 6)], "weights", 0, lambda: None)
    assert set(called) == {"plain", "last"}
    for name, rank in (("up", 1), ("depthwise", 1), ("plain", 0), ("last", 4), ("", 1), ("none", 1)):
        with pytest.raises(CompressionError, match=f"layer {name!r}"):
            factored(model, {name: rank})
    assert isinstance(model.plain, nn.Conv2d)


def test_the_graph_counts_the_formulas_and_keeps_the_groups() -> None:
    model = network()
    graph = trace(model, torch.zeros(1, 1, 12, 12))
    ranks = dict.fromkeys(factorable(model, graph), 2)
    after = factored_graph(factored(model, ranks), graph, ranks)
    expected = 0
    for layer in graph.layers:
        n, d = layer.shape[0], math.prod(layer.shape[1:])
        expected += layer.macs // (n * d) * 2 * (n + d) if layer.name in ranks else layer.macs
    assert after.macs == expected == cost(after).macs
    assert [(g.id, g.units) for g in after.prunable] == [(g.id, g.units) for g in graph.prunable]
    assert cost(after).rel_bops == pytest.approx(expected / graph.macs)
    assert all(group.reason for group in after.groups if group.id.endswith(".first"))


def _matrix(n: int, d: int, seed: int, kernel: int = 1, rank: int = 0) -> LayerMatrix:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n, d, generator=generator, dtype=torch.float64)
    if rank:
        weight = weight[:, :rank] @ torch.randn(rank, d, generator=generator, dtype=torch.float64)
    x = torch.randn(3 * d, d, generator=generator, dtype=torch.float64)
    x = x @ torch.randn(d, d, generator=generator, dtype=torch.float64)
    gram = x.mT @ x
    return LayerMatrix("layer", weight, gram, kernel, 5, output_error(weight[None], gram[None]))


@pytest.mark.parametrize("gram", ["eye", "inputs"])
def test_errors_of_ranks_are_the_dropped_singular_values(gram: str) -> None:
    layer = _matrix(6, 9, 0)
    if gram == "eye":
        eye = torch.eye(9, dtype=torch.float64)
        layer = LayerMatrix("layer", layer.weight, eye, 1, 5, float(layer.weight.square().sum()))
    curve = layer.curve(torch.arange(6), torch.arange(9), None)
    root = np.linalg.cholesky(layer.gram.numpy())
    sigma = np.linalg.svd(layer.weight.numpy() @ root, compute_uv=False)
    for rank, cost_, error in zip(curve.ranks, curve.costs, curve.errors, strict=True):
        assert cost_ == 5 * (rank * 15 if rank != WHOLE else 54)
        assert error == pytest.approx((sigma[rank:] ** 2).sum() / (sigma**2).sum() if rank else 0.0)
    assert curve.ranks == (1, 2, 3, WHOLE), "rank 4 costs more than the layer"


def test_whitened_factors_never_lose_more_of_the_outputs_than_plain_ones() -> None:
    for seed in range(20):
        layer = _matrix(5 + seed % 4, 7, seed)
        plain, whitened = (factorize(layer.weight, layer.gram, way) for way in (False, True))
        assert (whitened.outputs <= plain.outputs + 1e-12).all()
        assert (plain.weights <= whitened.weights + 1e-12).all()


def test_a_layer_of_rank_three_gets_rank_three() -> None:
    """A network whose middle layer is a product: the MACs of rank 3 are asked for, and nothing is lost."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.Flatten())
    with torch.no_grad():
        weight = torch.randn(12, 3) @ torch.randn(3, 108)
        model[2].weight.copy_(weight.view(12, 12, 3, 3))
    x = torch.randn(16, 3, 6, 6)
    graph = trace(model, x[:1])
    macs = {layer.name: layer.macs for layer in graph.layers}
    remaining = macs["0"] + macs["2"] * 3 * 120 / (12 * 108)
    requested = _budget(1 - remaining / graph.macs, units="none")
    best, _ = planned(model, graph, requested, CC.options(requested), [x])
    assert best.ranks == {"2": 3} and best.error == pytest.approx(0, abs=1e-10)
    expected = model(x)
    carried_out(model, graph, best)
    assert torch.allclose(model(x), expected, atol=1e-4)


@pytest.mark.parametrize("saved", [0.3, 0.5, 0.66])
def test_ranks_are_those_of_brute_force(saved: float) -> None:
    """Two linear layers, every pair of ranks."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    x = torch.randn(64, 6) @ torch.randn(6, 6)
    graph = trace(model, x[:1])
    requested = _budget(saved, units="none")
    best, _ = planned(model, graph, requested, CC.options(requested), [x])
    inputs = {"0": x, "2": model[1](model[0](x))}
    table: dict[str, list[tuple[int, int, float]]] = {}
    for name, own in inputs.items():
        weight = model[int(name)].weight.detach().double().numpy()
        sigma = np.linalg.svd(own.detach().double().numpy() @ weight.T, compute_uv=False) ** 2
        table[name] = [(rank, 12 * rank, sigma[rank:].sum() / sigma.sum()) for rank in (1, 2)] + [(0, 36, 0.0)]
    pairs = [
        (one[2] + two[2], {name: each[0] for name, each in (("0", one), ("2", two)) if each[0]})
        for one, two in itertools.product(*table.values())
        if one[1] + two[1] <= (1 - saved) * 72 + 1e-9
    ]
    error, ranks = min(pairs, key=lambda pair: pair[0])
    assert best.ranks == ranks and best.error == pytest.approx(error, rel=1e-5)


def test_the_harm_of_a_unit_is_what_its_reader_loses() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 2, bias=False), nn.ReLU(), nn.Flatten())
    x = torch.randn(8, 2, 7, 7)
    graph = trace(model, x[:1])
    harm, unread = unit_harm(graph, layer_matrices(model, graph, [x], "output", 0, lambda: None))
    assert not unread[:5].any()
    inside = model[1](model[0](x))
    whole = model[2](inside).square().sum()
    first = next(group for group in graph.prunable if group.id == "0")
    assert first is graph.prunable[0]
    for unit in range(5):
        only = torch.zeros_like(inside)
        only[:, unit] = inside[:, unit]
        assert float(harm[unit]) == pytest.approx(float((model[2](only).square().sum() / whole).detach()), rel=1e-4)


def test_units_and_ranks_share_the_saving_and_the_count_is_kept() -> None:
    x = _images()
    for units in ("joint", "none", "all"):
        for saved in (0.25, 0.6):
            requested = _budget(saved, units=units)
            work = _setup(requested)
            best, compared = planned(work.model, work.graph, requested, CC.options(requested), [x])
            assert best.error == min(plan.error for plan in compared)
            graph = carried_out(work.model, work.graph, best)
            small = cx.slim(work.model.eval(), graph, x[:2])
            counted = trace(small, x[:1]).macs
            assert counted == cost(graph, best.units).macs <= (1 - saved) * work.graph.macs
            assert (units == "none") <= (not best.units) and (units == "all") <= (not best.ranks)
            assert best.units or best.ranks


def test_jointly_is_no_worse_than_either_kind_alone() -> None:
    work, x = _setup(_budget(0.5)), _images()
    errors = {}
    for units in ("joint", "none", "all"):
        requested = _budget(0.5, units=units)
        errors[units] = planned(work.model, work.graph, requested, CC.options(requested), [x])[0].error
    assert errors["joint"] <= min(errors["none"], errors["all"]) * (1 + 1e-9)


def test_bounds_of_layers_and_groups_hold_or_are_refused_by_name() -> None:
    graph = _setup(_budget(0.5)).graph
    layer, group = graph.layers[2].name, graph.prunable[0]
    requested = _budget(0.5, {layer: {"sparsity": 0.7}, graph.layers[1].name: {"sparsity": 0.0}}, units="none")
    work = _setup(requested)
    best, _ = planned(work.model, work.graph, requested, CC.options(requested), [_images()])
    n, d = graph.layers[2].shape[0], math.prod(graph.layers[2].shape[1:])
    assert best.ranks[layer] == math.floor(0.3 * n * d / (n + d)) and graph.layers[1].name not in best.ranks
    half = _budget(0.5, groups={group.id: {"sparsity": [0.5, 0.5]}})
    best, _ = planned(work.model, work.graph, half, CC.options(half), [_images()])
    assert len(best.units[group.id]) == group.units // 2
    none = _budget(0.5, groups={each.id: {"sparsity": [0.0, 0.0]} for each in graph.prunable})
    best, _ = planned(work.model, work.graph, none, CC.options(none), [_images()])
    assert not best.units
    with pytest.raises(CompressionError, match=rf"layers\.{layer}"):
        CC.check(_setup(_budget(0.5, {layer: {"sparsity": 0.5}}, units="all")))


def _most_saved(layer: Any) -> float:
    """What rank 1 saves of a layer's MACs."""
    n, d = layer.shape[0], math.prod(layer.shape[1:])
    return 1 - (n + d) / (n * d)


def test_the_rank_of_a_saving_is_the_largest_that_leaves_so_little() -> None:
    for n, d, percent in itertools.product((1, 2, 5, 20, 64), (3, 9, 20, 576), range(0, 100, 5)):
        expected = max(rank for rank in range(n * d + 1) if 100 * rank * (n + d) <= (100 - percent) * n * d)
        assert rank_saving(n, d, percent / 100) == expected, (n, d, percent)


@pytest.mark.parametrize("units", ["joint", "none"])
def test_a_bound_that_no_rank_holds_is_refused_before_the_run_with_the_most_there_is(units: str) -> None:
    graph = _setup(_budget(0.5)).graph
    layer = graph.layers[2]
    impossible = _budget(0.1, {layer.name: {"sparsity": 0.9999}}, units=units)
    with pytest.raises(
        CompressionError, match=rf"layers\.{layer.name}\.sparsity: 0\.9999 .*rank 1 saves ([\d.]+):"
    ) as no:
        CC.check(_setup(impossible))
    most = float(str(no.value).split("rank 1 saves ")[1].split(":")[0])
    assert _most_saved(layer) - 1e-3 < most <= _most_saved(layer)
    CC.check(_setup(_budget(0.1, {layer.name: {"sparsity": most}}, units=units)))


def test_a_bound_that_no_rank_holds_after_the_units_that_must_go_is_refused() -> None:
    graph = _setup(_budget(0.5)).graph
    layer, group = graph.layers[1], graph.prunable[0]
    assert any(member.name == layer.weight for member in group.members)
    bounds = {layer.name: {"sparsity": math.floor(1000 * _most_saved(layer)) / 1000}}
    CC.check(_setup(_budget(0.1, bounds)))
    with pytest.raises(CompressionError, match=rf"layers\.{layer.name}\.sparsity"):
        CC.check(_setup(_budget(0.1, bounds, {group.id: {"sparsity": [0.5, 0.9]}})))


def _forecast(requested: Budget) -> Any:
    work = _setup(requested)
    return CC.forecast(Subject(work.model, work.graph), requested)


def test_with_units_none_a_group_that_has_to_lose_units_is_refused_everywhere() -> None:
    group = _setup(_budget(0.3)).graph.prunable[0].id
    requested = _budget(0.3, groups={group: {"sparsity": [0.5, 0.5]}}, units="none")
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for refuse in (
        lambda: CC.check(_setup(requested)),
        lambda: _forecast(requested),
        lambda: CC.run(_setup(requested), Reporter()),
        lambda: cx.apply(model, requested, calibration=_images()),
    ):
        with pytest.raises(CompressionError, match=rf"groups\.{group}\.sparsity: with units 'none'"):
            refuse()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    CC.check(_setup(_budget(0.3, groups={group: {"sparsity": [0.0, 0.5]}}, units="none")))


@pytest.mark.parametrize(
    ("macs", "layers", "units"),
    [
        (0.999, {}, "none"), (0.999, {}, "joint"), (0.999, {}, "all"),
        (0.3, {"none": {"weight_bits": [8, 8]}}, "joint"), (0.1, {2: {"sparsity": 0.9999}}, "none"),
        (0.1, {2: {"sparsity": 0.5}}, "all"),
    ],
)  # fmt: skip
def test_a_forecast_refuses_what_the_check_refuses(macs: float, layers: Any, units: str) -> None:
    names = [layer.name for layer in _setup(_budget(0.5)).graph.layers]
    bounds = {names[key] if isinstance(key, int) else key: bound for key, bound in layers.items()}
    requested = _budget(macs, bounds, units=units)
    with pytest.raises(CompressionError) as checked:
        CC.check(_setup(requested))
    with pytest.raises(CompressionError) as predicted:
        _forecast(requested)
    assert str(predicted.value) == str(checked.value)


def test_with_units_none_the_forecast_removes_none_up_to_the_most_that_ranks_save() -> None:
    with pytest.raises(CompressionError) as refusal:
        CC.check(_setup(_budget(0.999, units="none")))
    most = float(str(refusal.value).split("at most ")[1].split(" %")[0]) / 100
    forecast = _forecast(_budget(most, units="none"))
    assert forecast.certainty == "even" and not forecast.removed
    assert most - 0.002 < 1 - forecast.low.macs / forecast.dense.macs


def test_a_refusal_names_bounds_only_where_there_are_some() -> None:
    graph = _setup(_budget(0.5)).graph
    for groups, words in (({}, ""), ({graph.prunable[0].id: {"sparsity": [0.0, 0.0]}}, " and the bounds of groups")):
        with pytest.raises(CompressionError, match=rf"cannot be saved with units 'joint'{words}: at most"):
            CC.check(_setup(_budget(0.999, groups=groups)))
    with pytest.raises(CompressionError, match="with units 'joint' and the bounds of layers: at most"):
        CC.check(_setup(_budget(0.999, {graph.layers[2].name: {"sparsity": 0.0}})))
    with pytest.raises(CompressionError, match="with units 'all' no layer is split into factors"):
        CC.check(_setup(_budget(0.3, {graph.layers[2].name: {"sparsity": 0.5}}, units="all")))


def test_two_amounts_are_refused_and_unread_asks_are_noted() -> None:
    both = Budget(method="cc", asks={"macs": 0.3, "sparsity": 0.4})
    with pytest.raises(CompressionError, match="macs and sparsity each say"):
        CC.check_budget(both)
    assert CC.complete(Budget(asks={"sparsity": 0.4})).asks["macs"] == 0.4
    CC.check_budget(CC.complete(Budget(asks={"sparsity": 0.4})))
    plain = _budget(0.3)
    more = plain.replace(asks={**plain.asks, "activation_bits": 8})
    *others, last = _forecast(more).notes
    assert tuple(others) == _forecast(plain).notes and "activation_bits" in last


def test_ones_own_loop_says_what_to_set() -> None:
    with pytest.raises(CompressionError, match=r"set this option of cc to 'none'.*runs as a whole only"):
        cx.apply(network(), _budget(0.3), calibration=_images())
    with pytest.raises(CompressionError, match="counts MACs on a traced network: pass calibration"):
        cx.apply(network(), _budget(0.3, units="none", harm="weights"))

    def batches() -> Any:
        yield _images(2)
        pytest.fail("with harm=weights one batch is enough")

    model = cx.apply(network(), _budget(0.3, units="none", harm="weights"), calibration=batches())
    assert trace(model.eval(), _images(1)).macs <= 0.7 * trace(network(), _images(1)).macs


def test_a_bound_that_rank_1_holds_is_met_where_units_would_break_it() -> None:
    """Shares of the saving at which units shrink the layer too much are no plans; the others are."""
    graph = _setup(_budget(0.5)).graph
    layer = graph.layers[2]
    bound = math.floor(1000 * _most_saved(layer)) / 1000
    requested = _budget(0.5, {layer.name: {"sparsity": bound}})
    work = _setup(requested)
    CC.check(work)
    best, compared = planned(work.model, work.graph, requested, CC.options(requested), [_images()])
    assert best.ranks[layer.name] == 1 and len(compared) < 5
    after = carried_out(work.model, work.graph, best)
    assert cost(after, best.units).macs <= 0.5 * graph.macs
    first, last = factors_of(work.model.get_submodule(layer.name))
    n, d = (len(torch.as_tensor(x).nonzero()) for x in (last.weight.flatten(1).any(1), first.weight.flatten(1).any(0)))
    assert n + d <= (1 - bound) * n * d


@pytest.mark.parametrize("units", ["joint", "none", "all"])
def test_a_saving_beyond_reach_is_refused_with_the_most_there_is(units: str) -> None:
    with pytest.raises(CompressionError, match=r"macs: 99\.9 % cannot be saved.*at most ([\d.]+) %") as refusal:
        CC.check(_setup(_budget(0.999, units=units)))
    most = float(str(refusal.value).split("at most ")[1].split(" %")[0]) / 100
    requested = _budget(most - 1e-3, units=units)
    work = _setup(requested)
    CC.check(work)
    best, _ = planned(work.model, work.graph, requested, CC.options(requested), [_images()])
    graph = carried_out(work.model, work.graph, best)
    assert cost(graph, best.units).macs <= (1 - most + 1e-3) * work.graph.macs


def test_removed_units_stay_zero_under_training_and_are_cut() -> None:
    requested = _budget(0.5, units="joint", samples=64).replace(lr=0.1)
    work = _setup(requested)
    done = CC.run(work, Reporter())
    graph = done.setup(work).graph
    units = cx.graph.zeroed_units(done.model, graph)
    facts = done.facts["plan"]
    assert facts["macs"] == cost(graph, units).macs <= 0.5 * work.graph.macs
    assert set(weight_quantizers(done.model)) == {layer.name for layer in graph.layers}
    assert done.ranks and UnitLimits.from_groups(graph.prunable).units == work.graph.prunable_units


def test_nothing_is_trained_where_that_is_asked() -> None:
    requested = _budget(0.3, tuning="none", harm="weights")
    assert not CC.trains(requested)
    report = Reporter()
    report.step = lambda *_, **__: pytest.fail("a step was taken")  # type: ignore[method-assign]
    done = CC.run(_setup(requested), report)
    assert done.ranks or done.facts["plan"]["share"] == 1


def test_in_one_call_and_in_ones_own_loop(tmp_path: Path) -> None:
    x = _images()
    done = cx.compress(network(), DATA, method="cc", macs=0.5, epochs=0.1, batch_size=32, options={"samples": 64})
    ledger = done.save(tmp_path / "packed")
    assert (tmp_path / "packed").stat().st_size == ledger.total
    assert trace(done.model, x[:1]).macs <= 0.5 * trace(network(), x[:1]).macs
    model = network()
    ready = cx.apply(model, _budget(0.5, units="none"), calibration=x)
    assert ready is model
    loss = F.cross_entropy(ready.train()(x), torch.zeros(len(x), dtype=torch.long))
    loss.backward()
    assert trace(ready.eval(), x[:1]).macs <= 0.5 * trace(network(), x[:1]).macs
    with pytest.raises(CompressionError, match="calibration"):
        cx.apply(network(), _budget(0.5, units="none"))


@pytest.mark.parametrize("saved", [0.2, 0.5, 0.8])
def test_the_forecast_follows_the_slider(saved: float) -> None:
    work = _setup(_budget(saved))
    for units in ("joint", "all"):
        forecast = CC.forecast(Subject(work.model, work.graph), _budget(saved, units=units))
        assert forecast.low is not None and forecast.dense is not None
        assert 0.8 * (1 - saved) * forecast.dense.macs <= forecast.low.macs <= (1 - saved) * forecast.dense.macs


@pytest.mark.parametrize("name", ["vit_tiny", "causal_tiny", "unet_small", "detector_tiny", "mobilenet_small"])
def test_networks_of_every_kind_keep_the_count(name: str) -> None:
    torch.manual_seed(0)
    model = cx.zoo.build(name).eval()
    graph = trace(model, cx.zoo.example(name))
    requested = _budget(0.5)
    x = graph.example(4)
    best, _ = planned(model, graph, requested, CC.options(requested), [x])
    after = carried_out(model, graph, best)
    small = cx.slim(model.eval(), after, graph.example(2))
    assert trace(small, graph.example(1)).macs == cost(after, best.units).macs <= 0.5 * graph.macs


def test_of_no_saving_there_is_one_plan() -> None:
    requested = _budget(0.0)
    work = _setup(requested)
    best, compared = planned(work.model, work.graph, requested, CC.options(requested), [_images()])
    assert compared == [best] and not best.units and not best.ranks and best.error == 0


@pytest.mark.parametrize("saved", [0.2, 0.35, 0.5, 0.65])
def test_the_forecast_of_ranks_leaves_no_component_that_would_fit(saved: float) -> None:
    work = _setup(_budget(saved))
    bounded = work.graph.layers[1].name
    forecast = _forecast(_budget(saved, {bounded: {"sparsity": 0.5}}, units="none"))
    allowed = (1 - saved) * work.graph.macs
    assert forecast.low.macs <= allowed * (1 + 1e-9)
    layers = {layer.name: layer for layer in work.graph.layers}
    factorable_layers = set(factorable(work.model, work.graph))
    for each in forecast.layers:
        layer, share = layers[each.name], each.low_bytes / (each.dense_bytes / 2)  # 16 bits
        n, d = layer.shape[0], math.prod(layer.shape[1:])
        rank = round(share * n * d / (n + d))
        if each.name == bounded:
            assert rank == math.floor(0.5 * n * d / (n + d))
        elif share < 1 and each.name in factorable_layers and (rank + 1) * (n + d) < n * d:
            assert forecast.low.macs + layer.macs * (n + d) / (n * d) > allowed


def test_a_network_of_zeros_is_refused_without_a_group_to_blame() -> None:
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    with pytest.raises(CompressionError, match=r"this model cannot be cut, even with all its units, .* are zero"):
        prove(model, trace(model, torch.zeros(1, 1, 12, 12)))


def test_the_log_and_the_summary_name_ranks_and_units() -> None:
    requested = _budget(0.5, tuning="none", samples=64)
    report = Reporter()
    lines: list[str] = []
    report.log = lines.append  # type: ignore[method-assign]
    done = CC.run(_setup(requested), report)
    text = "\n".join(lines)
    assert done.ranks and all(f"{name} {rank}" in text for name, rank in done.ranks.items())
    assert all(f"{name} {units}" in text for name, units in done.facts["removed_units"].items())
    point = {
        "score": 0.5, "bytes": 10.0, "bytes_kind": "packed", "macs": 5.0, "rel_bops": 0.5, "unit_sparsity": 0.0,
        "weight_sparsity": 0.5, "bits": {},
    }  # fmt: skip
    result = {
        "run": "one", "status": "done", "seconds": 1.0, "baseline": point, "final": point, "equality": None,
        "ledger": None, "ranks": dict(done.ranks),
    }  # fmt: skip
    shown = summary(result)
    assert all(f"{name} {rank}" in shown for name, rank in done.ranks.items())
    assert FEWER_WEIGHTS in shown and "zero weights" not in shown
    assert "zero weights" in summary({**result, "ranks": {}})
