"""The options that all trained methods share: each does what it says on each method, seen from outside the trainer."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compression import methods
from compression.budget import Budget
from compression.data import Batches
from compression.errors import CompressionError
from compression.graph import trace, zeroed_units
from compression.methods.base import Compressed, Reporter, Setup
from compression.methods.geta.schedule import Schedule
from compression.pruning.unit_options import UnitOptions
from compression.quant import integer_weights, quantize, quantizer_of, weight_quantizers
from compression.quant.fixed_steps import FixedQuantizer
from compression.quant.noise import QuantizationNoise
from compression.quant.op import fake_quantize
from compression.training.average import WeightAverage
from compression.training.options import QuantizationOptions, TrainingOptions
from compression.zoo import build
from tests.stripes import striped

TRAINED = [name for name, method in methods.all_methods().items() if method.info.trains]


def under_quantizers(**options: Any) -> list[str]:
    """The trained methods that train with their quantizers attached, which these options are about."""
    names = []
    for name in TRAINED:
        with contextlib.suppress(CompressionError):
            methods.get(name).check_budget(Budget(method=name, options=options))
            names.append(name)
    assert {"opq", "sequential", "magnitude"} <= set(names)
    return names


SCHEDULE = Schedule(warmup=0.1, projection=0.2, projection_periods=2, joint=0.4, pruning_periods=2)
DATA = striped("shift")
WHOLE = {"bsq": 8}
"""Method → after how many of the 15 steps its weights are values of their grid."""
LAST_STAGE = {"bsq": 6, "sbs": 7}
"""Method → the steps of its last stage, whose weights are averaged, where the quantizers are there before it."""
OFF: dict[str, Any] = {"distill": 0.0, "lr_warmup": 0.0, "recalibrate": 0}


def setup_of(method: str, data: Any = DATA, **options: Any) -> Setup:
    """An untrained resnet8 for small images and a run of 15 steps, whose shared options are off unless named."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build("resnet8", input=(1, 12, 12), classes=4, seed=0)
    budget = Budget(
        method=method, epochs=0.75, batch_size=32, precision="fp32", sparsity=0.4, schedule=SCHEDULE,
        weight_bits=(3, 4), bits=3, lr=0.02, options={**OFF, **options},
    )  # fmt: skip
    return Setup(model, trace(model, torch.zeros(1, 1, 12, 12)), data, budget)


class Watching(Reporter):
    """Sees the model before and after every step, and keeps the rates."""

    def __init__(self, work: Setup) -> None:
        self.model, self.rates = work.model, []  # type: ignore[var-annotated]
        self.before: dict[str, torch.Tensor] = {}
        self.states: list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]] = []

    def check(self) -> None:
        self.before = copy.deepcopy(self.model.state_dict())

    def step(self, step: int, epoch: float, **values: float) -> None:
        self.rates.append(values["lr"])
        self.states.append((self.before, copy.deepcopy(self.model.state_dict())))


def run(work: Setup, report: Reporter | None = None) -> Compressed:
    return methods.get(work.budget.method).run(work, report or Reporter())


def test_every_trained_method_offers_the_same_options_and_saliency_as_a_whole() -> None:
    assert {"geta", "opq", "sequential", "magnitude"} <= set(TRAINED)
    shared = set(TrainingOptions.model_fields) - set(QuantizationOptions.model_fields)
    for name, method in methods.all_methods().items():
        offered = {option.name for option in method.Config.table()}
        assert set(QuantizationOptions.model_fields) <= offered
        assert (shared <= offered) if name in TRAINED else not (shared & offered)
        chosen = set(UnitOptions.model_fields) & offered
        assert chosen in (set(), set(UnitOptions.model_fields)), "all of them, or a score of its own"
        assert method.removes_units or not chosen
        assert chosen or name not in ("geta", "sequential")


@pytest.mark.parametrize("method", TRAINED)
def test_distilled_networks_answer_like_the_dense_one(method: str) -> None:
    """With all of the loss from the teacher labels have no say, and answers come closer to the teacher's."""
    labels = DATA.train.labels[torch.randperm(len(DATA.train.labels), generator=torch.Generator().manual_seed(3))]
    other = dataclasses.replace(DATA, train=dataclasses.replace(DATA.train, labels=labels))

    def trained(data: Any, distill: float) -> tuple[dict[str, torch.Tensor], float]:
        work = setup_of(method, data, distill=distill, temperature=2.0)
        work.model.linear.weight.data *= 10  # so that the teacher has opinions
        teacher, images = copy.deepcopy(work.model).eval(), Batches(DATA, "train", 200, augment=False).batch(0, 0)[0]
        model = run(work).model.eval()
        with torch.no_grad():
            p, q = (F.log_softmax(each(images), 1) for each in (teacher, model))
        return model.state_dict(), float((p.exp() * (p - q)).sum(1).mean())

    (first, near), (second, same), (third, far), (fourth, _) = (
        trained(data, distill) for distill in (1.0, 0.0) for data in (DATA, other)
    )
    assert all(torch.equal(first[key], second[key]) for key in first), "labels do not count"
    assert not all(torch.equal(third[key], fourth[key]) for key in third), "labels count"
    assert near == same < 0.5 * far


@pytest.mark.parametrize("method", under_quantizers(noise=0.5))
def test_the_share_of_weights_that_is_quantized_in_a_step(method: str) -> None:
    work = setup_of(method, noise=0.3)
    shares: list[float] = []
    masks: list[np.ndarray[Any, Any]] = []

    class Measuring(Reporter):
        def step(self, step: int, epoch: float, **values: float) -> None:
            quantized = total = 0
            for name, known in integer_weights(work.model).items():
                layer = work.model.get_submodule(name)
                raw, mixed = layer.get_parameter("parametrizations.weight.original"), layer.weight  # type: ignore[union-attr]
                grid = known.weight()
                counts = raw != grid  # elsewhere both are the same
                assert bool(((mixed == raw) | (mixed == grid)).all())
                quantized, total = quantized + int((counts & (mixed == grid)).sum()), total + int(counts.sum())
                if name == "layer2.0.conv1":
                    masks.append((mixed == grid).numpy())
            shares.extend([quantized / total] if total else [])

    model = run(work, Measuring()).model
    assert len(shares) == (8 if method == "sequential" else 15) - WHOLE.get(method, 0)
    assert shares == pytest.approx([0.3] * len(shares), abs=0.02)
    assert not np.array_equal(masks[-1], masks[-2]), "drawn anew in every step"
    for name, known in integer_weights(model.train()).items():
        weight, quantizer = model.get_submodule(name).weight, weight_quantizers(model)[name]
        assert torch.equal(weight.detach(), known.weight()), "in the end all are quantized"  # type: ignore[arg-type]
        if isinstance(quantizer, FixedQuantizer):
            assert not bool(weight.detach()[~quantizer.mask].any()), "pruned weights are not moved"  # type: ignore[index]


def test_unquantized_weights_get_exact_gradients_and_evaluation_has_no_noise() -> None:
    torch.manual_seed(0)
    layer = quantize(nn.Sequential(nn.Linear(50, 40, bias=False)), 3)[0]
    raw, quantizer = layer.get_parameter("parametrizations.weight.original"), quantizer_of(layer)
    grid = fake_quantize(raw.detach(), quantizer.step_size.detach(), quantizer.clip.detach())  # type: ignore[union-attr]
    noise = QuantizationNoise(layer, 0.25, seed=1)
    noise.draw()
    mixed, upstream = layer.weight, torch.randn(40, 50)
    mask = torch.rand(40, 50, generator=torch.Generator().manual_seed(1)) < 0.25
    assert torch.equal(mixed.detach(), torch.where(mask, grid, raw.detach()))
    mixed.backward(upstream)
    assert torch.equal(raw.grad[~mask], upstream[~mask])  # type: ignore[index]
    error = ((grid - raw.detach()) * upstream)[mask].sum() / quantizer.step_size.detach()  # type: ignore[union-attr]
    assert float(quantizer.step_size.grad) == pytest.approx(float(error), rel=1e-3)  # type: ignore[union-attr]
    with torch.no_grad():
        assert torch.equal(layer.weight, grid)
    assert torch.equal(layer.eval().weight.detach(), grid)
    noise.remove()
    assert torch.equal(layer.train().weight.detach(), grid)


def averaged(states: list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]], decay: float, key: str) -> Any:
    """The moving average of one tensor in fp64, by its definition."""
    average = states[0][0][key].double().numpy()
    for t, (_, after) in enumerate(states, start=1):
        beta = min(decay, (1 + t) / (10 + t))
        average = beta * average + (1 - beta) * after[key].double().numpy()
    return average


@pytest.mark.parametrize("method", under_quantizers(noise=0.5))
def test_the_average_of_the_weights_is_stored_on_zeros_and_grids(method: str) -> None:
    work = setup_of(method, ema=0.6)
    watching = Watching(work)
    done = run(work, watching)
    state = done.model.state_dict()
    states = [pair for pair in watching.states if pair[1].keys() == state.keys() == pair[0].keys()]
    assert len(states) == (8 if method == "sequential" else 15)
    states = states[-LAST_STAGE.get(method, 15) :]
    last, trained = states[-1][1], {name for name, _ in done.model.named_parameters()}
    compared = 0
    for key, value in state.items():
        if key.endswith(
            ("step_size", "mask", "grid", "offset", "num_batches_tracked", "assignments", "reach", "frozen")
        ):
            continue
        assert key in trained or "running" in key
        expected = np.where(last[key].numpy() == 0, 0, averaged(states, 0.6, key))
        moved = value.numpy() != expected
        moved &= ~np.isclose(value.numpy(), expected, rtol=1e-4, atol=1e-6)
        assert not moved.any(), key
        compared += not torch.equal(value, last[key])
    assert compared > 20
    bits = {name: quantizer.bits() for name, quantizer in weight_quantizers(done.model).items()}
    if methods.get(method).removes_units:
        assert zeroed_units(done.model, done.setup(work).graph) == done.facts["removed_units"]
        if methods.get(method).ask("--sparsity"):
            assert done.facts["removed"] == int(0.4 * work.graph.prunable_units)
        assert set(bits.values()) <= {3.0, 4.0}
    elif "allocation" in done.facts:
        zeros = sum(int((known.codes == 0).sum()) for known in integer_weights(done.model).values())
        assert zeros == done.facts["allocation"]["pruned"]
        assert bits == {layer["name"]: layer["bits"] for layer in done.facts["allocation"]["layers"]}


def test_the_average_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))

    def change() -> None:
        with torch.no_grad():
            for tensor in (*model.parameters(), model[1].running_mean):
                tensor.add_(torch.randn_like(tensor))

    average = WeightAverage(model, 0.9)
    change()
    average.update()
    state = copy.deepcopy(average.state_dict())
    other = WeightAverage(model, 0.9)
    other.load_state_dict(state)
    change()
    results = []
    for each in (average, other):
        each.update()
        results.append(copy.deepcopy(each.state_dict()))
    assert results[0]["steps"] == results[1]["steps"] == 2
    assert all(torch.equal(a, b) for a, b in zip(results[0]["averages"], results[1]["averages"], strict=True))


@pytest.mark.parametrize("method", TRAINED)
def test_recalibrated_statistics_are_those_of_the_weights_that_are_stored(method: str) -> None:
    work = setup_of(method, recalibrate=6, ema=0.5)
    model = run(work).model.eval()
    batches = Batches(DATA, "train", 32, seed=0, epoch=1)
    images = [batches.batch(1, index)[0] for index in range(6)]
    with torch.no_grad():
        values = [model.conv1(x) for x in images]
    means = torch.stack([each.mean((0, 2, 3)) for each in values]).mean(0)
    variances = torch.stack([each.var((0, 2, 3)) for each in values]).mean(0)
    assert torch.allclose(model.bn1.running_mean, means, atol=1e-5)
    assert torch.allclose(model.bn1.running_var, variances, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", TRAINED)
def test_the_learning_rate_rises_first(method: str) -> None:
    rates: dict[float, list[float]] = {}
    for share in (0.0, 0.4):
        watching = Watching(work := setup_of(method, lr_warmup=share))
        run(work, watching)
        rates[share] = watching.rates
    first = 7 if method == "sequential" else 15  # steps until its schedule begins again
    rising = round(0.4 * first)
    assert rates[0.4][:rising] == sorted(rates[0.4][:rising])
    assert rates[0.4][0] < 0.3 * 0.02
    assert max(rates[0.4][:first]) == pytest.approx(0.02, rel=0.15)
    assert rates[0.0][0] == pytest.approx(0.02, rel=0.02)


def test_units_of_prune_then_quantize_are_chosen_by_the_criteria_asked_for() -> None:
    options = {"rounds": 1, "criteria": {"taylor_second_order": 1.0}, "saliency_batches": 3}
    work = setup_of("sequential", **options)
    model = copy.deepcopy(work.model).eval()
    tensors, totals = dict(model.named_parameters()), []
    batches = Batches(DATA, "train", 32, seed=0, augment=False)
    for index in range(3):
        x, y = batches.batch(0, index)
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        totals.append(list(taylor(work, tensors)))
    scores = np.mean(totals, axis=0)
    count = int(0.4 * work.graph.prunable_units)
    named = [(group.id, unit) for group in work.graph.prunable for unit in range(group.units)]
    expected: dict[str, list[int]] = {}
    for index in np.argsort(scores, kind="stable")[:count]:
        expected.setdefault(named[index][0], []).append(named[index][1])
    done = run(work)
    assert done.facts["removed_units"] == {name: sorted(units) for name, units in expected.items()}
    magnitude = run(setup_of("sequential", rounds=1)).facts["removed_units"]
    assert magnitude != done.facts["removed_units"]


def taylor(work: Setup, tensors: dict[str, nn.Parameter]) -> Iterator[float]:
    """(Σ x g)² / 2 of every unit, member by member."""
    for group in work.graph.prunable:
        for unit in range(group.units):
            product = 0.0
            for member in group.zeroed_members:
                x = tensors[member.name]
                assert x.grad is not None
                product += float((x * x.grad).index_select(member.dim, member.positions[unit]).sum())
            yield 0.5 * product**2
