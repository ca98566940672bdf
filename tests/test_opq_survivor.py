"""Levels counted from the pruning threshold: their errors, their codes under training, in files and in ONNX."""

from __future__ import annotations

import copy
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy.integrate import quad
from torch import nn

from compression.cli import main
from compression.errors import CompressionError
from compression.export import program
from compression.export.onnx_int8 import calibrated
from compression.export.onnx_model import floats
from compression.export.onnx_model import integers as with_integers
from compression.methods.opq import Allocation, FixedQuantizer, LayerTables, allocate, attach
from compression.pack import integers, pack, unpack
from compression.quant import laplace
from compression.quant.fixed_steps import keep_survivors
from compression.quant.integers import fold, integer_weights
from compression.quant.steps import Survivors, best_steps
from compression.quant.tables import survivors
from compression.training.measure import sizes
from tests.alone import loader

IMAGES = (1, 8, 8)
KNOWN = {
    2: (2.0, 1.0), 3: (1.231358, 0.219015), 4: (0.714950, 0.0620881), 5: (0.415288, 0.0192708),
    6: (0.240120, 0.00613035), 7: (0.137623, 0.00194673), 8: (0.078062, 0.000610789),
}  # fmt: skip


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2), nn.Conv2d(4, 8, 3, groups=4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    ).eval()  # fmt: skip


def weights_of(size: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).laplace(scale=0.1, size=size), dtype=torch.float32)


def rounded(weight: torch.Tensor, mask: torch.Tensor, step: float, bits: int, offset: float) -> torch.Tensor:
    """Every survivor at its nearest level, by trying all levels."""
    levels = offset + (torch.arange(1, 2 ** (bits - 1), dtype=torch.float64) - 0.5) * step
    magnitude = weight.double().abs().flatten()
    nearest = levels[(magnitude[:, None] - levels).abs().argmin(1)]
    return (nearest * weight.double().flatten().sign() * mask.flatten()).view(weight.shape)


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", sorted(KNOWN))
def test_the_universal_step_is_the_minimum_of_the_integral(bits: int) -> None:
    step, error = laplace.best_survivor_step(bits)
    assert (step, error) == (pytest.approx(KNOWN[bits][0], rel=2e-5), pytest.approx(KNOWN[bits][1], rel=3e-6))
    top = laplace.levels_of(bits)

    def integral(a: float) -> float:
        def squared(y: float) -> float:
            return float((y - a * (min(int(y / a), top - 1) + 0.5)) ** 2 * math.exp(-y))

        edges = [*(k * a for k in range(top)), top * a, top * a + 60]
        return sum(quad(squared, low, high, epsabs=1e-15)[0] for low, high in itertools.pairwise(edges))

    assert integral(step) == pytest.approx(error, rel=1e-7)
    assert error < min(integral(0.97 * step), integral(1.03 * step))


@pytest.mark.parametrize("pruned", [0, 5, 1700, 2999])
@pytest.mark.parametrize("bits", [2, 3, 5, 8, 12])
def test_prefix_sums_are_the_direct_sum(bits: int, pruned: int) -> None:
    weight = weights_of(3000)
    table = LayerTables.prepare({"l": weight}).layers[0]
    offset, mask = table.threshold(pruned), survivors(weight, pruned)
    steps = np.geomspace(0.2, 3, 6) * 0.1 / 2 ** (bits - 2)
    errors = Survivors(table, pruned, offset=offset).errors(steps, bits)
    remaining = weight.double() * mask
    expected = [float((remaining - rounded(weight, mask, float(s), bits, offset)).square().sum()) for s in steps]
    assert errors == pytest.approx(expected, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("size", [12, 60, 3000])
def test_the_best_step_is_as_good_as_a_dense_sweep(size: int) -> None:
    table = LayerTables.prepare({"l": weights_of(size, 1)}).layers[0]
    survivors = Survivors(table, size // 2, offset=table.threshold(size // 2))
    choices = (2, 3, 4, 6, 8)
    steps, errors = best_steps(survivors, choices)
    assert np.all(np.diff(errors) <= 0)
    for bits, step, error in zip(choices, steps, errors, strict=True):
        top = (float(table.magnitudes[-1]) - survivors.start) / (laplace.levels_of(bits) - 0.5)
        swept = survivors.errors(np.geomspace(0.1 * top, 1.1 * top, 5_000), bits).min()
        assert error <= swept * (1.06 if bits == 8 else 1.002) + 1e-15
        assert float(np.float32(step)) == step


@pytest.mark.parametrize("tables", ["exact", "laplace"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_the_reported_error_is_that_of_the_model(sparsity: float, tables: str) -> None:
    dense = network()
    allocation = allocate(dense, sparsity, 3, grid="survivor", tables=tables)
    model = attach(copy.deepcopy(dense), allocation)
    for layer in allocation.layers:
        before, after = (m.get_submodule(layer.name).weight.detach().double() for m in (dense, model))
        assert float((before - after).square().sum()) == pytest.approx(layer.error, rel=1e-4)
        assert layer.offset == layer.threshold
        assert int((after == 0).sum()) == layer.pruned
    assert allocation.pruned == round(sparsity * allocation.numel)


def test_it_is_the_smaller_error_where_weights_are_pruned() -> None:
    layers = {f"l{i}": (i + 1) * weights_of(4000, i) for i in range(3)}
    for sparsity, bits in ((0.5, 3), (0.7, 4), (0.9, 4), (0.0, 3)):
        own, plain = (allocate(layers, sparsity, bits, grid=grid) for grid in ("survivor", "plain"))
        rest = [sum(x.error - x.pruning_error for x in allocation.layers) for allocation in (own, plain)]
        assert rest[0] < rest[1]
    modelled = allocate(layers, 0.7, 4, grid="survivor", tables="laplace")
    assert modelled.error == pytest.approx(allocate(layers, 0.7, 4, grid="survivor").error, rel=0.02)


def test_it_excludes_rounding_to_zero() -> None:
    with pytest.raises(CompressionError, match="zeros rounded does not go with grid survivor"):
        allocate({"l": weights_of(9)}, 0.5, 4, grid="survivor", zeros="rounded")


# The quantizer -------------------------------------------------------------------------------------------------------


def test_codes_values_and_gradients_of_a_few_weights() -> None:
    weight = torch.tensor([0.0, 0.04, -0.26, 0.39, -1.6, 0.3, 1.2], requires_grad=True)
    mask = torch.tensor([True, True, True, True, True, False, True])
    quantizer = FixedQuantizer(mask, 0.25, 3, offset=0.125)  # levels 0.25, 0.5, 0.75
    assert quantizer.codes(weight).tolist() == [0, 1, -1, 2, -3, 0, 3]
    quantized = quantizer(weight)
    assert quantized.tolist() == [0.0, 0.25, -0.25, 0.5, -0.75, 0.0, 0.75]
    quantized.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [1, 1, 1, 1, 0, 0, 0]  # 1.2 and 1.6 lie beyond 0.875
    assert (quantizer.shift(), quantizer.bits(), FixedQuantizer(mask, 0.25, 3).shift()) == (0.125, 3.0, None)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_masks_steps_and_offsets_survive_training(kind: str) -> None:
    model = network().train()
    attached = attach(model, allocate(model, 0.6, 3, grid="survivor"))
    fixed = {n: b.clone() for n, b in attached.named_buffers() if "parametrizations" in n}
    assert {name.rpartition(".")[2] for name in fixed} == {"mask", "step_size", "grid", "offset"}
    optimizer = (
        torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
        if kind == "sgd"
        else torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    )
    before = {name: weight.codes.clone() for name, weight in integer_weights(model).items()}
    for _ in range(10):
        optimizer.zero_grad()
        model(torch.randn(8, *IMAGES)).square().sum().backward()
        optimizer.step()
    keep_survivors(model)
    after = dict(model.named_buffers())
    assert all(torch.equal(after[name], buffer) for name, buffer in fixed.items())
    changed = 0
    for name, weight in integer_weights(model).items():
        mask = model.get_submodule(name).parametrizations.weight[0].mask
        assert torch.equal(weight.codes != 0, mask)
        changed += int((weight.codes != before[name]).sum())
        assert torch.equal(model.get_submodule(name).weight, weight.weight())
    assert changed > 20


def test_its_state_carries_the_levels_and_older_states_are_taken() -> None:
    dense = network()
    model = attach(copy.deepcopy(dense), allocate(dense, 0.5, 3, grid="survivor"))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = attach(copy.deepcopy(dense), allocate(dense, 0.2, 5))
    other.load_state_dict(state)
    x = torch.randn(4, *IMAGES)
    assert torch.equal(other(x), model(x))
    stored = {n: (w.bits, w.offset, w.step) for n, w in integer_weights(other).items()}
    assert stored == {n: (w.bits, w.offset, w.step) for n, w in integer_weights(model).items()}
    old = {n: t for n, t in state.items() if n.rpartition(".")[2] not in ("grid", "offset")}
    again = attach(copy.deepcopy(dense), allocate(dense, 0.5, 3, grid="survivor"))
    again.load_state_dict(old)
    assert torch.equal(again(x), model(x))


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 5, 8, 12])
@pytest.mark.parametrize("sparsity", [0.0, 0.7])
def test_the_packed_file_is_the_model_bit_for_bit(bits: int, sparsity: float, tmp_path: Path) -> None:
    model = network()
    attach(model, allocate(model, sparsity, bits, grid="survivor", scope="layer"))
    report = pack(model, tmp_path / "p")
    assert report.scales == 2 * 4 * 4
    assert report.total == (tmp_path / "p").stat().st_size == sum(report.to_dict().values()) - report.total
    assert (tmp_path / "p").read_bytes()[6:8] == b"\x04\x00"
    alone = loader()["weights"]((tmp_path / "p").read_bytes())
    expected, unpacked = fold(model).state_dict(), unpack(tmp_path / "p")
    assert list(unpacked) == list(expected)
    for name, tensor in expected.items():
        for each in (unpacked[name], alone[name]):
            assert each.dtype == tensor.dtype
            assert torch.equal(each.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)), name
    read = integers(tmp_path / "p")
    for name, weight in integer_weights(model).items():
        assert (read[name].step, read[name].offset, read[name].bits) == (weight.step, weight.offset, bits)
        assert torch.equal(read[name].codes, weight.codes)


def test_a_plain_grid_has_one_number_a_weight(tmp_path: Path) -> None:
    model = network()
    attach(model, allocate(model, 0.5, 3))
    assert pack(model, tmp_path / "p").scales == 4 * 4
    assert (tmp_path / "p").read_bytes()[6:8] == b"\x04\x00"


def test_sizes_of_points_count_the_offsets() -> None:
    from compression.graph import trace

    dense = network()
    graph = trace(dense, torch.zeros(1, *IMAGES))
    stored = {
        grid: sizes(attach(copy.deepcopy(dense), allocate(dense, 0.5, 3, grid=grid, scope="layer")), graph)
        for grid in ("plain", "survivor")
    }
    assert stored["survivor"]["nominal_bytes"] == stored["plain"]["nominal_bytes"] + 4 * 4
    assert stored["survivor"]["bops"] == stored["plain"]["bops"]


# ONNX ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "kind"), [(3, "int4 table"), (6, "int8 table"), (12, "int16 table")])
def test_onnx_looks_the_levels_up(bits: int, kind: str) -> None:
    model = network()
    with torch.no_grad():
        model[1].running_var.uniform_(0.2, 3)
        model[1].weight.uniform_(-2, 2)
    attach(model, allocate(model, 0.5, bits, grid="survivor", scope="layer"))
    known, plain, x = integer_weights(model), fold(model), torch.randn(16, *IMAGES)
    with torch.no_grad():
        expected = plain(x)
    raw = floats(program.traced(plain, torch.zeros(2, *IMAGES)))
    file = with_integers(raw, known)
    assert {placed.layer: placed.type for placed in file.weights} == dict.fromkeys(known, kind)
    assert {placed.layer: placed.channels for placed in file.weights} == {"0": True, "3": False, "4": False, "7": False}
    held = {
        array.name: onnx.numpy_helper.to_array(array) for array in onnx.load_from_string(file.data).graph.initializer
    }
    for name, weight in known.items():
        codes = held[f"{name}.weight.codes"].astype(np.int32)
        turned = codes.shape != tuple(weight.codes.shape)
        own, values = (each.T if turned else each for each in (weight.codes.numpy(), weight.weight().numpy()))
        assert np.array_equal(np.abs(codes), np.abs(own))
        if name != "0":  # no batch norm is folded into it
            assert np.allclose(held[f"{name}.weight.table"][codes], values, rtol=1e-6, atol=0)
    assert not any(name.endswith(".weight") for name in held)
    eight, added = calibrated(with_integers(raw, known, arithmetic=True), [x])
    assert added == 0 and not any(placed.integer for placed in eight.weights)
    for data in (file.data, eight.data):
        runner = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        output = torch.tensor(runner.run(None, {runner.get_inputs()[0].name: x.numpy()})[0])
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


# A run ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("option", ["grid=survivor", "codebook=channel"])
def test_a_run_from_the_command_line(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "resnet8", "--data", "mnist5k", "--method", "opq", "--sparsity", "0.6", "--bits", "3"]
    command = ["run", *options, "--epochs", "0.3", "--option", option, "--runs", str(tmp_path / "runs")]
    assert main([*command, "--json", str(tmp_path / "result.json")]) == 0
    result: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == "done" and result["equality"] <= 1e-4
    allocation = Allocation.from_dict(result["facts"]["allocation"])
    assert option == f"grid={allocation.grid}" or option == f"codebook={allocation.codebook}"
    assert result["ledger"]["scales"] == 4 * sum(layer.floats for layer in allocation.layers)
    held = integers(tmp_path / "runs" / result["run"] / "bundle" / "weights.packed")
    for layer in allocation.layers:
        weight = held[layer.name]
        assert (weight.offset, weight.bits) == (layer.offset, layer.bits)
        scales = np.float32(layer.scales or [1.0]) * np.float32(layer.step)
        assert np.array_equal(np.float32(weight.steps), scales)
        assert int((weight.codes == 0).sum()) == layer.pruned
    assert main(["run", *options, "--option", "grid=round", "--runs", str(tmp_path / "runs")]) == 2
    assert "grid must be one of plain, survivor" in capsys.readouterr().err
