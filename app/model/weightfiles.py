"""Weights that a visitor uploads: safetensors, or torch files read as plain weights, checked against the model.

They are stored as safetensors beside the runs, by the digest of what was uploaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from app import live, options
from app.model import tracing
from compression import zoo
from compression.errors import CompressionError
from compression.reading import Whole, read_object, typed
from compression.runs.paths import make_folder
from compression.zoo.content import PROGRAM, SAFETENSORS, check_ending

if TYPE_CHECKING:
    from torch import nn

FOLDER = "uploads"
RETURNED = "returned-"  # begins the names of copies of what a model's function returned
DIGITS = 16  # of the digest: what an address carries and a file is called
_NO_PLAIN = "this file cannot be read as plain weights"
WHOLE = f"{_NO_PLAIN}: it is damaged or holds a whole model; save model.state_dict() and upload that"
_SUFFIXES = {SAFETENSORS: ".safetensors", PROGRAM: ".pt2"}
_TOKEN = re.compile(rf"[0-9a-f]{{{DIGITS}}}")


def folder() -> Path:
    """Where uploaded weights lie: beside the runs, which start from them."""
    return Path(options.read().runs) / FOLDER


def path(token: str) -> Path | None:
    """The file of a token, ``None`` where there is none; what is no token names no file."""
    file = folder() / f"{token}.safetensors" if _TOKEN.fullmatch(token) else None
    return file.absolute() if file is not None and file.is_file() else None


def token_of(file: str) -> str | None:
    """The token of a file that was uploaded here and is still here, as a run's budget names it; else ``None``."""
    stored = path(Path(file).stem)
    return Path(file).stem if stored is not None and stored.resolve() == Path(file).resolve() else None


def keep(content: bytes, model: str, input: tuple[int, ...], classes: int, name: str = "weights.safetensors") -> str:
    """Check an uploaded file against the model and store it; returns its token. Nothing of a refused file is stored.

    ``name``: as the visitor's file is called, whose ending says what it is.

    Raises:
        CompressionError: not what its ending says, damaged, of another model, with numbers that are not finite, or the
            folder cannot be written.
    """
    ending = check_ending(name, content)
    from compression.zoo import weights

    token = hashlib.sha256(content).hexdigest()[:DIGITS]
    try:
        folder().parent.mkdir(parents=True, exist_ok=True)
        make_folder(folder())
        with tempfile.TemporaryDirectory(dir=folder(), prefix=".") as place:
            file = Path(place) / f"{token}{_SUFFIXES.get(ending, '.pt')}"
            file.write_bytes(content)
            module = _check(file, model, input, classes)
            if ending != SAFETENSORS:
                file = weights.save(module, file.with_suffix(".safetensors"), {})
            os.replace(file, folder() / file.name)
    except OSError as error:
        raise CompressionError(f"the file cannot be stored: {error.strerror or error}") from error
    return token


class _Size(TypedDict):
    """The size that a model has with the weights beside it; this server wrote it."""

    model: str
    input: list[Whole]
    classes: Whole


_SIZE = TypeAdapter(_Size)


def note_size(token: str, model: str, input: tuple[int, ...], classes: int) -> None:
    """Store at which size a model has these weights, for where no data set says it.

    Raises:
        CompressionError: the folder cannot be written.
    """
    text = json.dumps({"model": model, "input": list(input), "classes": classes})
    try:
        (folder() / f"{token}.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise CompressionError(f"the file cannot be stored: {error.strerror or error}") from error


def size(token: str, model: str) -> tuple[tuple[int, ...], int] | None:
    """(input, classes) that were stored for this model with these weights; ``None`` where none were."""
    file = folder() / f"{token}.json"
    if path(token) is None or not file.is_file():
        return None
    stored = typed(_SIZE, read_object(file, "size of weights", 1 << 16), "size of weights")
    return (tuple(stored["input"]), stored["classes"]) if stored["model"] == model else None


def returned(model: str, input: tuple[int, ...], classes: int) -> Path | None:
    """A copy of the weights that a model's own function returns, a file the pages can measure; ``None``: it has none.

    Runs do not start from this copy: they call the function, and compare digests.

    Raises:
        CompressionError: the function fails, or the folder cannot be written.
    """
    file = _returned(model, input, classes)
    if file is not None and not file.is_file():
        _returned.clear()
        file = _returned(model, input, classes)
    return file


@st.cache_data(max_entries=16, show_spinner="Calling the model's function…")
def _returned(model: str, input: tuple[int, ...], classes: int) -> Path | None:
    from compression.zoo import weights
    from compression.zoo.origin import returned as of_function

    origin = of_function(model, input, classes)
    if origin is None:
        return None
    file = folder().absolute() / f"{RETURNED}{origin.digest[:DIGITS]}.safetensors"
    return file if file.is_file() else weights.save(origin.model, file, {"model": model, "origin": origin.name})


def fits(token: str, model: str, input: tuple[int, ...], classes: int) -> bool:
    """Are these weights here, and of this model at this size?"""
    file = path(token)
    return file is not None and _fits(str(file), model, input, classes)


@st.cache_data(max_entries=64, show_spinner=False)
def _fits(file: str, model: str, input: tuple[int, ...], classes: int) -> bool:
    """A file's name is the digest of what was uploaded, so that the answer stays true."""
    try:
        _check(Path(file), model, input, classes)
    except CompressionError:
        return False  # whose weights they are does not matter: the page says that they do not fit
    return True


def _check(file: Path, model: str, input: tuple[int, ...], classes: int) -> nn.Module:
    """The model with the weights of a file."""
    from compression.zoo import weights

    with live.memory().work(model, tracing.need(model, input, classes)):
        module = zoo.build(model, input, classes)
        try:
            weights.load(module, file)
        except CompressionError as error:
            raise plain_problem(error, file) from error
        _finite(module)
    return module


def plain_problem(error: CompressionError, file: Path) -> CompressionError:
    """What is wrong with an uploaded file, without its path on this machine, and what to do about it."""
    line = str(error).replace(f"weights file {file}", "this file")
    return CompressionError(WHOLE if line.startswith(_NO_PLAIN) else line)


def _finite(module: nn.Module) -> None:
    import torch

    for name, tensor in module.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise CompressionError(f"this file: {name} holds NaN or infinite numbers; nothing can be made of them")
