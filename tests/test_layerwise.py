"""Methods that go through a network layer by layer: their budgets, odd networks, few inputs, and one's own loop."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn

import compression as cx
from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Subject
from compression.graph import trace
from compression.methods import Compressed, Setup
from compression.posttraining.follow import output_error
from compression.posttraining.grams import collect
from compression.posttraining.planning import plan
from compression.quant import activation_quantizers, integer_weights, quantizer_of, weight_quantizers
from compression.quant.tables import LayerTables, layer_weights
from tests.contract.runs import DATA, network
from tests.test_baselines import Story

LAYERWISE = ("gptq", "spfq", "adaround")
QUICK = {"samples": 64, "statistics": False}


def compressed(
    method: str, model: nn.Module | None = None, options: Any = None, **asks: Any
) -> tuple[Compressed, Story]:
    model = network() if model is None else model
    budget = methods.get(method).complete(
        Budget(method=method, epochs=0.2, batch_size=32, precision="fp32", options=options or {}, **asks)
    )
    story = Story()
    setup = Setup(model, trace(model, torch.zeros(1, 1, 12, 12)), DATA, budget)
    return methods.get(method).run(setup, story), story


def answers(model: nn.Module) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        result: torch.Tensor = model.eval()(torch.randn(200, 1, 12, 12))
    return result


@pytest.mark.parametrize("method", LAYERWISE)
def test_outputs_change_less_than_with_nearest_rounding(method: str) -> None:
    iterations = {"iterations": 500} if method == "adaround" else {}
    done, story = compressed(method, options={**QUICK, "samples": 256, **iterations}, bits=3)
    layers = done.facts["layers"]
    assert set(layers) == set(layer_weights(network()))
    assert sum(each["error"] for each in layers.values()) < 0.7 * sum(each["nearest"] for each in layers.values())
    nearest, _ = compressed("ptq", options={"statistics": False, "clip": "max"}, bits=3)
    dense = answers(network())
    ours, theirs = ((answers(each.model) - dense).square().mean() for each in (done, nearest))
    assert ours < theirs
    assert story.phases == [("calibration", 0), ("rounding", 0)]


def test_zeros_are_as_many_as_requested_and_bits_are_within_the_bounds() -> None:
    name = list(layer_weights(network()))[1]
    layers = {name: {"weight_bits": (6, 6), "sparsity": 0.75}}
    for codebook in ("channel", "layer"):
        done, _ = compressed("gptq", options={**QUICK, "codebook": codebook}, bits=4, sparsity=0.5, layers=layers)
        weights = integer_weights(done.model)
        total = sum(each.codes.numel() for each in weights.values())
        zeros = {key: int((each.codes == 0).sum()) for key, each in weights.items()}
        planned = {each["name"]: each["pruned"] for each in done.facts["allocation"]["layers"]}
        assert sum(planned.values()) == round(0.5 * total)
        assert planned[name] == round(0.75 * weights[name].codes.numel())
        assert all(zeros[key] >= planned[key] for key in zeros)
        for key, each in weights.items():
            bits = 6 if key == name else 4
            assert each.bits == bits
            assert int(each.codes.abs().max()) <= 2 ** (bits - 1) - 1


def test_bits_are_spent_where_outputs_change_least() -> None:
    """Against every combination of bit-widths of a network of three layers."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4)).eval()
    with torch.no_grad():
        model[2].weight *= torch.rand(12, 1) * 5
    inputs = [torch.randn(64, 6)]
    names = ["0", "2", "4"]
    sums = collect(model, dict(zip(names, names, strict=True)), inputs)
    tables = LayerTables.prepare(model, (), channels=True)
    chosen = plan(tables, 0.0, 4.5, {}, "channel", "max", (model, sums))
    assert chosen.value_bits <= chosen.budget_bits == int(4.5 * tables.size)

    def error(name: str, bits: int) -> float:
        weight, gram = layer_weights(model)[name].double(), sums[name].gram
        step = (weight.abs().amax(1, keepdim=True).float() * 1.0).double() / (2 ** (bits - 1) - 1)
        return output_error((weight - (weight / step).round() * step)[None], gram) / output_error(weight[None], gram)

    errors = {(name, bits): error(name, bits) for name in names for bits in range(2, 9)}
    sizes = {table.name: table.size for table in tables.layers}
    best = min(
        sum(errors[pair] for pair in zip(names, widths, strict=True))
        for widths in itertools.product(range(2, 9), repeat=3)
        if sum(sizes[name] * bits for name, bits in zip(names, widths, strict=True)) <= chosen.budget_bits
    )
    assert sum(errors[layer.name, layer.bits] for layer in chosen.layers) == pytest.approx(best, rel=1e-4)


class Odd(nn.Module):
    """Attention whose output projection is never called, and two layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.first, self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).mT
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        tokens = self.second(torch.relu(self.first(tokens)))
        result: torch.Tensor = self.head(tokens.mean(1))
        return result


def test_layers_that_share_a_weight_or_are_never_called() -> None:
    torch.manual_seed(2)
    model = Odd().eval()
    done, _ = compressed("gptq", model, options=QUICK, bits=4, activation_bits=8)
    assert quantizer_of(model.first) is quantizer_of(model.second)
    assert set(done.facts["layers"]) == {"patches", "first", "head"}
    assert set(weight_quantizers(model)) >= {"patches", "attention.out_proj", "first", "head"}
    assert "attention.out_proj" not in activation_quantizers(model)


def test_fewer_inputs_than_asked_for_and_inputs_that_depend_on_each_other() -> None:
    every, _ = compressed("gptq", options={"samples": 1_000_000, "statistics": False}, bits=4)
    assert not any(each["notes"] for each in every.facts["layers"].values())
    assert next(iter(every.facts["layers"].values()))["rows"] == 640 * 144, "all 640 images, 12 × 12 places of each"
    done, story = compressed("gptq", options={"samples": 1, "damping": 0.0, "statistics": False}, bits=4)
    raised = [name for name, each in done.facts["layers"].items() if each["notes"]]
    assert raised and all(any(line.startswith(name) for line in story.logs) for name in raised)
    assert all(torch.isfinite(each).all() for each in done.model.state_dict().values())
    assert {each["rows"] for each in done.facts["layers"].values()} <= set(range(1, 257))


@pytest.mark.parametrize("method", LAYERWISE)
def test_a_model_and_some_inputs_are_enough(method: str) -> None:
    model, batches = network(), [torch.randn(16, 1, 12, 12) for _ in range(3)]
    budget = Budget(
        method=method, bits=4, options={"ends": "eight", **({"iterations": 20} if method == "adaround" else {})}
    )
    assert cx.apply(model, budget, calibration=batches) is model
    weights = integer_weights(model)
    bits = [each.bits for each in weights.values()]
    assert (bits[0], bits[-1], set(bits[1:-1])) == (8, 8, {4})
    for name, each in weights.items():
        assert torch.equal(model.get_submodule(name).weight, each.weight()), "what is computed is what is stored"
    with pytest.raises(CompressionError, match="learns from inputs"):
        cx.apply(network(), budget)


def test_the_forecast_says_what_it_cannot_know() -> None:
    model = network()
    subject = Subject(model, trace(model, torch.zeros(1, 1, 12, 12)))
    method = methods.get("gptq")
    sure = method.forecast(subject, Budget(method="gptq", bits=4))
    spread = method.forecast(subject, Budget(method="gptq", bits=4, options={"allocation": "output"}))
    assert (sure.certainty, spread.certainty) == ("exact", "even")
    assert sure.bytes == spread.bytes
    with pytest.raises(CompressionError, match="no layer 'nowhere'"):
        method.forecast(subject, Budget(method="gptq", layers={"nowhere": {"weight_bits": (4, 4)}}))


def test_aligned_weights_make_good_for_the_layers_before_them() -> None:
    """The last layer keeps 16 bits: with the outputs of the dense network as its goal it is its least-squares fit."""
    torch.manual_seed(3)
    dense = nn.Sequential(nn.Linear(10, 40), nn.ReLU(), nn.Linear(40, 5)).eval()
    x = torch.randn(400, 10)
    errors = {}
    for inputs in ("compressed", "dense", "aligned"):
        model = copy.deepcopy(dense)
        layers = {"2": {"weight_bits": (16, 16)}}
        budget = Budget(method="gptq", bits=2, layers=layers, options={"inputs": inputs, "damping": 1e-4})
        cx.apply(model, budget, calibration=x)
        with torch.no_grad():
            errors[inputs] = float((model(x) - dense(x)).square().mean())
    assert errors["aligned"] < 0.7 * errors["compressed"]
    assert errors["aligned"] < 0.7 * errors["dense"]
