"""Every encoding, and one that is only a test module, through everything the program does with a quantized weight."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import compression as cx
from compression import encodings
from compression.counting.sizes import nominal_extra
from compression.encodings import cut_weights, registry, size_of
from compression.errors import CompressionError
from compression.export import program
from compression.export.onnx_int8 import calibrated
from compression.export.onnx_model import floats
from compression.export.onnx_model import integers as with_integers
from compression.graph import trace
from compression.graph.cuts import cuts, without
from compression.methods.pq.clusters import cluster
from compression.methods.pq.quantizer import BookQuantizer
from compression.pack import integers, ledger, pack, unpack
from compression.pack.container import to_bytes
from compression.pack.header import MAGIC, PREFIX, deflated, parse
from compression.quant import QuantizedWeight, WeightQuantizer, fold, integer_weights, weight_quantizers
from compression.quant.fixed_steps import FixedQuantizer
from compression.quant.groups import GroupQuantizer, fit_groups
from compression.quant.levels import LevelQuantizer
from compression.training.measure import sizes
from tests.alone import loader
from tests.contract import lookup, low_rank

IMAGES = (1, 8, 8)
AXES = {"0": 0, "3": 0, "4": 1, "7": 0}
UNITS = {"0": [1, 6], "4": [0]}
FOR_CHANNELS = ("step", "offset")
KINDS = [*encodings.all_encodings(), "lookup", "offset-channel by channel"]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    encodings.register(lookup.ENCODING)
    yield
    del registry._registered["lookup"]


def quantizer(kind: str, weight: torch.Tensor, axis: int) -> nn.Module:
    """A 4-bit quantizer of this kind, or 7 values or blocks; a third of the weights pruned where it has zeros."""
    if kind == "codebook":
        clusters = cluster(weight.detach().reshape(-1, 3), 7, seed=0)
        return BookQuantizer(clusters.assignments, clusters.centroids)
    largest = weight.abs().amax([dim for dim in range(weight.dim()) if dim != axis], keepdim=True)
    if kind == "lookup":
        return lookup.LookupQuantizer(torch.tensor([-0.3, -0.11, -0.04, 0.0, 0.02, 0.07, 0.2]))
    mask = weight.abs() > weight.abs().flatten().kthvalue(weight.numel() // 3).values
    if kind in ("levels", "groups"):
        weight.mul_(mask)
        eighths = torch.arange(1, 8) / 8
        fitted = partial(fit_groups, weight, bits=4, group=8, clip="max")
        return LevelQuantizer(eighths**2 * weight.abs().max()) if kind == "levels" else GroupQuantizer(fitted(), 4, 8)
    step = (largest if "channel" in kind else weight.abs().max()) / 8
    begin = {"offset": 0.03125, "offset-channel": 0.03125, "offset-channel by channel": largest / 16}.get(kind)
    return FixedQuantizer(mask, step, 4, offset=begin)


def network(kind: str) -> nn.Sequential:
    """A plain, a depthwise and a transposed convolution and a linear layer, all quantized in this way."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 6, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10),
    ).eval()  # fmt: skip
    with torch.no_grad():
        model[1].running_var.uniform_(0.2, 3)
        model[1].weight.uniform_(-2, 2)
        for name, axis in AXES.items():
            weight = model.get_submodule(name).weight
            own = quantizer(kind, weight, axis)
            parametrize.register_parametrization(model.get_submodule(name), "weight", own, unsafe=True)
    return model


def bits_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(bits_of(one), bits_of(other))


@pytest.mark.parametrize("kind", KINDS)
def test_quantizers_say_what_they_produce_and_values_are_what_layers_compute_with(kind: str) -> None:
    model = network(kind)
    weights, quantizers = integer_weights(model), weight_quantizers(model)
    assert list(weights) == list(quantizers) == list(AXES)
    for name, weight in weights.items():
        assert isinstance(quantizers[name], WeightQuantizer)
        assert quantizers[name].encoding == weight.kind == kind.removesuffix(" by channel")
        computed = model.get_submodule(name).weight
        assert same(weight.weight(), computed)
        assert (weight.name, weight.shape, weight.bits) == (name, tuple(computed.shape), round(quantizers[name].bits()))
        assert weight.zeros == int((computed == 0).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_packed_unpacked_counted_and_decoded_alone(kind: str, tmp_path: Path) -> None:
    model, path = network(kind), tmp_path / "weights.packed"
    counted, weights = pack(model, path), integer_weights(model)
    stored, alone, restored = unpack(path), loader()["weights"](path.read_bytes()), integers(path)
    expected = fold(model).state_dict()
    assert list(stored) == list(alone) == list(expected)
    assert all(same(stored[name], tensor) and same(alone[name], tensor) for name, tensor in expected.items())
    for name, weight in weights.items():
        again = restored[name]
        assert (again.name, again.kind, again.bits, again.shape) == (name, weight.kind, weight.bits, weight.shape)
        assert same(again.weight(), weight.weight())
    numbers = sum(size_of(weight).numbers for weight in weights.values())
    assert counted == ledger(path)
    assert counted.total == path.stat().st_size == sum(counted.to_dict().values()) - counted.total
    assert counted.scales == 4 * numbers if kind != "groups" else counted.scales > 4 * numbers
    assert (counted.positions == 0) == (kind in ("lookup", "codebook"))
    assert (counted.codebooks > 0) == (kind == "codebook")
    raw = sum(t.numel() * t.element_size() for n, t in expected.items() if n.removesuffix(".weight") not in weights)
    assert counted.leftovers == raw


@pytest.mark.parametrize("kind", KINDS)
def test_rows_name_what_they_hold(kind: str) -> None:
    model = network(kind)
    header, _ = parse(to_bytes(fold(model).state_dict(), integer_weights(model)))
    rows = {row["name"]: row for row in header["tensors"]}
    assert {row["kind"] for row in rows.values()} == {kind.removesuffix(" by channel"), "raw"}
    for name, axis in AXES.items():
        row = rows[f"{name}.weight"]
        assert row["shape"] == list(model.get_submodule(name).weight.shape) and row["bits"] in (3, 4, 8)
        assert row.get("axis", axis) == axis and ("axis" in row) == ("channel" in kind)


def test_the_numbers_of_each_kind_are_those_its_formula_needs() -> None:
    channels = {"0": 8, "3": 8, "4": 6, "7": 10}
    expected = {
        "uniform": dict.fromkeys(AXES, 1),
        "uniform-channel": channels,
        "offset": dict.fromkeys(AXES, 2),
        "offset-channel": {name: count + 1 for name, count in channels.items()},
        "offset-channel by channel": {name: 2 * count for name, count in channels.items()},
        "lookup": dict.fromkeys(AXES, 7),
        "codebook": dict.fromkeys(AXES, 1),
        "levels": dict.fromkeys(AXES, 7),
        "groups": dict.fromkeys(AXES, 1),
    }
    for kind, numbers in expected.items():
        assert {n: size_of(weight).numbers for n, weight in integer_weights(network(kind)).items()} == numbers


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_is_the_formula_of_the_kind(kind: str) -> None:
    """In float64 from the codes and numbers that are stored, within one rounding a step."""
    for name, weight in integer_weights(network(kind)).items():
        streams, numbers = encodings.get(weight.kind).arrays(weight)
        k = streams["codes"].astype(np.float64)
        if kind == "codebook":
            k = streams["book"].reshape(7, 3)[streams["codes"]].astype(np.float64)
        k = k.reshape(weight.shape)
        broad = [-1 if dim == AXES[name] else 1 for dim in range(k.ndim)]
        own = {key: array.astype(np.float64).reshape(broad) for key, array in numbers.items() if key in FOR_CHANNELS}
        if kind == "lookup":
            values = numbers["table"].astype(np.float64)[streams["codes"]].reshape(weight.shape)
        elif kind == "levels":
            values = np.sign(k) * np.concatenate([[0], numbers["level"]])[np.abs(k).astype(int)]
        elif kind == "groups":
            steps = streams["steps"].astype(np.uint16).view(np.float16).astype(np.float64) * numbers["scale"]
            column = np.arange(k[0].size) // 8
            values = k * steps.reshape(len(k), -1)[:, column].reshape(k.shape)
        elif "offset" in kind:
            values = np.sign(k) * ((np.abs(k) - 0.5) * own["step"] + own["offset"])
        else:
            values = k * own["step"]
        assert weight.weight().numpy() == pytest.approx(values, rel=4e-7, abs=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_weight_is_the_weight_of_the_slim_model(kind: str, tmp_path: Path) -> None:
    model = network(kind)
    graph = trace(fold(model), torch.zeros(1, *IMAGES))
    weights, dropped = integer_weights(model), cuts(graph, UNITS)
    for name, weight in cut_weights(weights, graph, UNITS).items():
        lost = dropped.get(f"{name}.weight", [])
        assert same(weight.weight(), without(weights[name].weight(), lost))
        assert size_of(weight) == size_of(weights[name], lost)
        dense = encodings.get(weight.kind).put_back(weight, lost, weights[name].shape)
        assert dense.shape == weights[name].shape
        assert same(encodings.get(weight.kind).cut(dense, lost).weight(), weight.weight())
        assert int(torch.count_nonzero(dense.weight())) == int(torch.count_nonzero(weight.weight()))
    masked = fold(model)
    cx.zero_units(masked, graph, UNITS)
    small, report = cx.slim_report(masked, graph)
    assert report.units == UNITS
    pack(small, tmp_path / "p", cut_weights(weights, graph, UNITS))
    stored, expected = unpack(tmp_path / "p"), small.state_dict()
    assert all(same(stored[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("lookup", "codebook", "groups")])
def test_a_model_that_carries_its_quantizers_is_cut_alike(kind: str) -> None:
    model = network(kind)
    graph = trace(fold(model), torch.zeros(1, *IMAGES))
    expected = cut_weights(integer_weights(model), graph, UNITS)
    cx.zero_units(model, graph, UNITS)
    small, report = cx.slim_report(model, graph)
    assert report.equality <= 1e-6 and report.units == UNITS
    for name, weight in integer_weights(small).items():
        assert weight.kind == expected[name].kind
        assert same(weight.weight(), expected[name].weight())
        assert same(small.get_submodule(name).weight, weight.weight())


def test_offsets_by_channel_bound_the_gradient_and_survive_a_state_dict() -> None:
    weight = torch.tensor([[0.9, 1.2, -0.3], [0.9, 2.2, -3.0]], requires_grad=True)
    steps, offsets = torch.tensor([[0.25], [0.5]]), torch.tensor([[0.125], [1.0]])
    mask = torch.tensor([[True, True, True], [False, True, True]])
    own = FixedQuantizer(mask, steps, 3, offset=offsets)  # the last levels reach to 0.875 and 2.5
    quantized = own(weight)
    assert quantized.tolist() == [[0.75, 0.75, -0.25], [0.0, 2.25, -2.25]]
    quantized.sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [[0, 0, 1], [0, 1, 0]]
    other = FixedQuantizer(~mask, steps * 2, 3, offset=offsets * 2)
    other.load_state_dict(own.state_dict())
    assert torch.equal(other(weight), quantized) and torch.equal(torch.as_tensor(other.shift()), offsets)


@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_while_training_is_near_the_file(kind: str, tmp_path: Path) -> None:
    model = network(kind)
    graph = trace(fold(model), torch.zeros(1, *IMAGES))
    present = sizes(model, graph)
    counted = pack(model, tmp_path / "p")
    integer_buffers = 8  # num_batches_tracked, which estimates leave out
    tables = 30 * len(AXES)  # ranges and symbol counts in front of the coded words
    assert 0 <= counted.total - counted.container - integer_buffers - present["bytes"] <= tables
    weights = [model.get_submodule(name).weight for name in AXES]
    zeros, total = sum(int((w == 0).sum()) for w in weights), sum(w.numel() for w in weights)
    assert present["weight_sparsity"] == pytest.approx(zeros / total)


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_runs_and_agrees(kind: str) -> None:
    model = network(kind)
    weights, plain, x = integer_weights(model), fold(model), torch.randn(16, *IMAGES)
    with torch.no_grad():
        expected = plain(x)
    raw = floats(program.traced(plain, torch.zeros(2, *IMAGES)))
    exported = with_integers(raw, weights)
    stored = {placed.layer: placed.type for placed in exported.weights}
    assert set(stored) == set(weights) and all(each.startswith("int4") for each in stored.values())
    assert all(placed.integer for placed in exported.weights) == kind.startswith("uniform")
    eight, _ = calibrated(with_integers(raw, weights, arithmetic=True), [x])
    for data, close in ((exported.data, 1e-5), (eight.data, 0.05 if kind.startswith("uniform") else 1e-5)):
        runner = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        result = torch.tensor(runner.run(None, {runner.get_inputs()[0].name: x.numpy()})[0])
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=close)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_described_in_plain_values(kind: str) -> None:
    for weight in integer_weights(network(kind)).values():
        about = encodings.get(weight.kind).describe(weight)
        assert json.loads(json.dumps(about)) == about
        size = weight.weight().numel()
        assert (about["kind"], about["weights"], about["zeros"]) == (weight.kind, size, weight.zeros)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_that_is_not_what_its_codes_say_is_refused(kind: str) -> None:
    model = network(kind)
    state = fold(model).state_dict()
    state["7.weight"] = state["7.weight"] + 1e-6
    with pytest.raises(CompressionError, match="layer 7: its codes do not give the weight"):
        to_bytes(state, integer_weights(model))


def test_kinds_mix_in_one_file_and_shared_weights_are_stored_once(tmp_path: Path) -> None:
    model = network("uniform")
    others = {name: network(kind).get_submodule(name) for name, kind in (("3", "lookup"), ("7", "offset-channel"))}
    for name, module in others.items():
        setattr(model, name, module)
    model.append(model[7])
    path = tmp_path / "p"
    pack(model, path)
    alone, expected = loader()["weights"](path.read_bytes()), fold(model).state_dict()
    assert all(same(unpack(path)[name], tensor) and same(alone[name], tensor) for name, tensor in expected.items())
    kinds = {row["name"]: row["kind"] for row in parse(path.read_bytes())[0]["tensors"]}
    assert [kinds[f"{name}.weight"] for name in (0, 3, 7, 8)] == ["uniform", "lookup", "offset-channel", "alias"]


def test_an_encoding_without_a_way_into_onnx_stays_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup.Lookup, "onnx", encodings.Encoding.onnx)
    monkeypatch.setattr(lookup.Lookup, "put_back", encodings.Encoding.put_back)
    model = network("lookup")
    weights = integer_weights(model)
    exported = with_integers(floats(program.traced(fold(model), torch.zeros(2, *IMAGES))), weights)
    reasons = {placed.layer: (placed.type, placed.reason) for placed in exported.weights}
    assert reasons == dict.fromkeys(AXES, ("fp32", "ONNX has no form for lookup weights"))
    with pytest.raises(CompressionError, match="layer 0: lookup weights cannot get channels of zeros back"):
        lookup.ENCODING.put_back(weights["0"], [], (8, 1, 3, 3))  # type: ignore[arg-type]


def test_a_kind_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "p"
    pack(network("lookup"), path)
    del registry._registered["lookup"]
    for read in (unpack, integers, ledger):
        with pytest.raises(CompressionError, match=r"no encoding of weights is called 'lookup'; known: .*uniform"):
            read(path)
    encodings.register(lookup.ENCODING)
    assert "lookup" in encodings.all_encodings()


def test_factors_of_other_sizes_than_their_weight(tmp_path: Path) -> None:
    encodings.register(encoding := low_rank.LowRank())
    try:
        generator = torch.Generator().manual_seed(0)
        left, right = (torch.randint(-7, 8, shape, generator=generator).int() for shape in ((30, 3), (3, 20)))
        weight = low_rank.LowRankWeight("w", left, right, torch.tensor([0.5, 0.11, 0.013]))
        data = to_bytes({"w.weight": weight.weight()}, {"w": weight})
        (tmp_path / "p").write_bytes(data)
        (row,) = parse(data)[0]["tensors"]
        assert {side: stream["size"] for side, stream in row["streams"].items()} == {"left": 90, "right": 60}
        for state in (unpack(tmp_path / "p"), loader()["weights"](data)):
            assert same(state["w.weight"], weight.weight())
        assert same(integers(tmp_path / "p")["w"].weight(), weight.weight())
        counted = ledger(tmp_path / "p")
        assert (counted.scales, counted.leftovers) == (12, 0) and counted.values + counted.positions <= 150 / 2 + 6
        lost = [(0, torch.tensor([2, 5])), (1, torch.tensor([0]))]
        assert same(encoding.cut(weight, lost).weight(), without(weight.weight(), lost))
        size = size_of(weight, lost)
        assert (size.integers, size.elements, size.numbers) == (28 * 3 + 19 * 3, 28 * 19, 3)
        bits = {"w": {"weight": 4.0}}
        assert nominal_extra({"w": size}, bits) == (28 * 3 + 19 * 3) / 2 + 12 - (28 * 19 / 2 + 4)
        huge = {**row, "shape": [1 << 20, 1 << 20], "rank": 0, "numbers": {"scale": 0}}
        for stream in row["streams"].values():
            stream |= {"size": 0, "bytes": 0}
        text = deflated({"codes": 0, "tensors": [huge]})
        (tmp_path / "p").write_bytes(PREFIX.pack(MAGIC, 4, len(text), zlib.crc32(text)) + text)
        with pytest.raises(CompressionError, match="more codes than a file of its size"):
            unpack(tmp_path / "p")
    finally:
        del registry._registered["low-rank"]


def test_codes_that_stand_for_nothing_are_refused(tmp_path: Path) -> None:
    weight: Any = lookup.LookupWeight("w", torch.tensor([[0, 1], [2, 1]], dtype=torch.int32), torch.randn(3))
    data = to_bytes({"w.weight": weight.weight()}, {"w": weight})
    shorter = _with_numbers(data, 2)
    (tmp_path / "p").write_bytes(shorter)
    for read in (unpack, integers):
        with pytest.raises(CompressionError, match="an index lies beyond a table of 2 values"):
            read(tmp_path / "p")


def _with_numbers(data: bytes, count: int) -> bytes:
    """A file of one lookup weight with so many numbers of its table."""
    header, body = parse(data)
    (row,) = header["tensors"]
    lost = row["numbers"]["table"] - count
    text = deflated({**header, "tensors": [{**row, "numbers": {"table": count}}]})
    content = text + bytes(body[4 * lost :])
    return PREFIX.pack(MAGIC, 4, len(text), zlib.crc32(content)) + content


def test_the_protocols_are_met_by_every_value() -> None:
    weights: list[QuantizedWeight] = [w for kind in KINDS for w in integer_weights(network(kind)).values()]
    assert {weight.kind for weight in weights} == set(encodings.all_encodings())
