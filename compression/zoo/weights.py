"""Weights files: where trained ones are stored, how they are read safely, and the provenance in a saved one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from typing_extensions import TypedDict

from compression import home, safeheader, safezip
from compression.errors import CompressionError
from compression.reading import Flag, Whole, cut, expanded, json_object, typed
from compression.zoo import program_tensors

SHIPPED = home.ROOT / "assets" / "weights"
MOST_PICKLED = 8 << 20  # bytes of a torch archive beside tensor values; a network of 2,000 tensors has 300 KB
COUNTERS = "num_batches_tracked"  # batch norm's counter: older files lack it, and nothing reads it


class _Provenance(TypedDict):
    """The fields of a provenance that this program reads; others are for people."""

    input: NotRequired[list[Whole]]
    classes: NotRequired[Whole]
    is_chance: NotRequired[Flag | None]


_PROVENANCE = TypeAdapter(_Provenance)


def models_folder() -> Path:
    """Where ``train`` writes weights: COMPRESSION_MODELS, or ``models/`` of this program."""
    named = os.environ.get("COMPRESSION_MODELS")
    return expanded(named) if named else home.own_folder("models")


def default_path(model: str, data: str) -> Path:
    """Where ``train`` stores the weights of a model trained on a data set, and ``run`` searches for them."""
    return models_folder() / f"{_slug(model)}-{_slug(data)}.safetensors"


def find(model: str, data: str, input: tuple[int, ...], classes: int) -> Path | None:
    """The weights written by ``train`` for this model, data, input and class count, else the shipped ones, or None."""
    for path in (default_path(model, data), SHIPPED / default_path(model, data).name):
        if path.is_file():
            provenance = read_provenance(path)
            if provenance.get("input", list(input)) == list(input) and provenance.get("classes", classes) == classes:
                return path
    return None


def load(
    module: nn.Module, path: str | Path, tensors: Mapping[str, torch.Tensor] | None = None
) -> dict[str, Any]:  # fmt: skip
    """Load the weights of a file into ``module`` (in place) and return its provenance (empty when it has none).

    ``tensors``: those of the file by the names that the module has for them, where a package calls them otherwise.

    safetensors, torch files (read with ``weights_only=True``), in which a wrapper key ``state_dict`` and a prefix
    ``module.`` are accepted, and programs of ``torch.export`` (``.pt2``), of which only the weights are read.

    Raises:
        CompressionError: no readable file; or naming the first parameter that is missing, unknown or wrong-shaped.
    """
    path = expanded(path)
    if not path.is_file():
        raise CompressionError(f"weights file {path} does not exist")
    is_safe = path.suffix == ".safetensors"
    given = read(path) if tensors is None else dict(tensors)
    expected = module.state_dict()
    given = {name if name in expected else _inside(name): tensor for name, tensor in given.items()}
    _compare(path, expected, given)
    try:
        module.load_state_dict({name: given.get(name, tensor) for name, tensor in expected.items()})
    except Exception as error:  # a class may override load_state_dict
        line = (str(error).strip().splitlines() or [""])[0]
        raise CompressionError(
            f"weights file {path}: the model does not take it: {type(error).__name__}: {line}"
        ) from error
    return read_provenance(path) if is_safe else {}


def read(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, of one of the kinds that :func:`load` takes; its ending says which.

    Raises:
        CompressionError: no readable file, or something else than plain tensors in it.
    """
    path = expanded(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return program_tensors.read(path, "weights file") if path.suffix == ".pt2" else _read_torch(path)


def save(module: nn.Module, path: str | Path, provenance: Mapping[str, Any]) -> Path:
    """Write a module's state as safetensors, with ``provenance`` (JSON values) in its header; atomically.

    Raises:
        CompressionError: the file cannot be written.
    """
    path = expanded(path)
    state = unshared(module.state_dict())
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(state, partial, {"provenance": json.dumps(dict(provenance), sort_keys=True)})
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise CompressionError(f"weights file {path} cannot be written: {error}") from error
    path.chmod(0o644)
    return path


def digest(module: nn.Module) -> str:
    """SHA-256 of a module's state (names, types, shapes and values), 64 hexadecimal digits."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        plain = tensor.detach().cpu().contiguous()
        hashed.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        hashed.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    return hashed.hexdigest()


def unshared(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state as safetensors stores it: on the CPU, contiguous, and no two tensors in one storage."""
    seen: set[int] = set()
    result = {}
    for name, tensor in state.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        result[name] = plain.clone() if place in seen or plain.untyped_storage().nbytes() != plain.nbytes else plain
        seen.add(place)
    return result


def read_provenance(path: str | Path) -> dict[str, Any]:
    """The provenance in a safetensors file's header; empty when it has none.

    Raises:
        CompressionError: the file cannot be read, or a field has an impossible value.
    """
    text = safeheader.metadata(path, "weights file").get("provenance")
    if text is None:
        return {}
    what = f"weights file {path}: its provenance"
    provenance = json_object(text, what)
    typed(_PROVENANCE, provenance, what)
    return provenance


def _slug(name: str) -> str:
    """A name as part of a file name; for a path, its last part and a digest of the whole, so that no two collide."""
    if "/" not in name and os.sep not in name and ".py:" not in name:
        return re.sub(r"[^A-Za-z0-9_.]+", "-", name)
    path, colon, function = name.rpartition(":") if ".py:" in name else (name, "", "")
    whole = str(expanded(path).resolve()) + colon + function
    last = re.sub(r"[^A-Za-z0-9_]+", "-", Path(path).stem + colon + function)
    return f"{last}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    safeheader.metadata(path, "weights file")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise CompressionError(f"weights file {path} cannot be read: {error}") from error


def _read_torch(path: Path) -> dict[str, torch.Tensor]:
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about a malformed pickle and also raises
            raw = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a malformed pickle can raise anything: refused in one line
        reason = cut((str(error).splitlines() or [type(error).__name__])[0])
        raise CompressionError(f"weights file {path} cannot be read as plain weights: {reason}") from error
    state = raw.get("state_dict", raw) if isinstance(raw, dict) else raw
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CompressionError(f"weights file {path} holds no state_dict (parameter names with tensors)")
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
            raise CompressionError(f"weights file {path}: {cut(str(name))} is no plain tensor of real numbers")
    return {str(name): tensor for name, tensor in state.items()}


def _inside(name: str) -> str:
    """A parameter's name without the prefix of DataParallel or of a compiled model."""
    return name.removeprefix("module.").removeprefix("_orig_mod.")


def _check_archive(path: Path) -> None:
    """Refuse an archive that inflates: torch stores tensors uncompressed, beside one small pickle."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                return
    except OSError as error:
        raise CompressionError(f"weights file {path} cannot be read: {error}") from error
    listed = safezip.entries(path, "weights file")
    if sum(info.file_size for name, info in listed.items() if "/data/" not in name) > MOST_PICKLED:
        raise CompressionError(f"weights file {path} cannot be read as plain weights: it is larger than its tensors")


def _compare(path: Path, expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in expected.items():
        if name not in given:
            if name.endswith(COUNTERS):
                continue
            raise CompressionError(f"weights file {path}: {name} is missing")
        if given[name].shape != tensor.shape:
            has, needs = (cut("x".join(map(str, shape)) or "scalar") for shape in (given[name].shape, tensor.shape))
            raise CompressionError(f"weights file {path}: {name} has shape {has}, the model needs {needs}")
    for name in given:
        if name not in expected:
            raise CompressionError(f"weights file {path}: the model has no parameter {cut(name)}")
