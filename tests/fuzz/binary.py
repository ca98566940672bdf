"""The formats that are no plain JSON: packed files, bundles, weights files, maps, the word in an address."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import nn

from compression.budget import Budget
from compression.pack.header import PREFIX, WORDS
from tests.fuzz.mutate import byte_mutant, text_mutant
from tests.fuzz.samples import BUDGET, EXPLANATION
from tests.fuzz.target import Target


def network() -> nn.Module:
    """A few layers of different shapes, so that a file of it has every kind of row."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 6), nn.Linear(6, 3))


@cache
def packed_files() -> tuple[bytes, ...]:
    """Files of each kind of encoding, with each coding, aliases, empty and half tensors."""
    from compression.pack.container import to_bytes
    from compression.quant.integers import IntegerWeight

    random = np.random.default_rng(0)
    spread = np.clip(np.round(random.laplace(size=(40, 50)) * 3), -40, 40)
    sparse = np.where(random.random((5, 40)) < 0.5, 0, random.integers(-127, 128, (5, 40)))
    flat = random.integers(-8, 8, (3, 4, 2, 2))
    codes = {"a": spread, "b": sparse, "c": flat, "d": np.zeros((4, 4))}
    shared = torch.randn(3, 4)
    others = {"bias": torch.randn(3), "half": shared.half(), "n": torch.tensor(3), "none": torch.zeros(0, 4)}
    files = []
    channels = torch.tensor([[0.25]])
    for step, offset in ((0.5, None), (channels, None), (0.5, 0.125), (channels, 0.125)):
        weights = {}
        for name, values in codes.items():
            first = torch.arange(1, values.shape[0] + 1).float().reshape(-1, *[1] * (values.ndim - 1)) / 8
            own = first if isinstance(step, torch.Tensor) else step
            weights[name] = IntegerWeight(name, torch.from_numpy(values).to(torch.int32), own, 8, offset)
        state = {f"{name}.weight": weight.weight() for name, weight in weights.items()}
        files.append(to_bytes({**state, **others, "first": shared, "second": shared}, weights))
    mixed = {
        name: _in_groups(name, values) if name in "ac" else _on_levels(name, values) for name, values in codes.items()
    }
    state = {f"{name}.weight": weight.weight() for name, weight in mixed.items()}
    return (*files, to_bytes({**state, **others}, mixed))


def _in_groups(name: str, values: Any) -> Any:
    from compression.quant.groups import GroupQuantizer, fit_groups

    weight = torch.from_numpy(values).float()
    return GroupQuantizer(fit_groups(weight, 4, 16, "max"), 4, 16).encode(name, weight)


def _on_levels(name: str, values: Any) -> Any:
    from compression.quant.levels import LevelQuantizer

    return LevelQuantizer(torch.arange(1, 9) ** 2.0).encode(name, torch.from_numpy(values).float())


@cache
def old_files() -> tuple[bytes, ...]:
    """Files of versions 1 to 3, as the releases that wrote them did."""
    return tuple(path.read_bytes() for path in sorted((Path(__file__).parents[1] / "packed").glob("*.packed")))


def _packed_mutant(random: Random) -> bytes:
    """Mostly with a right checksum, so that what stands behind it is read."""
    data = random.choice(packed_files() + old_files())
    _, version, length, _ = PREFIX.unpack_from(data)
    body = data[PREFIX.size :]
    header, rest = body[:length], body[length:]
    kind = random.randrange(10)
    if kind < 5:
        text = text_mutant(random, json.loads(zlib.decompressobj(zdict=WORDS).decompress(header)))
        header = zlib.compress(text, 1)
        if random.random() < 0.1:
            header = zlib.compress(text + b" " * (1 << 24), 9)
    elif kind < 8:
        rest = byte_mutant(random, rest)
    elif kind == 8:
        header = byte_mutant(random, header)
    else:
        return byte_mutant(random, data)
    length = len(header) if random.random() < 0.95 else random.choice((0, 2**32 - 1, len(header) + 9))
    version = version if random.random() < 0.95 else random.randrange(6)
    return PREFIX.pack(b"CXPACK", version, length, zlib.crc32(header + rest)) + header + rest


def packed(data: bytes, folder: Path) -> None:
    """All that is read of a packed file."""
    from compression.pack import integers, ledger, unpack
    from compression.pack.contents import contents

    path = folder / "weights.packed"
    path.write_bytes(data)
    state = unpack(path)
    counted = ledger(path)
    assert counted.total == len(data) == sum(counted.to_dict().values()) - counted.total
    assert list(contents(path)) == list(state)
    for weight in integers(path).values():
        name = f"{weight.name}.weight" if weight.name else "weight"
        assert state.get(name, weight.weight()).shape == weight.weight().shape == weight.shape


@cache
def _safetensors() -> bytes:
    from safetensors.torch import save

    provenance = {"model": "m", "input": [1, 4, 4], "classes": 3, "is_chance": False, "test_accuracy": 0.5}
    state = {name: tensor.contiguous() for name, tensor in network().state_dict().items()}
    return save(state, {"provenance": json.dumps(provenance)})


def _with_header(data: bytes, text: bytes, random: Random) -> bytes:
    """The file with another header; its length mostly right."""
    length = int.from_bytes(data[:8], "little")
    claimed = len(text) if random.random() < 0.95 else random.choice((0, 2**63, 2**64 - 1, 10**8, len(text) + 1))
    return struct.pack("<Q", claimed) + text + data[8 + length :]


def _safetensors_mutant(random: Random, data: bytes | None = None) -> bytes:
    data = data or _safetensors()
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    kind = random.randrange(8)
    if kind < 5:
        return _with_header(data, text_mutant(random, header), random)
    if kind < 7 and "__metadata__" in header:
        provenance = json.loads(header["__metadata__"]["provenance"])
        text = text_mutant(random, provenance).decode("utf-8", "replace")
        header["__metadata__"]["provenance"] = text
        return _with_header(data, json.dumps(header).encode(), random)
    return byte_mutant(random, data)


def safetensors(data: bytes, folder: Path) -> None:
    """Weights that are loaded, and looked for by what they say of themselves."""
    from compression.zoo import weights

    path = folder / "w.safetensors"
    path.write_bytes(data)
    provenance = weights.read_provenance(path)
    assert isinstance(provenance.get("input", []) == [1, 4, 4] and provenance.get("classes", 3) == 3, bool)
    _used(weights.load, path)


def _used(load: Any, path: Path) -> None:
    model = network()
    load(model, path)
    assert model.eval()(torch.zeros(1, 1, 4, 4)).shape == (1, 3)


@cache
def _torch_files() -> tuple[bytes, ...]:
    files = []
    state = network().state_dict()
    for value, zipped in ((state, True), ({"state_dict": {f"module.{n}": t for n, t in state.items()}}, False)):
        buffer = io.BytesIO()
        torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
        files.append(buffer.getvalue())
    return tuple(files)


def _torch_mutant(random: Random) -> bytes:
    """Bytes changed in the file, or in one entry of the archive with its checksum made right again."""
    data = random.choice(_torch_files())
    if data[:2] != b"PK" or random.random() < 0.4:
        return byte_mutant(random, data)
    return _zip_mutant(random, data, zipfile.ZIP_STORED, likely="data.pkl")


def _zip_mutant(random: Random, data: bytes, compression: int, likely: str) -> bytes:
    """The archive with one entry changed, now and then one left out, twice there, or stored another way."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    preferred = [at for at, (name, _) in enumerate(entries) if name.endswith(likely)]
    at = random.choice(preferred) if random.random() < 0.7 else random.randrange(len(entries))
    entries[at] = (entries[at][0], byte_mutant(random, entries[at][1]))
    if random.random() < 0.1:
        entries.append(random.choice(entries))
    if random.random() < 0.05:
        entries[at] = (entries[at][0], bytes(1 << 24))
    if random.random() < 0.1:
        del entries[random.randrange(len(entries))]
    kind = zipfile.ZIP_DEFLATED if random.random() < 0.1 else compression
    return _zipped(entries, kind)


def _zipped(entries: list[tuple[str, bytes]], compression: int) -> bytes:
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as archive:
        warnings.simplefilter("ignore")  # names that are there twice are meant
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def torch_file(data: bytes, folder: Path) -> None:
    """Weights in a file of torch, loaded."""
    from compression.zoo import weights

    path = folder / "w.pt"
    path.write_bytes(data)
    _used(weights.load, path)


@cache
def _maps() -> bytes:
    from safetensors.numpy import save

    maps = {f"saliency.{model}": np.zeros((2, 3, 3), np.float32) for model in ("dense", "small")}
    return save({**maps, "images": np.array([1, 5])})


def maps(data: bytes, folder: Path) -> None:
    """The maps of an explanation."""
    from compression.explain import stored
    from compression.runs.folder import RunFolder

    run = RunFolder(folder / "run")
    (run.path / "explain").mkdir(parents=True, exist_ok=True)
    stored.result_path(run).write_text(json.dumps(EXPLANATION))
    (run.path / "explain" / "maps.safetensors").write_bytes(data)
    shown = stored.shown(run)
    assert shown is not None
    pair = shown.maps_of("saliency", list(shown.images)[:1])
    assert pair is None or pair[0].ndim == pair[1].ndim == 3


@cache
def _network() -> tuple[bytes, str]:
    """A small network of the zoo without some of its units: its packed weights, and what a bundle says of it."""
    import compression as cx
    from compression import zoo
    from compression.pack.container import to_bytes

    model = zoo.build("resnet8").eval()
    graph = cx.trace(model, zoo.example("resnet8"))
    removed = {group.id: [0, group.units - 1] for group in graph.prunable[:2]}
    cx.zero_units(model, graph, removed)
    small = cx.slim(model, graph)
    groups = {group.id: {"units": group.units, "removed": removed.get(group.id, [])} for group in graph.prunable}
    about = {"model": "resnet8", "input": list(graph.input), "outputs": 10, "groups": groups}
    return to_bytes(small.state_dict(), {}), json.dumps(about)


def _files() -> dict[str, bytes]:
    """The files of a bundle that loads; its program is none, since nothing here may read one."""
    weights, about = _network()
    return {
        "budget.json": json.dumps(BUDGET[1]).encode(), "config.json": about.encode(),
        "weights.packed": weights, "model.pt2": b"no program", "README.md": b"# A card",
    }  # fmt: skip


def _bundle(files: dict[str, bytes], checksums: Any) -> bytes:
    entries = [*files.items(), ("checksums.json", checksums)]
    return _zipped(entries, zipfile.ZIP_DEFLATED)


def _checksums(files: dict[str, bytes]) -> dict[str, Any]:
    sums = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    return {"version": 1, "files": sums}


def _bundle_mutant(random: Random) -> bytes:
    """A file changed under a right checksum, the checksums changed, or the bytes of the archive."""
    files = _files()
    kind = random.randrange(8)
    if kind < 4:
        name = random.choice(("budget.json", "budget.json", "config.json", "weights.packed"))
        is_json = name.endswith(".json")
        files[name] = text_mutant(random, json.loads(files[name])) if is_json else _packed_mutant(random)
        return _bundle(files, json.dumps(_checksums(files)))
    if kind < 6:
        return _bundle(files, text_mutant(random, _checksums(files)))
    data = _bundle(files, json.dumps(_checksums(files)))
    return byte_mutant(random, data) if kind == 6 else _zip_mutant(random, data, zipfile.ZIP_DEFLATED, ".json")


def bundle(data: bytes, folder: Path) -> None:
    """A bundle, its budget and its network; no program is read."""
    from compression.export.apply import _budget
    from compression.export.reader import load

    path = folder / "bundle.zip"
    path.write_bytes(data)
    assert isinstance(_budget(path), Budget)
    with torch.no_grad():
        assert load(path)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def address_mutant(random: Random) -> bytes:
    """A word of changed JSON, of today or of old, or a changed word."""
    chosen = BUDGET[0]
    extras = {"optimizer": "adam", "lr": 0.1, "weight_decay": 0.0}
    parts = {name: chosen[name] for name in ("method", "groups", "layers", "options")}
    asks = {"sparsity": 0.5, "weight_bits": [4, 8], "activation_bits": [8, 8]}
    now = {"version": 2, "asks": asks, "epochs": 2, **extras}
    raw = zlib.compress(text_mutant(random, {**parts, **random.choice(({"extras": extras}, now))}), 1)
    if random.random() < 0.02:
        raw = zlib.compress(b'{"method":"' + b"x" * 20_000_000, 9)
    raw = byte_mutant(random, raw) if random.random() < 0.1 else raw
    word = base64.urlsafe_b64encode(raw).rstrip(b"=")
    return byte_mutant(random, word) if random.random() < 0.1 else word


BINARY = [
    Target("packed", _packed_mutant, packed),
    Target("safetensors", _safetensors_mutant, safetensors),
    Target("torch", _torch_mutant, torch_file),
    Target("maps", lambda random: _safetensors_mutant(random, _maps()), maps),
    Target("bundle", _bundle_mutant, bundle),
]
