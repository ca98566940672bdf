"""GETA with a range for each output channel: the joint step descends, bits are whole, what is packed is the model."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import torch

import compression as cx
from compression.errors import CompressionError
from compression.export.config import config
from compression.export.source import read
from compression.graph import parameter_map, zeroed_units
from compression.methods.geta import GETA
from compression.methods.geta.bounds import clipped_step
from compression.methods.geta.joint import ETA, ZETA, forget_rate
from compression.methods.geta.joint_update import clipped_and_residue
from compression.pack import unpack
from compression.quant import Quantizer, activation_quantizers, quantize, weight_quantizers
from compression.quant.quantizer import levels
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.zoo import weights
from tests.joint_rules import LayerTerm, step_sizes
from tests.test_geta import BUDGET, Story, task
from tests.test_qasso import TOTAL, Net, direction_of, gradients, graph, optimizer_of, train

VARIANTS = ("sgd", "adam", "adamw")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def build(seed: int = 0, **settings: Any) -> Net:
    torch.manual_seed(seed)
    model = Net()
    quantize(model, 16, torch.randn(4, 3, 8, 8), per_channel=True, **settings)
    return model


@pytest.mark.parametrize("exponent", [None, 1.3])
def test_the_residue_rebuilds_the_quantized_value_with_one_step_for_the_layer(exponent: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 40, generator=generator, dtype=torch.float64)
    quantizer = Quantizer(torch.rand(6, 1, generator=generator) * 3 + 0.01, 4, exponent).double()
    clips = quantizer.clip.detach().expand_as(x).flatten()
    d = float(quantizer.step_size.detach())
    c, r = clipped_and_residue(x.flatten(), quantizer, d, clips)
    torch.testing.assert_close((c + d * r).view_as(x), quantizer(x).detach(), rtol=1e-9, atol=1e-12)
    largest = r.view_as(x).abs().amax(1) / quantizer.clip.detach().flatten() ** (exponent or 1.0)
    assert (largest <= 0.5 + 1e-9).all() and (largest > 0.3).all(), "half a step of its own channel, no more"


def test_the_joint_rules_descend_on_channels_of_any_size() -> None:
    """Random weights, directions and channel ranges over four decades: the inequality of the layer's one d holds."""
    generator = torch.Generator().manual_seed(0)
    for trial in range(300):
        layers = []
        for rows in torch.randint(1, 6, (1 + trial % 3,), generator=generator).tolist():
            bounds = 10 ** (torch.rand(rows, 1, generator=generator) * 4 - 3)
            quantizer = Quantizer(bounds, 4 + trial % 5).double()
            x = torch.randn(rows, 20, generator=generator, dtype=torch.float64) * quantizer.clip.detach()
            clips = quantizer.clip.detach().expand_as(x).flatten()
            layers.append(clipped_and_residue(x.flatten(), quantizer, 1 / levels(4 + trial % 5), clips))
        sizes = [len(c) for c, _ in layers]
        c = torch.cat([c for c, _ in layers])
        h = torch.randn(len(c), generator=generator, dtype=torch.float64) * 10 ** (trial % 5 - 3)
        alpha, h_squared = 10.0 ** -(trial % 4), float(h @ h)
        gamma = forget_rate(float(c @ h), float(c.norm()), h_squared, alpha, 1 + trial % 7)
        terms = [LayerTerm(float(r @ p), 1 / 127, 1 / 7) for (_, r), p in zip(layers, h.split(sizes), strict=True)]
        gamma, d = step_sizes(gamma, terms, h_squared, alpha)
        move = torch.cat([step * r for step, (_, r) in zip(d, layers, strict=True)])
        assert float(h @ (-alpha * h - gamma * (c + move))) <= -ETA * (1 - ZETA) * alpha * h_squared * (1 - 1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_applied_joint_step_is_the_one_that_descends(variant: str) -> None:
    """Measured on the parameters themselves: <h, change of the redundant units> is what was decided, and in bounds."""
    model = build()
    optimizer = optimizer_of(model, variant=variant, lr=0.01, lr_quant=0.01)
    tensors = parameter_map(model)
    compared = 0
    for index in range(TOTAL):
        gradients(model, index)
        before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        optimizer.step()
        if not optimizer.decisions or not optimizer.redundant:
            continue
        h = direction_of(optimizer, variant, tensors, {})
        chosen = optimizer.units.split(optimizer.redundant)
        for decision, (number, units) in zip(optimizer.decisions, chosen.items(), strict=True):
            total = 0.0
            for member in graph().group(optimizer.units[number].id).members:
                if member.role != "consumer" and not member.buffer:
                    where = member.positions[units].flatten()
                    change = (tensors[member.name].detach() - before[member.name]).index_select(member.dim, where)
                    total += float((change * h[member.name].index_select(member.dim, where)).sum())
            assert total == pytest.approx(decision.descent, rel=1e-2, abs=1e-7)
            assert total <= decision.allowed * 0.99
            compared += 1
    assert compared > 10


def test_bits_are_one_whole_number_a_layer_while_its_bounds_differ() -> None:
    model = build()
    first = {name: q.clip.detach().clone() for name, q in weight_quantizers(model).items()}  # type: ignore[attr-defined]
    optimizer = optimizer_of(
        model, bits=(4, 7), activation_bits=(6, 8), lr_quant=0.01, layer_bits={"out": {"weight_bits": (3, 3)}}
    )
    for index in range(TOTAL):
        gradients(model, index)
        optimizer.step()
        if optimizer.stage == "joint":
            assert all(3 - 1e-4 <= q.bits() <= 7 + 1e-4 for q in weight_quantizers(model).values())
    quantizers = weight_quantizers(model)
    assert quantizers["out"].bits() == 3
    assert all(q.bits() in (4, 5, 6, 7) for name, q in quantizers.items() if name != "out")
    assert all(q.bits() in (6, 7, 8) for q in activation_quantizers(model).values())
    for name, quantizer in quantizers.items():
        assert isinstance(quantizer, Quantizer)
        moved = quantizer.clip.detach() / first[name]
        assert moved.max() > moved.min(), "each channel learns its own bound"
        steps = torch.as_tensor(quantizer.step())
        positive = torch.round(quantizer.clip.detach() / steps)
        assert torch.equal(positive, torch.full_like(positive, 2 ** (quantizer.bits() - 1) - 1))
    removed = sum(map(len, zeroed_units(model, graph()).values()))
    assert removed == optimizer.target.units == 9


def test_one_update_changes_each_channels_bound_by_a_tenth_at_most() -> None:
    clip, step = torch.nn.Parameter(torch.tensor([[1.0], [0.01], [2.0]])), torch.nn.Parameter(torch.tensor(0.5))
    clipped_step([step, clip], [torch.tensor(0.1), torch.tensor([[0.5], [0.5], [-9.0]])], lr=0.1)
    torch.testing.assert_close(clip.detach(), torch.tensor([[0.95], [0.009], [2.2]]))
    assert step.item() == pytest.approx(0.49)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_loaded_state_goes_on_as_if_never_stopped(variant: str) -> None:
    """In every stage the state goes through a file, into a model and an optimizer made anew."""
    settings: dict[str, Any] = {"variant": variant, "lr": 0.01, "weight_decay": 1e-3}
    whole = build()
    train(whole, optimizer_of(whole, **settings))
    model = build()
    optimizer = optimizer_of(model, **settings)
    for step in range(TOTAL):
        if step in (2, 10, 20, 23, 38):
            file = io.BytesIO()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
            file.seek(0)
            loaded = torch.load(file, weights_only=True)
            model = build(seed=step + 50)
            optimizer = optimizer_of(model, **settings)
            model.load_state_dict(loaded["model"])
            optimizer.load_state_dict(loaded["optimizer"])
        gradients(model, step)
        optimizer.step()
    for (name, a), b in zip(whole.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_exponents_and_half_precision_train_too() -> None:
    model = build(exponent=True)
    optimizer = optimizer_of(model, lr=0.01)
    for index in range(TOTAL):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            gradients(model, index)
        optimizer.step()
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert all(q.bits() in (4, 5, 6, 7, 8) for q in weight_quantizers(model).values())


# --- the method -------------------------------------------------------------------------------------------------------


def test_the_option_decides_and_is_checked() -> None:
    shapes = {}
    for options in ({}, {"weights": "tensor"}, {"weights": "channel"}):
        work = task(BUDGET.replace(epochs=0.6, options=options, activation_bits=(6, 8)))
        done = GETA.run(work, story := Story())
        messages = [line for line in story.messages if "separate ranges and steps" in line]
        assert len(messages) == (options.get("weights") == "channel")
        shapes[options.get("weights", "")] = [q.clip.dim() for q in weight_quantizers(done.model).values()]  # type: ignore[attr-defined]
        assert done.facts["removed"] == work.graph.prunable_units // 2
        assert all(q.bits() in (4, 5, 6, 7, 8) for q in weight_quantizers(done.model).values())
    assert shapes[""] == shapes["tensor"] == [0] * 10
    assert shapes["channel"] == [4] * 9 + [2]
    with pytest.raises(CompressionError, match="weights must be one of tensor, channel"):
        GETA.check_budget(BUDGET.replace(options={"weights": "row"}))
    model = cx.apply(cx.zoo.build("resnet8"), BUDGET.replace(options={"weights": "channel"}))
    assert all(isinstance(q, Quantizer) and q.per_channel for q in weight_quantizers(model).values())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A short run of resnet8 on mnist5k from its trained weights."""
    if weights.find("resnet8", "mnist5k", (1, 28, 28), 10) is None:
        pytest.skip("no trained weights of resnet8 on mnist5k here")
    budget = cx.Budget(epochs=0.5, precision="fp32", weight_bits=(4, 6), options={"weights": "channel"})
    folder = RunFolder.create(
        tmp_path_factory.mktemp("runs"), {"id": "channels", "budget": budget.to_dict(), "created": 0.0}
    )
    assert carry_out(folder, execute) == "done", folder.log_path.read_text()
    return folder


def test_a_run_keeps_its_promises_and_its_file_is_the_model(finished: RunFolder) -> None:
    result = json.loads(finished.result_path.read_text())
    assert sum(result["removed"].values()) == 56 == sum(map(len, result["units"].values()))
    assert {width["weight"] for width in result["final"]["bits"].values()} <= {4.0, 5.0, 6.0}
    assert result["equality"] <= 1e-4
    source = read(finished)
    channels = sum(weight.codes.shape[0] for weight in source.integers.values())
    assert result["ledger"]["scales"] == 4 * channels
    assert len(source.packed) == result["ledger"]["total"] == result["final"]["bytes"]
    state = unpack(finished.bundle / "weights.packed")
    for name, weight in source.integers.items():
        levels = 2 ** (weight.bits - 1) - 1
        assert int(weight.codes.abs().max()) <= levels
        assert torch.equal(state[f"{name}.weight"], weight.codes.float() * torch.as_tensor(weight.step))
        assert torch.equal(source.model.get_submodule(name).weight.detach(), state[f"{name}.weight"])  # type: ignore[arg-type,union-attr,operator]


def test_config_reports_each_channels_step(finished: RunFolder) -> None:
    source = read(finished)
    about, state = config(source), source.model.state_dict()
    for name, layer in about["layers"].items():
        weight, own = state[f"{name}.weight"], layer["weight"]
        assert own["axis"] == 0 and len(own["step"]) == len(weight)
        codes = weight / torch.tensor(own["step"]).reshape(-1, *[1] * (weight.dim() - 1))
        torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-3)
        assert codes.abs().max() <= 2 ** (own["bits"] - 1) - 1 + 1e-3
