"""Prices that are renewed while units are chosen, and removal by equal damage: against recounting from scratch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_qasso import TOTAL, build, gradients, optimizer_of

from compression import methods
from compression.counting.cost import cost
from compression.errors import CompressionError
from compression.graph import Graph, trace
from compression.methods.geta.options import PAPER, GetaOptions
from compression.pruning import target as targets
from compression.pruning.choose import UnitLimits, choose_units, scores_when_chosen
from compression.pruning.rise import RISES, equal_damage
from compression.pruning.target import CostShare
from compression.pruning.unit_cost import UnitPrices
from compression.zoo import build as network
from tests.contract.runs import budget, setup

NETWORKS: dict[str, Callable[[], Graph]] = {
    "resnet8": lambda: trace(
        network("resnet8", input=(1, 12, 12), classes=4, seed=0).eval(), torch.zeros(1, 1, 12, 12)
    ),
    "vit_tiny": lambda: trace(network("vit_tiny", input=(3, 16, 16), classes=4, seed=0), torch.zeros(1, 3, 16, 16)),
}


def groups_of(graph: Graph) -> list[int]:
    return [index for index, group in enumerate(graph.prunable) for _ in range(group.units)]


def counted(graph: Graph, counts: list[int], kind: str) -> float:
    whole = cost(graph, {group.id: count for group, count in zip(graph.prunable, counts, strict=True)})
    return whole.macs if kind == "macs" else float(whole.params)


def by_hand(
    graph: Graph,
    saliency: torch.Tensor,
    removed: list[int],
    highest: tuple[int, ...],
    number: int,
    kind: str,
    power: float,
) -> tuple[list[int], list[float]]:
    """Every pick over all candidates, each priced by counting the whole network with and without it."""
    group_of, taken = groups_of(graph), list(removed)
    counts = [sum(group_of[unit] == index for unit in taken) for index in range(len(graph.prunable))]
    dense, scores = counted(graph, [0] * len(counts), kind), []
    for _ in range(number):
        before, best = counted(graph, counts, kind), (float("inf"), -1)
        for index in range(len(counts)):
            if counts[index] >= highest[index]:
                continue
            after = counted(graph, [count + (place == index) for place, count in enumerate(counts)], kind)
            price = (max(before - after, 1.0) / dense) ** power
            candidates = [unit for unit, group in enumerate(group_of) if group == index and unit not in taken]
            best = min(best, min((float(saliency[unit]) / price, unit) for unit in candidates))
        taken.append(best[1])
        counts[group_of[best[1]]] += 1
        scores.append(best[0])
    return taken[len(removed) :], scores


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("kind", "power", "sign"), [("macs", 1.0, 1.0), ("parameters", 0.5, 1.0), ("macs", 2.0, -1.0)])
def test_renewed_prices_choose_what_recounting_chooses(name: str, kind: str, power: float, sign: float) -> None:
    graph = NETWORKS[name]()
    group_of, generator = groups_of(graph), torch.Generator().manual_seed(1)
    saliency = sign * torch.rand(len(group_of), generator=generator, dtype=torch.float64)
    number = 60 if name == "resnet8" else 12
    removed = torch.zeros(len(group_of), dtype=torch.bool)
    removed[[0, 3, len(group_of) - 1]] = True
    counts = [
        sum(group_of[unit] == index for unit in (0, 3, len(group_of) - 1)) for index in range(len(graph.prunable))
    ]
    limits = UnitLimits.from_groups(graph.prunable, {graph.prunable[-1].id: (0.0, 0.4)})
    prices = UnitPrices(graph, counts, kind, power)
    before = prices.costs.copy()
    scores = saliency / torch.from_numpy(prices.values)[group_of]
    place = group_of, removed, limits, sum(limits.highest), number
    chosen = choose_units(scores, *place, prices)
    expected, values = by_hand(graph, saliency, [0, 3, len(group_of) - 1], limits.highest, number, kind, power)
    assert chosen == expected
    assert (prices.costs == before).all(), "the caller's prices are those at the start"
    if name == "resnet8":
        assert chosen != choose_units(scores, *place), "they would be others at the prices of the start"
    shown = scores_when_chosen(scores, chosen, group_of, prices)
    assert shown[chosen].tolist() == pytest.approx(values)
    for unit in chosen:
        prices.remove(group_of[unit])
        counts[group_of[unit]] += 1
    assert prices.costs == pytest.approx(UnitPrices(graph, counts, kind).costs)
    remaining = [unit for unit in range(len(group_of)) if unit not in chosen]
    assert shown[remaining].tolist() == pytest.approx(
        (saliency / torch.from_numpy(prices.values)[group_of])[remaining].tolist()
    )


def test_a_share_of_macs_with_renewed_prices_takes_the_shortest_prefix() -> None:
    graph = NETWORKS["resnet8"]()
    group_of = groups_of(graph)
    saliency = torch.rand(len(group_of), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    limits, removed = UnitLimits.from_groups(graph.prunable), torch.zeros(len(group_of), dtype=torch.bool)
    prices = UnitPrices(graph, [0] * len(graph.prunable), "macs", 1.0)
    scores = saliency / torch.from_numpy(prices.values)[group_of]
    chosen = CostShare(graph, "macs", 0.4).choose(scores, group_of, removed, limits, 0.5, prices)
    expected, _ = by_hand(graph, saliency, [], limits.highest, len(chosen), "macs", 1.0)
    assert chosen == expected
    sums = [[sum(group_of[u] == i for u in part) for i in range(len(graph.prunable))] for part in (chosen, chosen[:-1])]
    assert counted(graph, sums[0], "macs") <= 0.8 * graph.macs < counted(graph, sums[1], "macs")


def test_without_a_cost_prices_are_one_and_stay_so() -> None:
    graph = NETWORKS["resnet8"]()
    prices = UnitPrices(graph, [0] * len(graph.prunable), "none", 0.5)
    prices.remove(0)
    assert (prices.values == 1).all()
    scores = torch.rand(len(groups_of(graph)))
    limits, removed = UnitLimits.from_groups(graph.prunable), torch.zeros(len(scores), dtype=torch.bool)
    place = scores, groups_of(graph), removed, limits, 40, 40
    assert choose_units(*place, prices) == choose_units(*place)


@pytest.mark.parametrize("method", ["geta", "sequential"])
def test_a_run_renews_prices_if_it_is_to(method: str) -> None:
    """Half of the units at once, priced steeply: other units are removed, and as many."""
    removed = {}
    for renew in (False, True):
        options = {"renew_prices": renew, "cost": "macs", "cost_power": 2.0, "saliency_batches": 1}
        options |= {"rounds": 1} if method == "sequential" else {}
        requested = budget(method, options=options).replace(epochs=0.6, sparsity=0.5)
        if method == "geta":
            schedule = {**requested.to_dict()["asks"]["schedule"], "pruning_periods": 1}
            requested = requested.replace(schedule=schedule)
        facts = methods.get(method).run(setup(requested), methods.Reporter()).facts
        removed[renew] = facts["removed"], facts["removed_units"]
    assert removed[False][0] == removed[True][0] > 40
    assert removed[False][1] != removed[True][1]


def test_both_are_off_unless_they_are_chosen() -> None:
    for preset in ("tuned", "paper"):
        options = GetaOptions.read({"preset": preset}, "geta")
        assert (options.renew_prices, options.rise) == (False, "linear")
    assert (PAPER["renew_prices"], PAPER["rise"]) == (False, "linear")
    with pytest.raises(CompressionError, match="rise must be one of linear, cubic, damage"):
        GetaOptions.read({"rise": "square"}, "geta")
    with pytest.raises(CompressionError, match="renew_prices must be one of true, false"):
        GetaOptions.read({"renew_prices": "yes"}, "geta")


def test_a_part_of_the_damage_is_the_shortest_prefix_that_does_it() -> None:
    damage = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1)).tolist()
    for periods in (2, 3, 7):
        total, prefix = float(damage.sum()), []
        for unit in order:
            prefix.append(unit)
            if sum(float(damage[each]) for each in prefix) >= total / periods:
                break
        assert equal_damage(order, damage, periods) == prefix
    assert equal_damage(order, damage, 1) == order
    assert equal_damage(order, torch.zeros(40), 3) == order[:14]
    assert equal_damage([], damage, 3) == equal_damage([], damage, 1) == []
    negative = torch.tensor([-5.0, -1.0, 2.0, 2.0])
    assert equal_damage([0, 1, 2, 3], negative, 2) == [0, 1, 2]


def test_removal_by_damage_ends_at_exactly_k() -> None:
    """Scores that stay what they are: the first of two periods takes as many of the 9 as half of their sum needs."""
    scores = torch.rand(18, generator=torch.Generator().manual_seed(0)) ** 2
    numbers: dict[str, list[int]] = {}
    for rise in RISES:
        model = build()
        optimizer = optimizer_of(model, rise=rise)
        optimizer.scorer = lambda: scores
        numbers[rise] = [0]
        for index in range(TOTAL):
            gradients(model, index)
            optimizer.step()
            numbers[rise].append(int(optimizer.removed.sum()))
    steps = {rise: [number for number, _ in itertools.groupby(each)] for rise, each in numbers.items()}
    order = choose_units(scores, optimizer.units.group_of, torch.zeros(18, dtype=torch.bool), optimizer.limits, 9, 9)
    sums = [float(scores[order[:number]].sum()) for number in range(10)]
    half = next(number for number in range(10) if sums[number] >= sums[9] / 2)
    assert steps == {"linear": [0, 4, 9], "cubic": [0, 7, 9], "damage": [0, half, 9]}
    assert half not in (4, 7)


def test_the_dense_network_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, dense = NETWORKS["resnet8"](), []

    def noted(graph: Graph, removed: Any = None, *rest: Any) -> Any:
        dense.append(not removed)
        return cost(graph, removed, *rest)

    monkeypatch.setattr(targets, "cost", noted)
    target = CostShare(graph, "macs", 0.3)
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        target.reached([1] * len(graph.prunable), share)
    assert dense.count(True) == 2 and dense.count(False) == 5
