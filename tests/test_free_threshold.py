"""Two bits with two numbers: the threshold below which a weight is 0, and the step, learned apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compression import methods
from compression.methods import Reporter
from compression.methods.geta.options import GetaOptions
from compression.methods.geta.run import attach
from compression.quant import quantize, weight_quantizers
from compression.quant.clipping import best_clip, fit_clips
from compression.quant.fixed_bits import FixedBits
from compression.quant.quantizer import Quantizer
from tests.contract.runs import budget, setup

TINY = 1e-6


@pytest.mark.parametrize("shape", ["normal", "laplace", "uniform"])
def test_by_squared_error_one_number_is_enough(shape: str) -> None:
    """Whatever threshold and step are tried, the least error has 0 up to half a step: the fit with one number has it.

    With the k largest weights at ±s, the best s is their mean, so that all ternary roundings are tried.
    """
    weights = np.asarray(getattr(np.random.default_rng(0), shape)(size=4000))
    sizes = np.sort(np.abs(weights))[::-1]
    means = np.cumsum(sizes) / np.arange(1, len(sizes) + 1)
    errors = (sizes**2).sum() - means**2 * np.arange(1, len(sizes) + 1)
    k = int(errors.argmin())
    assert sizes[k] >= means[k] / 2 >= sizes[k + 1]
    bound = best_clip(torch.from_numpy(weights), 2)
    assert bound == pytest.approx(means[k], rel=0.03)
    rounded = np.where(np.abs(weights) > bound / 2, np.sign(weights) * bound, 0)
    assert ((weights - rounded) ** 2).sum() == pytest.approx(errors[k], rel=1e-3)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_range_is_fitted_under_an_exponent(per_channel: bool) -> None:
    """Against every bound of a fine grid, with the rounding written out."""
    torch.manual_seed(1)
    model = quantize(nn.Sequential(nn.Linear(60, 3)), 6, exponent=True, per_channel=per_channel)
    quantizer = weight_quantizers(model)["0"]
    assert isinstance(quantizer, Quantizer) and quantizer.exponent is not None
    with torch.no_grad():
        quantizer.exponent.fill_(1.3)
    quantizer.set_bits(6)
    fit_clips(model, lambda layer, _: 3)
    assert quantizer.bits() == 6
    weight = model[0].parametrizations.weight.original.detach()
    for row, bound in zip(weight if per_channel else [weight], quantizer.clip.flatten(), strict=True):
        assert _error(row, bound.item()) <= 1.02 * min(_error(row, at) for at in np.linspace(0.02, 0.2, 400))


def _error(weight: torch.Tensor, bound: float, t: float = 1.3, levels: int = 3) -> float:
    raised, step = weight.abs().clamp(max=bound) ** t, bound**t / levels
    return float(((raised / step).round() * step * weight.sign() - weight).square().sum())


def test_range_and_exponent_get_the_gradient_of_the_step_that_follows_them() -> None:
    """Finite differences along d = q_m^t / N, with the rounding held where it is."""
    torch.manual_seed(0)
    model = quantize(nn.Sequential(nn.Linear(6, 5)).double(), 8, exponent={"0"})
    held = FixedBits(model, {"0": 3}, None)
    quantizer = weight_quantizers(model)["0"].double()
    with torch.no_grad():
        quantizer.clip.mul_(0.6)
        quantizer.exponent.fill_(1.2)
    held.hold()
    weight = model[0].parametrizations.weight.original.detach()
    upstream = torch.randn(5, 6, dtype=torch.float64)
    clip, t = float(quantizer.clip.detach()), float(quantizer.exponent.detach())

    def value(at_clip: float, at_t: float) -> float:
        position = weight.abs().clamp(max=clip) ** t / (clip**t / 3)
        residue = position.round() - position
        raised = torch.where(weight.abs() <= clip, weight.abs(), at_clip) ** at_t
        return float((weight.sign() * (raised + at_clip**at_t / 3 * residue) * upstream).sum())

    slopes = [
        (value(clip + TINY, t) - value(clip - TINY, t)) / (2 * TINY),
        (value(clip, t + TINY) - value(clip, t - TINY)) / (2 * TINY),
    ]
    (model[0].weight * upstream).sum().backward()
    held.step(1e-3)
    assert float(quantizer.clip) == pytest.approx(clip - 1e-3 * slopes[0], rel=1e-6)
    assert float(quantizer.exponent) == pytest.approx(t - 1e-3 * slopes[1], rel=1e-6)
    assert quantizer.bits() == 3 and quantizer.exponent.grad is None


@pytest.mark.parametrize("method", ["geta", "sequential"])
def test_thresholds_of_a_run_are_learned_apart_from_steps(method: str) -> None:
    """Ternary weights whose zeros do not end at half a step, which the packed file has bit for bit."""
    bits: Any = (2, 2)
    requested = budget(method, options={"free_threshold": True}).replace(weight_bits=bits, epochs=2, lr_quant=0.1)
    work = setup(requested)
    compressed = methods.get(method).run(work, Reporter()).model
    quantizers = weight_quantizers(compressed)
    assert {quantizer.bits() for quantizer in quantizers.values()} == {2.0}
    moved = 0
    for name, quantizer in quantizers.items():
        assert isinstance(quantizer, Quantizer) and quantizer.exponent is not None
        module = compressed.get_submodule(name)
        weight, original = module.weight.detach(), module.parametrizations.weight.original.detach()
        d = float(quantizer.step_size)
        assert set((weight / d).round().flatten().tolist()) <= {-1.0, 0.0, 1.0}
        largest_zero = float(original[weight == 0].abs().max()) if (weight == 0).any() else 0.0
        threshold = (d / 2) ** (1 / float(quantizer.exponent))
        assert largest_zero <= threshold * (1 + 1e-5)
        assert float(original[weight != 0].abs().min()) >= threshold * (1 - 1e-5)
        moved += abs(threshold / (d / 2) - 1) > 1e-3
        integers = quantizer.encode(name, original)
        assert torch.equal(integers.weight(), weight)
    assert moved > len(quantizers) / 2


def test_only_layers_that_may_end_at_two_bits_have_a_threshold() -> None:
    layers = {"linear": {"weight_bits": (3, 6)}}
    work = setup(budget("geta", layers=layers).replace(weight_bits=(2, 6)))
    attach(work, GetaOptions(free_threshold=True), Reporter())
    quantizers = weight_quantizers(work.model)
    assert [name for name, q in quantizers.items() if q.exponent is None] == ["linear"]
    plain = setup(budget("geta"))
    attach(plain, GetaOptions(free_threshold=True), Reporter())
    assert all(q.exponent is None for q in weight_quantizers(plain.model).values()), "bits of 3 and more"
