"""Rounding learned for whole residual blocks: which they are, what they reach, and what they can be run with."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import compression as cx
from compression import methods, zoo
from compression.budget import Budget
from compression.errors import CompressionError
from compression.graph import trace
from compression.posttraining.block_inputs import TOGETHER, Unfit, block_batches
from compression.posttraining.block_problem import BlockProblem
from compression.posttraining.block_walk import bring, units
from compression.posttraining.blocks import residual_blocks
from compression.posttraining.layers import LayerWalk
from compression.posttraining.learned import LearnedRounding
from compression.posttraining.learned_block import LearnedBlock
from compression.posttraining.options import LayerwiseOptions
from compression.posttraining.planning import plan
from compression.quant import integer_weights, weight_quantizers
from compression.quant.tables import LayerTables
from compression.training.setup import Reporter
from tests.contract.runs import budget, setup
from tests.contract.test_method_contract import Stopping

# Which modules are blocks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet8", ("layer1.0", "layer2.0", "layer3.0")),
        ("mobilenet_small", ("blocks.0", "blocks.2", "blocks.4", "blocks.6")),  # the others change the size: no sum
        ("vit_tiny", ("blocks.0", "blocks.1", "blocks.2", "blocks.3")),
        ("causal_tiny", ("blocks.0", "blocks.1", "blocks.2", "blocks.3")),  # sums of rotary positions are no residual
        ("detector_tiny", ("backbone.2", "backbone.4")),
        ("unet_small", ()),
        ("siren", ()),
    ],
)
def test_blocks_of_the_zoo(name: str, blocks: tuple[str, ...]) -> None:
    model = zoo.build(name).eval()
    assert residual_blocks(model, trace(model, *zoo.example(name))) == blocks


class Added(nn.Module):
    """A layer whose output is added to something else, in a module of its own, as in BERT's published code."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.dense(x) + beside
        return result


class Encoder(nn.Module):
    """Two sums, each in a module of its own, around two pairs of layers; takes a mask by name and answers a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"value": nn.Linear(6, 6), "output": Added()})
        self.up, self.down = nn.Linear(6, 6), Added()

    def forward(self, x: torch.Tensor, *, mask: torch.Tensor) -> tuple[torch.Tensor, None]:
        x = self.attention["output"](self.attention["value"](x) * mask, x)
        return self.down(F.gelu(self.up(x)), x), None


class Text(nn.Module):
    """Encoder layers with a mask that has no axis of examples, and a sum around them all."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(4, 6))
        self.layers = nn.ModuleList(Encoder() for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask, first = torch.tril(torch.ones(4, 1)), x + self.position
        x = first
        for layer in self.layers:
            x = layer(x, mask=mask)[0]
        result: torch.Tensor = self.head((x + first).mean(1))
        return result


class Twice(nn.Module):
    """A block that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"inner": Added()})["inner"]
        self.first = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.block(self.block(x, x), x)


def test_an_encoder_layer_is_a_block_and_the_network_or_what_runs_twice_is_none() -> None:
    text = Text().eval()
    assert residual_blocks(text, trace(text, torch.randn(2, 4, 6))) == ("layers.0", "layers.1")
    twice = Twice().eval()
    assert residual_blocks(twice, trace(twice, torch.randn(2, 6))) == ()


def test_a_large_module_is_taken_apart() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(*(zoo.build("resnet8").layer1[0] for _ in range(9)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.inner(x)

    model = nn.Sequential(Outer()).eval()
    blocks = residual_blocks(model, trace(model, torch.zeros(1, 8, 6, 6)))
    assert blocks == tuple(f"0.inner.{place}" for place in range(9)), "18 layers are more than a block has"


# What is reached ------------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """y = x + W₂ relu(W₁ x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.second(torch.relu(self.first(x)))
        return result


def brought(dense: nn.Module, x: Any, scope: str, iterations: int = 400, **more: Any) -> nn.Module:
    options = {"scope": scope, "iterations": iterations, "rate": 0.02, **more}
    model = cx.apply(copy.deepcopy(dense), Budget(method="adaround", bits=3, options=options), calibration=x)
    return model.eval()


@torch.no_grad()
def nearest(dense: nn.Module) -> nn.Module:
    """Every layer rounded to the nearest of 7 levels, the last of which is the largest weight of its output channel."""
    model = copy.deepcopy(dense)
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            step = layer.weight.flatten(1).abs().amax(1).view(-1, *[1] * (layer.weight.dim() - 1)) / 3
            layer.weight.copy_((layer.weight / step).round() * step)
    return model


def test_the_optimum_of_a_block_of_few_weights_which_no_layer_by_itself_reaches() -> None:
    """Against all roundings up and down of two layers of nine weights, and the best of each for its own output."""
    reached, ratios = 0, []
    for seed in range(6):
        torch.manual_seed(seed)
        dense, x = nn.Sequential(Small(3)).eval(), torch.randn(96, 3) @ torch.randn(3, 3)
        with torch.no_grad():
            goal = dense(x)
            choices = []
            for layer in (dense[0].first, dense[0].second):
                step = layer.weight.abs().amax(1, keepdim=True) / 3
                scaled = layer.weight / step
                up, down = (scaled.ceil().clamp(-3, 3) * step, scaled.floor().clamp(-3, 3) * step)
                free = (up != down).flatten().nonzero().flatten().tolist()
                every = []
                for ups in itertools.product((False, True), repeat=len(free)):
                    mask = torch.zeros(9, dtype=torch.bool)
                    mask[[place for place, is_up in zip(free, ups, strict=True) if is_up]] = True
                    every.append(torch.where(mask.view(3, 3), up, down))
                choices.append(torch.stack(every))
            hidden = torch.relu(torch.einsum("nd,aed->ane", x, choices[0]))
            errors = torch.stack([(x + h @ choices[1].mT - goal).square().sum((1, 2)) for h in hidden])
            best = float(errors.min())

            def alone(weights: torch.Tensor, layer: nn.Linear, given: torch.Tensor) -> int:
                return int((given @ (weights - layer.weight).mT).square().sum((1, 2)).argmin())

            first = alone(choices[0], dense[0].first, x)
            second = alone(choices[1], dense[0].second, hidden[first])
            theirs = float(errors[first, second])
            ours = float((brought(dense, x, "block", iterations=300, rate=0.05)(x) - goal).square().sum())
        assert best * (1 - 1e-4) <= ours
        ratios.append((ours / best, theirs / best))
        reached += ours <= best * (1 + 1e-4) and theirs > 1.05 * best
    assert reached >= 1
    assert sum(ours for ours, _ in ratios) < 0.8 * sum(theirs for _, theirs in ratios)


def test_a_block_errs_less_than_its_layers_by_themselves_and_than_nearest_rounding() -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(1, 8, 3), zoo.build("resnet8").layer1).eval()
    with torch.no_grad():
        for module in dense.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.bias.normal_(0, 0.3)
    x = torch.randn(64, 1, 10, 10)
    errors = {}
    for name in ("layer", "block", "nearest"):
        model = nearest(dense) if name == "nearest" else brought(dense, x, name, iterations=400)
        batches = block_batches(model, dense, "1.0", [x])
        block = model.get_submodule("1.0").eval()
        with torch.no_grad():
            errors[name] = sum(float((block(each.inputs.args[0]) - each.target).square().sum()) for each in batches)
    assert errors["block"] < 0.8 * errors["layer"]
    assert errors["block"] < 0.3 * errors["nearest"]


def test_what_learning_makes_worse_stays_nearest() -> None:
    torch.manual_seed(1)
    dense, x = nn.Sequential(Small(5)).eval(), torch.randn(64, 5)
    model = brought(dense, x, "block", iterations=3, rate=1.0)
    with torch.no_grad():
        ours, theirs = (float((each(x) - dense(x)).square().sum()) for each in (model, nearest(dense)))
    assert ours <= theirs * (1 + 1e-6)


# As a run -------------------------------------------------------------------------------------------------------------


def of_blocks(**changes: Any) -> Budget:
    options = {"samples": 48, "iterations": 6, "scope": "block", **changes.pop("options", {})}
    return budget("adaround", options=options, **changes)


def test_a_run_says_what_became_of_its_blocks_and_keeps_the_budget() -> None:
    done = methods.get("adaround").run(setup(of_blocks()), Reporter())
    assert set(done.facts["blocks"]) == {"layer1.0", "layer2.0", "layer3.0"}
    for path, block in done.facts["blocks"].items():
        assert all(name.startswith(f"{path}.") for name in block["layers"])
        assert 0 < block["error"] <= block["nearest"]
        assert block["examples"] == 48
    assert set(done.facts["layers"]) == set(weight_quantizers(done.model))
    planned = {each["name"]: each["pruned"] for each in done.facts["allocation"]["layers"]}
    for name, each in integer_weights(done.model).items():
        assert int((each.codes == 0).sum()) >= planned[name]
        assert torch.equal(done.model.get_submodule(name).weight, each.weight()), "what is computed is what is stored"


def test_a_run_killed_after_any_block_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def attempt(folder: Path, number: int, stop: int | None = None) -> tuple[dict[str, torch.Tensor], int]:
        folder.mkdir(exist_ok=True)
        with Stopping(folder, number, stop) as report:
            work = setup(of_blocks())
            return methods.get("adaround").run(work, report).model.state_dict(), report.checkpoints

    whole, checkpoints = attempt(tmp_path / "whole", 1)
    assert checkpoints == 5, "a layer, three blocks, a layer"
    for stop in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            attempt(tmp_path / str(stop), 1, stop)
        resumed, again = attempt(tmp_path / str(stop), 2)
        assert again == checkpoints - stop
        assert all(torch.equal(resumed[name], each) for name, each in whole.items())


@pytest.mark.parametrize("name", ["mobilenet_small", "vit_tiny", "causal_tiny", "detector_tiny", "unet_small", "siren"])
def test_blocks_of_any_task(name: str) -> None:
    model = zoo.build(name).eval()
    (x,) = zoo.example(name, 3)
    before = copy.deepcopy(model.state_dict())
    options = {"scope": "block", "iterations": 2}
    cx.apply(model, Budget(method="adaround", bits=4, activation_bits=8, options=options), calibration=x)
    assert set(weight_quantizers(model)) == {layer.name for layer in trace(zoo.build(name), x).layers}
    after = model.state_dict()
    untouched = [key for key in before if key in after]  # those of layers have other names now
    assert untouched and all(torch.equal(before[key], after[key]) for key in untouched), "only weights are learned"


def test_aligned_weights_are_refused() -> None:
    with pytest.raises(CompressionError, match="inputs aligned goes with scope layer"):
        methods.get("adaround").check_budget(of_blocks(options={"inputs": "aligned"}))


# What a block is run with ---------------------------------------------------------------------------------------------


def test_masks_by_name_tuples_and_dense_inputs() -> None:
    torch.manual_seed(2)
    dense, x = Text().eval(), torch.randn(40, 4, 6)
    for inputs in ("compressed", "dense"):
        model = brought(dense, x, "block", iterations=150, inputs=inputs)
        layers = brought(dense, x, "layer", iterations=150, inputs=inputs)
        with torch.no_grad():
            ours, theirs = (float((each(x) - dense(x)).square().mean()) for each in (model, layers))
        assert ours < 1.2 * theirs


def test_stored_inputs_are_few_bounded_and_safe_from_operations_in_place() -> None:
    torch.manual_seed(3)

    class Before(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.second(self.first(x.relu_())) + x
            return result

    model = nn.Sequential(nn.Linear(4, 4), Before(4)).eval()
    x = torch.randn(3 * TOGETHER + 5, 4)
    stored = block_batches(model, model, "1", [x[:40], x[40:]])
    assert [len(each.target) for each in stored] == [32, 8, 32, 29]
    torch.testing.assert_close(torch.cat([each.inputs.args[0] for each in stored]), model[0](x).detach())
    torch.testing.assert_close(torch.cat([each.target for each in stored]), model(x).detach())
    few = block_batches(model, model, "1", [x], most=2 * TOGETHER * 2 * 4 * 4)
    assert [len(each.target) for each in few] == [32, 32], "two batches of inputs and answers of four fp32 numbers"
    before = stored[0].inputs.args[0].clone()
    answer = BlockProblem("1", model[1], [], [], stored, torch.Generator()).answer(stored[0])
    assert torch.equal(stored[0].inputs.args[0], before)
    torch.testing.assert_close(answer, stored[0].target)


class Odd(Small):
    """Takes an object that is no tensor."""

    def forward(self, x: torch.Tensor, mask: Any = None) -> tuple[torch.Tensor, None]:
        return super().forward(x), None


class Carrying(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = Odd(4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.block(x, mask=object())[0])
        return result


def test_a_block_that_cannot_run_by_itself_is_learned_layer_by_layer() -> None:
    torch.manual_seed(4)
    dense, x = Carrying().eval(), torch.randn(64, 4)
    with pytest.raises(Unfit, match="more than tensors"):
        block_batches(dense, dense, "block", [x])
    graph, model = trace(dense, x), copy.deepcopy(dense)
    tables = LayerTables.prepare(model, (), channels=True)
    walk = LayerWalk(
        model, graph, LayerwiseOptions(), lambda _: plan(tables, 0.0, 3, {}, "channel", "max"), lambda: [x]
    )
    first = units(walk, residual_blocks(dense, graph))[0]
    assert first.layers == ("block.first", "block.second")
    outcome = bring(walk, first, LearnedRounding(200), LearnedBlock(200))
    assert outcome.block is None and len(outcome.notes) == 1
    assert all(each is not None and each.error <= each.nearest for each in outcome.layers.values())


def test_what_is_not_finite_is_refused_by_the_name_of_the_block() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Small(4)).eval()
    with torch.no_grad():
        model[1].second.weight[0, 0] = torch.inf
    with pytest.raises(CompressionError, match="block 1: its outputs are not finite"):
        block_batches(model, model, "1", [torch.randn(4, 4)])
