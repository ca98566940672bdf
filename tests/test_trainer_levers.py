"""What can be turned on in every trained method beside the plain recipe: each against arithmetic of its own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_trainer import Watching, run, setup_of, under_quantizers
from torch import nn
from torch.nn.utils import parametrize

from compression import methods, zoo
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Subject
from compression.graph import Graph, trace, zeroed_units
from compression.graph.names import parameter_map
from compression.methods.base import Reporter, Setup
from compression.pruning.criteria import DEFAULT_WEIGHTS
from compression.pruning.saliency import AveragedSaliency
from compression.pruning.scores import UnitScores
from compression.pruning.unit_cost import UnitPrices
from compression.pruning.unit_options import UnitOptions
from compression.pruning.units import Units
from compression.quant import activation_quantizers, integer_weights, quantize, quantizer_of, weight_quantizers
from compression.quant.fixed_steps import FixedQuantizer
from compression.quant.quantizer import Quantizer
from compression.tasks.classification import Classification
from compression.training.distill import Distillation, Teacher, distillation, distillation_loss
from compression.training.features import feature_layers, feature_loss
from compression.training.options import TrainingOptions
from compression.training.oscillation import Oscillation
from compression.training.recipe import Recipe
from compression.zoo import build
from tests.contract.runs import quick

CLASSIFY = Classification(None)  # type: ignore[arg-type]  # losses need no data

TRAINED = [name for name, method in methods.all_methods().items() if method.info.trains]


def test_every_lever_is_off_by_default_and_the_paper_names_it() -> None:
    from compression.methods.geta.options import PAPER, GetaOptions

    off = {"distill_features": 0.0, "distill_rise": "constant", "oscillation": "none", "ends": "same"}
    for name in TRAINED:
        assert methods.get(name).Config().model_dump()["inherit"] == 0
        assert off.items() <= methods.get(name).Config().model_dump().items()
    off["lr_restart"] = 0.0
    for name in ("geta", "sequential"):
        assert off.items() <= methods.get(name).Config().model_dump().items()
    assert off.items() <= PAPER.items()
    assert set(GetaOptions.read({"preset": "paper"}, "geta").model_dump()) >= set(PAPER)


# Distillation


def test_with_all_of_the_loss_from_the_teacher_no_label_is_looked_at() -> None:
    answer, target = torch.randn(4, 3), torch.randn(4, 3)
    impossible = partial(CLASSIFY.loss, answer, torch.full((4,), 99))
    assert torch.isfinite(distillation_loss(CLASSIFY, answer, target, impossible, 1.0, 2.0))
    with pytest.raises(IndexError):
        distillation_loss(CLASSIFY, answer, target, impossible, 0.999, 2.0)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet8", {"layer1": 1, "layer2": 1, "layer3": 1}),
        ("vgg7_small", None),
        ("mobilenet_small", None),
        ("vit_tiny", None),
    ],
)
def test_the_stages_whose_outputs_are_compared(model: str, expected: dict[str, int] | None) -> None:
    """By shapes alone: of images the last output of each resolution, of sequences that of each block."""
    network, (example,) = build(model).eval(), zoo.example(model)
    outputs: list[tuple[str, torch.Size]] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: outputs.append((name, output.shape)))
        for name, module in network.named_modules()
        if name
    ]
    network(example)
    for hook in hooks:
        hook.remove()
    layers = feature_layers(network, example, model)
    assert layers.keys() == (expected or layers).keys()
    if model == "vit_tiny":
        assert layers == {f"blocks.{index}": 2 for index in range(len(network.blocks))}  # type: ignore[arg-type]
        return
    for resolution in {shape[2:] for _, shape in outputs if len(shape) == 4 and shape[2:].numel() > 1}:
        last = [name for name, shape in outputs if shape[2:] == resolution][-1]
        assert layers.pop(last) == 1
    assert not layers
    assert not any(module._forward_hooks for module in network.modules())


def test_blocks_that_return_tuples_are_compared_by_their_first_value() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return self.linear(x), None

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.blocks = nn.Embedding(10, 6), nn.ModuleList(Block() for _ in range(3))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.embed(ids)
            for block in self.blocks:
                x, _ = block(x)
            return x.mean(1)

    assert feature_layers(Net(), torch.zeros(2, 5, dtype=torch.long), "net") == {f"blocks.{i}": 2 for i in range(3)}


def test_a_network_without_features_is_refused_by_name_before_a_run() -> None:
    work = setup_of("opq", distill_features=0.5)
    work.model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    work = Setup(work.model, trace(work.model, torch.zeros(1, 1, 12, 12)), work.data, work.budget)
    with pytest.raises(CompressionError, match=f"distill_features: {work.budget.model} has no module"):
        methods.get("opq").check(work)


@pytest.mark.parametrize("axis", [1, 2])
def test_the_distance_of_features_by_numpy(axis: int) -> None:
    """Channels of the student that are zero everywhere are in neither norm; the rest by plain loops."""
    generator = np.random.default_rng(2)
    own, target = (generator.normal(size=(3, 4, 5)) for _ in range(2))
    own[:, 1] = 0 if axis == 1 else own[:, 1]
    if axis == 2:
        own[..., 3] = 0
    index = [i for i in range(own.shape[axis]) if i != (1 if axis == 1 else 3)]
    a, b = own.take(index, axis), target.take(index, axis)
    expected = ((a - b) ** 2).sum() / (b**2).sum()
    student = torch.from_numpy(own).float().requires_grad_()
    whole = torch.from_numpy(target).float()
    loss = feature_loss({"a": student, "b": whole}, {"a": whole, "b": whole}, {"a": axis, "b": axis})
    assert float(loss.detach()) == pytest.approx(expected / 2, rel=1e-5)
    loss.backward()
    assert not student.grad[torch.from_numpy(own == 0)].any()  # type: ignore[index]


def with_labels(goal: Distillation, answer: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return goal(answer, x, partial(CLASSIFY.loss, answer, y))


def student_and_goal(**options: Any) -> tuple[nn.Module, Distillation, torch.Tensor, torch.Tensor]:
    work = setup_of("opq", **options)
    goal = distillation(work, Recipe(), TrainingOptions(**{**options}))
    assert goal is not None
    torch.manual_seed(1)
    return work.model.train(), goal, torch.randn(6, 1, 12, 12), torch.arange(6) % 4


def test_the_loss_with_features_equals_the_sum_by_hand_and_hooks_are_taken_away() -> None:
    model, goal, x, y = student_and_goal(distill=0.4, temperature=2.0, distill_features=3.0)
    with torch.no_grad():
        model.layer2[0].conv1.weight.mul_(1.5)  # type: ignore[index,union-attr,operator]
    twin = copy.deepcopy(model)
    loss = with_labels(goal, model(x), x, y)
    outputs: list[list[torch.Tensor]] = []
    for network in (twin, goal.teacher.model):
        held: list[torch.Tensor] = []
        hooks = [
            getattr(network, f"layer{i}").register_forward_hook(lambda _, __, out, held=held: held.append(out))
            for i in (1, 2, 3)
        ]
        answer = network(x)
        outputs.append([answer, *held])
        for hook in hooks:
            hook.remove()
    (own, *features), (target, *theirs) = outputs
    soft = F.kl_div(F.log_softmax(own / 2, 1), F.softmax(target / 2, 1), reduction="batchmean") * 4
    ratios = [float((((a - b) ** 2).sum() / (b**2).sum()).detach()) for a, b in zip(features, theirs, strict=True)]
    expected = 0.6 * float(F.cross_entropy(own, y).detach()) + 0.4 * float(soft.detach()) + 3.0 * float(np.mean(ratios))
    assert max(ratios) > 1e-3
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    goal.close()
    assert not any(module._forward_hooks for module in model.modules())


def test_measurements_copies_and_compiling_do_not_touch_the_features_of_a_step() -> None:
    model, goal, x, y = student_and_goal(distill_features=1.0)
    plain = float(with_labels(goal, model(x), x, y).detach())
    answer = model(x)
    copy.deepcopy(model)(x.flip(2) ** 3)  # a copy
    with torch.no_grad():
        model.eval()(3 * x)  # a measurement
    model.train()
    assert float(with_labels(goal, answer, x, y).detach()) == pytest.approx(plain, rel=1e-5)
    compiled = torch.compile(model, backend="eager")
    assert float(with_labels(goal, compiled(x), x, y).detach()) == pytest.approx(plain, rel=1e-4)


def test_what_is_taught_rises_over_the_run() -> None:
    model = build("resnet8", input=(1, 12, 12), classes=4).train()
    x, y, teacher = torch.randn(4, 1, 12, 12), torch.arange(4), Teacher(CLASSIFY, model, Recipe())
    answer = torch.randn(4, 4)
    rising = Distillation(teacher, 0.8, 2.0, rises=True)
    for progress in (0.0, 0.25, 1.0):
        rising.progress = progress
        hard = partial(CLASSIFY.loss, answer, y)
        expected = distillation_loss(CLASSIFY, answer, teacher(x), hard, 0.8 * progress, 2.0)
        assert float(rising(answer, x, hard)) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("method", ["sequential", "magnitude"])
def test_the_weights_rise_with_the_steps_of_the_run(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    call = Distillation.__call__

    def watched(self: Distillation, *args: torch.Tensor) -> torch.Tensor:
        shares.append(self.progress)
        return call(self, *args)

    monkeypatch.setattr(Distillation, "__call__", watched)
    work = setup_of(method, distill=0.5, distill_features=0.2, distill_rise="rising")
    run(work)
    assert shares == pytest.approx([step / 15 for step in range(15)])
    assert not any(
        type(hook).__name__ == "_Hook" for module in work.model.modules() for hook in module._forward_hooks.values()
    )


# The restart of the learning rate


def cosine(x: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * x))


@pytest.mark.parametrize("warmup", [0.0, 0.2])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("method", ["geta", "sequential"])
def test_the_rate_restarts_in_the_last_stage(method: str, schedule: str, warmup: float) -> None:
    """Every step's rate in closed form: GETA's stages are one curve of 15 + 1 steps, quantization has one of 8."""
    watching = Watching(work := setup_of(method, lr_restart=1.5, lr_warmup=warmup))
    work.budget = work.budget.replace(lr_schedule=schedule)
    done = run(work, watching)

    def plain(p: float) -> float:
        if p < warmup:
            return p / warmup
        return 1.0 if schedule == "constant" else cosine((p - warmup) / (1 - warmup))

    expected = []
    for step in range(15):
        if method == "geta":
            begin, p = done.facts["stages"]["cool-down"] / 16, (step + 1) / 16
            expected.append(plain(p) if p < begin else 1.5 * plain(begin) * cosine((p - begin) / (1 - begin)))
        elif step < 7:
            expected.append(plain(step / 7))
        else:
            p = (step - 7) / 8
            expected.append(1.5 * (p / warmup if p < warmup else cosine((p - warmup) / (1 - warmup))))
    assert method == "sequential" or 0.5 < begin < 1
    assert watching.rates == pytest.approx([0.02 * share for share in expected], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("method", ["opq", "magnitude"])
def test_a_restart_needs_a_stage_before(method: str) -> None:
    work = setup_of(method, lr_restart=1.5)
    for refuse in (methods.get(method).check, lambda setup: run(setup)):
        with pytest.raises(CompressionError, match=f"{method}: unknown option 'lr_restart'"):
            refuse(work)


# The first and the last layer


class Backwards(nn.Module):
    """Defines its layers in the opposite order to that in which it computes them."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.middle = nn.Linear(10, 4), nn.Linear(200, 10)
        self.wide, self.into = nn.Linear(4, 200), nn.Linear(144, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.middle(self.wide(self.into(x.flatten(1)).relu()).relu()).relu())


QUANTIZING = [
    name for name, method in methods.all_methods().items() if method.info.family != "codebook" and name != "sbs"
]
"""Those with books have no bits of a layer, and bit sharing (``test_sbs.py``) has 2, 4 and 8 of them only."""


def ends_setup(method: str, layers: dict[str, Any] | None = None, **options: Any) -> Setup:
    """A run of 15 steps of a network that computes into, wide, middle, out."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Backwards()
    plain = setup_of(method)
    asks = {"bits": 4, "weight_bits": (3, 4), "activation_bits": (5, 5), "sparsity": 0.3}
    names = set(methods.get(method).Config.model_fields)
    taken = {name: value for name, value in plain.budget.options.items() if name in names}
    budget = plain.budget.replace(**asks, layers=layers or {}, options={**taken, **quick(method), **options})
    return Setup(model, trace(model, torch.zeros(1, 1, 12, 12)), plain.data, budget)


@pytest.mark.parametrize("method", QUANTIZING)
def test_the_first_and_the_last_layer_get_eight_bits(method: str) -> None:
    """By the order of computation; a bound of the budget wins; the forecast and the run have the same bits."""
    work = ends_setup(method, {"out": {"weight_bits": (5, 5)}}, ends="eight")
    chosen = methods.get(method)
    chosen.check(work)
    forecast = chosen.forecast(Subject(copy.deepcopy(work.model), work.graph), work.budget)
    limits = {layer.name: layer.bits for layer in forecast.layers}
    assert limits["into"] == (8, 8) and limits["out"] == (5, 5) and limits["middle"][1] < 8
    explicit = {"into": {"weight_bits": (8, 8)}, "out": {"weight_bits": (5, 5)}}
    if any(ask.field == "activation_bits" for ask in chosen.asks):
        for bounds in explicit.values():
            bounds["activation_bits"] = (8, 8)
    spelled = ends_setup(method, explicit)
    assert chosen.forecast(Subject(spelled.model, spelled.graph), spelled.budget) == forecast
    model = chosen.run(work, Reporter()).model
    bits = {name: round(quantizer.bits()) for name, quantizer in weight_quantizers(model).items()}
    assert bits["into"] == 8 and bits["out"] == 5 and 2 <= bits["middle"] < 8
    inputs = {name: round(quantizer.bits()) for name, quantizer in activation_quantizers(model).items()}
    assert inputs in ({}, {"into": 8, "wide": 5, "middle": 5, "out": 8})
    assert bool(inputs) is any(ask.field == "activation_bits" for ask in chosen.asks)


def test_the_bytes_of_the_ends_are_counted() -> None:
    """Of round to nearest by hand: 4 bits for all, or 8 for the first and the last; BOPs with both."""
    forecasts = []
    for ends in ("same", "eight"):
        work = ends_setup("ptq", ends=ends)
        forecasts.append(methods.get("ptq").forecast(Subject(work.model, work.graph), work.budget))
    (plain, _), (more, _) = (each.bytes for each in forecasts)  # type: ignore[misc]
    assert more - plain == pytest.approx((4 * 144 + 10 * 4) * 4 / 8)
    bops = [each.low.bops for each in forecasts]  # type: ignore[union-attr]
    assert bops[1] - bops[0] == pytest.approx((4 * 144 + 10 * 4) * (8 * 8 - 4 * 5))


def test_an_average_of_bits_counts_the_ends_in() -> None:
    """What the first and the last layer get more, the others get less; layers that are skipped are no ends."""
    for skip, first in (([], "into"), (["into"], "wide")):
        work = ends_setup("opq", ends="eight", skip=skip)
        work.budget = work.budget.replace(sparsity=0.0)
        plan = methods.get("opq").allocation(Subject(work.model, work.graph), work.budget)
        bits = {layer.name: layer.bits for layer in plan.layers}
        sizes = {"into": 576, "wide": 800, "middle": 2000, "out": 40}
        assert bits[first] == bits["out"] == 8 and bits["middle"] < 4
        assert not set(skip) & set(bits)
        assert sum(width * sizes[name] for name, width in bits.items()) == plan.value_bits
        assert plan.value_bits <= 4 * sum(sizes[name] for name in bits) == plan.budget_bits


@pytest.mark.parametrize("method", ["geta", "opq", "magnitude"])
def test_in_a_loop_of_ones_own_the_ends_are_not_known(method: str) -> None:
    work = ends_setup(method, ends="eight")
    with pytest.raises(CompressionError, match="ends: in a loop of your own"):
        methods.get(method).prepare(work.model, work.budget, torch.zeros(2, 1, 12, 12))


# Movement


def products(graph: Graph, tensors: dict[str, nn.Parameter]) -> list[float]:
    """<x, g> of every unit, member by member."""
    result = []
    for group in graph.prunable:
        for unit in range(group.units):
            pairs = [(tensors[m.name], m.dim, m.positions[unit]) for m in group.zeroed_members]
            result.append(sum(float((x * x.grad).detach().index_select(dim, at).sum()) for x, dim, at in pairs))
    return result


def test_a_unit_that_training_moves_away_from_zero_gains_importance() -> None:
    """Four hidden units and steps of SGD: movement has the sign of the change of each unit's squared norm."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4, bias=False), nn.Linear(4, 2, bias=False))
    graph = trace(model, torch.zeros(1, 1, 12, 12))
    units = Units(model, graph)
    watched = AveragedSaliency(units, {"movement": 1.0}, lasting=True)
    weight = model[1].weight
    assert isinstance(weight, nn.Parameter) and units.total == 4
    target = torch.tensor([1.5, 0.5, 1.1, 0.9])[:, None] * weight.detach()  # grows, shrinks, grows, shrinks
    totals = torch.zeros(4)
    for _ in range(5):
        before = weight.detach().square().sum(1)
        model.zero_grad()
        (weight - target).square().sum().backward()
        watched.observe()
        totals -= torch.tensor(products(graph, parameter_map(model)))
        with torch.no_grad():
            weight -= 0.01 * weight.grad  # type: ignore[operator]
        assert torch.equal((weight.detach().square().sum(1) > before), torch.tensor([True, False, True, False]))
    scores = watched.take()
    assert (scores > 0).tolist() == [True, False, True, False]
    assert torch.allclose(scores, totals / totals.norm(), atol=1e-5)
    assert torch.equal(watched.take(), scores), "the sum lasts"
    assert "movement" not in DEFAULT_WEIGHTS


def test_geta_sums_movement_over_every_step_up_to_each_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    work = setup_of("geta", criteria={"movement": 1.0}, saliency_batches=2, cost="none")
    totals, steps, choices = torch.zeros(work.graph.prunable_units), 0, []
    observe, take = UnitScores.observe, UnitScores.take

    def watched(self: UnitScores, recent: bool = True) -> None:
        nonlocal steps
        steps += 1
        totals.sub_(torch.tensor(products(work.graph, parameter_map(work.model))))
        observe(self, recent)

    def compared(self: UnitScores, removed: torch.Tensor) -> torch.Tensor:
        scores = take(self, removed)
        expected = totals / totals.norm()
        assert torch.allclose(scores, expected - expected[~removed].min(), atol=1e-4)
        choices.append(steps)
        return scores

    monkeypatch.setattr(UnitScores, "observe", watched)
    monkeypatch.setattr(UnitScores, "take", compared)
    done = run(work)
    joint = done.facts["stages"]["joint"]
    assert len(choices) == 2 and choices[0] == joint < choices[1] == steps


@pytest.mark.parametrize("kind", ["macs", "parameters"])
def test_a_price_lowers_scores_below_zero_too(kind: Literal["macs", "parameters"]) -> None:
    work = setup_of("geta")
    units = Units(work.model, work.graph)
    options = UnitOptions(criteria={"movement": 1.0}, cost=kind, cost_power=1.0)
    removed = torch.arange(units.total) % 5 == 0
    values = torch.randn(units.total, generator=torch.Generator().manual_seed(0))
    scores = UnitScores(units, work.graph, options)
    scores.load_state_dict({"movement": values})
    counts = [int(removed[group.first : group.first + group.units].sum()) for group in units]
    costs = UnitPrices(work.graph, counts, kind).costs.tolist()
    relative = values / values.norm()
    least = min(float(value) for value, away in zip(relative, removed, strict=True) if not away)
    expected = [(float(value) - least) / costs[units.group_of[i]] for i, value in enumerate(relative)]
    assert scores.take(removed).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


# Oscillation


def oscillate(remedy: Literal["dampen", "freeze"], steps: int, change: Callable[[int], np.ndarray]) -> list[np.ndarray]:
    """The weights of one 3-bit layer with d = 0.5 after each step, which adds ``change(step)`` to them."""
    layer = quantize(nn.Sequential(nn.Linear(4, 3, bias=False)), 3)[0]
    weight, quantizer = layer.get_parameter("parametrizations.weight.original"), quantizer_of(layer)
    assert isinstance(quantizer, Quantizer)
    with torch.no_grad():
        quantizer.clip.fill_(1.5)
        quantizer.set_bits(3)
        weight.copy_(torch.linspace(-1.4, 1.4, 12).reshape(3, 4))
    watching, history = Oscillation(layer, remedy, 2, 2 + steps), []
    for step in range(2 + steps):
        weight.grad = torch.zeros_like(weight)
        watching.before_update(step)
        with torch.no_grad():
            weight -= 0.1 * weight.grad
            weight += torch.from_numpy(change(step)).float()
        watching.after_update(step)
        history.append(weight.detach().numpy().copy())
    return history


@pytest.mark.parametrize("count", [40, 200])
def test_weights_that_oscillate_are_frozen(count: int) -> None:
    """Every weight by a loop of its own in plain Python, after the paper's algorithm 1."""
    changes = 0.3 * np.random.default_rng(1).normal(size=(count + 2, 3, 4))
    changes[:, 0] = 0.4 * (-1.0) ** np.arange(count + 2)[:, None]  # to and fro

    def clamp(w: float) -> int:
        return int(np.clip(np.round(np.float32(w) / np.float32(0.5)), -3, 3))

    expected = np.zeros((count + 2, 3, 4))
    held = 0
    for i, j in np.ndindex(3, 4):
        w, code, move, f, average, frozen = np.linspace(-1.4, 1.4, 12).reshape(3, 4)[i, j], None, 0, 0.0, 0.0, None
        for step in range(count + 2):
            w = float(np.float32(w) + np.float32(changes[step, i, j]))
            if frozen is not None:
                w = 0.5 * frozen
            elif step == 2:
                code = average = clamp(w)
            elif step > 2:
                assert code is not None
                now = clamp(w)
                if now != code:
                    f, move = 0.99 * f + 0.01 * (np.sign(now - code) == -move), np.sign(now - code)
                else:
                    f = 0.99 * f
                average, code = 0.99 * average + 0.01 * now, now
                share = (step - 2) / (count - 1)
                if f > 0.01 + 0.09 * (1 + math.cos(math.pi * share)) / 2:
                    frozen = round(average)
                    w, held = 0.5 * frozen, held + 1
            expected[step, i, j] = w
    history = oscillate("freeze", count, lambda step: changes[step])
    assert np.allclose(history, expected, atol=1e-4)
    assert 4 <= held <= 12


def test_the_distance_from_the_grid_by_finite_differences() -> None:
    """λ Σ (Q(w) - clip(w))² with Q held: its gradient moves weights onto their values, by λ(t) of the paper."""
    history = oscillate("dampen", 50, lambda _: np.zeros((3, 4)))
    assert np.array_equal(history[0], history[2])
    for step in (10, 30, 51):
        before, after = (history[i].astype(np.float64) for i in (step - 1, step))
        value = 0.5 * np.clip(np.round(before / 0.5), -3, 3)
        strength = 0.1 * (1 - math.cos(math.pi * (step - 2) / 49)) / 2
        loss = [strength * (value - np.clip(before + e, -1.5, 1.5)) ** 2 for e in (1e-5, -1e-5)]
        assert np.allclose(after - before, -0.1 * (loss[0] - loss[1]) / 2e-5, atol=1e-6)
    assert np.abs(history[-1] - value).max() < np.abs(history[0] - value).max()


@pytest.mark.parametrize("method", under_quantizers(oscillation="freeze"))
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_frozen_weights_stay_at_their_codes_under_momentum_and_decay(
    method: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last stage only, and whatever the step size becomes; pruned weights and units stay zero."""
    monkeypatch.setattr("compression.training.oscillation.THRESHOLDS", (0.005, 0.005))  # after a single turn
    states: list[tuple[Oscillation, list[torch.Tensor], list[torch.Tensor]]] = []
    update = Oscillation.after_update

    def watched(self: Oscillation, step: int) -> None:
        update(self, step)
        if self._codes:
            states.append((self, [f.clone() for f in self._frozen], [a.clone() for a in self._averages]))
            for weight, quantizer, frozen, code in zip(
                self._weights, self._quantizers, self._frozen, self._averages, strict=True
            ):
                at = frozen > 0
                number = code[at] if quantizer.encoding != "offset" else (code.abs() + 0.5)[at] * code[at].sign()
                assert torch.equal(quantizer.codes(weight)[at], number.int())
                assert torch.equal(weight[at], (code * quantizer.step())[at])

    monkeypatch.setattr(Oscillation, "after_update", watched)
    work = setup_of(method, oscillation="freeze")
    work.budget = work.budget.replace(optimizer=optimizer, lr=0.2 if optimizer == "sgd" else 0.02, weight_decay=0.01)
    work.budget = work.budget.replace(epochs=1.5, lr_schedule="constant")
    done = run(work)
    (watching, first, codes), (_, last, later) = states[1], states[-1]
    assert len({id(each) for each, _, _ in states}) == 1 and watching.frozen > 40
    for early, late, before, after in zip(first, last, codes, later, strict=True):
        assert bool((late >= early).all()) and torch.equal(before[early > 0], after[early > 0])
    if methods.get(method).removes_units and methods.get(method).ask("--sparsity"):
        assert len(states) == watching.last - watching.first
        assert done.facts["stages"][{"geta": "cool-down", "sbs": "fine-tuning"}.get(method, "quantization")] in (
            watching.first, watching.first + 1,
        )  # fmt: skip
    elif methods.get(method).removes_units:
        assert zeroed_units(done.model, done.setup(work).graph) == done.facts["removed_units"]
    elif {"allocation", "zeros"} & done.facts.keys():
        zeros = sum(int((known.codes == 0).sum()) for known in integer_weights(done.model).values())
        assert zeros == (done.facts["allocation"]["pruned"] if "allocation" in done.facts else done.facts["zeros"])


def test_a_grid_without_multiples_of_the_step_is_refused() -> None:
    with pytest.raises(CompressionError, match="oscillation freeze does not go with grid survivor"):
        methods.get("opq").check(setup_of("opq", oscillation="freeze", grid="survivor"))
    with pytest.raises(CompressionError, match="oscillation freeze does not go with books"):
        methods.get("pq").check(setup_of("pq", oscillation="freeze"))


def test_what_may_not_be_rounded_to_zero_is_not_frozen_there() -> None:
    """A weight that jumps between the lowest levels, -d and d, has the average code 0 and is held at one of them."""
    layer = nn.Linear(4, 1, bias=False)
    mask = torch.tensor([[True, True, True, False]])
    parametrize.register_parametrization(layer, "weight", FixedQuantizer(mask, 0.5, 3), unsafe=True)
    weight = layer.get_parameter("parametrizations.weight.original")
    watching = Oscillation(layer, "freeze", 0, 100)
    for step in range(100):
        with torch.no_grad():
            sign = 1 if step == 0 else -1 if step < 45 else (-1) ** step  # its average code is 0.3 by then
            weight.copy_(torch.tensor([[0.1 * sign, 0.7, 0.1, 0.0]]))
        watching.after_update(step)
    assert watching.frozen == 1
    assert weight.abs().flatten().tolist() == pytest.approx([0.5, 0.7, 0.1, 0.0])


def test_layers_that_carry_no_quantizer_are_no_ends() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.middle = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 8)
            self.last, self.free = nn.Linear(8, 4), nn.Parameter(torch.randn(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            read = self.middle(self.attention(x, x, x)[0]).mean(1)
            return torch.nn.functional.linear(self.last(read), self.free)

    graph = trace(Attending().eval(), torch.randn(1, 5, 8))
    layers = methods.get("geta").bounded(Budget(method="geta", options={"ends": "eight"}), graph).layers
    assert {name: tuple(bounds["weight_bits"]) for name, bounds in layers.items()} == {
        "attention.out_proj": (8, 8), "last": (8, 8),
    }  # fmt: skip


def test_a_layer_that_did_not_run_is_not_compared() -> None:
    one, two = torch.ones(2, 3), 2 * torch.ones(2, 3)
    assert float(feature_loss({"a": one}, {"a": two, "b": one}, {"a": 1, "b": 1})) == pytest.approx(0.25)
    assert float(feature_loss({}, {"a": two}, {"a": 1})) == 0
