"""CoDeQ: levels, gradients against the published formulas under autograd, exact counts, and learned thresholds."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.methods import Setup
from compression.methods.codeq.run import attach
from compression.methods.codeq.thresholds import Thresholds
from compression.pack import integers
from compression.quant.dead_zone import DeadZoneQuantizer
from compression.training.setup import Reporter
from tests.contract.runs import finished, setup


class Straight(torch.autograd.Function):
    """A function whose gradient is that of the identity."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kind: str, most: float) -> torch.Tensor:
        return {"round": torch.round, "relu": torch.relu, "clamp": lambda v: v.clamp(-most, most)}[kind](x)

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # type: ignore[override]
        return upstream, None, None


def published(weight: torch.Tensor, logit: torch.Tensor, reach: float, bits: int) -> torch.Tensor:
    """The quantizer as the paper writes it, differentiated by autograd (arXiv 2512.12981)."""
    width = 2 * reach * (1 - logit.tanh().abs())
    top = 2 ** (bits - 1) - 1
    step = (reach - width / 2) / (top - 0.5)
    start = width / 2 - step / 2
    position = weight.sign() * Straight.apply(weight.abs() - start, "relu", 0.0) / step
    code = Straight.apply(Straight.apply(position, "round", 0.0), "clamp", float(top))
    return step * code + start * code.sign()


@pytest.mark.parametrize("bits", [2, 4])
def test_values_and_gradients_are_the_published_ones(bits: int) -> None:
    torch.manual_seed(0)
    weight = (torch.randn(60, 30) * 0.3).requires_grad_()
    quantizer = DeadZoneQuantizer(weight.detach(), 0.2, bits)
    upstream = torch.randn_like(weight)
    logit = quantizer.logit.detach().double().requires_grad_()
    wide = weight.detach().double().requires_grad_()
    expected = published(wide, logit, float(quantizer.reach), bits)
    (expected * upstream).sum().backward()
    value = quantizer(weight)
    assert torch.allclose(value.double(), expected, atol=1e-6)
    (value * upstream).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, upstream), "zeros and clipped weights go on to hear of the loss"
    assert logit.grad is not None
    assert quantizer.logit.grad is not None
    assert quantizer.logit.grad.item() == pytest.approx(logit.grad.item(), rel=1e-4)


def test_levels_begin_at_the_threshold_and_end_at_the_reach() -> None:
    torch.manual_seed(1)
    weight = torch.randn(200, 50) * 0.1
    quantizer = DeadZoneQuantizer(weight, 0.08, 3)
    reach = float(np.quantile(weight.abs().numpy(), 0.99))
    assert float(quantizer.reach) == pytest.approx(reach, rel=1e-5)
    assert float(quantizer.threshold().detach()) == pytest.approx(0.08, rel=1e-5)
    encoded = quantizer.encode("a", weight)
    assert torch.equal(encoded.weight(), quantizer(weight))
    assert torch.equal(encoded.codes == 0, weight.abs() <= quantizer.threshold())
    step = (reach - 0.08) / 2.5
    levels = torch.tensor([-1.0, 1.0]).outer(torch.tensor([0.08 + step / 2, 0.08 + 1.5 * step, reach]))
    assert torch.allclose(encoded.weight().unique(), torch.cat([levels.flatten(), torch.zeros(1)]).sort().values)


def thresholds(sparsity: float, fixed: dict[str, float] | None = None) -> tuple[Setup, Thresholds]:
    layers = {name: {"sparsity": share} for name, share in (fixed or {}).items()}
    work = setup(Budget(method="codeq", layers=layers, asks={"sparsity": sparsity, "bits": 4}))
    return work, attach(work)


def counts(each: Thresholds) -> dict[str, int]:
    return {
        name: int((each.weights[name].abs() <= quantizer.threshold()).sum())
        for name, quantizer in each.quantizers.items()
    }


@pytest.mark.parametrize("sparsity", [0.3, 0.9])
def test_zeros_follow_what_is_due_and_end_exact(sparsity: float) -> None:
    """Thresholds at hand-made ratios: the smallest abs(w) / τ of the network go, a share of each layer stays."""
    _, each = thresholds(sparsity, {"linear": 0.5})
    sizes = {name: weight.numel() for name, weight in each.weights.items()}
    for number, quantizer in enumerate(each.quantizers.values()):
        quantizer.set_threshold(0.01 * (1 + number % 3))
    each.raise_to(0.5)
    assert sum(counts(each).values()) == pytest.approx(0.5 * sparsity * sum(sizes.values()), rel=0.02)
    assert counts(each)["linear"] == pytest.approx(0.25 * sizes["linear"], abs=1)
    heights = {name: float(quantizer.threshold()) for name, quantizer in each.quantizers.items()}
    free = [name for name in heights if name != "linear"]
    for one, other in itertools.pairwise(free[:6]):
        expected = (1 + free.index(one) % 3) / (1 + free.index(other) % 3)
        assert heights[one] / heights[other] == pytest.approx(expected, rel=1e-3), "their ratios stay"
    each.freeze()
    zeros = {name: int((~quantizer.mask).sum()) for name, quantizer in each.quantizers.items()}
    assert sum(zeros.values()) == round(sparsity * sum(sizes.values()))
    assert zeros["linear"] == round(0.5 * sizes["linear"])
    assert all(zeros[name] < sizes[name] for name in zeros)
    for name, quantizer in each.quantizers.items():
        magnitude = each.weights[name].abs()
        assert not magnitude[~quantizer.mask].any()
        assert torch.equal(quantizer(each.weights[name]) != 0, quantizer.mask)


def test_a_frozen_zero_gets_no_gradient_and_momentum_cannot_move_it() -> None:
    work = setup(Budget(method="codeq", epochs=0.5, batch_size=32, seed=2, asks={"sparsity": 0.6, "bits": 3}))
    done = methods.get("codeq").run(work, Reporter())
    zeros = total = 0
    for module in done.model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            quantizer = module.parametrizations.weight[0]  # type: ignore[union-attr, index]
            original = module.parametrizations.weight.original  # type: ignore[union-attr]
            assert not original[~quantizer.mask].any()
            assert torch.equal(module.weight != 0, quantizer.mask)
            zeros, total = zeros + int((~quantizer.mask).sum()), total + quantizer.mask.numel()
    assert zeros == round(0.6 * total)


def test_thresholds_are_learned() -> None:
    """With a rate of nearly 0 all layers end at one height, as magnitude pruning has it; with one they differ."""
    ends = {}
    for rate in (1e-9, 0.05):
        asks = {"sparsity": 0.6, "bits": 4, "lr_quant": rate}
        work = setup(Budget(method="codeq", epochs=1, batch_size=32, seed=2, asks=asks))
        layers = methods.get("codeq").run(work, Reporter()).facts["layers"]
        heights = np.array([entry["threshold"] for entry in layers.values()])
        ends[rate] = heights.std() / heights.mean()
    assert ends[1e-9] < 0.02
    assert ends[0.05] > 3 * ends[1e-9]


def test_the_packed_file_has_as_many_zeros_as_asked(tmp_path: Path) -> None:
    folder, result = finished(tmp_path, "codeq")
    weights = integers(folder.bundle / "weights.packed")
    sizes = sum(weight.codes.numel() for weight in weights.values())
    assert sum(weight.zeros for weight in weights.values()) == round(0.4 * sizes)
    assert result["final"]["weight_sparsity"] == pytest.approx(0.4, abs=1e-4)


def test_oscillation_is_refused() -> None:
    with pytest.raises(CompressionError, match="codeq: oscillation"):
        methods.get("codeq").check_budget(Budget(method="codeq", options={"oscillation": "dampen"}))
