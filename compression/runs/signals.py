"""Signals to workers: sent only to a process that was started for the very folder whose file names it.

A process id in a file is no proof, nor is its start time: the file may be edited, copied, or come from elsewhere. Every
process started here carries the path of its folder among its arguments.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psutil

from compression.errors import CompressionError
from compression.runs.process import Handle


def worker(handle: Handle | None, folder: Path) -> psutil.Process | None:
    """The live process that ``handle`` names; None when it has ended.

    Raises:
        CompressionError: it lives, but was not started for this folder.
    """
    process = handle.process() if handle else None
    if process is None:
        return None
    try:
        arguments = process.cmdline()
        if not arguments:  # it is ending, and has given its memory back already
            return None
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        arguments = []
    if str(folder.resolve()) not in arguments:
        way_out = "remove the file that names it from that folder"
        raise CompressionError(f"process {process.pid} is no worker of {folder}, it is left alone: {way_out}")
    return process


def terminate(handle: Handle | None, folder: Path) -> None:
    """Send SIGTERM to the process; nothing when it has ended.

    Raises:
        CompressionError: see :func:`worker`.
    """
    process = worker(handle, folder)
    if process is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()


def signal_group(handle: Handle | None, folder: Path, number: int = signal.SIGKILL) -> None:
    """Send a signal to the process and to all it started, where it leads a process group.

    Raises:
        CompressionError: see :func:`worker`.
    """
    process = worker(handle, folder)
    if process is not None:
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            leads = os.getpgid(process.pid) == process.pid
            os.killpg(process.pid, number) if leads else process.send_signal(number)
