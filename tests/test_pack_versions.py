"""Packed files of every version that was ever written: read bit for bit, by the program and by the loader alone."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from compression.errors import CompressionError
from compression.pack import integers, ledger, unpack
from compression.pack.container import to_bytes
from compression.pack.contents import contents
from compression.pack.header import MAGIC, PREFIX, VERSION, WORDS, deflated, parse
from compression.pack.outline import outline
from tests.alone import loader
from tests.packed.make import CHANNELS, codes, digest

HERE = Path(__file__).resolve().parent / "packed"
GALLERY = sorted((HERE.parents[1] / "assets" / "gallery").glob("*/*/bundle/weights.packed"))
OLD = [1, 2, 3]


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    raw = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(*raw)


def check_state(data: bytes, path: Path, expected: dict[str, torch.Tensor]) -> None:
    for state in (unpack(path), loader()["weights"](data)):
        assert state.keys() == expected.keys()
        assert [name for name, tensor in expected.items() if not same(state[name], tensor)] == []


@pytest.mark.parametrize("version", OLD)
def test_older_versions_are_read_bit_for_bit(version: int) -> None:
    path = HERE / f"v{version}.packed"
    data = path.read_bytes()
    assert PREFIX.unpack_from(data)[:2] == (MAGIC, version)
    check_state(data, path, load_file(HERE / f"v{version}.safetensors"))
    held = integers(path)
    assert held.keys() == codes().keys()
    for name, own in codes().items():
        weight: Any = held[name]
        assert torch.equal(weight.codes, own) and weight.bits == 8
        step = CHANNELS.reshape(-1, *[1] * (own.dim() - 1)) if version == 2 else float(np.float32(0.3))
        assert torch.equal(torch.as_tensor(weight.step), torch.as_tensor(step))
        assert (weight.kind, weight.offset) == {
            1: ("uniform", None), 2: ("uniform-channel", None), 3: ("offset", 0.1875),
        }[version]  # fmt: skip
    assert {name: stored.bytes for name, stored in contents(path).items() if stored.bits} == {
        "ans.weight": 161, "fixed.weight": 50, "bitmap.weight": 99, "zero.weight": 2,
    }  # fmt: skip
    assert [name for name, stored in contents(path).items() if stored.bytes == 0] == ["none", "second"]


@pytest.mark.parametrize("version", OLD)
def test_the_ledger_of_an_older_version_is_what_it_was(version: int) -> None:
    counted = ledger(HERE / f"v{version}.packed")
    assert counted.scales == {1: 4 * 4, 2: 4 * 4 * 6, 3: 4 * 4 * 2}[version]
    assert counted.leftovers == 2 * 4 + 6 * 2 + 8 + 6 * 4
    assert counted.positions - 23 == counted_positions()  # a bit for each of 180 weights, and the table's share
    assert counted.values + counted.positions == 161 + 50 + 99 + 2
    assert (
        counted.total == sum(counted.to_dict().values()) - counted.total == (HERE / f"v{version}.packed").stat().st_size
    )


def counted_positions() -> int:
    """The table's stream divided as its entropy is, from the codes."""
    own = codes()["ans"].numpy().reshape(-1)
    shares = np.unique(own, return_counts=True)[1] / own.size
    zero = float((own == 0).mean())
    binary = -(zero * np.log2(zero) + (1 - zero) * np.log2(1 - zero))
    return round(161 * binary / float(-(shares * np.log2(shares)).sum()))


@pytest.mark.parametrize("version", OLD)
def test_written_again_it_is_version_4_with_the_same_bytes_of_content(version: int, tmp_path: Path) -> None:
    path = HERE / f"v{version}.packed"
    again = to_bytes(unpack(path), integers(path))
    (tmp_path / "p").write_bytes(again)
    assert PREFIX.unpack_from(again)[1] == VERSION == 4
    check_state(again, tmp_path / "p", load_file(HERE / f"v{version}.safetensors"))
    before, after = ledger(path).to_dict(), ledger(tmp_path / "p").to_dict()
    for part in ("values", "positions", "scales", "leftovers"):
        assert after[part] == before[part]
    assert bytes(parse(again)[1]) == bytes(parse(path.read_bytes())[1])
    assert after["container"] <= before["container"] + 24
    assert outline(again) == outline(path.read_bytes())


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: "/".join(path.parts[-4:-2]))
def test_bundles_of_the_gallery_are_read_and_named_rows_make_none_larger(path: Path) -> None:
    expected = json.loads((HERE / "gallery.json").read_text())["/".join(path.parts[-4:-2])]
    assert digest(unpack(path)) == digest(loader()["weights"](path.read_bytes())) == expected
    assert ledger(path).to_dict() == json.loads(path.with_name("ledger.json").read_text())
    assert len(to_bytes(unpack(path), integers(path))) <= path.stat().st_size


def test_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    data = (HERE / "v1.packed").read_bytes()
    (tmp_path / "p").write_bytes(PREFIX.pack(MAGIC, 5, *PREFIX.unpack_from(data)[2:]) + data[PREFIX.size :])
    for read in (unpack, integers, ledger):
        with pytest.raises(CompressionError, match=r"^.*its format version is 5, this program reads up to 4[^\n]*$"):
            read(tmp_path / "p")
    with pytest.raises(SystemExit, match="of another version"):
        loader()["weights"]((tmp_path / "p").read_bytes())


def test_the_dictionary_of_the_header_is_frozen() -> None:
    """Every file of version 4 needs these very bytes to be read."""
    assert (len(WORDS), zlib.crc32(WORDS)) == (376, 4072321273)


# --- rows of version 4 that somebody changed --------------------------------------------------------------------------

STEP = np.float32(0.5).tobytes()
CODES = {"codes": {"coding": "fixed", "bytes": 2}}
SOUND: dict[str, Any] = {
    "name": "w", "kind": "uniform", "shape": [2], "bits": 4, "numbers": {"step": 1}, "streams": CODES,
}  # fmt: skip
CHANNEL = {**SOUND, "kind": "uniform-channel", "shape": [2, 2], "axis": 0, "numbers": {"step": 2}}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({**SOUND, "name": ""}, "name must not be empty"),
    "no kind": ({k: v for k, v in SOUND.items() if k != "kind"}, "kind is missing"),
    "a kind in a list": ({**SOUND, "kind": ["uniform"]}, "kind must be a text"),
    "another kind": ({**SOUND, "kind": "sparse"}, "no encoding of weights is called 'sparse'"),
    "a field too many": ({**SOUND, "axis": 0}, "axis is no field that is known here"),
    "a field too few": ({k: v for k, v in CHANNEL.items() if k != "axis"}, "axis is missing"),
    "an axis that is not there": ({**CHANNEL, "axis": 2}, "2 dimensions, no dimension 2"),
    "a negative axis": ({**CHANNEL, "axis": -1}, "axis must be"),
    "no step": ({**SOUND, "numbers": {}}, "other streams or numbers"),
    "another number": ({**SOUND, "numbers": {"step": 1, "zero": 1}}, "other streams or numbers"),
    "steps too many": ({**SOUND, "numbers": {"step": 2}}, "other streams or numbers"),
    "half an offset": ({**SOUND, "kind": "offset"}, "other streams or numbers"),
    "steps of some channels": ({**CHANNEL, "numbers": {"step": 1}}, "other streams or numbers"),
    "another stream": ({**SOUND, "streams": {"planes": CODES["codes"]}}, "other streams or numbers"),
    "codes of another size": ({**SOUND, "streams": {"codes": {**CODES["codes"], "size": 3}}}, "other streams"),
    "another coding": ({**SOUND, "streams": {"codes": {"coding": "zip", "bytes": 2}}}, "coding must be"),
    "a negative length": ({**SOUND, "streams": {"codes": {"coding": "ans", "bytes": -2}}}, "bytes must be"),
    "more bytes than there are": ({**SOUND, "streams": {"codes": {"coding": "ans", "bytes": 99}}}, "need 103 bytes"),
    "no bits": ({**SOUND, "bits": 0}, "bits must be"),
    "a billion codes": ({**SOUND, "shape": [1 << 30]}, "more codes than a file of its size"),
    "a shape of 2^80": ({**SOUND, "shape": [1 << 40, 1 << 40]}, "impossible"),
    "a raw tensor of another type": (
        {"name": "w", "kind": "raw", "shape": [1], "dtype": "float33"},
        "has the unknown type float33",
    ),
    "a raw tensor with bits": ({"name": "w", "kind": "raw", "shape": [1], "dtype": "int8", "bits": 4}, "bits is no"),
    "the same as none": ({"name": "w", "kind": "alias", "target": "v"}, "is the same as v, which is not there"),
    "the same as itself": ({"name": "w", "kind": "alias", "target": "w"}, "which is not there before it"),
    "a list": (["w", [2], "fixed", 2, 4], "must be an object"),  # type: ignore[dict-item]
}


def file_of(*rows: Any, content: bytes = STEP * 2 + b"\0\0") -> bytes:
    text = deflated({"codes": zlib.crc32(bytes(8)), "tensors": list(rows)})
    return PREFIX.pack(MAGIC, 4, len(text), zlib.crc32(text + content)) + text + content


def test_the_row_that_is_changed_is_sound(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(file_of(SOUND, content=STEP + b"\0\0"))
    assert unpack(tmp_path / "p")["w"].tolist() == [0, 0]


@pytest.mark.parametrize("name", WRONG)
def test_changed_rows_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    row, message = WRONG[name]
    path = tmp_path / "p"
    path.write_bytes(file_of(row))
    for read in (unpack, integers, ledger, contents):
        with pytest.raises(CompressionError, match=f"is no sound packed file .*{message}") as refusal:
            read(path)
        assert "\n" not in str(refusal.value)
    with pytest.raises(CompressionError, match=f"is no sound packed file: .*{message}"):
        outline(path.read_bytes())


def test_more_tensors_than_a_header_may_name_are_refused_when_written() -> None:
    state = {f"{'x' * 200}{number}": torch.zeros(0) for number in range(20_000)}
    with pytest.raises(CompressionError, match="20,000 tensors are more than one packed file can name"):
        to_bytes(state, {})


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(file_of(SOUND, SOUND))
    with pytest.raises(CompressionError, match="w is there twice"):
        unpack(tmp_path / "p")
