"""Runs: folders written by worker processes, an index over them, and verbs: start, sweep, wait, pause, resume, …

The module can be called: ``cx.runs()`` is the table of the runs there are. Type checkers read :mod:`.typed` for that.
"""

import sys
import types
from typing import Any

from compression.methods import with_values
from compression.runs.bisect import find_smallest
from compression.runs.cluster import RayLauncher
from compression.runs.control import cancel, delete, outdated, pause, resume
from compression.runs.events import read_events
from compression.runs.eventwriter import EventWriter
from compression.runs.folder import RunFolder
from compression.runs.launcher import Launcher, LocalLauncher
from compression.runs.listing import RunsTable
from compression.runs.results import result
from compression.runs.store import RunInfo, Store
from compression.runs.submit import start, wait
from compression.runs.sweep import combinations, sweep

__all__ = [
    "EventWriter",
    "Launcher",
    "LocalLauncher",
    "RayLauncher",
    "RunFolder",
    "RunInfo",
    "RunsTable",
    "Store",
    "cancel",
    "combinations",
    "delete",
    "find_smallest",
    "outdated",
    "pause",
    "read_events",
    "result",
    "resume",
    "start",
    "sweep",
    "wait",
    "with_values",
]


class _Called(types.ModuleType):
    """This module once it is loaded: calling it makes a :class:`.listing.RunsTable`."""

    def __call__(self, *args: Any, **options: Any) -> RunsTable:
        return RunsTable(*args, **options)


sys.modules[__name__].__class__ = _Called
