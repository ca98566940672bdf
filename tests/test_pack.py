"""The packed file: bit for bit, byte for byte, never decoded into wrong weights."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compression.counting.entropy import entropy_bits
from compression.errors import CompressionError
from compression.methods.opq import FixedQuantizer, allocate, attach
from compression.pack import Ledger, ledger, pack, unpack
from compression.pack.streams import CHUNK, CODINGS, decode, encode, split
from compression.quant.integers import IntegerWeight, fold, integer_weights


def network(width: int = 7) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.ConvTranspose2d(width, 4, 2),
        nn.Conv2d(4, 8, 3, groups=4), nn.Flatten(), nn.Linear(8 * 25, 33),
    )  # fmt: skip


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    raw = [t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (left, right)]
    return torch.equal(*raw)


def check_round_trip(model: nn.Module, path: Path) -> Ledger:
    counted = pack(model, path)
    unpacked, expected = unpack(path), fold(model).state_dict()
    assert list(unpacked) == list(expected)
    assert all(same_bits(unpacked[name], expected[name]) for name in expected)
    assert counted.total == os.path.getsize(path) == sum(counted.to_dict().values()) - counted.total
    assert counted == ledger(path)
    return counted


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("sparsity", [0.0, 0.35, 0.9])
def test_a_model_comes_back_bit_for_bit(bits: int, sparsity: float, tmp_path: Path) -> None:
    model = network()
    attach(model, allocate(model, sparsity, bits, scope="layer"))
    counted = check_round_trip(model, tmp_path / "weights.packed")
    assert counted.scales == 4 * 4
    assert (counted.positions == 0) == (sparsity == 0)
    plain = {name.removesuffix(".weight") for name in unpack(tmp_path / "weights.packed") if name.endswith("weight")}
    assert plain == {"0", "1", "3", "4", "6"}


def test_a_plain_model_is_all_leftovers(tmp_path: Path) -> None:
    model = network()
    counted = check_round_trip(model, tmp_path / "p")
    assert (counted.values, counted.positions, counted.scales) == (0, 0, 0)
    assert counted.leftovers == sum(t.numel() * t.element_size() for t in model.state_dict().values())


def test_odd_tensors_keep_type_and_shape(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    model.register_buffer("brain", torch.randn(5).to(torch.bfloat16))
    model.register_buffer("wide", torch.randn((), dtype=torch.float64))
    model.register_buffer("flag", torch.tensor([True, False, True]))
    model.register_buffer("none", torch.zeros(0, 4))
    model.register_buffer("minus", torch.tensor([-0.0, float("nan")]))
    check_round_trip(model.to(memory_format=torch.channels_last), tmp_path / "p")


def test_shared_and_unusual_layers(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(60, 60), nn.ReLU(), nn.Linear(60, 60), nn.Conv2d(3, 4, 3))
    model[2].weight = model[0].weight
    with torch.no_grad():
        model[3].weight.zero_()
    attach(model, allocate(model, 0.5, 4))
    model.to(memory_format=torch.channels_last)
    counted = check_round_trip(model, tmp_path / "p")
    alone = nn.Sequential(nn.Linear(60, 60), nn.ReLU(), nn.Linear(60, 60), nn.Conv2d(3, 4, 3))
    attach(alone, allocate(alone, 0.5, 4))
    assert counted.values < 0.6 * pack(alone, tmp_path / "q").values


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 1000, 4097])
@pytest.mark.parametrize("levels", [0, 1, 3, 7, 127, 32767])
@pytest.mark.parametrize("zeros", [0.0, 0.6, 1.0])
def test_every_stream_decodes_to_its_codes(size: int, levels: int, zeros: float) -> None:
    rng = np.random.default_rng(size * 31 + levels)
    codes = rng.integers(-levels, levels + 1, size).astype(np.int32)
    codes[rng.random(size) < zeros] = 0
    for shifted in (codes, codes + np.int32(5), np.abs(codes), -np.abs(codes)):
        stream = encode(shifted)
        assert stream.coding in CODINGS
        assert np.array_equal(decode(stream.coding, stream.data, size), shifted)
        assert sum(split(stream.coding, stream.data, size)) == len(stream.data)
        assert len(stream.data) <= size * 17 // 8 + 8


def test_each_coding_is_chosen_where_it_is_the_smallest() -> None:
    rng = np.random.default_rng(0)
    assert encode(rng.integers(-128, 128, 300).astype(np.int32)).coding == "fixed"
    assert encode(np.clip(np.round(rng.laplace(size=5000) * 3), -50, 50).astype(np.int32)).coding == "ans"
    few = np.where(rng.random(500) < 0.5, 0, rng.integers(-127, 128, 500)).astype(np.int32)
    assert encode(few).coding == "bitmap"


def test_bit_packing_crosses_chunks() -> None:
    codes = np.random.default_rng(1).integers(-4, 4, CHUNK + 13).astype(np.int32)
    stream = encode(codes)
    assert np.array_equal(decode(stream.coding, stream.data, len(codes)), codes)
    assert len(stream.data) <= 3 * len(codes) / 8 + 64


@pytest.mark.parametrize(("levels", "sparsity"), [(1, 0.0), (7, 0.0), (7, 0.7), (127, 0.5)])
def test_coded_size_is_near_the_entropy(levels: int, sparsity: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    codes = np.clip(np.round(rng.laplace(size=100_000) * levels / 5), -levels, levels)
    codes[rng.random(len(codes)) < sparsity] = 0
    shares = np.unique(codes, return_counts=True)[1] / len(codes)
    bound = -(shares * np.log2(shares)).sum() * len(codes) / 8
    layer = nn.Linear(1000, 100, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(codes.reshape(100, 1000) * 0.5))
    bits = int(np.log2(levels + 1)) + 1
    model = nn.Sequential(layer)
    nn.utils.parametrize.register_parametrization(layer, "weight", FixedQuantizer(layer.weight != 0, 0.5, bits))
    counted = check_round_trip(model, tmp_path / "p")
    assert counted.values + counted.positions <= 1.02 * bound
    assert counted.total <= 1.02 * bound


def test_positions_are_the_entropy_of_the_zeros() -> None:
    rng = np.random.default_rng(3)
    codes = np.clip(np.round(rng.laplace(size=60_000) * 3), -31, 31).astype(np.int32)
    codes[rng.random(len(codes)) < 0.7] = 0
    stream = encode(codes)
    assert stream.coding == "ans"
    _, positions = split(stream.coding, stream.data, len(codes))
    zeros = int((codes == 0).sum())
    assert positions == pytest.approx(entropy_bits(np.array([zeros, len(codes) - zeros])) / 8, rel=0.01)


def test_damage_is_refused(tmp_path: Path) -> None:
    model = network()
    attach(model, allocate(model, 0.5, 4))
    path = tmp_path / "weights.packed"
    pack(model, path)
    good = path.read_bytes()
    rng = np.random.default_rng(4)
    for at in [0, 7, 9, 13, 20, *rng.integers(16, len(good), 60)]:
        damaged = bytearray(good)
        damaged[at] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(damaged)
        with pytest.raises(CompressionError):
            unpack(path)
        with pytest.raises(CompressionError):
            ledger(path)
    for size in (0, 3, 15, 16, 40, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(CompressionError):
            unpack(path)
    for foreign in (b"PK\x03\x04" + good, good + b"\0", b"not a model at all, but long enough to be one"):
        path.write_bytes(foreign)
        with pytest.raises(CompressionError, match="no sound packed file"):
            unpack(path)
    with pytest.raises(CompressionError, match="cannot read"):
        unpack(tmp_path / "missing")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "weights.packed"
    pack(nn.Linear(2, 2), path)
    before = path.read_bytes()
    with pytest.raises(CompressionError, match="cannot write"):
        pack(nn.Linear(3, 3), path / "inside-a-file")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["weights.packed"]


def test_codes_that_are_not_the_weight_are_refused(tmp_path: Path) -> None:
    from compression.pack.container import to_bytes

    codes = torch.ones(2, 2, dtype=torch.int32)
    with pytest.raises(CompressionError, match="do not give the weight"):
        to_bytes({"a.weight": torch.full((2, 2), 0.5)}, {"a": IntegerWeight("a", codes, 0.25, 2)})


def test_integers_of_the_model_are_what_is_stored(tmp_path: Path) -> None:
    model = network()
    attach(model, allocate(model, 0.5, 3))
    pack(model, tmp_path / "p")
    stored = unpack(tmp_path / "p")
    for name, integer in integer_weights(model).items():
        assert torch.equal((stored[f"{name}.weight"] / integer.step).round().to(torch.int32), integer.codes)
