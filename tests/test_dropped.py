"""A file dropped on the Model page: which model it is, from torchvision's own files; what is bad is one plain line."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save
from streamlit.testing.v1 import AppTest
from torch import nn
from torchvision import models

from app import nav
from app.model import catalog, weightfiles
from compression import zoo
from compression.errors import CompressionError
from compression.zoo import architectures, checkpoint, weights
from compression.zoo.content import NETWORKS, check_ending
from compression.zoo.recognise import Match, Nearest, recognise

SECONDS = 240


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}


def read(name: str, content: bytes, folder: Path) -> checkpoint.Checkpoint:
    file = folder / name
    file.write_bytes(content)
    return checkpoint.read(file, check_ending(name, content, NETWORKS))


def program(module: nn.Module, size: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(size),)), buffer)
    return buffer.getvalue()


def exported(module: nn.Module, size: tuple[int, ...]) -> bytes:
    """By PyTorch's older exporter, which folds batch norms and renames the weights."""
    buffer = io.BytesIO()
    torch.onnx.export(module.eval(), (torch.zeros(size),), buffer, dynamo=False)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def small_program() -> bytes:
    return program(zoo.build("resnet8"), (1, 1, 28, 28))


@pytest.fixture(scope="module")
def small_onnx() -> bytes:
    return exported(zoo.build("resnet8"), (1, 1, 28, 28))


@pytest.mark.parametrize(("name", "classes"), [("resnet18", 37), ("squeezenet1_1", 1000), ("shufflenet_v2_x0_5", 5)])
def test_torchvisions_own_state_is_recognised_with_its_classes(name: str, classes: int) -> None:
    state = models.get_model(name, weights=None, num_classes=classes).state_dict()
    result = recognise(shapes(state))
    assert isinstance(result, Match)
    assert (result.model, result.classes) == (f"torchvision:{name}", classes)


@pytest.mark.parametrize(
    ("name", "input", "classes"),
    [("resnet8", (1, 28, 28), 7), ("resnet8", (3, 32, 32), 10), ("siren", (2,), 3), ("unet_small", (1, 64, 64), 11)],
)
def test_the_zoos_models_are_recognised_at_their_size(name: str, input: tuple[int, ...], classes: int) -> None:
    input = input if name != "unet_small" else tuple(zoo.spec(name).input)
    assert recognise(shapes(zoo.build(name, input, classes).state_dict())) == Match(name, input, classes)


def test_the_stored_fingerprints_know_all_classifiers_of_torchvision() -> None:
    stored = {entry.name for entry in architectures.known()}
    assert {f"torchvision:{name}" for name in models.list_models(module=models)} <= stored


def test_what_no_model_fits_names_the_nearest_and_what_differs() -> None:
    changed = models.resnet18()
    changed.layer4[0].conv1 = nn.Conv2d(256, 300, 3, bias=False)
    result = recognise(shapes(changed.state_dict()))
    assert isinstance(result, Nearest) and result.model == "torchvision:resnet18"
    assert all(part in result.difference for part in ("layer4.0.conv1.weight", "300×256×3×3", "512×256×3×3"))
    del changed.bn1
    changed.layer4[0].conv1 = nn.Conv2d(256, 512, 3, bias=False)
    result = recognise(shapes(changed.state_dict()))
    assert isinstance(result, Nearest) and result.model == "torchvision:resnet18"
    assert all(part in result.difference for part in ("bn1.weight", "3 more"))
    assert recognise({"a.weight": (3, 3)}) == Nearest()


def test_onnx_initializers_have_their_names_and_shapes_and_tell_the_model(small_onnx: bytes, tmp_path: Path) -> None:
    given = read("a.onnx", small_onnx, tmp_path)
    reference = onnx.load_from_string(small_onnx).graph.initializer
    assert sorted(given.shapes.values()) == sorted(tuple(tensor.dims) for tensor in reference)
    own = shapes(zoo.build("resnet8").state_dict())
    assert {n: s for n, s in given.shapes.items() if len(s) > 1} == {n: s for n, s in own.items() if len(s) > 1}
    assert recognise(given.shapes, given.whole) == Match("resnet8", (1, 28, 28), 10, whole=False)


def test_onnx_of_another_program_keeps_its_names_and_says_what_lies_elsewhere(tmp_path: Path) -> None:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, (2, 3), [0.0] * 6)
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="/block/block.0/linear/MatMul")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, s)) for n, s in (("x", 2), ("y", 3))]
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [tensor]))
    given = read("a.onnx", model.SerializeToString(), tmp_path)
    assert (given.shapes, given.external) == ({"w": (2, 3)}, 1)
    tensor.name = node.input[1] = "onnx::MatMul_7"
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [tensor]))
    assert read("a.onnx", model.SerializeToString(), tmp_path).shapes == {"block.0.linear.weight": (3, 2)}


def test_a_programs_weights_are_read_and_its_pickles_are_not(small_program: bytes, tmp_path: Path) -> None:
    state = zoo.build("resnet8").state_dict()
    harmful = replaced(small_program, "sample_inputs/model.pt", pickle.dumps(Harmful()))
    for content in (small_program, harmful):
        file = tmp_path / "a.pt2"
        file.write_bytes(content)
        tensors = weights.read(file)
        assert all(torch.equal(tensors[name], value) for name, value in state.items())
    assert recognise(read("a.pt2", small_program, tmp_path).shapes) == Match("resnet8", (1, 28, 28), 10)
    assert not (tmp_path / "harmed").exists()


class Harmful:
    def __reduce__(self) -> Any:
        return open, ("harmed", "w")


def replaced(content: bytes, ending: str, new: bytes | None) -> bytes:
    """A zip with the entry of this ending replaced; ``None``: left out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w") as target:
        for info in source.infolist():
            data = new if info.filename.endswith(ending) else source.read(info)
            if data is not None:
                target.writestr(info.filename, data)
    return buffer.getvalue()


def config(content: bytes, **changes: Any) -> bytes:
    """A program in whose list of weights the first has other fields."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        name = next(name for name in source.namelist() if name.endswith("weights_config.json"))
        stored = json.loads(source.read(name))
    first = next(iter(stored["config"].values()))
    for key, value in changes.items():
        (first["tensor_meta"] if key in first["tensor_meta"] else first)[key] = value
    return replaced(content, "weights_config.json", json.dumps(stored).encode())


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data/weights/model_weights_config.json", b" " * 50_000_000)
    return buffer.getvalue()


def many() -> bytes:
    """An archive whose directory claims a million entries."""
    return b"PK\3\4" + b"\0" * 100 + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 60_001, 60_001, 46, 100, 0)


def parts(number: int) -> bytes:
    """An ONNX file of so many empty nodes, two bytes each."""
    graph = b"\x0a\x00" * number
    return b"\x08\x08" + b"\x3a" + varint(len(graph)) + graph


def varint(value: int) -> bytes:
    result = b""
    while value > 0x7F:
        result += bytes([value & 0x7F | 0x80])
        value >>= 7
    return result + bytes([value])


DEEP = {".".join("a" * 200): torch.zeros(1)}
BAD: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.onnx", b"", "no ONNX file"),
    "empty pt2": ("a.pt2", b"", "no exported program file"),
    "text": ("a.onnx", b"hello", "no ONNX file"),
    "bytes that begin like ONNX": ("a.onnx", b"\x08" * 40, "no ONNX file, or damaged"),
    "an endless number": ("a.onnx", b"\x08" + b"\xff" * 40, "more than 64 bits"),
    "a length beyond the end": ("a.onnx", b"\x08\x08\x3a\xff\xff\xff\xff\x07", "ends within a field"),
    "no graph": ("a.onnx", b"\x08\x08", "no graph"),
    "a graph of nothing": ("a.onnx", b"\x08\x08\x3a\x00", "no tensors"),
    "a million nodes": ("a.onnx", parts(1_000_000), "more than the 200,000 parts"),
    "a huge tensor": ("a.onnx", b"\x08\x08\x3a\x10\x2a\x0e" + (b"\x08" + varint(1 << 40)) * 2, "impossible shape"),
    "safetensors called onnx": ("a.onnx", save({"a": torch.zeros(2)}), "a safetensors file, though"),
    "an archive called onnx": ("a.onnx", bomb(), "a torch file, though its name ends in .onnx"),
    "ONNX called safetensors": ("a.safetensors", b"\x08\x08\x3a\x00" * 9, "an ONNX file, though"),
    "no program": ("a.pt2", bomb()[:-1], "does not end as a zip does"),
    "a bomb": ("a.pt2", bomb(), "it is damaged or holds"),
    "a bomb called pt": ("a.pt", bomb(), "it is damaged or holds"),
    "a directory of many": ("a.pt2", many(), "larger than that of any network"),
    "many names": ("a.safetensors", save({f"t{i}": torch.zeros(1) for i in range(10_001)}), "10,001 tensors"),
    "a deep name": ("a.safetensors", save(DEEP), "longer than the names"),
    "a name like a path": ("../../a.safetensors", b"\0" * 9, "no safetensors file"),
    "another ending": ("a.exe", b"MZ", "weights end in .safetensors"),
}
BAD_PROGRAM: dict[str, tuple[dict[str, Any], str]] = {
    "pickled weights": ({"use_pickle": True}, "cannot be read as plain numbers"),
    "an unknown type": ({"dtype": 99}, "cannot be read as plain numbers"),
    "a shape that does not fit": ({"sizes": [{"as_int": 7}], "strides": [{"as_int": 1}]}, "does not fit its bytes"),
    "a huge shape": ({"sizes": [{"as_int": 1 << 50}], "strides": [{"as_int": 1}]}, "cannot be read as plain numbers"),
    "a symbolic shape": ({"sizes": [{"as_expr": "exit()"}], "strides": [{"as_int": 1}]}, "as_int is missing"),
    "a path": ({"path_name": "../../../etc/passwd"}, "damaged"),
}


def refused(name: str, content: bytes, folder: Path) -> str:
    from app.model import dropped

    with pytest.raises(CompressionError) as error:
        dropped.open_file(name, content)
    message = str(error.value)
    assert "\n" not in message and "\x1b" not in message and len(message) < 300
    assert str(folder) not in message and "/tmp" not in message, "no path of this machine is shown to a visitor"
    assert not list(folder.rglob("*.safetensors"))
    return message


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_plain_line(name: str, tmp_path: Path) -> None:
    called, content, reason = BAD[name]
    assert reason in refused(called, content, tmp_path)


@pytest.mark.parametrize("name", BAD_PROGRAM)
def test_a_bad_program_is_one_plain_line(name: str, small_program: bytes, tmp_path: Path) -> None:
    changes, reason = BAD_PROGRAM[name]
    assert reason in refused("a.pt2", config(small_program, **changes), tmp_path)


def test_a_program_cut_off_or_of_an_old_format_is_one_plain_line(small_program: bytes, tmp_path: Path) -> None:
    assert "does not end as a zip does" in refused("a.pt2", small_program[:-400], tmp_path)
    old = replaced(small_program, "weights_config.json", None)
    assert "torch 2.8 or newer" in refused("a.pt2", old, tmp_path)


def page() -> AppTest:
    app = AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=SECONDS)
    app.switch_page("../pages/model.py")
    app.run()
    assert not app.exception, app.exception
    return app


def drop(app: AppTest, name: str, content: bytes) -> AppTest:
    app.file_uploader(key="drop_upload").set_value((name, content, "application/octet-stream")).run()
    assert not app.exception, app.exception
    return app


def test_the_page_opens_the_model_of_a_file_and_shows_what_it_does_not_know(small_program: bytes) -> None:
    app = drop(page(), "a.onnx", b"hello")
    assert ["ONNX" in str(error.value) for error in app.error] == [True]
    seven = save({n: t.contiguous() for n, t in zoo.build("resnet8", (3, 32, 32), 7).state_dict().items()})
    drop(app, "mine.safetensors", seven)
    assert app.error == []
    assert "ResNet-8" in app.success[0].value and "7 classes" in app.success[0].value
    token = str(app.session_state["at_weights"])
    subject = catalog.subject("resnet8", "none", token)
    assert (subject.input, subject.classes, subject.weights) == ((3, 32, 32), 7, token)
    assert weightfiles.path(token) is not None
    assert {metric.label: metric.value for metric in app.metric}["Parameters"]
    unknown = save({"encoder.0.weight": torch.zeros(8, 1, 3, 3), "encoder.0.bias": torch.zeros(8)})
    drop(app, "b.safetensors", unknown)
    assert "no model" in app.info[0].value
    assert {metric.label: metric.value for metric in app.metric}["Parameters"] == "80"
    app.button(key="dropped_close").click().run()
    assert not app.exception
    assert [info.value for info in app.info if "no model" in info.value] == []
    drop(app, "c.pt2", small_program)
    assert "10 classes" in app.success[0].value
    assert (app.session_state["at_model"], app.session_state["at_data"]) == ("resnet8", "mnist5k")
