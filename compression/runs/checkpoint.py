"""The file from which a run continues: whole or not there, with a checksum, bound to its run, and with one before it.

A checkpoint is a file of ``torch.save`` with one line added at its end, which holds the SHA-256 of all before it. What
it is *bound* to, such as the run and its spec, lies in it beside the state of the training. Version 1, which had
neither, is still read: its CRC-32 sums are checked, and everything it does say.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from compression.errors import CompressionError
from compression.reading import LARGEST_INTEGER, check_version, short
from compression.runs.files import disk_full
from compression.runs.paths import create_fresh

VERSION = 2
OLD_VERSION = 1
RESTART = "delete it, and the run starts again"
_MARK = b"\ncheckpoint sha256 "
_LINE_BYTES = len(_MARK) + 64 + 1
_CHUNK_BYTES = 1 << 20
_FIELDS = {"stage": str, "step": int, "random": dict, "parts": dict}
_NAMES = {"run": "another run", "spec": "another spec.json", "subject": "other weights, data or code"}

State = dict[str, Any]


def previous(path: Path) -> Path:
    """Where the checkpoint before the last one is: beside it."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def write(
    path: Path, state: State, bound: Mapping[str, Any] | None = None, confirm: Callable[[], None] = lambda: None
) -> bool:
    """Write ``state`` (tensors, numbers, words and collections of them) and what it is bound to; False on a full disk.

    The checkpoint that was there stays until the new one is on the disk, and is the :func:`previous` one from then on;
    on a disk with too little space for three files the previous one is removed first. ``confirm`` is called just before
    the new file is put in its place, and nothing changes when it raises.

    Raises:
        OSError: the folder cannot be written for another reason.
    """
    content = {**state, **(bound or {}), "version": VERSION}
    for spare in (previous(path), None):
        try:
            _replace(path, content, confirm)
            return True
        except (OSError, RuntimeError) as error:
            if not disk_full(error):
                raise
            if spare is None or not spare.exists():
                return False
            spare.unlink()
    return False


def read(path: Path) -> State | None:
    """The content of a checkpoint, or None when there is no file. Only data is read, never code.

    Raises:
        CompressionError: a damaged file or one of another version.
    """
    import torch

    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            signed = _verify(file)
            state = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a reader of archives and pickles makes of damaged bytes
        raise CompressionError(f"checkpoint {path} is damaged; {RESTART}") from error
    if not isinstance(state, dict):
        raise CompressionError(f"{path} is no checkpoint; {RESTART}")
    if state.get("version") != OLD_VERSION:
        check_version(state, VERSION, f"checkpoint {path}")
        if not signed:
            raise CompressionError(f"checkpoint {path} is damaged; {RESTART}")
    return state


def newest(path: Path, bound: Mapping[str, Any], log: Callable[[str], None]) -> State | None:
    """The last good checkpoint of the run that ``bound`` describes, or None when none was written (or it was deleted).

    Where the last one is not good, ``log`` gets the reason, and the one before it takes its place.

    Raises:
        CompressionError: there are checkpoints, and none of them is good.
    """
    clean(path)
    if not path.is_file():
        previous(path).unlink(missing_ok=True)
        return None
    try:
        return _checked(path, bound)
    except CompressionError as error:
        spare = previous(path)
        with contextlib.suppress(CompressionError):
            state = _checked(spare, bound)
            if state is not None:
                os.replace(spare, path)
                reason = str(error).removesuffix(f"; {RESTART}")
                log(f"{reason}; the one before it, {spare.name} of step {state['step']}, is good and takes its place")
                return state
        raise


def clean(path: Path) -> None:
    """Remove what killed processes left half-written."""
    for partial in path.parent.glob(f"{path.name}*.partial"):
        partial.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove both checkpoints, of a run that needs none any more."""
    for each in (path, previous(path)):
        each.unlink(missing_ok=True)


def _checked(path: Path, bound: Mapping[str, Any]) -> State | None:
    """A checkpoint that fits ``bound``, as far as it says: one of version 1 names neither run nor spec."""
    state = read(path)
    if state is None:
        return None
    is_old = state["version"] == OLD_VERSION
    for name, expected in bound.items():
        if name in _NAMES and state.get(name, expected if is_old else None) != expected:
            raise CompressionError(f"checkpoint {path} is of {_NAMES[name]}; put the right file back, or {RESTART}")
    for name, kind in _FIELDS.items():
        if type(state.get(name)) is not kind:
            raise CompressionError(f"checkpoint {path} has no usable {name!r}; {RESTART}")
    if not 0 <= state["step"] <= LARGEST_INTEGER:
        raise CompressionError(f"checkpoint {path} is of step {short(state['step'])}; {RESTART}")
    return state


def _replace(path: Path, content: State, confirm: Callable[[], None]) -> None:
    """Write ``content`` beside ``path``, then move both files on by one place."""
    import torch

    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with _Hashed(create_fresh(partial).detach()) as file:
            torch.save(content, file)
            file.write(_MARK + file.sum.hexdigest().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        confirm()
        if path.exists():
            _set_aside(path, previous(path))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _set_aside(path: Path, spare: Path) -> None:
    """Give the file a second name, so that there is no moment without it; or copy it, where no file can have two."""
    spare.unlink(missing_ok=True)
    try:
        os.link(path, spare)
    except OSError:
        try:
            shutil.copyfile(path, spare)
        except OSError:  # too little space: the new one matters more than the one before
            spare.unlink(missing_ok=True)


class _Hashed(io.BufferedWriter):
    """A file that takes the SHA-256 of what is written to it."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw)
        self.sum = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sum.update(data)
        return super().write(data)


def _verify(file: IO[bytes]) -> bool:
    """Check the sums of a checkpoint and go back to its beginning; is it one with a SHA-256 of the whole?

    Raises:
        zipfile.BadZipFile: a sum is wrong.
    """
    length = max(0, os.fstat(file.fileno()).st_size - _LINE_BYTES)
    file.seek(length)
    line, total = file.read(), hashlib.sha256()
    signed = line.startswith(_MARK)
    file.seek(0)
    while signed and (chunk := file.read(min(_CHUNK_BYTES, length - file.tell()))):
        total.update(chunk)
    if signed and line != _MARK + total.hexdigest().encode() + b"\n":
        raise zipfile.BadZipFile("the checksum is wrong")
    if not signed and zipfile.ZipFile(file).testzip():
        raise zipfile.BadZipFile("a checksum is wrong")
    file.seek(0)
    return signed
