"""Schemes of quantizing a layer against brute force and closed forms, and through a run to the file and ONNX."""

from __future__ import annotations

import json
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from compression import methods
from compression.encodings import get
from compression.errors import CompressionError
from compression.export import program
from compression.export.onnx_model import floats, integers
from compression.forecast import Subject
from compression.pack import pack, unpack
from compression.quant import fold, integer_weights
from compression.quant.allocation import Allocation
from compression.quant.fixed_steps import attach
from compression.quant.levels import LevelQuantizer
from compression.quant.nearest import rounding
from compression.quant.schemes import SCHEMES, Fit, _mean_rest, _sums, fit, level_error
from compression.quant.tables import LayerTable, LayerTables
from compression.training.setup import Reporter
from tests.contract.runs import budget, setup

SHAPE = (24, 40)
KINDS = ("normal", "student", "sparse", "few")


def weight_of(kind: str) -> torch.Tensor:
    random = np.random.default_rng(7)
    numbers = random.standard_t(3, SHAPE) if kind == "student" else random.normal(size=SHAPE)
    if kind == "sparse":
        numbers *= random.random(SHAPE) < 0.3
    weight = torch.from_numpy(0.05 * numbers).float()
    return weight[:3, :3] if kind == "few" else weight


def table_of(weight: torch.Tensor) -> LayerTable:
    return LayerTables.prepare({"w": weight}).layers[0]


def levels_of(fitted: Fit) -> np.ndarray:
    """Every value that a weight other than 0 may take."""
    if fitted.levels is not None:
        positive = np.array(fitted.levels)
    elif fitted.middle:
        positive = (np.arange(2 ** (fitted.bits - 1)) + 0.5) * fitted.step
    else:
        positive = np.arange(1, 2 ** (fitted.bits - 1)) * fitted.step
    zero = [] if fitted.middle or fitted.levels is not None else [0.0]
    return np.concatenate([-positive, zero, positive])


def brute_error(weight: torch.Tensor, levels: np.ndarray) -> float:
    """Σ (w - ŵ)² by looking at every level for every weight; 0 stays 0."""
    numbers = weight.double().flatten().numpy()
    return float(np.square(numbers[:, None] - levels).min(1)[numbers != 0].sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_errors_are_those_of_the_levels_and_best_is_the_least(kind: str, bits: int) -> None:
    weight = weight_of(kind)
    fits = {scheme: fit(table_of(weight), bits, scheme) for scheme in SCHEMES}
    for fitted in fits.values():
        assert fitted.error == pytest.approx(brute_error(weight, levels_of(fitted)), rel=1e-4, abs=1e-10)
    best = fit(table_of(weight), bits, "best")
    assert best.error == min(fitted.error for fitted in fits.values())
    assert fits["residual"].error <= fits["midrise"].error * (1 + 1e-6), "its sums can be the other's levels"


@pytest.mark.parametrize("kind", ["normal", "student", "few"])
def test_one_bit_is_the_mean_magnitude(kind: str) -> None:
    """Binary: α = E|w|, and the error Σw² - n α²."""
    weight = weight_of(kind).double()
    alpha, count = float(weight.abs().mean()), weight.numel()
    for scheme in ("residual", "midrise"):
        fitted = SCHEMES[scheme](table_of(weight.float()), 1)
        level = fitted.levels[0] if fitted.levels is not None else fitted.step / 2
        assert level == pytest.approx(alpha, rel=1e-5)
        assert fitted.error == pytest.approx(float(weight.square().sum()) - count * alpha**2, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_ternary_is_the_best_of_all_thresholds(kind: str) -> None:
    weight = weight_of(kind).double().flatten()
    errors = []
    for threshold in weight.abs().unique():
        others = weight.abs() >= threshold
        if bool(weight[others].any()):
            step = weight[others].abs().mean()
            errors.append(float((weight - step * weight.sign() * others).square().sum()))
    fitted = fit(table_of(weight.float()), 6, "ternary")
    assert fitted.error == pytest.approx(min(errors), rel=1e-5) and fitted.bits == 2
    usual = weight.abs() > 0.7 * weight.abs().mean()
    step = weight[usual].abs().mean()
    assert fitted.error <= float((weight - step * weight.sign() * usual).square().sum()) * (1 + 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_residual_errors_fall_with_every_scale_and_its_levels_are_sums(kind: str) -> None:
    table = table_of(weight_of(kind))
    fits = [SCHEMES["residual"](table, bits) for bits in range(1, 9)]
    errors = [fitted.error for fitted in fits]
    assert all(after <= before for before, after in pairwise(errors))
    assert errors[3] < 0.5 * errors[1] or kind == "few"
    for bits, fitted in enumerate(fits[:4], start=1):
        levels = np.array(fitted.levels)
        # the scales are half the differences that one sign makes: those of the largest sum and its neighbours
        assert len(levels) == 2 ** (bits - 1)
        scales = _scales(levels, bits)
        sums = sorted(abs(float(np.dot(signs, scales))) for signs in product((-1, 1), repeat=bits))[::2]
        assert levels == pytest.approx(np.array(sums), rel=1e-4, abs=1e-4 * levels[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_scale_is_the_mean_of_what_the_others_leave_over(kind: str) -> None:
    """ResQ: α = E|r| brings the error to Σr² - n α² or below, r being the distance from the nearest sum."""
    weight, scales = weight_of(kind), np.zeros(0)
    numbers = weight.double().flatten().numpy()
    numbers = numbers[numbers != 0]
    for _ in range(3):
        sums = np.array([np.dot(signs, scales) for signs in product((-1, 1), repeat=len(scales))])
        rest = np.abs(numbers[:, None] - sums).min(1) if len(scales) else np.abs(numbers)
        step = _mean_rest(table_of(weight), scales)
        assert step == pytest.approx(rest.mean(), rel=1e-4)
        scales = np.append(scales, step)
        levels = _sums(scales)[0]
        bound = np.square(rest).sum() - len(rest) * step**2
        assert level_error(table_of(weight), levels) <= bound * (1 + 1e-6)


def _scales(levels: np.ndarray, bits: int) -> np.ndarray:
    """Scales whose sums are ± the levels: the largest sum less twice a scale is a sum, too; smallest scales first."""
    every, scales = sorted([*levels, *-levels], reverse=True), np.zeros(0)
    for level in every[1:]:
        parts = [float(np.dot(signs, scales)) for signs in product((0, 1), repeat=len(scales))]
        known = np.isclose(every[0] - 2 * np.array(parts), level, atol=1e-5 * every[0]).any()
        if len(scales) < bits and not known:
            scales = np.append(scales, (every[0] - level) / 2)
    return scales


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [2, 3, 4, 9])
def test_powers_of_two_are_exact_and_no_scale_does_better(kind: str, bits: int) -> None:
    weight = weight_of(kind)
    fitted = fit(table_of(weight), bits, "power2")
    assert fitted.levels is not None and len(fitted.levels) == 2 ** (min(bits, 5) - 1) and fitted.bits == min(bits, 5)
    assert [low * 2 for low in fitted.levels[:-1]] == list(fitted.levels[1:])
    powers = 2.0 ** -np.arange(len(fitted.levels))[::-1]
    scales = np.linspace(0.05, 1.5, 500) * float(weight.abs().max())
    others = [level_error(table_of(weight), scale * powers) for scale in scales]
    assert fitted.error <= min(others) * (1.002 if kind != "few" else 1.05)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_step_of_the_midrise_grid_does_better(bits: int) -> None:
    for kind in KINDS:
        weight = weight_of(kind)
        steps = np.linspace(0.02, 1.0, 400) * float(weight.abs().max()) / 2 ** (bits - 2)
        grid = np.arange(2 ** (bits - 1)) + 0.5
        others = [level_error(table_of(weight), step * grid) for step in steps]
        assert fit(table_of(weight), bits, "midrise").error <= min(others) * 1.0001


def test_a_layer_of_zeros_and_constants() -> None:
    for scheme in (*SCHEMES, "best"):
        assert fit(table_of(torch.zeros(3, 3)), 4, scheme).error == 0
        assert fit(table_of(torch.full((3, 3), -0.5)), 4, scheme).error == pytest.approx(0, abs=1e-9)


# In a run -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["midrise", "power2", "ternary", "best"])
def test_runs_give_every_layer_its_scheme_and_files_hold_the_weights(scheme: str, tmp_path: Path) -> None:
    work = setup(budget("ptq", options={"scheme": scheme}).replace(asks={"bits": 3}))
    dense = {name: m.weight.detach().clone() for name, m in work.model.named_modules() if hasattr(m, "weight")}
    subject, requested = Subject(work.model, work.graph), work.budget
    planned = methods.get("ptq").allocation(subject, requested)
    forecast = methods.get("ptq").forecast(subject, requested)
    attached = attach(setup(requested).model, planned)
    done = methods.get("ptq").run(work, Reporter())
    layers = {layer["name"]: layer for layer in done.facts["allocation"]["layers"]}
    weights = integer_weights(done.model)
    assert weights.keys() == layers.keys() == {layer.name for layer in planned.layers}
    for name, weight in weights.items():
        away = float((dense[name] - weight.weight()).double().square().sum())
        assert away == pytest.approx(layers[name]["error"], rel=1e-4)
        torch.testing.assert_close(weight.weight(), attached.get_submodule(name).weight.detach(), rtol=1e-6, atol=0)
        assert layers[name]["scheme"] in ({*SCHEMES} if scheme == "best" else {scheme})
        assert weight.bits == layers[name]["bits"] == (2 if scheme == "ternary" else 3)
    counted = pack(done.model, tmp_path / "p")
    stored, expected = unpack(tmp_path / "p"), fold(done.model).state_dict()
    assert all(torch.equal(stored[name], tensor) for name, tensor in expected.items())
    numbers = sum(each.floats for each in planned.layers)
    assert counted.scales == 4 * numbers
    assert forecast.low is not None and forecast.error is not None
    nominal = sum(w.weight().numel() * w.bits / 8 for w in weights.values()) + 4 * numbers
    assert forecast.low.nominal_bytes == pytest.approx(
        nominal + 4 * (work.graph.params - sum(w.weight().numel() for w in weights.values()))
    )
    others = 4 * (work.graph.params - sum(layer.numel for layer in planned.layers))
    assert sum(layer.low_bytes for layer in forecast.layers) + others == pytest.approx(forecast.low.nominal_bytes)
    sentence = methods.get("ptq").caveats({"facts": done.facts})
    chosen = {layer["scheme"] for layer in layers.values()} - {None}
    assert all(any(name in each for each in sentence) for name in chosen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "best", "clip": "max"}, "clip max is for scheme uniform, not best"),
        ({"scheme": "power2", "group": 64}, "group 64 is for scheme uniform, not power2"),
        ({"clip": "hqq"}, "clip hqq refines the steps of groups: set group"),
        ({"clip": "percentile", "group": 64}, "clip percentile is for whole layers"),
        ({"clip_percentile": 101.0}, "clip_percentile must be a number in 50..100"),
        ({"group": 48}, "group must be one of 0, 16"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        methods.get("ptq").check_budget(budget("ptq", options=options))


def test_allocations_survive_json_and_refuse_what_no_layer_can_have() -> None:
    tables = LayerTables.prepare({"w": weight_of("normal"), "v": weight_of("few")})
    planned = rounding(tables, {"w": 3, "v": 2}, scheme="best")
    plain = json.loads(json.dumps(planned.to_dict()))
    assert Allocation.from_dict(plain) == planned
    changes = (
        ({"levels": plain["layers"][0]["levels"][::-1]}, "levels must be at most 4, ascending"),
        ({"levels": [0.1] * 9}, "levels must be at most 4, ascending"),
        ({"scheme": None}, "scheme does not go with grid mixed"),
        ({"group": 64}, "group, groups and clip go together"),
        ({"clip": "least"}, "clip must be"),
    )
    for change, message in changes:
        layers = [{**plain["layers"][0], **change}, plain["layers"][1]]
        with pytest.raises(CompressionError, match=message):
            Allocation.from_dict({**plain, "layers": layers})


@pytest.mark.parametrize("percentile", [60.0, 90.0, 99.9, 100.0])
def test_a_percentile_of_the_magnitudes_is_the_last_level(percentile: float) -> None:
    weight = weight_of("student")
    (layer,) = rounding(LayerTables.prepare({"w": weight}), {"w": 4}, "percentile", percentile=percentile).layers
    within = (weight.abs() <= np.float32(layer.step * 7) * (1 + 1e-6)).double().mean()
    assert percentile / 100 <= float(within) < percentile / 100 + 2 / weight.numel()


def test_levels_without_zero_take_as_many_bits_in_onnx_as_they_have() -> None:
    """2^4 levels in int4: of a table, and of odd multiples of half a step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 4)).eval()
    quantizers = (LevelQuantizer(torch.arange(1, 9) ** 2 / 200), LevelQuantizer(step=0.03, count=8))
    for layer, quantizer in zip((model[0], model[3]), quantizers, strict=True):
        parametrize.register_parametrization(layer, "weight", quantizer, unsafe=True)
    weights, x = integer_weights(model), torch.randn(6, 2, 6, 6)
    assert [weight.kind for weight in weights.values()] == ["levels", "offset"]
    exported = integers(floats(program.traced(fold(model), torch.zeros(2, 2, 6, 6))), weights)
    assert [placed.type for placed in exported.weights] == ["int4 table", "int4 table"]
    runner = onnxruntime.InferenceSession(exported.data, providers=["CPUExecutionProvider"])
    (answer,) = runner.run(None, {runner.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), model(x).detach(), rtol=1e-4, atol=1e-5)


def test_zeros_stay_zero_and_the_gradient_ends_at_the_last_level() -> None:
    quantizer = LevelQuantizer(torch.tensor([0.1, 0.4]))
    weight = torch.tensor([0.0, -0.01, 0.24, 0.26, -3.0], requires_grad=True)
    values = quantizer(weight)
    assert values.tolist() == pytest.approx([0, -0.1, 0.1, 0.4, -0.4])
    values.sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [0, 1, 1, 1, 0]
    encoded = quantizer.encode("w", weight.detach())
    assert torch.equal(encoded.weight(), values.detach()) and encoded.zeros == 1


@pytest.mark.parametrize(
    ("changed", "message"), [({"bits": 5}, "levels are not those of 5 bits"), ({"numbers": {"level": 0}}, "levels")]
)
def test_rows_that_describe_no_levels_are_refused(changed: dict[str, object], message: str) -> None:
    stream = {"coding": "fixed", "bytes": 1}
    row = {
        "name": "w",
        "kind": "levels",
        "shape": [2],
        "bits": 2,
        "streams": {"codes": stream},
        "numbers": {"level": 2},
    }
    get("levels").check(row)
    with pytest.raises((ValueError, CompressionError), match=message):
        get("levels").check({**row, **changed})


def test_codes_beyond_the_levels_are_refused() -> None:
    encoding = get("levels")
    weight = LevelQuantizer(torch.tensor([0.1, 0.4])).encode("w", torch.tensor([0.3, -0.05]))
    arrays = encoding.arrays(weight)
    encoding.verify({}, arrays)
    arrays.streams["codes"][0] = -3
    with pytest.raises(ValueError, match="a code lies beyond 2 levels"):
        encoding.verify({}, arrays)
