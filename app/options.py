"""What the operator gave on the command line: own models, a folder of data sets, where runs are, what is logged."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from compression import home, owncode
from compression.data.layout import annotation_files, holds_masks
from compression.errors import CompressionError
from compression.reading import expanded

_HOST = re.compile(r"[A-Za-z0-9._-]+|(?=(?:.*:){2})[0-9A-Fa-f:.]+")  # a name, or an address of IPv6
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True)
class ServerOptions:
    """``models``, ``tasks``: ``/path/file.py:function`` each, as runs name them too; ``data_root``: a folder of data.

    ``runs``: the folder of run folders; ``log_times``: the server's log tells how long each answer took; ``hosts``:
    names that the server answers to besides ``localhost`` and the address it is bound to.
    """

    models: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    data_root: str | None = None
    runs: str = home.RUNS
    log_times: bool = False
    hosts: tuple[str, ...] = ()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CompressionError(f"app arguments: {message}")


def read(argv: Sequence[str] | None = None) -> ServerOptions:
    """Parse what follows ``--`` in ``streamlit run app/main.py -- …``; nothing when the app is not run by Streamlit.

    Raises:
        CompressionError: an unknown argument, a model file or a data folder that does not exist.
    """
    given = list(sys.argv if argv is None else argv)
    if not given or Path(given[0]).name != "main.py":
        return ServerOptions()
    parser = _Parser(prog="app", add_help=False, allow_abbrev=False)
    parser.add_argument("--model", action="append", default=[], metavar="FILE.py:FUNCTION")
    parser.add_argument("--task", action="append", default=[], metavar="FILE.py:FUNCTION")
    parser.add_argument("--data-root", metavar="DIR")
    parser.add_argument("--runs", default=home.RUNS, metavar="DIR")
    parser.add_argument("--log-times", action="store_true")
    parser.add_argument("--host", action="append", default=[], metavar="NAME")
    parsed = parser.parse_args(given[1:])
    for option in ("model", "task"):
        for name in getattr(parsed, option):
            file, _, function = name.rpartition(":")
            if not function or not expanded(file).is_file():
                raise CompressionError(
                    f"--{option} {name}: give an existing Python file and a function, as path/file.py:function"
                )
    if parsed.data_root is not None and not expanded(parsed.data_root).is_dir():
        raise CompressionError(f"--data-root {parsed.data_root}: no such folder")
    for host in parsed.host:
        if not _HOST.fullmatch(host):
            raise CompressionError(f"--host {host}: give a name or an address alone, without https://, port or path")
    models, tasks = (tuple(map(owncode.absolute, names)) for names in (parsed.model, parsed.task))
    return ServerOptions(models, tasks, parsed.data_root, parsed.runs, parsed.log_times, tuple(parsed.host))


def at_start() -> ServerOptions:
    """The options as the server starts: what is wrong with them ends it with one line, before anybody sees a page."""
    try:
        return read()
    except CompressionError as error:
        raise SystemExit(str(error)) from error


def offered(given: ServerOptions) -> tuple[str, ...]:
    """The data that one can pick beside the sets known by name: tasks of the operator's, and folders."""
    return (*given.tasks, *data_folders(given.data_root))


def data_folders(root: str | None) -> tuple[str, ...]:
    """The data sets below a root: folders of class folders, masks or boxes; the root itself when it is such a one."""
    if root is None:
        return ()
    base = expanded(root).resolve()
    if _is_data(base):
        return (str(base),)
    return tuple(str(path) for path in sorted(base.iterdir()) if path.is_dir() and _is_data(path))


def _is_data(folder: Path) -> bool:
    return holds_masks(folder) or bool(annotation_files(folder)) or _holds_classes(folder)


def _holds_classes(folder: Path) -> bool:
    try:
        inner = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")][:50]
        return sum(any(file.suffix.lower() in _PICTURES for file in path.iterdir()) for path in inner) >= 2
    except OSError:  # a folder that cannot be looked into is not offered
        return False
