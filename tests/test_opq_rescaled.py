"""One set of levels with a scale for each channel: an addition to OPQ, in allocation, training, files and ONNX."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import compression as cx
from compression.errors import CompressionError
from compression.export import program
from compression.export.onnx_model import floats
from compression.export.onnx_model import integers as with_integers
from compression.graph import trace
from compression.methods.opq import LayerTables, allocate, allocate_from, attach
from compression.methods.opq.options import OpqOptions
from compression.pack import integers, pack, unpack
from compression.quant import laplace
from compression.quant.channel_scales import rescaled
from compression.quant.fixed_steps import keep_survivors
from compression.quant.integers import fold, integer_weights
from compression.quant.steps import best_steps
from compression.quant.tables import survivors
from compression.training.measure import sizes
from tests.alone import loader

IMAGES = (1, 8, 8)
AXES = {"0": 0, "3": 0, "4": 1, "7": 0}
CHANNELS = {"0": 8, "3": 8, "4": 6, "7": 10}


def network() -> nn.Sequential:
    """A plain, a depthwise and a transposed convolution and a linear layer, with channels of different sizes."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 6, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for name, axis in AXES.items():
            weight = model.get_submodule(name).weight
            spread = torch.linspace(-1.5, 1.5, weight.shape[axis]).exp()
            weight.mul_(spread.reshape([-1 if dim == axis else 1 for dim in range(weight.dim())]))
    return model


def channels_of(weight: torch.Tensor, axis: int) -> torch.Tensor:
    return weight.movedim(axis, 0).flatten(1)


@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize("lowest", [0, 1])
def test_the_error_is_the_direct_sum_for_every_step(name: str, lowest: int) -> None:
    weight, axis = network().get_submodule(name).weight.detach(), AXES[name]
    table = next(t for t in LayerTables.prepare(network(), channels=True).layers if t.name == name)
    for pruned in (0, table.size // 2):
        rest, scales = rescaled(table, pruned, lowest)
        mask = survivors(weight, pruned)
        rows, remaining = (channels_of(each, axis).double() for each in (weight.abs() * mask, mask))
        means = rows.sum(1) / remaining.sum(1).clamp(min=1)
        alive = remaining.sum(1) > 0
        assert torch.allclose(torch.tensor(scales, dtype=torch.float64)[alive], means[alive], rtol=1e-6)
        assert rest.count == int(mask.sum())
        for bits in (2, 4, 6):
            steps = np.geomspace(0.05, 2, 9)
            expected = []
            for step in steps:
                unit = torch.tensor(scales, dtype=torch.float64)[:, None] * step
                codes = (rows / unit).round().clamp(lowest, laplace.levels_of(bits)) * remaining
                expected.append(float((rows - codes * unit).square().sum()))
            assert rest.errors(steps, bits) == pytest.approx(expected, rel=1e-5, abs=1e-12)
            best = best_steps(rest, (bits,))[1][0]
            assert best <= rest.errors(np.geomspace(0.01, 8, 4000), bits).min() * 1.02 + 1e-15


@pytest.mark.parametrize("tables", ["exact", "laplace"])
@pytest.mark.parametrize("sparsity", [0.0, 0.6, 0.97])
def test_the_reported_error_is_that_of_the_model(sparsity: float, tables: str) -> None:
    dense = network()
    allocation = allocate(dense, sparsity, 4, codebook="channel", tables=tables)
    model = attach(copy.deepcopy(dense), allocation)
    plain = allocate(dense, sparsity, 4)
    assert [x.pruned for x in allocation.layers] == [x.pruned for x in plain.layers]
    assert allocation.value_bits <= allocation.budget_bits == plain.budget_bits
    for layer in allocation.layers:
        before, after = (m.get_submodule(layer.name).weight.detach().double() for m in (dense, model))
        assert float((before - after).square().sum()) == pytest.approx(layer.error, rel=1e-4)
        assert layer.scales is not None
        assert (layer.axis, len(layer.scales), layer.floats) == (AXES[layer.name], *[CHANNELS[layer.name]] * 2)
        assert int((after == 0).sum()) == layer.pruned


def test_channels_of_equal_scale_are_opq() -> None:
    rows = torch.tensor(np.random.default_rng(0).laplace(size=400), dtype=torch.float32).repeat(5, 1)
    same, one = (allocate({"l": rows}, 0.0, 4, codebook=book, zeros="rounded") for book in ("channel", "layer"))
    tables = LayerTables.prepare({"l": rows}, channels=True)
    assert allocate_from(tables, 0.0, 4, codebook="channel", zeros="rounded") == same
    assert same.error == pytest.approx(one.error, rel=1e-4)


def test_it_is_named_an_addition_and_what_it_excludes_is_said() -> None:
    codebook = next(option for option in OpqOptions.table() if option.name == "codebook")
    assert "addition" in codebook.help and codebook.default == "layer"
    with pytest.raises(CompressionError, match="codebook channel does not go with grid survivor"):
        allocate(network(), 0.5, 4, codebook="channel", grid="survivor")
    with pytest.raises(CompressionError, match="prepared without channels"):
        allocate_from(LayerTables.prepare(network()), 0.5, 4, codebook="channel")


def test_masks_and_scales_survive_training() -> None:
    model = network().train()
    attach(model, allocate(model, 0.6, 3, codebook="channel"))
    fixed = {n: b.clone() for n, b in model.named_buffers() if "parametrizations" in n}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.003, momentum=0.9, weight_decay=0.1)
    before = {name: weight.codes.clone() for name, weight in integer_weights(model).items()}
    for _ in range(10):
        optimizer.zero_grad()
        model(torch.randn(8, *IMAGES)).square().sum().backward()
        optimizer.step()
    keep_survivors(model)
    after = dict(model.named_buffers())
    assert all(torch.equal(after[name], buffer) for name, buffer in fixed.items())
    for name, weight in integer_weights(model).items():
        assert weight.axis == AXES[name]
        assert torch.equal(weight.codes != 0, model.get_submodule(name).parametrizations.weight[0].mask)
        assert torch.equal(weight.weight(), model.get_submodule(name).weight)
    assert any(not torch.equal(weight.codes, before[name]) for name, weight in integer_weights(model).items())


def test_a_removed_channel_takes_its_scale_along() -> None:
    dense = network()
    graph = trace(dense, torch.zeros(1, *IMAGES))
    model = attach(copy.deepcopy(dense), allocate(dense, 0.3, 4, codebook="channel"))
    before = {name: weight.steps for name, weight in integer_weights(model).items()}
    assert {group.id for group in graph.prunable} == {"0", "4"}
    cx.zero_units(model, graph, {"0": [1, 6], "4": [0]})
    small, report = cx.slim_report(model, graph)
    assert report.equality <= 1e-6
    removed = {"0": [1, 6], "3": [1, 6], "4": [0], "7": []}
    for name, weight in integer_weights(small).items():
        assert weight.steps == [step for i, step in enumerate(before[name]) if i not in removed[name]]
    assert small(torch.randn(2, *IMAGES)).shape == (2, 10)


@pytest.mark.parametrize("bits", [2, 5, 12])
@pytest.mark.parametrize("sparsity", [0.0, 0.7])
def test_the_packed_file_is_the_model_bit_for_bit(bits: int, sparsity: float, tmp_path: Path) -> None:
    model = network()
    attach(model, allocate(model, sparsity, bits, codebook="channel", scope="layer"))
    report = pack(model, tmp_path / "p")
    assert report.scales == 4 * sum(CHANNELS.values())
    assert (tmp_path / "p").read_bytes()[6:8] == b"\x04\x00"
    alone = loader()["weights"]((tmp_path / "p").read_bytes())
    expected, unpacked = fold(model).state_dict(), unpack(tmp_path / "p")
    for name, tensor in expected.items():
        for each in (unpacked[name], alone[name]):
            assert torch.equal(each.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)), name
    assert {name: weight.axis for name, weight in integers(tmp_path / "p").items()} == AXES


def test_sizes_of_points_count_every_scale() -> None:
    dense = network()
    graph = trace(dense, torch.zeros(1, *IMAGES))
    stored = {
        book: sizes(attach(copy.deepcopy(dense), allocate(dense, 0.5, 3, codebook=book, scope="layer")), graph)
        for book in ("layer", "channel")
    }
    assert stored["channel"]["nominal_bytes"] == stored["layer"]["nominal_bytes"] + 4 * (sum(CHANNELS.values()) - 4)


def test_onnx_has_a_scale_for_each_channel() -> None:
    model = network()
    attach(model, allocate(model, 0.5, 4, codebook="channel", scope="layer"))
    known, plain, x = integer_weights(model), fold(model), torch.randn(16, *IMAGES)
    with torch.no_grad():
        expected = plain(x)
    file = with_integers(floats(program.traced(plain, torch.zeros(2, *IMAGES))), known)
    assert {placed.layer: (placed.type, placed.channels) for placed in file.weights} == dict.fromkeys(
        known, ("int4", True)
    )
    runner = onnxruntime.InferenceSession(file.data, providers=["CPUExecutionProvider"])
    output = torch.tensor(runner.run(None, {runner.get_inputs()[0].name: x.numpy()})[0])
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
