"""HESSO: how units fade, which are chosen, what rounding makes of the others; by closed forms and brute force."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_trainer import DATA, Watching, averaged, run, setup_of
from torch import nn

from compression import methods
from compression.counting.cost import cost
from compression.data import Batches
from compression.errors import CompressionError
from compression.forecast import Subject
from compression.graph import trace, zeroed_units
from compression.graph.names import parameter_map
from compression.graph.types import Graph
from compression.pruning.criteria import DEFAULT_WEIGHTS
from compression.pruning.fading import Fading
from compression.pruning.removal import BY_MAGNITUDE, Removal
from compression.pruning.target import UnitCount
from compression.quant import integer_weights
from compression.training.setup import Setup
from compression.zoo import build

STILL = 1e-30
"""A learning rate under which no fp32 weight moves."""


def faded(sparsity: float = 0.4, first: int = 0, last: int = 8, periods: int = 1) -> tuple[nn.Module, Graph, Fading]:
    torch.manual_seed(1)
    model = build("resnet8", input=(1, 12, 12), classes=4, seed=0)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    graph = trace(model, torch.zeros(1, 1, 12, 12))
    target = UnitCount.of_share(sparsity, graph.prunable_units)
    return model, graph, Fading(Removal(model, graph, target, {}, options=BY_MAGNITUDE), first, last, periods)


def belonging(model: nn.Module, graph: Graph, units: dict[str, list[int]]) -> dict[str, np.ndarray[Any, Any]]:
    """Parameter → where its numbers belong to these units, element by element."""
    marked = {name: np.zeros(tuple(tensor.shape), dtype=bool) for name, tensor in parameter_map(model).items()}
    for group, numbers in units.items():
        for member in graph.group(group).zeroed_members:
            for unit in numbers:
                for position in member.positions[unit].tolist():
                    marked[member.name][(slice(None),) * member.dim + (position,)] = True
    return marked


# The fade -------------------------------------------------------------------------------------------------------------


def test_what_does_not_learn_fades_linearly_and_to_exact_zero() -> None:
    model, graph, fading = faded(last=8)
    start = {name: tensor.detach().numpy().copy() for name, tensor in parameter_map(model).items()}
    chosen = fading.observe(0)
    marked = belonging(model, graph, fading.removal.units.named_units(torch.tensor(at(chosen, 112))))
    assert len(chosen) == 44 and fading.observe(1) == []
    for k in range(1, 9):
        fading.shrink(k - 1)
        for name, tensor in parameter_map(model).items():
            here = tensor.detach().numpy()
            assert np.array_equal(here[~marked[name]], start[name][~marked[name]])
            assert np.allclose(here[marked[name]], start[name][marked[name]] * (8 - k) / 8, rtol=1e-6, atol=0)
    assert all(not tensor.detach().numpy()[marked[name]].any() for name, tensor in parameter_map(model).items())
    assert sorted(fading.removal.removed.nonzero().flatten().tolist()) == sorted(chosen)


def at(chosen: list[int], total: int) -> list[bool]:
    return [unit in set(chosen) for unit in range(total)]


def test_updates_shrink_with_the_weights_and_nothing_survives_the_period() -> None:
    """x ← (x - αh)(D-t-1)/(D-t) in fp64, for updates that are large and random, in three periods of unequal length."""
    model, graph, fading = faded(first=2, last=13, periods=3)
    assert fading.starts == [2, 5, 9, 13]
    generator, tensors = torch.Generator().manual_seed(7), dict(model.named_parameters())
    expected = {name: tensor.detach().double().numpy() for name, tensor in tensors.items()}
    zero_by_now = {name: np.zeros_like(value, dtype=bool) for name, value in expected.items()}
    for step in range(16):
        if chosen := fading.observe(step):
            units = fading.removal.units.named_units(torch.tensor(at(chosen, 112)))
            marked = belonging(model, graph, units)
            length = {2: 3, 5: 4, 9: 4}[step]
            begin = step
        for name, tensor in tensors.items():
            change = torch.randn(tensor.shape, generator=generator)
            tensor.data.sub_(change)
            expected[name] = expected[name] - change.double().numpy()
            if 2 <= step < 13:
                t = step - begin
                expected[name][marked[name]] *= (length - t - 1) / (length - t)
                zero_by_now[name] |= marked[name] & (t == length - 1)
            expected[name][zero_by_now[name]] = 0
        fading.shrink(step)
        for name, tensor in tensors.items():
            here = tensor.detach().double().numpy()
            assert np.allclose(here, expected[name], rtol=1e-5, atol=1e-5)
            assert not here[zero_by_now[name]].any()
        assert int(fading.removal.removed.sum()) == {4: 14, 8: 29, 12: 44}.get(step, int(fading.removal.removed.sum()))
    assert sum(map(len, zeroed_units(model, graph).values())) == 44


@pytest.mark.parametrize("stop", [3, 4, 6])
def test_a_fade_goes_on_from_its_state(stop: int) -> None:
    (model, _, fading), (other, _, resumed) = (faded(first=1, last=9, periods=2) for _ in range(2))
    for step in range(11):
        if step == stop:
            other.load_state_dict(model.state_dict())
            resumed.load_state_dict(copy.deepcopy(fading.state_dict()))
        for each in (fading, resumed) if step >= stop else (fading,):
            each.observe(step)
            each.shrink(step)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    assert int(resumed.removal.removed.sum()) == 44


# Which units ----------------------------------------------------------------------------------------------------------


def quiet(**options: Any) -> Setup:
    """A run of 15 steps in which nothing learns, and units are chosen by the gradients of one batch."""
    usual = {"periods": 1, "saliency_batches": 1, "cost": "none", "warm_up": 0.2, "fading": 0.4}
    work = setup_of("hesso", **{**usual, **options})
    work.budget = work.budget.replace(lr=STILL, weight_decay=0.0)
    return work


def reference(work: Setup, step: int, criterion: str) -> list[float]:
    """The score of every unit on the batch of ``step``, number by number."""
    model = copy.deepcopy(work.model).train()
    batches = Batches(DATA, "train", 32, seed=0)
    x, y = batches.batch(step // len(batches), step % len(batches))
    F.cross_entropy(model(x), y).backward()
    tensors = dict(model.named_parameters())
    rows = []
    for group in work.graph.prunable:
        for unit in range(group.units):
            xs, hs = [], []
            for member in group.zeroed_members:
                tensor, where = tensors[member.name], member.positions[unit]
                assert tensor.grad is not None
                xs.append(tensor.detach().index_select(member.dim, where).flatten().double().numpy())
                hs.append(tensor.grad.index_select(member.dim, where).flatten().double().numpy())
            x_, h = np.concatenate(xs), np.concatenate(hs)
            norm, product = np.linalg.norm(x_), float(x_ @ h)
            five = [norm, norm / len(x_), product / (norm * np.linalg.norm(h)) + 1, abs(product), product**2 / 2]
            rows.append(five)
    table = np.array(rows)
    return (table / np.linalg.norm(table, axis=0)).sum(1).tolist() if criterion == "five" else table[:, 4].tolist()


@pytest.mark.parametrize("criterion", ["five", "taylor"])
def test_the_units_of_least_score_at_the_choice_go_and_no_other(criterion: str) -> None:
    work = quiet(**({"criteria": dict(DEFAULT_WEIGHTS)} if criterion == "five" else {}))
    scores, named = reference(work, 3, criterion), []
    for group in work.graph.prunable:
        named += [(group.id, unit) for unit in range(group.units)]
    expected: dict[str, list[int]] = {}
    for index in sorted(np.argsort(scores, kind="stable")[:44].tolist()):
        expected.setdefault(named[index][0], []).append(named[index][1])
    other = np.argsort(reference(work, 4, criterion), kind="stable")[:44]
    done = run(work)
    assert done.facts["removed_units"] == expected
    assert set(other.tolist()) != set(np.argsort(scores, kind="stable")[:44].tolist()), "another batch says otherwise"
    assert done.facts["stages"] == {"warm-up": 0, "fading": 3, "fine-tuning": 9, "rounding": 15}


@pytest.mark.parametrize("periods", [1, 3, 50])
def test_exactly_as_many_units_go_and_every_group_keeps_one(periods: int) -> None:
    work = setup_of("hesso", periods=periods, criteria={"magnitude": 1.0})
    work.budget = work.budget.replace(sparsity=0.93, weight_decay=0.1)
    watching = Watching(work)
    done = run(work, watching)
    assert done.facts["removed"] == int(0.93 * 112) == 104
    removed = zeroed_units(done.model, work.graph)
    assert removed == done.facts["removed_units"]
    assert all(len(removed[group.id]) < group.units for group in work.graph.prunable)
    # Nothing comes back under momentum and decay, and each period ends with its share
    sets = []
    plain = build("resnet8", input=(1, 12, 12), classes=4, seed=0)
    for _, state in watching.states:
        plain.load_state_dict(state)
        zeros = zeroed_units(plain, work.graph)
        sets.append({(group, unit) for group, units in zeros.items() for unit in units})
    assert all(one <= other for one, other in itertools.pairwise(sets))
    count, span = min(periods, 7), 7  # fading takes the steps 1 to 7
    for j in range(count):
        end = 1 + (j + 1) * span // count
        assert len(sets[end - 1]) == 104 * (j + 1) // count


def test_units_go_until_the_macs_are_saved() -> None:
    work = setup_of("hesso")
    asks = {name: value for name, value in work.budget.asks.items() if name != "sparsity"}
    work.budget = work.budget.replace(asks={**asks, "macs": 0.6})
    done, dense = run(work), cost(work.graph).macs
    remaining = cost(work.graph, {name: len(units) for name, units in done.facts["removed_units"].items()}).macs
    assert 0.25 * dense < remaining <= 0.4 * dense


# Rounding -------------------------------------------------------------------------------------------------------------


class BeforeRounding(Watching):
    """Sees the weights that training ends with, too."""

    def phase(self, name: str, step: int, epoch: float = 0.0) -> None:
        if name == "rounding":
            self.ended = copy.deepcopy(self.model.state_dict())


@pytest.mark.parametrize("ema", [0.0, 0.6])
def test_the_weights_of_training_are_rounded_to_nearest(ema: float) -> None:
    """On the step with the least squared error that a fine search finds; training ends with the average, if asked."""
    work = setup_of("hesso", ema=ema)
    watching = BeforeRounding(work)
    done = run(work, watching)
    assert len(watching.states) == 15
    last = watching.states[-1][1]
    for name, value in watching.ended.items():
        if ema and "num_batches" not in name:
            expected = np.where(last[name].numpy() == 0, 0, averaged(watching.states, ema, name))
            assert np.allclose(value.numpy(), expected, rtol=1e-4, atol=1e-6), name
    for name, known in integer_weights(done.model).items():
        weight = watching.ended[f"{name}.weight"].double().numpy()
        most, step = 2 ** (round(known.bits) - 1) - 1, float(known.step)
        codes = np.clip(np.rint(weight / step), -most, most)
        assert round(known.bits) == 4
        assert np.array_equal(known.codes.numpy(), codes)
        assert not codes[weight == 0].any()
        tried = np.abs(weight).max() / most * np.linspace(0.2, 1.1, 400)
        errors = [((np.clip(np.rint(weight / d), -most, most) * d - weight) ** 2).sum() for d in tried]
        assert ((codes * step - weight) ** 2).sum() <= min(errors) * (1 + 1e-6)


def test_what_is_about_quantizers_in_training_is_refused_and_stages_fit_the_run() -> None:
    method = methods.get("hesso")
    for options, named in (
        ({"noise": 0.5}, "noise 0.5"),
        ({"oscillation": "freeze"}, "oscillation freeze"),
        ({"warm_up": 0.5, "fading": 0.6}, "warm_up"),
    ):
        with pytest.raises(CompressionError, match=named):
            method.check_budget(setup_of("hesso", **options).budget)


def test_the_forecast_is_that_of_prune_then_quantize_at_the_same_asks() -> None:
    forecasts = []
    for name in ("hesso", "sequential"):
        work = setup_of(name)
        forecasts.append(methods.get(name).forecast(Subject(work.model, work.graph), work.budget))
    assert forecasts[0] == forecasts[1]
    assert forecasts[0].units == 44
