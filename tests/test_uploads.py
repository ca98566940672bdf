"""Uploaded weights: what does not belong to the chosen model is answered in one line, and nothing of it is kept."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from streamlit.testing.v1 import AppTest

from app import nav
from app.budget import rerun
from app.model import catalog, weightfiles
from compression import zoo
from compression.budget import Budget
from compression.errors import CompressionError

SECONDS = 60
SIZE = ("resnet8", (1, 28, 28), 10)
STATE = {name: tensor.contiguous() for name, tensor in zoo.build(*SIZE, seed=3).state_dict().items()}
GOOD = save(STATE)


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["app/main.py", "--runs", str(tmp_path / "runs")])


def changed(**tensors: torch.Tensor | None) -> bytes:
    """The good file with some tensors replaced, added, or left out (``None``)."""
    state = {**STATE, **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}
    return save({name: tensor for name, tensor in state.items() if tensor is not None})


def header(entries: Any, body: bytes = b"") -> bytes:
    """A file with this header, whatever it says."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + body


class Harmful:
    """What a pickle could do; it must never be done."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (pytest.fail, ("an uploaded pickle was executed",))


def archive() -> bytes:
    """A zip bomb: a kilobyte that would be a megabyte of zeros, as ``..`` beside it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../weights.safetensors", b"\0" * 1_000_000)
    return buffer.getvalue()


def torch_file() -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    return buffer.getvalue()


FIRST = next(name for name, tensor in STATE.items() if tensor.dim() == 4)
BAD: dict[str, bytes] = {
    "empty": b"",
    "a few bytes": b"\0\1\2",
    "text": b"hello, these are no weights at all",
    "json": json.dumps({"conv1.weight": [1, 2]}).encode(),
    "cut off in the header": GOOD[:40],
    "cut off in the numbers": GOOD[:-7],
    "more than it says": GOOD + b"\0" * 16,
    "a header longer than the file": struct.pack("<Q", 1 << 40) + b"{}",
    "a header of the largest length": struct.pack("<Q", (1 << 64) - 1) + b"{}",
    "a header that is no JSON": header(b"{not json"),
    "a header of brackets": header(b"[" * 100_000),
    "a header that is a list": header([1, 2, 3]),
    "no tensors": header({}),
    "offsets past the end": header({FIRST: {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 40]}}, b"\0" * 8),
    "offsets backwards": header({FIRST: {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, b"\0" * 8),
    "overlapping tensors": header(
        {n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in ("a", "b")}, b"\0" * 8
    ),
    "a huge shape": header({FIRST: {"dtype": "F32", "shape": [1 << 31, 1 << 31], "data_offsets": [0, 8]}}, b"\0" * 8),
    "a negative shape": header({FIRST: {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, b"\0" * 8),
    "an unknown type": header({FIRST: {"dtype": "F1", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
    "a pickle": pickle.dumps(Harmful()),
    "a torch file": torch_file(),
    "a zip bomb": archive(),
    "one tensor missing": changed(**{FIRST.replace(".", "__"): None}),
    "one tensor more": changed(more=torch.zeros(2)),
    "a name like a path": changed(**{"../../weights": torch.zeros(2)}),
    "a wrong shape": changed(**{FIRST.replace(".", "__"): torch.zeros(1, 1, 3, 3)}),
    "NaN": changed(**{FIRST.replace(".", "__"): torch.full_like(STATE[FIRST], float("nan"))}),
    "infinity": changed(**{FIRST.replace(".", "__"): torch.full_like(STATE[FIRST], float("inf"))}),
    "another model": save({n: t.contiguous() for n, t in zoo.build("resnet20").state_dict().items()}),
    "other classes": save({n: t.contiguous() for n, t in zoo.build("resnet8", (1, 28, 28), 7).state_dict().items()}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as refused:
        weightfiles.keep(BAD[name], *SIZE)
    message = str(refused.value)
    assert "\n" not in message
    assert str(tmp_path) not in message, "no path of this machine is shown to a visitor"
    assert not list(tmp_path.rglob("*.safetensors"))
    assert list(weightfiles.folder().glob("*")) == []


def torched(content: Any, **form: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **form)
    return buffer.getvalue()


GOOD_TORCH = {
    "mine.pt": torched(STATE),
    "mine.pth": torched({"state_dict": {f"module.{name}": tensor for name, tensor in STATE.items()}}),
    "mine.TH": torched(STATE, _use_new_zipfile_serialization=False),
}
BAD_TORCH: dict[str, tuple[str, bytes, str]] = {
    "safetensors called .pt": ("a.pt", GOOD, "a safetensors file, though its name ends in .pt"),
    "torch called .safetensors": (
        "a.safetensors",
        torched(STATE),
        "a torch file, though its name ends in .safetensors",
    ),
    "text called .pth": ("a.pth", b"hello, these are no weights at all", "no torch file"),
    "empty .th": ("a.th", b"", "no torch file"),
    "a plain pickle": ("a.pt", pickle.dumps(Harmful()), "no torch file"),
    "a pickle in an archive": ("a.pt", torched(Harmful()), "save model.state_dict()"),
    "a whole model": ("a.pt", torched(zoo.build(*SIZE)), "save model.state_dict()"),
    "an archive of something else": ("a.pt", archive(), "plain weights"),
    "cut off": ("a.pt", torched(STATE)[:-200], "plain weights"),
    "no tensors": ("a.pt", torched([1, 2, 3]), "no state_dict"),
    "one tensor missing": ("a.pt", torched({n: t for n, t in STATE.items() if n != FIRST}), f"{FIRST} is missing"),
    "NaN": ("a.pt", torched({**STATE, FIRST: torch.full_like(STATE[FIRST], float("nan"))}), "NaN"),
    "another ending": ("a.bin", torched(STATE), "weights end in .safetensors, .pt, .pth, .th"),
    "an ending alone": (".pt", torched(STATE), "weights end in"),
}


@pytest.mark.parametrize("name", GOOD_TORCH)
def test_torch_files_are_read_as_plain_weights_and_stored_as_safetensors(name: str) -> None:
    token = weightfiles.keep(GOOD_TORCH[name], *SIZE, name)
    path = weightfiles.path(token)
    assert path is not None
    stored = load_file(path)
    assert stored.keys() == STATE.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in STATE.items())
    assert catalog.subject("resnet8", "mnist5k", token).weights == token
    assert [file.suffix for file in weightfiles.folder().iterdir()] == [".safetensors"]


@pytest.mark.parametrize("name", BAD_TORCH)
def test_a_file_that_is_not_what_its_ending_says_is_one_plain_line(name: str, tmp_path: Path) -> None:
    called, content, reason = BAD_TORCH[name]
    with pytest.raises(CompressionError) as refused:
        weightfiles.keep(content, *SIZE, called)
    message = str(refused.value)
    assert reason in message
    assert "\n" not in message and "\x1b" not in message and len(message) < 200
    assert str(tmp_path) not in message
    assert list(weightfiles.folder().glob("*")) == []


def test_there_are_thirty_of_them() -> None:
    assert len(BAD) >= 30


@pytest.mark.parametrize(
    "token", ["", "..", "../../etc/passwd", "0" * 15, "0" * 17, "0123456789ABCDEF", "x" * 16, "%2e"]
)
def test_what_is_no_token_names_no_file(token: str) -> None:
    weightfiles.folder().mkdir(parents=True)
    (weightfiles.folder() / f"{'f' * 16}.safetensors").write_bytes(GOOD)
    assert weightfiles.path(token) is None


def test_good_weights_are_what_every_page_and_run_starts_from() -> None:
    token = weightfiles.keep(GOOD, *SIZE)
    assert weightfiles.keep(GOOD, *SIZE) == token, "the same file twice is kept once"
    subject = catalog.subject("resnet8", "mnist5k", token)
    assert subject.weights == token
    path = catalog.weights_file(subject)
    assert path is not None
    model = catalog.loaded(subject, str(path))
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in STATE.items())
    from compression.budget import Budget

    assert subject.place(Budget()).weights == str(path)
    assert catalog.subject("resnet20", "cifar10", token).weights == "", "they do not fit there"
    assert catalog.subject("resnet8", "mnist5k", "0" * 16).weights == ""


def model_page(**query: str) -> AppTest:
    app = AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=60)
    app.switch_page("../pages/model.py")
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, app.exception
    return app


def test_a_link_with_weights_opens_on_them_and_another_model_forgets_them() -> None:
    token = weightfiles.keep(GOOD, *SIZE)
    app = model_page(weights=token)
    assert [str(element.value) for element in app.error] == []
    assert any(token in element.value for element in app.markdown)
    app.selectbox(key="pick_model").set_value("resnet20").run()
    assert not app.exception
    assert "weights" not in app.query_params


def test_a_link_with_weights_that_are_not_here_says_so_once() -> None:
    app = model_page(weights="0123456789abcdef")
    (error,) = [str(element.value) for element in app.error]
    assert "not uploaded here" in error
    app.run()
    assert [str(element.value) for element in app.error] == []


def test_the_page_takes_good_weights_and_refuses_bad_ones() -> None:
    app = model_page()
    upload = app.file_uploader(key="weights_upload")
    upload.set_value(("mine.safetensors", BAD["one tensor missing"], "application/octet-stream")).run()
    assert not app.exception
    (error,) = [str(element.value) for element in app.error]
    assert f"{FIRST} is missing" in error
    assert "weights" not in app.query_params
    app.file_uploader(key="weights_upload").set_value(("mine.safetensors", GOOD, "application/octet-stream")).run()
    assert not app.exception
    assert [str(element.value) for element in app.error] == []
    assert weightfiles.path(str(app.query_params["weights"])) is not None
    app.button(key="trained_weights").click().run()
    assert not app.exception
    assert "weights" not in app.query_params


def test_a_link_that_came_before_its_weights_works_once_they_are_here() -> None:
    token = hashlib.sha256(GOOD).hexdigest()[: weightfiles.DIGITS]
    assert catalog.subject("resnet8", "mnist5k", token).weights == ""
    assert weightfiles.keep(GOOD, *SIZE) == token
    assert catalog.subject("resnet8", "mnist5k", token).weights == token
    path = weightfiles.path(token)
    assert path is not None
    path.unlink()
    assert catalog.subject("resnet8", "mnist5k", token).weights == "", "taken away again"


def test_another_run_of_uploaded_weights_starts_from_them_as_long_as_they_are_here() -> None:
    token = weightfiles.keep(GOOD, *SIZE)
    fields = Budget(sparsity=0.3, weights=str(weightfiles.path(token))).to_dict()
    app = AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=SECONDS)
    app.switch_page("../pages/budget.py")
    for name, value in rerun.query(fields).items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    assert not app.error
    assert (app.session_state["at_weights"], app.slider(key="ask sparsity").value) == (token, 0.3)
    app.query_params["weights"] = ""
    app.run()
    assert app.session_state["at_weights"] == "", "an address may go back to the trained ones"
    path = weightfiles.path(token)
    assert path is not None
    path.rename(path.with_name("elsewhere.safetensors"))
    assert rerun.query(fields) == {"model": "resnet8", "data": "mnist5k"}
    assert weightfiles.token_of("/etc/passwd") is None
    assert weightfiles.token_of(str(path.with_name("elsewhere.safetensors"))) is None


def test_the_same_budget_by_another_method_keeps_its_uploaded_weights() -> None:
    token = weightfiles.keep(GOOD, *SIZE)

    def page(fields):  # type: ignore[no-untyped-def]  # its source is run elsewhere, without this file's imports
        import streamlit as st

        from app import state, widgets
        from app.budget import rerun
        from compression.errors import CompressionError

        state.sync()
        try:
            st.session_state["query"] = rerun.address(fields, "opq")
        except CompressionError as error:
            widgets.problem(error)

    for weights, expected in ((str(weightfiles.path(token)), token), (None, "")):
        app = AppTest.from_function(page, default_timeout=SECONDS, kwargs={"fields": Budget(weights=weights).to_dict()})
        app.query_params["weights"] = "feedfeedfeedfeed"
        app.run()
        assert not app.error
        assert app.session_state["query"]["weights"] == expected
    elsewhere = Budget(weights="/tmp/other.safetensors").to_dict()
    app = AppTest.from_function(page, default_timeout=SECONDS, kwargs={"fields": elsewhere}).run()
    assert "names a weights file" in app.error[0].value
