"""Bit inheritance: each rung of the ladder starts from what the one above it trained, and the last one is exact."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from test_trainer import DATA, TRAINED, Watching, run, setup_of, under_quantizers
from torch import nn

from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.methods.base import Reporter
from compression.quant import activation_quantizers, integer_weights, quantize, quantizer_of, weight_quantizers
from compression.quant.fixed_bits import FixedBits
from compression.quant.fixed_steps import FixedQuantizer
from compression.quant.inheritance import Inheritance, lower_bits
from compression.quant.midrise import MidriseQuantizer
from compression.quant.quantizer import Quantizer
from compression.quant.steps import Survivors, best_steps
from compression.quant.tables import LayerTables
from compression.training.average import WeightAverage

INHERITING = under_quantizers(inherit=2)


def test_who_inherits_and_who_is_refused_by_name() -> None:
    assert {"sequential", "uniq", "qap", "opq", "magnitude", "cc"} == set(INHERITING)
    for name in set(TRAINED) - set(INHERITING):
        with pytest.raises(CompressionError, match=f"{name}: inherit 2"):
            methods.get(name).check_budget(Budget(method=name, options={"inherit": 2}))
    with pytest.raises(CompressionError, match="opq: inherit does not go with rounding learned"):
        methods.get("opq").check_budget(Budget(method="opq", options={"inherit": 2, "rounding": "learned"}))


@pytest.mark.parametrize("bits", range(3, 9))
def test_the_bound_over_all_codes(bits: int) -> None:
    """Within the range that both grids have, a weight of even code stays and one of odd code moves by s_b."""
    step, top = 0.25, 2 ** (bits - 1) - 1
    quantizer = Quantizer(step * top, bits)
    codes = torch.arange(-top, top + 1)
    inside = codes.abs() <= 2 * (2 ** (bits - 2) - 1)
    for shift in (-0.4, 0.0, 0.4):
        weight = (codes + shift) * step
        before = quantizer(weight)
        lower = copy.deepcopy(quantizer)
        lower_bits(lower, bits - 1)
        moved = ((lower(weight) - before).abs() / step).detach().numpy()
        expected = np.abs(codes.numpy()) % 2
        assert np.allclose(moved[inside], expected[inside], atol=1e-4)
    assert lower.bits() == bits - 1
    assert float(lower.step()) == pytest.approx(2 * step)
    assert int(lower.codes(weight).abs().max()) == 2 ** (bits - 2) - 1, "doubling halves the positive levels: 7, 3, 1"


@pytest.mark.parametrize("unsigned", [False, True])
def test_clipping_bounds_follow_the_step(unsigned: bool) -> None:
    """N_4 = 7 and N_2 = 1 levels (15 and 3 without a sign); of channels, and in the space of an exponent."""
    many, few = (15, 3) if unsigned else (7, 1)
    one = Quantizer(3.0, 4, exponent=1.5, unsigned=unsigned)
    lower_bits(one, 2)
    assert float(one.step()) == pytest.approx(4 * 3.0**1.5 / many) and one.bits() == 2
    assert float(one.clip.detach()) ** 1.5 == pytest.approx(few * float(one.step()))
    channels = Quantizer(torch.tensor([[1.0], [2.0]]), 4, unsigned=unsigned)
    lower_bits(channels, 2)
    assert channels.steps().detach().flatten().tolist() == pytest.approx([4 / many, 8 / many])


def test_levels_without_zero_and_from_an_offset_merge_in_pairs() -> None:
    """Index k of the finer grid is index ⌈k / 2⌉ of the coarser one, for every weight; zeros stay."""
    weight = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    weight[::7] = 0
    for fine in (
        MidriseQuantizer(0.3, 4),
        FixedQuantizer(weight.abs() > 0.4, 0.125, 4, offset=0.4),
    ):
        coarse = copy.deepcopy(fine)
        lower_bits(coarse, 3)
        codes = fine.codes(weight)
        expected = (codes.abs() + 1).div(2, rounding_mode="floor").clamp(max=4 - isinstance(fine, FixedQuantizer))
        assert torch.equal(coarse.codes(weight), (expected * codes.sign()).int())
        assert float(coarse.step()) == pytest.approx(2 * float(fine.step()))


def test_the_ladder_in_equal_shares_and_in_fewer_steps_than_rungs() -> None:
    def starts(first: int, last: int, extra: int) -> tuple[dict[int, int], int]:
        layer = quantize(nn.Sequential(nn.Linear(4, 3)), 3)
        ladder = Inheritance(layer, extra, first, last, lambda: None)
        quantizer = quantizer_of(layer[0])
        assert isinstance(quantizer, Quantizer)
        return ladder.starts, int(quantizer.bits())

    assert starts(10, 40, 2) == ({10: 2, 20: 1, 30: 0}, 5)
    assert starts(0, 2, 3) == ({0: 2, 1: 0}, 5)
    assert starts(0, 1, 3) == ({0: 0}, 3)
    high = quantize(nn.Sequential(nn.Linear(4, 3)), 15)
    ladder = Inheritance(high, 3, 0, 8, lambda: None)
    widths = []
    for step in range(8):
        ladder.before_step(step)
        widths.append(int(quantizer_of(high[0]).bits()))  # type: ignore[union-attr]
    assert widths == [16, 16, 16, 16, 16, 16, 15, 15], "16 at most"


def test_a_grid_that_cannot_be_made_finer_is_refused() -> None:
    with pytest.raises(CompressionError, match="inherit: no weight has a quantizer"):
        Inheritance(nn.Linear(2, 2), 1, 0, 4, lambda: None)


def test_the_range_of_the_first_rung_has_the_least_squared_error() -> None:
    torch.manual_seed(0)
    model = quantize(nn.Sequential(nn.Linear(40, 30, bias=False)), 2)
    weight = model[0].get_parameter("parametrizations.weight.original").detach()
    bits = FixedBits(model, {"0": 2}, None)
    ladder = Inheritance(model, 2, 0, 9, bits.read_bits)
    tables = LayerTables.prepare({"0": weight})
    step = float(best_steps(Survivors(tables.layers[0], 0, lowest=0), (4,))[0][0])
    assert integer_weights(model)["0"].step == pytest.approx(step)

    def error(size: float) -> float:
        return float((weight - (weight / size).round().clamp(-7, 7) * size).square().sum())

    assert error(step) <= min(error(step * factor) for factor in np.linspace(0.6, 1.5, 91)) * (1 + 1e-6)
    ladder.before_step(6)
    bits.step(0.0)
    assert integer_weights(model)["0"].step == pytest.approx(4 * step) and quantizer_of(model[0]).bits() == 2  # type: ignore[union-attr]


class Ladder(Reporter):
    """Bits and steps of every quantizer after each step, and the widths of the weights' codes."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.bits, self.inputs, self.steps = model, [], [], []  # type: ignore[var-annotated]

    def step(self, step: int, epoch: float, **values: float) -> None:
        own = weight_quantizers(self.model)
        if own:
            self.bits.append({name: quantizer.bits() for name, quantizer in own.items()})
            self.inputs.append({name: q.bits() for name, q in activation_quantizers(self.model).items()})
            self.steps.append({name: torch.as_tensor(q.step()).clone() for name, q in own.items()})  # type: ignore[attr-defined]


def traced(method: str, **changes: Any) -> tuple[Ladder, nn.Module]:
    rounds = {"pruning": 0.2, "rounds": 2} if method == "qap" else {}  # which fit ranges anew, on the first rung only
    work = setup_of(method, DATA, inherit=2, **rounds)
    asks = methods.get(method).asks
    chosen: dict[str, Any] = {"weight_bits": (3, 3)}
    if any(ask.field == "activation_bits" for ask in asks):
        chosen["activation_bits"] = (4, 4)
    work.budget = work.budget.replace(**chosen, **changes)
    ladder = Ladder(work.model)
    return ladder, run(work, ladder).model


@pytest.mark.parametrize("method", INHERITING)
def test_every_layer_descends_to_exactly_its_bits_and_steps_double(method: str) -> None:
    """With rates of almost nothing training leaves the steps alone: they double at each rung, and nowhere else."""
    changes: dict[str, Any] = {"lr": 1e-9, "sparsity": 0.0}
    if any(ask.field == "lr_quant" for ask in methods.get(method).asks):
        changes["lr_quant"] = 1e-9
    ladder, model = traced(method, **changes)
    count = len(ladder.bits)
    rungs = [2 - sum(step >= rung * count // 3 for rung in (1, 2)) for step in range(count)]
    final = {name: quantizer.bits() for name, quantizer in weight_quantizers(model).items()}
    assert final == ladder.bits[-1] and all(bits.is_integer() for bits in final.values())
    for bits, inputs, extra in zip(ladder.bits, ladder.inputs, rungs, strict=True):
        assert bits == {name: width + extra for name, width in final.items()}
        assert set(inputs.values()) <= {4 + extra}
    compared = 0
    for (before, after), (above, below) in zip(
        zip(ladder.steps, ladder.steps[1:], strict=False), itertools.pairwise(rungs), strict=True
    ):
        for name in before:
            assert torch.allclose(after[name], before[name] * 2 ** (above - below), rtol=1e-3), name
            compared += above > below
    assert compared == 2 * len(final)
    levels = {name: int(known.codes.abs().max()) for name, known in integer_weights(model).items()}
    assert all(levels[name] <= 2 ** (final[name] - 1) for name in levels)


@pytest.mark.parametrize("method", ["opq", "magnitude"])
def test_fixed_steps_end_at_those_of_the_allocation(method: str) -> None:
    work = setup_of(method, DATA, inherit=3)
    done = run(work)
    steps = {layer["name"]: layer["step"] for layer in done.facts["allocation"]["layers"]}
    assert {name: known.step for name, known in integer_weights(done.model).items()} == pytest.approx(steps)
    zeros = sum(int((known.codes == 0).sum()) for known in integer_weights(done.model).values())
    assert zeros == done.facts["allocation"]["pruned"]


def test_the_average_begins_anew_where_bits_change(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    update = WeightAverage.update

    def watched(self: WeightAverage) -> None:
        update(self)
        counts.append(self.steps)

    monkeypatch.setattr(WeightAverage, "update", watched)
    work = setup_of("qap", DATA, inherit=2, ema=0.6)
    done = run(work)
    assert counts == [1, 2, 3, 4, 5] * 3
    assert {quantizer.bits() for quantizer in weight_quantizers(done.model).values()} == {3.0}


def test_ranges_refitted_by_rounds_of_pruning_are_those_of_the_present_bits() -> None:
    """The last round comes on the first rung, when layers still have two bits more than in the end."""
    ladder, model = traced("qap", lr=1e-9, lr_quant=1e-9, sparsity=0.0)
    tables = LayerTables.prepare(
        {n: model.get_submodule(n).get_parameter("parametrizations.weight.original").detach() for n in ladder.bits[0]}
    )
    for table in tables.layers:
        step = float(best_steps(Survivors(table, 0, lowest=0), (5,))[0][0])
        assert float(ladder.steps[4][table.name]) == pytest.approx(step, rel=1e-3)


@pytest.mark.parametrize("warmup", [0.0, 0.4])
def test_the_rate_has_a_whole_schedule_at_each_width(warmup: float) -> None:
    """Three rungs of 5 steps, each with the cosine (after a warm-up of 2 steps) in closed form."""
    work = setup_of("opq", DATA, inherit=2, lr_warmup=warmup)
    watching = Watching(work)
    run(work, watching)

    def rate(p: float) -> float:
        if p < warmup:
            return p / warmup
        return 0.5 * (1 + math.cos(math.pi * (p - warmup) / (1 - warmup)))

    expected = [0.02 * rate((step % 5) / 5) for step in range(15)]
    assert watching.rates == pytest.approx(expected)
