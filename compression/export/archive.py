"""The zip of an untrusted bundle: its layout and its sizes are checked before anything is read.

A zip stores its facts twice, before each entry and in the directory at its end, and programs differ in which they use.
Here both must agree, the entries must fill the file without gap or overlap, and every one is a plain file outside
folders. The inflated size is bounded relative to the file's size.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from compression.errors import CompressionError

MOST_BYTES = 4 << 30
MOST_ENTRIES = 64
MOST_RATIO, ANYWAY = 200, 64 << 20
"""Inflated bytes for each byte of the file; ``ANYWAY`` bytes are allowed at any ratio."""
CHUNK = 1 << 20
_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")
_DIRECTORY_ENTRY = 46 + 1024
_HARMLESS = 0x806  # flags: compression level, names in UTF-8
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error, ValueError)


@contextmanager
def opened(path: str | Path) -> Iterator[dict[str, Entry]]:
    """The entries of a bundle by name, to be read within the block.

    Raises:
        CompressionError: not a regular file, truncated or damaged, larger than a bundle may be, or an ambiguous zip:
            headers that differ from its directory, gaps, overlaps, two entries of one name, folders, links, encryption.
            Also for damage discovered within the block.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise CompressionError(f"bundle {path} is no regular file")
            yield _entries(file, status.st_size, path)
    except OSError as error:
        raise CompressionError(f"bundle {path}: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise CompressionError(f"bundle {path} is truncated or damaged ({error}): export it again") from error


class Entry:
    """One file of a bundle; ``size`` is its inflated size in bytes."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self._archive, self._info = archive, info
        self.size = info.file_size

    def chunks(self) -> Iterator[bytes]:
        """Its content in pieces of at most 1 MB."""
        with self._archive.open(self._info) as stream:
            while data := stream.read(CHUNK):
                yield data


class LooseEntry:
    """A file of an unpacked bundle, read as those of a zip are."""

    def __init__(self, path: Path) -> None:
        self._path, self.size = path, path.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        """Its content in pieces of at most 1 MB."""
        with self._path.open("rb") as stream:
            while data := stream.read(CHUNK):
                yield data


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _entries(file: BinaryIO, length: int, path: str | Path) -> dict[str, Entry]:
    start, count = _directory(file, length)
    archive = zipfile.ZipFile(file)
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    if len(infos) != count or archive.start_dir != start:
        raise zipfile.BadZipFile("it has two directories")
    total = sum(info.file_size for info in infos)
    if total > min(MOST_BYTES, max(ANYWAY, MOST_RATIO * length)):
        raise CompressionError(
            f"bundle {path} would inflate from {length:,} to {total:,} bytes, which no export writes: it is not read"
        )
    names: dict[str, Entry] = {}
    end = 0
    for info in infos:
        _check_plain(info, path)
        if info.filename.lower() in {name.lower() for name in names}:
            raise CompressionError(f"bundle {path} holds {info.filename} twice")
        if info.header_offset != end:
            raise zipfile.BadZipFile(f"a gap or an overlap before {info.filename}")
        end = _end_of(file, info)
        names[info.filename] = Entry(archive, info)
    if end != start:
        raise zipfile.BadZipFile("a gap or an overlap before the directory")
    return names


def _directory(file: BinaryIO, length: int) -> tuple[int, int]:
    """(offset of the directory, number of entries), from the record that must end the file."""
    file.seek(max(0, length - _END.size))
    mark, *disks, here, count, size, start, comment = _END.unpack(file.read(_END.size))
    if mark != b"PK\5\6" or comment or any(disks) or here != count:
        raise zipfile.BadZipFile("it does not end as a zip does")
    if start + size != length - _END.size or count > MOST_ENTRIES or size > count * _DIRECTORY_ENTRY:
        raise zipfile.BadZipFile("its directory is larger or lies elsewhere than a bundle's")
    return start, count


def _check_plain(info: zipfile.ZipInfo, path: str | Path) -> None:
    """Refuse an entry that is not a plain, stored or deflated file outside folders."""
    if not _NAME.fullmatch(info.orig_filename):
        raise CompressionError(f"bundle {path} holds an entry named {info.orig_filename[:60]!r}: it is not read")
    if info.flag_bits & ~_HARMLESS or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CompressionError(f"bundle {path}: {info.filename} is encrypted, or packed as no export packs it")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise CompressionError(f"bundle {path}: {info.filename} is a link or no regular file")


def _end_of(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """The offset of an entry's end by its own header, which must agree with the directory."""
    file.seek(info.header_offset)
    mark, _, flags, method, _, _, *sizes, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
    header = (mark, flags, method, *sizes, file.read(name))
    listed = (info.flag_bits, info.compress_type, info.CRC, info.compress_size, info.file_size)
    if header != (b"PK\3\4", *listed, info.orig_filename.encode()):
        raise zipfile.BadZipFile(f"{info.filename} has another header than the directory says")
    return info.header_offset + _LOCAL.size + name + extra + info.compress_size
