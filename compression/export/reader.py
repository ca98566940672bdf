"""Reading a bundle back: every file against its checksum before anything of it is used."""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compression import zoo
from compression.budget import Budget
from compression.errors import CompressionError
from compression.export.bundle import CHECKSUMS
from compression.export.bundle import VERSION
from compression.export.program import check_safe
from compression.export.source import restored
from compression.graph import trace
from compression.pack import unpack
from compression.reading import json_object
from compression.reading import short

MOST_BYTES = 4 << 30
NEEDED = ("budget.json", "config.json", "weights.packed", "model.pt2")


def load(path: str | Path) -> nn.Module:
    """The compressed model of a bundle, in evaluation mode: slim, its weights decoded from ``weights.packed``.

    A model of the zoo or of torchvision comes back in its own classes, so that it can be traced, quantized and trained
    again; any other as the graph of ``model.pt2``. No code of the bundle is run, and nothing in it is unpickled; as
    reading a program may still evaluate expressions in it, load other people's models of the second kind only if you
    trust where they are from.

    Raises:
        CompressionError: no bundle, of a newer version, truncated, or changed since it was made; the file is named.
    """
    files = read_files(path)
    budget = Budget.from_dict(_object(files, "budget.json"))
    about = _object(files, "config.json")
    state = _weights(files["weights.packed"])
    if ".py:" in budget.model:
        return _from_program(files["model.pt2"], state)
    units = {name: group["removed"] for name, group in about["groups"].items() if group["removed"]}
    size = tuple(about["input"])
    dense = zoo.build(budget.model, size, about["outputs"]).eval()
    return restored(dense, trace(dense, zoo.example(budget.model, input=size)), units, state)


def read_files(path: str | Path) -> dict[str, bytes]:
    """The files of a bundle by name, each equal to its checksum.

    Raises:
        CompressionError: as :func:`load`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = _entries(archive, path)
    except OSError as error:
        raise CompressionError(f"bundle {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise CompressionError(f"bundle {path} is truncated or damaged ({error}): export it again") from error
    return found


def _entries(archive: zipfile.ZipFile, path: str | Path) -> dict[str, bytes]:
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    if CHECKSUMS not in sizes or sum(sizes.values()) > MOST_BYTES:
        raise CompressionError(f"{path} is no bundle: it has no {CHECKSUMS}, or is larger than any model")
    told = _object({CHECKSUMS: archive.read(CHECKSUMS)}, CHECKSUMS)
    if told.get("version") != VERSION:
        raise CompressionError(f"bundle {path} has version {short(told.get('version'))}; this program reads {VERSION}")
    known = told.get("files")
    if not isinstance(known, Mapping):
        raise CompressionError(f"bundle {path}: {CHECKSUMS} lists no files")
    for name in (*NEEDED, *known):
        if name not in sizes or name not in known:
            raise CompressionError(f"bundle {path}: {name} is missing")
    return {name: _checked(archive.read(name), name, known[name], path) for name in known}


def _checked(data: bytes, name: str, told: Any, path: str | Path) -> bytes:
    found, wanted = hashlib.sha256(data).hexdigest(), told.get("sha256") if isinstance(told, Mapping) else None
    if found != wanted:
        raise CompressionError(
            f"bundle {path}: {name} was changed since it was made (sha256 {found}, the bundle says {short(wanted)})"
        )
    return data


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    return json_object(files[name], f"{name} in the bundle")


def _weights(data: bytes) -> dict[str, torch.Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.packed"
        path.write_bytes(data)
        return unpack(path)


def _from_program(data: bytes, state: Mapping[str, torch.Tensor]) -> nn.Module:
    check_safe(data, "model.pt2")
    model = torch.export.load(io.BytesIO(data)).module()
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        raise CompressionError(f"model.pt2 and weights.packed do not fit: {str(error).splitlines()[-1]}") from error
    return model
