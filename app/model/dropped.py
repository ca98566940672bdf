"""A file dropped on the Model page: its model is recognised and opened, or its tensors are shown."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import names, plain, state, widgets, words
from app.model import catalog, weightfiles
from app.terms import tip
from compression import data as datasets
from compression import zoo
from compression.data import PIXEL
from compression.errors import CompressionError
from compression.plots import model as figures
from compression.zoo.content import NETWORKS, ONNX, PROGRAM, check_ending

if TYPE_CHECKING:
    from compression.zoo.checkpoint import Checkpoint
    from compression.zoo.recognise import Match, Nearest

SHOWN, REFUSED = "dropped_file", "dropped_problem"
LARGEST_MB = 500
BITS = (8, 4)
_NO_GRAPH = {
    ONNX: "An ONNX file's operators are not converted back to PyTorch here, so there are no groups and no runs of it: "
    "drop the weights as safetensors, or start the app with the Python function that builds the model.",
    PROGRAM: "A program is never run here, so there are no groups and no runs of it: start the app with the Python "
    "function that builds the model.",
}
_NO_CODE = (
    "Weights alone do not say how the layers are connected, so there are no groups: start the app with the Python "
    "function that builds the model (`--model file.py:function`)."
)
_SIZE_HELP = (
    "Weights of at least two dimensions at so many bits, all others in fp32, nothing pruned; no run has shown it."
)


@dataclass(frozen=True, eq=False)
class Dropped:
    """What is known of a file: in one line, and its tensors where no model was opened for it."""

    name: str
    line: str
    model: str = ""  # the one that was opened
    kind: str = ""
    tensors: int = 0
    params: int = 0
    bytes: tuple[int, ...] = ()
    modules: tuple[dict[str, Any], ...] = ()


def section() -> bool:
    """The place to drop a file; whether a file that is no known model is shown now, instead of the chosen model."""
    st.file_uploader(
        "Or drop a file: the model of its weights is recognised and opened",
        type=[ending.removeprefix(".") for ending in NETWORKS],
        max_upload_size=LARGEST_MB,
        key="drop_upload",
        on_change=_dropped,
        help=tip(
            "safetensors, a torch file with a state dict, ONNX, or a program of `torch.export` (pt2). Only names, "
            "shapes and numbers are read; nothing in a file is run. Recognised are models of the zoo, torchvision and "
            "timm."
        ),
    )
    if problem := st.session_state.pop(REFUSED, None):
        widgets.problem(problem)
    shown: Dropped | None = st.session_state.get(SHOWN)
    if shown is None:
        return False
    if shown.model:
        if shown.model == state.get("model"):
            st.success(shown.line, icon=":material/task_alt:")
        return False
    _contents(shown)
    return True


def forget() -> None:
    """Another model was picked: the file is no longer what the page is about."""
    st.session_state.pop(SHOWN, None)


def _contents(shown: Dropped) -> None:
    st.subheader(f"In {plain.text(shown.name)}", anchor=False)
    st.info(shown.line, icon=":material/help_center:")
    sizes = [
        (f"Size at {bits} bits", words.size(size), "", _SIZE_HELP) for bits, size in zip(BITS, shown.bytes, strict=True)
    ]
    widgets.metrics(
        ("Parameters", words.count(shown.params), "", f"{shown.params:,} numbers in {shown.tensors:,} tensors"),
        ("Size in fp32", words.size(4 * shown.params), "", "4 bytes for each parameter"),
        *sizes,
    )
    info = figures.tree_info(shown.modules, shown.name)
    st.caption("Area and colour: parameters. Click a block to enter it.")
    alt = f"Treemap of {shown.name}: parameters per module. The table below holds the same."
    rows = [{"module": module["name"], "parameters": module["params"]} for module in shown.modules]
    widgets.chart(figures.tree_figure(info), "dropped", rows, alt)
    st.button("Back to the chosen model", key="dropped_close", icon=":material/undo:", on_click=forget)


def _dropped() -> None:
    forget()
    file = st.session_state.get("drop_upload")
    if file is None:
        return
    try:
        st.session_state[SHOWN] = open_file(file.name, file.getvalue())
    except CompressionError as error:
        st.session_state[REFUSED] = error


def open_file(name: str, content: bytes) -> Dropped:
    """Recognise a file and open its model, in the address, on data that suit it.

    Raises:
        CompressionError: not what its ending says, damaged, empty, or larger than it may be.
    """
    from compression.zoo.recognise import Match, recognise

    kind = check_ending(name, content, NETWORKS)
    checkpoint = _read(kind, content)
    result = recognise(checkpoint.shapes, checkpoint.whole)
    if isinstance(result, Match):
        return _opened(result, name, content, checkpoint)
    return _unknown(result, name, checkpoint)


def _read(kind: str, content: bytes) -> Checkpoint:
    from compression.zoo import checkpoint

    endings = {stored: ending for ending, stored in reversed(NETWORKS.items())}
    try:
        with tempfile.TemporaryDirectory(prefix="dropped-") as place:
            file = Path(place) / f"weights{endings[kind]}"
            file.write_bytes(content)
            try:
                return checkpoint.read(file, kind)
            except CompressionError as error:
                raise weightfiles.plain_problem(error, file) from error
    except OSError as error:
        raise CompressionError(f"the file cannot be stored: {error.strerror or error}") from error


def _opened(match: Match, name: str, content: bytes, checkpoint: Checkpoint) -> Dropped:
    size = (match.model, match.input, match.classes)
    token = ""
    if checkpoint.kind != ONNX:
        token = weightfiles.keep(content, *size, name)
        weightfiles.note_size(token, *size)
    chosen = _data(match)
    for key, value in (("model", match.model), ("data", chosen), ("weights", token)):
        state.put(key, value)
    classes = "" if zoo.spec(match.model).kind is PIXEL else f" with {match.classes:,} classes"
    title = names.model_label(match.model)
    line = f"{plain.text(name)} is **{plain.text(title)}**{classes}, {words.count(checkpoint.params)} numbers."
    if token:
        line += " All pages and new runs now use its weights."
    else:
        line += (
            " Groups and forecasts below are of that architecture; its weights stay in the file, as an ONNX file folds "
            "batch norms into the layers before them. Drop safetensors to run it."
        )
    return Dropped(name, line, match.model)


def _data(match: Match) -> str:
    """The data set that the model was trained for, as far as its size tells: the present one first; else none."""
    own = zoo.spec(match.model)
    for data in dict.fromkeys([state.get("data"), *own.data, *datasets.names()]):
        if data == catalog.NO_DATA:
            continue
        try:
            subject = catalog.subject(match.model, data)
        except CompressionError:
            continue  # data of another kind
        if (subject.input, subject.classes) == (match.input, match.classes):
            return data
    return catalog.NO_DATA


def _unknown(near: Nearest, name: str, checkpoint: Checkpoint) -> Dropped:
    from compression.counting.tensors import nominal_bytes

    line = "This is no model that is known here."
    if near.model:
        title = plain.text(names.model_label(near.model))
        line += f" The nearest is {title}: {plain.text(near.difference)}."
    line += f" {_NO_GRAPH.get(checkpoint.kind, _NO_CODE)}"
    if checkpoint.external:
        line += f" The values of {words.plural(checkpoint.external, 'tensor')} are in another file: not needed here."
    sizes = tuple(nominal_bytes(checkpoint.shapes, bits) for bits in BITS)
    return Dropped(
        name, line, "", checkpoint.kind, len(checkpoint.shapes), checkpoint.params, sizes, tuple(checkpoint.modules)
    )
