"""One file, many qualities: planes against requantizing and entropy, every cut of the file, its loader alone."""

from __future__ import annotations

import math
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from compression.counting.entropy import entropy_bits
from compression.errors import CompressionError
from compression.export.layered import chosen_stops, loader
from compression.pack import container, layered, planes
from compression.pack.header import PREFIX, deflated
from compression.pack.layered_header import CRC, STATISTICS, Part, parse
from compression.pack.layering import differences, in_order, to_bytes
from compression.quant.integers import IntegerWeight
from compression.quant.nested import NestedWeight, dead_zone, nested, of_codes

DENSITIES = ("laplace", "normal", "uniform")


def drawn(density: str, size: int, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    draw = {"uniform": lambda: random.uniform(-1, 1, size)}.get(density, lambda: getattr(random, density)(size=size))
    return torch.from_numpy(draw().astype(np.float32))


def small_state() -> tuple[dict[str, torch.Tensor], list[NestedWeight], list[torch.Tensor]]:
    """A state dict with every kind of row, its nested weights, and what these were."""
    torch.manual_seed(0)
    conv, linear = torch.randn(6, 3, 3, 3) * 0.1, torch.randn(5, 7)
    channels = IntegerWeight("channels", torch.randint(-3, 4, (4, 5)), torch.rand(4, 1) + 0.1, 3)
    offset = IntegerWeight("offset", torch.randint(-7, 8, (9, 3)), 0.25, 4, 0.375)
    weights = [nested("conv", conv, 5), nested("linear", linear, 3), of_codes(channels), of_codes(offset)]
    targets = [conv, linear, channels.weight(), offset.weight()]
    state = {f"{weight.name}.weight": target for weight, target in zip(weights, targets, strict=True)}
    norm = {"norm.running_mean": torch.randn(6), "norm.running_var": torch.rand(6), "norm.count": torch.tensor(3)}
    return {**state, **norm, "twin": norm["norm.running_mean"], "bias": torch.randn(5).half()}, weights, targets


@pytest.fixture(scope="module")
def content() -> tuple[bytes, list[NestedWeight], dict[str, torch.Tensor], list[Part]]:
    """A small layered file with statistics behind its sixth and its last plane, and what is in it."""
    state, weights, targets = small_state()
    coded = [planes.encode(weight.codes.reshape(-1).numpy(), weight.planes) for weight in weights]
    order = in_order(coded, [weight.errors(target) for weight, target in zip(weights, targets, strict=True)])
    names = ["norm.running_mean", "norm.running_var"]
    moved = {**state, names[0]: state[names[0]] + 0.5, names[1]: state[names[1]] - 2}
    parts = [
        *order[:6],
        Part(STATISTICS, differences(state, moved, names)),
        *(part._replace(share=128) for part in order[6:]),
        Part(STATISTICS, b""),
    ]
    return to_bytes(state, weights, parts, names), weights, state, order


@pytest.fixture
def file(content: tuple[bytes, list[NestedWeight], dict[str, torch.Tensor], list[Part]], tmp_path: Path) -> Path:
    path = tmp_path / "weights.layered"
    path.write_bytes(content[0])
    return path


@pytest.mark.parametrize("density", DENSITIES)
def test_fewer_planes_are_a_coarser_quantizer(density: str) -> None:
    weight = drawn(density, 20_000)
    whole = nested("w", weight, 9)
    for planes_read in (0, 1, 4, 8, 9):
        step = float(whole.step) * 2 ** (9 - planes_read)
        coarse = dead_zone(weight, step, planes_read)
        assert torch.equal(whole.prefix(planes_read).codes, coarse)
        middles = torch.where(coarse == 0, 0.0, coarse.sign() * (coarse.abs().double() + 0.5) * step)
        assert torch.allclose(whole.prefix(planes_read).weight().double(), middles, rtol=1e-6, atol=0)


@pytest.mark.parametrize("offset", [None, 0.3])
@pytest.mark.parametrize("channels", [False, True])
def test_planes_of_a_runs_integers_end_in_its_weights(offset: float | None, channels: bool) -> None:
    torch.manual_seed(1)
    step = torch.rand(8, 1) + 0.01 if channels else 0.0123
    own = IntegerWeight("w", torch.randint(-31, 32, (8, 40)), step, 6, offset)
    whole = of_codes(own)
    assert torch.equal(whole.prefix(whole.planes).weight(), own.weight())
    for lost in range(1, whole.planes + 1):
        prefix = whole.prefix(whole.planes - lost)
        assert torch.equal(prefix.codes, own.codes.sign() * (own.codes.abs() >> lost))
        for code in range(1, 1 << (whole.planes - lost)):  # the middle of the levels that the cell holds
            cell = torch.arange(code << lost, (code + 1) << lost).reshape(1, -1).expand(8, -1)
            expected = own.dequantize(cell).mean(1, keepdim=True)
            value = prefix.dequantize(torch.full((8, 1), code))
            assert torch.allclose(value, expected, rtol=1e-5)
        assert not prefix.weight()[prefix.codes == 0].any()


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("count", [3, 7])
def test_coded_planes_are_the_codes_and_as_small_as_their_entropy(density: str, count: int) -> None:
    codes = nested("w", drawn(density, 100_000), count).codes.numpy()
    coded, read = planes.encode(codes, count), np.zeros_like(codes)
    for place, plane in enumerate(coded, start=1):
        assert sum(planes.split(read, plane)) == len(plane)
        read = planes.decode(read, plane)
        assert np.array_equal(read, np.sign(codes) * (np.abs(codes) >> (count - place)))
    bound = entropy_bits(np.unique(codes, return_counts=True)[1]) / 8
    assert sum(map(len, coded)) <= 1.02 * bound


@pytest.mark.parametrize("codes", [[], [0, 0, 0], [1], [-1], [3, 3, 3], [-3, 2, 0, 1], [0, -1, 0]])
def test_planes_of_few_codes(codes: list[int]) -> None:
    whole = np.array(codes, dtype=np.int32)
    read = np.zeros_like(whole)
    for plane in planes.encode(whole, 2):
        read = planes.decode(read, plane)
    assert np.array_equal(read, whole)


def test_the_order_takes_the_plane_that_saves_most_a_byte() -> None:
    weights = [nested("a", drawn("laplace", 4_000), 6), nested("b", 3 * drawn("normal", 900, 1), 6)]
    targets = [drawn("laplace", 4_000), 3 * drawn("normal", 900, 1)]
    errors = [weight.errors(target) for weight, target in zip(weights, targets, strict=True)]
    for own in errors:
        assert (np.diff(own) < 0).all()
    coded = [planes.encode(weight.codes.numpy(), 6) for weight in weights]
    order, known = in_order(coded, errors), [0, 0]
    slopes = [
        [(own[p] - own[p + 1]) / (len(plane) + CRC.size) for p, plane in enumerate(each)]
        for own, each in zip(errors, coded, strict=True)
    ]
    assert all((np.diff(each) < 0).all() for each in slopes)  # convex: then the best next plane is the best order
    for part in order:
        best = max((w for w in (0, 1) if known[w] < 6), key=lambda w: slopes[w][known[w]])
        assert part == Part(best, coded[best][known[best]])
        known[best] += 1
    assert known == [6, 6]


def behind(data: bytes, parts: int) -> int:
    """Where the first so many parts of a layered file end."""
    header, start, _ = parse(data)
    return start + sum(size for _, size, _ in header["order"][:parts])


def test_every_byte_ends_a_plane_or_is_refused(content: tuple[bytes, ...], file: Path) -> None:
    data, weights, _, order = content
    ends = {cut.bytes: cut.planes for cut in layered.cuts(file)}
    assert len(ends) == len(order) + 1
    # Reading may also end before the statistics that stand behind a plane.
    ends |= {size - CRC.size - len(part): ends[size] for size, part in ((behind(data, 7), bytes(24)), (len(data), b""))}
    for size in range(len(data) + 1):
        file.write_bytes(data[:size])
        if size not in ends:
            with pytest.raises(CompressionError) as refused:
                layered.integers(file)
            assert "\n" not in str(refused.value)
            continue
        read = layered.integers(file)
        for weight in weights:
            assert torch.equal(read[weight.name].codes, weight.prefix(ends[size][weight.name]).codes)
    file.write_bytes(data + b"\0")
    with pytest.raises(CompressionError, match="end within a plane"):
        layered.read(file)


def test_a_prefix_of_the_file_is_read_as_the_file_cut_there(file: Path) -> None:
    data, cuts = file.read_bytes(), layered.cuts(file)
    states = [layered.read(file, cut.bytes) for cut in cuts]
    for cut, state in zip(cuts, states, strict=True):
        file.write_bytes(data[: cut.bytes])
        assert all(torch.equal(tensor, state[name]) for name, tensor in layered.read(file).items())
        assert sum(list(layered.ledger(file).to_dict().values())[:-1]) == cut.bytes
    for wrong, reason in ((cuts[2].bytes + 1, "end within a plane"), (len(data) + 1, "cannot be read")):
        file.write_bytes(data)
        with pytest.raises(CompressionError, match=reason):
            layered.read(file, wrong)


def test_statistics_apply_from_where_they_are_read(content: tuple[bytes, ...], file: Path) -> None:
    _, _, state, order = content
    cuts, mean, var = layered.cuts(file), "norm.running_mean", "norm.running_var"
    for place, cut in enumerate(cuts):
        read = layered.read(file, cut.bytes)
        moved = 6 <= place < len(order)
        assert torch.allclose(
            read[mean], state[mean] + 0.5 * moved / (1 + (place > 6))
        )  # half of it behind one more plane
        assert torch.equal(
            read[var], (state[var] - 2 / (1 + (place > 6))).clamp(min=0) if moved else state[var]
        )  # a variance never falls below 0
        assert read["bias"].dtype == torch.float16 and torch.equal(read["bias"], state["bias"])
        assert list(read) == list(state)


def test_damage_is_refused(content: tuple[bytes, ...], file: Path) -> None:
    data = content[0]
    for at in range(0, len(data), 7):
        broken = bytearray(data)
        broken[at] ^= 0x10
        file.write_bytes(broken)
        with pytest.raises(CompressionError):
            layered.read(file)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("order", [[9, 20, 0]]), ("order", [[0, 3, 0]]), ("order", [[0, 20, 300]]),
        ("order", []), ("base", 10**9), ("statistics", ["bias"]),
        ("tensors", []),
    ],
)  # fmt: skip
def test_a_header_that_contradicts_itself_is_refused(
    content: tuple[bytes, ...], file: Path, field: str, value: object
) -> None:
    header, start, _ = parse(content[0])
    base = content[0][start - header["base"] : start]
    forged = deflated({**header, field: value})
    begin = PREFIX.pack(b"CXLAYR", 1, len(forged), zlib.crc32(forged + base))
    file.write_bytes(begin + forged + base + content[0][start:])
    with pytest.raises(CompressionError, match="no sound layered file"):
        layered.read(file)


def test_other_files_are_refused_and_packed_ones_still_read(file: Path, tmp_path: Path) -> None:
    packed = tmp_path / "weights.packed"
    container.pack(torch.nn.Linear(3, 2), packed)
    assert container.unpack(packed)["weight"].shape == (2, 3)
    for path, read in ((packed, layered.read), (file, container.unpack)):
        with pytest.raises(CompressionError, match="does not begin like one"):
            read(path)
    with pytest.raises(CompressionError, match="cannot read"):
        layered.read(tmp_path / "nothing")


def test_the_loader_alone_reads_every_prefix(file: Path, tmp_path: Path) -> None:
    (tmp_path / "load_layered.py").write_text(loader())
    code = (
        "import sys; sys.modules['compression'] = None\n"
        "import load_layered as own, torch\n"
        "data = open('weights.layered', 'rb').read()\n"
        "torch.save([(n, own.weights(data[:n])) for n in own.cuts(data)], 'read.pt')\n"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    prefixes = torch.load(tmp_path / "read.pt")
    assert {cut.bytes for cut in layered.cuts(file)} <= {size for size, _ in prefixes}
    for size, state in prefixes:
        expected = layered.read(file, size)
        assert list(state) == list(expected)
        for name, tensor in expected.items():
            assert torch.equal(tensor, state[name]), name


def test_stops_begin_where_every_layer_has_a_plane_and_end_at_the_last() -> None:
    order = [Part(place % 3, bytes(10 + 5 * place)) for place in range(2, 40)]
    stops = chosen_stops(order)
    assert stops == sorted(set(stops)) and 4 <= len(stops) <= 8
    assert {part.weight for part in order[: stops[0]]} == {0, 1, 2}
    assert stops[-1] == len(order)
    assert chosen_stops([]) == [0]
    ends = np.cumsum([len(part.data) for part in order])[np.array(stops) - 1]
    ratios = ends[1:] / ends[:-1]
    assert math.isclose(ratios.max(), ratios.min(), rel_tol=0.35)
