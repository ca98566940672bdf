"""Bits under a price on bit operations: gradients by finite differences, the optimum by its conditions, whole bits by
trying all of them, and runs that end mixed and at their budget."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from test_qasso import build, optimizer_of

from compression import methods
from compression.counting.cost import cost, remaining_macs
from compression.errors import CompressionError
from compression.graph import slim, trace
from compression.methods.geta.options import PAPER, GetaOptions
from compression.quant import activation_quantizers, fold, weight_quantizers
from compression.quant.bit_price import BitPrice, bit_slope
from compression.quant.quantizer import Quantizer, levels
from tests.contract.runs import budget, setup

SMALL = 1e-5
X = torch.zeros(1, 1, 12, 12)


@dataclass(frozen=True, eq=False)
class Site:
    layer: str
    kind: str
    quantizer: Quantizer
    bits: tuple[float, float]


def weights(
    macs: dict[str, float], bits: tuple[float, float] = (2, 8), mean: float = 4.0, unsigned: str = ""
) -> BitPrice:
    return BitPrice(
        [Site(name, "weight", Quantizer(1.0, unsigned=name in unsigned), bits) for name in macs], macs, mean
    )


@pytest.mark.parametrize("bits", [2.0, 3.7, 8.0])
def test_the_slope_of_bits_is_that_of_a_step_at_a_fixed_range(bits: float) -> None:
    small, top, slope = 1e-6, 0.7, -3.0
    d = torch.tensor(top / levels(bits), dtype=torch.float64)
    difference = (top / levels(bits + small) - top / levels(bits - small)) / (2 * small)
    slope_of_bits = bit_slope(torch.tensor(slope, dtype=torch.float64), d, torch.tensor(top, dtype=torch.float64))
    assert float(slope_of_bits) == pytest.approx(slope * difference, rel=1e-6)


def test_shares_are_the_derivatives_of_the_violation() -> None:
    """Weights and inputs, a layer whose input is in float, two layers with one quantizer; bit operations by hand."""
    shared = Quantizer(1.0)
    sites = [
        Site("a", "weight", Quantizer(1.0), (2, 8)),
        Site("b", "weight", shared, (2, 8)),
        Site("c", "weight", shared, (2, 8)),
        Site("a", "activation", Quantizer(1.0), (4, 6)),
        Site("b", "activation", Quantizer(1.0), (8, 8)),
    ]
    macs = {"a": 100.0, "b": 30.0, "c": 7.0, "unquantized": 1e6}
    price = BitPrice(sites, macs, 3.0)
    assert price.reference.tolist() == [3, 3, 3, 4, 8]
    assert price.budget == 100 * 3 * 4 + 30 * 3 * 8 + 7 * 3 * 32
    bits, small = torch.tensor([5.0, 4.5, 4.5, 4.2, 8.0], dtype=torch.float64), 1e-6
    assert price.violation(bits) == pytest.approx((100 * 5 * 4.2 + 30 * 4.5 * 8 + 7 * 4.5 * 32) / price.budget - 1)
    for index, same in enumerate(([0], [1, 2], [1, 2], [3], [4])):
        up, down = bits.clone(), bits.clone()
        up[same] += small
        down[same] -= small
        difference = (price.violation(up) - price.violation(down)) / (2 * small)
        assert float(price.shares(bits)[index]) == pytest.approx(difference, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_bits_settle_where_a_bit_operation_is_worth_the_same_everywhere(scale: float) -> None:
    """Losses A 4^-b: at the optimum A 4^-b ln 4 / MACs is one number, found by bisection; whatever the loss's unit."""
    macs = {"a": 4e5, "b": 1e5, "c": 2e6, "d": 1e5, "e": 3e5}
    sizes = torch.tensor(list(macs.values()), dtype=torch.float64)
    worth = scale * torch.tensor([3.0, 9.0, 1.0, 0.1, 2000.0], dtype=torch.float64)
    low, high = -60.0, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        best = ((worth / sizes).log() / math.log(4) + middle).clamp(2, 8)
        low, high = (middle, high) if float((sizes * best).sum() / sizes.sum()) < 4 else (low, middle)
    price, bits = weights(macs), torch.full((5,), 8.0, dtype=torch.float64)
    for step in range(400):
        bits = price.update(bits, -math.log(4) * worth * 4**-bits)
        if step == 0:
            assert bits.tolist() == [4] * 5, "they begin equal"
    assert (best == 8).any() and (best < 8).sum() == 4
    assert bits.tolist() == pytest.approx(best.tolist(), abs=0.03)
    assert abs(price.violation(bits)) < 0.002


@pytest.mark.parametrize("unsigned", ["", "bd", "abcd"])
def test_whole_bits_are_the_best_of_all_that_the_budget_allows(unsigned: str) -> None:
    """Equal layers: no other choice within the budget has a smaller sum of squared errors A / N(n)^2, with A such that
    the derivative at the learnt bits is one number (by finite differences)."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        price = weights(dict.fromkeys("abcd", 1000.0), (2, 6), 3.6, unsigned)
        signs = torch.tensor([0.0 if name in unsigned else 1.0 for name in "abcd"])
        bits = 2 + 4 * torch.rand(4, generator=generator, dtype=torch.float64)
        chosen = price.whole(bits)
        every = torch.tensor(list(itertools.product(range(2, 7), repeat=4)), dtype=torch.float64)
        allowed = every[every.mean(1) <= 3.6]
        ends = [(bits + sign * SMALL - signs).exp2() - 1 for sign in (-1, 1)]
        slopes = (ends[0] ** -2 - ends[1] ** -2) / (2 * SMALL)
        errors = ((2 ** (allowed - signs) - 1) ** -2 / slopes).sum(1)
        assert float(((2 ** (chosen - signs) - 1) ** -2 / slopes).sum()) == pytest.approx(float(errors.min()))
        assert float(chosen.mean()) == 3.5


def test_exchanges_come_close_to_the_best_of_unequal_layers() -> None:
    """At most 5 % above the least harm of all choices, in most cases exactly that."""
    generator, ratios = torch.Generator().manual_seed(0), []
    for _ in range(30):
        macs = {name: float(torch.randint(1, 1000, (), generator=generator)) for name in "abcdef"}
        price, sizes = weights(macs, (2, 6), 3.3), torch.tensor(list(macs.values()), dtype=torch.float64)
        bits = 2 + 4 * torch.rand(6, generator=generator, dtype=torch.float64)
        slopes = torch.tensor(
            [(levels(b - SMALL) ** -2 - levels(b + SMALL) ** -2) / (2 * SMALL) for b in bits.tolist()]
        )
        every = torch.tensor(list(itertools.product(range(2, 7), repeat=6)), dtype=torch.float64)
        every = every[(every * sizes).sum(1) <= 3.3 * float(sizes.sum())]
        harms = [(sizes / slopes * (2 ** (each - 1) - 1) ** -2).sum(-1) for each in (price.whole(bits), every)]
        ratios.append(float(harms[0] / harms[1].min()))
    assert max(ratios) < 1.05 and sum(ratio < 1 + 1e-6 for ratio in ratios) > 20


def test_whole_bits_leave_nothing_that_fits() -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        macs = {name: float(torch.randint(1, 1000, (), generator=generator)) for name in "abcdef"}
        sites = [Site(name, kind, Quantizer(1.0), (2, 8)) for name in macs for kind in ("weight", "activation")]
        price = BitPrice(sites, macs, 5.0)
        bits = 2 + 6 * torch.rand(12, generator=generator, dtype=torch.float64)
        chosen = price.whole(bits)
        assert price.bops(chosen) <= price.budget == pytest.approx(25 * sum(macs.values()))
        assert ((chosen == chosen.round()) & (chosen >= 2) & (chosen <= 8)).all()
        for index in range(12):
            more = chosen.clone()
            more[index] += 1
            assert more[index] > 8 or price.bops(more) > price.budget


def test_a_shared_quantizer_has_one_bit_width() -> None:
    shared = Quantizer(1.0)
    sites = [Site("a", "weight", shared, (2, 8)), Site("b", "weight", shared, (2, 8))]
    sites.append(Site("c", "weight", Quantizer(1.0), (2, 8)))
    price = BitPrice(sites, {"a": 10.0, "b": 20.0, "c": 5.0}, 4.0)
    bits = torch.tensor([5.0, 5.0, 3.0], dtype=torch.float64)
    chosen = price.whole(bits)
    assert chosen[0] == chosen[1] and price.bops(chosen) <= price.budget
    for _ in range(5):
        bits = price.update(bits, torch.tensor([-1.0, -1.0, -0.1], dtype=torch.float64))
        assert bits[0] == bits[1]


def ended(**changes: Any) -> tuple[Any, Any, Any]:
    """A run of a small network with a price: its task, its result, and the bits of its weights."""
    options = {"bit_rule": "priced", **changes.pop("options", {})}
    requested = budget("geta", options=options).replace(epochs=2, sparsity=0.3, **changes)
    task = setup(requested)
    chosen, requested = methods.of_budget(requested)
    result = chosen.run(task, methods.Reporter())
    return task, result, {name: q.bits() for name, q in weight_quantizers(result.model).items()}


def test_a_run_ends_mixed_and_at_its_budget() -> None:
    """Bit operations are counted on the network that is really cut, against the same one with 4 bits everywhere."""
    task, result, bits = ended(weight_bits=(3, 8), activation_bits=None, options={"mean_bits": 4.0})
    assert len(set(bits.values())) > 1 and all(3 <= b <= 8 and b == round(b) for b in bits.values())
    small = trace(slim(fold(result.model.eval()), task.graph), X)
    sizes = {layer.name: layer.macs for layer in small.layers}
    used, whole = sum(sizes[name] * bits[name] for name in sizes), 4 * sum(sizes.values())
    assert used <= whole
    assert all(bits[name] == 8 or used + sizes[name] > whole for name in sizes)
    assert sizes == pytest.approx(remaining_macs(task.graph, result.facts["removed_units"]))


@pytest.mark.parametrize("unsigned", [False, True])
def test_inputs_and_bounds_of_layers_take_part(unsigned: bool) -> None:
    """The middle of both ranges; the classifier's weights are held at 8 bits."""
    held = {"linear": {"weight_bits": (8, 8)}}
    task, result, bits = ended(weight_bits=(3, 6), activation_bits=(4, 7), layers=held, options={"unsigned": unsigned})
    inputs = {name: q.bits() for name, q in activation_quantizers(result.model).items()}
    assert bits["linear"] == 8 and all(3 <= b <= 6 for name, b in bits.items() if name != "linear")
    assert all(4 <= b <= 7 and b == round(b) for b in inputs.values())
    assert len(set(bits.values())) > 2 or len(set(inputs.values())) > 1
    macs = remaining_macs(task.graph, result.facts["removed_units"])
    most = sum(macs[name] * (8 if name == "linear" else 4.5) * 5.5 for name in macs)
    least = sum(macs[name] * bits[name] * inputs[name] for name in macs)
    assert 0.9 * most < least <= most
    counted = cost(task.graph, result.facts["removed_units"], {name: (bits[name], inputs[name]) for name in bits})
    assert counted.bops == pytest.approx(least)


def test_it_is_off_unless_it_is_chosen() -> None:
    for preset in ("tuned", "paper"):
        options = GetaOptions.read({"preset": preset}, "geta")
        assert (options.bit_rule, options.mean_bits) == ("bounds", 0.0)
    assert (PAPER["bit_rule"], PAPER["mean_bits"]) == ("bounds", 0.0)
    optimizer = optimizer_of(build())
    assert optimizer.priced is None and optimizer.bounds.upper(1.0).equal(optimizer.bounds.high)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(CompressionError, match="bit_rule must be one of bounds, priced, not 'cheap'"):
        optimizer_of(build(), bit_rule="cheap")
    for value, message in ((2.0, "range of the bits, 4 to 8: 2"), (8.5, "range of the bits, 4 to 8: 8.5")):
        options = {"bit_rule": "priced", "mean_bits": value}
        with pytest.raises(CompressionError, match=message):
            methods.get("geta").check_budget(budget("geta", options=options).replace(weight_bits=(4, 8)))
    with pytest.raises(CompressionError, match="mean_bits 4 counts with bit_rule priced only"):
        methods.get("geta").check_budget(budget("geta", options={"mean_bits": 4.0}))
    options = {"bit_rule": "priced", "gradient_scale": True}
    with pytest.raises(CompressionError, match="gradient_scale must be false with bit_rule priced"):
        methods.get("geta").check_budget(budget("geta", options=options))
    scaled = build()
    for quantizer in weight_quantizers(scaled).values():
        quantizer.gradient_scale = True
    with pytest.raises(CompressionError, match="gradient_scale must be false"):
        optimizer_of(scaled, bit_rule="priced")
    price = weights({"a": 1.0, "b": 2.0}, (3.5, 4.5), 4.0)
    price.budget /= 2
    with pytest.raises(CompressionError, match="lowest whole bits"):
        price.whole(torch.tensor([4.0, 4.0]))


def test_a_price_needs_steps_in_which_bits_can_move_and_one_budget_of_bit_operations() -> None:
    requested = budget("geta", options={"bit_rule": "priced", "order": "prune_first"}).replace(weight_bits=(4, 8))
    with pytest.raises(CompressionError, match="order prune_first leaves no step"):
        methods.get("geta").check_budget(requested)
    both = budget("geta", options={"bit_rule": "priced"}).replace(weight_bits=(4, 8), sparsity=None, bops=0.9)
    with pytest.raises(CompressionError, match="bops: with bit_rule priced"):
        methods.get("geta").check_budget(both)
