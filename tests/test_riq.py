"""RIQ: steps in proportion to norms against formulas on layers of known distribution, and budgets against files."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import compression as cx
from compression import methods
from compression.asks import AverageBits, BitRange, CodedBits, EqualBits
from compression.budget import Budget
from compression.data import Batches
from compression.errors import CompressionError
from compression.forecast import Subject
from compression.graph.copies import deep_copy
from compression.methods import Setup
from compression.pack import pack
from compression.posttraining.norm_steps import NormLayer, norm_layers
from compression.quant import weight_quantizers
from compression.quant.fixed_steps import attach
from compression.quant.tables import LayerTables
from compression.training.setup import Reporter
from tests.contract.runs import setup

RIQ = methods.get("riq")
GENERATOR = np.random.default_rng(11)


def layers(weights: dict[str, np.ndarray], floor: float = 0.0, **bounds: tuple[int, int]) -> tuple[NormLayer, ...]:
    tensors = {name: torch.from_numpy(weight.astype(np.float32)) for name, weight in weights.items()}
    limits = {name: {"weight_bits": pair} for name, pair in bounds.items()}
    return norm_layers(LayerTables.prepare(tensors), tensors, limits, floor, 0)


def layer(weight: np.ndarray, floor: float = 0.0) -> NormLayer:
    return layers({"w": weight}, floor)[0]


def entropy(codes: np.ndarray) -> float:
    """Bits of all codes."""
    counts = np.unique(codes, return_counts=True)[1]
    return float(-(counts * np.log2(counts / codes.size)).sum())


def rounded(weight: np.ndarray, step: float) -> np.ndarray:
    return np.rint(weight / step)


# The step -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2.0**-9, 64.0, 0.37, 1234.5])
def test_a_scale_does_not_change_the_codes(scale: float) -> None:
    weight = GENERATOR.normal(size=20_000).astype(np.float32)
    one, other = (layer(each, 0.01).codes(300.0).numpy() for each in (weight, weight * np.float32(scale)))
    if np.log2(scale).is_integer():
        assert np.array_equal(one, other)
    else:  # products are rounded, and so may be weights halfway between two values
        assert np.mean(one != other) < 1e-3
        assert np.abs(one - other).max() <= 1
    assert len(np.unique(one)) > 10


@pytest.mark.parametrize("floor", [0.0, 0.01])
@pytest.mark.parametrize("size", [1 << 12, 1 << 14, 1 << 16, 1 << 18])
def test_bits_of_gaussian_layers_depend_on_their_size_alone(size: int, floor: float) -> None:
    k, spread = 1200.0, float(GENERATOR.uniform(0.01, 10))
    codes = layer(GENERATOR.normal(scale=spread, size=size), floor).codes(k).numpy()
    predicted = 0.5 * np.log2(2 * np.pi * np.e) - np.log2(np.sqrt(size) / k + floor * np.sqrt(24))
    assert predicted >= 3
    assert entropy(codes) / size == pytest.approx(predicted, abs=0.05)


@pytest.mark.parametrize("floor", [0.0, 0.02])
@pytest.mark.parametrize("draw", [GENERATOR.normal, GENERATOR.laplace])
def test_the_angle_is_that_of_the_formula(draw: object, floor: float) -> None:
    size, k = 30_000, 900.0
    weight = draw(scale=0.1, size=size)  # type: ignore[operator]
    it = layer(weight, floor)
    quantized = it.codes(k).numpy() * it.step(k)
    distortion = 1 - weight @ quantized / np.linalg.norm(weight) / np.linalg.norm(quantized)
    assert entropy(it.codes(k).numpy()) / size >= 3
    assert distortion == pytest.approx((np.sqrt(size / 24) / k + floor) ** 2, rel=0.05)
    assert it.distortion(k) == pytest.approx(distortion, rel=1e-4)


def test_no_other_ratio_of_two_steps_errs_less_at_equal_entropy() -> None:
    first, second = GENERATOR.normal(scale=3.0, size=20_000), GENERATOR.laplace(scale=0.02, size=60_000)
    pair = layers({"first": first, "second": second})
    steps = [each.step(700.0) for each in pair]

    def bits(one: float, other: float) -> float:
        return entropy(rounded(first, one)) + entropy(rounded(second, other))

    def error(one: float, other: float) -> float:
        return sum(
            float(np.square(w - rounded(w, step) * step).sum() / np.square(w).sum())
            for w, step in ((first, one), (second, other))
        )

    spent = bits(*steps)
    assert spent / 80_000 > 3
    errors = {}
    for ratio in np.geomspace(0.5, 2, 21):
        low, high = 0.2, 5.0
        for _ in range(30):  # the common factor at which this ratio takes the same bits
            factor = np.sqrt(low * high)
            finer = bits(steps[0] * ratio * factor, steps[1] * factor) > spent
            low, high = (factor, high) if finer else (low, factor)
        errors[float(ratio)] = error(steps[0] * ratio * high, steps[1] * high)
    assert error(*steps) <= 1.002 * min(errors.values())
    assert error(*steps) < 0.9 * errors[0.5]
    assert error(*steps) < 0.9 * errors[2.0]


def test_a_layer_of_zero_codes_is_distorted_by_one_and_a_layer_of_zeros_is_no_error() -> None:
    assert layer(GENERATOR.normal(size=1000)).distortion(0.25) == 1
    zeros = layer(np.zeros(1000)).plan(100.0)
    assert (zeros.step, zeros.bits, zeros.error) == (1.0, 2, 0.0)


def test_bounds_hold_for_the_widths() -> None:
    weights = {name: GENERATOR.laplace(size=5000) for name in ("narrow", "wide", "free", "exact")}
    for k in (5.0, 60.0, 4000.0):
        for each in layers(weights, narrow=(2, 3), wide=(6, 16), exact=(5, 5)):
            low, high = each.widths
            largest = int(each.codes(k).abs().max())
            plan = each.plan(k)
            assert low <= plan.bits <= high
            assert plan.bits == max(2, 1 + int(np.ceil(np.log2(largest + 1))))


# Budgets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0.7, 1.3, 2, 3.5, 5])
def test_the_packed_file_holds_the_coded_bits(bits: float, tmp_path: Path) -> None:
    work = setup(Budget(method="riq", coded_bits=bits, options={"smallest": 200}))
    allocation = RIQ.allocation(Subject(work.model, work.graph), work.budget)
    ledger = pack(attach(work.model, allocation), tmp_path / "weights")
    coded, most = ledger.values + ledger.positions, bits * allocation.numel / 8
    assert 0.99 * most <= coded <= most
    assert coded == sum(each.coded or 0 for each in allocation.layers)
    for each in allocation.layers:
        codes = weight_quantizers(work.model)[each.name].encode(each.name, _raw(work.model, each.name)).codes
        needed = int(codes.abs().max()).bit_length() + 1
        assert each.bits == (8 if each.numel < 200 else max(2, needed))


def _raw(model: nn.Module, name: str) -> torch.Tensor:
    return model.get_submodule(name).get_parameter("parametrizations.weight.original").detach()


def test_more_bits_than_the_floor_allows_are_not_spent_and_that_is_said() -> None:
    work = setup(Budget(method="riq", coded_bits=12))
    forecast = RIQ.forecast(Subject(work.model, work.graph), work.budget)
    assert any("floor" in note for note in forecast.notes)
    without = work.budget.replace(options={"floor": 0.0})
    finer = RIQ.forecast(Subject(work.model, work.graph), without)
    assert not any("floor" in note for note in finer.notes)
    assert finer.error is not None
    assert forecast.error is not None
    assert finer.error < forecast.error / 30


def deviation(work: Setup, dense: nn.Module, model: nn.Module) -> float:
    """1 - the mean cosine of outputs over the whole validation split."""
    cosines = []
    with torch.no_grad():
        for x, _ in Batches(work.data, "validation", 50, augment=False):
            one, other = dense.eval()(x).numpy(), model.eval()(x).numpy()
            norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            cosines.append((one * other).sum(axis=1) / norms)
    return 1 - float(np.concatenate(cosines).mean())


@pytest.mark.parametrize("statistics", [False, True])
def test_the_outputs_deviate_by_no_more_than_was_asked(statistics: bool) -> None:
    bits = []
    for most in (0.05, 0.001):
        options = {"target": "deviation", "deviation": most, "statistics": statistics}
        work = setup(Budget(method="riq", epochs=1, batch_size=32, precision="fp32", options=options))
        dense = deep_copy(work.model)
        done = RIQ.run(work, Reporter())
        reached = deviation(work, dense, done.model)
        assert reached <= most
        assert done.facts["deviation"] == pytest.approx(reached, rel=0.01, abs=1e-6)
        bits.append(done.facts["coded_bits"])
    assert bits[0] < 0.9 * bits[1]


# What is refused, and what stands for what ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"floor": -0.1}}, "floor must be a number in 0..1, not -0.1"),
        ({"options": {"target": "size"}}, "target must be one of bits, deviation, not size"),
        ({"options": {"deviation": 0}}, "deviation must be a number in"),
        ({"options": {"smallest": 1.5}}, "smallest must be a whole number"),
        ({"options": {"target": "deviation"}}, "there is no allocation before it"),
        ({"layers": {"conv9": {"weight_bits": (3, 4)}}}, "layers: no layer 'conv9' takes part; layers: conv1"),
    ],
)
def test_refusals_name_the_field(changes: dict[str, object], message: str) -> None:
    work = setup(Budget(method="riq"))
    with pytest.raises(CompressionError, match=message):
        RIQ.allocation(Subject(work.model, work.graph), work.budget.replace(**changes))


@pytest.mark.parametrize(
    "changes", [{"options": {"smallest": 10_000}}, {"layers": {"layer3.0.conv2": {"weight_bits": (8, 8)}}}]
)
def test_too_few_bits_are_refused_with_the_fewest_there_are(changes: dict[str, object]) -> None:
    work = setup(Budget(method="riq", coded_bits=0.5, **changes))  # type: ignore[arg-type]
    subject = Subject(work.model, work.graph)
    with pytest.raises(CompressionError, match=r"coded_bits: .* at least [\d.]+ coded bits") as caught:
        RIQ.allocation(subject, work.budget)
    fewest = float(re.findall(r"at least ([\d.]+)", str(caught.value))[0])
    assert fewest > 2.5
    spent = sum(each.coded or 0 for each in RIQ.allocation(subject, work.budget.replace(coded_bits=fewest)).layers)
    assert 8 * spent <= fewest * sum(math.prod(each.shape) for each in work.graph.layers)
    with pytest.raises(CompressionError, match="coded_bits"):
        RIQ.allocation(subject, work.budget.replace(coded_bits=fewest - 0.02))


@pytest.mark.parametrize("value", [0.4, 17, "4", None, True, (1, 2)])
def test_coded_bits_are_a_number_in_their_range(value: object) -> None:
    with pytest.raises(CompressionError, match="coded_bits must"):
        CodedBits().accept(value)
    with pytest.raises(CompressionError, match="coded_bits must"):
        Budget(coded_bits=value)


def test_a_deviation_out_of_reach_is_refused_with_the_way_out() -> None:
    options = {"target": "deviation", "deviation": 1e-7, "statistics": False}
    work = setup(Budget(method="riq", options=options))
    before = {name: tensor.clone() for name, tensor in work.model.state_dict().items()}
    with pytest.raises(CompressionError, match=r"finest steps of floor 0\.01 deviate by"):
        RIQ.run(work, Reporter())
    assert all(torch.equal(tensor, before[name]) for name, tensor in work.model.state_dict().items())


def test_coded_bits_stand_for_other_bits_and_they_for_coded_ones() -> None:
    assert CodedBits().value({"bits": 4}) == 4
    assert CodedBits().value({"weight_bits": (4, 8)}) == 6
    assert AverageBits().value({"coded_bits": 1.5}) == 2
    assert AverageBits().value({"coded_bits": 3.25}) == 3.25
    assert EqualBits().value({"coded_bits": 3.7}) == 3
    assert BitRange().value({"coded_bits": 2.5}) == (2, 3)
    assert BitRange().value({"coded_bits": 0.5}) == (2, 2)
    requested = methods.with_values(Budget(method="riq"), {"--bits": 1.5})
    assert requested.asks == {"coded_bits": 1.5}
    assert Budget.from_dict(requested.to_dict()) == requested
    opq, ptq = methods.get("opq"), methods.get("ptq")
    assert opq.convert(requested, RIQ).asks["bits"] == 2
    assert RIQ.convert(Budget(method="opq", bits=3.5), opq).asks == {"coded_bits": 3.5}
    assert RIQ.unused(Budget(method="riq", bits=3)) == []
    assert ptq.unused(requested) == []


def test_what_is_described_is_the_target() -> None:
    by_bits = Budget(method="riq", coded_bits=1.5)
    assert "1.5 coded bits" in RIQ.describe(by_bits)
    by_outputs = by_bits.replace(options={"target": "deviation", "deviation": 0.02})
    assert "coded bits" not in RIQ.describe(by_outputs)
    assert "0.02" in RIQ.describe(by_outputs)
    assert RIQ.forecast(Subject(*_network()), by_outputs).certainty == "unknown"


def _network() -> tuple[nn.Module, cx.Graph]:
    work = setup(Budget(method="riq"))
    return work.model, work.graph
