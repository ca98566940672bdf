"""UniQ as a method, and methods that reach fewer bits than others: what is asked, refused, converted and trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import compression as cx
from compression import methods
from compression.asks import BitsAsk
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Subject
from compression.methods.uniq.start import allocated, attach
from compression.quant import activation_quantizers, integer_weights, weight_quantizers
from compression.quant.allocation import Allocation
from compression.quant.midrise import MidriseQuantizer
from compression.quant.normal_steps import NORMAL
from compression.training.loop import make_optimizer
from compression.training.setup import Reporter
from tests.contract.runs import network, setup

UNIQ = methods.get("uniq")
OTHERS = [name for name in methods.names() if name != "uniq"]
X = torch.randn(64, 1, 12, 12, generator=torch.Generator().manual_seed(2))


def request(**fields: Any) -> Budget:
    plain: dict[str, Any] = {"epochs": 0.2, "batch_size": 32, "precision": "fp32", "seed": 3}
    return Budget(method="uniq", **plain, **fields)


# The fewest bits of a method ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERS)
def test_one_bit_is_refused_by_all_others_who_say_their_least(name: str) -> None:
    method = methods.get(name)
    ask = method.ask("--bits")
    most = ask.highest if isinstance(ask, BitsAsk) else 16
    if isinstance(ask, BitsAsk) and ask.field != "coded_bits":
        with pytest.raises(CompressionError, match=rf"{ask.field} must lie in 2\.\.{most}"):
            methods.with_values(Budget(method=name), {"--bits": 1})
        with pytest.raises(CompressionError, match=rf"{ask.field} must lie in 2\.\.{most}"):
            methods.of_budget(Budget(method=name, asks={ask.field: 1}))
        control = ask.control()
        assert control is not None and control.low == 2
    if any(each.layer_bound == "weight_bits" for each in method.asks):
        with pytest.raises(CompressionError, match=rf"layers\.conv1\.weight_bits must lie in 2\.\.{most}"):
            method.check_budget(Budget(method=name, layers={"conv1": {"weight_bits": [1, 4]}}))


@pytest.mark.parametrize("bits", [0, 0.9, 17])
def test_no_budget_has_fewer_than_one_bit(bits: float) -> None:
    for field in ("weight_bits", "activation_bits", "bits"):
        with pytest.raises(CompressionError, match=rf"{field} must lie in 1\.\.16"):
            Budget(asks={field: bits})
    with pytest.raises(CompressionError, match=r"layers\.a\.weight_bits must lie in 1\.\.16"):
        Budget(layers={"a": {"weight_bits": [bits, bits]}})


def test_uniq_takes_one_to_eight_bits() -> None:
    for option, field in (("--bits", "weight_bits"), ("--activation-bits", "activation_bits")):
        for bits in (1, 8):
            assert methods.with_values(request(), {option: bits}).asks[field] == bits
        with pytest.raises(CompressionError, match=rf"{field} must lie in 1\.\.8"):
            methods.with_values(request(), {option: 9})
        control = UNIQ.ask(option).control()  # type: ignore[union-attr]
        assert control is not None and (control.low, control.high) == (1, 8)
    with pytest.raises(CompressionError, match=r"layers\.conv1\.weight_bits must lie in 1\.\.8"):
        UNIQ.check_budget(request(layers={"conv1": {"weight_bits": [9, 9]}}))
    assert UNIQ.describe(request(weight_bits=1)).startswith("1 bit for")


@pytest.mark.parametrize("name", OTHERS)
def test_a_budget_of_one_bit_becomes_the_nearest_of_every_other_method(name: str) -> None:
    method = methods.get(name)
    layers = {"conv1": {"weight_bits": [1, 1]}}
    converted = method.convert(request(weight_bits=1, activation_bits=1, layers=layers), UNIQ)
    method.check_budget(converted)
    for ask in method.asks:
        if isinstance(ask, BitsAsk) and ask.field in ("bits", "weight_bits", "activation_bits"):
            assert ask.limits(ask.value(converted.asks)) == (2, 2)
    assert (
        methods.get("uniq").convert(Budget(method="ptq", asks={"bits": 16}), methods.get("ptq")).asks["weight_bits"]
        == 8
    )


# Where it begins ------------------------------------------------------------------------------------------------------


def test_first_steps_are_those_of_normal_weights_and_bounds_hold() -> None:
    model = network()
    weights = {name: m.weight.detach().clone() for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    budget = request(weight_bits=2, layers={"conv1": {"weight_bits": [5, 8]}})
    attach(model, budget, UNIQ.options(budget), None, ())
    quantizers = weight_quantizers(model)
    assert {name: q.bits() for name, q in quantizers.items() if q.bits() != 2} == {"conv1": 5}
    for name, weight in weights.items():
        quantizer = quantizers[name]
        assert isinstance(quantizer, MidriseQuantizer)
        assert quantizer.step() == pytest.approx(float(weight.std(correction=0)) * NORMAL[int(quantizer.bits()) - 1])


@pytest.mark.parametrize("weights", ["tensor", "channel"])
@pytest.mark.parametrize("bits", [1, 3])
def test_the_forecasts_error_is_that_of_the_first_weights(bits: int, weights: str) -> None:
    model = network()
    dense = {name: m.weight.detach().clone() for name, m in model.named_modules() if hasattr(m, "weight")}
    errors = {}
    for start in ("normal", "fitted"):
        budget = request(weight_bits=bits, options={"weights": weights, "start": start})
        options, copy = UNIQ.options(budget), network()
        allocation = allocated(model, budget, options)
        attach(copy, budget, options, None, ())
        error = sum(
            float((w.weight() - dense[name]).double().square().sum()) for name, w in integer_weights(copy).items()
        )
        assert allocation.error == pytest.approx(error, rel=1e-4)
        errors[start] = error
    assert errors["fitted"] <= errors["normal"]
    forecast = UNIQ.forecast(Subject(model, setup(budget).graph), budget)
    assert forecast.low is not None and forecast.low.rel_bops == pytest.approx(bits / 32)


def test_inputs_without_a_sign_have_all_codes_and_others_need_two_bits() -> None:
    budget = request(weight_bits=1, activation_bits=1)
    with pytest.raises(CompressionError, match=r"layer conv1 may be negative .*: set the option ends"):
        UNIQ.check(setup(budget))
    with pytest.raises(CompressionError, match=r"layers\.conv1\.activation_bits"):
        UNIQ.prepare(network(), budget, X)
    bounded = budget.replace(layers={"conv1": {"activation_bits": [2, 2]}})
    UNIQ.check(setup(bounded))
    model = UNIQ.prepare(network(), bounded, X)
    quantizers = activation_quantizers(model)
    assert {name for name, q in quantizers.items() if not q.is_unsigned} == {"conv1"}
    assert {name: q.bits() for name, q in quantizers.items()} == {
        name: 2 if name == "conv1" else 1 for name in quantizers
    }
    quantizer = quantizers["linear"]
    assert quantizer(torch.tensor([0.0, 0.1, 0.9, 5.0]) * quantizer.step()).tolist() == pytest.approx(
        [0, 0, quantizer.step(), quantizer.step()]
    )
    with pytest.raises(CompressionError, match="pass calibration"):
        UNIQ.prepare(network(), bounded)


def test_eight_bits_at_the_ends() -> None:
    budget = UNIQ.bounded(request(weight_bits=1, activation_bits=1, options={"ends": "eight"}), setup(request()).graph)
    UNIQ.check(setup(budget))
    model = attach(network(), budget, UNIQ.options(budget), X, setup(budget).graph.nonnegative_inputs)
    assert {name for name, q in weight_quantizers(model).items() if q.bits() == 8} == {"conv1", "linear"}


def test_decay_spares_binary_weights_alone() -> None:
    from compression.methods.uniq.run import binary_weights

    budget = request(weight_bits=1, layers={"conv1": {"weight_bits": [4, 4]}})
    model = attach(network(), budget, UNIQ.options(budget), None, ())
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, weight_decay=0.1, undecayed=binary_weights(model))
    decayed = {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {"conv1.parametrizations.weight.original"}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)


# A run ----------------------------------------------------------------------------------------------------------------


class Steps(Reporter):
    """Keeps phases and points."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.points: list[Any] = []

    def phase(self, name: str, step: int, epoch: float = 0.0) -> None:
        self.phases.append(name)

    def point(self, point: Any) -> None:
        self.points.append(point)


@pytest.mark.parametrize("options", [{}, {"weights": "channel", "noise": 0.7, "ema": 0.9, "oscillation": "freeze"}])
def test_a_run_at_one_bit_learns_and_trains_its_steps(options: dict[str, Any]) -> None:
    budget = request(weight_bits=1, activation_bits=2, lr=0.05, options=options).replace(epochs=3)
    torch.manual_seed(3)
    work, report = setup(budget), Steps()
    before = allocated(work.model, budget, UNIQ.options(budget))
    result = UNIQ.run(work, report)
    assert report.phases == ["allocation", "statistics", "fine-tuning"]
    losses = [point.loss for point in report.points]
    assert losses[-1] < losses[1]
    weights = integer_weights(result.model)
    assert {int(c) for weight in weights.values() for c in weight.codes.unique()} == {-1, 1}
    for layer in before.layers:
        mean = float(torch.as_tensor(weights[layer.name].step).mean())
        assert mean > 0 and mean != pytest.approx(layer.step, rel=1e-6)
    for quantizer in activation_quantizers(result.model).values():
        assert quantizer.bits() == 2
    for name, quantizer in weight_quantizers(result.model).items():
        raw = result.model.get_submodule(name).get_parameter("parametrizations.weight.original")
        assert torch.equal(quantizer(raw).detach(), weights[name].weight())


def test_one_call_compresses_to_one_bit() -> None:
    model = network()
    done = cx.compress(model, setup(request()).task, method="uniq", weight_bits=1, epochs=0.1)
    values = done.model.get_submodule("conv1").weight.detach().unique().tolist()
    assert len(values) == 2 and values[0] == -values[1]
    with pytest.raises(CompressionError, match=r"weight_bits must lie in 2\.\.16"):
        cx.compress(model, setup(request()).task, method="geta", weight_bits=1, epochs=0.1)


def test_a_stored_allocation_of_one_bit_has_the_grid_for_it() -> None:
    requested = request(weight_bits=1)
    plain = allocated(network(), requested, UNIQ.options(requested)).to_dict()
    assert Allocation.from_dict(plain).to_dict() == plain
    for layer in plain["layers"]:
        layer["scheme"] = "ternary"
    with pytest.raises(CompressionError, match=r"layers\.0\.bits must be at least 2"):
        Allocation.from_dict(plain)
