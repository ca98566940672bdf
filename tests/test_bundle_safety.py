"""A bundle of somebody else: nothing of it runs, its files belong together, and it takes no memory it does not hold."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import compression as cx
from app.gallery import gallery
from compression.errors import CompressionError
from compression.export import export
from compression.export.bundle import write
from compression.export.manifest import CHECKSUMS
from compression.export.reader import read_files
from compression.runs.folder import RunFolder

Files = dict[str, bytes]
GROWTH = 200 << 20


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a sound bundle of a pruned ResNet-8."""
    path = tmp_path_factory.mktemp("bundle") / "b.zip"
    export(RunFolder(gallery.ROOT / "resnet8-mnist5k" / "geta"), path, onnx=False)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def document(files: Files, name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(files[name])
    return value


def sealed(files: Files, path: Path, version: int = 2, **changes: Callable[[dict[str, Any]], object]) -> Path:
    """A bundle whose JSON files were changed and whose checksums are right, as whoever makes one can."""
    changed = dict(files)
    for name in ("budget", "config"):
        value = document(files, f"{name}.json")
        changes.get(name, lambda value: None)(value)
        changed[f"{name}.json"] = json.dumps(value).encode()
    checksums = document(files, CHECKSUMS)
    checksums["version"] = version
    changes.get("network", lambda value: None)(checksums["network"])
    del changed[CHECKSUMS]
    checksums["files"] = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in changed.items()
    }
    if version == 1:
        del checksums["network"]
    write(path, {**changed, CHECKSUMS: json.dumps(checksums).encode()})
    return path


def everywhere(**values: Any) -> dict[str, Callable[[dict[str, Any]], object]]:
    """The same facts in budget, config and manifest; ``outputs`` is called ``classes`` in a budget."""
    budget = {("classes" if name == "outputs" else name): value for name, value in values.items()}
    return {
        "budget": lambda facts: facts.update(budget),
        "config": lambda facts: facts.update(values),
        "network": lambda facts: facts.update(values),
    }


def refused(path: Path, **options: Any) -> str:
    """The line in which a bundle is refused, with little memory on the way."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CompressionError) as problem:
        cx.load(path, **options)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GROWTH
    (line,) = str(problem.value).splitlines()
    return line


@pytest.mark.parametrize("version", [1, 2])
def test_a_sound_bundle_answers_its_example(files: Files, tmp_path: Path, version: int) -> None:
    path = sealed(files, tmp_path / "b.zip", version)
    stored = read_example(files)
    with torch.no_grad():
        assert torch.allclose(cx.load(path)(stored["input"]), stored["output"], atol=1e-5)
    assert read_files(path).keys() == files.keys() - {CHECKSUMS}
    assert read_files(path, ["budget.json"]) == {"budget.json": read_files(path)["budget.json"]}


def read_example(files: Files) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load(files["example.safetensors"])


def hostile_program(marker: Path) -> bytes:
    """A program whose symbolic size is an expression that makes a file."""
    import io

    class Doubled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(Doubled(), (torch.ones(2, 3),), dynamic_shapes=({0: batch},))
    program._example_inputs = None
    source, target = io.BytesIO(), io.BytesIO()
    torch.export.save(program, source)
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as archive:
        for info in given.infolist():
            data = given.read(info)
            if info.filename.endswith("models/model.json"):
                data = rewritten(json.loads(data), code)
            archive.writestr(info.filename, data)
    return target.getvalue()


def rewritten(value: Any, code: str) -> bytes:
    def visit(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: code if name == "expr_str" else visit(inner) for name, inner in item.items()}
        return [visit(inner) for inner in item] if isinstance(item, list) else item

    return json.dumps(visit(value)).encode()


def test_a_program_that_runs_code_is_not_read_unless_trusted(files: Files, tmp_path: Path) -> None:
    marker = tmp_path / "was_here"
    path = tmp_path / "b.zip"
    hostile = {**files, "model.pt2": hostile_program(marker)}
    sealed(hostile, path, **everywhere(model="/home/else/net.py:make"))
    assert "trust=True" in refused(path)
    assert "net.py:make" in refused(path, model=None, trust=False)
    named = sealed(hostile, tmp_path / "zoo.zip")
    assert isinstance(cx.load(named), torch.nn.Module)
    assert isinstance(cx.load(named, trust=True), torch.nn.Module)  # a network of the zoo needs no program
    cx.apply(cx.zoo.build("resnet8"), path)
    assert not marker.exists()
    with pytest.raises(Exception):  # noqa: B017 (whatever torch makes of it: the point is that it looked)
        cx.load(path, trust=True)
    if not marker.exists():
        pytest.skip("this torch no longer evaluates expressions of a program")


def test_only_one_place_reads_programs() -> None:
    root = Path(cx.__file__).resolve().parents[1]
    users = [
        str(path.relative_to(root))
        for folder in ("app", "pages", "compression")
        for path in (root / folder).rglob("*.py")
        if "export.load(" in path.read_text() or "cx.load(" in path.read_text().replace('"cx.load', "")
    ]
    assert [path for path in users if path.startswith(("app", "pages"))] == ["app/runs/bundles.py"]  # a snippet's text
    assert "compression/export/reader.py" in users


MODELS = [
    "resnet20",
    "torchvision:vit_h_14",
    "torchvision:resnet18",
    "torchvision:nothing",
    "nothing",
    "minilm",
    "x" * 400,
]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("model", MODELS)
def test_another_network_is_refused_without_being_made(files: Files, tmp_path: Path, model: str, version: int) -> None:
    refused(sealed(files, tmp_path / "b.zip", version, **everywhere(model=model)))


FACTS: list[dict[str, Any]] = [
    {"outputs": 10**9},
    {"outputs": 1 << 24},
    {"outputs": 11},
    {"outputs": True},
    {"input": [1, 10**9, 10**9]},
    {"input": [1, 32, 32]},
    {"input": [3, 28, 28]},
    {"input": [1, 28]},
    {"input": [-1, 28, 28]},
    {"input": "1x28x28"},
    {"groups": {"conv1": {"units": 8, "removed": [0, 0]}}},
    {"groups": {"conv1": {"units": 8, "removed": [8]}}},
    {"groups": {"conv1": {"units": 9, "removed": [8]}}},
    {"groups": {"conv1": {"units": 8, "removed": list(range(8))}}},
    {"groups": {"conv1": {"units": 8, "removed": [-1]}}},
    {"groups": {"nothing": {"units": 8, "removed": [1]}}},
    {"groups": {}},
    {"groups": []},
]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("facts", FACTS, ids=lambda facts: str(facts)[:40])
def test_facts_that_are_not_those_of_the_weights_are_refused(
    files: Files, tmp_path: Path, facts: dict[str, Any], version: int
) -> None:
    budget = {name: value for name, value in facts.items() if name != "groups"}
    changes = {**everywhere(**facts), "budget": everywhere(**budget)["budget"]}
    refused(sealed(files, tmp_path / "b.zip", version, **changes))


@pytest.mark.parametrize("place", ["budget", "config", "network"])
def test_facts_in_one_file_only_are_refused(files: Files, tmp_path: Path, place: str) -> None:
    for values in ({"model": "vgg7"}, {"input": [1, 32, 32]}, {"outputs": 7, "classes": 7}):
        known = {"budget": {"outputs"}, "config": {"classes"}, "network": {"classes"}}[place]
        changed = {name: value for name, value in values.items() if name not in known}
        error = refused(sealed(files, tmp_path / "b.zip", **{place: lambda facts, new=changed: facts.update(new)}))
        assert "do not agree" in error


def test_weights_of_another_run_are_refused_though_their_shapes_fit(files: Files, tmp_path: Path) -> None:
    """Of the same network, without its example's answers."""
    opq = gallery.ROOT / "resnet8-mnist5k" / "opq-01" / "bundle" / "weights.packed"
    error = refused(sealed({**files, "weights.packed": opq.read_bytes()}, tmp_path / "b.zip"))
    assert "tensors" in error
    packed = bytearray(files["weights.packed"])
    packed[-200:] = bytes(200)  # the last leftovers: shapes as before, other values
    packed[12:16] = struct.pack("<I", zlib.crc32(bytes(packed[16:])))
    error = refused(sealed({**files, "weights.packed": bytes(packed)}, tmp_path / "c.zip"))
    assert "its files do not belong together" in error


def raw_zip(entries: list[tuple[zipfile.ZipInfo, bytes]], path: Path) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for info, data in entries:
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def entry(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def test_the_plain_archive_is_read(files: Files, tmp_path: Path) -> None:
    """What the following tests change is all that is wrong with their archives."""
    path = raw_zip([(entry(name), data) for name, data in files.items()], tmp_path / "b.zip")
    assert isinstance(cx.load(path), torch.nn.Module)


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("load.py", 0o100644, "twice"),
        ("LOAD.PY", 0o100644, "twice"),
        ("../evil", 0o100644, "named"),
        ("/etc/evil", 0o100644, "named"),
        ("C:\\evil", 0o100644, "named"),
        ("folder/", 0o040755, "named"),
        ("link", 0o120777, "link"),
        ("device", 0o020644, "regular"),
        ("more.txt", 0o100644, "does not list"),
    ],
)
def test_an_entry_that_no_export_writes_is_refused(
    files: Files, tmp_path: Path, name: str, mode: int, words: str
) -> None:
    plain = [(entry(known), data) for known, data in files.items()]
    assert words in refused(raw_zip([*plain, (entry(name, mode), b"x")], tmp_path / "b.zip"))


def test_a_zip_that_reads_two_ways_is_refused(files: Files, tmp_path: Path) -> None:
    sound = raw_zip([(entry(name), data) for name, data in files.items()], tmp_path / "b.zip").read_bytes()
    path = tmp_path / "c.zip"
    end = sound.rindex(b"PK\5\6")
    start = struct.unpack_from("<L", sound, end + 16)[0]

    def patched(at: int, value: bytes) -> bytes:
        return sound[:at] + value + sound[at + len(value) :]

    second = sound.index(b"PK\3\4", 4)
    odd = {
        "something before": b"#!/bin/sh\n" + sound,
        "something behind": sound + b"x",
        "a comment": patched(end + 20, b"\1\0") + b"x",
        "another name in front": sound.replace(b"budget.json", b"evil__.json", 1),
        "another size in front": patched(18, struct.pack("<L", 5)),
        "another checksum in front": patched(14, b"\0\0\0\0"),
        "encrypted": patched(start + 8, b"\1\0"),
        "an overlap": patched(sound.index(b"PK\1\2", start + 4) + 42, struct.pack("<L", 0)),
        "an entry that the directory hides": patched(end + 8, struct.pack("<2H", len(files) - 1, len(files) - 1)),
        "many entries": patched(end + 8, b"\xff\xff\xff\xff"),
        "a header that is none": patched(second, b"XXXX"),
        "a directory elsewhere": patched(end + 16, struct.pack("<L", start - 1)),
    }
    for data in odd.values():
        path.write_bytes(data)
        refused(path)


def test_what_inflates_beyond_measure_is_refused(files: Files, tmp_path: Path) -> None:
    bomb = {**files, "model.safetensors": bytes(150 << 20)}
    sealed(bomb, tmp_path / "b.zip")
    assert "inflate" in refused(tmp_path / "b.zip")
    sound = raw_zip([(entry(name), data) for name, data in files.items()], tmp_path / "c.zip").read_bytes()
    start = struct.unpack_from("<L", sound, sound.rindex(b"PK\5\6") + 16)[0]
    for declared in (5, 4 << 20):  # other sizes than there are, in both headers
        size = struct.pack("<L", declared)
        (tmp_path / "c.zip").write_bytes(sound[:22] + size + sound[26 : start + 24] + size + sound[start + 28 :])
        assert "budget.json was changed" in refused(tmp_path / "c.zip") or declared == 5
    many = [(entry(f"f{index}"), b"") for index in range(70)]
    refused(raw_zip(many, tmp_path / "d.zip"))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "link")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    for name in ("pipe", "link", "folder", "empty", "sparse", "absent"):
        refused(tmp_path / name)


@pytest.mark.parametrize("name", ["budget.json", "config.json", CHECKSUMS])
def test_json_that_is_none_of_a_bundle_is_refused(files: Files, tmp_path: Path, name: str) -> None:
    for text in (
        "[" * 10_000,
        '{"a":' * 10_000,
        "1" + "0" * 400,
        "[]",
        "null",
        '{"version": 1e999}',
        "\xff",
        '{"model": {}}',
    ):
        changed = {**files, name: text.encode("latin-1")}
        if name != CHECKSUMS:
            checksums = document(files, CHECKSUMS)
            data = changed[name]
            checksums["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            changed[CHECKSUMS] = json.dumps(checksums).encode()
        write(tmp_path / "b.zip", changed)
        refused(tmp_path / "b.zip")


def test_a_packed_header_of_impossible_shapes_is_refused(files: Files, tmp_path: Path) -> None:
    packed = files["weights.packed"]
    magic, version, length, _ = struct.unpack_from("<6sHII", packed)
    header = json.loads(zlib.decompress(packed[16 : 16 + length]))
    rows = header["tensors"]
    for shape in ([10**9, 10**9], [2**40], [-1], ["a"], "8", None, [1] * 50, [True]):
        changed = {**header, "tensors": [[rows[0][0], shape, *rows[0][2:]], *rows[1:]]}
        text = zlib.compress(json.dumps(changed).encode())
        body = text + packed[16 + length :]
        data = struct.pack("<6sHII", magic, version, len(text), zlib.crc32(body)) + body
        refused(sealed({**files, "weights.packed": data}, tmp_path / "b.zip", 1))


def test_the_folder_of_whoever_reads_stays_as_it_is(files: Files, tmp_path: Path) -> None:
    path = sealed(files, tmp_path / "b.zip")
    before = sorted(os.listdir(tmp_path)), sorted(sys.path)
    cx.load(path)
    assert (sorted(os.listdir(tmp_path)), sorted(sys.path)) == before


def test_an_input_larger_than_the_file_could_hold_is_refused_before_a_network_runs(
    files: Files, tmp_path: Path
) -> None:
    def enlarge(value: dict[str, Any]) -> None:
        value["input"] = [1, 3000, 3000]

    changed = {name: data for name, data in files.items() if name != "example.safetensors"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = sealed(changed, tmp_path / "b.zip", config=enlarge, network=enlarge)
    with pytest.raises(CompressionError, match="names inputs of"):
        cx.load(path)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < GROWTH


class _Answering(torch.nn.Module):
    """The bundle's own network, which answers otherwise."""

    def __init__(self, change: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        network = cx.zoo.build("resnet8")
        for name, child in network.named_children():
            self.add_module(name, child)
        self.network, self.change = [network], change

    def forward(self, images: torch.Tensor) -> Any:
        return self.change(self.network[0](images))


@pytest.mark.parametrize("change", [lambda x: (x[:, :3], x), lambda x: None, lambda x: x[:, :3], lambda x: x[:, :1]])
def test_a_network_that_answers_no_logits_of_the_bundle_is_refused(
    files: Files, tmp_path: Path, change: Callable[[torch.Tensor], Any]
) -> None:
    with pytest.raises(CompressionError, match=r"answers its stored example with|no tensor is found"):
        cx.load(sealed(files, tmp_path / "b.zip"), model=lambda: _Answering(change))


@pytest.mark.parametrize("change", [lambda x: (x, x), lambda x: {"logits": x, "hidden": None}])
def test_the_answer_is_the_first_tensor_of_several(
    files: Files, tmp_path: Path, change: Callable[[torch.Tensor], Any]
) -> None:
    model = cx.load(sealed(files, tmp_path / "b.zip"), model=lambda: _Answering(change))
    assert len(model(torch.zeros(1, 1, 28, 28))) == 2


def test_wrappers_of_a_network_are_taken_off_and_what_is_no_network_is_refused(files: Files, tmp_path: Path) -> None:
    path = sealed(files, tmp_path / "b.zip")
    network = cx.zoo.build("resnet8")
    expected = cx.load(path).state_dict()
    for wrapped in (torch.nn.DataParallel(network), torch.compile(network)):
        assert all(
            torch.equal(expected[name], value) for name, value in cx.load(path, model=wrapped).state_dict().items()
        )
    for wrong in ("resnet8", 5, network.to("meta")):
        with pytest.raises(CompressionError, match=r"model must be|meta device"):
            cx.load(path, model=wrong)
