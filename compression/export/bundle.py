"""The bundle: every file of a finished run in one zip, written atomically."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import nn

from compression import home
from compression.errors import CompressionError
from compression.export import card, standalone
from compression.export.config import config
from compression.export.example import example
from compression.export.layered_table import FILE, LOADER, TABLE, stored
from compression.export.manifest import CHECKSUMS, manifest
from compression.export.program import NotExpressible, plain, saved, traced
from compression.export.rounding import rounded
from compression.export.source import Source, read
from compression.pack.container import MOST_BYTES as MOST
from compression.reading import expanded, read_bytes
from compression.representation import Represented
from compression.runs.files import disk_full, finite
from compression.runs.folder import RunFolder

if TYPE_CHECKING:
    from compression.export.layered import Layering

ONNX = "the ONNX files"
Say = Callable[[str, float], None]


@dataclass(frozen=True, repr=False)
class Bundle(Represented):
    """A bundle that was written: its ``files`` (name → ``bytes`` and ``sha256``) and the measurements of the export.

    ``result`` is that of the run it was made of.
    """

    path: Path
    run: str
    bytes: int
    files: Mapping[str, Mapping[str, Any]]
    measured: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "run": self.run, "bundle": str(self.path), "bytes": self.bytes, "files": dict(self.files), **self.measured,
        }  # fmt: skip


@home.optional()
def export(
    folder: RunFolder,
    out: str | Path,
    *,
    onnx: bool = True,
    latency: bool = True,
    multiple: int = 1,
    layered: Layering | None = None,
    bits: float | None = None,
    say: Say | None = None,
) -> Bundle:
    """Write the bundle of a finished run to the zip ``out``.

    Args:
        folder: the run.
        out: the file; an existing one is replaced when the new one is complete.
        onnx: include the ONNX files, compared with torch on real images.
        latency: time the ONNX variants on this machine (needs ``onnx``).
        multiple: round channel counts up to multiples of this, by keeping some channels that are zero.
        layered: add a layered file, whose prefixes are measured (:mod:`.layered`), and leave it in the run's folder
            too. Without it, one that is there already is added.
        bits: of a run whose weights serve several bit-widths, the precision of at most so many bits a weight.
        say: called with the current step and the share done.

    Raises:
        CompressionError: the run is not done, its files are damaged, the model cannot be expressed, ``multiple``
            has nothing to round, or the run has no precision of so few ``bits``.
        OSError: the file cannot be written.
    """
    report = say or (lambda text, share: None)
    report("restoring the model from the packed file", 0.0)
    if bits is not None and layered is not None:
        raise CompressionError("a layered file has every precision of the run: leave the bits out")
    source = read(folder, trained=False, bits=bits)
    if multiple != 1:
        source = rounded(source, multiple)
    extra, about_layers = layers(folder, source, layered, report)
    report("writing the program", 0.1)
    files, measured = contents(source, report, onnx=onnx, latency=latency, extra=extra)
    measured |= about_layers
    bound = manifest(source, config(source), files)
    report("writing the bundle", 0.95)
    path = expanded(out)
    write(path, {**files, CHECKSUMS: _json(bound)})
    return Bundle(path, source.run, path.stat().st_size, bound["files"], measured, source.result)


def layers(
    folder: RunFolder, source: Source, layering: Layering | None, say: Say
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of a layered export by name, and its table under ``layered``: of a new one, or of one stored before.

    Raises:
        CompressionError: the weights have no planes, or a stored file is damaged.
    """
    if layering is None:
        of_the_run = source.multiple == 1 and "read_at" not in source.result
        table = stored(folder) if of_the_run else None
        if table is None:
            return {}, {}
        names = (FILE, TABLE, LOADER)
        return {name: read_bytes(folder.bundle / name, "layered file", MOST) for name in names}, {
            "layered": table.to_dict()
        }
    from compression.export.layered import keep
    from compression.export.layered import layered as make

    result = make(source, layering, lambda text, share: say(text, 0.1 * share))
    if source.multiple == 1:
        keep(folder, result)
    return result.files(), {"layered": result.table.to_dict()}


def contents(
    source: Source, say: Say, *, onnx: bool, latency: bool, extra: Mapping[str, bytes] | None = None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The bundle's files by name, and the measurements of the export; ``extra`` files are in it too.

    Files that torch or ONNX cannot express are omitted: ``measured["left_out"]`` is file → reason.
    """
    about = config(source)
    files = {
        "budget.json": _json(about["budget"]),
        "config.json": _json(about),
        "model.safetensors": save(_state(source.model)),
        "weights.packed": source.packed,
        "load.py": standalone.program().encode(),
        **(extra or {}),
    }
    measured: dict[str, Any] = {"ledger": dict(source.result["ledger"]), "multiple": source.multiple, "left_out": {}}
    if "read_at" in source.result:
        measured["bits"] = source.result["read_at"]
    answering = source.model
    try:
        program = traced(source.model, source.example)
        written = plain(program)
        files["model.pt2"] = saved(written)
        answering = written.module()
        if onnx:
            from compression.export.onnx_files import onnx_files

            graphs, compared = onnx_files(source, program, say, latency=latency)
            files |= graphs
            measured |= compared
    except NotExpressible as reason:
        missing = [*(["model.pt2"] if "model.pt2" not in files else []), *([ONNX] if onnx else [])]
        measured["left_out"] = dict.fromkeys(missing, str(reason))
    files["example.safetensors"] = save(example(answering, source))
    files["MODEL_CARD.md"] = card.text(source.result, about, about["budget"], measured, files).encode()
    return files, measured


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}


def _json(value: Any) -> bytes:
    return (json.dumps(finite(value), indent=2, allow_nan=False) + "\n").encode()


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a zip of these files beside the target and move it into place when it is complete.

    Raises:
        CompressionError: the target is a folder, its folder does not exist, or the disk is full.
        OSError: the folder cannot be written; the partial file is removed.
    """
    if path.is_dir():
        raise CompressionError(f"{path} is a folder; name the zip file to write")
    if not path.absolute().parent.is_dir():
        raise CompressionError(f"the folder {path.parent} does not exist; make it first")
    descriptor, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in files.items():
                    entry = zipfile.ZipInfo(name)
                    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                    archive.writestr(entry, data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if disk_full(error):
            raise CompressionError(f"no space left on the disk of {path}: free some and export again") from error
        raise
