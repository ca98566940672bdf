"""Quantization-aware pruning: rounds, rewinding and counts, by sorting with NumPy and by what other methods give."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from test_trainer import Watching, run, setup_of

from compression import methods
from compression.forecast import Subject
from compression.methods.qap.run import PruningRounds
from compression.quant import integer_weights
from compression.quant.tables import layer_weights
from compression.training.measure import sizes as measured
from compression.training.setup import Setup

RAW = ".parametrizations.weight.original"
LAYERS = list(layer_weights(setup_of("qap").model))
NUMBER = 19272  # weights of all layers
State = dict[str, torch.Tensor]


def raw(state: State) -> dict[str, np.ndarray[Any, Any]]:
    return {name: state[f"{name}{RAW}"].numpy() for name in LAYERS}


def flat(weights: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.concatenate([weights[name].ravel() for name in LAYERS])


# Rounds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_round_masks_the_smallest_weights_of_the_network(optimizer: str) -> None:
    """⌊r/R·K⌋ of them, nested, whatever momentum and decay do; the rounds come before steps 2, 4, 6 and 9."""
    work = setup_of("qap", rounds=4, pruning=0.6)
    work.budget = work.budget.replace(sparsity=0.35, optimizer=optimizer, lr=0.02, weight_decay=0.1)
    watching = Watching(work)
    done = run(work, watching)
    after = [flat(raw(state)) for _, state in watching.states]
    number, most = round(0.35 * NUMBER), {name: int(0.98 * size) for name, size in sizes().items()}
    before = np.zeros(NUMBER, dtype=bool)
    for step, weights in enumerate(after):
        passed = sum(step >= at for at in (2, 4, 6, 9))
        masked = weights == 0
        assert masked.sum() == passed * number // 4, step
        assert (masked >= before).all()
        if step in (2, 4, 6, 9):
            smallest = np.argsort(np.abs(after[step - 1]), kind="stable")[: masked.sum()]
            assert set(smallest.tolist()) == set(np.flatnonzero(masked).tolist())
        before = masked
    assert all((raw(watching.states[-1][1])[name] == 0).sum() < most[name] for name in LAYERS)
    assert done.facts["masked"] == number and done.facts["weights"] == NUMBER and done.facts["rounds"] == 4


def sizes() -> dict[str, int]:
    return {name: weight.numel() for name, weight in layer_weights(setup_of("qap").model).items()}


def test_within_layers_all_lose_one_share_and_a_layer_with_a_bound_its_own() -> None:
    work = setup_of("qap", rounds=3, pruning=0.6, scope="layer")
    bound = {"layer3.0.conv1": {"sparsity": 0.75, "weight_bits": (5, 5)}}
    work.budget = work.budget.replace(sparsity=0.5, layers=bound)
    watching = Watching(work)
    done = run(work, watching)
    share = (round(0.5 * NUMBER) - 3456) / (NUMBER - 4608)
    for number, step in enumerate((3, 6, 9), start=1):
        weights = raw(watching.states[step][1])
        assert sum((each == 0).sum() for each in weights.values()) == number * round(0.5 * NUMBER) // 3
        assert (weights["layer3.0.conv1"] == 0).sum() == round(0.75 * number / 3 * 4608)
    for name, size in sizes().items():
        count = int((raw(watching.states[-1][1])[name] == 0).sum())
        assert count == 3456 if name == "layer3.0.conv1" else abs(count - share * size) <= 1
    bits = {name: round(known.bits) for name, known in integer_weights(done.model).items()}
    assert bits.pop("layer3.0.conv1") == 5 and set(bits.values()) == {3}


def test_more_than_the_mask_may_round_to_zero_and_both_are_counted() -> None:
    work = setup_of("qap")
    work.budget = work.budget.replace(sparsity=0.1)
    done = run(work)
    zeros = sum(int((known.weight() == 0).sum()) for known in integer_weights(done.model).values())
    raw_zeros = sum(int((done.model.state_dict()[f"{name}{RAW}"] == 0).sum()) for name in LAYERS)
    assert done.facts["masked"] == raw_zeros == round(0.1 * NUMBER)
    assert done.facts["zeros"] == zeros > raw_zeros + 100


# Beside other methods -------------------------------------------------------------------------------------------------


def test_one_round_without_learning_is_magnitude_and_nearest_rounding() -> None:
    work = setup_of("qap", rounds=1)
    work.budget = work.budget.replace(lr=1e-30, lr_quant=1e-30, weight_decay=0.0)
    dense = {name: weight.double().numpy().copy() for name, weight in layer_weights(work.model).items()}
    masked, plain = copy.deepcopy(work.model), work.budget.replace(options={})
    pruned = methods.get("magnitude").allocation(Subject(masked, work.graph), plain)
    survives = {}
    for lost in pruned.layers:
        smallest = np.argsort(np.abs(dense[lost.name]).ravel(), kind="stable")[: lost.pruned]
        survives[lost.name] = np.ones(dense[lost.name].size, dtype=bool)
        survives[lost.name][smallest] = False
        layer_weights(masked)[lost.name].mul_(torch.tensor(survives[lost.name]).view(dense[lost.name].shape))
    rounded = methods.get("ptq").allocation(Subject(masked, work.graph), plain)
    done = run(work)
    for (name, known), plan in zip(integer_weights(done.model).items(), rounded.layers, strict=True):
        assert name == plan.name
        codes = np.clip(np.rint(dense[name] / plan.step), -3, 3) * survives[name].reshape(dense[name].shape)
        assert float(known.step) == pytest.approx(plan.step, rel=1e-6)
        assert np.array_equal(known.codes.numpy(), codes)


def test_the_forecast_spreads_the_zeros_evenly() -> None:
    work = setup_of("qap")
    forecast = methods.get("qap").forecast(Subject(copy.deepcopy(work.model), work.graph), work.budget)
    assert forecast.certainty == "even" and forecast.low is not None
    assert sum(layer.zeros for layer in forecast.layers) == round(0.4 * NUMBER)
    assert all(abs(layer.zeros - 0.4 * sizes()[layer.name]) <= 1 for layer in forecast.layers)
    counted = measured(run(work).model, work.graph)
    assert 0.8 * forecast.low.nominal_bytes < counted["nominal_bytes"] <= forecast.low.nominal_bytes
    assert counted["macs"] == forecast.low.macs


# Rewinding, and the L1 term -------------------------------------------------------------------------------------------


def gradients_complete(work: Setup, monkeypatch: pytest.MonkeyPatch) -> list[tuple[State, int]]:
    """The network's state whenever gradients are complete, before the update, and how many weights have momentum."""
    seen: list[tuple[State, int]] = []
    plain: Callable[[PruningRounds, int], None] = PruningRounds.after_backward

    def watched(self: PruningRounds, step: int) -> None:
        plain(self, step)
        seen.append((copy.deepcopy(work.model.state_dict()), len(self.training.optimizer.state)))

    monkeypatch.setattr(PruningRounds, "after_backward", watched)
    return seen


@pytest.mark.parametrize("rewind", [True, False])
def test_after_a_round_what_survives_is_what_it_was_when_the_run_began(
    rewind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = setup_of("qap", rounds=4, pruning=0.6, rewind=rewind)
    seen = gradients_complete(work, monkeypatch)
    dense = {name: weight.numpy().copy() for name, weight in layer_weights(work.model).items()}
    run(work)
    start = seen[0][0]
    assert all(np.array_equal(raw(start)[name], dense[name]) for name in LAYERS)
    moving = ("running_mean", "running_var", "num_batches_tracked", "clip", "step_size")
    trained = [name for name in start if not name.endswith(moving)]  # ranges are fitted to what survives
    for step, (state, momenta) in enumerate(seen):
        expected = rewind and step in (2, 4, 6, 9)
        same = []
        for name in trained:
            now, then = state[name].numpy(), start[name].numpy()
            survives = now != 0 if name.endswith(RAW) else np.ones_like(now, dtype=bool)
            same.append(np.array_equal(now[survives], then[survives]))
        assert all(same) == (expected or step == 0), step
        assert (momenta == 0) == (expected or step == 0)
        if expected:
            assert int(state["bn1.num_batches_tracked"]) == int(start["bn1.num_batches_tracked"])
            assert (flat(raw(state)) == 0).sum() == masked(step)
            fitted_to_survivors(state)


def fitted_to_survivors(state: State) -> None:
    """Three bits, levels -3d to 3d: no step of a fine search has a smaller error on the weights that are not masked."""
    for name, weight in raw(state).items():
        own = float(state[f"{name}.parametrizations.weight.0.step_size"])
        wide = weight.astype(np.float64)

        def error(step: float, wide: Any = wide) -> float:
            return float(((np.clip(np.rint(wide / step), -3, 3) * step - wide) ** 2).sum())

        assert error(own) <= min(map(error, np.abs(wide).max() / 3 * np.linspace(0.2, 1.1, 200))) * (1 + 1e-5), name


def masked(step: int) -> int:
    return (1 + (2, 4, 6, 9).index(step)) * round(0.4 * NUMBER) // 4


def test_the_sum_of_magnitudes_in_the_loss() -> None:
    """The first step of SGD with Nesterov momentum is -lr (1 + 0.9) times the gradient, that of λ Σ|w| among it."""
    after = []
    for strength in (0.0, 0.01):
        watching = Watching(work := setup_of("qap", l1=strength, rounds=2))
        before = {name: weight.double().numpy().copy() for name, weight in layer_weights(work.model).items()}
        run(work, watching)
        after.append(raw(watching.states[0][1]))
    for name in LAYERS:
        change = after[1][name].astype(np.float64) - after[0][name]
        assert np.allclose(change, -0.02 * 1.9 * 0.01 * np.sign(before[name]), atol=1e-7), name


def test_a_run_of_one_step_prunes_before_it() -> None:
    work = setup_of("qap")
    work.budget = work.budget.replace(epochs=0.01)
    done = run(work)
    assert done.facts["rounds"] == 1 and done.facts["stages"] == {"fine-tuning": 0}
    assert done.facts["masked"] == round(0.4 * NUMBER)
