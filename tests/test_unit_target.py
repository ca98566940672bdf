"""How many units are removed: against brute force over prefixes, and slimmed networks that are counted themselves."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from opened import Open, errors

from compression import methods
from compression.asks import MACS_SAVED, UNITS_REMOVED, ActivationBits, BitRange, Sparsity
from compression.budget import Budget
from compression.counting.cost import cost, inputs_in_float
from compression.errors import CompressionError
from compression.forecast import Subject
from compression.graph import Graph, slim, trace, zero_units
from compression.methods.geta import QASSO
from compression.pruning.choose import UnitLimits
from compression.pruning.rise import risen
from compression.pruning.target import CostShare, UnitCount, unit_target
from compression.quant import activation_quantizers, fold, quantize
from compression.runs.bisect import find_smallest
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.preflight import check_setup
from compression.runs.sweep import combinations
from compression.zoo import build
from tests.contract.runs import setup

X = torch.zeros(1, 1, 12, 12)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return build("resnet8", input=(1, 12, 12), classes=4, seed=0).eval()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.5, 0.8])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_share_of_macs_takes_the_fewest_units_in_the_order_of_scores(
    network: torch.nn.Module, share: float, seed: int
) -> None:
    graph = trace(network, X)
    group_of = [index for index, group in enumerate(graph.prunable) for _ in range(group.units)]
    scores = torch.rand(len(group_of), generator=torch.Generator().manual_seed(seed))
    limits, removed = UnitLimits.from_groups(graph.prunable), torch.zeros(len(group_of), dtype=torch.bool)
    target = CostShare(graph, "macs", share)
    target.check(limits)
    assert target.removes(limits) is (share > 0)
    # In three of four periods: by hand one unit after the other until the MACs are low enough, save the last of a group
    for period in (1, 2, 3):
        removed[target.choose(scores, group_of, removed, limits, period / 4)] = True
        expected: list[int] = []
        counts = [0] * len(graph.prunable)
        for unit in scores.argsort().tolist():
            if cost(graph, _named(graph, counts)).macs <= (1 - share * period / 4) * graph.macs:
                break
            if counts[group_of[unit]] < graph.prunable[group_of[unit]].units - 1:
                counts[group_of[unit]] += 1
                expected.append(unit)
        assert sorted(expected) == torch.nonzero(removed).flatten().tolist()
    # In the last one the small network itself has so few, and no unit that was chosen could stay
    chosen = target.choose(scores, group_of, removed, limits, 1.0)
    removed[chosen] = True
    assert _slimmed(graph, group_of, removed) <= (1 - share) * graph.macs
    for unit in chosen:
        removed[unit] = False
        assert _slimmed(graph, group_of, removed) > (1 - share) * graph.macs
        removed[unit] = True


def _slimmed(graph: Graph, group_of: list[int], removed: torch.Tensor) -> float:
    """MACs of the network that is really cut."""
    starts = [sum(group.units for group in graph.prunable[:index]) for index in range(len(graph.prunable))]
    positions = torch.nonzero(removed).flatten().tolist()
    units = {group.id: [u - starts[i] for u in positions if group_of[u] == i] for i, group in enumerate(graph.prunable)}
    zeroed = build("resnet8", input=(1, 12, 12), classes=4, seed=0).eval()
    zero_units(zeroed, graph, units)
    return trace(slim(zeroed, graph, X), X).macs


def _named(graph: object, counts: list[int]) -> dict[str, int]:
    return {group.id: count for group, count in zip(graph.prunable, counts, strict=True)}  # type: ignore[attr-defined]


def test_bops_count_what_bits_save(network: torch.nn.Module) -> None:
    """With 8-bit weights three quarters are saved before a unit leaves; 90 % leaves 40 % of the MACs."""
    graph = trace(network, X)
    bits = {layer.name: (8, None) for layer in graph.layers}
    assert not CostShare(graph, "bops", 0.75, bits).removes(UnitLimits.from_groups(graph.prunable))
    target = CostShare(graph, "bops", 0.9, bits)
    group_of = [index for index, group in enumerate(graph.prunable) for _ in range(group.units)]
    limits, removed = UnitLimits.from_groups(graph.prunable), torch.zeros(len(group_of), dtype=torch.bool)
    scores = torch.rand(len(group_of), generator=torch.Generator().manual_seed(0))
    same = CostShare(graph, "macs", 0.6).choose(scores, group_of, removed, limits, 1.0)
    assert target.choose(scores, group_of, removed, limits, 1.0) == same


def test_limits_of_groups_hold_and_what_they_do_not_leave_is_refused(network: torch.nn.Module) -> None:
    graph = trace(network, X)
    group_of = [index for index, group in enumerate(graph.prunable) for _ in range(group.units)]
    first = graph.prunable[0]
    limits = UnitLimits.from_groups(graph.prunable, {first.id: (0.5, 0.5)})
    removed = torch.zeros(len(group_of), dtype=torch.bool)
    removed[CostShare(graph, "macs", 0.05).choose(torch.rand(len(group_of)), group_of, removed, limits, 1.0)] = True
    assert int(removed[: first.units].sum()) == first.units // 2
    one_each = {group.id: group.units - 1 for group in graph.prunable}
    most = 100 * (1 - cost(graph, one_each).macs / graph.macs)
    with pytest.raises(CompressionError, match=rf"macs: 99\.9 % cannot be saved.* at most {int(10 * most) / 10:g} %"):
        CostShare(graph, "macs", 0.999).check(UnitLimits.from_groups(graph.prunable))


def test_removal_rises_evenly_or_early() -> None:
    assert [risen("linear", done, 4) for done in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert [risen("cubic", done, 4) for done in range(5)] == pytest.approx([0, 37 / 64, 7 / 8, 63 / 64, 1])
    target = UnitCount.of_share(0.29, 100)
    assert target.units == 29
    limits = UnitLimits((0, 0), (49, 49), 100)
    removed, numbers = torch.zeros(100, dtype=torch.bool), []
    for done in range(1, 4):
        chosen = target.choose(torch.arange(100.0), [0] * 50 + [1] * 50, removed, limits, risen("linear", done, 3))
        removed[chosen] = True
        numbers.append(int(removed.sum()))
    assert numbers == [29 * done // 3 for done in (1, 2, 3)]


@pytest.mark.parametrize("method", ["geta", "sequential"])
@pytest.mark.parametrize(("field", "share"), [("macs", 0.45), ("bops", 0.95)])
def test_a_run_ends_at_the_share_or_just_below(method: str, field: str, share: float) -> None:
    """Counted on the network that the run returns; with any one of the units chosen last it would be above."""
    plain = Budget(method=method, epochs=0.6, batch_size=32, precision="fp32", weight_bits=(5, 5), **{field: share})
    chosen, requested = methods.of_budget(plain)
    assert requested.asks["sparsity"] is None
    task = setup(requested)
    chosen.check(task)
    dense = task.graph.macs * 32**2
    result = chosen.run(task, methods.Reporter())
    small = trace(slim(fold(result.model.eval()), task.graph), X)
    counted = small.macs * 32 * (32 if field == "macs" else 5)
    assert counted <= (1 - share) * dense
    units = {group: len(names) for group, names in result.facts["removed_units"].items()}
    assert sum(units.values()) == result.facts["removed"] > 0
    bits = None if field == "macs" else {layer.name: (5, None) for layer in task.graph.layers}
    fewer = [cost(task.graph, {**units, group: number - 1}, bits) for group, number in units.items()]
    assert max(each.bops for each in fewer) > (1 - share) * dense
    untouched = build("resnet8", input=(1, 12, 12), classes=4, seed=0).eval()
    forecast = chosen.forecast(Subject(untouched, task.graph), requested)
    assert forecast.low is not None
    assert (forecast.low.macs if field == "macs" else forecast.low.bops) <= (1 - share) * (
        task.graph.macs if field == "macs" else dense
    )


def test_a_whole_run_by_macs(tmp_path: Path, open_page: Open) -> None:
    """Carried out as a worker does: events, result, card, and the pages that show it."""
    requested = methods.get("geta").complete(
        Budget(method="geta", epochs=0.2, batch_size=32, weight_bits=(4, 4), macs=0.3)
    )
    spec = {"id": "by-macs", "budget": requested.to_dict(), "created": 0.0}
    folder = RunFolder.create(tmp_path / "runs", spec)
    assert carry_out(folder, execute) == "done", folder.log_path.read_text()
    result = json.loads(folder.result_path.read_text())
    assert result["final"]["macs"] <= 0.7 * result["baseline"]["macs"]
    described = methods.get("geta").describe(folder.budget())
    assert MACS_SAVED.words(0.3) in described
    assert UNITS_REMOVED.words(0.5).split("%")[1] not in described
    for page in ("runs", "compare", "export"):
        assert errors(open_page(page, run="by-macs")) == []


def test_only_one_ask_says_how_much_is_removed() -> None:
    both = Budget(method="geta", sparsity=0.5, macs=0.5)
    with pytest.raises(CompressionError, match="macs and sparsity each say how much is removed"):
        methods.of_budget(both)
    with pytest.raises(CompressionError, match="--sparsity and --macs each say"):
        methods.with_values(Budget(method="sequential"), {"--sparsity": 0.5, "--macs": 0.5})
    by_units = methods.get("geta").complete(Budget(method="geta", sparsity=0.3))
    by_macs = methods.with_values(by_units, {"--macs": 0.6})
    assert methods.of_budget(by_macs)[1].asks["sparsity"] is None
    again = methods.of_budget(methods.with_values(by_macs, {"--sparsity": 0.2}))[1]
    assert (again.asks["sparsity"], again.asks["macs"]) == (0.2, None)
    assert methods.get("opq").convert(by_macs, methods.get("geta")).asks["sparsity"] == 0.5, "its weights' default"
    with pytest.raises(CompressionError, match="no option --macs; besides those that --help lists, opq has"):
        methods.with_values(Budget(method="opq"), {"--macs": 0.5})
    plain = json.loads(json.dumps(by_macs.to_dict()))
    assert Budget.from_dict(plain) == by_macs


def test_a_file_says_in_one_way_how_much_is_removed() -> None:
    """Version 1 has a sparsity of its own, which stays out where MACs are asked for; null is no number."""
    _, by_macs = methods.of_budget(Budget.from_dict({"method": "geta", "macs": 0.4}))
    assert (by_macs.asks["sparsity"], by_macs.asks["macs"]) == (None, 0.4)
    for method in ("geta", "opq"):
        with pytest.raises(CompressionError, match=r"sparsity must be in \[0, 1\), not None"):
            Budget.from_dict({"version": 2, "method": method, "asks": {"sparsity": None}})
    assert Sparsity().value(by_macs.asks) == 0.5, "of a method that has no other way"
    assert methods.with_values(by_macs, {"--macs": 0.2}).asks["macs"] == 0.2
    assert methods.get("magnitude").put(by_macs, "--sparsity", 0.3).asks.get("macs") is None


def test_the_smallest_model_is_searched_for_over_macs() -> None:
    by_macs = Budget(method="geta", macs=0.4, weight_bits=(4, 4))
    searched = [combinations(by_macs, (), (), {"--macs": [0.3, 0.6]}), combinations(by_macs, (), (4, 8))]
    assert [[each.asks["macs"] for each in budgets] for budgets in searched] == [[0.3, 0.6], [0.4, 0.4]]
    with pytest.raises(CompressionError, match="not over BOPs"):
        find_smallest(Budget(method="geta", bops=0.95), min_score=0.9)


def test_inputs_that_no_quantizer_reaches_count_in_float() -> None:
    """The projection within an attention module is never called: its input stays in 32 bits, here as in a run."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), layer, torch.nn.Flatten(), torch.nn.Linear(64, 4)).eval()
    x = torch.randn(2, 4, 8)
    graph = trace(model, x)
    in_float = inputs_in_float(graph)
    quantized = activation_quantizers(quantize(copy.deepcopy(model), 8, [x]))
    assert in_float == {layer.name for layer in graph.layers} - quantized.keys() != set()
    ask = Budget(method="geta", weight_bits=(8, 8), activation_bits=(8, 8), bops=0.93)
    target = unit_target(graph, ask, BitRange(), ActivationBits())
    assert isinstance(target, CostShare) and target.bits is not None
    assert {name for name, (_, activation) in target.bits.items() if activation is None} == in_float


def test_bits_that_save_enough_leave_the_bounds_of_groups(network: torch.nn.Module) -> None:
    graph = trace(network, X)
    bits = {layer.name: (4, None) for layer in graph.layers}
    limits = UnitLimits.from_groups(graph.prunable, {graph.prunable[0].id: (0.5, 0.9)})
    target = CostShare(graph, "bops", 0.5, bits)
    assert target.removes(limits)
    optimizer = QASSO(
        quantize(copy.deepcopy(network)), graph, target=target, total_steps=60, lr=0.01, bits=(4, 4),
        group_bounds={graph.prunable[0].id: (0.5, 0.9)},
    )  # fmt: skip
    assert optimizer.prunes


def test_a_share_that_cannot_be_saved_is_refused_before_a_run() -> None:
    for method in ("geta", "sequential"):
        _, requested = methods.of_budget(Budget(method=method, epochs=0.6, batch_size=32, macs=0.999))
        with pytest.raises(CompressionError, match=r"macs: 99\.9 % cannot be saved: with one unit remaining"):
            check_setup(setup(requested), "resnet8")
