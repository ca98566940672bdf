"""The slim model as a program of plain operations (``torch.export``), which runs without our code or any model's."""

from __future__ import annotations

import io
import logging
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import torch
from pydantic import TypeAdapter
from torch import fx, nn
from torch.export import Dim, ExportedProgram
from torch.utils._pytree import tree_map

from compression.errors import CompressionError
from compression.graph.inputs import Example, Inputs
from compression.quant.op import SMALLEST
from compression.reading import cut, json_object, typed

FAKE_QUANTIZE = torch.ops.compression.fake_quantize.default
_PLACES = ("stack_trace", "custom")  # notes on nodes that hold paths, or what a user wrote there

SAMPLE_INPUTS = "data/sample_inputs/"
_PLAIN = (
    "models/model.json",
    "archive_format",
    "archive_version",
    ".data/version",
    "byteorder",
    ".data/serialization_id",
)
_CONFIG = TypeAdapter(dict[str, dict[str, object]])
_RAW = re.compile(r"data/(weights/weight|constants/tensor)_\d+")


class NotExpressible(CompressionError):
    """A file of the bundle that cannot be written for this model; the bundle is written without it."""


def traced(model: nn.Module, example: Example) -> ExportedProgram:
    """The program of a plain model in evaluation mode; quantizers are single nodes.

    ``example``: a batch of at least two; the batch of the program is free. Names of inputs are those of ``forward()``.

    Raises:
        NotExpressible: the model cannot be expressed as a program, with the reason.
    """
    inputs = Inputs.read(example)
    batch, size = Dim("batch", min=1), len(inputs.tensors[0])
    shapes = tree_map(
        lambda x: {0: batch} if isinstance(x, torch.Tensor) and x.dim() and len(x) == size else None,
        inputs.kwargs or inputs.args,
    )
    with _in_one_line("the model cannot be exported"), torch.no_grad():
        program = torch.export.export(model.eval(), inputs.args, inputs.kwargs, dynamic_shapes=shapes)
        program.module()  # Python is generated here, in which a layer's name may not be writable
        return program


def plain(program: ExportedProgram) -> ExportedProgram:
    """The program with quantizers of activations as clamp, divide, round and multiply; bit for bit the same."""
    return program.run_decompositions({FAKE_QUANTIZE: _plain_quantize}) if uses_quantizers(program) else program


def uses_quantizers(program: ExportedProgram) -> bool:
    """Whether quantizers are among the program's operations."""
    return any(node.target is FAKE_QUANTIZE for node in program.graph.nodes)


def saved(program: ExportedProgram) -> bytes:
    """The file ``model.pt2``, without example inputs, which torch would pickle, and without paths of this machine.

    Raises:
        NotExpressible: the program, or a tensor of it, can only be stored as a pickle.
    """
    _forget_places(program)
    program._example_inputs = None
    buffer = io.BytesIO()
    with _in_one_line("the program cannot be stored"):
        torch.export.save(program, buffer)
        check_safe(buffer.getvalue(), "model.pt2")
    return buffer.getvalue()


def _forget_places(program: ExportedProgram) -> None:
    """Drop what an exporter notes about the lines and files that each operation came from."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
            for note in _PLACES:
                node.meta.pop(note, None)


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Whatever an exporter meets in a user's ``forward``, in one line; it would log pages of graphs."""
    before = logging.root.manager.disable
    try:
        logging.disable(logging.ERROR)
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0]
        raise NotExpressible(f"{what}: {type(error).__name__}: {line}") from error
    finally:
        logging.disable(before)


def check_safe(data: bytes, name: str) -> None:
    """Refuse a program file that holds anything torch would unpickle: such a file could run code when loaded.

    Raises:
        CompressionError: naming the entry.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                _check_entry(info, archive, name)
    except (zipfile.BadZipFile, ValueError, EOFError, zlib.error) as error:
        raise CompressionError(f"{name} is no program file: {error}") from error


def _check_entry(info: zipfile.ZipInfo, archive: zipfile.ZipFile, name: str) -> None:
    inner = info.filename.partition("/")[2]
    if SAMPLE_INPUTS in inner and info.file_size == 0:
        return
    if inner.endswith("_config.json"):
        what = f"{name}: {cut(info.filename)}"
        config = typed(_CONFIG, json_object(archive.read(info), what).get("config", {}), what)
        if not any(entry.get("use_pickle", True) for entry in config.values()):
            return
    elif inner in _PLAIN or _RAW.fullmatch(inner):
        return
    raise CompressionError(f"{name} holds a pickle or an unknown entry ({info.filename}): it is not loaded")


def _plain_quantize(
    x: torch.Tensor,
    step_size: torch.Tensor,
    clip: torch.Tensor,
    exponent: torch.Tensor | None = None,
    unsigned: bool = False,
) -> torch.Tensor:
    """What :func:`compression.quant.op.fake_quantize` computes, in operations every runtime has."""
    step, bound = step_size.clamp(min=SMALLEST), clip.clamp(min=SMALLEST)
    if exponent is None:
        low = torch.zeros_like(bound) if unsigned else -bound
        return torch.clamp(x, low, bound).div(step).round().mul(step).add(0.0)
    x = x.clamp(min=0) if unsigned else x
    magnitude = torch.minimum(x.abs(), bound).pow(exponent.clamp(min=SMALLEST))
    return magnitude.div(step).round().mul(x.sign()).mul(step).add(0.0)
