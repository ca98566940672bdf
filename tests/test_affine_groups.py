"""Affine groups: fits against brute force, the file bit for bit, hostile rows, ONNX in blocks, and a run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
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
from compression.graph.cuts import without
from compression.pack import pack, unpack
from compression.pack.container import to_bytes
from compression.quant import fold, integer_weights
from compression.quant.fixed_steps import attach
from compression.quant.group_plan import group_rounding
from compression.quant.groups import GroupQuantizer, GroupWeight, fit_groups, grouped, half_quadratic, rounded
from compression.training.setup import Reporter
from tests.alone import loader
from tests.contract.runs import budget, setup

CLIPS = ("max", "mse", "hqq")


def quantizer(weight: torch.Tensor, bits: int, group: int, clip: str) -> GroupQuantizer:
    return GroupQuantizer(fit_groups(weight, bits, group, clip), bits, group)


def student(*shape: int) -> torch.Tensor:
    return torch.from_numpy(0.03 * np.random.default_rng(3).standard_t(3, shape)).float()


def blocks_of(weight: torch.Tensor, group: int) -> list[np.ndarray]:
    """The groups of all rows, the last of each perhaps shorter: without the code that is tested."""
    rows = weight.double().reshape(len(weight), -1).numpy()
    return [row[start : start + group] for row in rows for start in range(0, rows.shape[1], group)]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(6, 5, 3, 3), (7, 50), (3, 64)])
def test_ranges_reach_from_the_least_to_the_largest_weight_and_hold_zero(bits: int, shape: tuple[int, ...]) -> None:
    weight = student(*shape) + 0.02
    result, top = quantizer(weight, bits, 16, "max")(weight), 2**bits - 1
    for block, values in zip(blocks_of(weight, 16), blocks_of(result, 16), strict=True):
        low, high = min(0.0, block.min()), max(0.0, block.max())
        step = (high - low) / top
        codes = values / step
        assert codes == pytest.approx(np.rint(codes), abs=2e-3 * top), "whole multiples of the step: 0 is on the grid"
        assert codes.max() - codes.min() < top * 1.002
        assert np.abs(block - values).max() <= 0.51 * step + 1e-3 * (high - low)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_shrunk_range_is_the_best_of_its_shares(bits: int) -> None:
    weight = student(8, 40)
    result, top = quantizer(weight, bits, 16, "mse")(weight), 2**bits - 1
    for block, values in zip(blocks_of(weight, 16), blocks_of(result, 16), strict=True):
        low, step = min(0.0, block.min()), (max(0.0, block.max()) - min(0.0, block.min())) / top
        zero = np.rint(-low / step)
        steps = [step * (1 - 0.05 * i) for i in range(11)]
        errors = [np.square(block - s * np.clip(np.rint(block / s), -zero, top - zero)).sum() for s in steps]
        assert np.square(block - values).sum() == pytest.approx(min(errors), rel=0.02, abs=1e-9)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_hqq_lowers_its_error_until_it_stops_and_beats_min_max(bits: int) -> None:
    weight = student(64, 128)
    blocks, top = grouped(weight, 64), 2.0**bits - 1
    low, high = blocks.amin(2), blocks.amax(2)
    steps = (high - low) / top
    zeros = (-low / steps).round()
    refined, sums = half_quadratic(blocks, steps, zeros, top)
    assert len(sums) > 2 and all(after < before for before, after in pairwise(sums))
    assert float((blocks - rounded(blocks, refined, zeros, top)).abs().sum()) == pytest.approx(sums[-1], rel=1e-5)
    errors = {clip: (weight - quantizer(weight, bits, 64, clip)(weight)).double() for clip in CLIPS}
    assert errors["hqq"].abs().sum() < errors["max"].abs().sum()
    assert errors["hqq"].square().sum() < errors["max"].square().sum()


def test_the_first_round_of_hqq_is_the_formula() -> None:
    """e = sgn(r) max(|r| - |r|^(p-1)/β, 0) of the error in steps, then s = Σ(w - e)k / Σk², group by group."""
    weight, top = student(2, 16).double(), 7.0
    blocks = grouped(weight, 8)
    low, high = blocks.amin(2).clamp(max=0), blocks.amax(2).clamp(min=0)
    steps = (high - low) / top
    zeros = (-low / steps).round()
    expected = steps.clone()
    for row in range(2):
        for group in range(2):
            s, z, w = float(steps[row, group]), float(zeros[row, group]), blocks[row, group].numpy()
            k = np.clip(np.rint(w / s), -z, top - z)
            r = w / s - k
            shrunk = np.sign(r) * np.maximum(np.abs(r) - np.maximum(np.abs(r), 1e-12) ** -0.3 / 10, 0) * s
            expected[row, group] = float(((w - shrunk) * k).sum() / (k * k).sum())
    before = (blocks - rounded(blocks, steps, zeros, top)).abs().sum()
    after = (blocks - rounded(blocks, expected, zeros, top)).abs().sum()
    _, sums = half_quadratic(blocks, steps, zeros, top)
    assert sums[0] == pytest.approx(float(before))
    assert float(after) >= float(before) or sums[1] == pytest.approx(float(after))


@pytest.mark.parametrize("seed", range(9))
def test_files_give_the_weights_back_bit_for_bit(seed: int, tmp_path: Path) -> None:
    """Random shapes, bits, groups and zeros; the loader of bundles reads the same."""
    random = np.random.default_rng(seed)
    shape = tuple(int(random.integers(1, 9)) for _ in range(int(random.integers(1, 5))))
    bits, group, clip = int(random.integers(2, 9)), int(random.choice([1, 3, 16, 64])), CLIPS[seed % 3]
    weight = torch.from_numpy(random.standard_t(2, shape) * 10.0 ** random.uniform(-6, 4)).float()
    weight[torch.from_numpy(random.random(shape) < 0.3)] = 0
    own = quantizer(weight, bits, group, clip)
    encoded, computed = own.encode("w", weight), own(weight)
    assert torch.equal(encoded.weight(), computed) and not bool(computed[weight == 0].any())
    data = to_bytes({"w.weight": computed}, {"w": encoded})
    (tmp_path / "p").write_bytes(data)
    for state in (unpack(tmp_path / "p"), loader()["weights"](data)):
        assert torch.equal(state["w.weight"].view(torch.int32), computed.view(torch.int32))


def test_a_layer_of_zeros_and_one_without_weights() -> None:
    for weight in (torch.zeros(3, 20), torch.zeros(0, 4), torch.zeros(3, 0)):
        own = quantizer(weight, 4, 16, "max")
        assert torch.equal(own(weight), weight)
        assert torch.equal(own.encode("w", weight).weight(), weight)


def test_cuts_shorten_groups_and_zeros_come_back() -> None:
    weight = student(4, 6, 3, 3)
    encoded, encoding = quantizer(weight, 4, 16, "max").encode("w", weight), get("groups")
    dropped = [(0, torch.tensor([1])), (1, torch.tensor([0, 1, 3]))]
    smaller = encoding.cut(encoded, dropped)
    assert torch.equal(smaller.weight(), without(encoded.weight(), dropped))
    assert smaller.sizes.tolist() == [9, 12, 6], "of 16, 16, 16 and 6: the first is gone"
    assert smaller.halves.shape == (3, 3)
    whole = encoding.put_back(smaller, dropped, encoded.shape)
    assert torch.equal(encoding.cut(whole, dropped).weight(), smaller.weight())
    assert int(torch.count_nonzero(whole.weight())) == int(torch.count_nonzero(smaller.weight()))
    assert sum(whole.sizes.tolist()) == 54


# Hostile files --------------------------------------------------------------------------------------------------------


def arrays() -> tuple[dict[str, Any], Any]:
    weight = student(3, 40)
    encoded = quantizer(weight, 3, 16, "max").encode("w", weight)
    assert isinstance(encoded, GroupWeight)
    streams = {"codes": {}, "sizes": {"size": 3}, "steps": {"size": 9}}
    row = {"name": "w", "kind": "groups", "shape": [3, 40], "bits": 3, "numbers": {"scale": 1}}
    row["streams"] = {name: {"coding": "fixed", "bytes": 1, **size} for name, size in streams.items()}
    return row, get("groups").arrays(encoded)


@pytest.mark.parametrize(
    ("stream", "place", "value", "message"),
    [
        ("codes", 0, 100, "do not fit into 3 bits"),
        ("codes", 7, -9, "do not fit into 3 bits"),
        ("sizes", 0, 15, "fill rows of 40"),
        ("sizes", 2, -8, "fill rows of 40"),
        ("steps", 4, 0, "no positive number"),
        ("steps", 4, 0x7C00, "no positive number"),
        ("steps", 4, -1, "no positive number"),
    ],
)
def test_streams_that_are_no_groups_are_refused(stream: str, place: int, value: int, message: str) -> None:
    row, stored = arrays()
    get("groups").verify(row, stored)
    stored.streams[stream] = stored.streams[stream].copy()
    stored.streams[stream][place] = value
    with pytest.raises(ValueError, match=message):
        get("groups").verify(row, stored)


@pytest.mark.parametrize(
    "change",
    [{"shape": []}, {"shape": [4, 40]}, {"streams": {}}, {"numbers": {}}, {"numbers": {"scale": 2}}, {"bits": 0}],
)
def test_rows_that_describe_no_groups_are_refused(change: dict[str, Any]) -> None:
    row, _ = arrays()
    get("groups").check(row)
    with pytest.raises((ValueError, CompressionError)):
        get("groups").check({**row, **change})


# ONNX and a run -------------------------------------------------------------------------------------------------------


def network(bits: int) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(24, 10),
    ).eval()  # fmt: skip
    for layer in (model[0], model[2], model[5]):
        own = quantizer(layer.weight, bits, 16, "max")
        parametrize.register_parametrization(layer, "weight", own, unsafe=True)
    return model


@pytest.mark.parametrize(
    ("bits", "stored", "cut"), [(4, "int4 groups", False), (8, "int8 groups", False), (3, "int4 groups", True)]
)
def test_onnx_dequantizes_in_blocks_and_agrees(bits: int, stored: str, cut: bool) -> None:
    model = network(bits)
    plain, weights = fold(model).eval(), integer_weights(model)
    if cut:  # groups of 7 and 16: no blocks, but a product
        weights["5"] = get("groups").cut(weights["5"], [(1, torch.arange(9))])
        plain[5] = nn.Linear(15, 10)
        plain[5].weight.data.copy_(weights["5"].weight())
        plain.insert(5, nn.Hardtanh(-9, 9))
        plain[4] = nn.Sequential(nn.Flatten(), First())
        weights["6"] = weights.pop("5")
    exported = integers(floats(program.traced(plain, torch.zeros(2, 3, 9, 9))), weights)
    types = {placed.layer: placed.type for placed in exported.weights}
    assert set(types.values()) <= {stored, "int8 groups", "int16 groups"} and types["0"] == stored
    nodes = [node for node in onnx.load_from_string(exported.data).graph.node if node.op_type == "DequantizeLinear"]
    assert len(nodes) == (2 if cut else 3)
    assert all({a.name: a.i for a in node.attribute}["block_size"] == 16 for node in nodes)
    x = torch.randn(4, 3, 9, 9)
    runner = onnxruntime.InferenceSession(exported.data, providers=["CPUExecutionProvider"])
    (answer,) = runner.run(None, {runner.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), plain(x).detach(), rtol=1e-4, atol=1e-5)


class First(nn.Module):
    """The first 15 numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :15]


@pytest.mark.parametrize("clip", CLIPS)
def test_runs_put_groups_on_every_layer_and_forecasts_count_them(clip: str, tmp_path: Path) -> None:
    method = methods.get("ptq")
    work = setup(budget("ptq", options={"group": 32, "clip": clip}).replace(asks={"bits": 3}))
    dense = {name: m.weight.detach().clone() for name, m in work.model.named_modules() if hasattr(m, "weight")}
    subject = Subject(work.model, work.graph)
    planned, forecast = method.allocation(subject, work.budget), method.forecast(subject, work.budget)
    attached = attach(setup(work.budget).model, planned)
    done = method.run(work, Reporter())
    weights = integer_weights(done.model)
    groups = 0
    for layer in planned.layers:
        weight = weights[layer.name].weight()
        assert torch.equal(weight, attached.get_submodule(layer.name).weight)
        assert layer.error == pytest.approx(float((dense[layer.name] - weight).double().square().sum()), rel=1e-4)
        assert layer.groups == len(blocks_of(weight, 32))
        groups += layer.groups
    counted = pack(done.model, tmp_path / "p")
    stored, expected = unpack(tmp_path / "p"), fold(done.model).state_dict()
    assert all(torch.equal(stored[name], tensor) for name, tensor in expected.items())
    assert 4 * len(weights) + groups < counted.scales < 4 * len(weights) + 2 * groups + 40 * len(weights)
    size = sum(layer.numel for layer in planned.layers)
    for row, layer in zip(forecast.layers, planned.layers, strict=True):  # steps of 16 bits, zero points of 3
        assert 0 <= row.low_bytes - layer.numel * 3 / 8 - layer.groups * (16 + 3) / 8 - 4 < 4
    assert forecast.low is not None
    assert forecast.low.nominal_bytes == pytest.approx(
        size * 3 / 8 + groups * (2 + 3 / 8) + 4 * (work.graph.params - size + len(weights)), rel=0.002
    )


def test_large_layers_are_estimated_on_a_part_of_their_groups() -> None:
    weight = student(400, 128)
    weights, widths = {"w": weight}, {"w": 4}
    (whole,) = group_rounding(weights, widths, 16, "mse").layers
    estimate = group_rounding(weights, widths, 16, "mse", sampled=True)
    assert estimate.layers[0].error == pytest.approx(whole.error, rel=0.1) and estimate.notes
    assert estimate.layers[0].error != whole.error
    assert estimate.layers[0].groups == whole.groups == 3200
