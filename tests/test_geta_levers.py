"""What can be turned on in GETA beside what is published: each against arithmetic of its own."""

from __future__ import annotations

import copy
import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from test_qasso import SCHEDULE, TOTAL, build, gradients, optimizer_of
from torch import nn

from compression import methods
from compression.data import Batches
from compression.errors import CompressionError
from compression.methods import Reporter
from compression.methods.geta import QASSO
from compression.methods.geta.bounds import BitBounds, Site
from compression.methods.geta.joint import FORGETTING, ZETA, forget_rate
from compression.methods.geta.options import GetaOptions
from compression.methods.geta.run import attach
from compression.methods.geta.schedule import Schedule, Stages
from compression.quant import activation_quantizers, quantize, weight_quantizers
from compression.quant.attach import fit_ranges
from compression.quant.quantizer import Quantizer, levels
from compression.training.preparation import plain_batches
from tests.contract.runs import budget, setup
from tests.joint_rules import LayerTerm, step_sizes

SMALL = 1e-4


@pytest.mark.parametrize("forgetting", ["published", "half"])
def test_the_share_of_descent_that_forgetting_may_cost(forgetting: str) -> None:
    """Random vectors: <h, s> stays under the bound of the chosen eta, and forgetting uses its whole allowance."""
    eta, generator = FORGETTING[forgetting], torch.Generator().manual_seed(3)
    assert eta is not None
    limited = 0
    for _ in range(200):
        h, c, r = (torch.randn(30, generator=generator, dtype=torch.float64) for _ in range(3))
        r, alpha, h_squared = r.clamp(-0.5, 0.5), 0.05, float(h @ h)
        gamma = forget_rate(float(c @ h), float(c.norm()), h_squared, alpha, 5, eta)
        if 0 < gamma < 0.2:
            limited += 1
            assert -gamma * float(c @ h) == pytest.approx((1 - eta) * alpha * h_squared)
        gamma, (d,) = step_sizes(gamma, [LayerTerm(float(r @ h), 0.01, 0.3)], h_squared, alpha, eta)
        direction = -alpha * h - gamma * (c + d * r)
        assert float(h @ direction) <= -eta * (1 - ZETA) * alpha * h_squared * (1 - 1e-9)
    assert limited > 20


def test_even_forgetting_asks_for_no_descent() -> None:
    rates = [forget_rate(-1e6, 1.0, 1e-9, 0.1, remaining, None) for remaining in (4, 3, 2, 1)]
    assert rates == [1 / 4, 1 / 3, 1 / 2, 1]
    assert step_sizes(1.0, [LayerTerm(-40.0, 0.01, 0.3, 0.2)], 1e-9, 0.1, None) == (1.0, [0.2])


def test_units_are_forgotten_before_they_are_cut() -> None:
    """The largest weight that a commit sets to zero is small after even forgetting, and much larger as published."""
    cut = {forgetting: _largest_cut(forgetting) for forgetting in FORGETTING}
    assert cut["uniform"] < 0.5 * min(cut["published"], cut["half"]), cut


def test_the_loss_does_not_jump_at_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same images just before and just after: forgotten evenly, units cost nothing more when they are cut.

    A run's own losses are of other images in every step, which hides a jump and feigns one.
    """
    jumps = {forgetting: _jumps(forgetting, monkeypatch) for forgetting in ("published", "uniform")}
    assert len(jumps["uniform"]) == len(jumps["published"]) == 4
    assert max(jumps["uniform"]) < 1.05
    assert max(jumps["published"]) > 1.2


def _jumps(forgetting: str, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Of each commit of a run, the training loss on 256 images after it over that before it."""
    options = {"forgetting": forgetting, "distill": 0.0, "cost": "none"}
    plain = budget("geta", options=options).replace(
        epochs=6, sparsity=0.5, lr=0.02, weight_bits=(4, 4), activation_bits=None
    )
    plain = plain.replace(schedule={"warmup": 0.2, "projection": 0.1, "joint": 0.5, "pruning_periods": 4})
    requested = methods.get("geta").complete(plain)
    task, ratios, commit = setup(requested), [], QASSO._commit_when_shrunk
    x, y = Batches(task.data, "train", 256, seed=9, augment=False).batch(0, 0)

    def loss() -> float:
        copied = copy.deepcopy(task.model).train()
        return float(nn.functional.cross_entropy(copied(x), y))

    def watched(optimizer: QASSO) -> None:
        if not optimizer.redundant or optimizer.stages.period(optimizer.steps_done).steps_to_shrink > 1:
            return
        before = loss()
        commit(optimizer)
        ratios.append(loss() / before)

    monkeypatch.setattr(QASSO, "_commit_when_shrunk", watched)
    methods.get("geta").run(task, Reporter())
    monkeypatch.undo()
    return ratios


def _largest_cut(forgetting: str) -> float:
    model = build()
    optimizer = optimizer_of(model, forgetting=forgetting, lr=0.002)
    largest = 0.0
    for index in range(TOTAL):
        gradients(model, index)
        chosen, before = list(optimizer.redundant), int(optimizer.removed.sum())
        weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.dim() > 1}
        optimizer.step()
        if int(optimizer.removed.sum()) > before and chosen:
            changes = [(weights[name] - p.detach()).abs().max() for name, p in model.named_parameters() if p.dim() > 1]
            largest = max(largest, float(max(changes)))
    assert optimizer.stages.ends["joint"] < TOTAL and int(optimizer.removed.sum()) == optimizer.target.units
    return largest


@pytest.mark.parametrize("exponent", [None, 1.3])
@pytest.mark.parametrize("whole", [False, True])
def test_a_held_step_gives_its_gradient_to_the_range(exponent: float | None, whole: bool) -> None:
    """Finite differences of the loss along the line on which the bit-width stays what it is."""
    torch.manual_seed(0)
    x, target = torch.randn(400, dtype=torch.float64), torch.randn(400, dtype=torch.float64)
    quantizer = Quantizer(0.9, 4, exponent).double()
    bounds = BitBounds([Site("layer", "weight", quantizer, (4, 4))], 16)
    if whole:
        bounds.round_bits()
    bounds.freeze_bits()
    bounds.project(1.0)
    _loss(quantizer, x, target).backward()
    free = [None if p is None or p.grad is None else float(p.grad) for p in (quantizer.clip, quantizer.exponent)]
    bounds.tie(1.0)
    clip, d, slope = (float(t.detach()) for t in (quantizer.clip, quantizer.step_size, quantizer.step_size.grad))
    power = 1.0 if exponent is None else exponent
    # d = q_m^t / N: N by hand, and the derivatives of that formula by hand.
    assert d == pytest.approx(clip**power / levels(4), rel=1e-6)
    raised = ((clip + SMALL) ** power - (clip - SMALL) ** power) / (2 * SMALL) / levels(4)
    assert float(quantizer.clip.grad) == pytest.approx(free[0] + slope * raised, rel=1e-5)
    if quantizer.exponent is not None:
        raised = (clip ** (power + SMALL) - clip ** (power - SMALL)) / (2 * SMALL) / levels(4)
        assert float(quantizer.exponent.grad) == pytest.approx(free[1] + slope * raised, rel=1e-5)


def _loss(quantizer: Quantizer, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return ((quantizer(x) - target) ** 2).sum()


@pytest.mark.parametrize(("slope", "tied"), [(1.0, False), (-1.0, True)])
def test_only_a_step_that_is_pushed_against_its_bound_is_held(slope: float, tied: bool) -> None:
    """At the lowest bit-width d is as large as it may be: it is held if the loss falls with a larger d only."""
    quantizer = Quantizer(1.0, 4)
    bounds = BitBounds([Site("layer", "weight", quantizer, (4, 8))], 16)
    quantizer.clip.grad, quantizer.step_size.grad = torch.zeros(()), torch.tensor(slope)
    bounds.tie(1.0)
    assert float(quantizer.clip.grad) == pytest.approx(slope / levels(4) if tied else 0.0)
    quantizer.set_bits(6)  # inside the bounds it is free
    quantizer.clip.grad = torch.zeros(())
    bounds.tie(1.0)
    assert float(quantizer.clip.grad) == 0


def test_a_range_that_two_layers_share_and_ranges_of_channels() -> None:
    shared, channels = Quantizer(1.0, 4), Quantizer(torch.ones(3, 1), 4)
    sites = [Site(name, "weight", q, (4, 4)) for name, q in (("a", shared), ("b", shared), ("c", channels))]
    for quantizer in (shared, channels):
        quantizer.clip.grad, quantizer.step_size.grad = torch.zeros_like(quantizer.clip), torch.tensor(2.0)
    BitBounds(sites, 16).tie(1.0)
    assert float(shared.clip.grad) == pytest.approx(2 / levels(4)), "once, not once a layer"
    assert not channels.clip.grad.any(), "their steps are functions of the ranges: autograd has it already"


def test_tied_ranges_learn_from_rounding() -> None:
    """The same run with and without: ranges differ from the last reduction on, not before."""
    first_reduction = math.ceil(SCHEDULE.warmup * TOTAL) + 1
    clips: dict[bool, list[torch.Tensor]] = {}
    for tied in (False, True):
        model = build()
        optimizer = optimizer_of(model, tied_ranges=tied, bits=(4, 4), sparsity=0.0)
        clips[tied] = []
        for index in range(TOTAL):
            gradients(model, index)
            optimizer.step()
            clips[tied].append(torch.stack([q.clip.detach().clone() for q in weight_quantizers(model).values()]))
    equal = [torch.equal(a, b) for a, b in zip(clips[False], clips[True], strict=True)]
    assert all(equal[: first_reduction - 1]) and not equal[-1]


def test_the_scale_of_gradients_is_put_on_all_quantizers() -> None:
    for scaled in (False, True):
        requested = budget("geta", options={"gradient_scale": scaled})
        task = setup(requested)
        attach(task, GetaOptions.read(requested.options, "geta"), Reporter())
        quantizers = [module for module in task.model.modules() if isinstance(module, Quantizer)]
        assert len(quantizers) > 10 and all(quantizer.gradient_scale is scaled for quantizer in quantizers)


def test_an_unknown_rule_is_refused() -> None:
    model: nn.Module = build()
    with pytest.raises(CompressionError, match="forgetting must be one of published, half, uniform, not 'slow'"):
        optimizer_of(model, forgetting="slow")
    with pytest.raises(CompressionError, match="rise must be one of linear, cubic, damage, not 'square'"):
        optimizer_of(model, rise="square")


@pytest.mark.parametrize(
    ("order", "stages"),
    [
        ("bits_first", ["warm-up", "projection", "joint", "cool-down"]),
        ("bits_late", ["warm-up", "joint", "cool-down"]),
        ("prune_first", ["warm-up", "joint", "projection", "cool-down"]),
        ("activations_first", ["warm-up", "projection", "joint", "cool-down"]),
    ],
)
def test_when_bits_fall(order: str, stages: list[str]) -> None:
    """The bits of every quantizer after every step, beside the units that are removed by then."""
    model = build(activations=True)
    optimizer = optimizer_of(model, order=order, bits=(4, 4), activation_bits=(6, 6), lr_quant=1e-6)
    weights, activations = weight_quantizers(model), activation_quantizers(model)
    names, bits, units = [], [], []
    for index in range(TOTAL):
        gradients(model, index)
        optimizer.step()
        names.append(optimizer.stage)
        bits.append([{round(q.bits(), 1) for q in each.values()} for each in (weights, activations)])
        units.append(int(optimizer.removed.sum()))
    assert [name for name, _ in itertools.groupby(names)] == stages
    assert bits[-1] == [{4}, {6}]
    assert units[-1] == optimizer.target.units == 9
    first, last = next(step for step in range(TOTAL) if units[step]), units.index(optimizer.target.units)
    if order == "bits_first":
        assert bits[first - 1] == [{4}, {6}]
    elif order == "prune_first":
        assert bits[last] == [{16}, {16}]
    else:
        fallen = [min(widths) for widths, _ in bits]
        assert fallen == sorted(fallen, reverse=True)
        assert fallen[first - 1] > 4 == fallen[last]
        joint = names.index("joint")
        assert bits[joint][1] == ({6} if order == "activations_first" else {13.5})


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_fitted_ranges_of_activations(bits: int) -> None:
    """No other bound of a fine grid rounds what the layers receive with less error; bits stay what they are."""
    model, x = build(quantizers=False), torch.randn(32, 3, 8, 8)
    received: dict[str, torch.Tensor] = {}
    hooks = []
    for name in ("conv1", "conv2", "hidden", "out"):
        layer = model.get_submodule(name)
        note = partial(_note, received, name)
        hooks.append(layer.register_forward_pre_hook(note))
    model.eval()(x)
    for hook in hooks:
        hook.remove()
    largest = quantize(copy.deepcopy(model), 8, [x], activation_bits=bits)
    fitted = quantize(copy.deepcopy(model), 8, [x], activation_bits=bits, calibration_range="fitted")
    again = copy.deepcopy(largest)
    fit_ranges(again, [x])
    for name, values in received.items():
        quantizer = activation_quantizers(fitted)[name]
        error = float((quantizer(values).detach() - values).square().sum())
        others = [
            float((Quantizer(float(values.abs().max()) * share / 40, bits)(values).detach() - values).square().sum())
            for share in range(1, 41)
        ]
        assert error <= 1.02 * min(others)
        assert quantizer.bits() == activation_quantizers(again)[name].bits() == bits
        if bits == 2:
            assert float(quantizer.clip) < 0.9 * float(activation_quantizers(largest)[name].clip)
    first = activation_quantizers(again)["conv1"]  # of a layer that receives the same whatever the quantizers do
    assert float(first.clip) == pytest.approx(float(activation_quantizers(fitted)["conv1"].clip))


def _note(received: dict[str, torch.Tensor], name: str, _: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    received[name] = args[0].detach()


@pytest.mark.parametrize("ranges", ["max", "fitted"])
def test_ranges_are_fitted_again_in_the_cool_down(ranges: str) -> None:
    requested = methods.get("geta").complete(
        budget("geta", options={"ranges": ranges}).replace(activation_bits=(3, 3), epochs=0.6)
    )
    clips: list[torch.Tensor] = []
    starts: dict[str, int] = {}

    class Listener(Reporter):
        def plan(self, total_steps: int, **facts: Any) -> None:
            starts.update(facts["stages"])

        def step(self, step: int, epoch: float, **values: float) -> None:
            clips.append(torch.stack([q.clip.detach().clone() for q in activation_quantizers(task.model).values()]))

    task = setup(requested)
    methods.get("geta").run(task, Listener())
    changes = [float((after / before - 1).abs().max()) for before, after in itertools.pairwise(clips)]
    at = starts["cool-down"] - 2
    assert (changes[at] > 10 * max(changes[:at])) is (ranges == "fitted")


@pytest.mark.parametrize(("method", "option"), [("geta", "ranges"), ("sequential", "ranges"), ("ptq", "calibration")])
def test_every_method_that_quantizes_activations_can_fit_their_ranges(method: str, option: str) -> None:
    bounds = []
    for kind in ("max", "fitted"):
        requested = budget(method, options={option: kind}).replace(activation_bits=(3, 3), epochs=0.6)
        result = methods.get(method).run(setup(requested), Reporter())
        bounds.append([float(q.clip.detach()) for q in activation_quantizers(result.model).values()])
    smaller = [fitted < largest for largest, fitted in zip(*bounds, strict=True)]
    assert sum(smaller) > len(smaller) / 2


def test_a_layer_that_is_not_used_leaves_the_others_tied() -> None:
    used, unused = Quantizer(1.0, 4), Quantizer(1.0, 4)
    used.clip.grad, used.step_size.grad = torch.zeros(()), torch.tensor(2.0)
    BitBounds([Site("a", "weight", unused, (4, 4)), Site("b", "weight", used, (4, 4))], 16).tie(1.0)
    assert float(used.clip.grad) == pytest.approx(2 / levels(4))
    assert unused.clip.grad is None


def test_an_order_needs_the_stage_in_which_bits_fall() -> None:
    with pytest.raises(CompressionError, match="order prune_first needs a projection stage"):
        Stages.from_schedule(Schedule(0.1, 0.0, 1, 0.4, 1), 40, order="prune_first")


def test_ones_own_loop_begins_with_the_same_quantizers() -> None:
    options = {"gradient_scale": True, "ranges": "fitted"}
    requested = budget("geta", options=options).replace(activation_bits=(3, 3))
    inside, outside = setup(requested), setup(requested)
    attach(inside, GetaOptions.read(options, "geta"), Reporter())
    methods.get("geta").prepare(outside.model, requested, list(plain_batches(outside, Reporter(), 8)))
    ranges = [[q.clip.item() for q in activation_quantizers(each.model).values()] for each in (inside, outside)]
    assert ranges[0] == ranges[1]
    assert all(q.gradient_scale for q in weight_quantizers(outside.model).values() if isinstance(q, Quantizer))
